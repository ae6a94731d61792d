"""Advice in words: what `rs05bench advise` prints, for a person with a field to map and a week to do it in. A dozen lines at most."""

from __future__ import annotations

import math

from rs05bench.experiment.advice import CLOSE, ELSEWHERE, HOME, SEEDS, Advice, Place
from rs05bench.models.learners import LEARNERS
from rs05bench.protocol.inference.estimate import Bounds, Estimate, NextGroup

METRIC_NAMES = {
    "macro_f1": "macro-F1",
    "r2": "R2",
    "mae": "MAE",
    "rmse": "RMSE",
    "overall_accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
}
MEANINGS = {
    "macro_f1": "macro-F1 is the mean over classes of how well each is found: 1 is perfect.",
    "r2": "R2 is the share of the variation that is explained: 1 is perfect, 0 is no better than the mean.",
}
PART, MOST, ALL = 0.2, 0.6, 0.9
"""Shares of the best model's gain from which coordinates alone are said to give part, most or all of the score."""
_ROUNDING = 1e-9  # of sums of floats: scores that are equal differ by less
_SHOWN = 0.005  # smaller ones are printed as .00
_FEW_GROUPS = 8
LEAST_FOR_LEVEL = 39
"""Groups from which their order statistics give 95 %: (n - 1) / (n + 1) is .95 there."""


def lines(advice: Advice) -> list[str]:
    """The advice, a line a statement, the recommendation first; flags of the design, and the word for simulated data, before it."""
    said: list[str] = []
    if advice.simulated:
        said.append("SIMULATED data: this shows what the command does and says nothing about the Earth.")
    said += [f"DESIGN FAULT: {flag.sentence}." for flag in advice.flags]
    said.append(_do(advice))
    said += [f"Look at: {'; '.join(advice.warnings)}."] if advice.warnings else []
    said.append(_line(advice, advice.here))
    if advice.elsewhere:
        said.append(_line(advice, advice.elsewhere))
    else:
        said.append("Another area: not known. Nothing is held out, so these labels say nothing of how a model does elsewhere.")
    said += [line for line in (_each_group(advice), _place(advice), _more(advice), _there(advice), _open(advice)) if line]
    said.append(_basis(advice))
    notes = " ".join(f"{note.rstrip('.')}." for note in (*advice.notes, MEANINGS.get(advice.metric, "")) if note)
    return [*said, notes] if notes else said


def full(advice: Advice) -> list[str]:
    """What `--full` adds: the best at every budget, blocks, costs, each class's score and what is taken for what."""
    said = ["", *_budgets(advice)]
    said += [f"Blocks: {advice.blocks}."] if advice.blocks else []
    if math.isfinite(advice.fit_s):
        said.append(
            f"{advice.recommended}: {advice.labels_used:.0f} labels, {_seconds(advice.fit_s)} to fit, "
            f"{_seconds(advice.predict_s_per_1000)} per 1,000 units ({advice.hardware or 'this machine'}, measured next to other work)."
        )
    return [*said, *_confusion(advice)]


def _do(advice: Advice) -> str:
    judged, name = advice.judged, advice.recommended
    where = f"in a new {advice.group}" if advice.elsewhere else "here"
    score = advice.reaches.get(judged.role)
    reached = f"{_metric(advice)} {_score(score)}" if score else ""
    if advice.verdict == "perfect-floor":
        return (
            f"Use no model yet: {name}, a baseline without imagery, reaches {reached} {where}. "
            "The labels follow from where they are, so no score shows that a model sees them. Collect labels of every class everywhere."
        )
    if advice.verdict == "floor":
        other = _unlike(advice, judged.over_metric)
        varied = ", as any varied answer may" if other else ""
        return (
            f"Use {name}, a baseline without imagery: {reached} {where}, and no model is ahead of it{other} ({judged.best} reaches "
            f"{_number(judged.score.value)}{varied}). With {advice.labels} labels these inputs add nothing that shows; "
            "look at the inputs before labelling more."
        )
    unproven = judged.over_floor if advice.verdict == "leads" else None
    needed = "" if unproven is None else " if a model must be chosen"
    text = f"Use {name} ({_in_words(advice)}){needed}: {reached} {where} with {advice.labels} labels."
    if unproven is not None:
        lead = f"{_difference(unproven)}{_unlike(advice, judged.over_metric)}"
        text += f" Nothing is shown to be better than {judged.floor}, which sees no image; the lead over it: {lead}."
    if name != judged.best:
        text += f" {judged.best} scores within {_number(CLOSE)} of it and costs more."
    return text


