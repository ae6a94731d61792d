"""Lines, points and polygons of a vector file, and local metric projections to measure in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.geodesy import DEGREE_M, crs_unit_metres, degrees_around, metres_per_degree
from rs05bench.protocol.intake.tablefile import read_tablefile

if TYPE_CHECKING:
    import geopandas as gpd

CELL = 0.25
"""Side of an area that is measured in one projection, degrees."""

_STRAIGHT_M = 1000.0
"""Lines are cut into pieces of this length before they are projected: a line is straight in its file's own CRS."""

Float = NDArray[np.float64]
Shapes = NDArray[Any]


@dataclass
class Features:
    """The geometries of vector files, WGS84, chosen by `where`.

    Attributes:
        paths: GeoPackage, Shapefile, GeoJSON or GeoParquet.
        where: Column -> the values to keep, e.g. `{"fclass": ["motorway", "primary"]}`.
        layer: Layer inside GeoPackages that hold several.
        coverage: Polygons of the area that the files cover in full; default the box around everything in them.
    """

    paths: Sequence[Path]
    where: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    layer: str | None = None
    coverage: Path | None = None

    def __post_init__(self) -> None:
        if not self.paths:
            raise DataError("a vector layer needs at least one file", remedy="GeoPackage, Shapefile, GeoJSON or GeoParquet.")

    @cached_property
    def shapes(self) -> Shapes:
        """All chosen geometries, straight lines cut so that projecting them moves nothing."""
        parts = [self._read(Path(path)) for path in sorted(self.paths)]
        shapes = np.concatenate(parts)
        if not len(shapes):
            chosen = ", ".join(f"{column} in {list(values)}" for column, values in self.where.items())
            raise DataError(
                f"holds no feature{f' with {chosen}' if chosen else ''}",
                source=Path(self.paths[0]),
                remedy="Compare the values of the column." if chosen else None,
            )
        return shapes

    @cached_property
    def tree(self) -> Any:
        """Index of `shapes` in degrees."""
        import shapely

        return shapely.STRtree(self.shapes)

    @cached_property
    def area(self) -> Any:
        """What the files cover, WGS84."""
        import shapely

        if self.coverage is None:
            return shapely.box(*shapely.total_bounds(self.shapes))
        from rs05bench.datasets.geography import read_polygons

        return shapely.union_all(read_polygons(self.coverage).to_crs(4326).geometry.to_numpy())

    def covers(self, lon: Float, lat: Float) -> NDArray[np.bool_]:
        """Which positions lie in the covered area."""
        import shapely

        shapely.prepare(self.area)
        return np.asarray(shapely.intersects_xy(self.area, lon, lat))

    def near(self, bounds: tuple[float, float, float, float], reach: float) -> NDArray[np.int64]:
        """Positions in `shapes` of what may lie within `reach` metres of a box in degrees; also across 180 degrees east."""
        import shapely

        west, south, east, north = bounds
        around, margin = degrees_around(reach, max(abs(south), abs(north)))
        down, up, wide = south - margin, north + margin, float(around)
        west, east = west - wide, east + wide
        boxes = [shapely.box(west, down, east, up)]
        if west < -180:
            boxes.append(shapely.box(west + 360, down, 180, up))
        if east > 180:
            boxes.append(shapely.box(-180, down, east - 360, up))
        return np.unique(self.tree.query(boxes)[1])

    def _read(self, path: Path) -> Shapes:
        import shapely

        frame = _open(path, self.layer, list(self.where))
        for column, values in self.where.items():
            if column not in frame.columns:
                known = ", ".join(str(name) for name in frame.columns if name != frame.geometry.name)
                raise DataError(f"has no column {column!r}; there are: {known}", source=path)
            frame = frame[frame[column].isin(list(values))]
        shapes = frame.geometry.to_numpy()
        shapes = shapes[~(shapely.is_missing(shapes) | shapely.is_empty(shapes))]
        strange = sorted({str(kind) for kind in frame.geometry.geom_type.dropna()} - _KINDS)
        if strange:
            raise DataError(f"expected points, lines or polygons, found {', '.join(strange)}", source=path)
        longest = _STRAIGHT_M / crs_unit_metres(frame.crs)
        shapes = shapely.segmentize(shapely.force_2d(shapes), longest)
        if frame.crs.to_epsg() != 4326:
            import geopandas as gpd

            shapes = gpd.GeoSeries(shapes, crs=frame.crs).to_crs(4326).to_numpy()
        bounds = shapely.bounds(shapes)
        if len(shapes) and (not np.isfinite(bounds).all() or np.abs(bounds[:, 1::2]).max() > 90 or np.abs(bounds[:, ::2]).max() > 180.01):
            raise DataError(
                "its coordinates do not fit its coordinate reference system (CRS)", source=path, remedy="Declare the right CRS."
            )
        return shapes


_KINDS = {"Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon"}


def _open(path: Path, layer: str | None, columns: list[str]) -> gpd.GeoDataFrame:
    def wanted(fields: list[str]) -> list[str]:
        return [column for column in columns if column in fields] if set(columns) <= set(fields) else fields

    return read_tablefile(path, layer=layer, only=wanted).as_geodataframe()


class Plane:
    """A metric plane around a place: the azimuthal equidistant projection of WGS84, exact from its centre.

    Within 20 km of the centre, distances of up to 50 km are true to about 1 in 100,000.
    """

    def __init__(self, lon: float, lat: float) -> None:
        from pyproj import Transformer

        self._forward = Transformer.from_crs(4326, f"+proj=aeqd +lat_0={lat!r} +lon_0={lon!r} +datum=WGS84 +units=m", always_xy=True)

    def xy(self, lon: Float, lat: Float) -> Float:
        """Metres east and north, (n, 2)."""
        return np.column_stack(self._forward.transform(lon, lat))

    def project(self, shapes: Shapes) -> Shapes:
        """Geometries in metres."""
        import shapely

        return shapely.transform(shapes, lambda xy: self.xy(xy[:, 0], xy[:, 1]))


def cells(lon: Float, lat: Float) -> Iterator[tuple[NDArray[np.int64], Plane, tuple[float, float, float, float]]]:
    """Positions that are measured in one plane: their rows, the plane, and the box around them in degrees."""
    # Cells are even on the ground: towards the poles they span more degrees of longitude.
    band = np.floor(lat / CELL)
    wide = CELL / np.maximum(metres_per_degree((band + 0.5) * CELL)[0] / DEGREE_M, 0.05)
    key = band * 100_000 + np.floor((lon + 180) / wide)
    order = np.argsort(key, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        if len(rows):
            box = float(lon[rows].min()), float(lat[rows].min()), float(lon[rows].max()), float(lat[rows].max())
            yield rows, Plane((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), box


def to_edge(features: Features, plane: Plane, points: Shapes, box: tuple[float, float, float, float], reach: float) -> Float:
    """Metres from points (in the plane) to the border of the covered area; infinite where it is further than `reach`."""
    import shapely

    west, south, east, north = box
    wide, margin = degrees_around(1.5 * reach, max(abs(south), abs(north)))
    around = shapely.box(west - wide, south - margin, east + wide, north + margin)
    edge = shapely.intersection(shapely.boundary(features.area), around)
    if edge.is_empty:
        return np.full(len(points), np.inf)
    distance = shapely.distance(points, plane.project(np.array([shapely.segmentize(edge, _STRAIGHT_M / DEGREE_M)]))[0])
    return np.where(distance <= reach, distance, np.inf)
