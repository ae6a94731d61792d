"""Moran's I of 100,000 residuals with 999 permutations, against esda on the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rs05bench.protocol.metrics import knn_weights, morans_i
from rs05bench.protocol.metrics.spatial import SpatialWeights

UNITS, NEIGHBOURS, PERMUTATIONS = 100_000, 8, 999


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, SpatialWeights]:
    rng = np.random.default_rng(0)
    places = np.stack([rng.uniform(-120, -70, UNITS), rng.uniform(30, 48, UNITS)], axis=1)
    return np.sin(places[:, 0]) + rng.normal(size=UNITS), knn_weights(places, NEIGHBOURS)


@pytest.fixture(scope="module")
def as_libpysal(sample: tuple[np.ndarray, SpatialWeights]) -> Any:
    from libpysal.weights import W

    near = sample[1].neighbours.reshape(UNITS, NEIGHBOURS).tolist()
    made = W(dict(enumerate(near)), silence_warnings=True)
    made.transform = "r"
    return made


def test_both_sides_agree(sample: tuple[np.ndarray, SpatialWeights], as_libpysal: Any) -> None:
    from esda import Moran

    assert morans_i(*sample, permutations=0).value == pytest.approx(Moran(sample[0], as_libpysal, permutations=0).I, abs=1e-12)


@pytest.mark.benchmark(group="Moran's I, 100,000 units, 999 permutations")
def test_ours(benchmark, sample: tuple[np.ndarray, SpatialWeights]) -> None:
    benchmark.extra_info["side"] = "ours"
    benchmark.pedantic(morans_i, args=sample, kwargs={"permutations": PERMUTATIONS}, rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="Moran's I, 100,000 units, 999 permutations")
def test_esda(benchmark, sample: tuple[np.ndarray, SpatialWeights], as_libpysal: Any) -> None:
    from esda import Moran

    benchmark.extra_info["side"] = "esda"
    benchmark.pedantic(Moran, args=(sample[0], as_libpysal), kwargs={"permutations": PERMUTATIONS}, rounds=2, warmup_rounds=0)
