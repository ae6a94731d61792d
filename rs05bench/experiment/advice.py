"""The record of an advice: what a quick sweep says of a person's data. Every field is computed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from rs05bench.datasets.tables.design import DesignFlag
from rs05bench.protocol.inference.estimate import Estimate

HOME, ELSEWHERE = "test_id", "test_ood"
CLOSE = 0.02
"""Of scores nearer than this, without a significant difference, the cheaper model is recommended."""
SEEDS = 5
"""Draws of labels that are run when there is time."""

Verdict = Literal["model", "leads", "floor", "perfect-floor"]


@dataclass(frozen=True)
class Place:
    """What was found in one place: in-domain, or in the group held out.

    Attributes:
        role: `test_id` or `test_ood`.
        best: The model with the best score that is not a baseline without imagery.
        score: Its score there, the mean over groups.
        floor: The best baseline without imagery; empty where none was run.
        floor_score: Its score there.
        over_floor: How much better the model is than the baseline on the same test units; None where they cannot be compared.
        alike: Models without a significant difference to the best and within `CLOSE` of it, cheapest first, the best among them.
        over_metric: Metric of `over_floor`; see `rs05bench.protocol.comparison.against_floor`.
    """

    role: str
    best: str
    score: Estimate
    floor: str
    floor_score: Estimate | None
    over_floor: Estimate | None
    alike: tuple[str, ...]
    over_metric: str = ""


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
        features: Feature set -> number of columns.
        labels: Labels the advice is for.
        labels_used: Labels used, the mean over folds.
        flags: Designs under which no score here says anything of the ground.
        here: In-domain.
        elsewhere: Where the group is held out; None when nothing is held out.
        verdict: `model` (it beats the baselines), `leads` (ahead of them, but not significantly), `floor` (no model is ahead of the best
            baseline) or `perfect-floor` (a baseline without imagery is right nearly always: a broken design).
        recommended: What to use: a model, or the baseline where no model is ahead of it.
        reaches: Place -> score of it.
        drop: Drop of the best model elsewhere, on the same test units.
        floors: Baseline -> place -> score.
        place_share: Share of the best model's gain over majority or mean in-domain that the nearest labelled place reaches; None without
            positions.
        place_gain: How much better the nearest labelled place is than majority or mean in-domain.
        place_metric: Metric of `place_share` and `place_gain`.
        by_budget: (labels, best here, its score, best elsewhere, its score) at each budget that was run.
        more: How many further labels are asked about.
        more_random: Place -> what as many more labels drawn at random bring.
        more_clustered: Place -> the same number of labels in a few visited places, against all of them at random.
        more_there: What as many labels from the new group, drawn at random, bring there; None where it was not run.
        more_there_clustered: The same in a few visited places of the new group.
        unsettled: (question, difference) of what these data do not settle.
        settled: (statement, difference) of what they do.
        blocks: Blocks and buffer, for people.
        confusion: True class -> answer -> units, of the recommended model where it is judged; None for a regression.
        fit_s: Seconds to fit the recommended model.
        predict_s_per_1000: Seconds to predict 1,000 units.
        hardware: On what.
        models: Models compared.
        seeds: Complete seeds.
        cells: Cells behind it.
        seconds: Time it took.
        stopped: What was left out because the time was up; empty when nothing.
        warnings: What the data give away, or lack: copies, constant features, a sampling that tells the label.
        notes: What a reader has to know.
        simulated: Whether the data are simulated.
        store: Where the results lie.
    """

    task: str
    kind: str
    metric: str
    group: str | None
    split: str
    units: int
    groups: int
    classes: int | None
    features: dict[str, int]
    labels: int
    labels_used: float
    flags: list[DesignFlag]
    here: Place
    elsewhere: Place | None
    verdict: Verdict
    recommended: str
    reaches: dict[str, Estimate]
    drop: Estimate | None
    floors: dict[str, dict[str, Estimate]]
    place_share: float | None
    place_gain: Estimate | None
    by_budget: list[tuple[float, str, float, str | None, float | None]]
    more: int
    more_random: dict[str, Estimate]
    more_clustered: dict[str, Estimate]
    more_there: Estimate | None
    more_there_clustered: Estimate | None
    unsettled: list[tuple[str, Estimate]]
    settled: list[tuple[str, Estimate]]
    blocks: str
    confusion: dict[str, dict[str, int]] | None
    fit_s: float
    predict_s_per_1000: float
    hardware: str
    models: tuple[str, ...]
    seeds: int
    cells: int
    seconds: float
    stopped: str = ""
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    simulated: bool = False
    store: str = ""
    place_metric: str = ""

    @property
    def judged(self) -> Place:
        """The place a recommendation is for: where the group is held out, else here."""
        return self.elsewhere or self.here


def to_dict(advice: Advice) -> dict[str, Any]:
    """Plain data; NaN as None."""
    flags = [flag.model_dump() for flag in advice.flags]
    record: dict[str, Any] = _plain(asdict(advice) | {"flags": flags})
    return record


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
