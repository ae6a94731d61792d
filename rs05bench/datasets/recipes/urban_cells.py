"""Square cells of a city as units: drawn by hash, labelled from a raster or from polygons, with the embedding of their year beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rs05bench.datasets.recipes.embedding_columns import embed, embedding_of, feature_sets
from rs05bench.errors import DataError
from rs05bench.protocol.hashing import text_digest

if TYPE_CHECKING:
    from pathlib import Path

    import geopandas as gpd
    from numpy.typing import NDArray

    from rs05bench.datasets.layers.tiles import RasterTiles
    from rs05bench.datasets.recipes.job import BuildJob
    from rs05bench.protocol.card import TaskCard

FIRST_YEAR = 2017
"""Of the AlphaEarth embedding."""

MOST = 5_000_000
"""Cells that an area may hold before some are drawn."""

_DENSEST, _SPARSEST = 2_500, 64  # points that stand for a cell


def cells(job: BuildJob) -> gpd.GeoDataFrame:
    """Cells of every area, WGS84: `cell_id`, `city`, `lon`, `lat`, geometry.

    Cells lie on a lattice of the area's UTM zone and inside it (to a hundredth of their side); which are taken depends on the seed and
    their own place alone.

    Raises:
        DataError: An area without a name or too small for a cell, or options that fit nothing.
    """
    import geopandas as gpd
    import shapely

    from rs05bench.datasets.recipes.polygon_layers import read_layer

    side, most = float(job.options["cell_m"]), int(job.options["per_city"])
    if side < 20:
        raise DataError(
            f"option cell_m must be at least 20 m, two pixels of the embedding, found {side:g}", source=f"recipe {job.recipe.name}"
        )
    path = job.file("areas")
    areas = read_layer(path, {"city": ("city", "name", "NAME", "NAME20", "NAMELSAD")}, job=job)
    if areas["city"].isna().any() or (areas["city"].astype(str).str.strip() == "").any():
        raise DataError("a city has no name", source=path, remedy="Name every polygon.")
    parts = []
    for city, rows in areas.groupby(areas["city"].astype(str).str.strip(), sort=True):
        outline = rows.geometry.union_all()
        zone = _utm(outline)
        flat = gpd.GeoSeries([outline], crs=4326).to_crs(zone).iloc[0]
        west, south, east, north = (int(np.floor(value / side)) for value in flat.bounds)
        if (east - west + 1) * (north - south + 1) > MOST:
            raise DataError(
                f"{city!r} would hold more than {MOST:,} cells of {side:g} m", source=path, remedy="Give larger cells (--set cell_m)."
            )
        column, row = (v.ravel() for v in np.meshgrid(np.arange(west, east + 1), np.arange(south, north + 1)))
        boxes = shapely.box(column * side, row * side, (column + 1) * side, (row + 1) * side)
        # A border that was drawn along the lattice in another CRS must not cost the cells beside it.
        outer = flat.buffer(0.01 * side)
        shapely.prepare(outer)
        inside = shapely.contains(outer, boxes)
        column, row, boxes = column[inside], row[inside], boxes[inside]
        if not len(boxes):
            raise DataError(f"{city!r} holds no whole cell of {side:g} m", source=path, remedy="Give smaller cells (--set cell_m).")
        names = np.array([f"{city}-{c}-{r}" for c, r in zip(column, row, strict=True)], dtype=object)
        if 0 < most < len(boxes):
            drawn = np.argsort([text_digest(f"{job.options['seed']}:{name}") for name in names])[:most]
            job.drop(f"beyond {most} cells a city (--set per_city)", len(boxes) - most, city)
            names, boxes = names[np.sort(drawn)], boxes[np.sort(drawn)]
        shapes = gpd.GeoSeries(boxes, crs=zone)
        middle = shapes.centroid.to_crs(4326)
        table = {"cell_id": names, "city": city, "lon": middle.x.to_numpy(), "lat": middle.y.to_numpy()}
        parts.append(gpd.GeoDataFrame(table, geometry=shapes.to_crs(4326).to_numpy(), crs=4326))
    return gpd.GeoDataFrame(pd.concat(parts, ignore_index=True), crs=4326)


def points_of(job: BuildJob, units: gpd.GeoDataFrame, pixel_m: float) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """A lattice of points in every cell about as dense as the raster's pixels: row of the cell, longitude, latitude."""
    from rs05bench.datasets.layers.sampler import lattice

    dense = (float(job.options["cell_m"]) / max(pixel_m, 1e-6)) ** 2
    return lattice(units, int(np.clip(dense, _SPARSEST, _DENSEST)))


