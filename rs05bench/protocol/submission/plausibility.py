"""What a reviewer should look at: none of it proves anything, so none of it refuses a submission.

Public labels make rescoring a proof of arithmetic, not of abstinence. These are the traces that carelessness and deceit tend to leave.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.predictions import Predictions
from rs05bench.protocol.submission.cells import ReadCell
from rs05bench.protocol.submission.rescore import Rescorer
from rs05bench.protocol.submission.schema import CostRecord, Costs, Submission
from rs05bench.protocol.submission.verdict import Flag

TOO_GOOD_ACCURACY, TOO_GOOD_R2 = 0.99, 0.995
EXACT_SHARE = 0.2
"""Share of regression predictions equal to the label to seven digits."""
SAME = 2e-3
"""Largest difference of near-identical probabilities, and relative difference of near-identical numbers."""
SAME_CELLS = 0.8
NEIGHBOURS = 5
FOLLOWS = 0.95
FOLLOWS_MORE = 0.3
LEAST_PLACES = 100
# Generous: dense peak of the fastest accelerators on sale, and of a processor's core with wide vectors, FLOP/s.
PEAK_FLOPS = {"gpu": 5e15, "tpu": 5e15, "other": 5e15, "cpu": 3e11}
MOST_CELLS = 10


def too_good(cells: Sequence[ReadCell], rescorer: Rescorer) -> list[Flag]:
    """Test labels reproduced too well to have been predicted."""
    found = []
    for cell in cells:
        if not isinstance(cell.predictions, Predictions):
            continue
        guess, truth = _lined_up(cell, rescorer)
        if len(truth) < 20 or len(np.unique(truth)) < 2:
            continue
        if cell.predictions.probabilities is not None:
            right = float(np.mean(guess == truth))
            if right >= TOO_GOOD_ACCURACY:
                found.append((cell.path, f"{right:.1%} of the labels are reproduced"))
        else:
            exact = float(np.mean(np.isclose(guess, truth, rtol=1e-7, atol=0)))
            r2 = 1 - float(((guess - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
            if exact >= EXACT_SHARE or r2 >= TOO_GOOD_R2:
                found.append((cell.path, f"R2 {r2:.4f}, {exact:.0%} of the labels reproduced to seven digits"))
    if not found:
        return []
    return [
        Flag(
            key="too-good",
            sentence=f"Test labels are reproduced too well in {len(found)} of {len(cells)} cells; first: {found[0][1]}.",
            cells=[path for path, _ in found[:MOST_CELLS]],
        )
    ]


def unmoved(cells: Sequence[tuple[ReadCell, LabelBudget]], submission: Submission) -> list[Flag]:
    """A learner whose predictions stay the same under other labels did not learn from them.

    Args:
        cells: Cells with the labels they were given. Where a fold has fewer labels than its budgets ask for, seeds share them.
        submission: This bundle.
    """
    if submission.model.tier == "floor":
        return []
    families: dict[tuple[str, ...], list[tuple[ReadCell, LabelBudget]]] = defaultdict(list)
    for cell, drawn in cells:
        families[(*cell.record.cell.family, cell.record.cell.fold)].append((cell, drawn))
    stuck = []
    for members in families.values():
        sets = len({(frozenset(drawn.train), frozenset(drawn.val)) for _, drawn in members})
        if sets > 1 and 2 * len({cell.digest for cell, _ in members}) <= sets:
            stuck.append([cell for cell, _ in members])
    if not stuck:
        return []
    return [
        Flag(
            key="unmoved",
            sentence=f"Predictions hardly change with the labels in {len(stuck)} of {len(families)} folds: they rest on none.",
            cells=[cell.path for members in stuck for cell in members][:MOST_CELLS],
        )
    ]


def sketch_key(cell: ReadCell) -> str:
    """What two teams' cells are compared under."""
    name = cell.record.cell
    return "|".join((name.task, name.target, name.split, name.fold, name.budget, str(name.seed)))


def identical(cells: Sequence[ReadCell], submission: Submission, others: Mapping[str, tuple[str, Mapping[str, list[float]]]]) -> list[Flag]:
    """Predictions that another submission has sent already.

    Args:
        cells: Cells of this bundle.
        submission: This bundle.
        others: slug -> tier, sketches of the submissions on the board.
    """
    flags = []
    for slug, (tier, sketches) in sorted(others.items()):
        if slug == submission.slug or (tier == "floor" and submission.model.tier == "floor"):
            continue  # Floors have no freedom: two teams' must be equal.
        common = [cell for cell in cells if cell.sketch and len(sketches.get(sketch_key(cell), ())) == len(cell.sketch)]
        same = [cell for cell in common if _near(np.array(cell.sketch), np.array(sketches[sketch_key(cell)]))]
        if len(common) >= 3 and len(same) >= SAME_CELLS * len(common):
            flags.append(
                Flag(
                    key="identical",
                    sentence=f"The predictions of {len(same)} of {len(common)} common cells are those of submission {slug}.",
                    cells=[cell.path for cell in same[:MOST_CELLS]],
                )
            )
    return flags


def impossible_costs(submission: Submission, costs: Costs) -> list[Flag]:
    """Costs the hardware cannot have had."""
    told = [sentence for cost in costs.costs for sentence in _impossible(submission, cost)]
    if not told:
        return []
    unique = list(dict.fromkeys(told))
    more = f" (and {len(unique) - 1} more)" if len(unique) > 1 else ""
    return [Flag(key="cost", sentence=f"A cost is impossible: {unique[0]}{more}.")]


