"""Building density and a proxy of land use of city cells, from public vector layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rs05bench.errors import DataError

if TYPE_CHECKING:
    from rs05bench.datasets.recipes.job import BuildJob
    from rs05bench.protocol.card import TaskCard

# Geofabrik's `fclass` of the layer landuse, gathered. What is not listed (scrub, military, ...) counts as no use.
USES = {
    "residential": "residential",
    "allotments": "green",
    "commercial": "commercial",
    "retail": "commercial",
    "industrial": "industrial",
    "quarry": "industrial",
    "park": "green",
    "recreation_ground": "green",
    "cemetery": "green",
    "grass": "green",
    "meadow": "farmland",
    "farmland": "farmland",
    "farmyard": "farmland",
    "orchard": "farmland",
    "vineyard": "farmland",
    "forest": "forest",
}


def buildings(job: BuildJob) -> TaskCard:
    """Share of a cell under roofs, or buildings a square kilometre."""
    from rs05bench.datasets.layers import CountSampler, find_source
    from rs05bench.datasets.layers.vector_layers import Features
    from rs05bench.datasets.recipes.urban_cells import cells, finish

    ground = cells(job)
    coverage = job.files("coverage")
    features = Features(job.files("buildings"), coverage=coverage[0] if coverage else None)
    values = CountSampler(find_source("buildings"), features).on_polygons(ground)
    if "buildings_cover" not in values:
        raise DataError(
            "holds points, expected footprints (polygons)", source=job.files("buildings")[0], remedy="Give a layer of footprints."
        )
    share = job.options["target"] == "cover"
    column = "building_cover_pct" if share else "buildings_per_km2"
    units = ground.assign(year=_year(job))
    units[column] = (100 * values["buildings_cover"] if share else values["buildings_per_km2"]).to_numpy()
    units = job.keep(units, units[column].notna(), "outside of the area that the footprints cover", "cell_id")
    if not (units[column] > 0).any():
        raise DataError("no building lies in any cell", source=job.root, remedy="Do areas and footprints overlap?")
    return finish(job, units, column, what="Share under roofs" if share else "Buildings a square kilometre", without=("buildings",))


def land_use(job: BuildJob) -> TaskCard:
    """The use that most of a cell is mapped as."""
    from rs05bench.datasets.recipes.urban_cells import cells, finish, shares

    ground = cells(job)
    rows, codes, names = _uses(job, ground)
    share, known = shares(rows, codes, len(names), len(ground))
    filled = np.nan_to_num(share)
    units = ground.assign(
        year=_year(job), known=known, use=np.array(names, dtype=object)[filled.argmax(axis=1)], use_share=filled.max(axis=1)
    )
    if not (known > 0).any():
        raise DataError("no mapped use lies in any cell", source=job.files("landuse")[0], remedy="Do areas and land use overlap?")
    least, covered = float(job.options["min_share"]), float(job.options["min_known"])
    units = job.keep(units, units["known"] >= covered, f"a use is mapped on less than {covered:g} of the cell", "cell_id")
    units = job.keep(units, units["use_share"] >= least, f"mixed: no use covers {least:g} of the cell", "cell_id")
    return finish(job, units, "use", classes=True, without=("poi",), extra=("use_share",))


def _uses(job: BuildJob, ground: object) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Use at a lattice of points in every cell; of polygons that overlap, the smallest says it (a park in a residential area)."""
    import pandas as pd
    import shapely

    from rs05bench.datasets.recipes.polygon_layers import read_layer
    from rs05bench.datasets.recipes.urban_cells import points_of

    paths = job.files("landuse")
    layer = pd.concat([read_layer(path, {"fclass": ("fclass", "landuse")}, job=job) for path in paths], ignore_index=True)
    layer["use"] = layer["fclass"].astype(str).str.strip().str.lower().map(USES)
    if layer["use"].isna().all():
        raise DataError(
            f"none of its classes is a known use, e.g. {', '.join(map(str, layer['fclass'].unique()[:4]))}",
            source=paths[0],
            remedy=f"Expected OpenStreetMap's values such as {', '.join(list(USES)[:5])}.",
        )
    layer = job.keep(layer, layer["use"].notna(), "polygon of a class that is no use", "fclass")
    names = sorted(set(USES.values()))
    owner, lon, lat = points_of(job, ground, 15.0)
    areas = shapely.area(layer.geometry.to_numpy())
    points, polygons = shapely.STRtree(layer.geometry.to_numpy()).query(shapely.points(lon, lat), predicate="intersects")
    order = np.lexsort((areas[polygons], points))[::-1]
    codes = np.full(len(lon), np.nan)
    position = layer["use"].map({name: i for i, name in enumerate(names)}).to_numpy(dtype=float)
    codes[points[order]] = position[polygons[order]]
    return owner, codes, names


def _year(job: BuildJob) -> int:
    from rs05bench.datasets.recipes.urban_cells import FIRST_YEAR

    year = int(job.options["year"])
    if year < FIRST_YEAR:
        raise DataError(
            f"option year must be {FIRST_YEAR} or later, the first of the embedding, found {year}", source=f"recipe {job.recipe.name}"
        )
    return year
