"""What a comparison consists of: sides, scores, drops, differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rs05bench.protocol.inference.estimate import Estimate
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.pooling import Point


@dataclass(frozen=True, slots=True)
class Term:
    """One score in a weighted sum of scores.

    Attributes:
        weight: Its weight.
        point: Which model, split and budget.
        role: `test_id` or `test_ood`.
        shift: Only units under this shift; None for the one the split is about.
    """

    weight: float
    point: Point
    role: str
    shift: str | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: a score, a mean of scores, or a drop.

    Attributes:
        terms: The scores it is the weighted sum of.
    """

    terms: tuple[Term, ...]

    @classmethod
    def score(cls, points: Point | Sequence[Point], role: str, shift: str | None = None) -> Side:
        """The score of a point in a role, or the mean over several points."""
        several = [points] if isinstance(points, Point) else list(points)
        return cls(tuple(Term(1.0 / len(several), point, role, shift) for point in several))

    @classmethod
    def drop(cls, points: Point | Sequence[Point], shift: str | None = None) -> Side:
        """The drop: the score in-domain minus the score held out, on the same test units; the mean over several points."""
        several = [points] if isinstance(points, Point) else list(points)
        share = 1.0 / len(several)
        return cls(tuple(term for p in several for term in (Term(share, p, "test_id"), Term(-share, p, "test_ood", shift))))

    @property
    def points(self) -> tuple[Point, ...]:
        """The points it rests on."""
        return tuple(dict.fromkeys(term.point for term in self.terms))


@dataclass(frozen=True, slots=True)
class Score:
    """A score of one point in one role.

    Attributes:
        point: Which model, split and budget.
        tier: The model's tier.
        role: `test_id` (in-domain) or `test_ood` (held out).
        shift: The shift it is under; None for the one the split is about.
        metric: Metric.
        labels: Labels used, the mean over cells.
        estimate: Mean over groups of the score inside each, with interval.
        pooled: Score of all units pooled, the mean over seeds: it also rewards telling groups apart. NaN where no sums were kept.
        units: Test units.
        digests: The cells it rests on.
    """

    point: Point
    tier: str
    role: str
    shift: str | None
    metric: str
    labels: float
    estimate: Estimate
    pooled: float
    units: int
    digests: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class GroupDrop:
    """The drop inside one group, the mean over seeds.

    Attributes:
        group: The group.
        units: Its test units.
        at_home: Score with the group in training.
        held_out: Score with it held out.
        drop: How much worse; positive for worse.
    """

    group: str
    units: int
    at_home: float
    held_out: float
    drop: float


@dataclass(frozen=True, slots=True)
class Drop:
    """The drop of one point under one shift, on the same test units.

    Attributes:
        point: Which model, split and budget.
        tier: The model's tier.
        metric: Metric.
        shift: What changes: `region`, `year` or `both`.
        at_home: Score with the groups in training, the mean over groups.
        held_out: Score with them held out, the mean over groups.
        drop: How much worse; positive for worse, with interval and p.
        groups: The same for each group.
        digests: The cells it rests on.
    """

    point: Point
    tier: str
    metric: str
    shift: str
    at_home: float
    held_out: float
    drop: Estimate
    groups: tuple[GroupDrop, ...]
    digests: tuple[str, ...] = field(repr=False)

    @property
    def relative(self) -> float:
        """The drop as a share of the score in-domain; NaN where that is 0."""
        return self.drop.value / abs(self.at_home) if self.at_home else float("nan")

    @property
    def worst(self) -> GroupDrop | None:
        """The group with the worst held-out score."""
        goodness = find_metric(self.metric).goodness
        ranked = [entry for entry in self.groups if np.isfinite(entry.held_out)]
        return min(ranked, key=lambda entry: goodness(entry.held_out)) if ranked else None


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference of two sides on the same test units and seeds.

    Attributes:
        first: One side.
        second: The other.
        metric: Metric; the effect is in its unit.
        effect: First minus second, turned so that positive means that the first is better; with interval, p and `p_holm`.
        left: Value of the first side, in the metric's own direction.
        right: Value of the second side.
        digests: The cells it rests on.
    """

    first: Side
    second: Side
    metric: str
    effect: Estimate
    left: float
    right: float
    digests: tuple[str, ...] = field(repr=False)