def _impossible(submission: Submission, cost: CostRecord) -> list[str]:
    where = f"{cost.task}/{cost.split}/{cost.budget}"
    peak = sum(
        PEAK_FLOPS[machine.kind] * machine.count * ((machine.cores or 64) if machine.kind == "cpu" else 1)
        for machine in submission.hardware
    )
    accelerated = any(machine.kind != "cpu" for machine in submission.hardware)
    told = []
    if cost.predict_s_per_1000 == 0 or cost.fit_s == 0:
        told.append(f"{where}: a time is exactly 0 s; unknown values are null")
    work = max((cost.gflops_per_unit or 0) * 1e9, 2.0 * (cost.parameters_total or 0) if submission.model.pretrained else 0.0)
    if cost.predict_s_per_1000 and work * 1000 / cost.predict_s_per_1000 > peak:
        told.append(f"{where}: predicting took {work * 1000 / cost.predict_s_per_1000:.2g} FLOP/s, the hardware gives at most {peak:.2g}")
    if (cost.device_hours or 0) > 0 and not accelerated:
        told.append(f"{where}: {cost.device_hours} device hours, and no accelerator is named")
    devices = sum(machine.count for machine in submission.hardware if machine.kind != "cpu") or 1
    if (cost.device_hours or 0) * 3600 > 1.1 * devices * (cost.fit_s + cost.predict_s) + 60:
        told.append(f"{where}: {cost.device_hours} device hours do not fit into {cost.fit_s:.0f} s of wall time on {devices} devices")
    if cost.parameters_trainable is not None and cost.parameters_total is not None and cost.parameters_trainable > cost.parameters_total:
        told.append(f"{where}: more parameters are trained than there are")
    memory = max(cost.peak_memory_mb, cost.peak_device_memory_mb or 0)
    if memory and submission.model.pretrained and memory * 2**20 < (cost.parameters_total or 0) * 0.4:
        told.append(f"{where}: {cost.parameters_total:,} parameters do not fit into {memory:.0f} MiB")
    return told


def follows_coordinates(cells: Sequence[ReadCell], rescorer: Rescorer, submission: Submission) -> list[Flag]:
    """Predictions that the place explains far better than it explains the labels: a look-up table of the ground."""
    if submission.model.tier == "floor":
        return []
    found, looked = [], 0
    seen: set[tuple[str, ...]] = set()
    for cell in cells:
        name = cell.record.cell
        key = (*name.family, name.fold, name.budget)
        if key in seen or not isinstance(cell.predictions, Predictions):
            continue
        seen.add(key)
        placed = rescorer.truth.manifest(cell.task, name.split).units.set_index("unit_id")
        scorer = rescorer.scorer(cell.task, name.split, name.fold, name.target)
        where = placed.loc[scorer.unit_id, ["lon", "lat"]].to_numpy(dtype=np.float64)
        known = np.isfinite(where).all(axis=1)
        if known.sum() < LEAST_PLACES or len(np.unique(where[known], axis=0)) < LEAST_PLACES // 2:
            continue
        looked += 1
        guess, truth = _lined_up(cell, rescorer, soft=True)
        of_guess, of_truth = _explained(where[known], guess[known]), _explained(where[known], truth[known])
        if of_guess >= FOLLOWS and of_guess - of_truth >= FOLLOWS_MORE:
            found.append((cell.path, of_guess, of_truth))
    if not found:
        return []
    path, of_guess, of_truth = found[0]
    return [
        Flag(
            key="coordinates",
            sentence=f"Predictions follow coordinates in {len(found)} of {looked} cells: neighbours in space explain {of_guess:.0%} of the "
            f"predictions and {max(of_truth, 0):.0%} of the labels ({path}).",
            cells=[item[0] for item in found[:MOST_CELLS]],
        )
    ]


def _lined_up(cell: ReadCell, rescorer: Rescorer, *, soft: bool = False) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predictions and labels of the labelled test units; for classes codes, or (soft) one column a class."""
    name = cell.record.cell
    scorer = rescorer.scorer(cell.task, name.split, name.fold, name.target)
    picked = scorer._align(cell.predictions)  # type: ignore[arg-type]
    truth = np.asarray(scorer.truth, dtype=np.float64)
    if picked.probabilities is None:
        return np.asarray(picked.y, dtype=np.float64), truth
    if soft:
        return picked.probabilities.astype(np.float64), np.eye(picked.probabilities.shape[1])[scorer.truth]
    return picked.probabilities.argmax(axis=1).astype(np.float64), truth


def _explained(where: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Share of the variance of values that the mean of the nearest other places explains (leave-one-out)."""
    from scipy.spatial import cKDTree

    radians = np.radians(where)
    points = np.column_stack(
        [np.cos(radians[:, 1]) * np.cos(radians[:, 0]), np.cos(radians[:, 1]) * np.sin(radians[:, 0]), np.sin(radians[:, 1])]
    )
    _, nearest = cKDTree(points).query(points, k=NEIGHBOURS + 1)
    values = values.reshape(len(values), -1)
    rest = ((values - values[nearest[:, 1:]].mean(axis=1)) ** 2).sum()
    total = ((values - values.mean(axis=0)) ** 2).sum()
    return 1 - float(rest / total) if total > 0 else 0.0


def _near(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool((np.abs(one - other) <= SAME * np.maximum(1.0, np.abs(other))).all()) and float(np.ptp(one)) > 0
