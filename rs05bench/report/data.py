"""From a run folder to tidy frames: every number a report shows is computed here, and each frame is what a figure's CSV holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.errors import ProtocolError
from rs05bench.protocol.inference import Estimate, ood_drop, paired_difference, score_interval
from rs05bench.protocol.inference.intervals import Method
from rs05bench.protocol.result import TIERS, Result
from rs05bench.report.evidence import ELSEWHERE, HOME, Evidence, Key, Stats, Truth, read_units
from rs05bench.report.loading import Section

ENOUGH_FITS = 3
DRAWS = 1000
WHERE = {HOME: "at home", ELSEWHERE: "held out"}


@dataclass(frozen=True)
class Study:
    """A section with its evidence and what is picked from it to be shown.

    Attributes:
        section: The results.
        evidence: Sums per cluster.
    """

    section: Section
    evidence: Evidence

    @cached_property
    def truth(self) -> Truth:
        """Labels as numbers."""
        return Truth.of(self.section)

    @cached_property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes for people; None for a regression, or for chips whose card gives no names."""
        card = self.section.card
        if card.class_names:
            return tuple(card.class_names)
        return self.truth.classes if self.section.labels is not None else None

    @cached_property
    def estimates(self) -> pd.DataFrame:
        """Scores of every split, model, budget and role, with intervals."""
        return estimate_scores(self.section, self.evidence)

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

    @cached_property
    def _read(self) -> dict[str, pd.DataFrame]:
        return {}

    def units(self, model: str) -> pd.DataFrame:
        """Predictions of a model under the lead split's largest budget, every fold and seed; empty where it was not run there."""
        if model not in self._read:
            cells = self.evidence.cells.get(Key(str(self.section.lead_split), model, str(self.lead_budget)))
            self._read[model] = read_units(self.section, self.truth, cells) if cells else pd.DataFrame()
        return self._read[model]

    def point(self, split: str, model: str, budget: str, role: str) -> pd.Series | None:
        """One row of `estimates`, or None."""
        table = self.estimates
        found = table[(table["split"] == split) & (table["model"] == model) & (table["budget"] == budget) & (table["role"] == role)]
        return None if found.empty else found.iloc[0]


