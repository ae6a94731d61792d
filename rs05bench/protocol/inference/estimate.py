"""A number with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.metrics.declaration import Centre

LEVEL = 0.95
LEAST = 3
"""With fewer groups, blocks or draws than this no interval is given."""
FEW_GROUPS = 20
"""Below this many groups every group's value is shown next to the mean."""
Over = Literal["groups", "blocks", "draws"]


class NextGroup(NamedTuple):
    """Where the value of one group more lies.

    Attributes:
        low: Lower end.
        high: Upper end.
        level: Probability that the next group lies between them.
        groups: Groups it rests on.
    """

    low: float
    high: float
    level: float
    groups: int


class Bounds(NamedTuple):
    """An interval, and what it is for.

    Attributes:
        of: `mean` or `median` over groups.
        value: That mean or median.
        low: Lower end; NaN where there are too few groups.
        high: Upper end.
    """

    of: Centre
    value: float
    low: float
    high: float


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
        new_low: Lower end of where the value of one new group lies.
        new_high: Upper end.
        new_level: With which probability: `level`, or less where order statistics of few groups cannot give it.
        median: Median over groups with its interval, for metrics whose mean over groups has none; None for all others.
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
    new_level: float = float("nan")
    median: Bounds | None = None
    points: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def bounds(self) -> Bounds | None:
        """The interval that can be given: for the mean over groups, or for their median; None where there is none."""
        found = self.median or Bounds("mean", self.value, self.low, self.high)
        return found if np.isfinite(found.low) and np.isfinite(found.high) else None

    @property
    def above_zero(self) -> bool:
        """Whether the interval lies above zero."""
        return self.bounds is not None and self.bounds.low > 0 and self.value > 0

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
        """Where one group more lies; None for fewer than three groups, or for blocks."""
        if not np.isfinite(self.new_level):
            return None
        return NextGroup(self.new_low, self.new_high, self.new_level, self.n_groups)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; a number that is not defined becomes None."""
        record = asdict(self)
        for name in ("value", "low", "high", "se", "p", "p_holm", "new_low", "new_high", "new_level"):
            record[name] = record[name] if record[name] is not None and np.isfinite(record[name]) else None
        if self.median is not None:
            ends = {name: value for name, value in self.median._asdict().items() if name != "of"}
            record["median"] = {name: value if np.isfinite(value) else None for name, value in ends.items()}
        record["points"] = {name: value if np.isfinite(value) else None for name, value in self.points.items()}
        return record


def limits(metric: str, coefficients: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest that a weighted sum of scores can be: an interval never reaches beyond."""
    low, high = find_metric(metric).range
    ends = [sorted((weight * low, weight * high)) for weight in coefficients if weight]
    return float(sum(end[0] for end in ends)), float(sum(end[1] for end in ends))
