"""Where and for whom the models of a section fail, and whether their confidence can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.protocol.metrics import ClusterConfusion
from rs05bench.protocol.metrics.calibration import reliability_curve
from rs05bench.report import chip_failures
from rs05bench.report.data import WHERE, Study, interval, plain_estimate
from rs05bench.report.evidence import ELSEWHERE, HOME, Key, stats_of

MOST_GROUP_VALUES = 12


def unit_errors(study: Study, model: str) -> pd.DataFrame:
    """Held-out error of one model at every place, over seeds and years: `held_region`, lon, lat, groups, `error`, `bias` and confusions.

    `error` is the share of wrong answers (classification) or the mean absolute error (regression).
    """
    section, split = study.section, study.section.lead_split
    manifest = section.manifest(split) if split else None
    if manifest is None:
        return pd.DataFrame()
    if section.labels is None:
        return chip_failures.block_errors(study, model)
    units = study.units(model)
    units = units[units["role"] == ELSEWHERE]
    placed = manifest.units.set_index("unit_id")
    groups = [name for name in section.card.groups if name in placed]
    units = units.rename(columns={"region": "held_region"}).assign(
        lon=placed["lon"].reindex(units["unit_id"]).to_numpy(),
        lat=placed["lat"].reindex(units["unit_id"]).to_numpy(),
        place=placed["place"].reindex(units["unit_id"]).astype(str).to_numpy(),
        **{name: placed[name].reindex(units["unit_id"]).astype(str).to_numpy() for name in groups},
    )
    if study.truth.classes is not None:
        units["error"] = (units["predicted"] != units["truth"]).astype(float)
        units["bias"] = np.nan
    else:
        units["bias"] = units["predicted"] - units["truth"]
        units["error"] = units["bias"].abs()
    grouped = units.groupby(["held_region", "place"], sort=True)
    frame = grouped.agg(
        lon=("lon", "first"),
        lat=("lat", "first"),
        predictions=("error", "size"),
        error=("error", "mean"),
        bias=("bias", "mean"),
        **{name: (name, "first") for name in groups},
    ).reset_index()
    if study.truth.classes is not None:
        frame["usual_mistake"] = grouped.apply(lambda rows: _mistake(rows, study.class_names or ()), include_groups=False).to_numpy()
    return frame


def _mistake(rows: pd.DataFrame, classes: tuple[str, ...]) -> str:
    wrong = rows[rows["predicted"] != rows["truth"]]
    if wrong.empty:
        return ""
    truth, predicted = wrong.groupby(["truth", "predicted"]).size().idxmax()
    return f"{classes[int(truth)]} taken for {classes[int(predicted)]}"


def worst_regions(study: Study, model: str, dropped: pd.DataFrame) -> pd.DataFrame:
    """Regions of the lead split, worst held-out score first, each with its usual mistake."""
    section, split, budget = study.section, study.section.lead_split, study.lead_budget
    if dropped.empty:
        return dropped
    mine = dropped[(dropped["split"] == split) & (dropped["model"] == model) & (dropped["budget"] == budget) & (dropped["region"] != "all")]
    if mine.empty:
        return mine
    mine = mine[["region", "home", "held_out", "value"]].rename(columns={"value": "drop"})
    if section.labels is None:
        told = chip_failures.region_failures(study, model)
    else:
        units = study.units(model)
        units = units[units["role"] == ELSEWHERE]
        told = {str(region): (rows["unit_id"].nunique(), _failure(rows, study.class_names)) for region, rows in units.groupby("region")}
    mine["units"] = [told.get(region, (0, ""))[0] for region in mine["region"]]
    mine["usual_mistake"] = [told.get(region, (0, ""))[1] for region in mine["region"]]
    return mine.sort_values("held_out", ascending=section.higher_is_better, kind="stable").reset_index(drop=True)


def _failure(rows: pd.DataFrame, classes: tuple[str, ...] | None) -> str:
    if classes is None:
        bias = float((rows["predicted"] - rows["truth"]).mean())
        return f"{'too high' if bias > 0 else 'too low'} by {abs(bias):.3g} on average"
    wrong = rows[rows["predicted"] != rows["truth"]]
    if wrong.empty:
        return "none"
    counts = wrong.groupby(["truth", "predicted"]).size()
    truth, predicted = counts.idxmax()
    share = counts.max() / (rows["truth"] == truth).sum()
    return f"{share:.0%} of {classes[int(truth)]} taken for {classes[int(predicted)]}"


def group_scores(study: Study) -> pd.DataFrame:
    """Held-out scores of each tier's best model by the values of the card's group columns (those of few values)."""
    section, split = study.section, study.section.lead_split
    manifest = section.manifest(split) if split else None
    if manifest is None:
        return pd.DataFrame()
    columns = _shown_groups(study, manifest.units)
    if section.labels is None:
        return chip_failures.group_scores(study, columns)
    placed = manifest.units.set_index("unit_id")
    rows = []
    for tier, model in study.representatives.items():
        units = study.units(model)
        if units.empty:
            continue
        units = units[units["role"] == ELSEWHERE]
        for column in columns:
            value_of = placed[column].reindex(units["unit_id"]).astype(str).to_numpy()
            for value in sorted(set(value_of)):
                here = units[value_of == value]
                fits = [stats_of(fit, study.truth.classes) for _, fit in here.groupby("seed", sort=True)]
                estimate = interval(fits, section.metric, study.evidence.groups[str(split)])
                head = {"column": column, "group": value, "tier": tier, "model": model, "units": here["unit_id"].nunique()}
                rows.append(head | plain_estimate(estimate))
    return pd.DataFrame(rows)


def _shown_groups(study: Study, units: pd.DataFrame) -> list[str]:
    """Group columns of few values; those that errors are reported by where the card names them."""
    card = study.section.card
    wanted = card.fairness_groups or card.groups
    columns = [name for name in wanted if name in units and 2 <= units[name].nunique() <= MOST_GROUP_VALUES]
    return [*columns, "year"] if card.year and units["year"].nunique() >= 2 else columns


def calibration(study: Study) -> pd.DataFrame:
    """Classification: reliability of each tier's best model. Regression: coverage of its 90 % intervals by budget."""
    section, split = study.section, study.section.lead_split
    if split is None:
        return pd.DataFrame()
    if section.labels is None:
        return chip_failures.reliability(study)
    rows: list[dict[str, Any]] = []
    for tier, model in study.representatives.items():
        if study.truth.classes is None:
            for name in section.budgets[split]:
                rows += _coverage(study, tier, model, split, name)
            continue
        units = study.units(model)
        if units.empty:
            continue
        for role, here in units.groupby("role", sort=True):
            curve = reliability_curve(here["confidence"].to_numpy(), (here["predicted"] == here["truth"]).to_numpy(), bins=10)
            rows += [
                {"tier": tier, "model": model, "role": role, "where": WHERE[str(role)], "confidence": c, "right": a, "predictions": int(n)}
                for c, a, n in zip(curve.confidence, curve.accuracy, curve.count, strict=True)
            ]
    return pd.DataFrame(rows)