def estimate_scores(section: Section, evidence: Evidence) -> pd.DataFrame:
    """Scores with intervals: a row a split, model, budget and role."""
    rows = []
    for key, cells in evidence.cells.items():
        used = [result.budget.get("labels_used") for result in cells]
        # Whole labels, halves up, so that text and axes say the same.
        labels = float(np.floor(np.mean([value for value in used if value]) + 0.5)) if any(used) else np.nan
        for role in (HOME, ELSEWHERE):
            estimate = _score(section, evidence, key, role, cells)
            if estimate is None:
                continue
            rows.append(
                {
                    "split": key.split,
                    "model": key.model,
                    "tier": section.models[key.model].tier,
                    "budget": key.budget,
                    "labels": labels,
                    "role": role,
                    "where": WHERE[role],
                    "metric": section.metric,
                    **plain_estimate(estimate),
                    "cells": len(cells),
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


def _score(section: Section, evidence: Evidence, key: Key, role: str, cells: Sequence[Result]) -> Estimate | None:
    fits = evidence.fits(key, role)
    if fits:
        return interval(fits, section.metric, evidence.groups[key.split])
    # Results of chips that an earlier version wrote keep no sums: the mean over cells is shown, as points and without an interval.
    values = [result.scores[role][section.metric] for result in cells if section.metric in result.scores.get(role, {})]
    if not values:
        return None
    seeds = len({result.cell.seed for result in cells})
    note = "Mean over folds and seeds; no interval, since sums per cluster are not kept."
    return Estimate(float(np.mean(values)), np.nan, np.nan, 0.95, np.nan, "none", "none", 0, 0, seeds, None, {}, note)


def interval(fits: Sequence[Stats], metric: str, groups: Any) -> Estimate:
    """A score's interval; two fits say next to nothing of how fits differ, so it then holds for these fits, and its note says so."""
    method: Method = "studentised" if 1 < len(fits) < ENOUGH_FITS else "auto"
    return score_interval(_united(fits), metric, groups=groups, method=method, draws=DRAWS)


def _united(fits: Sequence[Stats]) -> list[Any]:
    """Fits over the clusters that all of them have: an unfinished sweep has seeds that lack a fold."""
    common = sorted(set.intersection(*(set(fit.clusters) for fit in fits)))
    return [fit if len(fit.clusters) == len(common) else fit.select(common) for fit in fits]


def plain_estimate(estimate: Estimate) -> dict[str, Any]:
    """An estimate as columns of a frame."""
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "p": estimate.p,
        "interval": estimate.method,
        "scope": estimate.scope,
        "groups": estimate.n_groups,
        "clusters": estimate.n_clusters,
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
        difference: Leader minus rival on the same test blocks, positive where the leader is better; None when not comparable.
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
        """Whether the paired interval leaves out zero."""
        return self.difference is not None and bool(self.difference.low > 0)


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
        if others.empty:
            found.append(Lead(budget, float(first["labels"]), first["model"], first["tier"], first))
            continue
        second = others.iloc[0]
        difference = compare(study, split, budget, str(first["model"]), str(second["model"]))
        found.append(
            Lead(budget, float(first["labels"]), first["model"], first["tier"], first, second["model"], second["tier"], difference)
        )
    return found


def compare(study: Study, split: str, budget: str, one: str, other: str, role: str = ELSEWHERE) -> Estimate | None:
    """How much better one model is than another on the same test blocks (positive = better); None when they share none."""
    evidence, metric = study.evidence, study.section.metric
    sides = [evidence.stats.get((Key(split, name, budget), role), {}) for name in (one, other)]
    seeds = sorted(set(sides[0]) & set(sides[1]))
    if not seeds:
        return None
    both = _united([side[seed] for side in sides for seed in seeds])
    a, b = both[: len(seeds)], both[len(seeds) :]
    if not study.section.higher_is_better:
        a, b = b, a
    return paired_difference(a, b, metric, groups=evidence.groups[split])


def drops(study: Study) -> pd.DataFrame:
    """The drop on the same ground: a row a split, model and budget (`region` is "all"), and one a region."""
    section, evidence = study.section, study.evidence
    rows: list[dict[str, Any]] = []
    for split in section.main_splits:
        manifest = section.manifest(split)
        if manifest is None or manifest.grounds().empty:
            continue
        for key in evidence.keys(split):
            home, away = evidence.fits(key, HOME), evidence.fits(key, ELSEWHERE)
            if not home or len(home) != len(away):
                continue
            both = _united([*home, *away])
            home, away = both[: len(home)], both[len(home) :]
            try:
                drop = ood_drop(home, away, section.metric, groups=evidence.groups[split])
            except ProtocolError:
                continue
            head = {"split": split, "model": key.model, "tier": section.models[key.model].tier, "budget": key.budget}
            scores = {"home": _mean_score(home, section), "held_out": _mean_score(away, section)}
            rows.append(head | {"region": "all"} | scores | plain_estimate(drop))
            rows += [head | row for row in _by_region(home, away, evidence.groups[split], section)]
    return pd.DataFrame(rows)


def _mean_score(fits: Sequence[Stats], section: Section) -> float:
    return float(np.mean([fit.evaluate(section.metric, fit.vectors.sum(0)) for fit in fits]))


def _by_region(home: Sequence[Stats], away: Sequence[Stats], region_of: Any, section: Section) -> list[dict[str, Any]]:
    sides = []
    for fits in (home, away):
        by_region: dict[str, list[float]] = {}
        for fit in fits:
            grouped = fit.regroup([region_of[name] for name in fit.clusters])
            scores = np.atleast_1d(grouped.evaluate(section.metric, np.asarray(grouped.vectors)))
            for name, score in zip(grouped.clusters, scores.tolist(), strict=True):
                by_region.setdefault(name, []).append(float(score))
        sides.append({name: float(np.mean(values)) for name, values in by_region.items()})
    at_home, held = sides
    sign = 1.0 if section.higher_is_better else -1.0
    return [
        {"region": name, "home": at_home[name], "held_out": held[name], "value": sign * (at_home[name] - held[name])}
        for name in sorted(at_home)
        if name in held
    ]


def costs(study: Study) -> pd.DataFrame:
    """Cost against held-out score of every model at the lead split's largest budget; `frontier` marks those nothing cheaper beats."""
    section, split, budget = study.section, study.section.lead_split, study.lead_budget
    if split is None:
        return pd.DataFrame()
    table = study.estimates
    table = table[(table["split"] == split) & (table["budget"] == budget) & (table["role"] == ELSEWHERE)]
    rows = []
    for _, point in table.iterrows():
        cells = study.evidence.cells[Key(split, point["model"], str(budget))]
        alone = [section.costs[result.digest] for result in cells if result.digest in section.costs]
        measured = alone or [result.cost for result in cells]
        rows.append(
            {
                "model": point["model"],
                "tier": point["tier"],
                "labels": point["labels"],
                "value": point["value"],
                "low": point["low"],
                "high": point["high"],
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
        index=["split", "tier", "model", "budget", "labels"], columns="role", values=["value", "low", "high"], sort=False, dropna=False
    )
    wide = wide.dropna(how="all")
    names = {HOME: "home", ELSEWHERE: "held_out"}
    wide.columns = [f"{names[role]}{'' if what == 'value' else '_' + what}" for what, role in wide.columns]
    wide = wide.reset_index()
    overall = dropped[dropped["region"] == "all"] if not dropped.empty else pd.DataFrame(columns=["split", "model", "budget"])
    if not overall.empty:
        picked = overall[["split", "model", "budget", "value", "low", "high"]]
        wide = wide.merge(
            picked.rename(columns={"value": "drop", "low": "drop_low", "high": "drop_high"}), on=["split", "model", "budget"], how="left"
        )
    means = {
        name: (name, "mean")
        for name in ("ece_ood", "coverage90_ood", "fit_s", "predict_s_per_1000", "peak_memory_mb")
        if name in cells.columns
    }
    if means:
        wide = wide.merge(
            cells.groupby(["split", "model", "budget"]).agg(**means).reset_index(), on=["split", "model", "budget"], how="left"
        )
    return wide
