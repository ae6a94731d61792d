"""Rebuilds the manifests that are shipped with the package, and checks that they are still the same.

    python tools/freeze_manifests.py            compare every shipped manifest with a new build; exits 1 when one differs
    python tools/freeze_manifests.py --write    write those that are not there yet; one that is there and differs is refused

Frozen means frozen: what was released is never overwritten, a change is a new version (`--version 2`). Data sets that are not on this
machine (RS05BENCH_REAL, default ../shared/real) are skipped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rs05bench.protocol.audit import with_verdict
from rs05bench.protocol.manifest import SplitManifest, build_manifest, shipped_manifests

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "rs05bench" / "protocol" / "manifests"
SIMULATED_SIZE, SIMULATED_SEED = "small", 0


def main() -> int:
    """Compares, and writes where asked to; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write manifests that are not there yet")
    parser.add_argument("--replace", action="store_true", help="before the first release only: write those that differ as well")
    parser.add_argument("--version", type=int, default=1)
    parser.add_argument("--only", default="", help="names that start with this")
    chosen = parser.parse_args()
    there, differ = shipped_manifests(), 0
    for name, manifest in built(chosen.version, chosen.only):
        frozen = SplitManifest.load(there[name]) if name in there else None
        # The card's words and counts may be mended; the digest covers what the split is.
        same = frozen is not None and frozen.digest == manifest.digest
        state = "same" if same else "new" if frozen is None else "DIFFERS"
        differ += state == "DIFFERS"
        print(f"{state:8} {manifest.digest[:16]} {manifest.card['audit']['verdict']:9} {name}", flush=True)
        if (frozen is None and chosen.write) or (chosen.replace and (not same or frozen is None or frozen.card != manifest.card)):
            manifest.save((SHIPPED / name).parent, compression_level=19)
    return 1 if differ and not chosen.replace else 0


def built(version: int, only: str) -> Iterator[tuple[str, SplitManifest]]:
    """Every manifest this machine has the data for, with its name."""
    from rs05bench.datasets.published import PUBLISHED

    real = (ROOT / os.environ.get("RS05BENCH_REAL", "../shared/real")).resolve()
    for known in PUBLISHED.values():
        for split in known.task.splits:
            name = f"{known.name}/{split}@v{version}"
            if not name.startswith(only):
                continue
            if not (real / known.folder).exists():
                print(f"skipped  {name}: no {known.folder}", file=sys.stderr)
                continue
            yield name, known.build(real / known.folder, split, version=version)
    yield from simulated(version, only)


def simulated(version: int, only: str) -> Iterator[tuple[str, SplitManifest]]:
    """Every split of the simulated tables."""
    from rs05bench.datamodules.sources import open_source
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
            name = f"simulated/{task}/{split}@v{version}"
            if name.startswith(only):
                yield name, with_verdict(build_manifest(card, units, split, version=version, labels=labels))


if __name__ == "__main__":
    sys.exit(main())
