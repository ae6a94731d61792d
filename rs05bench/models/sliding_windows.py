"""Sliding-window prediction of scenes of any size, with averaged probabilities and memory bounded by a window and an output block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Predict = Callable[[list["Window"]], Array]
"""Probabilities (n, K, h, w) of n windows."""


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of a scene, in pixels."""

    row: int
    column: int
    height: int
    width: int


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Starts of windows along one axis: every stride, the last one flush with the end.

    Examples:
        >>> window_starts(10, 4, 3), window_starts(3, 4, 3)
        ([0, 3, 6], [0])
        >>> window_starts(11, 4, 3)
        [0, 3, 6, 7]
    """
    if window < 1 or stride < 1 or stride > window:
        raise ValueError(f"stride {stride} must lie between 1 and the window, {window}")
    last = max(length - window, 0)
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


def sliding_window(
    predict: Predict, height: int, width: int, *, window: int, stride: int, classes: int, block: int = 1024, batch: int = 8
) -> Iterator[tuple[Window, Array]]:
    """Predict a scene window by window and average the probabilities where windows overlap.

    The grid of windows depends on the scene alone, so the result does not depend on ``block``; windows across a border between blocks are
    predicted once for each side.

    Args:
        predict: Gives the probabilities of a list of windows (it reads their pixels itself).
        height: Rows of the scene.
        width: Columns of the scene.
        window: Side of a window; smaller scenes get one window of their own size.
        stride: Step between windows; equal to the window for none to overlap.
        classes: Number of probabilities.
        block: Side of the output blocks; memory grows with its square and not with the scene.
        batch: Windows predicted at once.

    Yields:
        Blocks from top left to bottom right, each with its probabilities (K, h, w).
    """
    rows, columns = window_starts(height, window, stride), window_starts(width, window, stride)
    for top in range(0, height, block):
        for left in range(0, width, block):
            target = Window(top, left, min(block, height - top), min(block, width - left))
            yield target, _block(predict, target, rows, columns, (min(window, height), min(window, width)), classes, batch)


def _block(predict: Predict, target: Window, rows: list[int], columns: list[int], size: tuple[int, int], classes: int, batch: int) -> Array:
    windows = _meeting(target, rows, columns, size)
    total = np.zeros((classes, target.height, target.width), dtype=np.float64)
    times = np.zeros((target.height, target.width), dtype=np.int32)
    for start in range(0, len(windows), batch):
        chunk = windows[start : start + batch]
        for one, probabilities in zip(chunk, predict(chunk), strict=True):
            here, there = _overlap(target, one)
            total[:, here[0], here[1]] += probabilities[:, there[0], there[1]]
            times[here] += 1
    return (total / times).astype(np.float32)


def _meeting(target: Window, rows: list[int], columns: list[int], size: tuple[int, int]) -> list[Window]:
    """The windows that share a pixel with a block, row by row, without listing the whole grid."""
    near_rows = [row for row in rows if row < target.row + target.height and target.row < row + size[0]]
    near_columns = [column for column in columns if column < target.column + target.width and target.column < column + size[1]]
    return [Window(row, column, *size) for row in near_rows for column in near_columns]


def _overlap(target: Window, one: Window) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The shared pixels, in the block's coordinates and in the window's."""
    top, bottom = max(target.row, one.row), min(target.row + target.height, one.row + one.height)
    left, right = max(target.column, one.column), min(target.column + target.width, one.column + one.width)
    here = slice(top - target.row, bottom - target.row), slice(left - target.column, right - target.column)
    return here, (slice(top - one.row, bottom - one.row), slice(left - one.column, right - one.column))
