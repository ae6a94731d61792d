"""Rescoring: every score is computed here, from the predictions and the frozen labels. No score that was sent is used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import BenchError
from rs05bench.protocol.budget import LabelBudget, draw_budget
from rs05bench.protocol.result import Cost, Result
from rs05bench.protocol.rules import RuleVerdict, check_rules
from rs05bench.protocol.scoring import Scored, Scorer, higher_is_better
from rs05bench.protocol.splits import Split
from rs05bench.protocol.submission.board import BoardTask
from rs05bench.protocol.submission.cells import ReadCell
from rs05bench.protocol.submission.faults import Faults, shown
from rs05bench.protocol.submission.reading import ChipPlace
from rs05bench.protocol.submission.schema import CellName, Submission
from rs05bench.protocol.submission.truth import Truth
from rs05bench.protocol.submission.verdict import Pooled

SAME_PLACE = 0.1
"""Pixels a corner of a map may lie beside that of its mask: what rounding and reprojecting a transform leave."""
_OPEN_ROLES = ("train", "val", "reserve")
# Baselines and twins are other submissions: they are looked for on the whole board, not inside one.
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

    def scorer(self, cell: ReadCell) -> Scorer:
        """The scorer of a cell's fold."""
        name, task = cell.name, cell.task
        key = (task.task, Split(name.split).base, name.fold, name.target)
        if key not in self._scorers:
            manifest = self.truth.manifest(task, name.split)
            self._scorers[key] = Scorer.build(self.truth.card(task), manifest, name.fold, self.truth.scored(task, name.target))
        return self._scorers[key]

    def score(self, cell: ReadCell) -> Scored | None:
        """Scores one cell; None where its predictions cannot be scored, which is told."""
        try:
            return self.scorer(cell).score(cell.predictions) if self._lie_right(cell) else None
        except BenchError as error:
            self.faults.add(f"{cell.name}: cannot be scored: {error}")
            return None

    def _lie_right(self, cell: ReadCell) -> bool:
        """Whether every map lies where its mask does; a map of another place is told."""
        wrong = [(unit, why) for unit, place in cell.places.items() if (why := _elsewhere(place, self.truth.place(cell.task, unit)))]
        if wrong:
            unit, why = wrong[0]
            self.faults.add(
                f"{cell.name}: {len(wrong)} of {len(cell.places)} chips do not lie where their masks do, e.g. {shown(unit)}: {why}"
            )
        return not wrong

    def budget(self, name: CellName, task: BoardTask) -> LabelBudget | None:
        """The labels the cell's budget allows, drawn again: what the table shows as labels used."""
        card, manifest = self.truth.card(task), self.truth.manifest(task, name.split)
        labels = None
        if task.kind != "segmentation":
            rows = manifest.fold(name.fold)
            open_units = rows.loc[rows["role"].astype(str).isin(_OPEN_ROLES), "unit_id"]
            shown = self.truth.labels(task, name.target).reindex(open_units)
            labels = dict(zip(shown.index, shown, strict=True))
        try:
            return draw_budget(card, manifest, name.fold, name.budget, name.seed, labels, split=name.split)
        except BenchError as error:
            self.faults.add(f"{name}: its budget cannot be drawn: {error}")
            return None


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


def as_result(cell: ReadCell, scored: Scored, drawn: LabelBudget, submission: Submission) -> Result:
    """The record the rest of rs05bench works with."""
    name, task = cell.name, cell.task
    split = task.splits[name.split]
    named = name.cell(submission.model.name)
    price = next((cost for cost in submission.costs if cost.key == (name.task, name.target, name.split, name.budget)), None)
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
            "labels_used": drawn.labels_used,
            "labels_inspected": drawn.labels_inspected,
            "digest": drawn.digest,
            "extra": len(drawn.extra),
        },
        training={
            key: value
            for key, value in (
                ("planned_steps", submission.training.planned_steps),
                ("early_stopping_role", submission.training.early_stopping_role),
            )
            if value is not None
        },
        digests={
            "card": task.card,
            "manifest": split.manifest,
            "preprocessing": task.preprocessing if submission.inputs == "card" else "",
            "predictions": cell.digest,
        },
        cost=(price.cost() if price else Cost()).model_copy(
            update={"labels_used": drawn.labels_used, "labels_inspected": drawn.labels_inspected}
        ),
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
