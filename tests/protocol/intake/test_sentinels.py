"""Numbers that mean that there is none."""

from __future__ import annotations

import pandas as pd
import pytest

from rs05bench.protocol.intake.sentinels import sentinels


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
