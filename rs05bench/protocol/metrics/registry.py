"""What each score means: its definition's source, its range, its direction, what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rs05bench.errors import ProtocolError


@dataclass(frozen=True)
class Metric:
    """One score of the protocol.

    Args:
        name: The name used in cards, results and tables; `<class>` stands for a class name.
        kind: Its family: `classification`, `segmentation`, `regression`, `calibration`, `spatial`.
        higher_is_better: Direction; None where the best value lies inside the range (see `target`).
        range: Smallest and largest possible value.
        needs: What must be known to compute it (`labels`, `probabilities`, `values`, `interval`, `masks`, `pixel_size`, `coordinates`).
        source: Where the definition comes from.
        function: The function that computes it.
        tasks: The kinds of task card it applies to.
        target: The best value where it is not an end of the range (0 for a bias, .9 for the coverage of 90 % intervals).
    """

    name: str
    kind: str
    higher_is_better: bool | None
    range: tuple[float, float]
    needs: tuple[str, ...]
    source: str
    function: Callable[..., Any]
    tasks: tuple[str, ...] = ()
    target: float | None = None

    def goodness(self, value: float) -> float:
        """The value turned so that more is better: negated for errors, minus the distance to the target where there is one."""
        if self.target is not None:
            return -abs(value - self.target)
        return value if self.higher_is_better else -value

    def drop(self, at_home: float, elsewhere: float) -> float:
        """How much worse `elsewhere` is than `at_home`, in the metric's own unit; positive means worse elsewhere."""
        return self.goodness(at_home) - self.goodness(elsewhere)


def find_metric(name: str, metrics: dict[str, Metric]) -> Metric:
    """Look a metric up; `f1_corn` finds `f1_<class>`.

    Raises:
        ProtocolError: No metric has this name.
    """
    if name in metrics:
        return metrics[name]
    # The longest stem first, so that a future `iou_x_<class>` would win over `iou_<class>`.
    for template in sorted((key for key in metrics if key.endswith("<class>")), key=len, reverse=True):
        if name.startswith(template.removesuffix("<class>")) and name != template.removesuffix("<class>"):
            return metrics[template]
    raise ProtocolError(f"there is no metric {name!r}", remedy=f"Known metrics: {', '.join(sorted(metrics))}.")
