"""Whether what an interval resamples errs by itself: planted likeness of neighbours is found, independent errors raise nothing."""

from __future__ import annotations

import numpy as np
import pytest

from rs05bench.protocol.independence import independence
from rs05bench.protocol.pooling import Pool
from rs05bench.protocol.predictions import Predictions, TablePredictions
from tests.protocol.toy import World, make_result

STATES = 16


def checked(world: World, split: str, wrong: dict[str, float], role: str):
    """The check of a model whose error at each unit is given."""
    manifest = world.manifest(split)
    results = []
    for fold in manifest.folds:
        rows = manifest.fold(fold)
        parts = []
        for part in ("test_id", "test_ood"):
            ids = rows.loc[rows["role"].astype(str) == part, "unit_id"].to_numpy(dtype=object)
            if len(ids):
                y = world.labels[ids].to_numpy() + np.array([wrong[unit] for unit in ids])
                parts.append(Predictions.of_values(ids, part, y, np.stack([y - 8, y + 8], axis=1)))
        results.append(make_result(world.card, manifest, fold, world.labels, TablePredictions.concat(parts)))
    pool = Pool.of(results)
    return independence(pool, pool.points and next(iter(pool.points)), role, manifest)


@pytest.fixture(scope="module")
def states():
    options = {"block_size_m": 4000, "buffer_m": 0, "test_fraction": 0.5, "max_folds": 4}
    return World("regression", n=1200, states=STATES, split_options=options)


def errors(world: World, size_of_state: np.ndarray) -> dict[str, float]:
    frame, rng = world.units.frame, np.random.default_rng(0)
    state = frame["state"].str[1:].astype(int).to_numpy()
    return dict(zip(frame["unit_id"], size_of_state[state] * rng.choice([-1.0, 1.0], len(frame)), strict=True))


def test_neighbouring_groups_that_score_alike_are_found(states):
    # States stand in a row from west to east: errors grow along it.
    found = checked(states, "leave-state-out", errors(states, np.linspace(1, 12, STATES)), "test_ood")
    assert (found.over, found.n, found.too_short) == ("groups", STATES, True)
    assert "Neighbouring groups score alike" in found.sentence


def test_groups_that_differ_without_a_pattern_raise_nothing(states):
    sizes = np.linspace(1, 12, STATES)
    raised = 0
    for seed in range(3):
        found = checked(states, "leave-state-out", errors(states, np.random.default_rng(seed).permutation(sizes)), "test_ood")
        raised += bool(found.sentence)
    assert raised == 0


def test_few_groups_are_said_not_to_be_checked():
    found = checked(few := World("regression"), "leave-state-out", errors(few, np.ones(4)), "test_ood")
    assert not found.checked
    assert not found.too_short
    assert "4 groups are too few" in found.sentence


@pytest.mark.parametrize(("reach_km", "short"), [(8.0, True), (0.0, False)])
def test_blocks_whose_errors_reach_into_the_next_are_found(reach_km, short):
    world = World("regression", n=900, states=1, splits=["spatial-block"], split_options={"block_size_m": 2000, "buffer_m": 0})
    frame, rng = world.units.frame, np.random.default_rng(3)
    km = np.column_stack([(frame["lon"] + 100) * 85.0, (frame["lat"] - 40) * 111.0])
    wrong = rng.standard_normal(len(frame))
    if reach_km:
        waves = rng.standard_normal((60, 2)) / reach_km
        wrong = wrong + 2 * np.sqrt(2 / 60) * np.cos(km @ waves.T + rng.uniform(0, 2 * np.pi, 60)).sum(axis=1)
    found = checked(world, "spatial-block", dict(zip(frame["unit_id"], wrong, strict=True)), "test_id")
    assert (found.over, found.checked, found.too_short) == ("blocks", True, short)
    if short:
        assert 3 < found.range_km < 40
