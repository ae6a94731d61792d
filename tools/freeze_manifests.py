"""Rebuilds the manifests that are shipped with the package, and compares each with the newest version shipped.

    python tools/freeze_manifests.py            exits 1 when one differs
    python tools/freeze_manifests.py --write    write those that are not shipped yet, and the next version of those that differ
    python tools/freeze_manifests.py --index    write the index of sizes and digests, by which a wheel fetches what it does not hold

Frozen means frozen: what was released is never overwritten, a change is a new version. Data sets that are not on this machine
(RS05BENCH_REAL, default ../shared/real) are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rs05bench.protocol.audit import with_verdict
from rs05bench.protocol.hashing import file_digest
from rs05bench.protocol.manifest import SplitManifest, build_manifest
from rs05bench.protocol.shipped import INDEX, SUFFIXES, SealedFile, ShippedManifest, newest_version, shipped_manifests

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "rs05bench" / "protocol" / "manifests"
SIMULATED_SIZE, SIMULATED_SEED = "small", 0


def main() -> int:
    """Compares, and writes where asked to; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write what is not shipped yet, and the next version of what differs")
    parser.add_argument("--index", action="store_true", help="only write the index of the files that are there")
    parser.add_argument("--only", default="", help="names that start with this")
    chosen = parser.parse_args()
    if chosen.index:
        (SHIPPED / INDEX).write_text(index())
        return 0
    there, differ = shipped_manifests(), 0
    for manifest in built(chosen.only):
        newest = newest_version(manifest.name.rpartition("@v")[0], there)
        frozen = SplitManifest.load(there[newest]) if newest else None
        # The card's words and counts may be fixed; the digest covers what the split is.
        same = frozen is not None and frozen.digest == manifest.digest
        state = "same" if same else "new" if frozen is None else "DIFFERS"
        differ += state == "DIFFERS"
        version = 1 if frozen is None else frozen.version + (not same)
        numbered = replace(manifest, version=version, card=manifest.card | {"version": version})
        print(f"{state:8} {manifest.digest[:16]} {manifest.card['audit']['verdict']:9} {numbered.name}", flush=True)
        if chosen.write and not same:
            numbered.save((SHIPPED / numbered.name).parent, compression_level=19)
    if chosen.write:
        (SHIPPED / INDEX).write_text(index())
    return 1 if differ and not chosen.write else 0


def index() -> str:
    """The index of all manifests in the folder: what a wheel knows of those it does not hold."""
    manifests = {}
    for path in sorted(SHIPPED.glob("**/*@v*.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        parts = {suffix: path.with_name(path.name.removesuffix(".json") + suffix) for suffix in SUFFIXES}
        entry = ShippedManifest(
            digest=card["digest"],
            units=card["units"],
            folds=len(card["folds"]),
            verdict=card["audit"]["verdict"],
            can_be_main=card["can_be_main"],
            files={suffix: SealedFile(size=part.stat().st_size, sha256=file_digest(part)) for suffix, part in parts.items()},
        )
        manifests[path.relative_to(SHIPPED).as_posix().removesuffix(".json")] = entry.model_dump()
    return json.dumps({"schema_version": 1, "manifests": manifests}, indent=1) + "\n"


def built(only: str) -> Iterator[SplitManifest]:
    """Every manifest this machine has the data for."""
    from rs05bench.datasets.published import PUBLISHED

    real = (ROOT / os.environ.get("RS05BENCH_REAL", "../shared/real")).resolve()
    for known in PUBLISHED.values():
        for split in known.task.splits:
            name = f"{known.name}/{split}"
            if not name.startswith(only):
                continue
            if not (real / known.folder).exists():
                print(f"skipped  {name}: no {known.folder}", file=sys.stderr)
                continue
            yield known.build(real / known.folder, split)
    yield from simulated(only)


def simulated(only: str) -> Iterator[SplitManifest]:
    """Every split of the simulated tables."""
    from rs05bench.datamodules.open_data import open_source
    from rs05bench.datasets.simulated import TASKS, write_tables
    from rs05bench.protocol.card import TaskCard

    for task in TASKS:
        if not f"simulated/{task}/".startswith(only) and not only.startswith(f"simulated/{task}/"):
            continue
        folder = Path(tempfile.mkdtemp(prefix="freeze-"))
        try:
            path = write_tables(folder, tasks=[task], size=SIMULATED_SIZE, seed=SIMULATED_SEED)[task]
            card = TaskCard.load(path)
            source = open_source(card, path.parent)
            units, labels = source.units(), {target: source.labels(target) for target in card.targets}
        finally:
            shutil.rmtree(folder)
        for split in dict.fromkeys(split.split("+")[0] for split in card.splits):
            if f"simulated/{task}/{split}".startswith(only):
                yield with_verdict(build_manifest(card, units, split, labels=labels))


if __name__ == "__main__":
    sys.exit(main())
