"""What the figures show is what anyone computes from the stored predictions with scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, r2_score

from rs05bench.experiment.store import ResultStore
from rs05bench.report import Report

pytestmark = pytest.mark.slow


def predictions(runs: Path, split: str, model: str, budget: str, role: str) -> pd.DataFrame:
    """Units of every fold and seed with label and prediction, read without the report's own code."""
    store, parts = ResultStore(runs), []
    for result in store.results():
        cell = result.cell
        if (cell.split, cell.model, cell.budget) != (split, model, budget):
            continue
        frame = store.predictions(result.digest).frame()
        labels = pd.read_parquet(runs / "labels" / f"{result.digests['data']}.parquet").set_index("unit_id")[cell.target]
        frame = frame[frame["role"] == role].assign(seed=cell.seed, fold=cell.fold)
        frame["label"] = labels.loc[frame["unit_id"]].to_numpy()
        columns = [name for name in frame if name.startswith("p_")]
        frame["said"] = frame[columns].idxmax(axis=1).str.removeprefix("p_") if columns else frame["y"]
        parts.append(frame)
    return pd.concat(parts)


def score(frame: pd.DataFrame, region: pd.Series) -> float:
    """Mean over groups of the score inside each, by fit and fold; groups of fewer than ten units have none where three others are left."""
    group = frame["unit_id"].map(region)
    sizes = frame.groupby(group)["unit_id"].nunique()
    kept = sizes.index[sizes >= 10] if (sizes >= 10).sum() >= 3 else sizes.index
    inside = []
    for name in kept:
        by_fit = []
        for _, fit in frame[group == name].groupby(["seed", "fold"]):
            if fit["said"].dtype == np.float64:
                by_fit.append(r2_score(fit["label"], fit["said"]))
            else:
                by_fit.append(f1_score(fit["label"], fit["said"], average="macro"))
        inside.append(np.mean(by_fit))
    return float(np.mean(inside))


def regions(runs: Path, split: str) -> pd.Series:
    (path,) = (runs / "manifests").rglob(f"{split}@v1.parquet")
    table = pd.read_parquet(path).drop_duplicates("unit_id")
    return table.set_index("unit_id")["region"].astype(str)


def figure(report: Report, name: str) -> pd.DataFrame:
    return pd.read_csv(report.page.parent / "figures" / f"{name}.csv")


@pytest.mark.parametrize(
    ("name", "split"),
    [("crop-curves-leave-crop-system-out", "leave-crop-system-out"), ("urban-log_income-curves-leave-city-out", "leave-city-out")],
)
def test_every_point_of_the_curves_is_the_score_of_the_stored_predictions(report: Report, runs: Path, name: str, split: str) -> None:
    drawn = figure(report, name)
    assert set(drawn["role"]) == {"test_id", "test_ood"}
    for _, row in drawn.iterrows():
        found = score(predictions(runs, split, row["model"], row["budget"], row["role"]), regions(runs, split))
        assert row["value"] == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize(("name", "split"), [("crop-drop", "leave-crop-system-out"), ("urban-log_income-drop", "leave-city-out")])
def test_the_drop_is_taken_on_the_same_units(report: Report, runs: Path, name: str, split: str) -> None:
    drawn = figure(report, name)
    for _, row in drawn[drawn["region"] == "all"].iterrows():
        home = predictions(runs, split, row["model"], row["budget"], "test_id")
        held = predictions(runs, split, row["model"], row["budget"], "test_ood")
        assert set(home["unit_id"]) == set(held["unit_id"])
        assert row["value"] == pytest.approx(score(home, regions(runs, split)) - score(held, regions(runs, split)), abs=1e-6)


def test_intervals_hold_their_value_and_stay_in_the_range_of_the_score(report: Report) -> None:
    drawn = figure(report, "crop-curves-leave-crop-system-out").dropna(subset=["low", "high"])
    assert len(drawn)
    assert (drawn["low"] <= drawn["value"] + 1e-9).all()
    assert (drawn["value"] <= drawn["high"] + 1e-9).all()
    assert (drawn["low"] >= 0).all()
    assert (drawn["high"] <= 1).all()


def test_the_map_shows_the_share_of_wrong_answers_at_each_place(report: Report, runs: Path) -> None:
    drawn = figure(report, "crop-map")
    curves = figure(report, "crop-curves-leave-crop-system-out")
    last = curves[(curves["role"] == "test_ood") & (curves["labels"] == curves["labels"].max())]
    best = last.sort_values("value").iloc[-1]
    made = predictions(runs, "leave-crop-system-out", best["model"], best["budget"], "test_ood")
    assert drawn["error"].between(0, 1).all()
    assert np.average(drawn["error"], weights=drawn["predictions"]) == pytest.approx((made["said"] != made["label"]).mean(), abs=1e-9)
    assert int(drawn["predictions"].sum()) == len(made)


def test_the_reliability_curve_counts_every_prediction(report: Report, runs: Path) -> None:
    drawn = figure(report, "crop-calibration")
    for (model, role), rows in drawn.groupby(["model", "role"]):
        made = predictions(runs, "leave-crop-system-out", model, "10-per-class", role)
        columns = [name for name in made if name.startswith("p_")]
        assert int(rows["predictions"].sum()) == len(made)
        assert np.average(rows["right"], weights=rows["predictions"]) == pytest.approx((made["said"] == made["label"]).mean(), abs=1e-9)
        assert np.average(rows["confidence"], weights=rows["predictions"]) == pytest.approx(made[columns].max(axis=1).mean(), abs=1e-6)


def test_the_table_of_cells_has_a_row_a_result(report: Report, runs: Path) -> None:
    digests = {result.digest for result in ResultStore(runs).results() if result.cell.task == "crop"}
    assert set(figure(report, "crop-cells")["digest"]) == digests
