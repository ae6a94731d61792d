"""All segmentation metrics on 264 chips of 512 px, boundary F1 and calibration included.

The rival is what one writes with torchmetrics and scipy: a torchmetrics collection updated chip by chip (IoU, F1, precision,
recall, accuracy, kappa, calibration error) and two `scipy.ndimage.distance_transform_edt` a chip for the boundary F1. The ratio is
taken on the same twelve chips; both sides must agree on IoU and boundary F1.
"""

from __future__ import annotations

import numpy as np
import pytest

from rs05bench.protocol.metrics import BandTable, MapRules, Tally, stack
from rs05bench.protocol.metrics.boundary import boundary

CHIPS, RIVAL_CHIPS, SIZE, PIXEL, TOLERANCE = 264, 12, 512, 30.0, 60.0
Chip = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def chips() -> list[Chip]:
    """Twelve different scars with ragged edges and 2 % missing ground, predicted with some error; used again and again."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    made = []
    for _ in range(RIVAL_CHIPS):
        field = gaussian_filter(rng.normal(size=(SIZE, SIZE)), 12)
        field /= field.std()
        truth = (field > 1.2).astype(np.int16)
        truth[gaussian_filter(rng.normal(size=(SIZE, SIZE)), 20) > 0.03] = -1
        p = 1 / (1 + np.exp(-4 * (field - 1.2 + 0.3 * gaussian_filter(rng.normal(size=(SIZE, SIZE)), 3) * 10)))
        made.append((truth, (p > 0.5).astype(np.uint8), p.astype(np.float16)))
    return made


def ours(chips: list[Chip], count: int) -> dict[str, float]:
    rules, table, found = MapRules(("land", "burnt"), TOLERANCE), BandTable(), []
    for i in range(count):
        truth, guess, p = chips[i % len(chips)]
        found.append(Tally((*rules.chip(truth, guess, pixel_size_m=PIXEL).kinds, *rules.band(truth, p, table).kinds)))
    return stack(found).scores("segmentation")


def naive(chips: list[Chip], count: int) -> dict[str, float]:
    import torch
    from scipy.ndimage import distance_transform_edt
    from torchmetrics import MetricCollection
    from torchmetrics.classification import (
        BinaryAccuracy,
        BinaryCalibrationError,
        BinaryCohenKappa,
        BinaryF1Score,
        BinaryJaccardIndex,
        BinaryPrecision,
        BinaryRecall,
    )

    kinds = (BinaryJaccardIndex, BinaryF1Score, BinaryPrecision, BinaryRecall, BinaryAccuracy, BinaryCohenKappa)
    collection = MetricCollection([kind(ignore_index=-1) for kind in kinds])
    calibration = BinaryCalibrationError(ignore_index=-1, n_bins=15)
    matched = np.zeros(4)
    for i in range(count):
        truth, guess, p = chips[i % len(chips)]
        target = torch.from_numpy(truth.astype(np.int64))
        collection.update(torch.from_numpy(guess.astype(np.int64)), target)
        calibration.update(torch.from_numpy(p.astype(np.float32)), target)
        valid = truth != -1
        true_edge, edge = boundary(truth == 1, valid), boundary(guess == 1, valid)
        near_true = distance_transform_edt(~true_edge) * PIXEL <= TOLERANCE
        near = distance_transform_edt(~edge) * PIXEL <= TOLERANCE
        matched += [(near_true & edge).sum(), edge.sum(), (near & true_edge).sum(), true_edge.sum()]
    precision, recall = matched[0] / matched[1], matched[2] / matched[3]
    scores = {name: float(value) for name, value in collection.compute().items()}
    return {**scores, "ece": float(calibration.compute()), "boundary_f1": 2 * precision * recall / (precision + recall)}


def test_both_sides_agree(chips: list[Chip]) -> None:
    mine, theirs = ours(chips, RIVAL_CHIPS), naive(chips, RIVAL_CHIPS)
    assert mine["iou_burnt"] == pytest.approx(theirs["BinaryJaccardIndex"], abs=1e-6)
    assert mine["boundary_f1"] == pytest.approx(theirs["boundary_f1"], abs=1e-9)


@pytest.mark.benchmark(group="all segmentation metrics, a chip of 512 px")
def test_scorer(benchmark, chips: list[Chip]) -> None:
    benchmark.extra_info["side"] = "ours"
    benchmark.pedantic(ours, args=(chips, RIVAL_CHIPS), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="all segmentation metrics, a chip of 512 px")
def test_torchmetrics_and_scipy(benchmark, chips: list[Chip]) -> None:
    benchmark.extra_info["side"] = "torchmetrics + scipy"
    benchmark.pedantic(naive, args=(chips, RIVAL_CHIPS), rounds=2, warmup_rounds=0)


def test_264_chips(benchmark, chips: list[Chip]) -> None:
    benchmark.extra_info["target"] = "under 2 s"
    scores = benchmark.pedantic(ours, args=(chips, CHIPS), rounds=3, warmup_rounds=1)
    assert scores["n"] > 0
