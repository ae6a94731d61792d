"""The contract test of models: what keeps it passes, and every way of breaking it is caught and named."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from rs05bench.models.contract import Check, check_by_name, check_model, failed
from rs05bench.models.contract_task import contract_data
from rs05bench.models.registry import create
from rs05bench.protocol import Predictions, TaskData


@pytest.fixture(scope="module")
def data() -> TaskData:
    return contract_data("classification", "20-per-class")


@pytest.fixture(scope="module")
def template(repository: Path) -> str:
    return f"{repository / 'examples/models/template.py'}:NearestCentroid"


@pytest.fixture(scope="module")
def Template(template: str) -> type:
    return type(create(template))


def broken(data: TaskData, kind: type, **options) -> dict[str, Check]:
    """What failed, by promise."""
    found = check_model(lambda seed: kind(card=data.card, seed=seed, **options), data)
    return {check.what: check for check in found if check.status == "failed"}


def test_the_template_keeps_the_contract(template):
    outcome = check_by_name(template)
    assert not failed(outcome)
    assert [check.status for check in outcome["regression, 80-units"]] == ["skipped"]
    assert sum(check.status == "passed" for check in outcome["classification, 3-per-class"]) >= 14


@pytest.mark.parametrize("name", ["alphaearth/logistic", "raw/ridge", "hybrid/knn", "floor/nearest", "floor/mean"])
def test_built_in_models_keep_it(name):
    outcome = check_by_name(name)
    assert not failed(outcome), [check for checks in outcome.values() for check in checks if check.status == "failed"]


def test_asking_for_test_labels_is_caught_where_the_refusal_is_swallowed(data, Template):
    class Peeks(Template):
        def fit(self, data):
            with contextlib.suppress(Exception):
                data.y("test_ood")
            return super().fit(data)

    assert (
        "asked for the labels of 'test_ood'" in broken(data, Peeks)["never asks for test labels, nor reads test units while fitting"].detail
    )


def test_reaching_behind_the_view_is_caught(data, Template):
    class Digs(Template):
        def fit(self, data):
            data._source.labels(data.target)
            return super().fit(data)

    assert "private '_source'" in broken(data, Digs)["never asks for test labels, nor reads test units while fitting"].detail


def test_learning_from_the_looks_of_test_units_is_caught(data, Template):
    class Transductive(Template):
        def fit(self, data):
            super().fit(data)
            self.centres_ = self.centres_ + 0 * data.X("test_ood", "alphaearth").mean(axis=0)
            return self

    assert "read X of test_ood" in broken(data, Transductive)["never asks for test labels, nor reads test units while fitting"].detail


def test_chance_without_the_seed_is_caught(data, Template):
    class Rolls(Template):
        def fit(self, data):
            super().fit(data)
            self.centres_ = self.centres_ + np.random.default_rng().normal(0, 0.1, self.centres_.shape)
            return self

    assert set(broken(data, Rolls)) == {"one seed repeats"}


def test_predicting_with_labels_is_caught(data, Template):
    class Needs(Template):
        def predict(self, data, role):
            data.y("train")
            return super().predict(data, role)

    assert "labels were asked for while predicting" in broken(data, Needs)["predicts without any label available"].detail


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda p: p / 2, "probabilities lie in 0 to 1 and sum to 1"),
        (lambda p: np.where(np.arange(len(p))[:, None] == 3, np.nan, p), "probabilities lie in 0 to 1 and sum to 1"),
        (lambda p: p * [[2, -1, 1, 1]], "probabilities lie in 0 to 1 and sum to 1"),
    ],
)
def test_probabilities_that_are_none_are_caught(data, Template, spoil, what):
    class Spoilt(Template):
        def predict_array(self, X):
            return spoil(super().predict_array(X))

    assert f"test_ood: {what}" in broken(data, Spoilt)


def test_classes_and_units_must_be_those_of_the_task(data, Template):
    class Seen(Template):
        def predict(self, data, role):
            whole = super().predict(data, role)
            return Predictions.of_classes(whole.unit_id[:-1], role, whole.probabilities[:-1, :3] + 0.1, whole.classes[:3])

    faults = broken(data, Seen)
    assert "1 missing" in faults["test_id: every unit is predicted once"].detail
    assert "test_id: a column for every class of the task, in its order" in faults


def test_cards_must_be_complete_and_fit_returns_the_model(data, Template):
    class Bare(Template):
        model_card = Template.model_card.model_copy(update={"licence": "", "pretrained": True, "pretraining": []})

        def fit(self, data):
            super().fit(data)

    faults = broken(data, Bare)
    assert "licence is empty" in faults["has a complete card before it is fitted"].detail
    assert "rule 14" in faults["has a complete card before it is fitted"].detail
    assert "fit returns the model itself" in faults


def test_predictions_before_a_fit_are_caught(data, Template):
    class Eager(Template):
        def predict(self, data, role):
            if not hasattr(self, "centres_"):
                n = len(data.unit_ids(role))
                return Predictions.of_classes(data.unit_ids(role), role, np.full((n, 4), 0.25), data.classes)
            return super().predict(data, role)

    assert set(broken(data, Eager)) == {"refuses to predict before it was fitted"}


@pytest.mark.slow
def test_deep_models_are_checked_on_the_data_they_read(tmp_path):
    outcome = check_by_name("presto/frozen@random", {"steps": 2})
    assert failed(outcome)
    details = [check.detail for checks in outcome.values() for check in checks if check.status == "failed"]
    assert all("no feature set 'presto'" in detail for detail in details)


def run(*words: str, status: int = 0) -> str:
    from rs05bench.cli.models import register

    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.output


def test_the_command_prints_a_list_and_its_status_says_the_verdict(template, tmp_path):
    assert "keeps the contract" in run("models", "check", template)
    path = tmp_path / "bad.py"
    path.write_text(
        Path(template.rpartition(":")[0]).read_text().replace("return self\n\n    def predict(", "return None\n\n    def predict(")
    )
    out = run("models", "check", f"{path}:NearestCentroid", status=1)
    assert "FAILED" in out
    assert "BREAKS the contract" in out
    assert json.loads(run("models", "check", f"{path}:NearestCentroid", "--json", status=1))["keeps_the_contract"] is False


def test_the_listing_still_stands_beside_it():
    assert "alphaearth/logistic" in run("models", "--tier", "embedding")
    assert json.loads(run("models", "--json"))


def test_a_model_is_checked_on_a_task_of_ones_own(template, tmp_path):
    from tests.datasets.table_files import card, write_regions

    write_regions(tmp_path)
    card().save(tmp_path / "task.yaml")
    out = run("models", "check", template, "--card", str(tmp_path / "task.yaml"))
    assert "keeps the contract" in out
