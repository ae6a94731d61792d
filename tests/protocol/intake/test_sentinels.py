"""Numbers that mean that there is none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs05bench.protocol.intake.sentinels import no_embedding, sentinels


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        ([60_000, 45_000, -666666666], {-666666666.0: 1}),
        ([0.2, 0.3, 0.4, -9999, -9999], {-9999.0: 2}),
        ([12.0, 14.0, 1e20], {1e20: 1}),
        ([3.0, 4.0, -3.4028234663852886e38], {-3.4028234663852886e38: 1}),
        ([-60.0, -99.0, 50.0], {}),
        ([9990.0, 9999.0, 10_050.0], {}),
        ([0.0, 1.0, 2.0], {}),
        ([], {}),
    ],
)
def test_codes_are_found_where_nothing_else_is_near(values, codes):
    assert sentinels(pd.Series(values, dtype=float)) == codes


@pytest.mark.parametrize("code", [-9999.0, 0.0, -1.00788, -128.0])
def test_a_vector_of_one_code_is_no_embedding(code):
    values = np.array([[0.1, -0.2, 0.3], [code] * 3])
    assert no_embedding(values).tolist() == [False, True]


@given(st.lists(st.floats(-1, 1, width=32).filter(lambda x: abs(x) > 1e-3), min_size=8, max_size=8, unique=True))
def test_a_vector_of_several_values_is_one(values):
    assert not no_embedding(np.array([values])).any()
