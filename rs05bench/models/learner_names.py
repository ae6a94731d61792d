"""Names of the shallow learners, and the kinds of task that learners and floors can do."""

from __future__ import annotations

from rs05bench.models.learners import LEARNERS
from rs05bench.models.learners.learner import BOTH, Kind

SHALLOW_NAMES = tuple(LEARNERS)
_FLOORS: dict[str, tuple[Kind, ...]] = {"majority": ("classification",), "mean": ("regression",)}


def kinds_of(learner: str) -> tuple[Kind, ...]:
    """Kinds of task a learner or floor can do; `frozen-<learner>` as its learner."""
    word = learner.removeprefix("frozen-")
    return LEARNERS[word].kinds if word in LEARNERS else _FLOORS.get(word, BOTH)


def package_of(learner: str) -> str:
    """The package of an extra that a learner needs; empty for none."""
    return LEARNERS[learner].package if learner in LEARNERS else ""
