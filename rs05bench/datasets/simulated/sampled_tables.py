"""Tables sampled from the landscapes: burned pixels, crop parcels, urban tracts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.datasets.simulated import embedding
from rs05bench.datasets.simulated.city import INDICATORS, City
from rs05bench.datasets.simulated.farmland import Farmland
from rs05bench.datasets.simulated.places import CROP_YEARS, CROPS, URBAN_YEARS, YEARS
from rs05bench.datasets.simulated.randomness import FloatArray, generator
from rs05bench.datasets.simulated.spectra import BANDS, indices, observe

if TYPE_CHECKING:
    from rs05bench.datasets.simulated.landscape import Base
    from rs05bench.datasets.simulated.wildland import Fire, Wildland
    from rs05bench.datasets.simulated.world import World

PARCEL_DAYS = (115, 165, 235)  # nominal first, middle and last image of a crop season
CITY_DAY = 195
_LIMIT = 24  # pixels drawn from a parcel or tract for its mean


def burned_pixels(world: World) -> pd.DataFrame:
    """Return pixels in and around every fire: post-fire bands, differences to before the fire, and the fire year's embedding."""
    return _finish([_fire_pixels(wild, fire, world.counts.pixels) for wild in world.wildlands for fire in wild.fires])


def image_days(wild: Wildland, fire: Fire) -> tuple[int, int]:
    """Return the days of year of a fire's clear images before and after.

    Cloudy places wait longer for a clear image before the fire, so there the season has moved on between the two: in unburned ground
    dNBR then measures the season. How long the image after the fire takes is the fire's own luck.
    """
    usual = int(generator(wild.seed, "images", wild.name).integers(8, 100))
    rng = generator(wild.seed, "images", wild.name, fire.number)
    return max(fire.day - usual - int(rng.integers(0, 20)), 5), min(fire.day + int(rng.integers(5, 36)), 360)


