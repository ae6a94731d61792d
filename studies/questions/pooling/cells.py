"""Cells of sampled pixels: their vectors pooled in two ways, and the shares of their classes as targets."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rs05bench.embeddings.products import product
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.comparison import score_of
from rs05bench.protocol.pooling import Point, Pool
from studies.questions.page import two
from studies.questions.setting import Found, Setting

CLASSES = {"trees": 1, "crops": 4, "built": 6}
"""Dynamic World's numbers of the classes whose shares are predicted."""
SIDE, FEWEST_PIXELS, FEWEST_CELLS = 0.1, 5, 20
BUDGETS = ["50-units", "full"]
MODELS = ["alphaearth/ridge", "alphaearth-pooled/ridge"]


def cells(setting: Setting) -> Found:
    """The grid, and a table of every region's scores."""
    folder = setting.store / "data"
    if not (folder / "cells.csv").is_file():
        write_cells(setting.data("aef_landcover"), folder)
    card = shares_card()
    results = setting.sweep(setting.card(card), folder, models=MODELS, splits=["leave-region-out"], budgets=BUDGETS, targets=card.targets)
    return Found(results, tables=[_gaps(Pool.of(results), card)])


def write_cells(source: Path, folder: Path) -> None:
    """Writes `cells.csv`: a row a cell with the pooled components and the shares of the classes."""
    pixels = pd.concat([pd.read_csv(path) for path in sorted(source.glob("*.csv"))], ignore_index=True)
    bands = list(product().bands)
    pixels = pixels.dropna(subset=bands)
    row, column = ((pixels[name] // SIDE).astype(int).astype(str) for name in ("latitude", "longitude"))
    grouped = pixels.assign(cell_id=pixels["region"] + "_" + row + "_" + column, **{
        name: (pixels["dw_label"] == number).astype(float) for name, number in CLASSES.items()
    }).groupby("cell_id")  # fmt: skip
    parts = [grouped[bands].mean(), *(grouped[bands].agg(stat).add_suffix(f"_{stat}") for stat in ("std", "min", "max"))]
    whole = pd.concat([grouped[["longitude", "latitude", *CLASSES]].mean(), grouped["region"].first(), *parts], axis=1)
    whole = whole[grouped.size() >= FEWEST_PIXELS]
    whole = whole[whole.groupby("region")["region"].transform("size") >= FEWEST_CELLS]
    folder.mkdir(parents=True, exist_ok=True)
    whole.reset_index().to_csv(folder / "cells.csv", index=False, float_format="%.8g")


def shares_card() -> TaskCard:
    """The task over those cells."""
    return TaskCard.model_validate(
        {
            "kind": "regression",
            "name": "cell-shares",
            "title": "Shares of land cover among the sampled pixels of a cell",
            "targets": list(CLASSES),
            "unit": ["cell_id"],
            "groups": ["region"],
            "coordinates": {"x": "longitude", "y": "latitude", "crs": "EPSG:4326"},
            "files": ["cells.csv"],
            "features": {
                "alphaearth": {"product": "alphaearth-v1"},
                "alphaearth-pooled": {"product": "alphaearth-v1", "pooling": ["mean", "std", "min", "max"]},
            },
            "tiers": {"alphaearth-pooled": "embedding"},
            "splits": ["leave-region-out"],
            "split_options": {"block_size_m": 25_000, "buffer_m": 1_000, "test_fraction": 0.4, "region": "region"},
            "budgets": BUDGETS,
            "main_metric": "r2",
        }
    )


def _gaps(pool: Pool, card: TaskCard) -> tuple[str, pd.DataFrame]:
    """In-domain, held out and the gap between them, for every target and way of pooling."""
    rows = []
    for target in card.targets:
        for budget in BUDGETS:
            for model in MODELS:
                point = Point(card.name, target, "leave-region-out", model, budget)
                inside, outside = (score_of(pool, point, role) for role in ("test_id", "test_ood"))
                if inside is None or outside is None:
                    continue
                home, away = inside.estimate.value, outside.estimate.value
                rows.append(
                    {
                        "share of": target,
                        "budget": budget,
                        "model": model,
                        "in-domain": two(home),
                        "held out": two(away),
                        "gap": two(home - away),
                    }
                )
    return "R2, mean over regions of the score inside each", pd.DataFrame(rows)
