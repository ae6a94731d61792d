"""Looking after a folder of results: what is done, what failed, and what can go."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from rs05bench.errors import DataError
from rs05bench.experiment.gridfile import GridFile
from rs05bench.experiment.store import ResultStore


@dataclass
class Status:
    """Where the grids of a folder stand.

    Attributes:
        tiers: A row a task and tier: `cells`, `done`, `failed`, `left`.
        failures: Error -> how many cells, the commonest first.
        other: Results that no kept grid asks for.
    """

    tiers: pd.DataFrame
    failures: dict[str, int]
    other: int

    @property
    def left(self) -> int:
        """Cells that were never tried."""
        return int(self.tiers["left"].sum())


def status(runs: str | Path) -> Status:
    """What a folder's grids asked for, and what of it is there; opens no data.

    Raises:
        DataError: The folder keeps no grid.
    """
    store = ResultStore(runs)
    asked = pd.concat([pd.read_parquet(path) for path in _asked(store)], ignore_index=True).drop_duplicates("digest")
    finished, failures = store.digests() | store.skipped(), store.failures()
    failed = {failure["digest"] for failure in failures}
    asked["done"], asked["failed"] = asked["digest"].isin(finished), asked["digest"].isin(failed)
    asked["left"] = ~asked["done"] & ~asked["failed"]
    asked["cells"] = True
    tiers = asked.groupby(["task", "tier"], sort=False)[["cells", "done", "failed", "left"]].sum().astype(int).reset_index()
    wanted = set(asked["digest"])
    errors = pd.Series([failure["error"].splitlines()[0] for failure in failures if failure["digest"] in wanted], dtype=object)
    return Status(tiers, {str(name): int(count) for name, count in errors.value_counts().items()}, len(store.digests() - wanted))


def kept_grids(runs: str | Path) -> list[GridFile]:
    """The grids that were asked for in a folder.

    Raises:
        DataError: None is kept.
    """
    store = ResultStore(runs)
    return [GridFile.load(path.with_suffix(".yaml")) for path in _asked(store)]


def _asked(store: ResultStore) -> list[Path]:
    paths = sorted(path for path in (store.root / "grids").glob("[!.]*.parquet") if path.with_suffix(".yaml").is_file())
    if not paths:
        raise DataError("keeps no grid", source=store.root, remedy="Start with: rs05bench sweep GRID --out RUNS.")
    return paths


@dataclass
class Prunable:
    """What can go from a folder.

    Attributes:
        stale: Digests of results of another card, manifest or state of the data than what is kept beside them.
        broken: Digests of results that cannot be read.
        settled: Failures of cells that have succeeded since.
        other: Digests of results that no kept grid asks for.
    """

    stale: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


def prunable(runs: str | Path) -> Prunable:
    """What can go: half-written work is removed at the next sweep anyway.

    Raises:
        DataError: No such folder.
    """
    store = ResultStore(runs)
    if not store.root.is_dir():
        raise DataError("no such folder of results", source=runs)
    cards = {name: card.digest for name, card in store.cards().items()}
    manifests: dict[tuple[str, str], str] = {(manifest.task, manifest.split): manifest.digest for manifest in store.manifests()}
    wanted = {
        digest for path in (store.root / "grids").glob("[!.]*.parquet") for digest in pd.read_parquet(path, columns=["digest"])["digest"]
    }
    found = Prunable()
    finished = store.digests()
    for digest in sorted(finished):
        try:
            result = store.read(digest)
        except DataError:
            found.broken.append(digest)
            continue
        cell, rests = result.cell, result.digests
        manifest = manifests.get((cell.task, cell.split.base))
        if cards.get(cell.task) != rests.get("card") or manifest != rests.get("manifest"):
            found.stale.append(digest)
        elif wanted and digest not in wanted:
            found.other.append(digest)
    found.settled = sorted(store.failed() & finished)
    return found


def prune(runs: str | Path, what: Prunable, *, other: bool = False) -> int:
    """Removes what can go; results that no grid asks for only where `other` says so. Returns how many pieces."""
    store = ResultStore(runs)
    gone = [*what.stale, *what.broken, *(what.other if other else [])]
    for digest in gone:
        store.remove(digest)
    for digest in what.settled:
        (store.root / "failures" / f"{digest}.json").unlink(missing_ok=True)
    return len(gone) + len(what.settled) + store.sweep_leftovers()
