"""Parcels, tracts and regions of the simulated landscapes as GeoPackages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rs05bench.datasets.cdl_classes import CROP_CLASSES
from rs05bench.datasets.simulated.city import INDICATORS
from rs05bench.datasets.simulated.places import CROP_YEARS, CROPS, YEARS
from rs05bench.datasets.simulated.randomness import generator
from rs05bench.datasets.simulated.sampled_tables import indicator_table, parcel_id, sampled_parcels
from rs05bench.datasets.simulated.shapes import parcel_shapes, to_lonlat, tract_shapes

if TYPE_CHECKING:
    import geopandas as gpd

    from rs05bench.datasets.simulated.world import World

_SUPPRESSED = ("asthma_pct", "mental_health_pct", "bike_pct", "unemployment_pct")


def write_parcels(path: Path, world: World) -> Path:
    """Write the labelled parcels of four years, layer ``parcels``, WGS84; ``crop_code`` is the class 1-13 of the chip legend."""
    import geopandas as gpd

    outlines, rows = parcel_shapes(world), []
    for farm in world.farmlands:
        for year in CROP_YEARS:
            for number in sampled_parcels(farm, world.counts.parcels):
                crop = CROPS[farm.crops[YEARS.index(year), number]]
                name = parcel_id(farm, int(number))
                parcel = farm.parcels[number]
                place = farm.place
                row = {"parcel_id": name, "county": place.county, "state": place.state, "crop_system": place.system, "year": year}
                area = (parcel.rows[1] - parcel.rows[0]) * (parcel.cols[1] - parcel.cols[0]) * 0.09 * (np.pi / 4 if parcel.round else 1)
                row |= {
                    "crop": crop,
                    "crop_code": CROP_CLASSES.index(crop) + 1,
                    "area_ha": round(float(area), 3),
                    "geometry": outlines[name],
                }
                rows.append(row)
    return _write(path, gpd.GeoDataFrame(rows, crs="EPSG:4326"), "parcels")


def write_tracts(path: Path, world: World) -> Path:
    """Write the tracts of four years, layer ``tracts``, NAD83 as census files are.

    Crime figures are missing for the first two years of one city, and a few health and travel figures are suppressed here and there,
    as in published sources; what is missing is blank.
    """
    import geopandas as gpd
    import pandas as pd

    outlines = tract_shapes(world)
    table = pd.concat([indicator_table(city) for city in world.cities], ignore_index=True)
    rng = generator(world.seed, "suppressed")
    for name in _SUPPRESSED:
        table.loc[rng.random(len(table)) < 0.03, name] = np.nan
    silent = (table["metro"] == "Houston") & (table["year"] < 2022)
    table.loc[silent, ["crime_rate", "violent_crime_rate", "property_crime_rate"]] = np.nan
    table[list(INDICATORS)] = table[list(INDICATORS)].round(4)
    columns = ["tract_id", "metro", "year", "population", "income_group", "density_group", "urban_form", *INDICATORS]
    frame = gpd.GeoDataFrame(table[columns], geometry=[outlines[name] for name in table["tract_id"]], crs="EPSG:4269")
    return _write(path, frame, "tracts")


def write_regions(path: Path, world: World) -> Path:
    """Write the box of every wildland with its state, ecoregion and biome, layer ``regions``, WGS84: group columns for the chips."""
    import geopandas as gpd
    import shapely

    rows = []
    for wild in world.chip_lands:
        grid = wild.grid
        box = shapely.box(grid.west, grid.north - grid.height * 30, grid.west + grid.width * 30, grid.north)
        place = wild.place
        row = {
            "state": place.region,
            "ecoregion": place.ecoregion,
            "biome": place.biome,
            "geometry": to_lonlat(box.buffer(1000, join_style=2), grid),
        }
        rows.append(row)
    return _write(path, gpd.GeoDataFrame(rows, crs="EPSG:4326"), "regions")


def _write(path: Path, frame: gpd.GeoDataFrame, layer: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with _fixed_date():
        frame.to_file(path, layer=layer, driver="GPKG", engine="pyogrio")
    return path


@contextmanager
def _fixed_date() -> Iterator[None]:
    """Keep the day of writing out of GeoPackages, so that the same world gives the same bytes."""
    import pyogrio

    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2024-01-01T00:00:00.000Z"})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