def sample(
    job: BuildJob, units: gpd.GeoDataFrame, tiles: Sequence[RasterTiles], what: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Values of rasters at the lattice of every cell: row of the cell (m,), values (m, rasters), NaN where missing."""
    rows, values = [], []
    step = 400
    for start in range(0, len(units), step):
        job.progress(what, start, len(units))
        owner, lon, lat = points_of(job, units.iloc[start : start + step], tiles[0].pixel_m)
        rows.append(owner + start)
        values.append(np.column_stack([raster.values(lon, lat) for raster in tiles]))
    return np.concatenate(rows), np.concatenate(values)


def means(rows: NDArray[np.int64], values: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of the known values of each cell, and the share of its points that are known."""
    known = np.isfinite(values)
    total = np.bincount(rows, minlength=count)
    number = np.bincount(rows[known], minlength=count)
    with np.errstate(invalid="ignore"):
        return np.bincount(rows[known], weights=values[known], minlength=count) / number, number / np.maximum(total, 1)


def shares(
    rows: NDArray[np.int64], codes: NDArray[np.float64], classes: int, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of each class (0 .. classes - 1) among the known points of each cell, (count, classes), and the share known."""
    known = np.isfinite(codes)
    table = np.zeros((count, classes))
    np.add.at(table, (rows[known], codes[known].astype(np.int64)), 1)
    number = table.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return table / number[:, None], number / np.maximum(np.bincount(rows, minlength=count), 1)


def by_year(job: BuildJob, name: str, year_of: Callable[[Path], int | None] | None = None) -> dict[int, list[Path]]:
    """Files of a source by the year in their name.

    Args:
        job: The run.
        name: Of the source.
        year_of: Finds the year; default the only one in the name.

    Raises:
        DataError: A name without a year, or no year that the embedding has.
    """
    from rs05bench.datasets.recipes.polygon_layers import year_in_name

    found: dict[int, list[Path]] = {}
    given = int(job.options.get("year", 0))
    for path in job.files(name):
        year = (year_of or year_in_name)(path) or given
        if not year:
            raise DataError(
                "its name says no single year",
                source=path,
                remedy="Name it as published, or say the year with --set year=YYYY."
                if "year" in job.options
                else "Name it as published, with the year.",
            )
        found.setdefault(year, []).append(path)
    early = sorted(year for year in found if year < FIRST_YEAR)
    for year in early:
        job.drop(f"{name} of {year}: the embedding begins in {FIRST_YEAR}", len(found.pop(year)))
    if not found:
        raise DataError(
            f"all files of {name} are of {', '.join(map(str, early))}, and the embedding begins in {FIRST_YEAR}",
            source=job.root,
            remedy=f"Give a file of {FIRST_YEAR} or later.",
        )
    return dict(sorted(found.items()))


def finish(
    job: BuildJob,
    units: gpd.GeoDataFrame,
    target: str,
    *,
    what: str = "",
    classes: bool = False,
    without: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> TaskCard:
    """Adds the embedding and the layers, writes the table, and gives the card.

    Args:
        job: The run.
        units: `cell_id`, `city`, `year`, `lon`, `lat`, the target and columns that are no features; WGS84 cells.
        target: Column to predict.
        what: What it is, where the title of the record's card asks.
        classes: Whether it holds classes.
        without: Layers that are the label in disguise.
        extra: Further columns of the units that are kept and never features.
    """
    if units.empty:
        raise DataError("no cell is left with a label", source=job.root, remedy="Do areas and label files overlap? See what was dropped.")
    frame = embed(job, units.reset_index(drop=True), "polygons")
    features, tiers = feature_sets(job, frame)
    columns = join_layers(job, units, frame, "cell_id", without)
    if columns:
        features |= {"layers": columns, "hybrid": [embedding_of(job).family, "layers"]}
        tiers |= {"layers": "raw"}
    job.write_table(frame.sort_values(["cell_id", "year"]))
    job.counts["by city"] = frame["city"].value_counts().sort_index().to_dict()
    job.counts["by year"] = {str(year): int(count) for year, count in frame["year"].value_counts().sort_index().items()}
    budgets = [f"{count}-{'per-class' if classes else 'units'}" for count in ((5, 10, 20, 50) if classes else (20, 50, 100, 200))]
    found: dict[str, object] = {}
    if classes:
        found["classes"] = sorted(frame[target].unique())
        if frame[target].nunique() < 2:
            raise DataError(f"all {len(frame)} cells are {frame[target].iloc[0]!r}", source=job.root, remedy="Give more or other areas.")
        job.counts["by class"] = frame[target].value_counts().sort_index().to_dict()
    return job.card(
        words={"what": what},
        kind="classification" if classes else "regression",
        targets=[target],
        features=features,
        tiers=tiers,
        never_features=["pixels", "covered", "known", *extra],
        budgets=[*budgets, "full"],
        preprocessing={"cell_m": float(job.options["cell_m"])},
        **found,
    )


def join_layers(job: BuildJob, units: gpd.GeoDataFrame, frame: pd.DataFrame, key: str, without: Sequence[str]) -> list[str]:
    """Columns of the layers under the root, joined to `frame` by the place in `key`; none where there are no layers.

    Args:
        job: The run.
        units: Polygons with `key`; several rows of one place (years) are asked once.
        frame: Where the columns go.
        key: Column of the place.
        without: Layers that are the label in disguise.
    """
    if not job.files("layers"):
        return []
    from rs05bench.datasets.layers import open_layers

    places = units.drop_duplicates(key).reset_index(drop=True)
    columns: list[str] = []
    for name, layer in open_layers(job.root / "layers").items():
        if name in without or layer.source.name in without:
            job.notes.append(f"The layer {name} is left out: it is the label in disguise.")
            continue
        values = layer.on_polygons(places).drop(columns="koppen", errors="ignore")
        job.notes += values.attrs.get("notes", [])
        values.index = pd.Index(places[key])
        for column in values.columns:
            frame[column] = frame[key].map(values[column])
        # A column that is missing everywhere would drop every unit.
        columns += [column for column in values.columns if frame[column].notna().any()]
    return columns


def _utm(outline: Any) -> str:
    middle = outline.representative_point()
    return f"EPSG:{(32600 if middle.y >= 0 else 32700) + int((middle.x + 180) // 6) % 60 + 1}"
