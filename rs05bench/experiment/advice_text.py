"""Advice in words: what `rs05bench advise` prints, for a person with a field to map and a week to do it in."""

from __future__ import annotations

import math

from rs05bench.experiment.advice import ELSEWHERE, HOME, SEEDS, Advice
from rs05bench.protocol.inference.intervals import Estimate

METRIC_NAMES = {
    "macro_f1": "macro-F1",
    "r2": "R2",
    "mae": "MAE",
    "rmse": "RMSE",
    "overall_accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
}

LEARNERS = {"logistic": "logistic regression", "ridge": "ridge regression", "rf": "a random forest"}

MEANINGS = {
    "macro_f1": "macro-F1 is the mean over classes of how well each is found and how rarely it is said wrongly: 1 is perfect.",
    "r2": "R2 is the share of the variation that is explained: 1 is perfect, 0 is no better than the mean, below 0 is worse.",
}

PART = 0.2
"""From this share of the best model's gain over the plain floor on, coordinates alone are said to explain part of the score."""


def lines(advice: Advice) -> list[str]:
    """The advice, a line a statement; the first says what the data are, the second what to do."""
    group = advice.group or "place"
    said = [_data(advice), _do(advice)]
    width = max(len(choice.model) for choice in (advice.here, advice.elsewhere or advice.here))
    first = f"Here (new {'dates' if advice.in_time else 'places'}, same {group})"
    second = f"Next {group}"
    said.append(f"{first:<{len(first) + 3}}{advice.here.model:<{width}}   {_metric(advice)} {_score(advice.here.score)}")
    if advice.elsewhere:
        drop = f"   drop {_score(advice.drop)}" if advice.drop else ""
        said.append(
            f"{second:<{len(first) + 3}}{advice.elsewhere.model:<{width}}   {_metric(advice)} {_score(advice.elsewhere.score)}{drop}"
        )
    said += [
        line
        for line in (_over_floor(advice), _alike(advice), _place(advice), _there(advice), _here(advice), _larger(advice), _inputs(advice))
        if line
    ]
    said += [*_budgets(advice), _cost(advice), MEANINGS.get(advice.metric, ""), *advice.notes, _basis(advice)]
    if advice.simulated:
        said.insert(0, "SIMULATED data: this shows what the command does and says nothing about the Earth.")
    return [line for line in said if line]


def _data(advice: Advice) -> str:
    group = advice.group or "place"
    classes = f", {advice.classes} classes" if advice.classes else ""
    bands = f"{advice.bands} AlphaEarth bands" if advice.bands else "no AlphaEarth bands"
    others = _count(advice.columns, "other feature column")
    return (
        f"{advice.labels} labels (validation included) out of {advice.units:,} units in {_count(advice.groups, group)}{classes}; "
        f"{bands} and {others} found."
    )


def _do(advice: Advice) -> str:
    judged = advice.elsewhere or advice.here
    if advice.recommended.startswith("floor/"):
        return (
            f"No model beats {advice.recommended}, which sees no image: with {advice.labels} labels these inputs do not tell. "
            "Label more, or get other inputs."
        )
    where = f"in the next {advice.group}" if advice.elsewhere else "here"
    if advice.recommended == judged.model:
        alone = _leads(judged.lead) and len(judged.alike) == 1
        why = f"the best {where}" if alone else f"the best {where}, though not by more than chance"
    else:
        why = f"cheapest of those that cannot be told from the best {where} ({judged.model})"
    shown = {HOME: advice.here.model, ELSEWHERE: advice.elsewhere.model if advice.elsewhere else advice.here.model}
    words = {HOME: "here", ELSEWHERE: f"in the next {advice.group}"}
    others = [f"{_number(score.value)} {words[role]}" for role, score in advice.reaches.items() if shown[role] != advice.recommended]
    said = f"Use {advice.recommended}: {why}{f'; it reaches {_both(others)}' if others else ''}."
    return f"{said} That is {_in_words(advice)}."


def _in_words(advice: Advice) -> str:
    """The recommended model for people who do not know its name."""
    inputs, _, learner = advice.recommended.partition("/")
    other = f"the {advice.columns} other feature columns" if advice.columns != 1 else "the other feature column"
    read = {"alphaearth": f"the {advice.bands} AlphaEarth bands", "raw": other, "hybrid": "AlphaEarth bands and other columns together"}
    return f"{LEARNERS.get(learner, learner)} on {read.get(inputs, f'the feature set {inputs}')}"


def _both(parts: list[str]) -> str:
    return " and ".join(parts)


def _over_floor(advice: Advice) -> str:
    """Where the best model is not told from a floor, nobody should map with it."""
    said = []
    for choice, where in ((advice.here, "here"), (advice.elsewhere, f"in the next {advice.group}")):
        if choice is not None and choice.over_floor is not None and not _leads(choice.over_floor):
            said.append(f"{where} ({choice.model} is {_signed(choice.over_floor)})")
    if not said:
        return ""
    return (
        f"Caution: not told from a floor, which sees no image, {' nor '.join(said)}: a map of that ground rests on hope. "
        "Label more, or get other inputs."
    )


def _alike(advice: Advice) -> str:
    judged = advice.elsewhere or advice.here
    others = [name for name in judged.alike if name != judged.model]
    if not others:
        return ""
    where = f"In the next {advice.group}" if advice.elsewhere else "Here"
    return f"{where} these data cannot tell {judged.model} from {_listed(others)}: the intervals of the differences hold zero."


