"""Predictions: a digest over content, whatever the order of rows, and files that anyone can read."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest

from rs05bench.protocol import Predictions
from rs05bench.protocol.predictions import TablePredictions

IDS = np.array(["b/10", "b/9", "ä", "a"], dtype=object)


@pytest.fixture
def two_roles():
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(3), size=8)
    parts = [Predictions.of_classes(IDS, role, P[at : at + 4], ("x", "y", "z")) for role, at in (("test_ood", 0), ("test_id", 4))]
    return TablePredictions.concat(parts)


def test_the_digest_is_that_of_the_rows_in_order_of_role_and_unit(two_roles):
    digest = hashlib.sha256(b"x,y,z\n")
    for row in sorted(two_roles.frame().to_dict("records"), key=lambda row: (row["role"], row["unit_id"])):
        bits = np.asarray([row["p_x"], row["p_y"], row["p_z"]], dtype="<f4").tobytes().hex()
        digest.update(f"{row['role']}\t{row['unit_id']}\t{bits}\n".encode())
    assert two_roles.digest == digest.hexdigest()


def test_the_order_of_rows_does_not_matter_and_a_number_does(two_roles):
    turned = two_roles.take(np.arange(8)[::-1])
    assert turned.digest == two_roles.digest
    turned.probabilities[0, 0] += 1e-4
    assert turned.digest != two_roles.digest


def test_what_is_saved_comes_back_and_is_plain_parquet(two_roles, tmp_path):
    two_roles.write(tmp_path)
    assert TablePredictions.read(tmp_path).digest == two_roles.digest
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "units.parquet"), two_roles.frame(), check_dtype=False)


def test_intervals_are_kept(tmp_path):
    given = Predictions.of_values(IDS, "test_id", np.arange(4.0), np.column_stack([np.arange(4.0) - 1, np.arange(4.0) + 1]))
    given.write(tmp_path)
    np.testing.assert_array_equal(TablePredictions.read(tmp_path).interval, given.interval)
