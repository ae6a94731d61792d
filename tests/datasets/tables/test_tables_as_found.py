"""Tables in the shapes people have, through the commands as a person types them: no traceback, no refused card, no endless question."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

STEPS = ("init", "check", "advise", "report")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables_as_found", Path(__file__).parents[3] / "tools" / "tables_as_found.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its records look their module up
    spec.loader.exec_module(module)
    return module


def values(label: np.ndarray, dims: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 0.1, (len(label), dims)) + 0.15 * np.eye(int(label.max()) + 1, dims)[label]).round(4)


def crop_with_integer_codes(folder: Path) -> Path:
    """Semicolons, decimal commas, CDL codes, four counties."""
    rng = np.random.default_rng(1)
    label, county = rng.integers(0, 5, 200), np.arange(200) % 4
    frame = pd.DataFrame(values(label, 64), columns=[f"A{band:02d}" for band in range(64)])
    frame["crop_code"], frame["county"] = np.array([1, 5, 24, 36, 176])[label], np.array(["19153", "19169", "19049", "19015"])[county]
    frame["lon"], frame["lat"] = -94 + county * 0.7 + rng.uniform(0, 0.5, 200), 41 + rng.uniform(0, 0.5, 200)
    frame.to_csv(folder / "crop_codes.csv", sep=";", decimal=",", index=False)
    return folder / "crop_codes.csv"


def deforestation_apart(folder: Path) -> Path:
    """Cleared land in the south, forest in the north: coordinates alone are right."""
    rng = np.random.default_rng(2)
    label = np.arange(160) % 2
    frame = pd.DataFrame(values(label, 64), columns=[f"emb_{band}" for band in range(64)])
    frame["deforested"] = np.where(label == 1, "yes", "no")
    frame["longitude"], frame["latitude"] = -60 + rng.uniform(0, 1, 160), np.where(label == 1, -5.0, -3.0) + rng.uniform(0, 0.5, 160)
    frame.to_csv(folder / "deforestation.csv", index=False)
    return folder / "deforestation.csv"


def one_utm_tile(folder: Path) -> Path:
    rng = np.random.default_rng(3)
    label = rng.integers(0, 3, 240)
    frame = pd.DataFrame(values(label, 64), columns=[f"A{band:02d}" for band in range(64)])
    frame["class"], frame["x"], frame["y"] = (
        np.array(list("abc"))[label],
        431_000 + rng.uniform(0, 5000, 240),
        4_650_000 + rng.uniform(0, 5000, 240),
    )
    frame.to_csv(folder / "tile.csv", index=False)
    return folder / "tile.csv"


def patches_of_768(folder: Path) -> Path:
    """GeoParquet with a list in every row."""
    rng = np.random.default_rng(4)
    label = rng.integers(0, 3, 120)
    frame = pd.DataFrame({"embedding": list(values(label, 768).astype("f4")), "landcover": np.array(["crop", "forest", "town"])[label]})
    points = gpd.points_from_xy(7 + rng.uniform(0, 2, 120), 46 + rng.uniform(0, 1, 120))
    gpd.GeoDataFrame(frame, geometry=points, crs="EPSG:4326").to_parquet(folder / "patches.parquet")
    return folder / "patches.parquet"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "answers"),
    [(crop_with_integer_codes, []), (deforestation_apart, []), (one_utm_tile, ["--crs", "15N"]), (patches_of_768, [])],
    ids=lambda item: getattr(item, "__name__", ""),
)
def test_a_table_as_people_have_it_goes_from_init_to_the_report(tool, tmp_path, write, answers):
    done = tool.walk(write(tmp_path), tmp_path / "out", 0.01, STEPS, answers)
    assert [step.step for step in done] == [*STEPS, "init, Enter at every question"]
    assert not [f"{step.step}: {step.fault}\n{step.said[-600:]}" for step in done if step.fault]
