"""Small rasters and vector files with known content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
from pyproj import Transformer
from rasterio.transform import Affine


def write_raster(path: Path, values: np.ndarray, transform: Affine, crs: Any = "EPSG:4326", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = values if values.ndim == 3 else values[None]
    profile = {"driver": "GTiff", "height": bands.shape[1], "width": bands.shape[2], "count": len(bands), "dtype": bands.dtype.name}
    with rasterio.open(path, "w", transform=transform, crs=crs, **{**profile, **options}) as dst:
        dst.write(bands)
    return path


def centres(transform: Affine, shape: tuple[int, int], crs: Any = "EPSG:4326") -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of pixel centres, as grids."""
    cols, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    x, y = transform.c + transform.a * cols, transform.f + transform.e * rows
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    return np.asarray(lon), np.asarray(lat)


def write_vector(path: Path, shapes: Sequence[Any], crs: Any = "EPSG:4326", layer: str | None = None, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = gpd.GeoDataFrame(columns, geometry=list(shapes), crs=crs)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path, **({"layer": layer} if layer else {}))
    return path
