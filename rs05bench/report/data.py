"""From a run folder to tidy frames: every number a report shows is computed here, and each frame is what a figure's CSV holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.protocol.compared_sides import Difference, Drop, Side
from rs05bench.protocol.comparison import against_floor, differences, drop_of, score_of, score_of_sums
from rs05bench.protocol.inference.estimate import Bounds, Estimate
from rs05bench.protocol.kept import KeptSums
from rs05bench.protocol.metrics import Confusion, Sums
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.protocol.result import TIERS, Result
from rs05bench.report.evidence import ELSEWHERE, HOME, Key, checked_pool
from rs05bench.report.loading import Section
from rs05bench.report.style import ENDS

WHERE = {HOME: "at home", ELSEWHERE: "held out"}


@dataclass(frozen=True)
class Study:
    """A section with what is picked from it to be shown.

    Attributes:
        section: The results.
    """

    section: Section

    @cached_property
    def pool(self) -> Pool:
        """The section's results, grouped into points, their sums checked."""
        return checked_pool(self.section)

    @cached_property
    def points(self) -> dict[Key, Point]:
        """The point of every curve's key."""
        return {Key(point.split, point.model, point.budget): point for point in self.pool.points}

    @property
    def regression(self) -> bool:
        """Whether numbers are predicted."""
        return self.section.card.kind == "regression"

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes for people; None where the card gives none."""
        return tuple(self.section.card.class_names) if self.section.card.class_names else None

    def names(self, sums: Sums) -> tuple[str, ...]:
        """Names of the classes of some sums; empty for a regression."""
        return self.class_names or (sums.classes if isinstance(sums, Confusion) else ())

    def key(self, split: str, model: str, budget: str) -> Key:
        """The key of a point."""
        return Key(split, model, budget)

    def lead_key(self, model: str) -> Key:
        """The key of a model under the largest budget of the lead split; where none holds anything out, of the first split."""
        split = self.section.lead_split or self.section.splits[0]
        return Key(split, model, self.section.budgets[split][-1])

    @property
    def tested_role(self) -> str:
        """Units that errors are shown on: held out, or the test blocks of the one area there is."""
        return ELSEWHERE if self.section.lead_split else HOME

    def fits(self, key: Key, metric: str, role: str, where: tuple[str, str] | None = None) -> list[Sums]:
        """Kept sums of a point, a fit each, in order of seeds; only rows with a value in a group column where one is named."""
        point = self.points.get(key)
        return [] if point is None else list(self.pool.fits(point, metric, role, where=where).values())

    def kept(self, key: Key, role: str) -> list[KeptSums]:
        """Kept sums of every cell of a point."""
        point = self.points.get(key)
        found = [] if point is None else [self.pool.kept(result, role) for result in self.pool.points[point]]
        return [kept for kept in found if kept is not None]

    def regions(self, key: Key) -> dict[str, str]:
        """Region of each cluster of a point's sums."""
        return self.pool.regions(self.points[key])

    def cells(self, key: Key) -> list[Result]:
        """Results of a point; none where it was not run."""
        point = self.points.get(key)
        return [] if point is None else self.pool.points[point]

    @cached_property
    def estimates(self) -> pd.DataFrame:
        """Scores of every split, model, budget and role, with intervals."""
        return estimate_scores(self)

    @cached_property
    def lead_budget(self) -> str | None:
        """The largest budget of the split the verdict is about."""
        split = self.section.lead_split
        return self.section.budgets[split][-1] if split else None

    @cached_property
    def representatives(self) -> dict[str, str]:
        """The model of each tier that is best held out over all budgets of the lead split; random twins only where alone."""
        split = self.section.lead_split or self.section.splits[0]
        return best_of_tier(self.section, self.estimates, split)

    def point(self, split: str, model: str, budget: str, role: str) -> pd.Series | None:
        """One row of `estimates`, or None."""
        table = self.estimates
        found = table[(table["split"] == split) & (table["model"] == model) & (table["budget"] == budget) & (table["role"] == role)]
        return None if found.empty else found.iloc[0]


def estimate_scores(study: Study) -> pd.DataFrame:
    """Scores with intervals: a row a split, model, budget and role. `value` is the mean over groups, `pooled` the score of all units."""
    section = study.section
    rows = []
    for key, point in study.points.items():
        for role in (HOME, ELSEWHERE):
            score = score_of(study.pool, point, role, section.metric)
            if score is None:
                continue
            rows.append(
                {
                    "split": key.split,
                    "model": key.model,
                    "tier": score.tier,
                    "budget": key.budget,
                    # Whole labels, halves up, so that text and axes say the same.
                    "labels": float(np.floor(score.labels + 0.5)),
                    "role": role,
                    "where": WHERE[role],
                    "metric": section.metric,
                    **plain_estimate(score.estimate),
                    "pooled": score.pooled,
                    "cells": len(score.digests),
                }
            )
    table = pd.DataFrame(rows)
    order = {tier: position for position, tier in enumerate(TIERS)}
    table["_tier"] = table["tier"].map(order)
    table["_split"] = table["split"].map({name: position for position, name in enumerate(section.splits)})
    return (
        table.sort_values(["_split", "_tier", "model", "labels", "role"], kind="stable")
        .drop(columns=["_tier", "_split"])
        .reset_index(drop=True)
    )


