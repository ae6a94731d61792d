"""What a reviewer should look at: none of it proves anything, so none of it refuses a submission.

Public labels make rescoring a proof of arithmetic, not of abstinence. These are the traces that carelessness and deceit tend to leave.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.metrics import ClassAnswers, UnitAnswers
from rs05bench.protocol.predictions import TablePredictions
from rs05bench.protocol.scoring import Scorer
from rs05bench.protocol.submission.cells import ReadCell
from rs05bench.protocol.submission.packed_answers import answers, same_answers, sketch, unpack
from rs05bench.protocol.submission.rescore import Rescorer
from rs05bench.protocol.submission.schema import CostRecord, Submission
from rs05bench.protocol.submission.verdict import Flag, Verdict

TOO_GOOD_ACCURACY, TOO_GOOD_R2 = 0.99, 0.995
EXACT_SHARE = 0.2
"""Share of regression predictions equal to the label to seven digits."""
SAME_CELLS = 0.8
FAR_ABOVE = 3.0
"""Standard errors of the mean over folds by which a held-out score exceeds the best on the board."""
NO_BETTER = 1.1
"""Times the balanced accuracy of a guess, below which an in-domain score has learnt nothing."""
NEIGHBOURS = 5
FOLLOWS = 0.95
FOLLOWS_MORE = 0.3
LEAST_PLACES = 100
# Generous: dense peak of the fastest accelerators on sale, and of a processor's core with wide vectors, FLOP/s.
PEAK_FLOPS = {"gpu": 5e15, "tpu": 5e15, "other": 5e15, "cpu": 3e11}
SHORTEST_S, LONGEST_S, LEAST_MB = 1e-6, 3e8, 1e-4
"""Times (s) and memory (MiB) that nothing that learns can have: under a microsecond, over ten years, under a hundred bytes."""
MOST_CELLS = 10


def too_good(cells: Sequence[ReadCell], rescorer: Rescorer) -> list[Flag]:
    """Test labels reproduced too well to have been predicted, in either test role by itself, over the folds and seeds of a budget."""
    guesses: dict[tuple[str, ...], list[NDArray[np.float64]]] = defaultdict(list)
    truths: dict[tuple[str, ...], list[NDArray[np.float64]]] = defaultdict(list)
    members: dict[tuple[str, ...], list[str]] = defaultdict(list)
    classes: dict[tuple[str, ...], bool] = {}
    for cell in cells:
        if not isinstance(cell.predictions, TablePredictions):
            continue
        guess, truth, roles = _lined_up(cell, rescorer)
        for role in sorted(set(roles)):
            key = (*cell.name.family, cell.name.budget, str(role))
            guesses[key].append(guess[roles == role])
            truths[key].append(truth[roles == role])
            members[key].append(str(cell.name))
            classes[key] = cell.predictions.probabilities is not None
    found = []
    for group, parts in guesses.items():
        if (why := _too_good(classes[group], np.concatenate(parts), np.concatenate(truths[group]))) is not None:
            found.append((group, why))
    if not found:
        return []
    first, why = found[0]
    return [
        Flag(
            key="too-good",
            sentence=f"Test labels are reproduced too well in {len(found)} of {len(guesses)} families and roles; "
            f"first {'/'.join(first)}: {why}.",
            cells=members[first][:MOST_CELLS],
        )
    ]


def _too_good(classes: bool, guess: NDArray[np.float64], truth: NDArray[np.float64]) -> str | None:
    if len(truth) < 20 or len(np.unique(truth)) < 2:
        return None
    if classes:
        right = float(np.mean(guess == truth))
        return f"{right:.1%} of the labels are reproduced" if right >= TOO_GOOD_ACCURACY else None
    exact = float(np.mean(np.isclose(guess, truth, rtol=1e-7, atol=0)))
    r2 = 1 - float(((guess - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
    return f"R2 {r2:.4f}, {exact:.0%} of the labels reproduced to seven digits" if exact >= EXACT_SHARE or r2 >= TOO_GOOD_R2 else None


def unmoved(cells: Sequence[tuple[ReadCell, LabelBudget]], submission: Submission) -> list[Flag]:
    """A learner whose answers stay the same under other labels did not learn from them; noise on its confidences changes nothing.

    Args:
        cells: Cells with the labels they were given. Where a fold has fewer labels than its budgets ask for, seeds share them.
        submission: This submission.
    """
    if submission.model.tier == "floor":
        return []
    families: dict[tuple[str, ...], list[tuple[ReadCell, LabelBudget]]] = defaultdict(list)
    for cell, drawn in cells:
        if isinstance(cell.predictions, TablePredictions):
            families[(*cell.name.family, cell.name.fold)].append((cell, drawn))
    stuck = []
    for members in families.values():
        given = [(frozenset(drawn.train), frozenset(drawn.val)) for _, drawn in members]
        made = [cell.predictions for cell, _ in members if isinstance(cell.predictions, TablePredictions)]
        said = [answers(predictions) for predictions in made]
        pairs = [(i, i + 1) for i in range(len(members) - 1) if given[i] != given[i + 1]]
        if pairs and 2 * sum(same_answers(said[i], said[j], made[i]) for i, j in pairs) >= len(pairs):
            stuck.append([cell for cell, _ in members])
    if not stuck:
        return []
    return [
        Flag(
            key="unmoved",
            sentence=f"Answers hardly change with the labels in {len(stuck)} of {len(families)} folds: they do not rest on them.",
            cells=[str(cell.name) for members in stuck for cell in members][:MOST_CELLS],
        )
    ]


def identical(cells: Sequence[ReadCell], submission: Submission, others: Mapping[str, Verdict]) -> list[Flag]:
    """Answers that another submission has sent already.

    Args:
        cells: Cells of this submission, of tables.
        submission: This submission.
        others: slug -> verdict of the submissions on the board.
    """
    flags = []
    sketches = [(cell, sketch(_table(cell))) for cell in cells] if others else []
    for slug, other in sorted(others.items()):
        if slug == submission.slug or other.tier == submission.model.tier == "floor":
            continue  # Floors have no freedom: two teams' must be equal.
        kept: dict[tuple[str, ...], list[NDArray[np.int16]]] = defaultdict(list)
        for family in other.families:
            for fold, text in family.answers.items():
                kept[*family.key[:3], fold].append(unpack(text))
        # The board keeps one seed of each budget; a copy may stand under another seed or budget.
        mine: dict[tuple[str, ...], list[tuple[ReadCell, NDArray[np.int16]]]] = defaultdict(list)
        for cell, short in sketches:
            mine[*cell.name.family, cell.name.fold, cell.name.budget].append((cell, short))
        common = [members for key, members in mine.items() if key[:4] in kept]
        same = []
        for members in common:
            theirs = kept[*members[0][0].name.family, members[0][0].name.fold]
            same += [cell for cell, short in members if any(same_answers(short, text, _table(cell)) for text in theirs)][:1]
        if len(common) >= 3 and len(same) >= SAME_CELLS * len(common):
            flags.append(
                Flag(
                    key="identical",
                    sentence=f"The answers of {len(same)} of {len(common)} folds and budgets are those of submission {slug}.",
                    cells=[str(cell.name) for cell in same[:MOST_CELLS]],
                )
            )
    return flags


def _table(cell: ReadCell) -> TablePredictions:
    assert isinstance(cell.predictions, TablePredictions)
    return cell.predictions


def against_board(
    verdict: Verdict, higher: Mapping[str, bool], others: Mapping[str, Verdict], classes: Mapping[str, int] | None = None
) -> list[Flag]:
    """Held-out scores far above the best on the board, without any drop, or below a floor; in-domain ones no better than a guess.

    Args:
        verdict: This submission, rescored.
        higher: task -> whether more of its main metric is better.
        others: slug -> verdict of the submissions on the board.
        classes: task -> number of its classes, for classifications.
    """
    above, below, flat = [], [], []
    for family, values in _by_family(verdict, "test_ood").items():
        turn = 1.0 if higher[family[0]] else -1.0
        mean, error = _mean_and_error(values)
        rivals = {slug: scores for slug, other in others.items() if (scores := _by_family(other, "test_ood").get(family))}
        best = max((turn * _mean_and_error(scores)[0] for scores in rivals.values()), default=None)
        floors = [turn * _mean_and_error(scores)[0] for slug, scores in rivals.items() if others[slug].tier == "floor"]
        where = "/".join(family)
        if best is not None and len(rivals) >= 3 and turn * mean > best + max(FAR_ABOVE * error, 0.1 * abs(best)):
            above.append(f"{where}: {mean:.3f}, the best on the board {turn * best:.3f}")
        if floors and turn * mean < min(floors) - 1e-9:
            below.append(f"{where}: {mean:.3f}, the lowest baseline without imagery {turn * min(floors):.3f}")
        home = _by_family(verdict, "test_id").get(family)
        if home and turn * (_mean_and_error(home)[0] - mean) < -3 * error and (best is None or turn * mean > best):
            flat.append(f"{where}: {mean:.3f} held out, {_mean_and_error(home)[0]:.3f} in-domain")
    for cells_of in verdict.families if verdict.tier != "floor" else ():
        right, many = cells_of.scores.get("test_id", {}).get("balanced_accuracy"), (classes or {}).get(cells_of.task)
        if right is not None and many is not None and right < NO_BETTER / many:
            below.append(f"{'/'.join(cells_of.key)}: in-domain balanced accuracy {right:.3f}, a guess has {1 / many:.3f}")
    told = (
        ("far-above", "Held-out scores are far above the board", above),
        (
            "below-floor",
            "Scores are below every baseline without imagery, or a guess (are classes in the card's order, rows their units'?)",
            below,
        ),
        ("no-drop", "Held-out scores are higher than in-domain and the best on the board", flat),
    )
    return [Flag(key=key, sentence=f"{words} in {len(where)} families; first: {where[0]}.") for key, words, where in told if where]


def _by_family(verdict: Verdict, role: str) -> dict[tuple[str, ...], list[float]]:
    """Family -> main score by fold."""
    found = {family.key: [value for value in family.by_fold.get(role, []) if value is not None] for family in verdict.families}
    return {key: values for key, values in found.items() if values}


def _mean_and_error(by_fold: Sequence[float]) -> tuple[float, float]:
    """Mean over folds, and its standard error."""
    return float(np.mean(by_fold)), float(np.std(by_fold, ddof=1) / len(by_fold) ** 0.5) if len(by_fold) > 1 else 0.0


def impossible_costs(submission: Submission) -> list[Flag]:
    """Costs the hardware cannot have had."""
    told = [sentence for cost in submission.costs for sentence in _impossible(submission, cost)]
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
    spans = {"fit_s": cost.fit_s, "predict_s_per_1000": cost.predict_s_per_1000}
    told += [f"{where}: {name} is {span:g} s" for name, span in spans.items() if 0 < span < SHORTEST_S or span > LONGEST_S]
    if cost.predict_s_per_1000 and not 0.1 < cost.predict_s / cost.predict_s_per_1000 * 1000 < 1e8:
        told.append(f"{where}: predicting took {cost.predict_s:g} s, and {cost.predict_s_per_1000:g} s per 1,000 units")
    if 0 < cost.peak_memory_mb < LEAST_MB:
        told.append(f"{where}: the peak of memory is {cost.peak_memory_mb:g} MiB")
    if cost.hardware not in {"not stated", *(machine.name for machine in submission.hardware)}:
        told.append(f"{where}: measured on {cost.hardware!r}, which is not under hardware")
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
        name = cell.name
        key = (*name.family, name.fold, name.budget)
        if key in seen or not isinstance(cell.predictions, TablePredictions):
            continue
        seen.add(key)
        placed = rescorer.truth.manifest(cell.task, name.split).units.set_index("unit_id")
        where = placed.loc[_units(rescorer.scorer(cell)), ["lon", "lat"]].to_numpy(dtype=np.float64)
        known = np.isfinite(where).all(axis=1)
        if known.sum() < LEAST_PLACES or len(np.unique(where[known], axis=0)) < LEAST_PLACES // 2:
            continue
        looked += 1
        guess, truth, _ = _lined_up(cell, rescorer, soft=True)
        of_guess, of_truth = _explained(where[known], guess[known]), _explained(where[known], truth[known])
        if of_guess >= FOLLOWS and of_guess - of_truth >= FOLLOWS_MORE:
            found.append((str(cell.name), of_guess, of_truth))
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


def _lined_up(
    cell: ReadCell, rescorer: Rescorer, *, soft: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.object_]]:
    """Predictions, labels and roles of the labelled test units, by role role; classes as codes, or (soft) one column per class."""
    scorer = rescorer.scorer(cell)
    guesses, truths, roles = [], [], []
    for part in scorer.parts:
        answers = cell.predictions.sums(part.role, scorer.labels, scorer.unit_id[part.units])
        roles.append(np.full(len(part.units), part.role, dtype=object))
        if soft and isinstance(answers, ClassAnswers):
            guesses.append(answers.probabilities)
            truths.append(np.eye(len(answers.classes))[answers.truth])
        elif isinstance(answers, UnitAnswers):
            guesses.append(np.asarray(answers.predicted, dtype=np.float64))
            truths.append(np.asarray(answers.truth, dtype=np.float64))
    return np.concatenate(guesses), np.concatenate(truths), np.concatenate(roles)


def _units(scorer: Scorer) -> NDArray[np.object_]:
    """Labelled test units in the order of `_lined_up`."""
    return np.concatenate([scorer.unit_id[part.units] for part in scorer.parts])


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
