"""Traces of carelessness and deceit are flagged; an honest bundle raises no flag."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from rs05bench.protocol.submission import plausibility
from rs05bench.protocol.submission.shelf import add_submission
from tests.protocol.submission.world import CLASSES, unit_table, write_bundle, write_sums


def rewrite(bundle, predict) -> None:
    """Rewrites every cell's probabilities by a function of unit ids, fold, budget and seed."""
    for path in (bundle / "cells").iterdir():
        cell = json.loads((path / "predictions.json").read_text())["cell"]
        frame = pd.read_parquet(path / "units.parquet")
        p = predict(frame["unit_id"].tolist(), cell)
        pq.write_table(unit_table(frame["unit_id"].tolist(), frame["role"].tolist(), p.astype(np.float32)), path / "units.parquet")
    write_sums(bundle)


def keys(verdict) -> set[str]:
    assert verdict.outcome == "accepted", verdict.faults
    return {flag.key for flag in verdict.flags}


def test_an_honest_bundle_raises_no_flag(world, verify):
    assert keys(verify(world.good)) == set()


def test_test_labels_that_were_copied(world, bundle, verify):
    labels = pd.read_parquet(world.root / "truth/labels/labels.parquet").set_index("unit_id")["cover"]
    rng = np.random.default_rng(0)

    def copied(units, cell):
        p = np.full((len(units), 3), 0.1) + 0.01 * rng.random((len(units), 3))
        p[np.arange(len(units)), [CLASSES.index(labels[unit]) for unit in units]] = 0.8
        return p / p.sum(axis=1, keepdims=True)

    rewrite(bundle, copied)
    assert "too-good" in keys(verify(bundle))


def test_predictions_that_follow_coordinates(world, bundle, verify, monkeypatch):
    monkeypatch.setattr(plausibility, "LEAST_PLACES", 30)
    units = pd.read_parquet(world.root / "truth/manifests/tiny/leave-region-out@v1.units.parquet").set_index("unit_id")

    def smooth(ids, cell):
        where = units.loc[ids, ["lon", "lat"]].to_numpy()
        slope = (where[:, 0] // 5 * 0.25 + where[:, 0] % 5 + 0.001 * cell["seed"]).clip(0, 1) * 0.8
        return np.column_stack([slope, 0.9 - slope, np.full(len(ids), 0.1)])

    assert "coordinates" not in keys(verify(bundle))
    rewrite(bundle, smooth)
    assert "coordinates" in keys(verify(bundle))


def test_what_neighbours_in_space_explain():
    where = np.random.default_rng(0).random((400, 2))
    assert plausibility._explained(where, where[:, 0]) > 0.95
    assert plausibility._explained(where, np.random.default_rng(1).random(400)) < 0.1


def test_predictions_that_rest_on_no_label(bundle, verify):
    rewrite(bundle, lambda units, cell: np.tile([0.5, 0.3, 0.2], (len(units), 1)) + 0.0)
    assert "unmoved" in keys(verify(bundle))


def test_predictions_of_another_team(world, tmp_path, verify):
    board = tmp_path / "board"
    board.mkdir()
    world.board.save(board / "tasks.yaml")
    assert add_submission(world.good, board, world.root / "truth")[2] == "rescored"
    thief = write_bundle(tmp_path / "thief", world.root, world.board, slug="other-team")

    def stolen(units, cell):
        path = next(
            path for path in (world.good / "cells").iterdir() if json.loads((path / "predictions.json").read_text())["cell"] == cell
        )
        frame = pd.read_parquet(path / "units.parquet").set_index("unit_id").loc[units]
        p = frame[[f"p_{name}" for name in CLASSES]].to_numpy() + 2e-4 * np.random.default_rng(0).random((len(units), 3))
        return p / p.sum(axis=1, keepdims=True)

    honest = verify(thief, others=board / "submissions")
    assert "identical" not in keys(honest)
    rewrite(thief, stolen)
    flags = [flag for flag in verify(thief, others=board / "submissions").flags if flag.key == "identical"]
    assert "forest-tiny" in flags[0].sentence


@pytest.mark.parametrize(
    "cost",
    [
        {"fit_s": 0.0},
        {"device_hours": 2.0},
        {"gflops_per_unit": 1e6, "predict_s_per_1000": 0.001},
        {"parameters_total": 10, "parameters_trainable": 20},
    ],
)
def test_costs_the_hardware_cannot_have_had(bundle, verify, cost):
    record = json.loads((bundle / "costs.json").read_text())
    record["costs"][0] |= cost
    (bundle / "costs.json").write_text(json.dumps(record))
    write_sums(bundle)
    assert keys(verify(bundle)) == {"cost"}
