"""An annual embedding like the default product: its size, unit norm, its bytes by the published rule, from the year's whole signal.

What it shares with the real one: it sees the year (six dates) rather than one day, height (as from radar and lidar), climate and
terrain; it is smooth over space; no single axis is a physical quantity; it carries something of the place that has nothing to do
with any task. What it does not share: the network. Here a fixed random smooth map stands in its place.

Quantisation is that of the product's record (Brown et al. 2025, arXiv 2507.22291).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.datasets.simulated.landscape import Landscape, zone_of
from rs05bench.datasets.simulated.randomness import FloatArray, generator, normal_at, smooth_field
from rs05bench.embeddings import product

if TYPE_CHECKING:
    from rs05bench.datasets.simulated.landscape import Base

PRODUCT = product()
CELL = 2  # landscape pixels along one side of a 60 m cell: the ground the simulated embedding can tell apart

_DAYS = (32, 96, 144, 192, 240, 304)
_BAND_MEAN = np.array([0.05, 0.075, 0.085, 0.24, 0.22, 0.155], dtype=np.float32)
_BAND_SCALE = np.array([0.035, 0.035, 0.045, 0.085, 0.080, 0.075], dtype=np.float32)
_HIDDEN = 160
_MODEL_SEED = 20251  # the map is one published "model": the same in every world

# Strengths, relative to a signal of unit standard deviation in each hidden unit. Calibrated in docs/simulated.md.
SIGNAL, DIALECT, CONTEXT, CLIMATE, YEAR, NOISE = 1.80, 0.08, 0.08, 0.08, 0.05, 0.05


@cache
def _weights() -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    rng = generator(_MODEL_SEED, "map")
    inputs = len(_DAYS) * 6 + 4
    first = rng.standard_normal((inputs, _HIDDEN)) / np.sqrt(inputs)
    shift = 0.5 * rng.standard_normal(_HIDDEN)
    second = rng.standard_normal((_HIDDEN, PRODUCT.size)) / np.sqrt(_HIDDEN)
    climate = rng.standard_normal((3, _HIDDEN)) / np.sqrt(3)
    return first.astype(np.float32), shift.astype(np.float32), second.astype(np.float32), climate.astype(np.float32)


def quantised(landscape: Base, year: int, cell_rows: NDArray[Any], cell_cols: NDArray[Any]) -> NDArray[np.int8]:
    """Return the int8 embedding of 60 m cells in a year.

    Args:
        landscape: Where.
        year: Calendar year of the signal.
        cell_rows: Row of each cell (pixel row // 2), shape (n,).
        cell_cols: Column of each cell, shape (n,).

    Returns:
        Array (n, components); the masked byte in all of them where the cell is masked.
    """
    out = np.empty((len(cell_rows), PRODUCT.size), dtype=np.int8)
    for start in range(0, len(cell_rows), 8192):  # bounds memory: the hidden layer is 5 MB a chunk
        part = slice(start, start + 8192)
        out[part] = _chunk(landscape, year, cell_rows[part], cell_cols[part])
    return out


def at_pixels(landscape: Base, year: int, rows: NDArray[Any], cols: NDArray[Any]) -> FloatArray:
    """Return the decoded embedding (n, components) of the cells that hold the given pixels, NaN where masked."""
    width = (landscape.grid.width + 1) // CELL
    cells, inverse = np.unique((np.asarray(rows) // CELL) * width + np.asarray(cols) // CELL, return_inverse=True)
    return PRODUCT.codec.decode(quantised(landscape, year, *np.divmod(cells, width)))[inverse]


def _chunk(landscape: Base, year: int, cell_rows: NDArray[Any], cell_cols: NDArray[Any]) -> NDArray[np.int8]:
    seed, name = landscape.seed, landscape.name
    out = np.tanh(hidden_layer(landscape, year, cell_rows, cell_cols)) @ _weights()[2]
    places = cell_rows.astype(np.int64) * 100_000 + cell_cols
    out += NOISE * normal_at(seed, ("embedding", name, year), places, PRODUCT.size)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    values: NDArray[np.int8] = np.asarray(PRODUCT.codec.encode(out), dtype=np.int8)
    values[landscape.gaps.at(year, cell_rows, cell_cols)] = PRODUCT.codec.fill
    return values


def hidden_layer(landscape: Base, year: int, cell_rows: NDArray[Any], cell_cols: NDArray[Any]) -> FloatArray:
    """What every simulated encoder sees of 60 m cells in a year, (n, hidden units): the signal, bent by place, climate and season."""
    first, shift, _, climate_map = _weights()
    seed, name, climate = landscape.seed, landscape.name, landscape.climate
    signal = _signal(landscape, year, cell_rows, cell_cols)
    normals = np.array(
        [(climate.temperature - 12) / 5, (climate.precipitation - 700) / 380, zone_of(landscape.grid) / 4 - 3.25], dtype=np.float32
    )
    # The dialect of a place: what the embedding says of it that no other place can teach. It bends the map, so it is not a mere offset.
    dialect = generator(seed, "dialect", name).standard_normal(_HIDDEN).astype(np.float32)
    season = generator(seed, "season", year).standard_normal(_HIDDEN).astype(np.float32)
    fields, directions = _context(seed, name, (landscape.grid.height // CELL, landscape.grid.width // CELL))
    hidden = SIGNAL * (signal @ first)
    hidden += shift + DIALECT * dialect + CLIMATE * (normals @ climate_map) + YEAR * season
    hidden += CONTEXT * (fields[:, cell_rows, cell_cols].T @ directions)
    return hidden


@cache
def _context(seed: int, name: str, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    rng = generator(seed, "context", name)
    fields = np.stack([smooth_field(rng, shape, 20) for _ in range(3)])  # 20 cells of 60 m: the 1.2 km the real model sees around a pixel
    return fields, rng.standard_normal((3, _HIDDEN)).astype(np.float32)


def _signal(landscape: Base, year: int, cell_rows: NDArray[Any], cell_cols: NDArray[Any]) -> FloatArray:
    where: Landscape = landscape  # type: ignore[assignment]
    rows = (cell_rows[:, None] * CELL + np.array([0, 0, 1, 1])).clip(0, landscape.grid.height - 1).ravel()
    cols = (cell_cols[:, None] * CELL + np.array([0, 1, 0, 1])).clip(0, landscape.grid.width - 1).ravel()

    def cell_mean(values: FloatArray) -> FloatArray:
        return np.asarray(values.reshape(-1, 4, values.shape[1]).mean(axis=1))

    parts = [(cell_mean(where.reflectance(year, day, rows, cols)) - _BAND_MEAN) / _BAND_SCALE for day in _DAYS]
    structure = cell_mean(where.structure(year, rows, cols))
    terrain = where.terrain
    relief = cell_mean(np.stack([terrain.elevation[rows, cols] / 800 - 1, np.tan(terrain.slope[rows, cols]) * 6], axis=1))
    return np.concatenate([*parts, (structure - 0.25) * 4, relief], axis=1).astype(np.float32)
