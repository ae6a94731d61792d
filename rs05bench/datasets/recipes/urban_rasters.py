"""Impervious surface and land cover of city cells: NLCD, Chesapeake, Dynamic World, each with the embedding."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    import geopandas as gpd

    from rs05bench.datasets.layers.tiles import RasterTiles
    from rs05bench.datasets.recipes.job import BuildJob
    from rs05bench.protocol.card import TaskCard

_WHOLE = ("uint8", "int8", "int16", "uint16", "int32", "float32", "float64")
NLCD_MISSING = (127.0, 250.0, 255.0)  # 127 before the annual product, 250 its fill value
NLCD_COVER = frozenset((11, 12, 21, 22, 23, 24, 31, 41, 42, 43, 51, 52, 71, 72, 73, 74, 81, 82, 90, 95))
DYNAMIC_WORLD = ("water", "trees", "grass", "flooded_vegetation", "crops", "shrub_and_scrub", "built", "bare", "snow_and_ice")

# Chesapeake 2022 edition. LC: 13 classes by code; LULC: 54 classes, gathered by their leading digit and, among developed land, the second.
LC = {1: "water", 2: "wetland", 3: "trees", 4: "shrub", 5: "low vegetation", 6: "barren"} | dict.fromkeys(range(7, 13), "impervious")
LULC = (
    dict.fromkeys(range(11, 16), "water")
    | dict.fromkeys(range(21, 27), "impervious")
    | {27: "turf", 28: "turf", 29: "succession"}
    | dict.fromkeys((41, 42), "forest")
    | dict.fromkeys(range(51, 57), "succession")
    | dict.fromkeys((*range(62, 66), *range(72, 77)), "succession")
    | dict.fromkeys(range(81, 86), "farmland")
    | dict.fromkeys(range(91, 96), "wetland")
)
CHESAPEAKE_MISSING = (0.0, 127.0, 254.0, 255.0)  # 254: Aberdeen Proving Ground, not mapped


def nlcd(job: BuildJob) -> TaskCard:
    """Mean percent impervious of a cell."""
    from rs05bench.datasets.layers.tiles import RasterTiles
    from rs05bench.datasets.recipes.urban_cells import by_year, cells, finish, means, sample

    ground = cells(job)
    parts = []
    for year, paths in by_year(job, "impervious").items():
        for path in paths:
            if re.search(r"lnd_?cov|land_?cover|descriptor", path.name, re.IGNORECASE):
                raise DataError(
                    "is land cover by its name, not percent impervious",
                    source=path,
                    remedy="Get the product FctImp (Fractional Impervious Surface).",
                )
        tiles = RasterTiles(paths, dtypes=_WHOLE, missing=NLCD_MISSING)
        rows, values = sample(job, ground, [tiles], f"impervious {year}")
        _percent(values[:, 0], paths[0])
        mean, known = means(rows, values[:, 0], len(ground))
        parts.append(ground.assign(year=year, impervious_pct=mean, known=known))
    units = _known(job, parts, "impervious")
    return finish(job, units, "impervious_pct", without=("buildings", "urban"))


def chesapeake(job: BuildJob) -> TaskCard:
    """Share of impervious metres in a cell, or its dominant cover."""
    from rs05bench.datasets.layers.tiles import RasterTiles
    from rs05bench.datasets.recipes.urban_cells import by_year, cells, sample, shares

    ground, parts = cells(job), []
    products = {_named(path)[0] for path in job.files("cover")}
    if len(products) > 1:
        raise DataError(
            "holds both land cover (lc) and land use (lulc) files: their legends differ", source=job.root, remedy="Give one of the two."
        )
    legend = LULC if products == {"lulc"} else LC
    names = sorted(set(legend.values()))
    for year, paths in by_year(job, "cover", lambda path: _named(path)[1]).items():
        tiles = RasterTiles(paths, dtypes=("uint8", "int8", "int16", "uint16"), missing=CHESAPEAKE_MISSING)
        rows, values = sample(job, ground, [tiles], f"land cover {year}")
        codes = _classes(values[:, 0], legend, names, paths[0])
        share, known = shares(rows, codes, len(names), len(ground))
        parts.append(
            _with_dominant(ground.assign(year=year, known=known, impervious_pct=100 * share[:, names.index("impervious")]), share, names)
        )
    units = _known(job, parts, "cover")
    return _share_or_class(job, units, "impervious_pct", "Impervious share", without=("buildings",))


def dynamic_world(job: BuildJob) -> TaskCard:
    """Mean probability of built area in a cell, or its dominant label."""
    from rs05bench.datasets.recipes.urban_cells import by_year, cells, means, sample, shares

    ground, parts = cells(job), []
    wants = str(job.options["target"])
    for year, paths in by_year(job, "dynamic_world").items():
        tiles = _dynamic_bands(job, paths, wants)
        rows, values = sample(job, ground, list(tiles.values()), f"Dynamic World {year}")
        table = dict(zip(tiles, values.T, strict=True))
        masked = _masked(table)
        if wants == "share":
            _between(table["built"], 0, 1, paths[0], "built")
            mean, known = means(rows, np.where(masked, np.nan, table["built"]), len(ground))
            parts.append(ground.assign(year=year, known=known, built_pct=100 * mean))
            continue
        legend = dict(enumerate(DYNAMIC_WORLD))
        codes = _classes(np.where(masked, np.nan, table["label"]), legend, list(DYNAMIC_WORLD), paths[0])
        share, known = shares(rows, codes, len(DYNAMIC_WORLD), len(ground))
        parts.append(_with_dominant(ground.assign(year=year, known=known), share, [name.replace("_", " ") for name in DYNAMIC_WORLD]))
    units = _known(job, parts, "dynamic_world")
    return _share_or_class(job, units, "built_pct", "Built probability")


def _share_or_class(job: BuildJob, units: gpd.GeoDataFrame, share: str, what: str, without: Sequence[str] = ()) -> TaskCard:
    """The share in the column `share`, which is called `what`, or the class that covers most of a cell."""
    from rs05bench.datasets.recipes.urban_cells import finish

    if job.options["target"] == "share":
        return finish(job, units.drop(columns=["cover", "cover_share"], errors="ignore"), share, what=what, without=without)
    least = float(job.options["min_share"])
    units = job.keep(units, units["cover_share"] >= least, f"mixed: no class covers {least:g} of the cell", "cell_id")
    return finish(job, units, "cover", what="Dominant land cover", classes=True, without=without, extra=("cover_share", share))


def _with_dominant(units: gpd.GeoDataFrame, share: np.ndarray, names: list[str]) -> gpd.GeoDataFrame:
    filled = np.nan_to_num(share)
    return units.assign(cover=np.array(names, dtype=object)[filled.argmax(axis=1)], cover_share=filled.max(axis=1))


def _known(job: BuildJob, parts: list[gpd.GeoDataFrame], name: str) -> gpd.GeoDataFrame:
    units = pd.concat(parts, ignore_index=True)
    least = float(job.options["min_known"])
    if not (units["known"] > 0).any():
        raise DataError(
            f"no cell of {', '.join(sorted(units['city'].unique()))} lies on {job.files(name)[0].name}"
            + (" or the others" if len(job.files(name)) > 1 else ""),
            source=job.root,
            remedy="Do areas and rasters overlap?",
        )
    return job.keep(units, units["known"] >= least, f"label known on less than {least:g} of the cell", "cell_id")


def _percent(values: np.ndarray, path: Path) -> None:
    """Percent, and not the land cover of the same family, whose codes lie below 100 too."""
    _between(values, 0, 100, path, "percent impervious")
    found = {int(value) for value in np.unique(values[np.isfinite(values)])}
    if len(found) > 1 and found <= NLCD_COVER:
        raise DataError(
            f"holds only land cover codes ({', '.join(map(str, sorted(found)[:6]))}), no percentages",
            source=path,
            remedy="Get the product FctImp, not LndCov.",
        )


def _between(values: np.ndarray, low: float, high: float, path: Path, what: str) -> None:
    wrong = np.isfinite(values) & ((values < low) | (values > high))
    if wrong.any():
        raise DataError(
            f"expected {what} between {low:g} and {high:g}, found {values[wrong][0]:g}",
            source=path,
            remedy="Is it another product, scaled, or an undeclared nodata value (`rio edit-info --nodata`)?",
        )


def _classes(values: np.ndarray, legend: dict[int, str], names: list[str], path: Path) -> np.ndarray:
    """Positions in `names`; NaN where missing."""
    known = np.isfinite(values)
    strange = sorted({float(value) for value in np.unique(values[known])} - set(map(float, legend)))
    if strange:
        raise DataError(
            f"holds codes that are not in its legend: {', '.join(f'{value:g}' for value in strange[:5])}",
            source=path,
            remedy="Is it another product or edition?",
        )
    table = np.full(256, np.nan)
    for code, name in legend.items():
        table[code] = names.index(name)
    out = np.full(len(values), np.nan)
    out[known] = table[values[known].astype(np.int64)]
    return out


def _named(path: Path) -> tuple[str, int]:
    """Product and year of a Chesapeake file; the edition is a year too."""
    found = re.match(r"^[a-z]{2}_(lulc|lc)_(\d{4})_2022-Edition", path.name, re.IGNORECASE)
    if found is None:
        raise DataError(
            "is not named as published", source=path, remedy="Expected e.g. md_lulc_2018_2022-Edition.tif (TorchGeo reads the same names)."
        )
    return found.group(1).lower(), int(found.group(2))


def _dynamic_bands(job: BuildJob, paths: list[Path], wants: str) -> dict[str, RasterTiles]:
    """The bands needed by name, and all probabilities where they are there: they tell masked pixels."""
    from rs05bench.datasets.layers.tiles import RasterTiles
    from rs05bench.datasets.rasters import read_header

    needed = "built" if wants == "share" else "label"
    orders = set()
    for path in paths:
        read_header(path)
        with open_raster_file(path) as src:
            names = tuple(str(name or "") for name in src.descriptions)
        if len(names) == 1 and names[0] in ("", "label") and needed == "label":
            names = ("label",)
        if needed not in names:
            raise DataError(
                f"has no band {needed!r}; its bands are {', '.join(name or 'nameless' for name in names)}",
                source=path,
                remedy=f"Export the band {needed!r} with its name (Earth Engine does), or choose the other target.",
            )
        orders.add(names)
    if len(orders) > 1:
        raise DataError("files of one year have different bands", source=paths[0].parent, remedy="Export them alike.")
    names = orders.pop()
    wanted = [needed, *(name for name in DYNAMIC_WORLD if set(DYNAMIC_WORLD) <= set(names) and name != needed)]
    tiles = {name: RasterTiles(paths, dtypes=_WHOLE, band=names.index(name) + 1) for name in wanted}
    if len(wanted) == 1 and any(header.nodata is None for header in tiles[needed].headers):
        job.notes.append(
            f"No nodata value is declared and only {needed!r} was exported: masked pixels may stand as 0"
            + (", which means water" if needed == "label" else "")
            + ". Export with noData, or with all probabilities."
        )
    return tiles


def _masked(table: dict[str, np.ndarray]) -> np.ndarray:
    """Where the nine probabilities do not sum to one, a pixel was masked and exported as 0."""
    there = [name for name in DYNAMIC_WORLD if name in table]
    anything = next(iter(table.values()))
    if len(there) < len(DYNAMIC_WORLD):
        return np.zeros(len(anything), dtype=bool)
    return ~(np.abs(sum(table[name] for name in there) - 1) < 0.05)
