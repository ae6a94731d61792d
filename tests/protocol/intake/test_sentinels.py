"""Numbers that mean that there is none."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs05bench.protocol.intake.sentinels import OFTEN, sentinels, standing_apart, suspicious_classes


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
        ([5.0, 6.0, 9.96921e36, -1e34], {9.96921e36: 1, -1e34: 1}),
        ([5.0, 6.0, -(2.0**63), 2147483647], {-(2.0**63): 1, 2147483647.0: 1}),
        ([], {}),
    ],
)
def test_codes_are_found_where_nothing_else_is_near(values, codes):
    assert sentinels(pd.Series(values, dtype=float)) == codes


@given(
    values=st.lists(st.integers(0, 1000), min_size=30, max_size=60, unique=True),
    code=st.sampled_from([code for code in OFTEN if abs(code) > 9000]),
    count=st.integers(1, 8),
)
def test_a_code_far_away_is_found_however_often_it_occurs_and_nothing_else_is(values, code, count):
    assert sentinels(pd.Series([*values, *[code] * count], dtype=float)) == {code: count}


PERCENT = [float(value) for value in range(0, 101, 2)]


@pytest.mark.parametrize(
    ("values", "apart"),
    [
        ([*PERCENT, *[255] * 4], {255.0: 4}),
        ([*PERCENT, *[-1] * 3], {-1.0: 3}),
        ([*PERCENT, *[-88888] * 3, *[-99999] * 3], {-88888.0: 3, -99999.0: 3}),
        ([*[value + 270 for value in PERCENT], *[0] * 5], {0.0: 5}),
        ([*PERCENT, 255], {}),
        ([*PERCENT, -1, -2], {}),
        (PERCENT, {}),
        ([1.0] * 20 + [3.0] * 4, {}),
    ],
)
def test_a_value_that_recurs_far_from_all_others_is_asked_about(values, apart):
    assert standing_apart(pd.Series(values, dtype=float)) == apart


def test_one_code_does_not_hide_another():
    assert sentinels(pd.Series([*PERCENT, *[-88888] * 3, *[-99999] * 3])) == {-99999.0: 3}


@pytest.mark.parametrize(
    ("classes", "suspicious"),
    [
        (["0", "1", "2", "255"], ["255"]),
        (["1", "2", "-9999"], ["-9999"]),
        (["crop", "forest", "unknown", "#N/A"], ["unknown", "#N/A"]),
        (["1", "176", "190", "254"], []),
        (["NA", "None", "crop"], []),
        (["-1", "1"], []),
    ],
)
def test_a_class_that_looks_like_no_label_is_asked_about(classes, suspicious):
    assert list(suspicious_classes(dict.fromkeys(classes, 7))) == suspicious
