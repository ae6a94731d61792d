"""The three tables: what they hold, that they repeat, and that another region is truly another region."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import f1_score, r2_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rs05bench.datasets.simulated import TASKS, simulate, write_tables
from rs05bench.datasets.simulated.embedding import PRODUCT
from rs05bench.errors import DataError
from rs05bench.protocol import TaskCard

KEYS = {"burn-scar": ["pixel_id", "year"], "crop": ["parcel_id", "year"], "urban": ["tract_id", "year"]}


@pytest.fixture(scope="module")
def tables(small) -> dict[str, pd.DataFrame]:
    return {task: small.table(task) for task in TASKS}


@pytest.mark.parametrize("task", TASKS)
def test_a_table_is_of_the_announced_size_with_unique_units_and_no_gaps(tables, task):
    table = tables[task]
    assert 1_500 <= len(table) <= 3_000
    assert not table.duplicated(KEYS[task]).any()
    assert not table.isna().any().any()


@pytest.mark.parametrize("task", TASKS)
def test_places_lie_in_the_contiguous_states(tables, task):
    table = tables[task]
    assert table["longitude"].between(-125, -66).all()
    assert table["latitude"].between(24, 50).all()


def test_indices_are_those_of_the_bands(tables):
    table = tables["burn-scar"]
    nbr = (table["B8A"] - table["B12"]) / (table["B8A"] + table["B12"])
    assert np.allclose(table["NBR"], nbr, atol=1e-5)
    assert np.allclose(table["dNBR"], table["NBR_pre"] - table["NBR"], atol=1e-5)


def test_burned_ground_loses_near_infrared(tables):
    table = tables["burn-scar"]
    by_label = table.groupby("label")["dNBR"].median()
    assert by_label["burned"] > by_label["unburned"] + 0.1
    assert (table.loc[table["label"] == "unburned", "severity"] == 0).all()


def test_every_crop_grows_in_every_system(tables):
    counts = pd.crosstab(tables["crop"]["crop_system"], tables["crop"]["crop"])
    assert counts.shape == (3, 6)
    assert counts.to_numpy().min() >= 5


def test_modes_of_travel_are_shares(tables):
    table = tables["urban"]
    total = table[["drive_alone_pct", "transit_pct", "walk_pct", "bike_pct"]].sum(axis=1)
    assert total.between(0, 110).all()
    assert (table["property_crime_rate"] + table["violent_crime_rate"] - table["crime_rate"]).abs().max() < 1e-3


def test_the_same_seed_writes_the_same_bytes_and_another_seed_does_not(tmp_path):
    first = _bytes(write_tables(tmp_path / "a", size="tiny", seed=3))
    assert first == _bytes(write_tables(tmp_path / "b", size="tiny", seed=3))
    other = _bytes(write_tables(tmp_path / "c", tasks=["urban"], size="tiny", seed=4))
    assert other["urban/urban.csv"] != first["urban/urban.csv"]


def test_exports_have_earth_engines_form_and_cards_that_load(tmp_path):
    for task, path in write_tables(tmp_path, size="tiny").items():
        card = TaskCard.load(path)
        assert card.name == task
        assert card.simulated
        for file in sorted(path.parent.glob("*.csv")):
            table = pd.read_csv(file)
            names = list(table.columns)
            assert (names[0], names[-1]) == ("system:index", ".geo")
            assert names[1:-1] == sorted(names[1:-1])
            assert {card.year, *card.targets, *card.groups, *PRODUCT.bands, "longitude", "latitude"} <= set(names)
            for features in card.features:
                assert not {*card.targets, *card.never_features} & set(card.feature_columns(features, names))


def test_unknown_names_are_refused():
    with pytest.raises(DataError, match="no simulated size 'huge'"):
        simulate("huge")
    with pytest.raises(DataError, match="no simulated task 'snow'"):
        simulate("tiny").table("snow")


def test_a_crop_model_falls_in_another_county(tables):
    table = tables["crop"]
    model = make_pipeline(StandardScaler(), RidgeClassifier(10.0))
    x, y = table[list(PRODUCT.bands)].to_numpy(), table["crop"].to_numpy()
    home, away = _home_and_away(model, x, y, table["state"].to_numpy(), lambda a, b: f1_score(a, b, average="macro"))
    assert home > 0.75
    assert away < home - 0.08


def test_a_burn_model_falls_in_another_biome(tables):
    table = tables["burn-scar"]
    model = ExtraTreesClassifier(60, random_state=0, min_samples_leaf=2)
    x, y = table[list(PRODUCT.bands)].to_numpy(), table["label"].to_numpy()
    home, away = _home_and_away(model, x, y, table["region"].to_numpy(), lambda a, b: f1_score(a, b, average="macro"))
    assert home > 0.7
    assert away < home - 0.05


def test_an_income_model_falls_in_another_city(tables):
    table = tables["urban"]
    home, away = _home_and_away(
        make_pipeline(StandardScaler(), Ridge(100.0)),
        table[list(PRODUCT.bands)].to_numpy(),
        table["log_income"].to_numpy(),
        table["city"].to_numpy(),
        r2_score,
    )
    assert home > 0.4
    assert away < home - 0.3


def test_position_alone_carries_something_at_home_and_nothing_away(tables):
    table = tables["crop"]
    x, y = table[["longitude", "latitude"]].to_numpy(), table["crop"].to_numpy()
    home, away = _home_and_away(KNeighborsClassifier(5), x, y, table["state"].to_numpy(), lambda a, b: f1_score(a, b, average="macro"))
    assert home > 0.25  # chance is 1/6
    assert away < 0.2


def _home_and_away(model, x, y, region, score):
    """Mean score over a random quarter, and over regions held out whole."""
    order = np.random.default_rng(0).permutation(len(y))
    test, train = order[: len(y) // 4], order[len(y) // 4 :]
    home = score(y[test], model.fit(x[train], y[train]).predict(x[test]))
    away = [score(y[region == r], model.fit(x[region != r], y[region != r]).predict(x[region == r])) for r in np.unique(region)]
    return home, float(np.mean(away))


def _bytes(cards: dict[str, Path]) -> dict[str, bytes]:
    return {f"{task}/{file.name}": file.read_bytes() for task, card in cards.items() for file in sorted(card.parent.iterdir())}
