"""Crops of the Cropland Data Layer by county, with the embedding, HLS, or both at each sampled pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rs05bench.datasets.recipes.embedding_columns import TILES, can_embed, embed, embedding_of, feature_sets
from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import geopandas as gpd
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from rs05bench.datasets.rasters import RasterHeader
    from rs05bench.datasets.recipes.job import BuildJob
    from rs05bench.protocol.card import TaskCard

# CDL codes of what is grown; a county's system is the group with at least half of its cultivated pixels over all years given.
SYSTEMS: dict[str, tuple[int, ...]] = {
    "corn-soy": (1, 5, 12, 13),
    "wheat": (22, 23, 24),
    "rice": (3,),
    "cotton": (2,),
    "hay": (36, 37, 58),
    "orchard-vineyard": (66, 67, 68, 69, 71, 72, 74, 75, 76, 77, 204, 210, 211, 212, 215, 217, 218, 220, 223),
}
# Everything else that is sown or planted: counted as cultivated, in no group of its own.
OTHER_CROPS = (4, 6, 10, 11, 14, *range(21, 22), *range(25, 36), *range(38, 58), 59, 60, 70, *range(205, 210), *range(213, 215), 216, 219,
               221, 222, *range(224, 255))  # fmt: skip
HALF = 0.5
SEASONS = {1: (60, 151), 2: (152, 243), 3: (244, 334)}  # days of year: spring, summer, autumn


def make(job: BuildJob) -> TaskCard:
    """One row a sampled pixel and year."""
    import pandas as pd

    from rs05bench.datasets.cdl_classes import CROP_CLASSES
    from rs05bench.datasets.recipes.polygon_layers import read_layer

    layers = _by_year(job, "cdl")
    confidence = _by_year(job, "confidence")
    counties = read_layer(job.file("counties"), {"geoid": ("GEOID",)}, {"name": ("NAME",)}, job=job)
    counties["geoid"] = counties["geoid"].astype(str).str.zfill(5)
    totals: dict[str, NDArray[np.int64]] = {}
    tables = []
    for done, (year, path) in enumerate(sorted(layers.items())):
        job.progress(path.name, done, len(layers))
        tables.append(_sample_year(job, year, path, confidence.get(year), counties, totals))
    units = pd.concat(tables, ignore_index=True)
    if units.empty:
        raise DataError("no county lies in the rasters", source=job.root, remedy="Check that counties and CDL are of the same place.")
    units["crop_system"] = units["county"].map({county: crop_system(counts) for county, counts in totals.items()})
    hls = job.files("hls")
    if not (hls or can_embed(job)):
        raise DataError(
            f"neither tiles of an embedding ({TILES}/) nor HLS granules (hls/) are there: nothing to learn from",
            source=job.root,
            remedy="Fetch one of them, or let the embedding be read from afar: --set embeddings=mirror.",
        )
    features: dict[str, list[str]] = {}
    tiers: dict[str, str] = {}
    if can_embed(job):
        frame = embed(job, units, "points")
        features, tiers = feature_sets(job, frame)
    else:
        frame = pd.DataFrame(units.drop(columns="geometry"))
    if hls:
        frame = _with_hls(job, frame)
        features["raw"] = ["B*_[123]", "NDVI_[123]"]
        if (family := embedding_of(job).family) in features:
            features["hybrid"] = [family, "raw"]
    job.write_table(frame.sort_values("pixel_id"))
    for name, column in (("by county", "county"), ("by class", "crop"), ("by system", "crop_system")):
        job.counts[name] = frame[column].value_counts().sort_index().to_dict()
    return job.card(
        classes=[name for name in CROP_CLASSES if (frame["crop"] == name).any()],
        features=features,
        tiers=tiers,
        split_options={"buffer_m": float(job.options["block_m"]) / 10},
        preprocessing={"options": dict(job.options)},
    )


def crop_system(counts: NDArray[np.int64]) -> str:
    """The system of a county from its pixels by CDL code: the group of `SYSTEMS` with at least half of what is cultivated, else `mixed`.

    Args:
        counts: (256,) pixels by code.
    """
    grown = {name: int(counts[list(codes)].sum()) for name, codes in SYSTEMS.items()}
    total = sum(grown.values()) + int(counts[list(OTHER_CROPS)].sum())
    if total == 0:
        return "none"
    name, most = max(grown.items(), key=lambda item: item[1])
    return name if most >= HALF * total else "mixed"


def _by_year(job: BuildJob, source: str) -> dict[int, Path]:
    from rs05bench.datasets.recipes.polygon_layers import year_in_name

    found: dict[int, Path] = {}
    for path in job.files(source):
        if source == "cdl" and "confidence" in path.name.lower():
            continue
        year = year_in_name(path)
        if year is None:
            raise DataError("its name says no year", source=path, remedy="Name it as published, e.g. 2022_30m_cdls.tif.")
        if year in found:
            raise DataError(f"is of {year}, as is {found[year].name}", source=path, remedy="Keep one raster a year.")
        found[year] = path
    return found


def _sample_year(
    job: BuildJob, year: int, path: Path, confidence: Path | None, counties: gpd.GeoDataFrame, totals: dict[str, NDArray[np.int64]]
) -> gpd.GeoDataFrame:
    import geopandas as gpd
    import pandas as pd

    from rs05bench.datasets.rasters import read_header, same_grid

    header = read_header(path, bands=1, dtypes=("uint8",), whole=False)
    sure = None
    if confidence is not None:
        sure = read_header(confidence, bands=1, dtypes=("uint8",), whole=False)
        same_grid(header, sure)
    moved = counties.to_crs(header.grid.crs)
    tables = [
        table
        for row in range(len(moved))
        if (table := _sample_county(job, year, header, sure, moved.geometry.iloc[row], str(moved["geoid"].iloc[row]), totals)) is not None
    ]
    if not tables:
        return gpd.GeoDataFrame({"pixel_id": []}, geometry=[], crs=4326)
    frame = pd.concat(tables, ignore_index=True)
    points = gpd.points_from_xy(frame.pop("x"), frame.pop("y"), crs=header.grid.crs).to_crs(4326)
    return gpd.GeoDataFrame(frame.assign(lon=points.x, lat=points.y), geometry=points)


def _sample_county(
    job: BuildJob, year: int, header: RasterHeader, sure: RasterHeader | None, shape: Any, geoid: str, totals: dict[str, NDArray[np.int64]]
) -> pd.DataFrame | None:
    import numpy as np
    import pandas as pd
    import rasterio
    import rasterio.features
    import rasterio.windows
    import shapely
    from scipy.ndimage import maximum_filter, minimum_filter

    from rs05bench.datasets.cdl_classes import CDL_TABLE, CROP_CLASSES
    from rs05bench.datasets.geography import us_states

    if not shapely.box(*header.grid.bounds).intersects(shape):
        return None
    if not shapely.box(*header.grid.bounds).buffer(abs(header.transform.a)).covers(shape):
        job.drop(f"counties that reach beyond the CDL of {year}", 1, geoid)
        return None
    window = rasterio.windows.from_bounds(*shape.bounds, transform=header.transform).round_offsets().round_lengths()
    window = window.intersection(rasterio.windows.Window(0, 0, header.width, header.height))
    try:
        with open_raster_file(header.path) as src:
            codes = src.read(1, window=window)
        certain = None
        if sure is not None:
            with open_raster_file(sure.path) as src:
                certain = src.read(1, window=window)
    except rasterio.errors.RasterioError as error:
        raise DataError(f"its pixels cannot be read ({error})", source=header.path, remedy="It was cut short: fetch it again.") from None
    transform = rasterio.windows.transform(window, header.transform)
    inside = rasterio.features.geometry_mask([shape], codes.shape, transform, invert=True)
    totals[geoid] = totals.get(geoid, np.zeros(256, np.int64)) + np.bincount(codes[inside], minlength=256)
    classes = CDL_TABLE[codes]
    wanted = inside & (classes > 0)
    if job.options["core"]:
        # A pixel whose neighbours are all of its class: mixed pixels at field edges would test the raster's grid, not the crop.
        wanted &= (minimum_filter(classes, 3) == classes) & (maximum_filter(classes, 3) == classes)
    if certain is not None:
        wanted &= certain >= int(job.options["min_confidence"])
    rows, columns = np.nonzero(wanted)
    if not len(rows):
        job.drop(f"counties without a usable pixel in {year}", 1, geoid)
        return None
    x = transform.c + (columns + 0.5) * transform.a
    y = transform.f + (rows + 0.5) * transform.e
    frame = pd.DataFrame({"x": x, "y": y, "value": classes[rows, columns]})
    frame["order"] = _order(x, y)
    frame = frame.sort_values("order").groupby("value").head(int(job.options["per_class"])).sort_values("order")
    place = frame["x"].round().astype(int).astype(str) + "_" + frame["y"].round().astype(int).astype(str)
    state = us_states().set_index("state_fips")["state"].get(geoid[:2], geoid[:2])
    return pd.DataFrame(
        {
            "pixel_id": f"{year}_{geoid}_" + place,
            "place": place,
            "year": year,
            "county": geoid,
            "state": state,
            "crop": [CROP_CLASSES[value - 1] for value in frame["value"]],
            "cdl_code": codes[rows, columns][frame.index],
            **({} if certain is None else {"cdl_confidence": certain[rows, columns][frame.index]}),
            "x": frame["x"],
            "y": frame["y"],
        }
    )


def _order(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.uint64]:
    """A random order that is a pixel's own: the same in every year and county, whatever else is there."""
    import numpy as np

    keys = (x.round().astype(np.int64).astype(np.uint64) << np.uint64(32)) ^ (
        y.round().astype(np.int64).astype(np.uint64) & np.uint64(0xFFFFFFFF)
    )
    with np.errstate(over="ignore"):  # the mixing steps of splitmix64 (Steele et al. 2014, doi:10.1145/2660193.2660195) wrap around
        keys = keys + np.uint64(0x9E3779B97F4A7C15)
        keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def _with_hls(job: BuildJob, frame: pd.DataFrame) -> pd.DataFrame:
    """Season means of the clear observations at each pixel: `B02_1` (spring) to `B12_3` (autumn), and NDVI of each season."""
    import numpy as np
    import pandas as pd
    from pyproj import Transformer

    from rs05bench.datasets.recipes.hls import BANDS, find_granules

    granules = find_granules(job.files("hls"))
    sums = np.zeros((len(SEASONS), len(BANDS), len(frame)))
    seen = np.zeros((len(SEASONS), len(frame)))
    years = frame["year"].to_numpy()
    for done, granule in enumerate(granules):
        job.progress(f"HLS {granule.tile} {granule.date:%Y-%m-%d}", done, len(granules))
        season = next((number for number, (first, last) in SEASONS.items() if first <= granule.date.day_of_year <= last), None)
        if season is None:
            continue
        move = Transformer.from_crs(4326, granule.header.grid.crs, always_xy=True)
        x, y = move.transform(frame["lon"].to_numpy(), frame["lat"].to_numpy())
        grid = granule.header.grid
        rows, columns = grid.rows_columns(x, y)
        there = (years == granule.date.year) & (rows >= 0) & (rows < grid.height) & (columns >= 0) & (columns < grid.width)
        if there.any():
            values = _at(granule, rows[there], columns[there])
            clear = ~np.isnan(values[0])
            index = np.flatnonzero(there)[clear]
            sums[season - 1][:, index] += values[:, clear]
            seen[season - 1, index] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Mapping[str, Any] = {
            f"{band}_{season}": sums[season - 1, number] / seen[season - 1] for season in SEASONS for number, band in enumerate(BANDS)
        }
        ndvi = {
            f"NDVI_{season}": (means[f"B8A_{season}"] - means[f"B04_{season}"]) / (means[f"B8A_{season}"] + means[f"B04_{season}"])
            for season in SEASONS
        }
    added = pd.DataFrame({**means, **ndvi}, index=frame.index).astype(np.float32)
    empty = seen.sum(axis=0) == 0
    job.drop("no clear HLS observation", int(empty.sum()))
    # A season that nobody saw says nothing: its columns would be blank from top to bottom.
    added = added.loc[:, added.notna().any()]
    if empty.all():
        raise DataError(
            "no HLS granule shows any sampled pixel in its year", source=job.root / "hls", remedy="Fetch those of the counties."
        )
    return pd.concat([frame, added], axis=1)[~empty].reset_index(drop=True)


def _at(granule: Any, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
    from rasterio.windows import Window

    top, left = int(rows.min()), int(columns.min())
    block = granule.read(Window(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1))
    return block[:, rows - top, columns - left]
