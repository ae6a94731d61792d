"""Rescoring: every score is computed here, from the predictions and the frozen labels. No number a bundle sends is used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import BenchError
from rs05bench.protocol.budget import LabelBudget, draw_budget
from rs05bench.protocol.rasters import RasterPredictions
from rs05bench.protocol.result import Result
from rs05bench.protocol.rules import RuleVerdict, check_rules
from rs05bench.protocol.scoring import Scored, Scorer, higher_is_better
from rs05bench.protocol.scoring_chips import ChipScorer
from rs05bench.protocol.splits import Split
from rs05bench.protocol.submission.board import BoardTask
from rs05bench.protocol.submission.cells import ReadCell
from rs05bench.protocol.submission.faults import Faults, shown
from rs05bench.protocol.submission.reading import ChipPlace
from rs05bench.protocol.submission.schema import CellRecord, Costs, Submission
from rs05bench.protocol.submission.truth import Truth
from rs05bench.protocol.submission.verdict import Pooled

REPORTED_TOLERANCE = 5e-3
"""Reported scores may differ by this much: predictions are often sent in half precision."""
SAME_PLACE = 0.1
"""Pixels a corner of a map may lie beside that of its mask: what rounding and reprojecting a transform leave."""
_OPEN_ROLES = ("train", "val", "reserve")
# Baselines and twins are other submissions: they are looked for on the whole board, not inside one bundle.
_OF_THE_BOARD = (6, 7, 11)


@dataclass(slots=True)
class Rescorer:
    """Scores cells against frozen labels; scorers of folds are made once.

    Attributes:
        truth: Frozen labels.
        faults: Takes what breaks a rule.
        notes: Takes what was noticed.
    """

    truth: Truth
    faults: Faults
    notes: list[str] = field(default_factory=list)
    _scorers: dict[tuple[str, str, str, str], Scorer] = field(default_factory=dict)

    def scorer(self, task: BoardTask, split: str, fold: str, target: str) -> Scorer:
        """The scorer of a fold of a table task."""
        key = (task.task, Split(split).base, fold, target)
        if key not in self._scorers:
            labels = self.truth.labels(task, target)
            self._scorers[key] = Scorer.build(self.truth.card(task), self.truth.manifest(task, split), fold, labels)
        return self._scorers[key]

    def score(self, cell: ReadCell) -> Scored | None:
        """Scores one cell; None where its predictions cannot be scored, which is told."""
        name = cell.record.cell
        try:
            if isinstance(cell.predictions, RasterPredictions):
                if not self._lie_right(cell):
                    return None
                card, manifest = self.truth.card(cell.task), self.truth.manifest(cell.task, name.split)
                masks = self.truth.masks(cell.task)
                chips = ChipScorer.build(card, manifest, name.fold, tuple(cell.record.classes or ()), masks.read)
                return chips.score(cell.predictions)
            return self.scorer(cell.task, name.split, name.fold, name.target).score(cell.predictions)
        except BenchError as error:
            self.faults.add(f"{cell.path}: cannot be scored: {error}")
            return None

    def _lie_right(self, cell: ReadCell) -> bool:
        """Whether every map lies where its mask does; a map of another place is told."""
        wrong = [(unit, why) for unit, place in cell.places.items() if (why := _elsewhere(place, self.truth.place(cell.task, unit)))]
        if wrong:
            unit, why = wrong[0]
            self.faults.add(
                f"{cell.path}: {len(wrong)} of {len(cell.places)} chips do not lie where their masks do, e.g. {shown(unit)}: {why}"
            )
        return not wrong

    def budget(self, record: CellRecord, task: BoardTask, path: str) -> LabelBudget | None:
        """The labels the cell's budget allows, drawn again; a cell that used more or others breaks rule 1, which is told."""
        name = record.cell
        card, manifest = self.truth.card(task), self.truth.manifest(task, name.split)
        labels = None
        if task.kind != "segmentation":
            rows = manifest.fold(name.fold)
            open_units = rows.loc[rows["role"].astype(str).isin(_OPEN_ROLES), "unit_id"]
            shown = self.truth.labels(task, name.target).reindex(open_units)
            labels = dict(zip(shown.index, shown, strict=True))
        try:
            drawn = draw_budget(card, manifest, name.fold, name.budget, name.seed, labels, split=name.split)
        except BenchError as error:
            self.faults.add(f"{path}: its budget cannot be drawn: {error}")
            return None
        if record.budget.labels_used > drawn.labels_used:
            self.faults.add(
                f"{path}: used {record.budget.labels_used:,} labels; budget {name.budget} allows {drawn.labels_used:,} here (rule 1)"
            )
        elif record.budget.digest is not None and record.budget.digest != drawn.digest:
            self.faults.add(f"{path}: used other labels than budget {name.budget}, seed {name.seed} draws (rule 1)")
        return drawn


def _elsewhere(place: ChipPlace, mask: ChipPlace) -> str | None:
    """Why a map does not lie on its mask; None where it does. A mask without a CRS says nothing of it."""
    from rasterio.crs import CRS

    (wkt, transform, shape), (mask_wkt, mask_transform, mask_shape) = place, mask
    if shape != mask_shape:
        return f"it has {shape[0]} x {shape[1]} pixels, the mask {mask_shape[0]} x {mask_shape[1]}"
    if mask_wkt and wkt != mask_wkt and CRS.from_wkt(wkt) != CRS.from_wkt(mask_wkt):
        return f"its CRS is {shown(CRS.from_wkt(wkt).to_string(), 60)}, the mask's {shown(CRS.from_wkt(mask_wkt).to_string(), 60)}"
    if transform == mask_transform:
        return None
    # Corners of the map in pixels of the mask.
    corners = np.array([[0, shape[1], 0], [0, 0, shape[0]], [1, 1, 1]], dtype=np.float64)
    to_mask = np.linalg.solve(_matrix(mask_transform), _matrix(transform))
    off = float(np.abs(to_mask @ corners - corners).max())
    return None if off <= SAME_PLACE else f"it lies {off:.3g} pixels off"


