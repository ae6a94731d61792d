"""The task is built by its recipe, run under three splits, and every signal is taken apart in one table."""

from __future__ import annotations

import math

import pandas as pd

from rs05bench.datasets.recipes import build
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.comparison import score_of
from rs05bench.protocol.pooling import Point, Pool
from studies.questions.page import two
from studies.questions.setting import Found, Setting

MODELS = ["floor/mean", "floor/nearest", "covariates/ridge", "alphaearth/ridge", "alphaearth-covariates/ridge"]
PUBLISHED = {"transit_score": 0.72, "log_income": 0.44}
"""R2 of AlphaEarth in arXiv 2604.03456, random 80/20, its own neighbourhoods; it gives crime no figure of its own in what we have read."""


def cells(setting: Setting) -> Found:
    """All cells and the two tables."""
    setting.data("aef_counties")
    built = build("urban-signals", setting.real, setting.store / "asked" / "urban-signals", replace=True)
    path = built.folder / "card.yaml"
    card = TaskCard.load(path)
    runs = [
        (["leave-state-out", "within-state", "random"], ["full"], "0"),
        (["random", "leave-state-out"], ["200-units"], "0-4"),
    ]
    results = []
    for splits, budgets, seeds in runs:
        results += setting.sweep(path, built.folder, models=MODELS, splits=splits, budgets=budgets, seeds=seeds, targets=card.targets)
    pool = Pool.of(results)
    units = pd.read_parquet(built.folder / "units.parquet")
    return Found(results, tables=[_parts(pool, card, units), _scores(pool, card)])


def between(values: pd.Series, group: pd.Series) -> float:
    """Share of the variance that lies between groups, adjusted for their number (adjusted eta squared)."""
    known = values.notna()
    values, group = values[known], group[known]
    inside = float(((values - values.groupby(group).transform("mean")) ** 2).sum())
    total = float(((values - values.mean()) ** 2).sum())
    return 1 - (inside / (len(values) - group.nunique())) / (total / (len(values) - 1))


def _parts(pool: Pool, card: TaskCard, units: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """A row a signal: published and pooled figures first, then what is left inside a state that was held out."""
    rows = []
    for target in card.targets:

        def of(split: str, model: str, pooled: bool, role: str, target: str = target) -> str:
            found = score_of(pool, Point(card.name, target, split, model, "full"), role)
            return "" if found is None else two(found.pooled if pooled else found.estimate.value)

        rows.append(
            {
                "signal": target,
                "counties": int(units[target].notna().sum()),
                "published, 80/20": two(PUBLISHED.get(target, math.nan)),
                "variance between states": f"{between(units[target], units['state']):.0%}",
                "imagery, random, pooled": of("random", "alphaearth/ridge", True, "test_id"),
                "imagery, random, inside a state": of("random", "alphaearth/ridge", False, "test_id"),
                "imagery, state held out, pooled": of("leave-state-out", "alphaearth/ridge", True, "test_ood"),
                "imagery, state held out": of("leave-state-out", "alphaearth/ridge", False, "test_ood"),
                "covariates, state held out": of("leave-state-out", "covariates/ridge", False, "test_ood"),
                "both, state held out": of("leave-state-out", "alphaearth-covariates/ridge", False, "test_ood"),
                "nearest county, random, pooled": of("random", "floor/nearest", True, "test_id"),
            }
        )
    return "Each signal taken apart (R2, all labels)", pd.DataFrame(rows)


def _scores(pool: Pool, card: TaskCard) -> tuple[str, pd.DataFrame]:
    """The mean R2 inside a state of every model under every split, all labels."""
    rows = []
    for target in card.targets:
        for split, role in (("random", "test_id"), ("within-state", "test_id"), ("leave-state-out", "test_ood")):
            row = {"signal": target, "split": split}
            for model in MODELS:
                found = score_of(pool, Point(card.name, target, split, model, "full"), role)
                row[model] = two(found.estimate.value) if found else ""
            rows.append(row)
    return "Mean R2 inside a state, all labels (within-state: the ten largest)", pd.DataFrame(rows)
