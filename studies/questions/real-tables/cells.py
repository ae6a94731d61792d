"""Land cover once more, on the test points that Dynamic World is sure of: 70 to 83 % of the points have no class above .5."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rs05bench.experiment.cell import run_cell
from rs05bench.protocol.metrics import Clusters, Confusion
from rs05bench.protocol.result import Cell
from studies.questions.page import two
from studies.questions.setting import CARDS, Found, Setting

SPLIT, BUDGET, SEEDS, SURE = "leave-region-out", "100-units", 5, 0.5
MODELS = ("floor/majority", "raw/logistic", "alphaearth/logistic", "hybrid/logistic")
CLASSES = ["water", "trees", "grass", "flooded_vegetation", "crops", "shrub_and_scrub", "built", "bare", "snow_and_ice"]


def cells(setting: Setting) -> Found:
    """Scores of all held-out points and of the sure ones, by region."""
    data = setting.data("aef_landcover")
    bench = setting.bench(CARDS / "aef_landcover.yaml", data, [SPLIT])
    points = pd.concat([_points(path) for path in sorted(data.glob("alphaearth_s1_dw_samples_*.csv"))])
    sure = points[CLASSES].max(axis=1) >= SURE
    manifest, target = bench.manifest(SPLIT), bench.card.targets[0]
    labels = bench.source.labels(target).astype(str)
    classes = tuple(bench.card.classes or ())
    found: dict[tuple[str, str], list[float]] = {}
    for model in MODELS:
        for fold in manifest.folds:
            for seed in range(1 if setting.quick else SEEDS):
                cell = Cell(task=bench.card.name, target=target, split=SPLIT, fold=fold, model=model, budget=BUDGET, seed=seed)
                told = run_cell(bench, cell)[1].of_role("test_ood")
                answer = np.asarray(told.probabilities).argmax(axis=1)
                names = np.array([classes.index(labels[unit]) for unit in told.unit_id])
                for which, rows in (("all", np.ones(len(names), bool)), ("sure", sure.reindex(told.unit_id).to_numpy(bool))):
                    counts = Confusion.of(names[rows], answer[rows], classes, clusters=Clusters.one(int(rows.sum())))
                    for metric in ("macro_f1", "overall_accuracy"):
                        found.setdefault((model, f"{metric}, {which}"), []).append(float(counts.evaluate(metric, counts.vectors.sum(0))))
    rows = []
    for model in MODELS:
        means = {name: two(float(np.nanmean(values))) for (one, name), values in found.items() if one == model}
        rows.append({"model": model} | means)
    shares = pd.DataFrame(
        {
            "region": region,
            "points": len(part),
            "no class above .5": f"{1 - sure[part.index].mean():.0%}",
            "label is not the largest": _odd(part),
        }
        for region, part in points.groupby("region")
    )
    return Found(
        tables=[
            ("Land cover: points that Dynamic World is not sure of", shares),
            ("Land cover, held out: all test points and those with a class above .5 (mean of regions)", pd.DataFrame(rows)),
        ]
    )


def _points(path: object) -> pd.DataFrame:
    """A file's points by unit id: file name and row, as the card makes it."""
    frame = pd.read_csv(path)  # type: ignore[call-overload]
    return frame.set_index(pd.Index([f"{path.stem}_{row}" for row in range(len(frame))]))  # type: ignore[attr-defined]


def _odd(part: pd.DataFrame) -> str:
    largest = part[CLASSES].to_numpy().argmax(axis=1)
    return f"{(largest != part['dw_label'].to_numpy()).mean():.0%}"