def _matrix(transform: tuple[float, ...]) -> NDArray[np.float64]:
    return np.array([transform[:3], transform[3:], (0.0, 0.0, 1.0)])


def as_result(cell: ReadCell, scored: Scored, drawn: LabelBudget, submission: Submission, costs: Costs) -> Result:
    """The record the rest of rs05bench works with."""
    name, task = cell.record.cell, cell.task
    split = task.splits[name.split]
    named = name.cell(submission.model.name)
    price = next((cost for cost in costs.costs if cost.key == (name.task, name.target, name.split, name.budget)), None)
    return Result(
        cell=named,
        digest=named.digest(card=task.card, manifest=split.manifest, data=task.labels.get(name.target, "")),
        kind=task.kind,
        main_metric=task.main_metric,
        higher_is_better=higher_is_better(task.main_metric),
        simulated=task.simulated,
        model=submission.model.card(),
        scores=scored.scores,
        per_group=scored.per_group,
        strata=scored.strata,
        calibration=scored.calibration,
        budget={
            "labels_used": cell.record.budget.labels_used,
            "digest": cell.record.budget.digest or drawn.digest,
            "extra": len(drawn.extra),
        },
        training={
            key: value
            for key, value in (
                ("planned_steps", cell.record.training.planned_steps),
                ("early_stopping_role", cell.record.training.early_stopping_role),
            )
            if value is not None
        },
        digests={
            "card": task.card,
            "manifest": split.manifest,
            "preprocessing": cell.record.preprocessing,
            "predictions": cell.digest,
        },
        cost=price.cost() if price else {},
        main=split.main,
    )


def judge_rules(results: list[Result], truth: Truth, tasks: Iterable[BoardTask], faults: Faults) -> list[RuleVerdict]:
    """The protocol's rules over one submission; a rule of its own that is broken refuses it."""
    tasks = list(tasks)
    there = {task.task: truth.card(task) for task in tasks}
    splits = {(result.cell.task, result.cell.split) for result in results}
    manifests = [truth.manifest(task, split) for task in tasks for split in task.splits if (task.task, split) in splits]
    verdicts = []
    for verdict in check_rules(results, manifests, there.values()):
        if verdict.rule in _OF_THE_BOARD and verdict.verdict == "fail":
            reason = "looked for among all submissions on the board, not inside one"
            verdict = verdict.model_copy(update={"verdict": "not applicable", "reason": reason, "breaches": []})
        if verdict.verdict == "fail":
            for breach in verdict.breaches or [verdict.reason]:
                faults.add(f"rule {verdict.rule} ({verdict.key}): {breach}")
        verdicts.append(verdict)
    return verdicts


def reported_differences(cells: list[tuple[ReadCell, Scored]]) -> tuple[list[str], float]:
    """Cells whose reported scores are not those found here, and the largest difference."""
    differing, worst = [], 0.0
    for cell, scored in cells:
        for role, metrics in cell.record.reported.items():
            for metric, value in metrics.items():
                found = scored.scores.get(role, {}).get(metric)
                if found is None:
                    continue
                off = abs(found - value) / max(1.0, abs(found))
                worst = max(worst, off)
                if off > REPORTED_TOLERANCE and cell.path not in differing:
                    differing.append(cell.path)
    return differing, worst


def pool(results: list[Result]) -> list[Pooled]:
    """Means over folds and seeds of what a page shows of groups and calibration."""
    families: dict[tuple[str, str, str, str], list[Result]] = defaultdict(list)
    for result in results:
        cell = result.cell
        families[cell.task, cell.target, cell.split, cell.budget].append(result)
    pooled = []
    for (task, target, split, budget), members in sorted(families.items()):
        seeds = len({result.cell.seed for result in members})
        pooled.append(
            Pooled(task=task, target=target, split=split, budget=budget, per_group=_groups(members, seeds), calibration=_curves(members))
        )
    return pooled


def _groups(members: list[Result], seeds: int) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    found: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for result in members:
        for role, columns in result.per_group.items():
            for column, groups in columns.items():
                for group, scores in groups.items():
                    for metric, value in scores.items():
                        found[role, column, group, metric].append(value)
    out: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for (role, column, group, metric), values in found.items():
        mean = sum(values) / seeds if metric == "units" else float(np.mean(values))
        out.setdefault(role, {}).setdefault(column, {}).setdefault(group, {})[metric] = round(mean, 6)
    return out


def _curves(members: list[Result]) -> dict[str, dict[str, list[float]]]:
    bins: dict[str, dict[int, list[float]]] = {}
    for result in members:
        for role, curve in result.calibration.items():
            kept = bins.setdefault(role, {})
            for confidence, accuracy, units in zip(curve["confidence"], curve["accuracy"], curve["units"], strict=True):
                sums = kept.setdefault(min(int(confidence * 15), 14), [0.0, 0.0, 0.0])
                sums[0] += confidence * units
                sums[1] += accuracy * units
                sums[2] += units
    return {
        role: {
            "confidence": [round(kept[i][0] / kept[i][2], 6) for i in sorted(kept)],
            "accuracy": [round(kept[i][1] / kept[i][2], 6) for i in sorted(kept)],
            "units": [kept[i][2] for i in sorted(kept)],
        }
        for role, kept in bins.items()
    }