def _place(advice: Advice) -> str:
    plain = next((name for name in advice.floors if name != "floor/nearest"), None)
    base = advice.floors.get(plain, {}) if plain else {}
    word = "majority" if advice.classes else "mean"
    nearest = advice.floors.get("floor/nearest")
    if nearest is None:
        alone = f" Always saying the {word} reaches {_number(base[HOME].value)} here" if HOME in base else ""
        alone += (
            f" and {_number(base[ELSEWHERE].value)} in the next {advice.group}." if ELSEWHERE in base and alone else "." if alone else ""
        )
        return f"The units have no positions, so what knowing the place alone gives cannot be told.{alone}"
    if HOME not in nearest:
        return ""
    text = f"Coordinates alone reach {_number(nearest[HOME].value)} at home"
    if ELSEWHERE in nearest:
        text += f" and {_number(nearest[ELSEWHERE].value)} next door"
    if HOME in base:
        text += f" (always saying the {word}: {_number(base[HOME].value)})"
    if advice.place_counts is None or not advice.place_counts.low > 0:
        return f"{text}: knowing the place explains none of the score here, as far as these data tell."
    best = advice.here.score.value - base[HOME].value
    share = advice.place_counts.value / abs(best) if best else 1.0
    return f"{text}: {'part' if share >= PART else 'little'} of the score here is knowing the place."


def _there(advice: Advice) -> str:
    entry = advice.more_there
    if entry is None or entry.gain is None:
        return "" if advice.elsewhere is None else "What labels from the new place would bring was not reached in the time given."
    count = f"{entry.extra_labels:.0f} more labels in the new {advice.group}"
    seen = f"better in {entry.better_on} of {_count(entry.grounds, advice.group or 'fold' if entry.grounds == advice.groups else 'fold')}"
    seen += _draws(entry.gain)
    if entry.gain.low > 0:
        return f"{count} would bring about {_signed(entry.gain)} ({seen})."
    if entry.gain.high < 0:
        return f"{count} made it worse by {_number(-entry.gain.value)} ({seen}): mixing them in plainly does not help."
    return f"{count} would bring nothing that these data can show: {_signed(entry.gain)} ({seen})."


def _here(advice: Advice) -> str:
    if not advice.more_here:
        return ""
    parts = []
    for role, word in ((HOME, "here"), (ELSEWHERE, f"in the next {advice.group}")):
        gain = advice.more_here.get(role)
        if gain is not None:
            parts.append(f"{_signed(gain)} {word}{'' if gain.low > 0 or gain.high < 0 else ' (not told from nothing)'}")
    once = _draws(next(iter(advice.more_here.values())))
    return f"{advice.more} more labels from where you have labels already: {' and '.join(parts)}{once}."


def _draws(gain: Estimate) -> str:
    """With one draw of labels, chance of the draw is not in the interval."""
    return ", by one draw of labels only: another may differ" if gain.n_seeds < 2 else ""


def _larger(advice: Advice) -> str:
    if advice.larger is None:
        return ""
    forest, linear, gain = advice.larger
    if gain.low > 0:
        return f"The larger learner pays: {forest} is {_signed(gain)} over {linear}."
    if gain.high < 0:
        return f"A larger model is not supported by these data: {forest} is {_signed(gain)} against {linear}."
    return f"A larger model is not supported by these data: {forest} and {linear} differ by {_signed(gain)}."


def _inputs(advice: Advice) -> str:
    if advice.inputs is None:
        return ""
    embedding, raw, gain = advice.inputs
    if gain.low > 0:
        return f"The embedding is worth having: {embedding} is {_signed(gain)} over {raw}."
    if gain.high < 0:
        return f"The embedding does not pay here: {embedding} is {_signed(gain)} against {raw}."
    return f"Whether the embedding beats the raw columns cannot be told: {embedding} against {raw} {_signed(gain)}."


def _budgets(advice: Advice) -> list[str]:
    if len(advice.by_budget) < 2:
        return []
    rows = [["Best with", "here", "", f"next {advice.group}" if advice.elsewhere else "", ""]]
    for labels, here, home, there, away in advice.by_budget:
        rows.append([f"{labels:.0f} labels", here, _number(home), there or "", _number(away) if away is not None else ""])
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cost(advice: Advice) -> str:
    if not math.isfinite(advice.fit_s):
        return ""
    return (
        f"{advice.recommended} costs {advice.labels_used:.0f} labels, {_seconds(advice.fit_s)} to fit "
        f"and {_seconds(advice.predict_s_per_1000)} per 1,000 units on one core "
        f"({advice.hardware or 'this machine'}, measured beside other work)."
    )


def _basis(advice: Advice) -> str:
    left = (
        f" The time was up before all {SEEDS} draws of labels were run ({advice.seeds} {'is' if advice.seeds == 1 else 'are'} complete); "
        "more minutes narrow the intervals."
        if advice.stopped
        else ""
    )
    return (
        f"From {advice.cells:,} fits ({len(advice.models)} models, {_count(advice.seeds, 'draw')} of labels, split {advice.split}) "
        f"in {advice.seconds:.0f} s.{left} Intervals are 95 %. Results: {advice.store}"
    )


def _leads(lead: Estimate | None) -> bool:
    return lead is not None and lead.low > 0


def _metric(advice: Advice) -> str:
    return METRIC_NAMES.get(advice.metric, advice.metric)


def _score(estimate: Estimate) -> str:
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return f"{_number(estimate.value)} (no interval: too few test blocks)"
    return f"{_number(estimate.value)} [{_number(estimate.low)}, {_number(estimate.high)}]"


def _signed(estimate: Estimate) -> str:
    sign = "+" if estimate.value >= 0 else ""
    return f"{sign}{_score(estimate)}"


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


def _listed(names: list[str]) -> str:
    shown = names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} others"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
