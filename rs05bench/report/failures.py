"""Where and for whom the models of a section fail, and whether their confidence can be trusted.

Everything follows from the sums that results keep by test block, of tables and of chips alike: no prediction and no raster is read.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.protocol.metrics import Calibration, Confusion
from rs05bench.report.data import WHERE, Study, Sums, interval, plain_estimate
from rs05bench.report.evidence import ELSEWHERE, HOME

MOST_GROUP_VALUES = 12
WRONG = {True: "mae", False: "overall_accuracy"}
"""Regression -> the score that errors on a map follow from."""


def mistakes(counts: NDArray[np.float64], names: Sequence[str], most: int = 1) -> str:
    """The most frequent confusions, as shares of the true class; those of less than a hundredth of it are left out.

    Args:
        counts: (K, K) true class by predicted class.
        names: Names of the classes.
        most: How many are named.
    """
    counts = np.asarray(counts, dtype=np.float64)
    wrong = counts * (1 - np.eye(len(counts)))
    order = np.argsort(-wrong.ravel(), kind="stable")[:most]
    found = []
    for truth, said in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[truth, said] >= 0.01 * counts[truth].sum() > 0:
            found.append(f"{wrong[truth, said] / counts[truth].sum():.0%} of {names[truth]} taken for {names[said]}")
    return "; ".join(found) or "hardly any"


def offset(bias: float) -> str:
    """How far predicted numbers are off on average, in words."""
    return f"too {'high' if bias > 0 else 'low'} by {abs(bias):.3g} on average"


def held_out_sums(study: Study, model: str, metric: str) -> Sums | None:
    """Sums by test block of a model under the lead split's largest budget, over seeds, held out or of one area; None where none is kept."""
    total: Any = None
    for fit in study.fits(study.lead_key(model), metric, study.tested_role):
        total = fit if total is None else total + fit
    return total


def block_errors(study: Study, model: str) -> pd.DataFrame:
    """Held-out error of one model on every test block with a position.

    Returns:
        `place` (the block), `held_region`, `lon`, `lat`, the group columns, `predictions` (units or pixels), `error` (share of wrong
        answers, or mean absolute error), `bias` (regression), `usual_mistake`.
    """
    metric = WRONG[study.regression]
    sums, units = held_out_sums(study, model, metric), _held_out_units(study)
    if sums is None or units.empty or "lon" not in units:
        return pd.DataFrame()
    blocks = sums.regroup([name.rpartition("\t")[2] for name in sums.clusters])
    groups = [name for name in study.section.card.groups if name in units]
    placed = units.groupby("block").agg(
        held_region=("region", "first"), lon=("lon", "mean"), lat=("lat", "mean"), **{name: (name, "first") for name in groups}
    )
    errors = _errors(blocks, study.regression, study.names(blocks))
    frame = pd.DataFrame({"place": blocks.clusters, **errors}).merge(placed, left_on="place", right_index=True, how="inner")
    return frame[frame["predictions"] > 0].reset_index(drop=True)


def _errors(sums: Sums, regression: bool, names: Sequence[str]) -> dict[str, Any]:
    vectors = np.asarray(sums.vectors, dtype=np.float64)
    if regression:
        bias = np.atleast_1d(sums.evaluate("bias", vectors))
        error = np.atleast_1d(sums.evaluate("mae", vectors))
        return {"predictions": vectors[:, 0].round().astype(int), "error": error, "bias": bias, "usual_mistake": list(map(offset, bias))}
    counts = np.asarray(_confusion(sums).values, dtype=np.float64)
    return {
        "predictions": counts.sum((1, 2)).round().astype(int),
        "error": 1 - np.trace(counts, axis1=1, axis2=2) / np.maximum(counts.sum((1, 2)), 1e-12),
        "bias": np.nan,
        "usual_mistake": [mistakes(one, names) for one in counts],
    }


def _confusion(sums: Sums) -> Confusion:
    if not isinstance(sums, Confusion):
        raise TypeError("confusion counts were expected")
    return sums


def worst_regions(study: Study, model: str, dropped: pd.DataFrame) -> pd.DataFrame:
    """Regions of the lead split, worst held-out score first, each with its usual mistake."""
    section, split, budget = study.section, study.section.lead_split, study.lead_budget
    if dropped.empty:
        return dropped
    mine = dropped[(dropped["split"] == split) & (dropped["model"] == model) & (dropped["budget"] == budget) & (dropped["region"] != "all")]
    sums = held_out_sums(study, model, WRONG[study.regression])
    if mine.empty or sums is None:
        return mine.iloc[:0]
    region_of = study.regions(study.lead_key(model))
    regions = sums.regroup([region_of[name] for name in sums.clusters])
    said = dict(zip(regions.clusters, _errors(regions, study.regression, study.names(regions))["usual_mistake"], strict=True))
    units = _held_out_units(study).groupby("region")["unit_id"].nunique()
    mine = mine[["region", "home", "held_out", "value"]].rename(columns={"value": "drop"})
    mine = mine.assign(units=[int(units.get(region, 0)) for region in mine["region"]])
    mine = mine.assign(usual_mistake=[said.get(region, "") for region in mine["region"]])
    return mine.sort_values("held_out", ascending=section.higher_is_better, kind="stable").reset_index(drop=True)