def _line(advice: Advice, place: Place) -> str:
    words = f"Next {advice.group}" if place.role == ELSEWHERE else f"Here (same {advice.group or 'area'})"
    drop = f"   drop {_score(advice.drop)}" if place.role == ELSEWHERE and advice.drop is not None else ""
    floor = f"   without imagery {_number(place.floor_score.value)} ({place.floor})" if place.floor_score is not None else ""
    return f"{words:<24}{place.best}   {_metric(advice)} {_score(place.score)}{floor}{drop}"


def _each_group(advice: Advice) -> str:
    points = advice.judged.score.points
    shown = ""
    if 1 < len(points) <= _FEW_GROUPS:
        shown = f"Each {advice.group or 'group'}: {', '.join(f'{name} {_number(value)}' for name, value in sorted(points.items()))}. "
    return f"{shown}{_one_new(advice)}".strip()


def _one_new(advice: Advice) -> str:
    """Where a single new group lies: the mean over groups is no promise for one of them."""
    found = advice.judged.score.next_group
    if advice.judged.role != ELSEWHERE or found is None:
        return ""
    text = f"One new {advice.group or 'group'} lies {_between(found)}"
    if found.level < advice.judged.score.level:
        text += f", the range of these {found.groups}; 95 % needs {LEAST_FOR_LEVEL}"
    return f"{text}."


def _between(found: NextGroup) -> str:
    return f"between {_number(found.low)} and {_number(found.high)} with a probability of {100 * found.level:.0f} %"


def _place(advice: Advice) -> str:
    nearest = advice.floors.get("floor/nearest", {})
    if HOME not in nearest:
        return "The units have no positions, so what the place alone gives is not known." if advice.place_share is None else ""
    text = f"Coordinates alone reach {_number(nearest[HOME].value)} here"
    if ELSEWHERE in nearest:
        text += f" and {_number(nearest[ELSEWHERE].value)} in a new {advice.group}"
    share, gain = advice.place_share or 0.0, advice.place_gain
    if advice.verdict == "floor" and advice.recommended == "floor/nearest":
        return f"{text}, as much as any model."
    if gain is None or gain.value <= _ROUNDING:
        return f"{text}: no more than always giving the same answer."
    if not gain.significant:
        return f"{text}: over always giving the same answer {_difference(gain)}{_unlike(advice, advice.place_metric)}."
    if share >= ALL:
        return f"{text}: all of the score. The {'classes' if advice.classes else 'high and low values'} lie in different places."
    if share >= MOST:
        return f"{text}: most of the score is knowing the place."
    if share >= PART:
        return f"{text}: part of the score is knowing the place."
    return f"{text}: a small part of the score."


def _unlike(advice: Advice, metric: str) -> str:
    """The metric a difference is in, where it is not that of the scores."""
    return f" in {METRIC_NAMES.get(metric, metric)}" if metric and metric != advice.metric else ""


def _more(advice: Advice) -> str:
    role = advice.judged.role
    gain = advice.more_random.get(role) or advice.more_random.get(HOME)
    if gain is None:
        return "What more labels would bring was not reached in the time given." if advice.stopped else ""
    text = f"{advice.more} more labels at random: {_difference(gain)}"
    clustered = advice.more_clustered.get(role) or advice.more_clustered.get(HOME)
    if clustered is not None:
        text += f"; all labels in a few visited places instead: {_difference(clustered)}"
    return f"{text}{_draws(gain)}."


def _there(advice: Advice) -> str:
    if advice.elsewhere is None:
        return ""
    if advice.more_there is None:
        return "" if not advice.stopped else f"What labels from the new {advice.group} would bring was not reached in the time given."
    gain = advice.more_there
    better = sum(value > 0 for value in gain.points.values())
    seen = f"better in {better} of {len(gain.points)}" if gain.points else ""
    text = f"{advice.more} labels from the new {advice.group} as well: {_difference(gain)}{f', {seen}' if seen else ''}"
    if (clustered := advice.more_there_clustered) is not None:
        text += f"; in a few visited places of it: {_difference(clustered)}"
    alone = "" if gain.next_group is None else f". In one new {advice.group} the gain lies {_between(gain.next_group)}"
    return f"{text}{_draws(gain)}{alone}."


def _open(advice: Advice) -> str:
    settled = "; ".join(f"{what} ({_difference(effect)})" for what, effect in advice.settled)
    unsettled = "; ".join(f"{what}: {_difference(effect)}" for what, effect in advice.unsettled)
    text = f"{settled}. " if settled else ""
    return f"{text}Not settled by these data: {unsettled}." if unsettled else text.strip()


def _basis(advice: Advice) -> str:
    group = advice.group or "area"
    classes = f", {advice.classes} classes" if advice.classes else ""
    sets = ", ".join(f"{name} ({count} columns)" for name, count in advice.features.items()) or "no features"
    left = ""
    if advice.stopped:
        left = f" The time was up after {_count(advice.seeds, 'draw')} of labels of {SEEDS}; more minutes narrow the intervals."
    blocks = f", {advice.blocks.partition(';')[0]}" if advice.blocks else ""
    return (
        f"{advice.units:,} labelled units in {_count(advice.groups, group)}{classes}; {sets}. {advice.cells:,} fits, "
        f"split {advice.split}{blocks}, {advice.seconds:.0f} s.{left} Results: {advice.store}"
    )