def interval(fits: Sequence[Sums], metric: str, groups: Mapping[str, str]) -> Estimate:
    """The score of some units from their sums: the mean over the groups that `groups` gives each cluster, with interval."""
    return score_of_sums(fits, metric, groups)


def plain_estimate(estimate: Estimate) -> dict[str, Any]:
    """An estimate as columns of a frame."""
    middle = estimate.median or Bounds("median", np.nan, np.nan, np.nan)
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "p": estimate.p,
        "new_low": estimate.new_low,
        "new_high": estimate.new_high,
        "new_level": estimate.new_level,
        "median": middle.value,
        "median_low": middle.low,
        "median_high": middle.high,
        "over": estimate.over,
        "groups": estimate.n_groups,
        "blocks": estimate.n_blocks,
        "seeds": estimate.n_seeds,
        "note": estimate.note,
    }


def best_of_tier(section: Section, estimates: pd.DataFrame, split: str) -> dict[str, str]:
    """The model of each tier with the best mean held-out score over a split's budgets (at home where nothing is held out)."""
    table = estimates[estimates["split"] == split]
    held = table[table["role"] == ELSEWHERE]
    table = table if held.empty else held
    best: dict[str, str] = {}
    for tier, rows in table.groupby("tier", sort=False):
        twins = rows["model"].map(lambda name: section.models[name].random_twin)
        rows = rows if twins.all() else rows[~twins]
        means = rows.groupby("model")["value"].mean()
        best[str(tier)] = str(means.idxmax() if section.higher_is_better else means.idxmin())
    return {tier: best[tier] for tier in TIERS if tier in best}


@dataclass(frozen=True)
class Lead:
    """Who leads out of domain at one budget, and by how much.

    Attributes:
        budget: Budget.
        labels: Labels it holds.
        model: The best model held out.
        tier: Its tier.
        score: Its held-out score.
        rival: The best model of any other tier; None when there is no other.
        rival_tier: Its tier.
        difference: Leader minus rival on the same test units, positive where the leader is better, its p corrected over all budgets;
            None when not comparable.
    """

    budget: str
    labels: float
    model: str
    tier: str
    score: pd.Series
    rival: str | None = None
    rival_tier: str | None = None
    difference: Estimate | None = None

    @property
    def supported(self) -> bool:
        """Whether the leader is significantly better."""
        return self.difference is not None and self.difference.value > 0 and self.difference.significant


def leads(study: Study) -> list[Lead]:
    """The leader at every budget of the lead split, fewest labels first."""
    section, split = study.section, study.section.lead_split
    if split is None:
        return []
    found = []
    table = study.estimates[(study.estimates["split"] == split) & (study.estimates["role"] == ELSEWHERE)]
    for budget in section.budgets[split]:
        rows = table[table["budget"] == budget].dropna(subset=["value"]).sort_values("value", ascending=not section.higher_is_better)
        if rows.empty:
            continue
        first = rows.iloc[0]
        others = rows[rows["tier"] != first["tier"]]
        second = None if others.empty else others.iloc[0]
        rival = (None, None) if second is None else (str(second["model"]), str(second["tier"]))
        found.append(Lead(budget, float(first["labels"]), first["model"], first["tier"], first, *rival))
    pairs = [(str(split), lead.budget, lead.model, str(lead.rival)) for lead in found if lead.rival is not None]
    gaps = iter(compare_models(study, pairs))
    return [lead if lead.rival is None else replace(lead, difference=_tested(next(gaps))) for lead in found]


def best_here(study: Study) -> pd.Series | None:
    """The best row of estimates where nothing is held out: the first split's largest budget, on its test blocks."""
    split = study.section.splits[0]
    table = study.estimates[(study.estimates["split"] == split) & (study.estimates["budget"] == study.section.budgets[split][-1])]
    rows = table[table["role"] == HOME].dropna(subset=["value"]).sort_values("value", ascending=not study.section.higher_is_better)
    return None if rows.empty else rows.iloc[0]


def _tested(gap: Difference | None) -> Estimate | None:
    return gap.effect if gap is not None and gap.effect.p is not None else None


def compare_models(study: Study, pairs: Sequence[tuple[str, str, str, str]], role: str = ELSEWHERE) -> list[Difference | None]:
    """How much better one model is than another on the same test units, p-values corrected over all pairs.

    Args:
        study: The section.
        pairs: (split, budget, one, other) of each.
        role: `test_ood` or `test_id`.
    """
    sides = [tuple(Side.score(study.points[Key(split, name, budget)], role) for name in (a, b)) for split, budget, a, b in pairs]
    return differences(study.pool, [(one, other) for one, other in sides], study.section.metric)


