"""Which state, ecoregion or other polygon a unit lies in, and which units share their ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rs05bench.datasets.files import missing_data
from rs05bench.errors import DataError
from rs05bench.protocol.intake.keys import as_keys
from rs05bench.protocol.intake.tablefile import read_tablefile, take_apart
from rs05bench.protocol.intake.wgs84 import usable_geometries

OUTSIDE = "outside"
"""The group of a unit that lies in no polygon of a layer."""

_STATES = Path(__file__).parent / "layers" / "us_states.parquet"

# US Census Bureau, "Census Regions and Divisions of the United States".
DIVISIONS = {
    1: "New England",
    2: "Middle Atlantic",
    3: "East North Central",
    4: "West North Central",
    5: "South Atlantic",
    6: "East South Central",
    7: "West South Central",
    8: "Mountain",
    9: "Pacific",
}

# NOAA NCEI, "U.S. Climate Regions" (Karl and Koss 1984, Historical Climatology Series 4-3); contiguous states only.
CLIMATE_REGIONS = {
    "Northwest": ("ID", "OR", "WA"),
    "West": ("CA", "NV"),
    "Southwest": ("AZ", "CO", "NM", "UT"),
    "Northern Rockies and Plains": ("MT", "ND", "NE", "SD", "WY"),
    "Upper Midwest": ("IA", "MI", "MN", "WI"),
    "South": ("AR", "KS", "LA", "MS", "OK", "TX"),
    "Ohio Valley": ("IL", "IN", "KY", "MO", "OH", "TN", "WV"),
    "Southeast": ("AL", "FL", "GA", "NC", "SC", "VA"),
    "Northeast": ("CT", "DC", "DE", "MA", "MD", "ME", "NH", "NJ", "NY", "PA", "RI", "VT"),
}

type Layer = str | Path | gpd.GeoDataFrame
"""A polygon layer: a vector file, GeoParquet, or a table."""


@lru_cache(maxsize=1)
def us_states() -> gpd.GeoDataFrame:
    """The states and the District of Columbia, simplified to about 2 km from the Census Bureau's TIGER/Line 2024 (public domain).

    Returns:
        WGS84 polygons with `state` (two letters), `state_name`, `state_fips`, `division` and `climate_region` (`outside` for AK and HI).
    """
    states = gpd.read_parquet(_STATES)
    states["division"] = states.pop("division_code").map(DIVISIONS)
    region = {state: name for name, members in CLIMATE_REGIONS.items() for state in members}
    states["climate_region"] = states["state"].map(region).fillna(OUTSIDE)
    return states


def read_polygons(layer: Layer, *, name: str | None = None) -> gpd.GeoDataFrame:
    """Read a polygon layer and make sure that it can be laid over other data.

    Args:
        layer: GeoPackage, Shapefile, GeoJSON, GeoParquet, or a table.
        name: Layer inside a GeoPackage; default the only one.

    Raises:
        DataError: Unreadable, no CRS, other geometries than polygons, or no polygon with an area.

    Polygons that cross themselves are made valid with all their area, and rows without a polygon are left out, under a warning that names
    them.
    """
    source: str | Path = "layer" if isinstance(layer, gpd.GeoDataFrame) else Path(layer)
    if isinstance(source, Path):
        if not take_apart(source)[0].exists():
            raise missing_data("the file does not exist", source, "Give the path of the polygon file.")
        if source.is_dir() and not any(source.iterdir()):
            raise missing_data("the folder is empty", source, "Give the path of the polygon file.")
    frame = layer.copy() if isinstance(layer, gpd.GeoDataFrame) else read_tablefile(layer, layer=name).as_geodataframe()
    if frame.crs is None:
        raise DataError("has no coordinate reference system (CRS)", source=source, remedy="Set it, e.g. with `frame.set_crs(...)`.")
    if len(frame) == 0:
        raise DataError("holds no feature", source=source)
    kinds = set(frame.geometry[~frame.geometry.is_empty].geom_type.dropna()) - {"Polygon", "MultiPolygon", "GeometryCollection"}
    if kinds:
        raise DataError(f"expected polygons everywhere, found {', '.join(sorted(kinds))}", source=source, remedy="Leave the others out.")
    return usable_geometries(frame, None, source=source)


def locate(units: gpd.GeoDataFrame, layer: gpd.GeoDataFrame, column: str, *, source: str = "layer") -> pd.Series:
    """The polygon each unit lies in.

    The polygon that holds the middle of the unit wins; where none does (a chip that reaches over the coast), the one that covers most of
    it.

    Args:
        units: WGS84 geometries; the index is kept.
        layer: From `read_polygons`, any CRS.
        column: The column of the layer that names the group.
        source: The layer's name for messages.

    Returns:
        Strings; `OUTSIDE` where no polygon meets the unit.

    Raises:
        DataError: The column is missing or blank.
    """
    if column not in layer.columns:
        known = ", ".join(str(name) for name in layer.columns if name != layer.geometry.name)
        raise DataError(f"column {column!r} is missing; there are: {known}", source=source)
    names = as_keys(layer[column])
    if names.isna().any():
        raise DataError(f"column {column!r} is blank in {int(names.isna().sum())} rows", source=source)
    polygons = layer[[column, layer.geometry.name]].to_crs(4326).reset_index(drop=True)
    middles = units.geometry.representative_point()
    rows, hits = polygons.sindex.query(middles, predicate="intersects")
    found = np.full(len(units), -1)
    # A point on a shared border meets two polygons: the first in file order, on every machine.
    order = np.lexsort((hits, rows))[::-1]
    found[rows[order]] = hits[order]
    for row in np.flatnonzero(found < 0):
        shape = units.geometry.iloc[row]
        near = np.sort(polygons.sindex.query(shape, predicate="intersects"))
        if len(near):
            found[row] = near[int(np.argmax(shapely.area(shapely.intersection(polygons.geometry.iloc[near].to_numpy(), shape))))]
    return pd.Series(np.where(found >= 0, names.to_numpy(dtype=object)[found], OUTSIDE), index=units.index, dtype=object, name=column)


def add_groups(units: gpd.GeoDataFrame, layers: Mapping[str, tuple[Layer, str]] | None) -> gpd.GeoDataFrame:
    """Add `state`, `division`, `climate_region` from the bundled layer and one column for each further layer.

    Args:
        units: WGS84 geometries.
        layers: Group column -> (layer, its column), e.g. `{"ecoregion": ("us_eco_l3.gpkg", "US_L3NAME")}`. A layer named `state`
        replaces the
            bundled one.
    """
    given: dict[str, tuple[Any, str]] = dict(layers or {})
    out = units.copy()
    for name in ("state", "division", "climate_region"):
        if name not in given:
            out[name] = locate(out, us_states(), name, source=_STATES.name)
    for name, (layer, column) in given.items():
        label = "layer" if isinstance(layer, gpd.GeoDataFrame) else str(layer)
        out[name] = locate(out, read_polygons(layer), column, source=label)
    return out


def same_ground(unit_ids: Sequence[str], footprints: Sequence[shapely.Polygon]) -> list[str]:
    """The place of each chip: the first id among those that share more than half of their ground, directly or through others.

    Args:
        unit_ids: Sorted.
        footprints: In one CRS, in the same order.
    """
    shapes = np.array(footprints, dtype=object)
    one, other = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    one, other = one[one < other], other[one < other]
    smaller = np.minimum(shapely.area(shapes[one]), shapely.area(shapes[other]))
    shared = shapely.area(shapely.intersection(shapes[one], shapes[other])) > smaller / 2
    links = coo_array((np.ones(int(shared.sum())), (one[shared], other[shared])), shape=(len(shapes), len(shapes)))
    _, ground = connected_components(links, directed=False)
    _, first = np.unique(ground, return_index=True)
    return [unit_ids[first[number]] for number in ground]