def _budgets(advice: Advice) -> list[str]:
    if len(advice.by_budget) < 2:
        return []
    rows = [["Best with", "here", "", f"next {advice.group}" if advice.elsewhere else "", ""]]
    for labels, here, home, there, away in advice.by_budget:
        rows.append([f"{labels:.0f} labels", here, _number(home), there or "", _number(away) if away is not None else ""])
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _confusion(advice: Advice) -> list[str]:
    if not advice.confusion:
        return []
    where = f"in a new {advice.group}" if advice.elsewhere else "here"
    said = [f"What {advice.recommended} takes for what {where} (first draw of labels):"]
    width = max(map(len, advice.confusion))
    taken = {name: sum(row.get(name, 0) for row in advice.confusion.values()) for name in advice.confusion}
    for truth, row in advice.confusion.items():
        total, hit = sum(row.values()), row.get(truth, 0)
        f1 = 2 * hit / (total + taken[truth]) if total + taken[truth] else float("nan")
        wrong = sorted(((count, name) for name, count in row.items() if name != truth), reverse=True)[:3]
        others = ", ".join(f"{name} {count}" for count, name in wrong)
        said.append(f"  {truth:<{width}}  F1 {_number(f1)}  right {hit} of {total}{f'; taken for {others}' if others else ''}")
    return said


def _in_words(advice: Advice) -> str:
    """The recommended model for people who do not know its name."""
    inputs, _, learner = advice.recommended.partition("/")
    count, known = advice.features.get(inputs), LEARNERS.get(learner)
    return f"{known.words if known else learner} on {f'the {count} columns of {inputs}' if count else inputs}"


def _draws(gain: Estimate) -> str:
    """With one draw of labels, chance of the draw is not in the interval."""
    return " (one draw of labels only: another may differ)" if gain.n_seeds < 2 else ""


def _metric(advice: Advice) -> str:
    return METRIC_NAMES.get(advice.metric, advice.metric)


def _score(estimate: Estimate) -> str:
    return (
        f"{_number(estimate.value)} ({_range(estimate)})"
        if estimate.bounds is None
        else f"{_number(estimate.value)}{_ends(estimate.bounds)}"
    )


def _difference(estimate: Estimate) -> str:
    """A difference with its interval; what an interval around zero leaves possible is written out."""
    sign = "+" if estimate.value >= 0 else ""
    found = estimate.bounds
    if found is None:
        return f"{sign}{_number(estimate.value)} ({_range(estimate)})"
    if estimate.significant:
        return f"{sign}{_number(estimate.value)}{_ends(found)}"
    if found.low > 0 or found.high < 0:  # one interval alone says so; among all comparisons made it may be chance
        p = estimate.p if estimate.p_holm is None else estimate.p_holm
        among = "" if estimate.p_holm is None else " over all comparisons made"
        return f"{sign}{_number(estimate.value)}{_ends(found)}, not significant{f' (p {_number(p)}{among})' if p is not None else ''}"
    if max(abs(found.low), abs(found.high)) <= _ROUNDING:
        return "the same score everywhere"
    if max(abs(found.low), abs(found.high)) < _SHOWN:
        return "no difference in two decimals"
    return f"{sign}{_number(estimate.value)}, no effect detected ({_range(estimate)})"


def _ends(bounds: Bounds) -> str:
    """The interval behind a value: ` [.58, .66]`, or ` (median .60 [.58, .66])`."""
    ends = f"[{_number(bounds.low)}, {_number(bounds.high)}]"
    return f" {ends}" if bounds.of == "mean" else f" (median {_number(bounds.value)} {ends})"


def _range(estimate: Estimate) -> str:
    found = estimate.bounds
    if found is None:
        return "no interval: too few groups" if estimate.over == "groups" else "no interval"
    middle = "a median " if found.of == "median" else ""
    return f"{middle}between {_number(found.low)} and {_number(found.high)} is possible"


def _number(value: float | None) -> str:
    """Two decimals without the leading zero, as scores are written; larger numbers to three digits."""
    if value is None or not math.isfinite(value):
        return "?"
    if abs(value) >= 10:
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    text = f"{value:.2f}"
    text = "0.00" if text == "-0.00" else text
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 60 else f"{value / 60:.1f} min"


def _count(number: int, word: str) -> str:
    if number == 1:
        return f"1 {word}"
    plural = f"{word[:-1]}ies" if word.endswith("y") and word[-2] not in "aeiou" else f"{word}s"
    return f"{number} {plural}"
