"""Three small landscapes, 30 km apart, with AlphaEarth tiles whose vectors follow the class of each field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely

from rs05bench.embeddings.vectors import encode
from tests.embeddings.tiles import write_tile

CRS = "EPSG:32610"
SITES = (500_000.0, 530_000.0, 560_000.0)  # west edges
NORTH, SIZE, SIDE, CLASSES = 4_260_000.0, 160, 16, 4


def kind(site: int, row: int, column: int, year: int) -> int:
    """The class of a field; a quarter of the fields rotate."""
    return (row * 3 + column * 5 + site + (year if (row + column) % 4 == 0 else 0)) % CLASSES


def square(site: int, row: int, column: int) -> shapely.Polygon:
    """A field of SIDE x SIDE pixels, a pixel away from its neighbours."""
    west, north = SITES[site] + 10 * SIDE * column, NORTH - 10 * SIDE * row
    return shapely.box(west + 10, north - 10 * SIDE + 10, west + 10 * SIDE - 10, north - 10)


def write_tiles(root: Path, years: tuple[int, ...]) -> None:
    """`alphaearth/<year>/10N/*.tiff`."""
    kinds = np.random.default_rng(0).standard_normal((CLASSES, 64))
    side = SIZE // SIDE
    for year in years:
        for site, west in enumerate(SITES):
            of_field = np.array([[kind(site, row, column, year) for column in range(side)] for row in range(side)])
            which = of_field.repeat(SIDE, axis=0).repeat(SIDE, axis=1)
            x = kinds[which] + 0.8 * np.random.default_rng((year, site)).standard_normal((SIZE, SIZE, 64))
            values = encode(np.moveaxis(x / np.linalg.norm(x, axis=2, keepdims=True), 2, 0))
            write_tile(root / f"alphaearth/{year}/10N/site{site}.tiff", values, crs=CRS, west=west, north=NORTH)
