"""Options of deep models are one record, which the API, the command line and the docs share."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rs05bench.errors import DataError
from rs05bench.models.deep import create
from rs05bench.models.options import DeepOptions, ScheduleOptions, names_of, options_table
from rs05bench.protocol.card import Training


@pytest.mark.parametrize(
    ("name", "option", "value", "wrong"),
    [
        ("prithvi-tiny/lora@random", "rank", 0, "rank: input should be greater than or equal to 1"),
        ("prithvi-tiny/lora@random", "targets", ["q", "z"], "targets: input should be 'q', 'k', 'v', 'o', 'mlp' or 'conv'"),
        ("prithvi-tiny/decoder@random", "decoder", "deeplab", "decoder: input should be 'unet', 'upernet' or 'fpn'"),
        ("raw/unet", "steps", "many", "steps: input should be a valid integer"),
        ("presto/frozen@random", "location", "Rome", "location: input should be a valid boolean"),
    ],
)
def test_a_value_that_is_none_is_refused_when_a_model_is_made(name: str, option: str, value: object, wrong: str):
    with pytest.raises(DataError, match=wrong) as caught:
        create(name, **{option: value})
    assert repr(value if option != "targets" else "z") in str(caught.value)


@pytest.mark.parametrize(
    ("name", "option"),
    [("galileo-nano/frozen@random", "rank"), ("raw/unet", "weights"), ("presto/lora@random", "bottleneck"), ("dofa/frozen-rf", "steps")],
)
def test_an_option_that_a_model_would_ignore_is_refused_when_it_is_made(name: str, option: str):
    with pytest.raises(DataError, match=f"{name} does not know the option {option}\n.*It takes "):
        create(name, **{option: 4})


def test_every_field_of_the_schedule_is_an_option_of_the_same_limits():
    assert set(names_of(ScheduleOptions)) == set(Training.model_fields) - {"augmentation", "batch_size"}
    for name, value in {"steps": 0, "warmup": 1.5, "class_weights": "some", "patience": -1}.items():
        for record in (Training, ScheduleOptions):
            with pytest.raises(ValidationError):
                record(**{name: value})


def test_what_was_given_is_told_from_what_is_usual():
    options = DeepOptions.of("raw/unet", {"steps": 5, "learning_rates": 0.1, "batch": 8}, tuple(DeepOptions.model_fields))
    assert options.given(ScheduleOptions) == {"steps": 5, "learning_rates": [0.1]}
    assert options.given() == {"steps": 5, "learning_rates": [0.1], "batch": 8}


def test_the_table_of_the_docs_names_every_option_and_says_what_it_is():
    rows = {line.split("|")[1].strip().strip("`"): line for line in options_table().splitlines()}
    assert set(DeepOptions.model_fields) <= set(rows)
    assert all(line.rstrip(" |").endswith((".", "one.")) for name, line in rows.items() if name in DeepOptions.model_fields), "no meaning"
    assert "| adaptation | whole number from 1 | 8 |" in rows["rank"]
