"""Calibration scores agree with scikit-learn and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from rs05bench.protocol.metrics import Calibration, ClassCalibration, Reliability, classification_scores
from rs05bench.protocol.metrics.temperature import apply_temperature, fit_temperature, shrunk_temperature


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(4, 0.4), 800)
    return np.array([rng.choice(4, p=row) for row in p]), p


def nll(y, p) -> float:
    return Calibration.of(y, p).evaluate("nll")


def test_brier_and_nll_equal_scikit_learn(sample):
    y, p = sample
    p = p.clip(1e-4, 1)  # above the floor of both
    p /= p.sum(1, keepdims=True)
    assert nll(y, p) == pytest.approx(reference.log_loss(y, p), abs=1e-12)
    assert Calibration.of(y, p).evaluate("brier") == pytest.approx(((p - np.eye(4)[y]) ** 2).sum(1).mean(), abs=1e-12)
    binary = np.stack([1 - p[:, 0], p[:, 0]], axis=1)
    two = Calibration.of((y == 0).astype(int), binary)
    assert two.evaluate("brier") == pytest.approx(2 * reference.brier_score_loss(y == 0, p[:, 0]), abs=1e-12)


@pytest.mark.parametrize("bins", [10, 15])
def test_ece_equals_torchmetrics_off_the_bin_edges(sample, bins):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    y, p = sample
    theirs = functional.multiclass_calibration_error(torch.tensor(p), torch.tensor(y), num_classes=4, n_bins=bins, norm="l1")
    assert Calibration.of(y, p, bins=bins).evaluate("ece") == pytest.approx(float(theirs), abs=1e-6)  # torchmetrics adds in float32


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    # Guo et al. 2017: bins are (lower, upper]; .5 and .4 share no bin of width .1, .45 and .5 do.
    curve = Reliability.of(np.array([0.4, 0.45, 0.5]), np.array([1, 0, 1]), bins=10)
    assert curve.count.tolist() == [1, 2]


def mass_ece(confidence, correct) -> float:
    """`ece_mass` of two classes, of which the first is said with this confidence."""
    y = np.where(correct, 0, 1)
    return classification_scores(y, np.stack([confidence, 1 - confidence], axis=1), ("a", "b"))["ece_mass"]


def test_equal_mass_bins_do_not_depend_on_the_order_of_ties():
    rng = np.random.default_rng(1)
    confidence, correct = rng.integers(5, 11, 200) / 10, rng.random(200) < 0.7
    values = set()
    for _ in range(5):
        order = rng.permutation(200)
        values.add(round(mass_ece(confidence[order], correct[order]), 12))
    assert len(values) == 1


def test_equal_mass_bins_hold_equally_many():
    rng = np.random.default_rng(2)
    confidence, correct = np.sort(rng.uniform(0.5, 1, 150)), rng.random(150) < 0.8
    tens = [abs((confidence - correct)[i : i + 10].mean()) for i in range(0, 150, 10)]
    assert mass_ece(confidence, correct) == pytest.approx(np.mean(tens), abs=1e-12)


def test_classwise_ece_is_the_mean_of_the_classes_one_by_one(sample):
    y, p = sample
    one_by_one = []
    for k in range(4):
        curve = Reliability.of(p[:, k], y == k)
        one_by_one.append((curve.count * np.abs(curve.accuracy - curve.confidence)).sum() / len(y))
    assert ClassCalibration.of(y, p).evaluate("ece_classwise") == pytest.approx(np.mean(one_by_one), abs=1e-12)


def test_temperature_undoes_an_over_sharpening(sample):
    y, p = sample
    sharp = apply_temperature(p.clip(1e-6, 1), 0.4)
    fitted = fit_temperature(y, sharp)
    best = min(np.linspace(0.5, 10, 2000), key=lambda t: nll(y, apply_temperature(sharp, t)))
    assert fitted == pytest.approx(best, abs=0.005)
    assert nll(y, apply_temperature(sharp, fitted)) < nll(y, sharp)


@pytest.mark.parametrize("right", [True, False])
def test_temperature_stays_finite_when_all_are_right_or_all_wrong(right):
    p = np.tile([0.7, 0.3], (20, 1))
    temperature = fit_temperature(np.full(20, 0 if right else 1), p)
    assert 0.01 <= temperature <= 100
    assert temperature < 1 if right else temperature > 1


def calibrated(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the probabilities of a model that is calibrated already."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(4, 0.7), n)
    return (p.cumsum(axis=1) > rng.random(n)[:, None]).argmax(axis=1), p


def test_with_few_labels_scaling_does_little_harm():
    """A calibrated model needs no temperature: what one fitted on 12 labels costs on new units is the harm."""
    new_y, new_p = calibrated(4000, 99)
    plain = nll(new_y, new_p)
    harm = {fit: [] for fit in (fit_temperature, shrunk_temperature)}
    for seed in range(60):
        y, p = calibrated(12, seed)
        for fit, costs in harm.items():
            costs.append(nll(new_y, apply_temperature(new_p, fit(y, p))) - plain)
    assert np.mean(harm[shrunk_temperature]) < 0.02
    assert np.mean(harm[fit_temperature]) > 5 * np.mean(harm[shrunk_temperature])


@pytest.mark.parametrize(("n", "classes"), [(9, 4), (40, 1)])
def test_no_temperature_is_fitted_on_few_labels_or_one_class(n, classes):
    y, p = calibrated(n, 0)
    assert shrunk_temperature(y % classes, apply_temperature(p, 0.2)) == 1.0


def test_a_temperature_is_never_worse_than_none_on_labels_that_did_not_fit_it():
    for seed in range(40):
        y, p = calibrated(25, seed)
        p = apply_temperature(p, 0.6)
        part = np.arange(25) % 5
        apart = [shrink(y[part != fold], p[part != fold]) for fold in range(5)]
        scaled = np.mean([nll(y[part == fold], apply_temperature(p[part == fold], apart[fold])) for fold in range(5)])
        assert (shrunk_temperature(y, p) != 1.0) == (scaled < nll(y, p))


def shrink(y: np.ndarray, p: np.ndarray) -> float:
    """The fitted temperature with its logarithm times n / (n + 20)."""
    return fit_temperature(y, p) ** (len(y) / (len(y) + 20))


def test_with_many_labels_an_over_sharpening_is_undone():
    y, p = calibrated(3000, 1)
    assert shrunk_temperature(y, apply_temperature(p, 0.4)) == pytest.approx(2.5, rel=0.1)


def test_a_certain_mistake_costs_no_infinity():
    assert nll(np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(23 * np.log(2))


@pytest.mark.parametrize("units", [75, 220, 660])
def test_the_debiased_error_of_a_perfect_model_is_zero_at_any_number_of_units(units):
    # The plain error is .12 to .04 here, and differs between test sets of unlike size for nothing.
    rng = np.random.default_rng(units)
    plain, found = [], []
    for _ in range(300):
        p = rng.dirichlet(np.full(9, 0.3), units)
        truth = (p.cumsum(1) > rng.random((units, 1))).argmax(1)
        sums = Calibration.of(truth, p)
        plain.append(sums.evaluate("ece"))
        found.append(sums.evaluate("ece_debiased"))
    assert np.mean(plain) > 0.02
    assert abs(np.mean(found)) < 0.01
