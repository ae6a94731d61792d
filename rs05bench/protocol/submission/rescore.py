"""Rescoring: every score is computed here, from the predictions and the frozen labels. No score that was sent is used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import BenchError
from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.pooling import Pool, shift_of
from rs05bench.protocol.predictions import TablePredictions
from rs05bench.protocol.rescoring import draw_again
from rs05bench.protocol.result import Cost, Result
from rs05bench.protocol.rules import RuleVerdict, check_rules
from rs05bench.protocol.scoring import TEST_ROLES, Scored, Scorer, higher_is_better
from rs05bench.protocol.splits import Split
from rs05bench.protocol.submission.board import BoardTask
from rs05bench.protocol.submission.cells import ReadCell
from rs05bench.protocol.submission.faults import Faults, shown
from rs05bench.protocol.submission.packed_answers import pack, sketch
from rs05bench.protocol.submission.reading import ChipPlace
from rs05bench.protocol.submission.schema import CellName, Submission
from rs05bench.protocol.submission.truth import Truth
from rs05bench.protocol.submission.verdict import CellFamily, GroupTable

SAME_PLACE = 0.1
"""Pixels a corner of a map may lie beside that of its mask: what rounding and reprojecting a transform leave."""
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
            labels = self.truth.of(task, name.target)
            self._scorers[key] = Scorer.build(labels.card, manifest, name.fold, labels.scored(name.target))
        return self._scorers[key]

    def score(self, cell: ReadCell) -> Scored | None:
        """Scores one cell; None where its predictions cannot be scored, which is told."""
        try:
            return self.scorer(cell).score(cell.predictions) if self._lie_right(cell) else None
        except BenchError as error:
            self.faults.add(f"cannot be scored: {error}", cell.name)
            return None

    def _lie_right(self, cell: ReadCell) -> bool:
        """Whether every map lies where its mask does; a map of another place is told."""
        wrong = [(unit, why) for unit, place in cell.places.items() if (why := _elsewhere(place, self.truth.place(cell.task, unit)))]
        if wrong:
            unit, why = wrong[0]
            self.faults.add(
                f"{len(wrong)} of {len(cell.places)} chips do not lie where their masks do, e.g. {shown(unit)}: {why}", cell.name
            )
        return not wrong

    def budget(self, name: CellName, task: BoardTask) -> LabelBudget | None:
        """The labels the cell's budget allows, drawn again: what the table shows as labels used."""
        manifest, labels = self.truth.manifest(task, name.split), self.truth.of(task, name.target)
        try:
            return draw_again(manifest, name.fold, labels, name.target, {"budget": name.budget, "seed": name.seed, "split": name.split})
        except BenchError as error:
            self.faults.add(f"its budget cannot be drawn: {error}", name)
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


def families(cells: Sequence[ReadCell], results: Sequence[Result], drawn: Sequence[LabelBudget]) -> list[CellFamily]:
    """What the board keeps of complete cells.

    Args:
        cells: Cells: every fold of a family with the same seeds.
        results: Their results in the same order; empty where nothing was scored.
        drawn: The labels of each; empty where nothing was scored.
    """
    members: dict[tuple[str, str, str, str], list[int]] = defaultdict(list)
    for index, cell in enumerate(cells):
        members[*cell.name.family, cell.name.budget].append(index)
    return [
        _family([cells[i] for i in at], [results[i] for i in at if results], [drawn[i] for i in at if drawn])
        for _, at in sorted(members.items())
    ]


def _family(cells: Sequence[ReadCell], results: Sequence[Result], drawn: Sequence[LabelBudget]) -> CellFamily:
    name = cells[0].name
    folds, seeds = list(dict.fromkeys(cell.name.fold for cell in cells)), sorted({cell.name.seed for cell in cells})
    by_name = {(cell.name.fold, cell.name.seed): cell for cell in cells}
    family = CellFamily(
        task=name.task,
        target=name.target,
        split=name.split,
        budget=name.budget,
        folds=folds,
        seeds=seeds,
        predictions={fold: [by_name[fold, seed].digest[:16] for seed in seeds] for fold in folds},
        answers={
            fold: pack(sketch(predictions))
            for fold in folds
            if isinstance(predictions := by_name[fold, seeds[0]].predictions, TablePredictions)
        },
    )
    if not results:
        return family
    metric = results[0].main_metric
    score = {(result.cell.fold, result.cell.seed): result.scores for result in results}
    for role in TEST_ROLES:
        table = np.array([[score[fold, seed].get(role, {}).get(metric, np.nan) for seed in seeds] for fold in folds])
        if np.isfinite(table).any():
            family.by_fold[role] = [_mean(row) for row in table]
            family.by_seed[role] = [_mean(column) for column in table.T]
    for role in sorted({role for result in results for role in result.scores}):
        names = sorted({name for result in results for name in result.scores.get(role, {})})
        found = {name: _mean([result.scores.get(role, {}).get(name, np.nan) for result in results]) for name in names}
        family.scores[role] = {name: value for name, value in found.items() if value is not None}
    family.labels_used = float(np.mean([budget.labels_used for budget in drawn]))
    family.labels_inspected = float(np.mean([budget.labels_inspected for budget in drawn]))
    family.groups.update(_tables(results, metric))
    family.columns.update(_columns(results, metric))
    family.calibration.update(_curves(results))
    return family


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float | None:
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return round(float(known.mean()), 6) if len(known) else None


def _tables(results: Sequence[Result], metric: str) -> dict[str, GroupTable]:
    """Role -> main score inside groups, as comparisons pool it."""
    pooled = Pool.of(results)
    (point,) = pooled.points
    found = {}
    for role in TEST_ROLES:
        inside = pooled.inside(point, role, metric)
        if len(inside.groups):
            found[role] = GroupTable(
                shift=(shift_of(point) or "none") if role == "test_ood" else "none",
                groups=list(inside.groups),
                units=inside.units.tolist(),
                scores=[[round(value, 4) if np.isfinite(value) else None for value in row] for row in inside.values.tolist()],
            )
    return found


def _columns(results: Sequence[Result], metric: str) -> dict[str, dict[str, tuple[float, float]]]:
    seeds = len({result.cell.seed for result in results})
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for result in results:
        for column, groups in result.per_group.get("test_ood", {}).items():
            for group, scores in groups.items():
                if metric in scores:
                    found[column, group].append((scores[metric], scores.get("units", 0.0)))
    out: dict[str, dict[str, tuple[float, float]]] = {}
    for (column, group), parts in found.items():
        values, units = np.array(parts).T
        out.setdefault(column, {})[group] = (round(float(values.mean()), 4), round(float(units.sum()) / seeds, 1))
    return out


def _curves(members: Sequence[Result]) -> dict[str, dict[str, list[float]]]:
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
            "confidence": [round(kept[i][0] / kept[i][2], 4) for i in sorted(kept)],
            "accuracy": [round(kept[i][1] / kept[i][2], 4) for i in sorted(kept)],
            "units": [kept[i][2] for i in sorted(kept)],
        }
        for role, kept in bins.items()
    }
