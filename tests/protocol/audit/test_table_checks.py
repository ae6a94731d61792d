"""What the features of a table give away: copies, the target in other clothes, row numbers; clean tables raise nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs05bench.protocol import TaskCard, UnitTable, build_manifest
from rs05bench.protocol.audit import audit_table
from rs05bench.protocol.audit.copies import near_copies
from rs05bench.protocol.audit.row_order import row_order
from rs05bench.protocol.audit.target_copies import target_copies

REGIONS, EACH, BANDS = 4, 150, 24


def land(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features that vary smoothly with class and region, classes, regions: as alike across regions as real embeddings are."""
    rng = np.random.default_rng(seed)
    region = np.repeat(np.arange(REGIONS), EACH)
    label = rng.integers(0, 3, len(region))
    means = rng.normal(size=(3, BANDS)) + 0.3 * rng.normal(size=(REGIONS, 1, BANDS))
    mixing = rng.normal(size=(BANDS, BANDS)) / np.sqrt(BANDS)
    X = means[region, label] + rng.normal(size=(len(region), BANDS)) @ mixing
    return X.astype(np.float32), label, region


class Table:
    """A `TaskSource` in memory."""

    def __init__(
        self, X: np.ndarray, y: np.ndarray, region: np.ndarray, kind: str = "classification", names: list[str] | None = None
    ) -> None:
        self.names = names or [f"b{index}" for index in range(X.shape[1])]
        fields = {
            "kind": kind,
            "name": "t",
            "targets": ["y"],
            "groups": ["region"],
            "splits": ["leave-region-out"],
            "features": {"all": self.names},
        }
        self.card = TaskCard.parse(fields | {"split_options": {"block_size_m": 4000, "buffer_m": 0}})
        rng = np.random.default_rng(1)
        frame = pd.DataFrame({"unit_id": [f"u{index:04d}" for index in range(len(X))], "region": [f"r{value}" for value in region]})
        frame["lon"], frame["lat"] = region * 2 + rng.random(len(X)) * 0.4, 40 + rng.random(len(X)) * 0.4
        self.table, self.X = UnitTable.build(frame, groups=["region"]), X
        self.y = pd.Series([str(value) for value in y] if kind == "classification" else y, index=frame["unit_id"])
        self.digest = ""

    def units(self) -> UnitTable:
        return self.table

    def features(self, name: str) -> tuple[list[str], np.ndarray]:
        return self.names, self.X

    def labels(self, target: str) -> pd.Series:
        return self.y


def raised(table: Table) -> dict[str, list[str]]:
    manifest = build_manifest(table.card, table.units(), "leave-region-out")
    found = audit_table(table, manifest)
    return {finding.check: finding.numbers.get("columns", []) for finding in found if finding.level in ("leak", "warning")}


