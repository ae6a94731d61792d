"""Chips of the simulated landscapes, named and laid out as the two published chip sets are."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rs05bench.datasets.cdl_classes import CROP_CLASSES
from rs05bench.datasets.mgrs import tile_of
from rs05bench.datasets.simulated.landscape import zone_of
from rs05bench.datasets.simulated.places import CROPS, YEARS
from rs05bench.datasets.simulated.randomness import generator, smooth_field
from rs05bench.datasets.simulated.sampled_tables import crop_image_day, image_days
from rs05bench.datasets.simulated.spectra import BANDS, observe
from rs05bench.errors import DataError

if TYPE_CHECKING:
    from rs05bench.datasets.simulated.farmland import Farmland
    from rs05bench.datasets.simulated.landscape import Base
    from rs05bench.datasets.simulated.wildland import Fire, Wildland

BURN_YEARS = (2018, 2019, 2020, 2021)  # those of HLS Burn Scars
CROP_CHIP_YEAR = 2022
CROP_CHIP_SIDE = 224
NODATA = (-9999.0, 9999.0, 0.0, float("nan"))

# What the published files write in place of an EPSG code.
_ODD_UTM = (
    'PROJCS["UTM Zone {zone}, Northern Hemisphere",GEOGCS["Unknown datum based upon the WGS 84 ellipsoid",'
    'DATUM["Not_specified_based_on_WGS_84_spheroid",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",{meridian}],PARAMETER["scale_factor",0.9996],'
    'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1,AUTHORITY["EPSG","9001"]],'
    'AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
)


@dataclass(frozen=True)
class BurnChip:
    """One chip to write: a wildland on the day of a fire's clear image after it."""

    wild: Wildland
    fire: Fire

    @property
    def day(self) -> int:
        """Day of year of the image."""
        return image_days(self.wild, self.fire)[1]

    @property
    def name(self) -> str:
        """Start of the file names, up to the version."""
        lon, lat = self.wild.place.lon, self.wild.place.lat
        return f"subsetted_512x512_HLS.S30.T{tile_of(lon, lat).name}.{self.fire.year}{self.day:03d}.v1.4"


def burn_chips(wildlands: tuple[Wildland, ...], count: int) -> list[BurnChip]:
    """Return the chips: one a wildland, then a second one, and so on, each of another fire and year of 2018-2021."""
    ranked: list[tuple[int, int, BurnChip]] = []
    for number, wild in enumerate(wildlands):
        fires = [fire for fire in wild.fires if fire.year in BURN_YEARS and (wild.fire_number == fire.number).any()]
        order = generator(wild.seed, "chips", wild.name).permutation(len(fires))
        seen: set[tuple[int, int]] = set()
        for rank, i in enumerate(order):
            chip = BurnChip(wild, fires[i])
            if (chip.fire.year, chip.day) not in seen:  # two fires of a year may share the day of their image: one chip then
                seen.add((chip.fire.year, chip.day))
                ranked.append((rank, number, chip))
    return [chip for _, _, chip in sorted(ranked, key=lambda item: item[:2])[:count]]


