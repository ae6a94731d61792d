"""Three towns on the tiles of `landscape`, and rasters over them, in the formats of the public products."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from rasterio.transform import from_origin

from tests.datasets.recipes.landscape import CRS, NORTH, SITES, write_tiles

TOWNS = ("Ash", "Birch", "Cedar")
SPAN = 1600.0
SMALL = {"cell_m": 200, "block_m": 400, "buffer_m": 50}
"""Options under which the small towns have blocks."""


def write_towns(root: Path, years: tuple[int, ...] = (2021,)) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    write_tiles(root, years)
    shapes = [shapely.box(west, NORTH - SPAN, west + SPAN, NORTH) for west in SITES]
    gpd.GeoDataFrame({"name": TOWNS}, geometry=shapes, crs=CRS).to_file(root / "areas.gpkg")
    return root


def town_raster(path: Path, site: int, values: np.ndarray, **options: object) -> Path:
    """A raster over one town; `values` is (rows, columns) or (bands, rows, columns), its size sets the pixel."""
    bands = values if values.ndim == 3 else values[None]
    size = SPAN / bands.shape[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "height": bands.shape[1],
        "width": bands.shape[2],
        "count": len(bands),
        "dtype": bands.dtype.name,
        "crs": CRS,
    }
    names = options.pop("names", None)
    with rasterio.open(path, "w", transform=from_origin(SITES[site], NORTH, size, size), **{**profile, **options}) as dst:
        dst.write(bands)
        for number, name in enumerate(names or [], start=1):
            dst.set_band_description(number, name)
    return path


def all_towns(values: list[np.ndarray], fill: float) -> tuple[np.ndarray, float]:
    """One raster over all towns (they lie 30 km apart) would be large: pixels of 100 m are enough for that."""
    width = int((SITES[-1] + SPAN - SITES[0]) / 100)
    whole = np.full((16, width), fill, dtype=values[0].dtype)
    for west, value in zip(SITES, values, strict=True):
        left = int((west - SITES[0]) / 100)
        whole[:, left : left + 16] = value
    return whole, 100.0


def write_all(path: Path, values: list[np.ndarray], fill: float = 0, **options: object) -> Path:
    """The three towns' 16 x 16 values in one file."""
    whole, size = all_towns(values, fill)
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "height": 16,
        "width": whole.shape[1],
        "count": 1,
        "dtype": whole.dtype.name,
        "crs": CRS,
        "compress": "deflate",
    }
    with rasterio.open(path, "w", transform=from_origin(SITES[0], NORTH, size, size), **{**profile, **options}) as dst:
        dst.write(whole, 1)
    return path
