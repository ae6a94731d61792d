"""Probes solved together: the answers of scikit-learn, and bit for bit those of each problem alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from rs05bench.experiment.batched_probes import solve_together
from rs05bench.experiment.workers import Job, open_bench
from rs05bench.models import probes
from rs05bench.models.probes import logistic_paths, ridge_paths
from rs05bench.protocol.result import Cell

CS = (0.1, 1.0, 0.01, 10.0)
ALPHAS = (10.0, 1.0, 1000.0)


def problems(classes: int, sizes, d: int = 12, seed: int = 0):
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(classes, d))
    found = []
    for n in sizes:
        y = np.arange(n) % classes
        found.append((centre[y] + rng.normal(size=(n, d)), y))
    return found


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("n", [8, 40])  # fewer and more units than features
def test_logistic_gives_the_answers_of_scikit_learn(classes, n):
    X, y = problems(classes, [n])[0]
    fresh = problems(classes, [200], seed=1)[0][0]
    for C, line in zip(CS, logistic_paths([(X, y)], CS)[0], strict=True):
        theirs = LogisticRegression(C=C, tol=1e-10, max_iter=20_000).fit(X, y)
        np.testing.assert_allclose(line.probabilities(fresh), theirs.predict_proba(fresh), atol=2e-4)


def test_weak_penalties_and_separated_classes_are_finished_in_double_precision(monkeypatch):
    X, y = problems(3, [30], d=20)[0]
    fresh = problems(3, [200], d=20, seed=1)[0][0]
    used = []
    inner = probes._minimise
    monkeypatch.setattr(probes, "_minimise", lambda *given: used.append(given[-1]) or inner(*given))
    for C, line in zip((1e3, 1e5), logistic_paths([(X, y)], (1e3, 1e5))[0], strict=True):
        theirs = LogisticRegression(C=C, tol=1e-12, max_iter=100_000, solver="newton-cg").fit(X, y)
        np.testing.assert_allclose(line.probabilities(fresh), theirs.predict_proba(fresh), atol=2e-3)
    assert used == [np.float32, np.float64]


@pytest.mark.parametrize("n", [8, 40])
def test_ridge_gives_the_answers_of_scikit_learn(n):
    X, y = problems(3, [n])[0]
    for alpha, line in zip(ALPHAS, ridge_paths([(X, y.astype(float))], ALPHAS)[0], strict=True):
        theirs = Ridge(alpha=alpha).fit(X, y)
        np.testing.assert_allclose(line.weights, theirs.coef_, atol=1e-9)
        assert line.offset == pytest.approx(theirs.intercept_, abs=1e-9)


@pytest.mark.parametrize("solve", [lambda many: logistic_paths(many, CS), lambda many: ridge_paths(many, ALPHAS)])
def test_company_does_not_change_an_answer_by_one_bit(solve):
    many = problems(3, [8, 40, 40, 8, 17, 40])
    for together, (alone,) in zip(solve(many), (solve([one]) for one in many), strict=True):
        for a, b in zip(together, alone, strict=True):
            assert np.array_equal(a.weights, b.weights)
            assert np.array_equal(a.offset, b.offset)


def test_a_column_that_never_changes_has_no_weight():
    X, y = problems(2, [20])[0]
    X[:, 3] = 1.0
    np.testing.assert_allclose(logistic_paths([(X, y)], CS)[0][0].weights[3], 0.0, atol=1e-15)


def test_cells_fitted_together_are_those_fitted_alone(tiny, finished):
    from rs05bench import models

    task = open_bench(Job(str(tiny / "card.yaml"), str(tiny), str(finished), ("leave-state-out",)))
    fold = task.manifest("leave-state-out").folds[0]
    cells = [
        Cell(task="tiny", target="crop", split="leave-state-out", fold=fold, model="alphaearth/logistic", budget=budget, seed=seed)
        for budget in ("5-per-class", "10-per-class")
        for seed in range(3)
    ]
    together = solve_together(task, [(task.digest(cell), cell) for cell in cells])
    assert len(together) == len(cells)
    for cell in cells:
        data = task.data(cell)
        alone = models.create(cell.model, card=task.card, seed=cell.seed).fit(data)
        fitted = together[task.digest(cell)]
        assert fitted.predict(data, "test_ood").digest == alone.predict(data, "test_ood").digest
        assert fitted.card == alone.card
        assert fitted.training_record == alone.training_record