def write_burn_chips(
    root: Path, chips: list[BurnChip], *, layout: Literal["training", "splits"] = "training", nodata: float = -9999.0
) -> list[Path]:
    """Write chips and masks in one of the two published layouts.

    Args:
        root: Folder of the data set.
        chips: What to write.
        layout: ``training`` (``training/`` and ``validation/``) or ``splits`` (``data/`` and ``splits/{train,val,test}.txt``).
        nodata: What missing pixels hold: -9999, 9999, 0 or NaN, as the copies differ.
    """
    if layout not in ("training", "splits"):
        raise DataError(f"no layout '{layout}' of HLS Burn Scars", remedy="Choose training or splits.")
    if not any(nodata == value or (np.isnan(nodata) and np.isnan(value)) for value in NODATA):
        raise DataError(f"no published copy marks missing pixels by {nodata}", remedy="Choose -9999, 9999, 0 or nan.")
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    paths = []
    for number, chip in enumerate(chips):
        # The published split is random over chips: every third one validates, whatever its tile.
        part = ("train", "train", "val")[number % 3] if layout == "training" else ("train", "train", "val", "train", "test")[number % 5]
        folder = root / ({"train": "training", "val": "validation"}[part] if layout == "training" else "data")
        parts[part].append(chip.name)
        paths += _write_burn_chip(folder, chip, nodata)
    if layout == "splits":
        (root / "splits").mkdir(exist_ok=True)
        for part, names in parts.items():
            (root / "splits" / f"{part}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return paths


def burn_mask(chip: BurnChip) -> NDArray[np.int16]:
    """Return 1 where a fire of the image's year had burned by the day of the image, 0 elsewhere, -1 where there is no image."""
    wild = chip.wild
    early = [fire.number for fire in wild.fires if fire.year == chip.fire.year and fire.day <= chip.day]
    mask = np.isin(wild.fire_number, early).astype(np.int16)
    mask[_clouds(wild, chip.fire.year, chip.day)] = -1
    return mask


def _write_burn_chip(folder: Path, chip: BurnChip, nodata: float) -> list[Path]:
    import rasterio
    from rasterio.transform import from_origin

    folder.mkdir(parents=True, exist_ok=True)
    wild, year = chip.wild, chip.fire.year
    image = _image(wild, year, chip.day)
    mask = burn_mask(chip)
    image[:, mask == -1] = nodata
    grid = wild.grid
    crs = rasterio.CRS.from_wkt(_ODD_UTM.format(zone=zone_of(grid), meridian=zone_of(grid) * 6 - 183))
    common: dict[str, Any] = {
        "driver": "GTiff",
        "width": grid.width,
        "height": grid.height,
        "crs": crs,
        "transform": from_origin(grid.west, grid.north, 30, 30),
    }
    paths = [folder / f"{chip.name}_merged.tif", folder / f"{chip.name}.mask.tif"]
    with rasterio.open(paths[0], "w", count=6, dtype="float32", nodata=nodata, compress="deflate", predictor=3, **common) as target:
        target.write(image)
        target.descriptions = BANDS
        target.update_tags(SIMULATED="YES")
    with rasterio.open(paths[1], "w", count=1, dtype="int16", nodata=-1, compress="lzw", **common) as target:
        target.write(mask, 1)
        target.update_tags(SIMULATED="YES")
    return paths


def write_crop_chips(root: Path, farms: list[Farmland], year: int = CROP_CHIP_YEAR) -> list[Path]:
    """Write one multi-temporal chip a county, ``training_chips/``, ``validation_chips/`` and ``chips_df.csv``."""
    import pandas as pd

    rows, paths = [], []
    for number, farm in enumerate(farms):
        part = "validation_chips" if number % 5 == 4 else "training_chips"
        name, files = _write_crop_chip(root / part, farm, year)
        paths += files
        dates = [datetime.date(year, 1, 1) + datetime.timedelta(days=crop_image_day(farm, year, i) - 1) for i in range(3)]
        rows.append({"chip_id": name, "first_img_date": dates[0], "middle_img_date": dates[1], "last_img_date": dates[2]})
    table = pd.DataFrame(rows).sort_values("chip_id")
    table.to_csv(root / "chips_df.csv", index=False, lineterminator="\n")
    return paths


def _write_crop_chip(folder: Path, farm: Farmland, year: int) -> tuple[str, list[Path]]:
    import rasterio
    from pyproj import Transformer
    from rasterio.transform import from_origin

    folder.mkdir(parents=True, exist_ok=True)
    side, grid = CROP_CHIP_SIDE * 30.0, farm.grid
    centre = Transformer.from_crs(grid.crs, 5070, always_xy=True).transform(grid.west + grid.width * 15.0, grid.north - grid.height * 15.0)
    west, north = round((centre[0] - side / 2) / 30) * 30.0, round((centre[1] + side / 2) / 30) * 30.0
    steps = (np.arange(CROP_CHIP_SIDE) + 0.5) * 30
    x, y = np.meshgrid(west + steps, north - steps)
    own_x, own_y = Transformer.from_crs(5070, grid.crs, always_xy=True).transform(x, y)
    rows, cols = grid.rows_columns(np.asarray(own_x), np.asarray(own_y))
    inside = (rows >= 0) & (rows < grid.height) & (cols >= 0) & (cols < grid.width)
    rows, cols = rows.clip(0, grid.height - 1), cols.clip(0, grid.width - 1)

    image = np.zeros((18, CROP_CHIP_SIDE, CROP_CHIP_SIDE), dtype=np.int16)
    for i in range(3):
        day = crop_image_day(farm, year, i)
        scene = _image(farm, year, day)[:, rows, cols]
        clear = inside & ~_clouds(farm, year, day)[rows, cols]
        image[6 * i : 6 * i + 6] = np.where(clear, np.rint(scene * 1e4), 0).astype(np.int16)
    mask = np.where(inside, crop_mask(farm, year)[rows, cols], 0).astype(np.int16)

    name = f"chip_{int((3_310_000 - north) // side):03d}_{int((west + 2_500_000) // side):03d}"
    common: dict[str, Any] = {
        "driver": "GTiff",
        "width": CROP_CHIP_SIDE,
        "height": CROP_CHIP_SIDE,
        "crs": "EPSG:5070",
        "transform": from_origin(west, north, 30, 30),
        "dtype": "int16",
    }
    paths = [folder / f"{name}_merged.tif", folder / f"{name}.mask.tif"]
    with rasterio.open(paths[0], "w", count=18, compress="deflate", predictor=2, interleave="band", **common) as target:
        target.write(image)
        target.update_tags(SIMULATED="YES")
    with rasterio.open(paths[1], "w", count=1, nodata=0, compress="lzw", **common) as target:
        target.write(mask, 1)
        target.update_tags(SIMULATED="YES")
    return name, paths


def crop_mask(farm: Farmland, year: int) -> NDArray[np.int16]:
    """Return the class of every pixel, 1-13 in the order of the published legend."""
    number = {name: i for i, name in enumerate(CROP_CLASSES, start=1)}
    crops = np.array([number[name] for name in CROPS])
    parcels = farm.parcel_number
    between = np.array([number["Natural Vegetation"], number["Forest"], number["Developed/Barren"]])[farm.natural]
    mask = np.where(parcels >= 0, crops[farm.crops[YEARS.index(year), np.maximum(parcels, 0)]], between)
    return np.where(farm.terrain.is_water, number["Open Water"], mask).astype(np.int16)


def _image(landscape: Any, year: int, day: int) -> NDArray[np.float32]:
    """Return the observed image (6, rows, cols), in steps of 1/2048: below the noise, and short enough a fraction to compress."""
    grid = landscape.grid
    rows, cols = (index.ravel() for index in np.mgrid[0 : grid.height, 0 : grid.width])
    true = landscape.reflectance(year, day, rows, cols)
    seen = observe(true, landscape.seed, (landscape.name, year, day), landscape.places(rows, cols))
    return (np.maximum(np.rint(seen * 2048), 1) / 2048).astype(np.float32).T.reshape(6, grid.height, grid.width)


def _clouds(landscape: Base, year: int, day: int) -> NDArray[np.bool_]:
    """Return True where clouds hide the ground: between nothing and 6 % of a scene."""
    rng = generator(landscape.seed, "clouds", landscape.name, year, day)
    share = max(rng.uniform(-0.02, 0.06), 0.0)
    field = smooth_field(rng, (landscape.grid.height, landscape.grid.width), 12, rough=0.2)
    return np.asarray(field > np.quantile(field, 1 - share)) if share > 0 else np.zeros(field.shape, dtype=bool)