def _coverage(study: Study, tier: str, model: str, split: str, budget: str) -> list[dict[str, Any]]:
    rows = []
    for role in (HOME, ELSEWHERE):
        fits = study.evidence.fits(Key(split, model, budget), role)
        point = study.point(split, model, budget, role)
        if not fits or point is None:
            continue
        estimate = interval(fits, "coverage90", study.evidence.groups[split])
        if not np.isfinite(estimate.value):
            continue
        head = {"tier": tier, "model": model, "budget": budget, "labels": point["labels"], "role": role, "where": WHERE[role]}
        rows.append(head | plain_estimate(estimate))
    return rows


def confusion(study: Study, model: str) -> ClusterConfusion | None:
    """Confusion counts of a model held out under the lead split's largest budget, the mean over seeds; None for a regression."""
    if study.section.card.kind == "regression":
        return None
    fits = study.evidence.fits(Key(str(study.section.lead_split), model, str(study.lead_budget)), ELSEWHERE)
    counts = [fit for fit in fits if isinstance(fit, ClusterConfusion)]
    if not counts:
        return None
    total = counts[0]
    for fit in counts[1:]:
        total = total + fit
    return replace(total, counts=np.asarray(total.counts, dtype=np.float64) / len(counts))


def per_class(counts: ClusterConfusion, names: Sequence[str]) -> pd.DataFrame:
    """Precision, recall, F1 and IoU of each class."""
    matrix = np.asarray(counts.counts, dtype=np.float64).sum(0)
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
