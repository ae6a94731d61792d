"""Scores by group name the worst group and the gap, with counts."""

from __future__ import annotations

import numpy as np
import pytest

from rs05bench.protocol.metrics import regression_scores
from rs05bench.protocol.metrics.fairness import quantile_groups, scores_by_group


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    group = rng.choice(["poor", "middle", "rich"], 1500, p=[0.3, 0.3, 0.4])
    y = rng.normal(size=1500)
    noise = np.select([group == "poor", group == "middle"], [2.0, 1.0], 0.5)
    return y, y + noise * rng.normal(size=1500), group, rng.integers(0, 40, 1500).astype(str)


def test_the_worst_group_and_the_gap_are_those_of_the_groups_alone(sample):
    y, p, group, cluster = sample
    report = scores_by_group(y, p, group, cluster, "mae", draws=300)
    alone = {name: regression_scores(y[group == name], p[group == name])["mae"] for name in np.unique(group)}
    assert {entry.group: entry.estimate.value for entry in report.groups} == pytest.approx(alone)
    assert (report.worst, report.best) == ("poor", "rich")
    assert report.gap.value == pytest.approx(alone["poor"] - alone["rich"])
    assert 0 < report.gap.low < report.gap.value < report.gap.high
    assert sum(entry.units for entry in report.groups) == 1500


def test_a_score_where_more_is_better_turns_the_order(sample):
    y, p, group, cluster = sample
    report = scores_by_group(y, p, group, cluster, "r2", draws=200)
    assert (report.worst, report.best) == ("poor", "rich")
    assert report.gap.value > 0
    classes = scores_by_group((y > 0).astype(int), (p > 0).astype(int), group, cluster, "macro_f1", classes=("no", "yes"), draws=200)
    assert classes.worst == "poor"


def test_a_small_group_is_shown_but_never_called_worst(sample):
    y, p, group, cluster = (column.copy() for column in sample)
    group[:5], p[:5] = "tiny", y[:5] + 100
    report = scores_by_group(y, p, group, cluster, "mae", draws=200)
    tiny = next(entry for entry in report.groups if entry.group == "tiny")
    assert (tiny.units, tiny.ranked) == (5, False)
    assert report.worst == "poor"


def test_units_without_a_declared_group_are_left_out(sample):
    y, p, group, cluster = (column.copy() for column in sample)
    group[:100] = ""
    report = scores_by_group(y, p, group, cluster, "mae", draws=200)
    assert sum(entry.units for entry in report.groups) == 1400


def test_fifths_hold_equally_many_and_missing_stays_undeclared():
    values = np.random.default_rng(1).normal(size=505)
    values[:5] = np.nan
    names, counts = np.unique(quantile_groups(values), return_counts=True)
    assert dict(zip(names, counts, strict=True)) == {
        "": 5,
        "1st fifth (lowest)": 100,
        "2nd fifth": 100,
        "3rd fifth": 100,
        "4th fifth": 100,
        "5th fifth (highest)": 100,
    }
