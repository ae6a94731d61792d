"""Map scores agree with torchmetrics, scikit-learn and a brute-force boundary matcher."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from rs05bench.errors import DataError
from rs05bench.protocol.inference import score_interval
from rs05bench.protocol.metrics import (
    BoundaryCounts,
    ClusterBoundary,
    ClusterCalibration,
    SegmentationScorer,
    boundary_counts,
    classification_scores,
    count_votes,
    metric_from_stats,
    size_classes,
    stats_from_dict,
)
from rs05bench.protocol.metrics.area import area_errors, relative_area_error
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


def as_tuple(counts):
    return (counts.predicted_matched, counts.predicted, counts.true_matched, counts.true)


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
    assert as_tuple(ours) == brute_counts(truth, guess, tolerance, np.array(size, float), valid)


def test_a_tolerance_is_held_exactly():
    truth, guess = np.zeros((2, 9, 9), bool)
    truth[2, 2] = guess[3, 4] = True  # sqrt(5) pixels apart
    at = 10 * 5**0.5
    assert boundary_counts(truth, guess, tolerance_m=at, pixel_size_m=10).f1 == 1
    assert boundary_counts(truth, guess, tolerance_m=at - 1e-4, pixel_size_m=10).f1 == 0


def test_a_long_tolerance_is_held_exactly_too():
    truth, guess = np.zeros((2, 300, 300), bool)
    truth[2, 2] = guess[202, 153] = True  # sqrt(200**2 + 151**2) pixels apart
    at = 10 * (200**2 + 151**2) ** 0.5
    assert boundary_counts(truth, guess, tolerance_m=at, pixel_size_m=10).f1 == 1
    assert boundary_counts(truth, guess, tolerance_m=at - 1e-4, pixel_size_m=10).f1 == 0


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_without_an_edge_has_no_boundary_score(value):
    flat = np.full((8, 8), value)
    assert np.isnan(boundary_counts(flat, flat, tolerance_m=30, pixel_size_m=10).f1)
    assert not near(boundary(flat), 1e9, 10, 10).any()


def test_an_edge_on_one_side_only_scores_zero():
    flat, dot = np.ones((8, 8), bool), np.zeros((8, 8), bool)
    dot[4, 4] = True
    counts = boundary_counts(flat, dot, tolerance_m=1000, pixel_size_m=10)
    assert counts.f1 == 0
    assert counts.precision == 0
    assert np.isnan(counts.recall)


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
    scorer = SegmentationScorer(("land", "burnt", "water"), tolerance_m=30)
    truths, guesses = [], []
    for i in range(5):
        truth, guess = blobs(rng, k=3), blobs(rng, k=3, cells=4)
        truth[rng.random(truth.shape) < 0.1] = -1
        scorer.update(truth.astype(np.int16), guess.astype(np.int16), pixel_size_m=30, cluster=f"fire {i % 2}")
        truths.append(truth.ravel())
        guesses.append(guess.ravel())
    truth, guess = np.concatenate(truths), np.concatenate(guesses)
    scores = scorer.scores()
    theirs = functional.multiclass_jaccard_index(torch.tensor(guess), torch.tensor(truth), num_classes=3, ignore_index=-1, average="none")
    assert [scores[f"iou_{c}"] for c in scorer.classes] == pytest.approx(theirs.tolist(), abs=1e-6)  # float32 there
    seen = truth >= 0
    each = reference.jaccard_score(truth[seen], guess[seen], average=None)
    assert [scores[f"iou_{c}"] for c in scorer.classes] == pytest.approx(each.tolist(), abs=1e-12)
    assert scores["miou"] == pytest.approx(each.mean(), abs=1e-12)
    assert scores["macro_f1"] == pytest.approx(reference.f1_score(truth[seen], guess[seen], average="macro"), abs=1e-12)


def test_a_class_in_no_chip_is_not_averaged():
    scorer = SegmentationScorer(("land", "burnt", "water"), tolerance_m=30)
    scorer.update(np.array([[0, 1], [1, 1]]), np.array([[0, 1], [0, 1]]), pixel_size_m=30)
    scores = scorer.scores()
    assert "iou_water" not in scores
    assert scores["miou"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_single_right_pixel_and_an_all_ignored_chip():
    scorer = SegmentationScorer(("land", "burnt"), tolerance_m=30)
    scorer.update(np.array([[1]]), np.array([[1]]), pixel_size_m=30)
    assert scorer.scores()["iou_burnt"] == 1
    empty = SegmentationScorer(("land", "burnt"), tolerance_m=30)
    empty.update(np.full((4, 4), -1), np.ones((4, 4), int), pixel_size_m=30, probabilities=np.full((4, 4), 0.5))
    assert np.isnan(empty.scores()["miou"])
    assert np.isnan(empty.scores()["boundary_f1"])
    assert "ece" not in empty.scores()


def test_merged_scorers_equal_one_scorer():
    rng = np.random.default_rng(3)
    parts = [SegmentationScorer(("land", "burnt"), tolerance_m=30) for _ in range(2)]
    whole = SegmentationScorer(("land", "burnt"), tolerance_m=30)
    for i in range(4):
        truth, guess, p = blobs(rng), blobs(rng, cells=5), rng.random((40, 37)).astype(np.float16)
        for scorer in (parts[i % 2], whole):
            scorer.update(truth, guess, pixel_size_m=30, cluster=str(i % 3), probabilities=p)
    parts[0].merge(parts[1])
    assert parts[0].scores() == pytest.approx(whole.scores(), abs=1e-12)
    assert parts[0].scores_by_cluster().keys() == whole.scores_by_cluster().keys()


def test_what_is_kept_does_not_grow_with_chips():
    rng = np.random.default_rng(4)
    scorer = SegmentationScorer(("land", "burnt"), tolerance_m=30)
    sizes = []
    for _ in range(3):
        scorer.update(blobs(rng), blobs(rng), pixel_size_m=30)
        sizes.append((len(scorer.confusion().counts), len(scorer.calibration().sums)))
    assert sizes == [(1, 1)] * 3


@pytest.mark.parametrize("kind", ["spread", "certain", "ties", "with holes"])
def test_one_probability_band_equals_the_two_column_scores(kind):
    rng = np.random.default_rng(5)
    p = {"certain": rng.integers(0, 2, (50, 50)), "ties": rng.integers(0, 5, (50, 50)) / 4}.get(kind, rng.random((50, 50)))
    p = p.astype(np.float16)
    truth = rng.integers(0, 2, (50, 50))
    if kind == "with holes":
        truth[rng.random(truth.shape) < 0.2] = -1
    scorer = SegmentationScorer(("land", "burnt"), tolerance_m=30)
    scorer.update(truth, (p > 0.5).astype(int), pixel_size_m=30, probabilities=p)
    columns = np.stack([1 - p.ravel().astype(float), p.ravel().astype(float)], axis=1)
    expected = classification_scores(truth.ravel(), columns, ("land", "burnt"))
    for name in ("ece", "brier", "nll", "overall_accuracy"):
        assert scorer.scores()[name] == pytest.approx(expected[name], abs=1e-9), name


def test_sampled_pixels_give_the_calibration_of_many_classes():
    rng = np.random.default_rng(6)
    p, y = rng.dirichlet(np.ones(4), 100), rng.integers(0, 4, 100)
    scorer = SegmentationScorer(tuple("abcd"), tolerance_m=30)
    scorer.update_sample(y, p, cluster="x")
    scorer.update(np.zeros((3, 3), int), np.zeros((3, 3), int), pixel_size_m=30, cluster="x")
    expected = ClusterCalibration.from_probabilities(np.full(100, "x"), y, p)
    assert scorer.scores()["ece"] == pytest.approx(float(expected.evaluate("ece", expected.sums[0])), abs=1e-12)


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.5])
def test_a_broken_probability_band_is_refused(bad):
    scorer = SegmentationScorer(("land", "burnt"), tolerance_m=30)
    with pytest.raises(DataError, match="between 0 and 1"):
        scorer.update(np.zeros((2, 2), int), np.zeros((2, 2), int), pixel_size_m=30, probabilities=np.array([[0.5, bad], [0, 1]]))


def test_area_errors_by_hand():
    # Two fires, 30 m pixels (.09 ha): burnt 100 -> mapped 120, burnt 50 -> mapped 40.
    counts = np.array([[[880, 20], [0, 100]], [[950, 0], [10, 40]]])
    found = area_errors(counts, ("land", "burnt"), pixel_area=0.09)["burnt"]
    assert found.true == pytest.approx(150 * 0.09)
    assert found.signed == pytest.approx(10 * 0.09)
    assert found.relative == pytest.approx(10 / 150)
    assert found.rmse == pytest.approx(0.09 * ((20**2 + 10**2) / 2) ** 0.5)
    assert relative_area_error(counts) == pytest.approx(10 / 150)
    assert np.isnan(relative_area_error(np.array([[5, 1], [0, 0]])))


def test_kept_sums_give_every_score_of_the_maps():
    rng = np.random.default_rng(7)
    scorer = SegmentationScorer(("land", "burnt", "water"), tolerance_m=30)
    for i in range(6):
        scorer.update(blobs(rng, k=3), blobs(rng, k=3, cells=5), pixel_size_m=30, cluster=f"fire {i}")
    scores = scorer.scores()
    for name in ("miou", "macro_f1", "area_error", "iou_burnt"):
        assert metric_from_stats(stats_from_dict(scorer.confusion().to_dict()), name) == pytest.approx(scores[name], abs=1e-12), name
    for name in ("boundary_f1", "boundary_f1_burnt", "boundary_f1_water"):
        assert metric_from_stats(stats_from_dict(scorer.boundary_sums().to_dict()), name) == pytest.approx(scores[name], abs=1e-12), name
    found = score_interval(scorer.boundary_sums(), "boundary_f1")
    assert found.low < scores["boundary_f1"] < found.high


@pytest.mark.parametrize(
    ("name", "counts"),
    [("boundary_f1", [[0, 0, 0, 0]]), ("boundary_f1_x", [[0, 5, 0, 0]]), ("boundary_f1", [[0, 3, 0, 4]])],
)
def test_kept_boundary_sums_treat_missing_edges_as_the_counts_do(name, counts):
    stats = ClusterBoundary(("a",), ("x",), np.array([counts]))
    assert metric_from_stats(stats, name) == pytest.approx(BoundaryCounts(*counts[0]).f1, nan_ok=True)


def test_fires_are_scored_alone_and_by_size_class():
    scorer = SegmentationScorer(("land", "burnt"), tolerance_m=30)
    for i, burnt in enumerate((4, 6, 30)):
        truth = np.zeros((10, 10), int)
        truth.ravel()[:burnt] = 1
        scorer.update(truth, truth if i != 1 else np.zeros_like(truth), pixel_size_m=100, cluster=f"fire{i}")
    areas = {name: counts[1].sum() for name, counts in zip(scorer.confusion().clusters, scorer.confusion().counts, strict=True)}
    groups = dict(zip(areas, size_classes(np.array(list(areas.values())), (10,)), strict=True))
    found = scorer.scores_by_group(groups)
    assert found["<10 ha"]["iou_burnt"] == pytest.approx(4 / 10)
    assert (found["<10 ha"]["clusters"], found[">=10 ha"]["clusters"]) == (2, 1)
    assert scorer.scores_by_cluster()["fire1"]["iou_burnt"] == 0


def test_one_fire_cannot_mix_pixel_sizes():
    scorer = SegmentationScorer(("land", "burnt"), tolerance_m=30)
    scorer.update(np.zeros((2, 2), int), np.zeros((2, 2), int), pixel_size_m=30)
    with pytest.raises(DataError, match="cannot be added"):
        scorer.update(np.zeros((2, 2), int), np.zeros((2, 2), int), pixel_size_m=10)


def test_parcels_take_the_majority_also_across_chips():
    left = count_votes(np.array([[1, 1], [2, 0]]), np.array([[3, 3], [0, 1]]), 4)
    right = count_votes(np.array([[1, 1], [2, 3]]), np.array([[0, 0], [1, -1]]), 4)
    both = left + right
    assert both.parcels.tolist() == [1, 2, 3]
    assert both.majority.tolist() == [0, 0, -1]  # a tie falls to the first class; no valid pixel is no class
    assert both.agreement[:2].tolist() == [0.5, 0.5]
    assert np.isnan(both.agreement[2])
    assert left.majority.tolist() == [3, 0]
