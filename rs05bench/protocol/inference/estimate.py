"""A number with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from rs05bench.protocol.metrics import find_metric

LEVEL = 0.95
LEAST = 3
"""With fewer groups, blocks or draws than this no interval is given."""
FEW_GROUPS = 20
"""Below this many groups every group's value is shown next to the mean."""
Over = Literal["groups", "blocks", "draws"]


class NextGroup(NamedTuple):
    """Where the value of one group more lies, with a probability that needs no assumption on how groups differ.

    Attributes:
        low: Lower end, the value of a group.
        high: Upper end, the value of a group.
        level: Probability that the next group lies between them.
        groups: Groups it rests on.
    """

    low: float
    high: float
    level: float
    groups: int


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty.

    Args:
        value: The score or difference: the mean over groups of the value inside each (the mean over seeds when several were given).
        low: Lower end of the interval for `value`; NaN when no interval can be given.
        high: Upper end.
        level: Nominal level of the interval.
        se: Standard error.
        over: What the interval holds for. `groups`: the mean over all groups like these, so also what to expect of a new one.
            `blocks`: this one group, resampled by its test blocks; it says nothing about a new region. `draws`: repeated draws.
        n_groups: Groups.
        n_blocks: Test blocks that were resampled; 0 where groups were.
        n_seeds: Fits whose variation is part of the standard error (1 = it is not).
        p: Two-sided p-value of no difference; None for a score.
        p_holm: `p` corrected over the list of comparisons this one was made in (Holm 1979); None where it was made alone.
        new_low: Lower end of the prediction interval: where the value of one new group lies with probability `level`.
        new_high: Upper end.
        points: The value of each group.
        note: What a reader has to know, in a sentence; empty when nothing.
    """

    value: float
    low: float
    high: float
    level: float
    se: float
    over: Over
    n_groups: int
    n_blocks: int = 0
    n_seeds: int = 1
    p: float | None = None
    p_holm: float | None = None
    new_low: float = float("nan")
    new_high: float = float("nan")
    points: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def has_interval(self) -> bool:
        """Whether an interval could be given."""
        return bool(np.isfinite(self.se))

    @property
    def significant(self) -> bool:
        """Whether no difference is rejected at `level`, after the correction over the list where there is one."""
        p = self.p if self.p_holm is None else self.p_holm
        return p is not None and bool(p < 1 - self.level)

    @property
    def shown_points(self) -> dict[str, float]:
        """The value of each group where there are few enough of them to be listed."""
        return self.points if 1 < len(self.points) < FEW_GROUPS else {}

    @property
    def next_group(self) -> NextGroup | None:
        """Where one group more lies, from order statistics of the groups there are; None for fewer than three, or for blocks.

        Of n + 1 groups drawn from one population, the last one lies between the r-th smallest and the r-th largest of the other n with
        probability (n + 1 - 2r) / (n + 1) (Wilks 1941, https://doi.org/10.1214/aoms/1177731788). r is the largest for which this is at
        least `level`. Fewer than 39 groups cannot give 95 %: then their whole range is taken, with the probability it has.
        """
        known = sorted(value for value in self.points.values() if np.isfinite(value))
        count = len(known)
        if self.over != "groups" or count < LEAST:
            return None
        rank = max(1, math.floor((1 - self.level) * (count + 1) / 2 + 1e-9))
        return NextGroup(known[rank - 1], known[-rank], (count + 1 - 2 * rank) / (count + 1), count)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; a number that is not defined becomes None."""
        record = asdict(self)
        for name in ("value", "low", "high", "se", "p", "p_holm", "new_low", "new_high"):
            record[name] = record[name] if record[name] is not None and np.isfinite(record[name]) else None
        record["points"] = {name: value if np.isfinite(value) else None for name, value in self.points.items()}
        return record


def limits(metric: str, coefficients: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest that a weighted sum of scores can be: an interval never reaches beyond."""
    low, high = find_metric(metric).range
    ends = [sorted((weight * low, weight * high)) for weight in coefficients if weight]
    return float(sum(end[0] for end in ends)), float(sum(end[1] for end in ends))
