"""The record of an advice: what a quick sweep says of a person's data. Every field is computed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from rs05bench.protocol.adaptation_curve import AdaptationPoint
from rs05bench.protocol.inference.intervals import Estimate

HOME, ELSEWHERE = "test_id", "test_ood"
SEEDS = 5
"""Draws of labels that are run when there is time."""


@dataclass(frozen=True)
class Choice:
    """The best model of one place at one budget.

    Attributes:
        model: Its name.
        score: Its score there.
        rival: The best other model that is no floor.
        lead: How much better it is than the rival on the same test blocks; None where they cannot be compared.
        alike: Models whose difference to the best cannot be told from zero, cheapest first, the best among them.
        over_floor: How much better it is than the best floor, which sees no image; None where it is a floor or there is none.
    """

    model: str
    score: Estimate
    rival: str | None
    lead: Estimate | None
    alike: tuple[str, ...]
    over_floor: Estimate | None = None


@dataclass(frozen=True)
class Advice:
    """What a quick sweep says about a person's data; every field is computed.

    Attributes:
        task: Task name.
        kind: Kind of the task.
        metric: Metric.
        group: Word for what is held out; None when nothing can be.
        split: Split the scores come from.
        units: Labelled units.
        groups: Groups.
        classes: Classes; None for a regression.
        bands: AlphaEarth bands among the features.
        columns: Other feature columns.
        labels: Labels the advice is for.
        labels_used: Labels used, the mean over folds.
        here: Best at home.
        elsewhere: Best where the group is held out; None when nothing is held out.
        recommended: The model to use: cheapest of those that cannot be told from the best elsewhere (or here).
        reaches: Place -> score of the recommended model.
        drop: Drop of the best elsewhere on the same ground.
        floors: Floor -> place (`test_id`, `test_ood`) -> score.
        place_counts: How much better the nearest labelled neighbour is than the majority or mean at home; None without positions.
        by_budget: (labels, best here, best elsewhere) at each budget that was run.
        more_here: What more labels here bring to the recommended model, at home and elsewhere.
        more: How many more.
        more_there: What labels from the new group bring.
        larger: (learner, simpler learner, difference elsewhere or here) on the recommended model's inputs.
        inputs: (feature set, other, difference) of the best two kinds of input with the same learner.
        fit_s: Seconds to fit the recommended model.
        predict_s_per_1000: Seconds to predict 1,000 units.
        hardware: On what.
        models: Models compared.
        seeds: Complete seeds.
        cells: Cells behind it.
        seconds: Time it took.
        stopped: What was left out because the time was up; empty when nothing.
        notes: What a reader has to know.
        simulated: Whether the data are simulated.
        store: Where the results lie.
        in_time: Whether a group is one place, so that new units there are new dates.
    """

    task: str
    kind: str
    metric: str
    group: str | None
    split: str
    units: int
    groups: int
    classes: int | None
    bands: int
    columns: int
    labels: int
    labels_used: float
    here: Choice
    elsewhere: Choice | None
    recommended: str
    reaches: dict[str, Estimate]
    drop: Estimate | None
    floors: dict[str, dict[str, Estimate]]
    place_counts: Estimate | None
    by_budget: list[tuple[float, str, float, str | None, float | None]]
    more_here: dict[str, Estimate]
    more: int
    more_there: AdaptationPoint | None
    larger: tuple[str, str, Estimate] | None
    inputs: tuple[str, str, Estimate] | None
    fit_s: float
    predict_s_per_1000: float
    hardware: str
    models: tuple[str, ...]
    seeds: int
    cells: int
    seconds: float
    stopped: str = ""
    notes: list[str] = field(default_factory=list)
    simulated: bool = False
    store: str = ""
    in_time: bool = False


def to_dict(advice: Advice) -> dict[str, Any]:
    """Plain data; NaN as None."""
    record: dict[str, Any] = _plain(asdict(advice))
    return record


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
