"""What drawing a task's split again has shown: a record that a store of results keeps."""

from __future__ import annotations

from pydantic import BaseModel


class Variant(BaseModel):
    """The split drawn one way.

    Attributes:
        what: In words.
        seed: Seed of the split.
        block_m: Side of a block, metres; None where blocks are not squares.
        groups: Groups with a score of their own.
        score: The model's main score.
        low: Lower end of its 95 % interval; None where there is none.
        high: Upper end.
        over_floor: How much better it is than the baseline without imagery.
        reason: Why this draw is not possible; empty where it is.
    """

    what: str
    seed: int
    block_m: float | None
    groups: int = 0
    score: float | None = None
    low: float | None = None
    high: float | None = None
    over_floor: float | None = None
    reason: str = ""


class Power(BaseModel):
    """What the groups can show of one difference.

    Attributes:
        first: One model.
        second: The other.
        difference: First minus second.
        detectable: The smallest true difference that is found with 80 % probability (two-sided, 5 %); None for fewer than three groups.
        groups: Groups.
    """

    first: str
    second: str
    difference: float
    detectable: float | None
    groups: int


class Sensitivity(BaseModel):
    """How far the score of a task moves with the draw of its split, and what its groups can show.

    Attributes:
        task: Task name.
        target: Target.
        split: Split.
        role: Where the score is taken, `test_ood` or `test_id`.
        metric: Metric.
        model: The model that is run again.
        floor: The baseline without imagery.
        range_m: Distance over which labels are alike, metres; None where near ones are no more alike, or nothing has a position.
        variants: The draws, the card's own first.
        power: The differences between models under the card's own draw.
        simulated: Whether the data are simulated.
    """

    task: str
    target: str
    split: str
    role: str
    metric: str
    model: str
    floor: str
    range_m: float | None
    variants: list[Variant]
    power: list[Power]
    simulated: bool

    @property
    def spread(self) -> float | None:
        """Largest minus smallest score over the draws that are possible."""
        known = [entry.score for entry in self.variants if entry.score is not None]
        return max(known) - min(known) if len(known) > 1 else None
