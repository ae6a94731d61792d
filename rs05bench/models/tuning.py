"""The tuning every shallow learner gets: four declared entries, judged on labels of the budget that did not fit them.

All learners have the same number of entries, so none is tuned harder than another, and the first entry is a sensible default: where a
budget leaves no label to choose with it is taken as it is, and `Choice.reason` says so. Entries are compared by a proper score (Brier
score, or mean squared error): with the handful of validation labels of a small budget, accuracies tie and jump where a proper score still
tells entries apart. The chosen entry is never refitted on the validation labels, for the gradient-trained tiers cannot do so either, and
the split-conformal intervals below need labels that no fit has seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.cell_record import TrainingRecord

if TYPE_CHECKING:
    from rs05bench.protocol import TaskData

NEAREST = ({"k": 5}, {"k": 1}, {"k": 3}, {"k": 15})
"""The grid of the floor `nearest`: labelled places that are averaged."""
COVERAGE = 0.9


@dataclass(frozen=True, slots=True)
class Choice:
    """Which entry of the grid was taken, and why.

    Attributes:
        index: Position in the grid.
        parameters: The entry itself.
        losses: Validation loss of every entry (Brier or mean squared error); empty without validation labels.
        reason: One sentence for the record.
    """

    index: int
    parameters: dict[str, Any]
    losses: list[float] = field(default_factory=list)
    reason: str = ""

    def record(self, grid: Sequence[Mapping[str, Any]]) -> TrainingRecord:
        """What a result states of it.

        Args:
            grid: The entries there were.
        """
        entries = [dict(entry) for entry in grid]
        return TrainingRecord(setting=self.parameters, grid=entries, losses=self.losses, chosen=self.reason)


Rows = NDArray[np.int64]


def choose(grid: Sequence[dict[str, Any]], data: TaskData, losses: Callable[[Rows, Rows], Sequence[float]]) -> Choice:
    """Takes the entry with the least loss on labels that did not fit it; ties go to the earlier entry.

    The labels are the validation labels of the budget, or all of it over blocks where those are too few or lack classes
    (`TaskData.tuning_fits`). Whatever is taken is then fitted on the training labels alone.

    Args:
        grid: The declared entries.
        data: What may be seen.
        losses: Mean loss of every entry, fitted on the first rows of `data.labelled` and judged on the second.
    """
    fits, tuning = data.tuning_fits(), data.budget.tuning
    if not fits:
        why = tuning.why or "the budget has no validation label"
        return Choice(0, dict(grid[0]), [], f"{why}: the first entry of the grid was taken")
    found = np.sum([np.asarray(losses(fitted, judged), dtype=np.float64) * len(judged) for fitted, judged in fits], axis=0)
    labels = sum(len(judged) for _, judged in fits)
    index = int(np.argmin(found))
    how = f"over {labels} labels" if tuning.how == "held-out" else f"over {len(fits)} parts of {labels} labels, for {tuning.why}"
    return Choice(index, dict(grid[index]), (found / labels).tolist(), f"least validation loss of {len(grid)} entries {how}")


def brier(probabilities: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """Mean over units of the summed squared difference to the one-hot label (Brier 1950), in 0-2; `y` holds class indices."""
    p = np.asarray(probabilities, dtype=np.float64)
    return float(np.mean((p**2).sum(axis=1) - 2.0 * p[np.arange(len(y)), y] + 1.0))


def conformal_radius(residuals: NDArray[np.floating], coverage: float = COVERAGE) -> float | None:
    """Half-width of the split-conformal interval from validation residuals.

    The ceil((n + 1) coverage)-th smallest absolute residual (Vovk et al. 2005; Lei et al. 2018, https://doi.org/10.1080/01621459.2017.1307116),
    which covers a new unit exchangeable with the validation labels with at least that probability. Under a shift it need not: that is what
    `coverage90` of the out-of-domain units shows.

    Returns:
        None where the labels are too few for the coverage (fewer than 9 for 90 %): no finite interval is then valid.
    """
    n = len(residuals)
    rank = math.ceil((n + 1) * coverage - 1e-9)
    if n == 0 or rank > n:
        return None
    return float(np.sort(np.abs(residuals))[rank - 1])
