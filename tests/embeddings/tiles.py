"""Small AlphaEarth tiles written as the published ones are: int8, 64 planes, tiled, ZSTD, bottom-up, in folders of year and zone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from rs05bench.embeddings.products import product
from rs05bench.embeddings.vectors import encode

BANDS = product().bands


def vectors(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Bytes `(64, height, width)`, north up, of unit vectors."""
    x = np.random.default_rng(seed).standard_normal((64, height, width))
    return encode(x / np.linalg.norm(x, axis=0))


def write_tile(
    path: Path,
    values: np.ndarray,
    *,
    crs: str | None = "EPSG:32610",
    west: float = 500_000.0,
    north: float = 4_100_000.0,
    res: float = 10.0,
    bottom_up: bool = True,
    block: int = 64,
    compress: str | None = "zstd",
    nodata: float | None = -128,
    **options: object,
) -> Path:
    """Write north-up values in either orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    affine = Affine(res, 0, west, 0, res, north - height * res) if bottom_up else Affine(res, 0, west, 0, -res, north)
    profile: dict = {
        "tiled": True,
        "blockxsize": block,
        "blockysize": block,
        "interleave": "band",
        "bigtiff": "YES",
        "transform": affine,
    } | options
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=values.dtype,
        crs=crs,
        nodata=nodata,
        compress=compress,
        **profile,
    ) as file:
        file.write(values[:, ::-1] if bottom_up else values)
        if count == len(BANDS):
            file.descriptions = BANDS
    return path


def write_index(root: Path, tiles: list[dict], *, prefix: str = "gs://alphaearth_foundations/satellite_embedding/v1/annual") -> Path:
    """The published index's columns for tiles of `(path, year, zone, crs, west, south, east, north)`."""
    import geopandas as gpd
    import shapely
    from pyproj import Transformer

    rows, shapes = [], []
    for number, tile in enumerate(tiles):
        change = Transformer.from_crs(tile["crs"], "EPSG:4326", always_xy=True)
        shape = shapely.transform(
            shapely.segmentize(shapely.box(tile["west"], tile["south"], tile["east"], tile["north"]), 200),
            lambda x, y, change=change: change.transform(x, y),
            interleaved=False,
        )
        west, south, east, north = shape.bounds
        rows.append(
            {
                "fid": number,
                "crs": tile["crs"],
                "year": tile["year"],
                "utm_zone": tile["zone"],
                "utm_west": tile["west"],
                "utm_south": tile["south"],
                "utm_east": tile["east"],
                "utm_north": tile["north"],
                "wgs84_west": west,
                "wgs84_south": south,
                "wgs84_east": east,
                "wgs84_north": north,
                "path": f"{prefix}/{tile['path']}",
            }
        )
        shapes.append(shape)
    path = root / "aef_index.parquet"
    gpd.GeoDataFrame(rows, geometry=shapes, crs="EPSG:4326").to_parquet(path)
    return path
