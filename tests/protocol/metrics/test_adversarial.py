"""Whatever is thrown at the scores: empty classes, single pixels, nothing known, ties, constants, missing numbers.

The references are derived another way than the package: boundaries by erosion and distance transform as medpy and seg-metrics do, scores by
scikit-learn or by the words of the definition, unit by unit.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import binary_erosion, distance_transform_edt
from scipy.stats import pearsonr, rankdata
from sklearn import metrics as reference

from rs05bench.errors import DataError
from rs05bench.protocol.metrics import (
    BandTable,
    Calibration,
    ClassCalibration,
    Clusters,
    MapRules,
    Tally,
    boundary_counts,
    classification_scores,
    find_metric,
    regression_scores,
    stack,
)
from rs05bench.protocol.metrics.calibration import ProbabilityRows
from rs05bench.protocol.metrics.chip_sums import band_counts, fit_band_temperature
from rs05bench.protocol.metrics.temperature import apply_temperature, fit_temperature

CLASSES = ("land", "corn", "rice")
usual = settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)


@st.composite
def maps(draw, k: int = 3):
    """Truth with -1 for what is not known, prediction, and the size of a pixel; any class may be missing, any share unknown."""
    shape = draw(shapes)
    truth = draw(hnp.arrays(np.int16, shape, elements=st.integers(-1, k - 1), fill=st.integers(-1, k - 1)))
    said = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, k - 1), fill=st.integers(0, k - 1)))
    return truth, said, draw(st.sampled_from([(30.0, 30.0), (10.0, 10.0), (10.0, 8.0)]))


def eroded_edge(mask: np.ndarray) -> np.ndarray:
    """The inner boundary as medpy draws it, but for the rim of the picture, which is no boundary here."""
    return mask & ~binary_erosion(mask, border_value=1)


def by_distances(truth: np.ndarray, said: np.ndarray, tolerance: float, size: tuple[float, float]) -> tuple[int, int, int, int]:
    """Matched and all boundary pixels of both sides by distance transforms, as seg-metrics and medpy compute surface distances."""
    true_edge, edge = eroded_edge(truth), eroded_edge(said)
    if not true_edge.any() or not edge.any():
        return 0, int(edge.sum()), 0, int(true_edge.sum())
    to_true = distance_transform_edt(~true_edge, sampling=size[::-1])[edge]
    to_said = distance_transform_edt(~edge, sampling=size[::-1])[true_edge]
    reach = tolerance * (1 + 1e-9)
    return int((to_true <= reach).sum()), len(to_true), int((to_said <= reach).sum()), len(to_said)


@usual
@given(maps(k=2), st.sampled_from([0.0, 10.0, 30.0, 42.5, 95.0]))
def test_boundaries_equal_erosion_and_distance_transform(drawn, tolerance):
    truth, said, size = drawn
    one, other = truth == 1, said == 1
    found = boundary_counts(one, other, tolerance_m=tolerance, pixel_size_m=size)
    assert (found.predicted_matched, found.predicted, found.true_matched, found.true) == by_distances(one, other, tolerance, size)


@usual
@given(maps(), st.sampled_from([0.0, 30.0, 95.0]))
def test_boundaries_do_not_depend_on_which_way_the_map_is_turned(drawn, tolerance):
    truth, said, _ = drawn
    valid = truth >= 0
    counts = {
        boundary_counts(turn(truth == 1), turn(said == 1), tolerance_m=tolerance, pixel_size_m=30, valid=turn(valid))
        for turn in (np.copy, np.flipud, np.fliplr, np.rot90, np.transpose)
    }
    assert len(counts) == 1
    exchanged = boundary_counts(said == 1, truth == 1, tolerance_m=tolerance, pixel_size_m=30)
    straight = boundary_counts(truth == 1, said == 1, tolerance_m=tolerance, pixel_size_m=30)
    assert (*exchanged[2:], *exchanged[:2]) == tuple(straight)


@usual
@given(maps())
def test_map_scores_equal_scikit_learn_and_stay_in_range(drawn):
    truth, said, size = drawn
    scores = MapRules(CLASSES, 30, background=None).chip(truth, said, pixel_size_m=size).scores("segmentation")
    known = truth >= 0
    y, p = truth[known], said[known]
    assert scores["n"] == known.sum()
    if not known.any():
        assert all(np.isnan(scores[name]) for name in ("miou", "macro_f1", "overall_accuracy", "area_error", "boundary_f1"))
        return
    there = sorted(set(y.tolist()) | set(p.tolist()))
    assert scores["macro_f1"] == pytest.approx(reference.f1_score(y, p, labels=there, average="macro", zero_division=0))
    assert scores["miou"] == pytest.approx(reference.jaccard_score(y, p, labels=there, average="macro", zero_division=0))
    assert scores["overall_accuracy"] == pytest.approx((y == p).mean())
    assert scores["balanced_accuracy"] == pytest.approx(np.mean([(p[y == k] == k).mean() for k in set(y.tolist())]))
    for k, name in enumerate(CLASSES):
        assert (f"iou_{name}" in scores) == (k in there)
        assert (f"recall_{name}" in scores) == bool((y == k).any())
        assert (f"precision_{name}" in scores) == bool((p == k).any())
    for name, value in scores.items():
        if name != "n" and value == value:
            low, high = find_metric(name).range
            assert low <= value <= high, name


@usual
@given(st.lists(maps(k=2), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_chips_add_up_in_any_order(chips, chance):
    rules, table = MapRules(("land", "burnt"), 30), BandTable(2.0)

    def scored(order):
        made = []
        for at in order:
            truth, said, _ = chips[at]
            p = np.where(said == 1, 0.75, 0.25).astype(np.float16)
            made.append(Tally((*rules.chip(truth, said, pixel_size_m=30).kinds, *rules.band(truth, p, table).kinds)))
        return stack(made).scores("segmentation")

    order = list(range(len(chips)))
    chance.shuffle(order)
    assert scored(order) == pytest.approx(scored(range(len(chips))), abs=1e-12, nan_ok=True)


@st.composite
def answers(draw, k: int = 3):
    """Labels and probabilities with ties, certainties and classes that never occur."""
    n = draw(st.integers(1, 30))
    y = draw(hnp.arrays(np.int64, n, elements=st.integers(0, k - 1), fill=st.integers(0, k - 1)))
    weights = draw(hnp.arrays(np.int64, (n, k), elements=st.integers(0, 4), fill=st.integers(0, 4)))
    weights[weights.sum(1) == 0] = 1
    return y, weights / weights.sum(1, keepdims=True)


def by_words(y: np.ndarray, p: np.ndarray, bins: int = 15) -> dict[str, float]:
    """Calibration scores unit by unit, as the papers say them."""

    def error(confidence, hit) -> float:
        # (lower, upper]; the first also holds 0. In fifteenths, so that shares such as 1/3 fall where they belong.
        box = np.maximum(np.ceil(np.round(confidence * bins, 9)), 1).astype(int)
        return sum(abs(hit[box == b].mean() - confidence[box == b].mean()) * (box == b).mean() for b in set(box.tolist()))

    hits = np.eye(p.shape[1])[y]
    return {
        "ece": error(p.max(1), (p.argmax(1) == y).astype(float)),
        "ece_classwise": float(np.mean([error(p[:, k], hits[:, k]) for k in range(p.shape[1])])),
        "brier": float(((p - hits) ** 2).sum(1).mean()),
        "nll": float(-np.log(np.maximum(p[np.arange(len(y)), y], 2.0**-23)).mean()),
    }


@usual
@given(answers())
def test_calibration_equals_its_words(drawn):
    y, p = drawn
    found = classification_scores(y, p, CLASSES)
    for name, value in by_words(y, p).items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


@usual
@given(answers(), st.data())
def test_weights_are_repeated_rows(drawn, data):
    y, p = drawn
    times = data.draw(hnp.arrays(np.int64, len(y), elements=st.integers(0, 3), fill=st.integers(0, 3)))
    if not times.any():
        times[0] = 1
    many_y, many_p = np.repeat(y, times), np.repeat(p, times, axis=0)
    weights, one = times.astype(float), Clusters.one(len(y))
    weighed = Tally((Calibration.of_rows(ProbabilityRows.of(y, p), one, weights=weights), ClassCalibration.of(y, p, weights=weights)))
    expected = classification_scores(many_y, many_p, CLASSES)
    for name in ("ece", "ece_classwise", "brier", "nll"):
        assert weighed.scores("classification")[name] == pytest.approx(expected[name], abs=1e-12)
    assert fit_temperature(y, p, weights=times.astype(float)) == pytest.approx(fit_temperature(many_y, many_p), rel=1e-6)


@usual
@given(hnp.arrays(np.float16, st.integers(1, 40), elements=st.floats(0, 1, width=16)), st.data())
def test_a_band_is_counted_exactly(band, data):
    y = data.draw(hnp.arrays(np.int64, len(band), elements=st.integers(0, 1)))
    columns = np.stack([1 - band.astype(float), band.astype(float)], axis=1)
    expected = Calibration.of(y, columns)
    counts = band_counts(y, band)
    assert counts.sum() == len(y)
    sums, of_classes = BandTable().sums(counts)
    assert sums.vectors[0] == pytest.approx(expected.vectors[0], abs=1e-9)
    assert of_classes.vectors[0] == pytest.approx(ClassCalibration.of(y, columns).vectors[0], abs=1e-9)
    fitted = fit_band_temperature(counts)
    assert fitted == pytest.approx(fit_temperature(y, columns), rel=1e-6)
    assert 0.01 <= fitted <= 100
    worse = [float(-np.log(apply_temperature(columns, t)[np.arange(len(y)), y]).mean()) for t in (fitted, fitted * 1.1, fitted / 1.1)]
    if 0.011 < fitted < 90:
        assert worse[0] <= min(worse[1:]) + 1e-9


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.25, 1.25])
def test_no_missing_or_impossible_probability_is_scored(bad):
    p = np.array([[0.5, 0.5], [bad, 1 - bad]])
    with pytest.raises(DataError):
        classification_scores(np.array([0, 1]), p, ("a", "b"))
    with pytest.raises(DataError):
        band_counts(np.array([0, 1]), np.array([0.5, bad]))
    with pytest.raises(DataError):
        MapRules(("a", "b"), 30).sample(np.array([0, 1]), p)


values = st.one_of(st.just(np.nan), st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, width=32))


@usual
@given(hnp.arrays(np.float64, st.integers(1, 25), elements=values), st.data())
def test_regression_equals_its_references_with_gaps_ties_and_constants(truth, data):
    p = data.draw(hnp.arrays(np.float64, len(truth), elements=st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, width=32))))
    found = regression_scores(truth, p)
    known = ~np.isnan(truth)
    y, q = truth[known], p[known]
    assert found["n"] == known.sum()
    if not known.any():
        assert all(np.isnan(value) for name, value in found.items() if name != "n")
        return
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(y, q))
    assert found["rmse"] == pytest.approx(reference.mean_squared_error(y, q) ** 0.5)
    assert found["bias"] == pytest.approx((q - y).mean(), abs=1e-9)
    if len(set(y.tolist())) < 2:
        assert np.isnan(found["r2"])
        assert np.isnan(found["spearman"])
        return
    assert found["r2"] == pytest.approx(reference.r2_score(y, q), rel=1e-6)
    if len(set(q.tolist())) < 2:
        assert np.isnan(found["pearson"])
        return
    assert -1 <= found["pearson"] <= 1
    if np.ptp(y) > 1e-6 * np.abs(y).max() and np.ptp(q) > 1e-6 * np.abs(q).max():
        assert found["pearson"] == pytest.approx(pearsonr(y, q).statistic, abs=1e-6)
    assert found["spearman"] == pytest.approx(pearsonr(rankdata(y), rankdata(q)).statistic, abs=1e-9)
