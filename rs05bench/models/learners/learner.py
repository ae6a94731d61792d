"""What a shallow learner is: arrays in, arrays out, one path of fits over a declared grid.

A learner knows nothing of roles, budgets or files. Classes come in as 0..k-1 without gaps and targets with mean 0 and deviation 1;
`rs05bench.models.shallow` does that, and puts predictions back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["classification", "regression"]
BOTH: tuple[Kind, ...] = ("classification", "regression")
Floats = NDArray[np.floating[Any]]
Grid = Sequence[dict[str, Any]]
SKLEARN = "Pedregosa et al. 2011, Scikit-learn, JMLR 12"


@dataclass(frozen=True)
class Fitted:
    """One fit: `predict` maps scaled features (n, d) to probabilities (n, k) or values (n,); `count` counts what was learnt, when asked."""

    predict: Callable[[Floats], Floats]
    count: Callable[[], int]


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A learner under the protocol.

    Attributes:
        name: As in `alphaearth/<name>`.
        rank: Its place in lists: low first.
        words: Its name in a sentence.
        path: Fits every entry of a grid: (X, y, grid, kind, seed) -> one `Fitted` an entry.
        grid: The four entries that are tried, default first.
        licence: Licence of the software behind it.
        citation: What to cite.
        kinds: Kinds of task it can do.
        reads_missing: Whether it takes NaN as it is; others see the training median.
        together: Fits the grid on many training sets at once, where that shares work: with the answers of `path`.
        package: Package of an extra that it needs; empty for none.
    """

    name: str
    rank: int
    words: str
    path: Callable[[Floats, NDArray[Any], Grid, Kind, int], list[Fitted]]
    grid: tuple[dict[str, Any], ...]
    licence: str
    citation: str
    kinds: tuple[Kind, ...] = BOTH
    reads_missing: bool = False
    together: Callable[[Sequence[tuple[Floats, NDArray[Any]]], Grid], list[list[Fitted]]] | None = None
    package: str = ""

    def paths(self, problems: Sequence[tuple[Floats, NDArray[Any]]], kind: Kind, seed: int) -> list[list[Fitted]]:
        """The path of each of several training sets (X, y); the same as one by one, whether or not the learner shares work."""
        if self.together is not None:
            return self.together(problems, self.grid)
        return [self.path(X, y, self.grid, kind, seed) for X, y in problems]


def constant(count: int) -> Callable[[], int]:
    """A count that is known."""
    return lambda: count


def stages(grid: Grid, shape: str, fit: Callable[[int, int], Any], stage: Callable[[Any, int], Fitted]) -> list[Fitted]:
    """Entries that differ in rounds only are stages of one boosted fit.

    Args:
        grid: The entries.
        shape: Name of the parameter that gives a tree its shape.
        fit: (shape, rounds) -> a fitted booster.
        stage: (booster, rounds) -> what its first rounds give.
    """
    longest: dict[int, int] = {}
    for entry in grid:
        longest[entry[shape]] = max(longest.get(entry[shape], 0), entry["rounds"])
    models = {value: fit(value, rounds) for value, rounds in longest.items()}
    return [stage(models[entry[shape]], entry["rounds"]) for entry in grid]