def _fire_pixels(wild: Wildland, fire: Fire, count: int) -> pd.DataFrame:
    rng = generator(wild.seed, "sample", wild.name, fire.number)
    (r0, r1), (c0, c1) = fire.rows, fire.cols
    number, water = wild.fire_number[r0:r1, c0:c1], wild.terrain.is_water[r0:r1, c0:c1]
    burned, unburned = np.flatnonzero(number == fire.number), np.flatnonzero((number == 0) & ~water)
    half = min(count // 2, burned.size)
    picks = np.concatenate([rng.choice(burned, half, replace=False), rng.choice(unburned, min(count - half, unburned.size), replace=False)])
    rows, cols = np.divmod(np.sort(picks), c1 - c0)
    rows, cols = rows + r0, cols + c0
    clear = ~wild.gaps.at(fire.year, rows // embedding.CELL, cols // embedding.CELL)
    rows, cols = rows[clear], cols[clear]

    before, after = image_days(wild, fire)
    pre, post = (_observed(wild, fire.year, day, rows, cols) for day in (before, after))
    pre_index, post_index = indices(pre), indices(post)
    lon, lat = wild.grid.lonlat(rows, cols)
    is_burned = wild.fire_number[rows, cols] == fire.number
    place = wild.place
    columns: dict[str, Any] = {
        "pixel_id": [f"{place.region}-{row:03d}-{col:03d}" for row, col in zip(rows, cols, strict=True)],
        "label": np.where(is_burned, "burned", "unburned"),
        "severity": np.where(is_burned, wild.severity[rows, cols], 0.0),
        "region": place.region,
        "ecoregion": place.ecoregion,
        "biome": place.biome,
        "fire": fire.name,
        "year": fire.year,
        "date": pd.Timestamp(fire.year, 1, 1) + pd.Timedelta(days=after - 1),
        **{band: post[:, i] for i, band in enumerate(BANDS)},
        **post_index,
        "NBR_pre": pre_index["NBR"],
        "NDVI_pre": pre_index["NDVI"],
        "dNBR": pre_index["NBR"] - post_index["NBR"],
        "dNDVI": pre_index["NDVI"] - post_index["NDVI"],
        **_surroundings(wild, rows, cols),
    }
    return _with_embedding(columns, embedding.at_pixels(wild, fire.year, rows, cols), lon, lat)


def parcels(world: World) -> pd.DataFrame:
    """Return parcels by year: bands of three dates, and mean and spread of the embedding over the parcel."""
    return _finish([_county(farm, year, world.counts.parcels) for year in CROP_YEARS for farm in world.farmlands])


def sampled_parcels(farm: Farmland, count: int) -> NDArray[np.int64]:
    """Return the numbers of the parcels that carry a label, the same in every year."""
    numbers, sizes = np.unique(farm.parcel_number, return_counts=True)
    r0, r1, c0, c1 = farm.window
    inside = np.array([p.number for p in farm.parcels if r0 <= p.rows[0] and p.rows[1] <= r1 and c0 <= p.cols[0] and p.cols[1] <= c1])
    whole = numbers[(numbers >= 0) & (sizes >= 40) & np.isin(numbers, inside)]
    return np.sort(generator(farm.seed, "labelled", farm.name).choice(whole, min(count, whole.size), replace=False)).astype(np.int64)


def parcel_id(farm: Farmland, number: int) -> str:
    """Return the name of a parcel."""
    return f"{farm.place.state[:2].upper()}-{farm.place.county.replace(' ', '')}-{number:04d}"


def crop_image_day(farm: Farmland, year: int, index: int) -> int:
    """Return the day of year of the first, middle or last clear image of a season."""
    return PARCEL_DAYS[index] + int(generator(farm.seed, "images", farm.name, year).integers(-15, 16, 3)[index])


def _county(farm: Farmland, year: int, count: int) -> pd.DataFrame:
    chosen = sampled_parcels(farm, count)
    owner, rows, cols = _pixels_of(farm, farm.parcel_number, chosen)
    days = [crop_image_day(farm, year, i) for i in range(3)]
    place = farm.place
    columns: dict[str, Any] = {
        "parcel_id": [parcel_id(farm, int(number)) for number in chosen],
        "crop": [CROPS[i] for i in farm.crops[YEARS.index(year), chosen]],
        "county": place.county,
        "state": place.state,
        "crop_system": place.system,
        "year": year,
        "date": pd.Timestamp(year, 1, 1) + pd.Timedelta(days=days[1] - 1),
        "area_ha": np.bincount(farm.parcel_number[farm.parcel_number >= 0], minlength=len(farm.parcels))[chosen] * 0.09,
    }
    for step, day in enumerate(days, start=1):
        mean = _mean(_observed(farm, year, day, rows, cols), owner, len(chosen))
        columns |= {f"{band}_{step}": mean[:, i] for i, band in enumerate(BANDS)}
        columns |= {f"{name}_{step}": value for name, value in indices(mean).items() if name in ("NDVI", "NDMI", "NDWI")}
    columns |= {name: _mean(values[:, None], owner, len(chosen))[:, 0] for name, values in _surroundings(farm, rows, cols).items()}
    pixels = embedding.at_pixels(farm, year, rows, cols)
    spread = np.sqrt(np.maximum(_mean(pixels**2, owner, len(chosen)) - _mean(pixels, owner, len(chosen)) ** 2, 0))
    columns |= {f"{band}_std": spread[:, i] for i, band in enumerate(embedding.PRODUCT.bands)}
    boxes = [farm.parcels[number] for number in chosen]
    lon, lat = farm.grid.lonlat(
        np.array([(b.rows[0] + b.rows[1] - 1) / 2 for b in boxes]), np.array([(b.cols[0] + b.cols[1] - 1) / 2 for b in boxes])
    )
    return _with_embedding(columns, _mean(pixels, owner, len(chosen)), lon, lat)


def tracts(world: World) -> pd.DataFrame:
    """Return tracts by year: summer bands, mean embedding, groups and the fourteen indicators."""
    return _finish([_city(city) for city in world.cities])


def indicator_table(city: City) -> pd.DataFrame:
    """Return the indicators of a city with the groups named: thirds of income and density, and urban form."""
    table = city.indicators()
    first = table[table["year"] == URBAN_YEARS[0]]
    for group, source in (("income_group", "wealth"), ("density_group", "density")):
        low, high = first[source].quantile([1 / 3, 2 / 3])
        table[group] = np.select([table[source] <= low, table[source] <= high], ["low", "middle"], "high")
    table["urban_form"] = np.select([table["density"] > 0.5, table["density"] > 0.25], ["core", "inner"], "suburb")
    return table.drop(columns=["density", "wealth"])


def _city(city: City) -> pd.DataFrame:
    table = indicator_table(city)
    n = len(city.tract_shapes)
    owner, rows, cols = _pixels_of(city, city.tract_number, np.arange(n))
    centres = [shape.representative_point() for shape in city.tract_shapes]
    row, col = city.grid.rows_columns(np.array([p.x for p in centres]), np.array([p.y for p in centres]))
    lon, lat = city.grid.lonlat(row, col)
    still = {name: _mean(values[:, None], owner, n)[:, 0] for name, values in _surroundings(city, rows, cols).items()}
    frames = []
    for year in URBAN_YEARS:
        now = table[table["year"] == year].drop(columns="tract_number").rename(columns={"metro": "city"}).reset_index(drop=True)
        mean = _mean(_observed(city, year, CITY_DAY, rows, cols), owner, n)
        columns: dict[str, Any] = {name: now[name] for name in ("tract_id", "city", "year", "population", "income_group", "density_group")}
        columns |= {"urban_form": now["urban_form"], **{name: now[name] for name in INDICATORS}}
        columns |= {band: mean[:, i] for i, band in enumerate(BANDS)} | indices(mean) | still
        frames.append(_with_embedding(columns, _mean(embedding.at_pixels(city, year, rows, cols), owner, n), lon, lat))
    return pd.concat(frames, ignore_index=True)


def _observed(landscape: Any, year: int, day: int, rows: NDArray[Any], cols: NDArray[Any]) -> FloatArray:
    scene = (landscape.name, year, day)
    return observe(landscape.reflectance(year, day, rows, cols), landscape.seed, scene, landscape.places(rows, cols))


def _surroundings(landscape: Any, rows: NDArray[Any], cols: NDArray[Any]) -> dict[str, Any]:
    terrain, climate = landscape.terrain, landscape.climate
    return {
        "elevation_m": terrain.elevation[rows, cols],
        "slope_deg": np.rad2deg(terrain.slope[rows, cols]),
        "road_m": terrain.road[rows, cols],
        "water_m": terrain.water[rows, cols],
        "temperature_c": np.full(len(rows), climate.temperature),
        "precipitation_mm": np.full(len(rows), climate.precipitation),
        "climate_zone": np.full(len(rows), float("ABCDE".index(climate.koppen[0]) + 1)),
    }


def _pixels_of(
    landscape: Base, numbers: NDArray[Any], chosen: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return up to `_LIMIT` pixels of each polygon: position in ``chosen``, row, column."""
    order = generator(landscape.seed, "pixels", landscape.name).permutation(numbers.size)
    flat = numbers.ravel()[order]
    owners, picks = [], []
    for position, number in enumerate(chosen):
        own = order[flat == number][:_LIMIT]
        owners.append(np.full(own.size, position))
        picks.append(own)
    rows, cols = np.divmod(np.concatenate(picks), numbers.shape[1])
    return np.concatenate(owners), rows, cols


def _mean(values: NDArray[Any], owner: NDArray[np.int64], count: int) -> FloatArray:
    """Return the mean of the rows of each owner, leaving out NaN; NaN where an owner has none."""
    known = ~np.isnan(values).any(axis=1)
    total = np.zeros((count, values.shape[1]))
    np.add.at(total, owner[known], values[known])
    number = np.bincount(owner[known], minlength=count).astype(float)
    number[number == 0] = np.nan
    return (total / number[:, None]).astype(np.float32)


def _with_embedding(columns: dict[str, Any], vectors: FloatArray, lon: NDArray[Any], lat: NDArray[Any]) -> pd.DataFrame:
    frame = pd.DataFrame(columns | {band: vectors[:, i] for i, band in enumerate(embedding.PRODUCT.bands)})
    frame["longitude"], frame["latitude"] = lon, lat
    return frame


def _finish(frames: list[pd.DataFrame]) -> pd.DataFrame:
    # Earth Engine leaves out what is masked; so do we.
    table = pd.concat(frames, ignore_index=True).dropna(subset=[embedding.PRODUCT.bands[0]]).reset_index(drop=True)
    table.insert(0, "system:index", [str(i) for i in range(len(table))])
    return table
