"""Records of a result keep the shape of the files they were read from."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from rs05bench.protocol.cell_record import BudgetRecord, TrainingRecord
from rs05bench.protocol.preprocessing import Preprocessing


def test_a_field_that_nobody_set_is_not_written():
    assert BudgetRecord.model_validate({"labels_used": 20}).model_dump(mode="json") == {"labels_used": 20}


def test_a_number_stays_as_it_was_written():
    written = {"layers": {"biome": ["regions.gpkg", "biome"]}, "weights": {"presto": {"file": "a.pt"}}, "boundary_tolerance_m": 60}
    kept = Preprocessing.model_validate(written).model_dump(mode="json")
    assert json.dumps(kept, sort_keys=True) == json.dumps(written, sort_keys=True)  # 60 is not 60.0


@pytest.mark.parametrize("record", [BudgetRecord, TrainingRecord, Preprocessing])
def test_an_unknown_field_is_refused(record):
    with pytest.raises(ValidationError, match="spelled_wrong"):
        record.model_validate({"spelled_wrong": 1})


def test_setting_a_field_checks_it():
    with pytest.raises(ValidationError, match="patch_size"):
        Preprocessing().with_fields(patch_size="large")


@pytest.mark.parametrize(
    ("written", "steps"),
    [
        ({"planned_steps": 200, "steps": 120, "stopped_early": True}, 200),
        ({"plan": {"steps": 50}}, 50),
        ({"steps": 80}, 80),
        ({"steps": 80, "stopped_early": True}, None),
        ({}, None),
    ],
)
def test_steps_given_are_the_planned_ones_or_those_of_a_fit_that_nothing_ended(written, steps):
    assert TrainingRecord.model_validate(written).steps_given == steps