def _held_out_units(study: Study) -> pd.DataFrame:
    """Units that some fold of the lead split holds out, or tests in one area: `unit_id`, `region`, `block`, position and groups."""
    manifest = study.section.manifest(study.lead_key("").split)
    if manifest is None:
        return pd.DataFrame()
    table = manifest.table[manifest.table["role"].astype(str) == study.tested_role].drop_duplicates("unit_id")
    table = table[["unit_id", "region", "block"]].astype(str)
    return table.merge(manifest.units.drop(columns=["region", "block"], errors="ignore"), on="unit_id", how="left")


def group_scores(study: Study) -> pd.DataFrame:
    """Held-out scores of each tier's best model by the values of the card's group columns (those of few values)."""
    section, units = study.section, _held_out_units(study)
    rows = []
    for column in _shown_groups(study, units):
        values = units[column].astype(str)
        for tier, model in study.representatives.items():
            key = study.lead_key(model)
            for value in sorted(set(values)):
                fits = study.fits(key, section.metric, ELSEWHERE, where=(column, value))
                if not fits:
                    continue
                head = {"column": column, "group": value, "tier": tier, "model": model}
                number = int(units.loc[values == value, "unit_id"].nunique())
                rows.append(head | {"units": number} | plain_estimate(interval(fits, section.metric, study.regions(key))))
    return pd.DataFrame(rows)


def _shown_groups(study: Study, units: pd.DataFrame) -> list[str]:
    """Group columns of few values; those that errors are reported by where the card names them."""
    card = study.section.card
    wanted = card.fairness_groups or card.groups
    columns = [name for name in wanted if name in units and 2 <= units[name].nunique() <= MOST_GROUP_VALUES]
    return [*columns, "year"] if card.year and "year" in units and units["year"].nunique() >= 2 else columns


def calibration(study: Study) -> pd.DataFrame:
    """Classification: reliability of each tier's best model. Regression: coverage of its 90 % intervals by budget."""
    split = study.section.lead_split
    if split is None:
        return pd.DataFrame()
    rows: list[dict[str, Any]] = []
    for tier, model in study.representatives.items():
        if study.regression:
            for budget in study.section.budgets[split]:
                rows += _coverage(study, tier, model, split, budget)
        else:
            rows += _reliability(study, tier, model)
    return pd.DataFrame(rows)


def _reliability(study: Study, tier: str, model: str) -> list[dict[str, Any]]:
    """Confidence against share right, over folds and seeds."""
    rows: list[dict[str, Any]] = []
    for role in (HOME, ELSEWHERE):
        parts = [kept.of("ece") for kept in study.kept(study.lead_key(model), role) if kept.gives("ece")]
        calibrations = [sums.regroup(["all"] * len(sums.clusters)) for sums in parts if isinstance(sums, Calibration)]
        if not calibrations:
            continue
        curve = functools.reduce(operator.add, calibrations).curve()
        head = {"tier": tier, "model": model, "role": role, "where": WHERE[role]}
        rows += [
            head | {"confidence": c, "right": a, "predictions": round(n)}
            for n, c, a in zip(curve.count, curve.confidence, curve.accuracy, strict=True)
        ]
    return rows


def _coverage(study: Study, tier: str, model: str, split: str, budget: str) -> list[dict[str, Any]]:
    rows = []
    for role in (HOME, ELSEWHERE):
        key = study.key(split, model, budget)
        fits, point = study.fits(key, "coverage90", role), study.point(split, model, budget, role)
        if not fits or point is None:
            continue
        estimate = interval(fits, "coverage90", study.regions(key))
        if not np.isfinite(estimate.value):
            continue
        head = {"tier": tier, "model": model, "budget": budget, "labels": point["labels"], "role": role, "where": WHERE[role]}
        rows.append(head | plain_estimate(estimate))
    return rows


def confusion(study: Study, model: str) -> Confusion | None:
    """Confusion counts of a model on the units of `held_out_sums`, the mean over seeds; None for a regression."""
    if study.regression:
        return None
    seeds = len(study.fits(study.lead_key(model), WRONG[False], study.tested_role))
    total = held_out_sums(study, model, WRONG[False])
    return None if total is None else _confusion(total).scale(1 / seeds)


def per_class(counts: Confusion, names: Sequence[str]) -> pd.DataFrame:
    """Precision, recall, F1 and IoU of each class."""
    matrix = np.asarray(counts.values, dtype=np.float64).sum(0)
    right, labelled, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return pd.DataFrame(
            {
                "class": list(names),
                "labelled": labelled,
                "precision": right / predicted,
                "recall": right / labelled,
                "f1": 2 * right / (labelled + predicted),
                "iou": right / (labelled + predicted - right),
            }
        )
