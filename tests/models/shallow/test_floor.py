"""The floors: arithmetic on labels and places that anyone can redo by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.neighbors import KNeighborsClassifier

from rs05bench.errors import DataError, ProtocolError
from rs05bench.models import create
from rs05bench.models.floor import by_shared_groups, neighbours, on_sphere


def fitted(task, name, budget="10-per-class", seed=0):
    data = task.data(budget, seed)
    return create(name, card=task.card).fit(data), data


def test_majority_gives_the_class_frequencies_of_training(landcover):
    model, data = fitted(landcover, "floor/majority", "full")
    expected = np.bincount(data.y("train"), minlength=3) / len(data.y("train"))
    assert_allclose(model.predict(data, "test_ood").probabilities, np.tile(expected, (len(data.unit_ids("test_ood")), 1)), rtol=1e-6)


def test_mean_gives_the_training_mean_and_an_interval_from_validation(height):
    model, data = fitted(height, "floor/mean", "100-units")
    predictions = model.predict(data, "test_id")
    assert_allclose(predictions.y, data.y("train").mean())
    residuals = np.sort(np.abs(data.y("val") - data.y("train").mean()))
    rank = int(np.ceil((len(residuals) + 1) * 0.9))
    assert_allclose(predictions.interval[:, 1] - predictions.y, residuals[rank - 1])


def test_nearest_is_great_circle_neighbours_of_the_training_units(landcover):
    model, data = fitted(landcover, "floor/nearest")
    radians = {role: np.radians(data.coordinates(role)[:, ::-1]) for role in ("train", "test_id")}
    k = model.choice_.parameters["k"]
    reference = KNeighborsClassifier(k, metric="haversine", algorithm="brute").fit(radians["train"], data.y("train"))
    assert_allclose(model.predict(data, "test_id").probabilities, reference.predict_proba(radians["test_id"]), atol=1e-6)


def test_neighbours_cross_the_date_line_and_the_pole():
    known = on_sphere(np.array([[179.9, 0.0], [0.0, 0.0], [0.0, 89.0]]))
    assert neighbours(known, on_sphere(np.array([[-179.9, 0.0], [180.0, 89.5]])), 1)[:, 0].tolist() == [0, 2]
    assert neighbours(known, on_sphere(np.array([[1.0, 1.0]])), 15).shape == (1, 3)


def test_nearest_without_positions_takes_the_units_sharing_most_groups(make_task):
    task = make_task(coordinates=None, split="random", groups=["region"])
    model, data = fitted(task, "floor/nearest", "20-per-class")
    predicted = model.predict(data, "test_id").probabilities
    home = data.groups("train")["region"].to_numpy()
    for row, region in enumerate(data.groups("test_id")["region"]):
        expected = np.bincount(data.y("train")[home == region], minlength=3) / (home == region).sum()
        assert_allclose(predicted[row], expected, rtol=1e-5)
    assert "no positions" in model.notes_[0]


def test_shared_groups_fall_back_from_two_to_one_to_none():
    known = pd.DataFrame({"site": ["a", "a", "b"], "biome": ["x", "y", "y"]})
    asked = pd.DataFrame({"site": ["a", "c", "c"], "biome": ["x", "y", "z"]}, index=[5, 6, 7])
    labels = np.array([[1.0], [2.0], [6.0]])
    assert_array_equal(by_shared_groups(known, labels, asked)[:, 0], [1.0, 4.0, 3.0])


def test_nearest_with_neither_positions_nor_groups_is_not_applicable(make_task):
    task = make_task(coordinates=None, groups=None, split="random")
    with pytest.raises(ProtocolError, match=r"floor/nearest is not applicable[\s\S]*Declare `coordinates` or `groups`"):
        fitted(task, "floor/nearest")


@pytest.fixture(scope="module")
def years(make_task):
    return make_task("regression", split="next-year", years=(2021, 2022, 2023))


@pytest.mark.parametrize("fold", ["2022", "2023"])
@pytest.mark.parametrize("budget", ["full", "60-units"])
def test_last_year_is_the_places_latest_earlier_label_else_that_of_the_nearest_place(years, fold, budget):
    data = years.data(budget, fold=fold)
    model = create("floor/last-year", card=years.card).fit(data)
    past = pd.DataFrame(
        {
            "place": np.concatenate([data.places("train"), data.places("val")]),
            "year": np.concatenate([data.years("train"), data.years("val")]),
            "y": np.concatenate([data.y("train"), data.y("val")]),
        }
    )
    where = np.concatenate([data.coordinates("train"), data.coordinates("val")])
    predicted = model.predict(data, "test_ood")
    known = data.places("test_ood")
    lacking = 0
    for row, (place, year) in enumerate(zip(known, data.years("test_ood"), strict=True)):
        earlier = past[past["year"] < year]
        same = earlier[earlier["place"] == place]
        if same.empty:
            lacking += 1
            gap = neighbours(on_sphere(where[earlier.index]), on_sphere(data.coordinates("test_ood")[[row]]), 1)[0, 0]
            same = earlier[earlier["place"] == earlier["place"].iloc[gap]]
        assert predicted.y[row] == pytest.approx(same.sort_values("year")["y"].iloc[-1])
    assert (lacking == 0) == (budget == "full")
    if lacking:
        assert f"{lacking} of {len(known)} units have no earlier label of their own place" in model.notes_[-1]


def test_last_year_is_withheld_at_new_places(make_task):
    task = make_task("regression", split="leave-year-out", years=(2021, 2022))
    for fold in task.manifest.folds:
        with pytest.raises(
            ProtocolError, match=r"not applicable: no test unit of leave-year-out, fold '20\d\d', has a label of its own place"
        ):
            create("floor/last-year", card=task.card).fit(task.data("full", fold=fold))


def test_last_year_never_looks_ahead(years):
    data = years.data("full", fold="2023")
    model = create("floor/last-year", card=years.card).fit(data)
    # Validation units of 2022 are answered from 2021, whatever labels their own year has.
    before = model.predict(data, "val")
    early = data.years("val") == 2022
    assert early.any()
    model._train.labels[data.years("train") >= 2022] = 1e9
    assert_array_equal(model.predict(data, "val").y[early], before.y[early])


def test_last_year_without_years_is_not_applicable(landcover, make_task):
    with pytest.raises(ProtocolError, match="declares no year column"):
        fitted(landcover, "floor/last-year")
    with pytest.raises(ProtocolError, match=r"has one year only \(2024\)"):
        fitted(make_task(year="year"), "floor/last-year")


def test_covariates_are_a_floor_of_their_own(landcover):
    card = landcover.card.model_copy(update={"covariates": ["density"]})
    model = create("floor/covariates", card=card)
    assert (model.card.tier, model.card.content, model.features) == ("floor", ["covariate"], "covariates")
    with pytest.raises(DataError, match="needs `covariates` on the card"):
        create("floor/covariates", card=landcover.card)
