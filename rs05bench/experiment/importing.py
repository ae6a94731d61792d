"""Taking in another team's results: nothing they say of their scores is believed.

A result is scored again here, from its predictions. What cannot be scored again is kept as *reported*, in a folder of its own that no
table, report, verdict or comparison reads.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from rs05bench.errors import BenchError, DataError
from rs05bench.experiment.query import compact
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.atomic import write_text, writing
from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.labels import LabelPack
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.predictions import Predictions
from rs05bench.protocol.rescoring import TableLabels, rescore
from rs05bench.protocol.result import Result
from rs05bench.protocol.safe_paths import checked_digest, child, plain_files
from rs05bench.protocol.scoring import Scored
from rs05bench.protocol.stored_predictions import read_predictions

TOLERANCE = 1e-6
"""Two computations of one score differ by less."""
REPORTED = "reported"


@dataclass
class Imported:
    """What came of taking in another folder.

    Attributes:
        taken: Results taken in, scored again here.
        there: Results that were there already.
        reported: Digest -> why it could not be scored again; kept under `reported/`, which no table or verdict reads.
        refused: Digest -> why it was not taken.
    """

    taken: int = 0
    there: int = 0
    reported: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class _NotScored(DataError):
    """Nothing is wrong with a result, and it cannot be scored again."""


def import_runs(source: str | Path, runs: str | Path, labels: str | Path | None = None) -> Imported:
    """Takes another team's results into a folder, each checked and scored again first.

    A result is taken when its digest is that of its cell, card, manifest and data, when card and manifest are there with those digests and
    agree with what is kept here, when its predictions have the digest it names, and when scoring them here gives the scores it states. Its
    kind, main metric and whether it may be a main result come from card and manifest.

    Args:
        source: Folder of results of another team.
        runs: Folder to take them into.
        labels: Label pack to score with. Without one the labels kept in `runs` for the same data are used, and where there are none the
            labels that came with the results: scoring again then shows that scores, predictions and labels agree, not that the labels
            are right.

    Raises:
        DataError: The folder holds no results, or links or pipes; a label pack that is none.
    """
    plain_files(source)
    theirs, ours = ResultStore(source), ResultStore(runs)
    digests = sorted(theirs.digests())
    if not digests:
        raise DataError("holds no finished result", source=source)
    own = {name: card.digest for name, card in ours.cards().items()}
    foreign = _Foreign(theirs, ours, None if labels is None else LabelPack.load(labels, verify=True))
    told = Imported()
    costs = theirs.costs()
    for digest in digests:
        if digest in ours:
            told.there += 1
            continue
        try:
            result = foreign.checked(digest)
            card, manifest = foreign.rests_on(result)
            if own.setdefault(card.name, card.digest) != card.digest:
                raise DataError(f"rests on another task card {card.name!r} than the results here")
            try:
                result, predictions = foreign.scored_again(result)
            except _NotScored as error:
                _keep_reported(ours, theirs.folder(digest), digest, str(error))
                told.reported[digest] = str(error)
                continue
            ours.put_card(card)
            ours.put_manifest(manifest)
            if (table := theirs.labels(result.digests["data"])) is not None:
                ours.put_labels(result.digests["data"], table)
        except BenchError as error:
            told.refused[digest] = str(error)
            continue
        ours.write(result, predictions)
        if digest in costs:
            ours.put_cost(digest, costs[digest])
        told.taken += 1
    compact(ours)
    return told


class _Foreign:
    """The folder of another team, read piece by piece."""

    def __init__(self, theirs: ResultStore, ours: ResultStore, pack: LabelPack | None) -> None:
        self.theirs, self.ours, self.pack = theirs, ours, pack
        self.cards = theirs.cards()
        self.manifests = {(manifest.task, manifest.split): manifest for manifest in theirs.manifests()}

    def checked(self, digest: str) -> Result:
        """A result whose digest is that of its cell and of what it rests on."""
        result = self.theirs.read(checked_digest(digest, source=self.theirs.root))
        for name in ("card", "manifest", "data"):
            checked_digest(result.digests.get(name), source=f"digests.{name}")
        if result.digest != digest or result.cell.digest(**result.rests_on()) != digest:
            raise DataError("its digest is not that of its cell and what it rests on")
        return result

    def rests_on(self, result: Result) -> tuple[TaskCard, SplitManifest]:
        """Card and manifest with the digests a result names."""
        cell = result.cell
        card = self.cards.get(cell.task)
        if card is None or card.digest != result.digests["card"]:
            raise DataError(f"the task card {cell.task!r} it rests on is {'missing' if card is None else 'another one'}")
        manifest = self.manifests.get((cell.task, cell.split.base))
        if manifest is None or manifest.digest != result.digests["manifest"]:
            raise DataError(f"the manifest of {cell.split!r} it rests on is {'missing' if manifest is None else 'another one'}")
        return card, manifest

    def scored_again(self, result: Result) -> tuple[Result, Predictions]:
        """A result with the scores of its predictions.

        Raises:
            _NotScored: Predictions or labels are not there.
            DataError: The scores it states are not those of its predictions.
        """
        card, manifest = self.rests_on(result)
        predictions = self._predictions(result)
        scored, budget = rescore(predictions, result.cell, manifest, self._labels(result, card))
        _agree(result, scored, budget)
        absent = result.budget.absent
        main = bool(manifest.card.get("can_be_main")) and not any(role in absent for role in ("test_id", "test_ood"))
        kept = {
            "scores": scored.scores,
            "per_group": scored.per_group,
            "strata": scored.strata,
            "calibration": scored.calibration,
            "sums": scored.packed(),
            "group_sums": scored.packed_groups(),
            "fairness": {},
            "kind": card.kind,
            "main_metric": card.main_metric,
            "simulated": card.simulated,
            "main": main,
        }
        return result.model_copy(update=kept), predictions

    def _predictions(self, result: Result) -> Predictions:
        folder = self.theirs.folder(result.digest) / "predictions"
        if not folder.is_dir():
            raise _NotScored("it came without predictions, so its scores cannot be computed again")
        found = read_predictions(folder)
        if found.digest != result.digests.get("predictions"):
            raise DataError("its predictions are not those it was scored from")
        return found

    def _labels(self, result: Result, card: TaskCard) -> LabelPack | TableLabels:
        if self.pack is not None and self.pack.card.name == card.name:
            if self.pack.card.digest != card.digest:
                raise DataError(f"the label pack is of another task card {card.name!r}")
            return self.pack
        table = self.ours.labels(result.digests["data"])
        table = self.theirs.labels(result.digests["data"]) if table is None else table
        if table is None:
            raise _NotScored("no labels of its data are here, so its scores cannot be computed again; give a label pack with --labels")
        return TableLabels(card, table)


def _agree(result: Result, scored: Scored, budget: LabelBudget) -> None:
    for role, scores in result.scores.items():
        for metric, stated in scores.items():
            found = scored.scores.get(role, {}).get(metric)
            same = found is not None and (math.isclose(stated, found, abs_tol=TOLERANCE) or (math.isnan(stated) and math.isnan(found)))
            if not same:
                computed = "no such score" if found is None else f"{found:.4f}"
                raise DataError(f"it states {metric} {stated:.4f} on {role}, and its predictions give {computed}")
    if result.budget.labels_used not in (None, budget.labels_used):
        raise DataError(f"it states {result.budget.labels_used} labels, and its budget holds {budget.labels_used}")


def _keep_reported(ours: ResultStore, folder: Path, digest: str, why: str) -> None:
    with writing(child(ours.root, REPORTED, digest[:2], digest), existing="keep") as part:
        shutil.copytree(folder, part)
        write_text(part / "why.txt", why + "\n")
