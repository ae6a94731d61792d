"""Land cover from few labels: exports of Earth Engine, the label's own sources left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rs05bench.datasets.recipes import build
from rs05bench.datasets.recipes.landcover import DYNAMIC_WORLD
from rs05bench.embeddings.products import product
from rs05bench.errors import DataError

EMBEDDING = product().bands


def export(path: Path, region: int, **more: object) -> None:
    """150 points as Earth Engine writes them."""
    rng = np.random.default_rng(region)
    label = np.arange(150) % 3
    vectors = rng.standard_normal((150, 64)) + 2 * np.eye(64)[label]
    frame = pd.DataFrame(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), columns=list(EMBEDDING))
    frame.insert(0, "system:index", [f"{number:04d}" for number in range(150)])
    frame = frame.assign(S1_VV=rng.normal(-10, 2, 150), dw_label=label, **dict.fromkeys(DYNAMIC_WORLD, 0.1))
    frame = frame.assign(latitude=40 + rng.uniform(0, 1, 150), longitude=10.0 * region + rng.uniform(0, 1, 150), year=2024)
    frame.assign(region=f"r{region}", **more).to_csv(path, index=False)


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for region in (1, 2, 3):
        export(folder / f"samples_r{region}.csv", region)
    return folder


def test_points_become_units_without_what_the_label_was_made_from(root, tmp_path):
    frame = pd.read_csv(root / "samples_r1.csv", dtype={"system:index": str})
    frame.loc[3, list(EMBEDDING)] = np.nan
    frame.loc[4, "dw_label"] = np.nan
    pd.concat([frame, frame.iloc[[7]].assign(**{"system:index": "again"})]).to_csv(root / "samples_r1.csv", index=False)
    built = build("landcover-small", root, tmp_path / "out")
    written = pd.read_parquet(built.folder / "units.parquet")
    assert not set(DYNAMIC_WORLD) & set(written.columns)
    assert {item["reason"]: item["count"] for item in built.dropped} == {
        "no embedding (masked)": 1,
        "no label in dw_label": 1,
        "the same point and year twice": 1,
    }
    assert built.card.class_names == ["water", "trees", "grass"]
    assert built.card.classes == ["0", "1", "2"]
    assert set(built.card.features) == {"alphaearth", "raw", "hybrid"}
    assert "0003" in frame["system:index"].tolist()
    assert "samples_r1-0005" in set(written["point_id"])


def test_wrong_exports_are_refused(root, tmp_path):
    def refused(said: str, **options: str) -> None:
        with pytest.raises(DataError, match=said):
            build("landcover-small", root, tmp_path / "out", options=options)

    path = root / "samples_r2.csv"
    good = pd.read_csv(path)
    good.drop(columns=["A07", "dw_label"]).to_csv(path, index=False)
    refused(r"samples_r2.csv: column A07, dw_label missing; it has system:index, A00")
    good.assign(**{name: np.round(good[name] * 127.5) for name in EMBEDDING}).to_csv(path, index=False)
    refused("these are the bytes of the tiles, not the embedding")
    good.assign(dw_label=17).to_csv(path, index=False)
    refused(r"column 'dw_label' holds 17, expected 0 to 8")
    good.to_csv(path, index=False)
    refused("column 'S1_VV' holds 450 different values", label="S1_VV")
    refused("column nothing missing", label="nothing")
    path.write_text(path.read_text()[:300])
    refused("samples_r2.csv: column")
    path.write_text("")
    refused("samples_r2.csv: the file is empty")
    good.head(0).to_csv(path, index=False)
    refused("holds a header and no row")


@pytest.mark.real
def test_the_real_exports(real, tmp_path):
    built = build("landcover-small", real("aef_landcover"), tmp_path / "out")
    assert built.counts["units"] == 2880
    assert set(built.counts["by class"].values()) == {320}
    assert built.dropped == []
    assert "leave-region-out" in built.card.splits
    assert "leave-year-out" in built.splits_left_out
