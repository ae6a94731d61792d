"""What so many groups can show, against the tables of G*Power and against simulation; Holm's correction, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rs05bench.errors import ProtocolError
from rs05bench.protocol.inference.hypothesis_tests import holm
from rs05bench.protocol.inference.over_groups import over_groups
from rs05bench.protocol.inference.power import detectable, detectable_difference


@pytest.mark.parametrize("groups", [4, 8, 20])
def test_a_difference_of_that_size_is_found_four_times_in_five(groups):
    size = detectable_difference(0.1, groups)
    drawn = np.random.default_rng(0).normal(size, 0.1, (20_000, groups))
    assert (stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.01)


def test_a_comparison_knows_what_it_could_have_shown():
    values = np.array([0.1, 0.3, 0.2, 0.25, 0.05])
    found = over_groups(values[:, None], "abcde", test=True)
    assert detectable(found) == pytest.approx(detectable_difference(values.std(ddof=1), 5))
    assert np.isnan(detectable(over_groups(values[:2, None], "ab", test=True)))


def test_a_shift_of_that_size_is_found_by_the_sign_test_four_times_in_five():
    even = stats.t(2).ppf((np.arange(40) + 0.5) / 40)
    size = detectable(over_groups(even[:, None], [f"g{i}" for i in range(40)], of="median"))
    many = np.random.default_rng(0).standard_t(2, (4_000, 40))
    p = 2 * stats.binom.sf(np.maximum((many + size > 0).sum(1), (many + size < 0).sum(1)) - 1, 40, 0.5)
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.04)
    assert np.isnan(detectable(over_groups(many[0, :5, None], "abcde", of="median")))


def test_holm_by_hand_and_with_missing_comparisons():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, np.nan, 0.9])[[0, 2]] == pytest.approx([0.02, 0.9])
    assert np.isnan(holm([0.01, np.nan])[1])
    assert holm([]).size == 0
    with pytest.raises(ProtocolError, match="between 0 and 1"):
        holm([1.2])