@settings(max_examples=3)
@given(seed=st.integers(0, 1000))
def test_a_clean_table_raises_nothing(seed):
    X, y, region = land(seed)
    assert raised(Table(X, y, region)) == {}
    assert raised(Table(X, X[:, 0] + X[:, 1] + np.random.default_rng(seed).normal(size=len(X)), region, "regression")) == {}


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05])
def test_units_copied_to_another_region_are_found_though_noise_is_added(noise):
    X, y, region = land(3)
    rng = np.random.default_rng(0)
    copies, originals = (
        rng.choice(np.flatnonzero(region == 0), 40, replace=False),
        rng.choice(np.flatnonzero(region == 2), 40, replace=False),
    )
    X[copies] = X[originals] + noise * X.std(axis=0) * rng.normal(size=(40, BANDS))
    assert "near_copies" in raised(Table(X, y, region))
    learnt, tested = np.flatnonzero(region != 0), np.flatnonzero(region == 0)
    found = near_copies(X, learnt, X, tested, region[learnt])
    assert set(tested[found.test]) == set(copies)
    assert set(learnt[found.train]) <= set(originals)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_copies_are_found_though_regions_that_train_hold_copies_of_each_other(noise):
    X, y, region = land(3)
    rng = np.random.default_rng(0)
    for at in range(REGIONS):  # a sixth of every region is of the next one
        copies = rng.choice(np.flatnonzero(region == at), EACH // 6, replace=False)
        originals = rng.choice(np.flatnonzero(region == (at + 1) % REGIONS), EACH // 6, replace=False)
        X[copies] = X[originals] + noise * X.std(axis=0) * rng.normal(size=(EACH // 6, BANDS))
    assert "near_copies" in raised(Table(X, y, region))


def test_constant_features_and_copied_rows_are_counted():
    X, y, region = land(5)
    X[:, :3] = 0.25
    table = Table(X, y, region)
    table.table.frame.loc[7, ["lon", "lat"]], X[7] = table.table.frame.loc[2, ["lon", "lat"]], X[2]
    X[30] = X[20]  # the features of another place
    found = {finding.check: finding.count for finding in audit_table(table, None)}
    assert (found["constant_features"], found["exact_copies"]) == (3, 1)


def test_a_feature_that_is_the_target_with_noise_is_named():
    X, y, region = land(4)
    rng = np.random.default_rng(0)
    values = rng.normal(size=len(X))
    for kind, labels, leak in (
        ("regression", values, values + 0.02 * rng.normal(size=len(X))),
        ("regression", values, np.exp(3 * values + 0.05 * rng.normal(size=len(X)))),  # in another scale
        ("classification", y, y + 0.02 * rng.normal(size=len(X))),
    ):
        names = [*(f"b{index}" for index in range(BANDS)), "leak"]
        assert raised(Table(np.column_stack([X, leak]).astype(np.float32), labels, region, kind, names)) == {"target_copies": ["leak"]}


def test_class_probabilities_are_named_and_an_index_within_0_to_1_is_not():
    X, y, region = land(5)
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), len(X)) * 0.4
    p[np.arange(len(y)), y] += 0.6
    ndvi = rng.random(len(X)) * 0.5
    names = [*(f"b{index}" for index in range(BANDS)), "ndvi", "p0", "p1", "p2"]
    assert raised(Table(np.column_stack([X, ndvi, p]).astype(np.float32), y, region, names=names)) == {"target_copies": ["p0", "p1", "p2"]}


def test_annual_means_of_probabilities_are_named_though_a_quarter_of_the_labels_is_not_the_largest():
    X, y, region = land(5)
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), len(X)) * 0.4
    peak = np.where(rng.random(len(y)) < 0.25, (y + 1) % 3, y)
    p[np.arange(len(y)), peak] += 0.6
    names = [*(f"b{index}" for index in range(BANDS)), "p0", "p1", "p2"]
    assert raised(Table(np.column_stack([X, p]).astype(np.float32), y, region, names=names)) == {"target_copies": ["p0", "p1", "p2"]}


def test_a_row_number_is_named_and_a_count_with_repeats_is_not():
    rng = np.random.default_rng(0)
    columns = ["row", "gaps", "years", "metres"]
    kept = np.sort(rng.choice(320, 300, replace=False))
    values = np.column_stack([rng.permutation(300), kept + 7, rng.integers(2015, 2025, 300), np.round(rng.random(300) * 1e5)])
    (finding,) = row_order(columns, values.astype(np.float32))
    assert finding.level == "warning"
    assert finding.numbers["columns"] == ["row", "gaps"]


@pytest.mark.parametrize("other", ["Penon", "peñón", "Peñón ", "Peñon\u0301"])
def test_a_group_in_two_spellings_is_named(other):
    X, y, region = land(6)
    table = Table(X, y, region)
    names = np.where(region == 0, "Peñón", np.where(region == 1, other, "Loma")).astype(object)
    table.table.frame["region"] = names
    table.card = table.card.model_copy(update={"unit": ["id"]})
    table.table.frame.loc[:1, "place"] = ["P-007", "p-7"]
    found = {finding.check: finding for finding in audit_table(table, None)}
    assert found["group_spellings:region"].level == "warning"
    assert "Peñón" in found["group_spellings:region"].sentence
    assert found["place_spellings:ids"].sentence.startswith("ids: one place in two spellings? 'P-007' and 'p-7'")


def test_values_that_may_be_codes_and_features_of_two_scales_are_asked_about():
    rng = np.random.default_rng(8)
    _, _, region = land(8)
    bands = rng.uniform(0.02, 0.5, (len(region), 4))
    bands[:, 3] = rng.uniform(-0.4, 0.9, len(region))
    bands[:20] = 0
    bands[20:30, 3] = 21
    bands[100:200, :3] *= 10_000
    y = rng.uniform(0, 100, len(region))
    y[::50] = 255
    table = Table(bands.astype(np.float32), y, region, "regression", ["b2", "b3", "b4", "NDVI"])
    found = [finding.sentence for finding in audit_table(table, None)]
    for said in (
        "y: 255 stands in 12 units",
        "20 units hold 0 in every column of all",
        "NDVI: 10 values are outside -1 to 1 (first 21)",
        "NDVI: 21 stands in 10 units",
        "all is in two scales: all columns of 470 units are within 2, and those of 100 are around",
    ):
        assert any(sentence.startswith(said) for sentence in found), (said, found)


def test_few_labels_say_nothing():
    assert target_copies(["a"], np.arange(5, dtype=np.float32)[:, None], pd.Series(np.arange(5.0)), "regression") == []