def unbeaten_floor(study: Study, split: str, budget: str, model: str, role: str) -> str | None:
    """The best baseline without imagery where the model is not significantly above it; None where it is, or is one, or none was run.

    p-values are corrected over all models of that budget, since the model was picked among them.
    """
    section = study.section
    table = study.estimates.query("split == @split and budget == @budget and role == @role").dropna(subset=["value"])
    floors = table[table["tier"] == "floor"].sort_values("value", ascending=not section.higher_is_better)["model"]
    models = [str(name) for name in table["model"][table["tier"] != "floor"]]
    if floors.empty or model not in models:
        return None
    floor = str(floors.iloc[0])
    points = {name: study.points[Key(split, name, budget)] for name in (floor, *models)}
    asked = [against_floor(study.pool, [points[name]], points[floor], section.metric, role) for name in models]
    made = differences(study.pool, [sides for sides, _ in asked], [metric for _, metric in asked])
    found = made[models.index(model)]
    return None if found is not None and found.effect.significant and found.effect.value > 0 else floor


def drops(study: Study) -> pd.DataFrame:
    """The drop on the same test units: a row a split, model and budget (`region` is "all", the mean over groups), and one a group."""
    rows: list[dict[str, Any]] = []
    for split in study.section.main_splits:
        for key, point in study.points.items():
            drop = drop_of(study.pool, point, study.section.metric) if key.split == split else None
            if drop is None:
                continue
            head = {"split": split, "model": key.model, "tier": drop.tier, "budget": key.budget}
            rows.append(head | {"region": "all", "home": drop.at_home, "held_out": drop.held_out} | plain_estimate(drop.drop))
            rows += [head | row for row in _by_group(drop)]
    return pd.DataFrame(rows)


def _by_group(drop: Drop) -> list[dict[str, Any]]:
    return [{"region": entry.group, "home": entry.at_home, "held_out": entry.held_out, "value": entry.drop} for entry in drop.groups]


def costs(study: Study) -> pd.DataFrame:
    """Cost against held-out score of every model at the lead split's largest budget; `frontier` marks those nothing cheaper beats."""
    section, split, budget = study.section, study.section.lead_split, study.lead_budget
    if split is None:
        return pd.DataFrame()
    table = study.estimates
    table = table[(table["split"] == split) & (table["budget"] == budget) & (table["role"] == ELSEWHERE)]
    rows = []
    for _, point in table.iterrows():
        cells = study.cells(Key(split, point["model"], str(budget)))
        alone = [section.costs[result.digest] for result in cells if result.digest in section.costs]
        measured = alone or [result.cost for result in cells]
        rows.append(
            {
                "model": point["model"],
                "tier": point["tier"],
                "labels": point["labels"],
                **{name: point[name] for name in ENDS},
                "fit_s": _median(cost.fit_s for cost in measured),
                "predict_s_per_1000": _median(cost.predict_s_per_1000 for cost in measured),
                "peak_memory_mb": _median(cost.peak_memory_mb for cost in measured),
                "device_hours": _median(cost.device_hours for cost in measured),
                "parameters_total": _median(cost.parameters_total for cost in measured),
                "parameters_trainable": _median(cost.parameters_trainable for cost in measured),
                "alone": bool(alone),
                "hardware": next((cost.hardware for cost in measured if cost.hardware), ""),
            }
        )
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    frame = frame.sort_values("fit_s", kind="stable", na_position="last").reset_index(drop=True)
    sign = 1.0 if section.higher_is_better else -1.0
    best = -np.inf
    frontier = []
    for value, seconds in zip(sign * frame["value"], frame["fit_s"], strict=True):
        on = bool(np.isfinite(seconds) and value > best)
        best = max(best, value) if on else best
        frontier.append(on)
    return frame.assign(frontier=frontier)


def _median(values: Any) -> float:
    known = [float(value) for value in values if value is not None]
    return float(np.median(known)) if known else np.nan


def summary_table(study: Study, dropped: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The table of a section: a row a split, model and budget with scores, drop, calibration and cost.

    Args:
        study: The section.
        dropped: What `drops` gives.
        cells: A row a cell (`rs05bench.experiment.results.results_table`).
    """
    wide = study.estimates.pivot_table(
        index=["split", "tier", "model", "budget", "labels"], columns="role", values=list(ENDS), sort=False, dropna=False
    )
    wide = wide.dropna(how="all").dropna(how="all", axis=1)
    names = {HOME: "home", ELSEWHERE: "held_out"}
    wide.columns = [f"{names[role]}{'' if what == 'value' else '_' + what}" for what, role in wide.columns]
    wide = wide.reset_index()
    overall = dropped[dropped["region"] == "all"] if not dropped.empty else pd.DataFrame(columns=["split", "model", "budget"])
    if not overall.empty:
        picked = overall[["split", "model", "budget", *ENDS]].dropna(how="all", axis=1)
        names = {name: "drop" if name == "value" else f"drop_{name}" for name in ENDS}
        wide = wide.merge(picked.rename(columns=names), on=["split", "model", "budget"], how="left")
    means = {
        name: (name, "mean")
        for name in ("ece_debiased_ood", "coverage90_ood", "fit_s", "predict_s_per_1000", "peak_memory_mb")
        if name in cells.columns
    }
    if means:
        wide = wide.merge(
            cells.groupby(["split", "model", "budget"]).agg(**means).reset_index(), on=["split", "model", "budget"], how="left"
        )
    return wide
