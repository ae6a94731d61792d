"""Blocks and buffers that suit an area: from its extent, the number of units and how far their labels are alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.protocol.audit.autocorrelation import variogram
from rs05bench.protocol.geodesy import great_circle_m

if TYPE_CHECKING:
    from rs05bench.protocol import TaskCard, UnitTable

PER_BLOCK = 8
"""Units a block should hold on average: fewer, and a block tests nothing; many more, and there are few blocks."""
FEWEST_BLOCKS = 20
_CELLS = 24
"""Cells a side in which clusters of units are told apart."""


@dataclass(frozen=True, slots=True)
class BlockSize:
    """Blocks and buffer in metres, and why.

    Attributes:
        block_m: Side of a block.
        buffer_m: Distance kept from test units.
        extent_m: Diagonal of the middle region.
        range_m: Distance over which labels are alike; None where nearby ones are no more alike than distant ones.
        sentence: For people.
    """

    block_m: float
    buffer_m: float
    extent_m: float
    range_m: float | None
    sentence: str


def fit_blocks(
    lon: NDArray[np.float64], lat: NDArray[np.float64], labels: pd.Series, regions: pd.Series | None, kind: str
) -> BlockSize | None:
    """Block and buffer for units in degrees; None where there are too few to draw blocks from.

    A block is about a tenth of the diagonal of the middle region, smaller where that leaves fewer than `FEWEST_BLOCKS` blocks, and larger
    where blocks would hold fewer than `PER_BLOCK` units. The buffer is the range of the labels, at most a fifth of a block: in a small area
    a buffer of the whole range would leave nothing to train on, and the sentence says so.
    """
    ok = np.isfinite(lon) & np.isfinite(lat)
    if ok.sum() < 20:
        return None
    region = _clusters(lon, lat, ok) if regions is None else regions.to_numpy(dtype=object)
    extents, areas, sizes = [], [], []
    for one in pd.unique(region[ok]):
        rows = ok & (region == one)
        if rows.sum() < 3:
            continue
        west, south, east, north = lon[rows].min(), lat[rows].min(), lon[rows].max(), lat[rows].max()
        wide = float(
            great_circle_m(np.array([west]), np.array([(south + north) / 2]), np.array([east]), np.array([(south + north) / 2]))[0]
        )
        high = float(great_circle_m(np.array([west]), np.array([south]), np.array([west]), np.array([north]))[0])
        extents.append(float(np.hypot(wide, high)))
        areas.append(max(wide, 1.0) * max(high, 1.0))
        sizes.append(int(rows.sum()))
    extent = float(np.median(extents)) if extents else 0.0
    if extent < 50.0:
        return None
    middle = int(np.argsort(extents)[len(extents) // 2])
    enough = float(np.sqrt(areas[middle] * PER_BLOCK / sizes[middle]))
    most = float(np.sqrt(areas[middle] / FEWEST_BLOCKS))
    size = _round(min(max(extent / 25.0, enough), max(most, 1.0)))
    reach = _range(lon[ok], lat[ok], labels[ok], kind)
    buffer = _round(min(reach, size / 5) if reach else size / 10)
    sentence = (
        f"blocks of {_metres(size)} with a buffer of {_metres(buffer)}, from an extent of {_metres(extent)} and {int(ok.sum()):,} units"
    )
    if reach and reach > buffer:
        sentence += f"; labels are alike up to about {_metres(reach)}, so test units have relatives in training and scores here are high"
    return BlockSize(size, buffer, extent, reach, sentence)


def fit_task(card: TaskCard, units: UnitTable, labels: pd.Series) -> BlockSize | None:
    """Blocks and buffer that suit a task's area and labels; None where the units are too few or have no positions."""
    frame = units.frame
    group = card.split_options.region or (card.groups[0] if card.groups else None)
    regions = frame[group] if group in frame.columns else None
    return fit_blocks(frame["lon"].to_numpy(), frame["lat"].to_numpy(), labels, regions, card.kind)


def block_words(card: TaskCard, fitted: BlockSize | None) -> str:
    """Blocks and buffer of a card, and those that suit the area where they differ by more than five times."""
    options = card.split_options
    if fitted is None or options.block_by is not None:
        return ""
    words = f"{options.block_size_m:,.0f} m blocks, {options.buffer_m:,.0f} m buffer"
    if max(options.block_size_m / fitted.block_m, fitted.block_m / options.block_size_m) > 5:
        setting = f"split_options: {{block_size_m: {fitted.block_m:.0f}, buffer_m: {fitted.buffer_m:.0f}}}"
        words += f"; this area suits {fitted.sentence}: {setting}"
    return words


def _clusters(lon: NDArray[np.float64], lat: NDArray[np.float64], ok: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of the cluster each unit lies in (n,), 0 where not located: the extent of four fields far apart is that of a field."""
    from scipy.ndimage import label

    edges = [np.linspace(axis[ok].min(), axis[ok].max() + 1e-9, _CELLS + 1) for axis in (lon, lat)]
    column, row = (
        np.clip(np.digitize(np.where(ok, axis, at[0]), at) - 1, 0, _CELLS - 1) for axis, at in zip((lon, lat), edges, strict=True)
    )
    counts = np.zeros((_CELLS, _CELLS), dtype=np.int64)
    np.add.at(counts, (column[ok], row[ok]), 1)
    named: NDArray[np.int64] = label(counts > 0, structure=np.ones((3, 3)))[0][column, row]
    return np.where(ok, named, 0)


def _range(lon: NDArray[np.float64], lat: NDArray[np.float64], labels: pd.Series, kind: str) -> float | None:
    known = labels.notna().to_numpy()
    if known.sum() < 30:
        return None
    values = pd.factorize(labels[known])[0].astype(np.float64) if kind == "classification" else labels[known].to_numpy(np.float64)
    found = variogram(values, lon[known], lat[known], categorical=kind == "classification")
    return None if found.range_km is None else found.range_km * 1000


def _round(metres: float) -> float:
    """Down to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(max(metres, 1.0)))
    return float(max(step * power for step in (1, 2, 5) if step * power <= max(metres, 1.0)))


def _metres(value: float) -> str:
    return f"{value / 1000:,.3g} km" if value >= 1000 else f"{value:.0f} m"
