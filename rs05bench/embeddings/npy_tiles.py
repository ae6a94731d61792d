"""Folders of NumPy grids: `grid_{lon}_{lat}.npy` (height, width, components) integers with their scales and a land mask each.

The arrays carry no georeference. It is that of the land mask of the same name, a GeoTIFF in another folder of the same tree
(`landmasks/{version}/grid_{lon}_{lat}.tiff`); the mask's own values are not used, since a missing pixel shows in its scale. Scales are
one a pixel `(height, width)`, or one a component `(height, width, components)`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rs05bench.embeddings.products import EmbeddingProduct, all_products
from rs05bench.embeddings.raster import block_extent
from rs05bench.embeddings.tile_index import COLUMNS, TileIndex, tile_record
from rs05bench.embeddings.tile_paths import year_of
from rs05bench.embeddings.zarr_raster import scaled
from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file
from rs05bench.protocol.pixel_grid import WGS84, Grid, grid_from_affine, name_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

_BLOCK = 256
_NAME = re.compile(r"grid_-?\d+\.\d+_-?\d+\.\d+")


class NpyRaster:
    """One grid, mapped and read in blocks.

    Args:
        path: The integers, `(height, width, components)`.
        grid: Where its pixels are.
        record: What it holds.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, path: str, grid: Grid, record: EmbeddingProduct) -> None:
        self.name, self.grid = path, grid
        beside = f"{path.removesuffix('.npy')}_{getattr(record.scale, 'array', 'scales')}.npy"
        if not os.path.exists(beside):
            raise DataError("its scales are missing", source=path, remedy=f"Expected {os.path.basename(beside)} in the same folder.")
        self._values, self._scales = _mapped(path), _mapped(beside)
        if self._values.ndim != 3 or str(self._values.dtype) != record.dtype:
            raise DataError(
                f"expected {record.dtype} (height, width, components), found {self._values.dtype} {self._values.shape}", source=path
            )
        alike = self._scales.shape in (self._values.shape[:2], self._values.shape)
        if self._values.shape[:2] != (grid.height, grid.width) or not alike:
            raise DataError(
                f"the land mask has {grid.height} x {grid.width} pixels, "
                f"the grid {self._values.shape[:2]}, its scales {self._scales.shape}",
                source=path,
                remedy="Grid, scales and land mask have to be of one download.",
            )
        self.product = record.sized(int(self._values.shape[2]))
        self.block = min(_BLOCK, grid.height), min(_BLOCK, grid.width)

    def read_block(self, row: int, column: int, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """The `(bands, height, width)` float32 components of one block; NaN where missing."""
        top, left, height, width = block_extent(self, row, column)
        here = np.s_[top : top + height, left : left + width]
        decoded = self._scaled(self._values[here], self._scales[here])
        return decoded if bands is None else decoded[list(bands)]

    def read_pixels(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float32]:
        """The `(bands, n)` float32 components of single pixels."""
        return self._scaled(self._values[row, column], self._scales[row, column])

    def _scaled(self, values: NDArray[Any], scales: NDArray[Any]) -> NDArray[np.float32]:
        """Components first, scaled."""
        values, scales = (np.ascontiguousarray(np.moveaxis(held, -1, 0) if held.ndim == values.ndim else held) for held in (values, scales))
        return scaled(values, scales, self.product)

    def map_bands(self, row: int, column: int, function: Callable[[int, NDArray[Any]], T]) -> list[T]:
        """`function(band, block)` for every band of one block."""
        return [function(band, values) for band, values in enumerate(self.read_block(row, column))]

    def close(self) -> None:
        """Let go of the mapped files."""
        del self._values, self._scales


def holds_npy(folder: Path) -> bool:
    """Whether a folder is such a tree."""
    return next((True for path in folder.rglob("grid_*.npy") if _NAME.fullmatch(path.stem)), False)


def scan_npy(folder: str | os.PathLike[str], record: EmbeddingProduct, *, year: int | None = None) -> TileIndex:
    """The grids below a folder as an index.

    Args:
        folder: Holds `.../{year}/grid_{lon}_{lat}/grid_{lon}_{lat}.npy` and the land masks.
        record: What they hold.
        year: The year of all grids; None takes it from each path.

    Raises:
        DataError: Nothing is found, or a grid has no scales, no land mask or no year.
    """
    import geopandas as gpd

    root = Path(folder)
    masks = {path.stem: path for path in sorted(root.rglob("grid_*.tif*")) if _NAME.fullmatch(path.stem)}
    records, grids = [], {}
    for path in sorted(path for path in root.rglob("grid_*.npy") if _NAME.fullmatch(path.stem)):
        mask = masks.get(path.stem)
        if mask is None:
            raise DataError(
                "no land mask of this name, and only the land mask states where the pixels are",
                source=path,
                remedy=f"Put {path.stem}.tiff below {root}, e.g. in landmasks/v1/.",
            )
        named = year if year is not None else year_of(path)
        if named is None:
            raise DataError("its path does not say which year it is of", source=path, remedy="Put it into a folder named by the year.")
        with open_raster_file(mask) as file:
            crs = name_of(file.crs) if file.crs else None
            grid = grid_from_affine(crs, tuple(file.transform)[:6], file.height, file.width, str(mask))
        _refuse_other_variant(path, record)
        grids[str(path)] = grid
        records.append(tile_record(f"{named}/{path.stem}", str(path), named, grid, record))
    if not records:
        raise DataError("no grid found", source=root, remedy="Expected files such as 2024/grid_0.15_52.05/grid_0.15_52.05.npy.")
    frame = gpd.GeoDataFrame(records, columns=[*COLUMNS, "geometry"], geometry="geometry", crs=WGS84)
    return TileIndex(frame, of=record, opener=_NpyOpener(grids, record), description=str(root))


def _refuse_other_variant(path: Path, record: EmbeddingProduct) -> None:
    """Refuse a grid below a folder that is named as another version or variant: `{variant}/{year}/grid_../grid_..npy`."""
    named = path.parents[2].name if len(path.parents) > 2 else ""
    for other in all_products().values():
        if other.family == record.family and other.name != record.name and named == "-".join(filter(None, (other.version, other.variant))):
            raise DataError(
                f"lies in a folder of {other.name}, expected {record.name}",
                source=path,
                remedy="Vectors of two variants are not comparable: name the folder of one, and the product that it holds.",
            )


class _NpyOpener:
    """Opens the grids of an index; a class, so that an index can be sent to loader workers."""

    def __init__(self, grids: dict[str, Grid], record: EmbeddingProduct) -> None:
        self._grids, self._record = grids, record

    def __call__(self, path: str) -> NpyRaster:
        return NpyRaster(path, self._grids[path], self._record)


def _mapped(path: str) -> NDArray[Any]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"is not a readable NumPy array: {str(error).splitlines()[0]}", source=path) from error
