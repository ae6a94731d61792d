"""What every shallow learner promises, from one label on: aligned, deterministic, and blind to test labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from rs05bench.errors import ProtocolError
from rs05bench.models import create
from rs05bench.models.learners import LEARNERS
from rs05bench.models.shallow import Scaler
from rs05bench.models.tuning import NEAREST

CLASSIFIERS = [name for name, learner in LEARNERS.items() if "classification" in learner.kinds]
REGRESSORS = [name for name, learner in LEARNERS.items() if "regression" in learner.kinds]


KIND_MISMATCH = [
    ("classification", "raw/ridge", "raw/logistic"),
    ("regression", "raw/logistic", "raw/ridge"),
    ("regression", "floor/majority", "floor/mean"),
    ("classification", "floor/mean", "floor/majority"),
]


def fitted(task, name, budget="10-per-class", seed=0, data=None):
    data = data or task.data(budget)
    return create(name, card=task.card, seed=seed).fit(data), data


def restricted(data, rows, role="train"):
    """The data with only some labels of a role."""
    labels = dict(data._labels)
    units = dict(data._rows)
    labels[role], units[role] = labels[role][rows], units[role][rows]
    return replace(data, _labels=labels, _rows=units)


def truth(task, predictions):
    return task.table.labels().loc[predictions.unit_id].to_numpy()


@pytest.mark.parametrize("learner", CLASSIFIERS)
def test_classifiers_give_probabilities_for_every_unit_and_beat_the_majority(landcover, learner):
    model, data = fitted(landcover, f"alphaearth/{learner}", "20-per-class")
    predictions = model.predict(data, "test_id")
    assert_array_equal(predictions.unit_id, data.unit_ids("test_id"))
    assert predictions.classes == ("0", "1", "2")
    assert predictions.probabilities.shape == (len(predictions), 3)
    assert_allclose(predictions.probabilities.sum(axis=1), 1.0, atol=1e-5)
    best = np.array(predictions.classes)[predictions.probabilities.argmax(axis=1)]
    assert (best == truth(landcover, predictions)).mean() > 0.55  # three balanced classes


@pytest.mark.parametrize("learner", REGRESSORS)
def test_regressors_explain_the_target_in_its_own_unit(height, learner):
    model, data = fitted(height, f"alphaearth/{learner}", "100-units")
    predictions = model.predict(data, "test_id")
    y = truth(height, predictions)
    assert predictions.y.dtype == np.float64
    assert 1 - np.sum((y - predictions.y) ** 2) / np.sum((y - y.mean()) ** 2) > 0.2


@pytest.mark.parametrize("learner", CLASSIFIERS)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_handful_of_labels_is_enough_to_predict(landcover, learner, n):
    data = restricted(restricted(landcover.data(), slice(0, n)), slice(0, 1), "val")
    model, _ = fitted(landcover, f"hybrid/{learner}", data=data)
    probabilities = model.predict(data, "test_ood").probabilities
    assert np.isfinite(probabilities).all()
    seen = np.unique(data.y("train"))
    unseen = np.setdiff1d(np.arange(3), seen)
    assert_array_equal(probabilities[:, unseen], 0.0)


@pytest.mark.parametrize("learner", REGRESSORS)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_handful_of_values_is_enough_to_predict(height, learner, n):
    data = restricted(restricted(height.data("50-units"), slice(0, n)), slice(0, 0), "val")
    model, _ = fitted(height, f"raw/{learner}", data=data)
    y = model.predict(data, "test_ood").y
    assert np.isfinite(y).all()
    if n == 1:
        assert_allclose(y, data.y("train")[0])


@pytest.mark.parametrize("learner", CLASSIFIERS)
def test_one_class_in_training_is_predicted_everywhere_and_noted(landcover, learner):
    data = landcover.data()
    data = restricted(data, np.flatnonzero(data.y("train") == 2))
    model, _ = fitted(landcover, f"alphaearth/{learner}", data=data)
    assert_array_equal(model.predict(data, "test_id").probabilities, np.tile([0.0, 0.0, 1.0], (len(data.unit_ids("test_id")), 1)))
    assert any("one class only" in note for note in model.notes_)


@pytest.mark.parametrize("name", [*(f"alphaearth/{learner}" for learner in CLASSIFIERS), "floor/nearest", "floor/majority"])
def test_without_validation_labels_the_first_entry_is_taken_and_recorded(landcover, name):
    data = restricted(landcover.data(), slice(0, 0), "val")
    model, _ = fitted(landcover, name, data=data)
    assert len(model.predict(data, "test_id")) == len(data.unit_ids("test_id"))
    if name == "floor/majority":
        return
    grid = NEAREST if name == "floor/nearest" else LEARNERS[name.split("/")[1]].grid
    assert model.choice_.parameters == grid[0]
    assert "no validation label" in model.training_record.notes[0]


@pytest.mark.parametrize("name", [*(f"hybrid/{learner}" for learner in CLASSIFIERS)])
def test_same_seed_same_predictions(landcover, name):
    first, data = fitted(landcover, name, seed=3)
    second, _ = fitted(landcover, name, seed=3)
    assert_array_equal(first.predict(data, "test_ood").probabilities, second.predict(data, "test_ood").probabilities)


@pytest.mark.parametrize("learner", ["rf", "mlp", "xgboost", "lightgbm"])
def test_another_seed_gives_another_fit(landcover, learner):
    first, data = fitted(landcover, f"hybrid/{learner}", seed=0)
    second, _ = fitted(landcover, f"hybrid/{learner}", seed=1)
    assert not np.array_equal(first.predict(data, "test_ood").probabilities, second.predict(data, "test_ood").probabilities)


def test_logistic_is_scikit_learns_on_features_scaled_by_training(landcover):
    model, data = fitted(landcover, "alphaearth/logistic")
    scaler = StandardScaler().fit(data.X("train", "alphaearth").astype(np.float64))
    entry = model.choice_.parameters
    reference = LogisticRegression(**entry, tol=1e-8, max_iter=5000).fit(scaler.transform(data.X("train", "alphaearth")), data.y("train"))
    expected = reference.predict_proba(scaler.transform(data.X("test_id", "alphaearth").astype(np.float64)))
    assert_allclose(model.predict(data, "test_id").probabilities, expected, atol=2e-4)


@pytest.mark.parametrize("index", range(4))
def test_ridge_path_equals_scikit_learns_ridge(index):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 50)) + 3, rng.normal(size=30) + 7
    Z = rng.normal(size=(10, 50))
    fit = LEARNERS["ridge"].path(X, y, LEARNERS["ridge"].grid, "regression", 0)[index]
    expected = Ridge(alpha=LEARNERS["ridge"].grid[index]["alpha"]).fit(X, y).predict(Z)
    assert_allclose(fit.predict(Z), expected, rtol=1e-8)


@pytest.mark.parametrize("learner", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_stage_of_a_long_boosted_fit_is_the_short_fit(learner, kind, classes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5))
    y = np.arange(60) % classes if kind == "classification" else X[:, 0] + rng.normal(size=60)
    long, short = LEARNERS[learner].grid[0], LEARNERS[learner].grid[1]
    assert long["rounds"] > short["rounds"]
    together = LEARNERS[learner].path(X, y, (long, short), kind, 0)[1]
    alone = LEARNERS[learner].path(X, y, (short,), kind, 0)[0]
    assert_allclose(together.predict(X), alone.predict(X), rtol=1e-6)
    assert together.count() == alone.count()
    if kind == "classification":
        assert together.predict(X).shape == (60, classes)


@pytest.mark.parametrize("learner", REGRESSORS)
def test_regression_does_not_depend_on_the_targets_unit(height, learner):
    data = height.data("50-units")
    labels = {role: values * 1024.0 for role, values in data._labels.items()}  # a power of two changes no digit
    model, _ = fitted(height, f"alphaearth/{learner}", data=data)
    other, _ = fitted(height, f"alphaearth/{learner}", data=replace(data, _labels=labels))
    assert_allclose(other.predict(data, "test_id").y, model.predict(data, "test_id").y * 1024.0, rtol=1e-12)


def test_intervals_cover_about_nine_of_ten_new_units_at_home(make_task):
    task = make_task("regression", split="random")
    hits = []
    for seed in range(12):
        model, data = fitted(task, "alphaearth/ridge", data=task.data("100-units", seed))
        predictions = model.predict(data, "test_id")
        y = truth(task, predictions)
        hits.append(((predictions.interval[:, 0] <= y) & (y <= predictions.interval[:, 1])).mean())
    assert 0.86 < np.mean(hits) < 0.985


def test_too_few_validation_labels_give_no_interval_and_say_so(height):
    model, data = fitted(height, "alphaearth/ridge", "20-units")
    assert len(data.y("val")) < 9
    assert model.predict(data, "test_id").interval is None
    assert any("no interval" in note for note in model.notes_)


def test_missing_features_are_imputed_from_training_alone():
    scale = Scaler(np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan], [8.0, np.nan]]), impute=True)
    assert_allclose(scale.fill_, [3.0, 0.0])
    out = scale(np.array([[np.nan, np.nan], [100.0, np.inf]]))
    assert np.isfinite(out).all()
    assert out[0, 0] == pytest.approx((3.0 - 4.0) / np.std([1, 3, 8]))


def test_constant_columns_do_not_blow_up():
    X = np.full((5, 1), 0.1) + np.array([[0.0], [1e-17], [0.0], [1e-17], [0.0]])
    assert_allclose(Scaler(X, impute=False)(X), 0.0, atol=1e-12)


@pytest.mark.parametrize("learner", CLASSIFIERS)
def test_units_with_missing_features_are_predicted_when_the_card_keeps_them(make_task, learner):
    task = make_task(missing="keep")
    values = task.table.features("hybrid")[1].copy()
    values[::7, 3] = np.nan
    values[: len(values) // 2, 9] = np.nan
    task.table._arrays["hybrid"] = values
    model, data = fitted(task, f"hybrid/{learner}")
    assert np.isfinite(model.predict(data, "test_ood").probabilities).all()


@pytest.mark.parametrize(("kind", "name", "instead"), KIND_MISMATCH)
def test_a_learner_for_the_other_kind_says_which_to_use(landcover, height, kind, name, instead):
    task = landcover if kind == "classification" else height
    with pytest.raises(ProtocolError, match=rf"only[\s\S]*Use {instead} instead"):
        create(name, card=task.card).fit(task.data("50-units"))


def test_no_shallow_model_asks_for_a_test_label(landcover):
    class Watched:
        def __init__(self, data):
            self.data, self.asked = data, []

        def y(self, role):
            self.asked.append(role)
            return self.data.y(role)

        def __getattr__(self, name):
            return getattr(self.data, name)

    for name in ("alphaearth/logistic", "raw/rf", "floor/nearest", "floor/majority"):
        data = Watched(landcover.data())
        model = create(name, card=landcover.card).fit(data)
        model.predict(data, "test_ood")
        assert set(data.asked) == {"train", "val"}


def test_the_record_of_a_fit_is_plain_data_with_the_whole_grid(landcover):
    import json

    model, data = fitted(landcover, "alphaearth/knn")
    record = json.loads(model.training_record.model_dump_json())
    assert record["grid"] == [{"k": 5}, {"k": 1}, {"k": 3}, {"k": 15}]
    assert record["losses"].index(min(record["losses"])) == record["grid"].index(record["setting"])
    assert str(len(data.y("val"))) in record["chosen"]
    assert model.card.parameters_trainable == data.X("train", "alphaearth").size


def test_every_learner_has_a_grid_of_the_same_size():
    assert {len(LEARNERS[name].grid) for name in LEARNERS} == {4}
