"""The labels predictions are scored with: a value per unit, or a mask per chip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.classes import class_values, encode_labels
from rs05bench.protocol.metrics import MapRules

ReadMask = Callable[[str], tuple[NDArray[np.integer], float | tuple[float, float]]]
"""Unit id -> mask (H, W) with -1 for what is not scored, and the size of a pixel in metres."""


@dataclass(frozen=True, eq=False)
class UnitLabels:
    """Labels of one target of a table.

    Attributes:
        card: The task.
        known: Labels that are there, indexed by `unit_id`.
        classes: Class values; None for numbers.
    """

    card: TaskCard
    known: pd.Series
    classes: tuple[str, ...] | None

    @classmethod
    def of(cls, card: TaskCard, labels: pd.Series) -> UnitLabels:
        """Labels of a target, indexed by `unit_id`; units without one are left out.

        Raises:
            DataError: A class that is not among the card's.
        """
        known = labels.dropna()
        return cls(card, known, class_values(card, labels))

    def scored(self, units: NDArray[np.object_]) -> NDArray[np.bool_]:
        """Which units have a label."""
        return pd.Index(units).isin(self.known.index)

    @cached_property
    def encoded(self) -> NDArray[Any]:
        """Class index or number of every unit of `known`."""
        return encode_labels(self.known.to_numpy(dtype=object), self.classes, self.card.name)

    @cached_property
    def origin(self) -> float:
        """What moments are counted from: the same in every fold, so that sums of folds add up without moving them."""
        return 0.0 if self.classes is not None else float(np.median(self.encoded))

    def at(self, units: NDArray[np.object_]) -> NDArray[np.intp]:
        """Position of each unit among those with a label, -1 where it has none."""
        return self._index.get_indexer(pd.Index(units, dtype=object))

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.known.index.to_numpy(dtype=object), dtype=object)


@dataclass(frozen=True, eq=False)
class MaskLabels:
    """Masks of the chips of a segmentation.

    Attributes:
        rules: Classes, tolerance and background.
        read: Reads a mask and the size of its pixels.
    """

    rules: MapRules
    read: ReadMask

    @property
    def known(self) -> pd.Series:
        """None: a chip has a label in each pixel."""
        return pd.Series(dtype=object)

    @classmethod
    def of(cls, card: TaskCard, classes: tuple[str, ...], read: ReadMask) -> MaskLabels:
        """Masks of a task; the first of two classes is the background.

        The boundary's tolerance is the card's `preprocessing.boundary_tolerance_m`, else two 30 m pixels.
        """
        tolerance = float(card.preprocessing.boundary_tolerance_m)
        return cls(MapRules(classes, tolerance, background=0 if len(classes) == 2 else None), read)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.rules.classes

    def scored(self, units: NDArray[np.object_]) -> NDArray[np.bool_]:
        """Which units are scored: all chips of a manifest have a mask."""
        return np.ones(len(units), dtype=bool)


ScoredLabels = UnitLabels | MaskLabels
