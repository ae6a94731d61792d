"""Ten draws of blocks and labels under a random split, buffered blocks and a region held out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.inference.hypothesis_tests import holm
from rs05bench.protocol.inference.over_groups import over_groups
from rs05bench.protocol.pooling import Pool
from rs05bench.protocol.result import Result
from studies.questions.page import Row, two
from studies.questions.setting import CARDS, Found, Setting

DRAWS, BUDGET = 10, "200-units"


@dataclass(frozen=True)
class Case:
    """One data set, the group its region split holds out, its models."""

    title: str
    folder: str
    card: str
    leave: str
    models: tuple[str, ...]

    @property
    def tested(self) -> dict[str, str]:
        """How test units are taken -> the split."""
        return {"random": "random", "blocks": "spatial-block", "group held out": self.leave}


CASES = (
    Case("land cover", "aef_landcover", "aef_landcover", "leave-region-out", ("alphaearth/logistic", "floor/nearest")),
    Case("county income", "aef_counties", "aef_counties_income", "leave-state-out", ("alphaearth/ridge", "floor/nearest")),
    Case("county unemployment", "aef_counties", "aef_counties_unemployment", "leave-state-out", ("alphaearth/ridge", "floor/nearest")),
    Case("fuel moisture", "lfmc_presto", "fuel_moisture", "leave-region-out", ("raw/ridge", "floor/nearest")),
)


def cells(setting: Setting) -> Found:
    """The leak (random minus blocks) and the shift (blocks minus held out) of every case and model, each with an interval."""
    found = Found()
    table: list[dict[str, str]] = []
    for case in CASES[: 1 if setting.quick else None]:
        results = _results(setting, case)
        found.results += results
        scores = pooled_scores(results)
        for model in case.models:
            means = {words: two(float(np.mean(list(scores[model, split].values())))) for words, split in case.tested.items()}
            table.append({"data": case.title, "model": model, "metric": results[0].main_metric, **means})
            for words, one, other in (
                ("leak (random, blocks)", "random", "spatial-block"),
                ("shift (blocks, held out)", "spatial-block", case.leave),
            ):
                first, second = scores[model, one], scores[model, other]
                draws = sorted(set(first) & set(second))
                gaps = np.array([[first[draw] - second[draw]] for draw in draws])
                effect = replace(over_groups(gaps, draws, test=True), over="draws")
                means = [float(np.mean([side[draw] for draw in draws])) for side in (first, second)]
                found.rows.append(Row(f"{case.title}, {model}: {words}", *means, effect, results[0].main_metric))
    corrected = holm([np.nan if row.effect.p is None else row.effect.p for row in found.rows])
    found.rows = [
        replace(row, effect=replace(row.effect, p_holm=float(p))) if np.isfinite(p) else row
        for row, p in zip(found.rows, corrected, strict=True)
    ]
    found.tables.append(("Scores", pd.DataFrame(table)))
    return found


def _results(setting: Setting, case: Case) -> list[Result]:
    """A card per draw: another seed of its splits draws other blocks, another seed of the budget other labels."""
    card = TaskCard.load(CARDS / f"{case.card}.yaml")
    results = []
    for draw in range(3 if setting.quick else DRAWS):
        options = card.split_options.model_dump() | {"seed": draw}
        asked = setting.card(card, name=f"{card.name}.draw{draw}", split_options=options)
        results += setting.sweep(
            asked,
            setting.data(case.folder),
            models=list(case.models),
            splits=["random", "spatial-block", case.leave],
            budgets=[BUDGET],
            seeds=str(draw),
            targets=card.targets[:1],
        )
    return results


def pooled_scores(results: list[Result]) -> dict[tuple[str, str], dict[str, float]]:
    """(model, split) -> draw -> the main metric over the test units of all folds together: a fold of a random split has no region."""
    pool = Pool.of(results)
    scores: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for point in pool.points:
        role = "test_ood" if point.split.startswith("leave") else "test_id"
        metric = pool.metric(point)
        for sums in pool.fits(point, metric, role).values():
            scores[point.model, point.split][point.task] = float(sums.evaluate(metric, np.asarray(sums.vectors, dtype=float).sum(0)))
    return dict(scores)
