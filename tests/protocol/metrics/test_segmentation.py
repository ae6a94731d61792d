"""Map scores agree with torchmetrics, scikit-learn and a brute-force boundary matcher."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from rs05bench.errors import DataError
from rs05bench.protocol.inference.over_blocks import over_blocks
from rs05bench.protocol.metrics import (
    BandTable,
    Boundary,
    Calibration,
    Confusion,
    MapRules,
    RegionalAreas,
    Tally,
    boundary_counts,
    classification_scores,
    stack,
)
from rs05bench.protocol.metrics.boundary import boundary, near


def blobs(rng, shape=(40, 37), k=2, cells=6):
    coarse = rng.integers(0, k, (shape[0] // cells + 1, shape[1] // cells + 1))
    return np.kron(coarse, np.ones((cells, cells), int))[: shape[0], : shape[1]]


def brute_edge(mask, valid):
    """Pixel by pixel, by the words of the definition."""
    found = []
    for r, c in zip(*np.nonzero(mask & valid), strict=True):
        for i, j in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
            if 0 <= i < mask.shape[0] and 0 <= j < mask.shape[1] and valid[i, j] and not mask[i, j]:
                found.append((r, c))
                break
    return np.array(found, float).reshape(-1, 2)


def brute_counts(true_mask, predicted_mask, tolerance, size, valid):
    a, b = brute_edge(true_mask, valid) * size[::-1], brute_edge(predicted_mask, valid) * size[::-1]
    if not len(a) or not len(b):
        return (0, len(b), 0, len(a))
    distance = np.hypot(a[:, None, 0] - b[None, :, 0], a[:, None, 1] - b[None, :, 1])
    hit = distance <= tolerance * (1 + 1e-9)
    return (int(hit.any(0).sum()), len(b), int(hit.any(1).sum()), len(a))


def f1(counts) -> float:
    return Boundary(("a",), np.array([[counts]]), ("x",)).evaluate("boundary_f1_x")


def scored(*chips: Tally) -> dict[str, float]:
    return stack(chips).scores("segmentation")


def chip(classes, truth, said, *, tolerance_m=30.0, background=0, p=None, pixel_size_m=30.0, name="all") -> Tally:
    rules = MapRules(classes, tolerance_m, background)
    found = rules.chip(np.asarray(truth), np.asarray(said), pixel_size_m=pixel_size_m, name=name)
    return found if p is None else Tally((*found.kinds, *rules.band(np.asarray(truth), p, BandTable(), name=name).kinds))


LAND, THREE = ("land", "burnt"), ("land", "burnt", "water")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("tolerance", "size"),
    [(0.0, (30, 30)), (30.0, (30, 30)), (60.0, (30, 30)), (67.1, (30, 30)), (25.0, (10, 8)), (170.0, (30, 30)), (75.0, (10, 8))],
)
def test_boundary_matches_equal_brute_force(seed, tolerance, size):
    rng = np.random.default_rng(seed)
    truth, guess = blobs(rng).astype(bool), blobs(rng, cells=5).astype(bool)
    valid = rng.random(truth.shape) > 0.05
    ours = boundary_counts(truth, guess, tolerance_m=tolerance, pixel_size_m=size, valid=valid)
    assert tuple(ours) == brute_counts(truth, guess, tolerance, np.array(size, float), valid)


def test_a_tolerance_is_held_exactly():
    truth, guess = np.zeros((2, 9, 9), bool)
    truth[2, 2] = guess[3, 4] = True  # sqrt(5) pixels apart
    at = 10 * 5**0.5
    assert f1(boundary_counts(truth, guess, tolerance_m=at, pixel_size_m=10)) == 1
    assert f1(boundary_counts(truth, guess, tolerance_m=at - 1e-4, pixel_size_m=10)) == 0


def test_a_long_tolerance_is_held_exactly_too():
    truth, guess = np.zeros((2, 300, 300), bool)
    truth[2, 2] = guess[202, 153] = True  # sqrt(200**2 + 151**2) pixels apart
    at = 10 * (200**2 + 151**2) ** 0.5
    assert f1(boundary_counts(truth, guess, tolerance_m=at, pixel_size_m=10)) == 1
    assert f1(boundary_counts(truth, guess, tolerance_m=at - 1e-4, pixel_size_m=10)) == 0


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_without_an_edge_has_no_boundary_score(value):
    flat = np.full((8, 8), value)
    assert np.isnan(f1(boundary_counts(flat, flat, tolerance_m=30, pixel_size_m=10)))
    assert not near(boundary(flat), 1e9, 10, 10).any()


def test_an_edge_on_one_side_only_scores_zero():
    flat, dot = np.ones((8, 8), bool), np.zeros((8, 8), bool)
    dot[4, 4] = True
    counts = boundary_counts(flat, dot, tolerance_m=1000, pixel_size_m=10)
    assert f1(counts) == 0
    assert counts.predicted > 0
    assert counts.true == 0


def test_the_rim_of_ignored_ground_is_no_boundary():
    mask = np.zeros((10, 10), bool)
    mask[:, :5] = True
    valid = np.ones((10, 10), bool)
    valid[:, 5] = False
    assert not boundary(mask, valid).any()


def test_pooled_scores_equal_torchmetrics_and_scikit_learn():
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(0)
    chips, truths, guesses = [], [], []
    for _ in range(5):
        truth, guess = blobs(rng, k=3), blobs(rng, k=3, cells=4)
        truth[rng.random(truth.shape) < 0.1] = -1
        chips.append(chip(THREE, truth.astype(np.int16), guess.astype(np.int16)))
        truths.append(truth.ravel())
        guesses.append(guess.ravel())
    truth, guess = np.concatenate(truths), np.concatenate(guesses)
    scores = scored(*chips)
    theirs = functional.multiclass_jaccard_index(torch.tensor(guess), torch.tensor(truth), num_classes=3, ignore_index=-1, average="none")
    assert [scores[f"iou_{c}"] for c in THREE] == pytest.approx(theirs.tolist(), abs=1e-6)  # float32 there
    seen = truth >= 0
    each = reference.jaccard_score(truth[seen], guess[seen], average=None)
    assert [scores[f"iou_{c}"] for c in THREE] == pytest.approx(each.tolist(), abs=1e-12)
    assert scores["miou"] == pytest.approx(each.mean(), abs=1e-12)
    assert scores["macro_f1"] == pytest.approx(reference.f1_score(truth[seen], guess[seen], average="macro"), abs=1e-12)


def test_a_class_in_no_chip_is_not_averaged():
    scores = scored(chip(THREE, [[0, 1], [1, 1]], [[0, 1], [0, 1]]))
    assert "iou_water" not in scores
    assert scores["miou"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_single_right_pixel_and_an_all_ignored_chip():
    assert scored(chip(LAND, [[1]], [[1]]))["iou_burnt"] == 1
    empty = scored(chip(LAND, np.full((4, 4), -1), np.ones((4, 4), int), p=np.full((4, 4), 0.5)))
    assert np.isnan([empty["miou"], empty["boundary_f1"], empty["ece"]]).all()


def test_sums_of_chips_add_up_in_any_order():
    rng = np.random.default_rng(3)
    chips = []
    for i in range(4):
        truth, guess, p = blobs(rng), blobs(rng, cells=5), rng.random((40, 37)).astype(np.float16)
        chips.append(chip(LAND, truth, guess, p=p, name=str(i % 3)))
    assert scored(*chips) == pytest.approx(scored(*chips[::-1]), abs=1e-12)
    added = stack(chips).regroup(["0", "1", "2", "0"])
    assert added.clusters == ("0", "1", "2")
    assert added.scores("segmentation") == pytest.approx(scored(*chips), abs=1e-12)


@pytest.mark.parametrize("kind", ["spread", "certain", "ties", "with holes"])
def test_one_probability_band_equals_the_two_column_scores(kind):
    rng = np.random.default_rng(5)
    p = {"certain": rng.integers(0, 2, (50, 50)), "ties": rng.integers(0, 5, (50, 50)) / 4}.get(kind, rng.random((50, 50)))
    p = p.astype(np.float16)
    truth = rng.integers(0, 2, (50, 50))
    if kind == "with holes":
        truth[rng.random(truth.shape) < 0.2] = -1
    found = scored(chip(LAND, truth, (p > 0.5).astype(int), p=p))
    columns = np.stack([1 - p.ravel().astype(float), p.ravel().astype(float)], axis=1)
    expected = classification_scores(truth.ravel(), columns, ("land", "burnt"))
    for name in ("ece", "ece_classwise", "brier", "nll", "overall_accuracy"):
        assert found[name] == pytest.approx(expected[name], abs=1e-9), name


def test_sampled_pixels_give_the_calibration_of_many_classes():
    rng = np.random.default_rng(6)
    p, y = rng.dirichlet(np.ones(4), 100), rng.integers(0, 4, 100)
    found = MapRules(tuple("abcd"), tolerance_m=30).sample(y, p).scores("segmentation")
    assert found["ece"] == pytest.approx(Calibration.of(y, p).evaluate("ece"), abs=1e-12)


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.5])
def test_a_broken_probability_band_is_refused(bad):
    flat = np.zeros((2, 2), int)
    with pytest.raises(DataError, match="between 0 and 1"):
        chip(LAND, flat, flat, p=np.array([[0.5, bad], [0, 1]]))


def test_area_errors_by_hand():
    # Two fires: burnt 100 pixels -> mapped 120, burnt 50 -> mapped 40; a pixel of 30 m is .09 ha.
    counts = Confusion(("a", "b"), np.array([[[880, 20], [0, 100]], [[950, 0], [10, 40]]]), LAND, background=0)
    assert counts.evaluate("area_error") == pytest.approx(10 / 150)
    parts = counts.parts(counts.vectors)
    regional = RegionalAreas.of((parts.predicted - parts.truth) * 0.09, LAND)
    assert regional.evaluate("area_rmse_burnt") == pytest.approx(0.09 * ((20**2 + 10**2) / 2) ** 0.5)
    assert np.isnan(Confusion(("a",), np.array([[[5, 1], [0, 0]]]), LAND, background=0).evaluate("area_error"))


def test_kept_sums_give_every_score_of_the_maps():
    rng = np.random.default_rng(7)
    chips = [chip(THREE, blobs(rng, k=3), blobs(rng, k=3, cells=5), name=f"fire {i}") for i in range(6)]
    scores, both = scored(*chips), stack(chips).kinds
    for stats, names in zip(both, (("miou", "macro_f1", "area_error", "iou_burnt"), ("boundary_f1", "boundary_f1_water")), strict=True):
        for name in names:
            assert type(stats).unpack(stats.pack(), stats.clusters).evaluate(name) == pytest.approx(scores[name], abs=1e-12), name
    found = over_blocks([[(1.0, both[1])]], "boundary_f1")
    assert found.low < scores["boundary_f1"] < found.high


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([0, 0, 0, 0], np.nan), ([0, 5, 0, 0], 0.0), ([0, 3, 0, 4], 0.0), ([2, 4, 3, 4], 2 * 0.5 * 0.75 / 1.25)],
)
def test_boundary_f1_by_hand(counts, expected):
    assert f1(counts) == pytest.approx(expected, nan_ok=True)


def test_fires_are_scored_alone():
    chips = []
    for i, burnt in enumerate((4, 6, 30)):
        truth = np.zeros((10, 10), int)
        truth.ravel()[:burnt] = 1
        chips.append(chip(LAND, truth, truth if i != 1 else np.zeros_like(truth), name=f"fire{i}"))
    counts = stack(chips).kinds[0]
    assert counts.evaluate("iou_burnt", counts.vectors).tolist() == [1.0, 0.0, 1.0]
    assert counts.regroup(["small", "small", "large"]).select(["small"]).evaluate("iou_burnt") == pytest.approx(4 / 10)
