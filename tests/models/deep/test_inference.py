"""Sliding windows cover every pixel, average what overlaps, and need no more memory than a block."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs05bench.models.deep import create
from rs05bench.models.sliding_windows import Window, sliding_window, window_starts


@given(length=st.integers(1, 300), window=st.integers(1, 64), data=st.data())
def test_windows_cover_the_axis_and_stay_inside(length: int, window: int, data: st.DataObject):
    stride = data.draw(st.integers(1, window))
    starts = window_starts(length, window, stride)
    covered = np.zeros(length, dtype=int)
    for start in starts:
        assert start >= 0
        assert start + window <= length or starts == [0]
        covered[start : start + window] += 1
    assert covered.min() >= 1
    assert starts == sorted(set(starts))


def test_a_stride_beyond_the_window_is_refused():
    with pytest.raises(ValueError, match="stride 9"):
        window_starts(20, 8, 9)


def positions(windows: list[Window]) -> np.ndarray:
    """A fake network whose output depends on where a pixel lies in its window, so that averaging shows."""
    out = []
    for one in windows:
        rows, columns = np.mgrid[0 : one.height, 0 : one.width]
        out.append(np.stack([rows + one.row, (columns - one.width / 2) * (1 + one.row)]).astype(np.float32))
    return np.stack(out)


@pytest.mark.parametrize("block", [7, 16, 1000])
def test_overlaps_are_averaged_the_same_whatever_the_block(block: int):
    height, width, window, stride = 37, 53, 12, 5
    total, count = np.zeros((2, height, width)), np.zeros((height, width))
    for row in window_starts(height, window, stride):
        for column in window_starts(width, window, stride):
            total[:, row : row + window, column : column + window] += positions([Window(row, column, window, window)])[0]
            count[row : row + window, column : column + window] += 1
    scene = np.full((2, height, width), np.nan, dtype=np.float32)
    for target, values in sliding_window(positions, height, width, window=window, stride=stride, classes=2, block=block, batch=3):
        scene[:, target.row : target.row + target.height, target.column : target.column + target.width] = values
    np.testing.assert_allclose(scene, total / count, rtol=1e-5, atol=1e-4)


def test_a_scene_smaller_than_the_window_is_one_window():
    blocks = list(sliding_window(positions, 5, 9, window=32, stride=16, classes=2))
    assert [target for target, _ in blocks] == [Window(0, 0, 5, 9)]


def test_memory_follows_the_block_and_not_the_scene():
    def peak(side: int) -> int:
        def flat(windows: list[Window]) -> np.ndarray:
            return np.full((len(windows), 4, 64, 64), 0.25, dtype=np.float32)

        tracemalloc.start()
        for _ in sliding_window(flat, side, side, window=64, stride=64, classes=4, block=128, batch=4):
            pass
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    assert peak(1024) < 1.3 * peak(256)


@pytest.mark.parametrize("side", [64, 256])
def test_a_network_holds_no_more_windows_than_a_batch_whatever_the_scene(side: int, chips: Callable):
    """What a deep model reads of a scene is let go batch by batch; only a block of output is ever whole."""
    model = create("alphaearth/conv1x1", accelerator="cpu", steps=1, learning_rates=[1e-3]).fit(chips())
    alive, most = 0, 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def read(window: Window) -> dict[str, np.ndarray]:
        nonlocal alive, most
        assert (window.height, window.width) == (32, 32)
        pixels = np.zeros((64, window.height, window.width), dtype=np.float32)
        weakref.finalize(pixels, gone)
        alive += 1
        most = max(most, alive)
        return {"embedding": pixels}

    largest = max(values.nbytes for _, values in model.predict_scene(read, side, side, block=48, batch=4))
    assert most == 4
    assert largest == 2 * 48 * 48 * 4
