"""Burn-scar and crop chips with the real names, small, with a signal to be learnt; and embeddings under them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rasterio.transform import from_origin

from rs05bench.datasets.mgrs import parse_tile
from tests.datasets.data import ODD_UTM, write_raster

SIDE = 96
# Three states, three tiles each; dates far apart, so that each chip shows a fire of its own but for the pair in 10SEH.
TILES = ("10SEH", "10TEK", "11SKB", "12TTS", "12TUS", "12TVT", "17RLQ", "17SKR", "17SLS")
DATES = ("2018190", "2020200")
PAIR = ("10SEH", "2018200", (33_000, 60_000))
# Upper left corners in EPSG:5070: four chips in Iowa, four in Kansas, in as many tiles.
CROP_CORNERS = (
    *((x, y) for x in (100_005.0, 250_005.0) for y in (2_050_005.0, 2_200_005.0)),
    *((x, y) for x in (-300_015.0, -149_985.0) for y in (1_700_025.0, 1_820_025.0)),
)


def write_burn_chips(root: Path) -> Path:
    """`root/hls_burn_scars` and `root/alphaearth`; returns the root."""
    from tests.embeddings.tiles import write_tile

    chips = [(tile, date, (30_000, 60_000)) for tile in TILES for date in DATES] + [PAIR]
    for number, (name, date, (dx, dy)) in enumerate(chips):
        tile = parse_tile(name)
        east, north = tile.corner[0] + dx, tile.corner[1] + dy
        image, mask, vectors = _pixels(number)
        crs = ODD_UTM.format(zone=tile.zone, meridian=-183 + 6 * tile.zone)
        folder = root / "hls_burn_scars" / ("validation" if number % 3 == 2 else "training")
        stem = f"subsetted_{SIDE}x{SIDE}_HLS.S30.T{name}.{date}.v1.4"
        place = from_origin(east, north, 30, 30)
        write_raster(folder / f"{stem}_merged.tif", image, crs, place, compress="deflate")
        write_raster(folder / f"{stem}.mask.tif", mask, crs, place, nodata=-1, compress="deflate")
        path = root / "alphaearth" / date[:4] / f"{tile.zone}N" / f"chip{number:02d}-0000000000-0000000000.tiff"
        write_tile(path, vectors, west=east, north=north, crs=f"EPSG:{32600 + tile.zone}")
    return root


def write_crop_chips(root: Path) -> Path:
    """`root/crop_chips`: multi-temporal chips; returns the root."""
    from tests.datasets.data import write_crop_chips as write

    folders = ("training_chips", "training_chips", "training_chips", "validation_chips")
    chips = [(f"chip_{number}00_200", corner, folders[number % 4], "") for number, corner in enumerate(CROP_CORNERS)]
    write(root / "crop_chips", chips=tuple(chips))
    return root


def _pixels(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (6, side, side) with a dark square where it burnt, a corner missing; mask; embedding (64, 3 side, 3 side) that knows it too."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((1, SIDE, SIDE), dtype=np.int16)
    row, column = rng.integers(8, SIDE // 2, 2)
    mask[0, row : row + 40, column : column + 40] = 1
    image = rng.normal(0.2, 0.02, (6, SIDE, SIDE)).astype(np.float32)
    image[3][mask[0] == 1] = 0.05
    image[5][mask[0] == 1] = 0.35
    image[:, :4, :4] = -9999
    mask[0, -1] = -1
    vectors = rng.integers(-20, 20, (64, SIDE // 8, SIDE // 8)).repeat(24, 1).repeat(24, 2).astype(np.int8)
    burnt = mask[0].repeat(3, 0).repeat(3, 1) == 1
    vectors[0] = np.where(burnt, 120, -120)
    return image, mask, vectors
