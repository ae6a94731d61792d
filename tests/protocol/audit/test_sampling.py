"""Sampling designs that tell the label are warned of; classes that occur everywhere raise nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rs05bench.protocol.audit.sampling import sampling_design, sensor_changes


@pytest.fixture
def world():
    """600 units of six states in a row, four years; `chance` is a class that nothing tells."""
    rng = np.random.default_rng(0)
    state = rng.integers(0, 6, 600)
    units = pd.DataFrame({"state": [f"s{k}" for k in state], "lon": 10 + 3.0 * state + rng.random(600), "lat": 40 + rng.random(600)})
    return units.assign(year=rng.integers(2018, 2022, 600)), rng.random(600) < 0.5


def warned(units: pd.DataFrame, labels: pd.Series, kind: str = "classification") -> dict[str, str]:
    found = sampling_design(units, labels, ("state",), kind)
    return {one.check.removeprefix("sampling_design:"): one.sentence for one in found if one.level == "warning"}


def classes(positive: pd.Series) -> pd.Series:
    return pd.Series(np.where(positive, "pos", "neg"))


def test_classes_found_everywhere_raise_nothing(world):
    units, chance = world
    assert warned(units, classes(chance)) == {}
    # Rare, and by chance in one year only: too few to tell.
    assert warned(units, classes((np.arange(600) < 12) & (units["year"] == 2021))) == {}


@pytest.mark.parametrize(("column", "value"), [("year", 2021), ("state", "s2")])
def test_a_class_of_one_year_or_group_is_named_although_others_are_there_too(world, column, value):
    units, chance = world
    positive = (units[column] == value) & chance
    found = warned(units, classes(positive))
    assert f"all {positive.sum()} units of class 'pos' are of {column} '{value}'" in found[column]


def test_a_class_of_one_half_of_the_area_is_named_with_its_line(world):
    units, chance = world
    positive = (units["lat"] > 40.5) & chance
    beyond = int((units["lat"] < units["lat"][positive].min()).sum())
    found = warned(units, classes(positive))
    assert set(found) == {"place"}
    assert f"class 'pos' only north of 40.50 N, with {beyond} units beyond" in found["place"]


def test_a_number_that_follows_the_year_is_named(world):
    units, chance = world
    rng = np.random.default_rng(1)
    assert warned(units, pd.Series(rng.standard_normal(600)), "regression") == {}
    assert "of the target's variance is between values of year" in warned(units, units["year"] + 0.05 * chance, "regression")["year"]


def test_a_sensor_that_saw_one_year_and_not_the_other_is_named():
    counts = {"s1_asc": [3, 2, 0, 0], "s1_desc": [0, 1, 0, 4], "s2": [9, 9, 8, 7]}
    units = pd.DataFrame({"year": [2021, 2021, 2022, 2022], **counts})
    radar, optical = sensor_changes(units, list(counts))
    assert radar.level == "warning"
    assert radar.sentence.startswith("s1: 50% of the embeddings of 2022 hold no observation of it (s1_asc, s1_desc), 0% of those of 2021")
    assert optical.level == "pass"
    assert sensor_changes(units[:2], list(counts)) == []
