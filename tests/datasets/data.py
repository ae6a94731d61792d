"""Makes tiny fake files with the real names, layouts, band orders, CRS spellings and nodata habits. No value in them means anything.

Run `python -m tests.datasets.data DIR` to look at them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from rasterio.transform import from_origin

# The published burn-scar files write UTM under this name, without an authority code.
ODD_UTM = (
    'PROJCS["UTM Zone {zone}, Northern Hemisphere",GEOGCS["Unknown datum based upon the WGS 84 ellipsoid",'
    'DATUM["Not_specified_based_on_WGS_84_spheroid",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
    'PARAMETER["central_meridian",{meridian}],PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],'
    'PARAMETER["false_northing",0],UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
)

# tile, day of year, upper left corner (m from the tile's lower left), folder: two touching chips of one fire, one a year later, two
# elsewhere.
BURN_CHIPS = (
    ("10SEH", "2018190", (30_000, 60_000), "training"),
    ("10SEH", "2018215", (31_920, 60_000), "validation"),
    ("10SEH", "2019201", (30_000, 60_000), "training"),
    ("11SKB", "2020250", (40_000, 50_000), "training"),
    ("13TDE", "2021160", (20_000, 70_000), "validation"),
)
NODATA_STYLES = ("-9999", "9999", "0", "nan", "-9999")

CROP_CHIPS = (
    ("chip_184_236", (-770175.0, 1936125.0), "training_chips", "13TDE"),
    ("chip_273_471", (809025.0, 1338045.0), "training_chips", "16SDD"),
    ("chip_085_328", (-151935.0, 2601405.0), "validation_chips", "14TNS"),
)
CROP_DATES = ("2022-04-21", "2022-06-15", "2022-09-23")

METROS = ("Atlanta", "Chicago", "Houston", "Los Angeles", "New York", "Seattle")
_METRO_CENTRES = {
    "Atlanta": ("13121", -84.39, 33.75),
    "Chicago": ("17031", -87.65, 41.85),
    "Houston": ("48201", -95.37, 29.76),
    "Los Angeles": ("06037", -118.25, 34.05),
    "New York": ("36061", -73.97, 40.78),
    "Seattle": ("53033", -122.33, 47.61),
}


def write_raster(path: Path, pixels: np.ndarray, crs: str | None, transform, nodata: float | None = None, **profile) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=bands,
        dtype=pixels.dtype,
        crs=crs,
        transform=transform,
        nodata=nodata,
        **profile,
    ) as dst:
        dst.write(pixels)
    return path


def burn_pixels(seed: int, size: int, style: str) -> tuple[np.ndarray, np.ndarray]:
    """Image (6, size, size) and mask (1, size, size); the upper left corner is missing in the given style, one mask row is missing."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(0.02, 0.4, (6, size, size)).astype(np.float32)
    rows, columns = np.mgrid[:size, :size]
    mask = ((rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (size / 4) ** 2).astype(np.int16)[None]
    image[3][mask[0] == 1] *= 0.3
    image[:, :4, :4] = np.float32(style)
    mask[:, -1, :] = -1
    return image, mask


def write_burn_scars(root: Path, *, layout: str = "folders", size: int = 64, chips=BURN_CHIPS) -> Path:
    """`layout`: `folders` (training/, validation/) or `splits` (data/ with splits/*.txt)."""
    from rs05bench.datasets.mgrs import parse_tile

    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number, (name, day, (dx, dy), folder) in enumerate(chips):
        tile = parse_tile(name)
        easting, northing = tile.corner
        transform = from_origin(easting + dx, northing + dy, 30, 30)
        crs = ODD_UTM.format(zone=tile.zone, meridian=-183 + 6 * tile.zone)
        image, mask = burn_pixels(number, size, NODATA_STYLES[number % len(NODATA_STYLES)])
        where = root / (folder if layout == "folders" else "data")
        stem = f"subsetted_{size}x{size}_HLS.S30.T{name}.{day}.v1.4"
        write_raster(where / f"{stem}_merged.tif", image, crs, transform)
        write_raster(where / f"{stem}.mask.tif", mask, crs, transform, nodata=-1)
        (where / f"._{stem}_merged.tif").write_bytes(b"\x00\x05\x16\x07 a Mac's resource fork")
        lists[("train", "val", "test")[number % 3]].append(f"T{name}.{day}.v1")
    if layout == "splits":
        (root / "splits").mkdir(parents=True, exist_ok=True)
        for split, keys in lists.items():
            (root / "splits" / f"{split}.txt").write_text("\n".join(keys) + "\n")
    return root


def write_crop_chips(root: Path, *, size: int = 224, table: str = "chips_df.csv", chips=CROP_CHIPS) -> Path:
    rows = []
    for number, (name, (x, y), folder, tile) in enumerate(chips):
        rng = np.random.default_rng(100 + number)
        image = rng.integers(200, 4000, (18, size, size)).astype(np.int16)
        image[6:12, :3, :3] = 0  # the second date is missing in a corner: the makers clipped -9999 to 0
        image[:, -2:, -2:] = 0  # no date at all
        mask = rng.integers(1, 14, (1, size // 8, size // 8)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
        mask[:, 0, :] = 0
        transform = from_origin(x, y, 30, 30)
        write_raster(root / folder / f"{name}_merged.tif", image, "EPSG:5070", transform, nodata=-9999 if number else None)
        write_raster(root / folder / f"{name}.mask.tif", mask, "EPSG:5070", transform, nodata=0)
        (root / folder / f"._{name}.mask.tif").write_bytes(b"\x00\x05\x16\x07 a Mac's resource fork")
        first, middle, last = CROP_DATES
        if table == "chip_tracker.csv":
            dates = {"first_image_date": first, "second_image_date": middle, "third_image_date": last}
        else:
            dates = {"first_img_date": first, "middle_img_date": middle, "last_img_date": last}
        rows.append({"chip_id": name, "tile": tile, **dates} if table == "chip_tracker.csv" else {"chip_id": name, **dates})
    if table:
        pd.DataFrame(rows).to_csv(root / table)
    return root


def tracts(years=(2020, 2021), per_metro: int = 4) -> gpd.GeoDataFrame:
    """A table in the documented schema, with gaps and one Census code for "not available"."""
    from rs05bench.datasets.urban_schema import INDICATORS

    rng = np.random.default_rng(7)
    rows = []
    for metro in METROS:
        county, lon, lat = _METRO_CENTRES[metro]
        for number in range(per_metro):
            west, south = lon + 0.02 * (number % 2), lat + 0.02 * (number // 2)
            for year in years:
                row = {
                    "tract_id": f"{county}{100 + number:06d}",
                    "metro": metro,
                    "year": year,
                    "population": int(rng.integers(800, 8000)),
                    "income_group": ("low", "middle", "high")[number % 3],
                    "density_group": ("low", "middle", "high")[(number + 1) % 3],
                    "urban_form": ("grid", "suburban")[number % 2],
                    "geometry": shapely.box(west, south, west + 0.02, south + 0.02),
                }
                for indicator in INDICATORS:
                    row[indicator.name] = float(rng.uniform(max(indicator.low, 0), min(indicator.high, 20)))
                rows.append(row)
    frame = gpd.GeoDataFrame(rows, crs="EPSG:4326")
    frame.loc[0, "obesity_pct"] = np.nan
    frame.loc[1, "poverty_pct"] = -666666666.0
    return frame


def write_tracts(root: Path, *, kind: str = "gpkg", **options) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    frame = tracts(**options)
    if kind == "gpkg":
        frame.to_file(root / "urban_indicators.gpkg", layer="tracts", driver="GPKG")
    elif kind == "parquet":
        frame.to_parquet(root / "urban_indicators.parquet")
    else:
        shapes = frame.drop_duplicates("tract_id")[["tract_id", "geometry"]]
        shapes.to_file(root / "tracts.geojson", driver="GeoJSON")
        frame.drop(columns="geometry").to_csv(root / "urban_indicators.csv", index=False)
    return root


def parcels(count: int = 12) -> gpd.GeoDataFrame:
    """Squares of 5 x 5 pixels on the grid of the first crop chip, each of one crop, in WGS84."""
    x0, y0 = CROP_CHIPS[0][1]
    shapes = [shapely.box(x0 + 300 * n + 300, y0 - 600, x0 + 300 * n + 450, y0 - 450) for n in range(count)]
    crops = [("Corn", "Soybeans", "Alfalfa")[n % 3] for n in range(count)]
    frame = gpd.GeoDataFrame(
        {"parcel": [f"p{n:03d}" for n in range(count)], "crop": crops, "season": 2022, "geometry": shapes}, crs="EPSG:5070"
    )
    return frame.to_crs(4326)


def write_parcels(path: Path, count: int = 12) -> Path:
    frame = parcels(count)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    return path


def main(target: str) -> None:
    root = Path(target)
    write_burn_scars(root / "hls_burn_scars")
    write_crop_chips(root / "multi_temporal_crop")
    write_tracts(root / "urban")
    write_parcels(root / "parcels.gpkg")


if __name__ == "__main__":
    main(sys.argv[1])
