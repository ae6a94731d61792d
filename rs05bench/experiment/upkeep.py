"""Looking after a folder of results: what is done, what failed, what can go, and taking in another team's runs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from rs05bench.errors import BenchError, DataError
from rs05bench.experiment.gridfile import GridFile
from rs05bench.experiment.query import compact
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.predictions import Predictions
from rs05bench.protocol.result import Result


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
    finished, failures = store.digests(), store.failures()
    failed = {failure["digest"] for failure in failures}
    asked["done"], asked["failed"] = asked["digest"].isin(finished), asked["digest"].isin(failed)
    asked["left"] = ~asked["done"] & ~asked["failed"]
    asked["cells"] = True
    tiers = asked.groupby(["task", "tier"], sort=False)[["cells", "done", "failed", "left"]].sum().astype(int).reset_index()
    wanted = set(asked["digest"])
    errors = pd.Series([failure["error"].splitlines()[0] for failure in failures if failure["digest"] in wanted], dtype=object)
    return Status(tiers, {str(name): int(count) for name, count in errors.value_counts().items()}, len(finished - wanted))


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
    """What can go: half-written work is removed at the next sweep anyway."""
    store = ResultStore(runs)
    cards = {name: card.digest for name, card in store.cards().items()}
    manifests: dict[tuple[str, str], str] = {(manifest.task, manifest.split): manifest.digest for manifest in _manifests(store)}
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


@dataclass
class Imported:
    """What came of taking in another folder.

    Attributes:
        taken: Results taken in.
        there: Results that were there already.
        refused: Digest -> why it was not taken.
    """

    taken: int = 0
    there: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def import_runs(source: str | Path, runs: str | Path) -> Imported:
    """Takes another team's results into a folder, each checked first.

    A result is taken when it reads as one, when its digest is that of its cell, card, manifest and data, when card and manifest are there
    with those digests and agree with what is kept here, and when its predictions have the digest it names.

    Raises:
        DataError: The folder holds no results.
    """
    theirs, ours = ResultStore(source), ResultStore(runs)
    digests = sorted(theirs.digests())
    if not digests:
        raise DataError("holds no finished result", source=source)
    cards = theirs.cards()
    manifests: dict[tuple[str, str], SplitManifest] = {(manifest.task, manifest.split): manifest for manifest in _manifests(theirs)}
    own = {name: card.digest for name, card in ours.cards().items()}
    told = Imported()
    costs = theirs.costs()
    for digest in digests:
        if digest in ours:
            told.there += 1
            continue
        try:
            result = _checked(theirs, digest, cards, manifests)
            card = cards[result.cell.task]
            if own.setdefault(card.name, card.digest) != card.digest:
                raise DataError(f"rests on another task card {card.name!r} than the results here")
            predictions = _checked_predictions(theirs, result)
            ours.put_card(card)
            ours.put_manifest(manifests[result.cell.task, result.cell.split.base])
        except BenchError as error:
            told.refused[digest] = str(error)
            continue
        labels = theirs.labels(result.digests.get("data", ""))
        if labels is not None:
            ours.put_labels(result.digests["data"], labels)
        ours.write(result, predictions)
        if predictions is None and (theirs.folder(digest) / "predictions").is_dir():
            shutil.copytree(theirs.folder(digest) / "predictions", ours.folder(digest) / "predictions", dirs_exist_ok=True)
        if digest in costs:
            ours.put_cost(digest, costs[digest])
        told.taken += 1
    compact(ours)
    return told


def _checked(store: ResultStore, digest: str, cards: dict[str, TaskCard], manifests: dict[tuple[str, str], SplitManifest]) -> Result:
    result = store.read(digest)
    rests, cell = result.digests, result.cell
    if result.digest != digest or cell.digest(**result.rests_on()) != digest:
        raise DataError("its digest is not that of its cell and what it rests on")
    card = cards.get(cell.task)
    if card is None or card.digest != rests.get("card"):
        raise DataError(f"the task card {cell.task!r} it rests on is {'missing' if card is None else 'another one'}")
    manifest = manifests.get((cell.task, cell.split.base))
    if manifest is None or manifest.digest != rests.get("manifest"):
        raise DataError(f"the manifest of {cell.split!r} it rests on is {'missing' if manifest is None else 'another one'}")
    return result


def _checked_predictions(store: ResultStore, result: Result) -> Predictions | None:
    if result.kind == "segmentation" or not (store.folder(result.digest) / "predictions").is_dir():
        return None
    predictions = store.predictions(result.digest)
    if isinstance(predictions, Predictions) and predictions.digest != result.digests.get("predictions"):
        raise DataError("its predictions are not those it was scored from")
    return predictions


def _manifests(store: ResultStore) -> list[SplitManifest]:
    there = sorted(store.root.glob("manifests/*/*@v*.parquet"))
    return [SplitManifest.load(path) for path in there if not path.name.endswith(".units.parquet")]
