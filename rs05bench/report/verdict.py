"""The verdict in two sentences, and the facts beside it; every number in them is computed."""

from __future__ import annotations

from itertools import groupby

import pandas as pd

from rs05bench.report.data import Lead, Study
from rs05bench.report.evidence import ELSEWHERE, HOME
from rs05bench.report.style import bracket, elsewhere, metric_name, number, signed, with_interval


def verdict(study: Study, leaders: list[Lead]) -> list[str]:
    """Two sentences: who is best held out at each budget, and whether the lead over every other tier is supported."""
    section = study.section
    if not leaders:
        return [f"No split of these runs holds anything out, so nothing can be said of {section.card.name} elsewhere."]
    where = elsewhere(str(section.lead_split))
    parts = []
    for _, run in groupby(leaders, key=lambda lead: lead.model):
        same = list(run)
        parts.append(f"{same[0].model} ({same[0].tier}) with {_labels(same)} {section.labels_word} ({_scores(same)})")
    first = f"{where[0].upper()}{where[1:]}, the best {metric_name(section.metric)} comes from {_and(parts)}."
    return [first, _support(leaders, section.labels_word)]


def _support(leaders: list[Lead], counted: str) -> str:
    compared = [lead for lead in leaders if lead.difference is not None]
    if not compared and any(lead.rival for lead in leaders):
        rival = leaders[-1]
        return f"Whether it is better than {rival.rival} ({rival.rival_tier}) is open: nothing is kept to test it with."
    if not compared:
        return "Only one tier was run, so there is nothing to compare it with."
    held = [lead for lead in compared if lead.supported]
    open_ = [lead for lead in compared if not lead.supported]
    if not open_:
        least = min(held, key=lambda lead: lead.difference.low)  # type: ignore[union-attr]
        return (
            "Its lead over the best model of any other tier is supported by the paired interval at every budget; "
            f"the narrowest is {_difference(least, counted)}."
        )
    if not held:
        widest = max(open_, key=lambda lead: lead.difference.value)  # type: ignore[union-attr]
        return (
            "No lead over the best model of another tier is supported, since every paired interval holds zero; "
            f"the widest is {_difference(widest, counted)}."
        )
    return (
        f"The lead over the best model of any other tier is supported with {_labels(held)} {counted} ({_over(held[-1])}) "
        f"and not with {_labels(open_)} ({_over(open_[-1])})."
    )


def facts(study: Study, leaders: list[Lead], dropped: pd.DataFrame) -> list[tuple[str, str]]:
    """What one should know beside the verdict: a few words and a sentence each."""
    section, split, budget = study.section, study.section.lead_split, study.lead_budget
    if not leaders or split is None or budget is None:
        return []
    lead, name = leaders[-1], metric_name(section.metric)
    found = []
    overall = (
        dropped[
            (dropped["split"] == split) & (dropped["model"] == lead.model) & (dropped["budget"] == budget) & (dropped["region"] == "all")
        ]
        if not dropped.empty
        else dropped
    )
    if len(overall):
        row = overall.iloc[0]
        found.append(
            (
                "The fall",
                f"On the same ground, {lead.model} has {name} {number(row['home'])} with labels from there and "
                f"{number(row['held_out'])} without: a drop of "
                f"{with_interval(row['value'], row['low'], row['high'])}.",
            )
        )
    floor = study.representatives.get("floor")
    at_home, held = (study.point(split, str(floor), budget, role) for role in (HOME, ELSEWHERE)) if floor else (None, None)
    if at_home is not None and held is not None:
        found.append(
            (
                "The floor",
                f"{floor}, which sees no image, has {name} {with_interval(at_home['value'], at_home['low'], at_home['high'])} at home and "
                f"{with_interval(held['value'], held['low'], held['high'])} held out.",
            )
        )
    chance = study.point("random", lead.model, budget, HOME)
    if chance is not None:
        found.append(
            (
                "Sanity only",
                f"A random split would have promised {with_interval(chance['value'], chance['low'], chance['high'])} for {lead.model}.",
            )
        )
    note = str(lead.score["note"])
    if note:
        found.append(("How sure", f"{note} The leader was picked on these same test blocks, which flatters it a little."))
    return found


def _scores(leaders: list[Lead]) -> str:
    """Scores of one leader, the interval of the last: the one that costs the most labels."""
    return _and([number(float(lead.score["value"])) for lead in leaders[:-1]] + [_scored(leaders[-1])])


def _scored(lead: Lead) -> str:
    return with_interval(lead.score["value"], lead.score["low"], lead.score["high"])


def _over(lead: Lead) -> str:
    assert lead.difference is not None
    gap = lead.difference
    # An end that two digits would show as zero gets a third, so that the reader sees on which side of it the end lies.
    digits = 3 if any(0 < abs(end) < 0.005 for end in (gap.value, gap.low, gap.high)) else 2
    return f"{f'{signed(gap.value, digits)} {bracket(gap.low, gap.high, digits)}'.rstrip()} over {lead.rival}"


def _difference(lead: Lead, counted: str) -> str:
    return f"{_over(lead)} ({lead.rival_tier}) with {lead.labels:.0f} {counted}"


def _labels(leaders: list[Lead]) -> str:
    return _and([f"{lead.labels:.0f}" for lead in leaders])


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
