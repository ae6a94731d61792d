"""What one should know next to the answer of a task; every number in it is computed."""

from __future__ import annotations

import pandas as pd

from rs05bench.protocol.independence import independence
from rs05bench.protocol.inference.power import detectable
from rs05bench.report.data import Lead, Study
from rs05bench.report.evidence import ELSEWHERE, HOME, Key
from rs05bench.report.style import metric_name, number, with_interval


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
                f"{with_interval(row)}.",
            )
        )
    floor = study.representatives.get("floor")
    at_home, held = (study.point(split, str(floor), budget, role) for role in (HOME, ELSEWHERE)) if floor else (None, None)
    if at_home is not None and held is not None:
        found.append(
            (
                "The floor",
                f"{floor}, which sees no image, has {name} {with_interval(at_home)} at home and {with_interval(held)} held out.",
            )
        )
    chance = study.point("random", lead.model, budget, HOME)
    if chance is not None:
        found.append(
            (
                "Sanity only",
                f"A random split would have promised {with_interval(chance)} for {lead.model}.",
            )
        )
    found += _power(study, lead, split, name)
    note = str(lead.score["note"])
    if note:
        found.append(("How sure", f"{note} The leader was picked on these same test blocks, which flatters it a little."))
    return found


def _power(study: Study, lead: Lead, split: str, name: str) -> list[tuple[str, str]]:
    """What so many groups can show, and whether they are independent draws."""
    found = []
    size = detectable(lead.difference) if lead.difference is not None else float("nan")
    if lead.difference is not None and size == size:
        found.append(
            (
                "Power",
                f"Between {lead.model} and {lead.rival}, {lead.difference.n_groups} groups as unlike as these show a difference of "
                f"{number(size)} in {name} with 80 % probability; smaller ones are mostly missed.",
            )
        )
    manifest = study.section.manifest(split)
    checked = None if manifest is None else independence(study.pool, study.points[Key(split, lead.model, lead.budget)], ELSEWHERE, manifest)
    if checked is not None and checked.sentence:
        found.append(("Independence", checked.sentence))
    return found
