"""Other draws of a task's split, and what its groups can show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rs05bench.errors import DataError
from rs05bench.experiment.sensitivity import lines, sensitivity
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.card import TaskCard


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Six states whose target one column knows, under noise that differs from state to state."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    state = np.repeat(np.arange(6), 60)
    lon, lat = -100 + 2.0 * state + rng.uniform(0, 1, 360), 40 + rng.uniform(0, 1, 360)
    signal = rng.standard_normal(360)
    frame = pd.DataFrame({"id": [f"u{k}" for k in range(360)], "state": [f"s{k}" for k in state], "lon": lon, "lat": lat})
    frame = frame.assign(NDVI=signal, noise=rng.standard_normal(360), y=signal + (0.3 + 0.2 * state) * rng.standard_normal(360))
    frame.to_csv(folder / "units.csv", index=False)
    card = TaskCard.parse(
        {
            "kind": "regression",
            "name": "toy",
            "targets": ["y"],
            "unit": ["id"],
            "groups": ["state"],
            "coordinates": {"x": "lon", "y": "lat"},
            "files": ["units.csv"],
            "features": {"raw": ["NDVI"], "other": ["noise"]},
            "splits": ["leave-state-out", "random"],
            "split_options": {"block_size_m": 20_000, "buffer_m": 0, "test_fraction": 0.4},
        }
    )
    return card, folder


@pytest.fixture(scope="module")
def found(table):
    return sensitivity(*table, split_seeds=2)


def test_the_split_is_drawn_again_with_other_seeds(found):
    assert [entry.what for entry in found.variants[:3]] == ["as on the card", "split seed 1", "split seed 2"]
    assert (found.split, found.role, found.floor) == ("leave-state-out", "test_ood", "floor/mean")
    scores = [entry.score for entry in found.variants]
    assert len(set(scores)) == len(scores)
    assert found.spread == max(scores) - min(scores)
    assert all(entry.groups == 6 for entry in found.variants)


def test_blocks_follow_the_range_of_the_labels(table):
    card, folder = table
    frame = pd.read_csv(folder / "units.csv")
    waves = np.sin(2 * np.pi * (frame["lon"] + frame["lat"]) / 0.8)
    near = folder / "near"
    near.mkdir(exist_ok=True)
    frame.assign(y=waves + 0.1 * frame["y"]).to_csv(near / "units.csv", index=False)
    found = sensitivity(card, near, split_seeds=0)
    assert found.range_m is not None
    assert [entry.block_m for entry in found.variants[1:]] == pytest.approx([0.5 * found.range_m, found.range_m, 2 * found.range_m])


def test_a_difference_of_the_size_named_is_found_four_times_in_five(found):
    entry = next(one for one in found.power if one.second == "floor/mean")
    assert entry.groups == 6
    # Five degrees of freedom: the spread over groups is what the size follows from.
    critical = stats.t.ppf(0.975, 5)
    shifts = np.linspace(2, 6, 4001)
    needed = shifts[np.argmax(stats.nct.sf(critical, 5, shifts) >= 0.8)]
    spread = entry.detectable * np.sqrt(6) / needed
    drawn = np.random.default_rng(1).normal(entry.detectable, spread, (20_000, 6))
    assert (stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.02)
    assert any("6 groups show a difference" in line for line in lines(found))


def test_a_store_keeps_it_for_its_report(found, tmp_path):
    store = ResultStore(tmp_path)
    store.put_sensitivity(found)
    assert store.sensitivity("toy", "y") == found
    assert store.sensitivity("toy", "other") is None


def test_a_card_without_columns_is_refused(table):
    card, folder = table
    with pytest.raises(DataError, match="columns of a table"):
        sensitivity(card.model_copy(update={"features": {}}), folder)
