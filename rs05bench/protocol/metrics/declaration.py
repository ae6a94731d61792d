"""What each score means, declared once where its formula is: range, direction, words, source, and what it is computed from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from rs05bench.errors import ProtocolError

Task = Literal["classification", "segmentation", "regression"]
LABELLED: tuple[Task, ...] = ("classification", "segmentation")
Centre = Literal["mean", "median"]
CLASS = "<class>"
Formula = TypeVar("Formula", bound=Callable[..., Any])


@dataclass(frozen=True)
class Metric:
    """One score of the protocol.

    Attributes:
        name: The name used in cards, results and tables; `<class>` stands for a class name.
        function: Its formula: of the parts of summed `sums` (see `Sums.parts`), over all leading axes; or of `UnitAnswers`, where it does
            not follow from sums.
        words: Its definition in a line.
        source: Where the definition comes from; empty for those every textbook has.
        range: Smallest and largest possible value.
        better: `higher`, `lower`, or the best value where it is inside the range (0 for a bias, .9 for the coverage of 90 % intervals).
        tasks: The kinds of task card it applies to.
        sums: The kind of sums it is a function of; None where it needs the units themselves.
        variant_of: The metric whose formula it has, over probabilities after scaling.
        over_groups: What an interval and a test over groups are for: the `mean` of the values inside groups (Student's t), or, where a few
            groups lie far from the rest and t does not hold the mean, their `median` (order statistics and the sign test).
    """

    name: str
    function: Callable[..., Any]
    words: str
    source: str
    range: tuple[float, float]
    better: Literal["higher", "lower"] | float
    tasks: tuple[Task, ...]
    sums: type[Any] | None = None
    variant_of: str = ""
    over_groups: Centre = "mean"

    @property
    def higher_is_better(self) -> bool | None:
        """Direction; None where the best value is inside the range."""
        return None if self.target is not None else self.better == "higher"

    @property
    def target(self) -> float | None:
        """The best value where it is not an end of the range."""
        return None if isinstance(self.better, str) else float(self.better)

    def goodness(self, value: float) -> float:
        """The value turned so that more is better: negated for errors, minus the distance to the target where there is one."""
        if self.target is not None:
            return -abs(value - self.target)
        return value if self.higher_is_better else -value

    def drop(self, at_home: float, elsewhere: float) -> float:
        """How much worse `elsewhere` is than `at_home`, in the metric's own unit; positive means worse elsewhere."""
        return self.goodness(at_home) - self.goodness(elsewhere)


METRICS: dict[str, Metric] = {}
"""Every declared metric by name, in the order of declaration."""


def metric(
    name: str,
    *,
    words: str,
    range: tuple[float, float],
    better: Literal["higher", "lower"] | float,
    tasks: tuple[Task, ...],
    source: str = "",
    sums: type[Any] | None = None,
    over_groups: Centre = "mean",
) -> Callable[[Formula], Formula]:
    """Declares a metric: the decorated function is its formula. Arguments as the fields of `Metric`.

    Scores, reports, the leaderboard and the documentation read the declaration; nothing else has to be changed for a new metric.

    Raises:
        ProtocolError: The name is declared already.
    """

    def declare(function: Formula) -> Formula:
        add(Metric(name, function, words, source, range, better, tasks, sums, over_groups=over_groups))
        return function

    return declare


def add(declared: Metric) -> None:
    """Enters a metric into `METRICS`.

    Raises:
        ProtocolError: The name is declared already.
    """
    if declared.name in METRICS:
        raise ProtocolError(f"the metric {declared.name!r} is declared twice")
    METRICS[declared.name] = declared


def variant(name: str, of: str, *, words: str, source: str) -> None:
    """Declares a metric that has the formula of another over other values (probabilities after scaling)."""
    add(replace(METRICS[of], name=name, words=words, source=source, sums=None, variant_of=of))


def find_metric(name: str) -> Metric:
    """The metric of a name; `f1_corn` finds `f1_<class>`.

    Raises:
        ProtocolError: No metric has this name.
    """
    if name in METRICS:
        return METRICS[name]
    # The longest stem first, so that a future `iou_x_<class>` would win over `iou_<class>`.
    for template in sorted((key for key in METRICS if key.endswith(CLASS)), key=len, reverse=True):
        if name.startswith(template.removesuffix(CLASS)) and name != template.removesuffix(CLASS):
            return METRICS[template]
    raise ProtocolError(f"there is no metric {name!r}", remedy=f"Known metrics: {', '.join(sorted(METRICS))}.")


def markdown_table() -> str:
    """The table of all metrics for the documentation."""

    def end(value: float) -> str:
        return {math.inf: "up", -math.inf: "-inf"}.get(value, f"{value:.3g}")

    lines = ["| name | definition | range | better | interval over groups | source |", "|---|---|---|---|---|---|"]
    for known in METRICS.values():
        low, high = known.range
        span = (
            "any"
            if (low, high) == (-math.inf, math.inf)
            else f"{end(low)} {end(high)}"
            if high == math.inf
            else f"{end(low)} to {end(high)}"
        )
        better = known.better if isinstance(known.better, str) else f"{known.better:g}"
        words = known.words.replace("|", r"\|")
        lines.append(f"| `{known.name}` | {words} | {span} | {better} | {known.over_groups} | {known.source or '-'} |")
    return "\n".join(lines)
