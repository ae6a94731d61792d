"""How many points of interest or buildings there are around a place, or in a polygon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rs05bench.datasets.layers.layer_sources import CountSampling, LayerSource
from rs05bench.datasets.layers.sampler import Layer, note_missing, positions
from rs05bench.datasets.layers.vector_layers import Features, Plane, cells, to_edge
from rs05bench.errors import DataError

if TYPE_CHECKING:
    import geopandas as gpd


class CountSampler(Layer):
    """Number of features within a radius of a point, or in a polygon with their density and, for footprints, the share of area they cover.

    A polygon feature counts where its centroid lies, so that each counts once. Outside of what the files cover there is no number (not 0);
    how many circles or polygons reach over the edge is noted.

    Args:
        source: The layer.
        features: Points or polygons, and the area that they cover.
        name: Names the columns, `<name>_count_<radius>m`, `<name>_count`, `<name>_per_km2`, `<name>_cover`; default the source's.
        simulated: Whether the files are the simulator's.
    """

    def __init__(self, source: LayerSource, features: Features, *, name: str = "", simulated: bool = False) -> None:
        assert isinstance(source.sampler, CountSampling)
        self.features, self.radius_m = features, float(source.sampler.radius_m)
        super().__init__(source, name or source.name, [f"{name or source.name}_count_{self.radius_m:g}m"], simulated=simulated)

    def absent_over_polygons(self) -> str:
        """Why a polygon may have no value."""
        return "outside of the area that the files cover"

    def at_points(self, lon: ArrayLike, lat: ArrayLike) -> pd.DataFrame:
        """Counts within the radius of positions in degrees."""
        import shapely
        from scipy.spatial import cKDTree

        x, y, known = positions(lon, lat)
        inside = known.copy()
        inside[known] = self.features.covers(x[known], y[known])
        values, over = np.full(len(x), np.nan), 0
        here = np.flatnonzero(inside)
        for rows, plane, box in cells(x[here], y[here]):
            at = plane.xy(x[here[rows]], y[here[rows]])
            middles = self._middles(plane, box)
            values[here[rows]] = cKDTree(middles).query_ball_point(at, self.radius_m, return_length=True) if len(middles) else 0.0
            over += int((to_edge(self.features, plane, shapely.points(at), box, self.radius_m) < self.radius_m).sum())
        table = pd.DataFrame({self.columns[0]: values})
        table.attrs["notes"] = [
            *note_missing(self.name, ~inside, "no position, or outside of the area that the files cover"),
            *([f"{self.name}: the circles of {over:,} units reach over the edge of the files"] if over else []),
        ]
        return table

    def on_polygons(self, polygons: gpd.GeoDataFrame) -> pd.DataFrame:
        """Count, density and, for footprints, cover of each polygon."""
        import shapely
        from pyproj import Geod

        if polygons.crs is None:
            raise DataError("the polygons have no coordinate reference system (CRS)", remedy="Set it, e.g. with `frame.set_crs(...)`.")
        shapes = polygons.geometry.to_crs(4326).to_numpy()
        centres = shapely.STRtree(shapely.centroid(self.features.shapes))
        owner, _ = centres.query(shapes, predicate="contains_properly")
        on_border, _ = centres.query(shapely.boundary(shapes), predicate="intersects")
        count = np.bincount(owner, minlength=len(shapes)).astype(np.float64)
        # A point on a shared border belongs to both sides; a count of it in each is the honest answer.
        count += np.bincount(on_border, minlength=len(shapes))
        geod = Geod(ellps="WGS84")
        km2 = np.array([abs(geod.geometry_area_perimeter(shape)[0]) / 1e6 for shape in shapes])
        shapely.prepare(self.features.area)
        covered = shapely.intersects(self.features.area, shapely.point_on_surface(shapes))
        values = {f"{self.name}_count": count, f"{self.name}_per_km2": count / km2}
        if self._areal():
            values[f"{self.name}_cover"] = np.array([self._cover(shape) for shape in shapes])
        table = pd.DataFrame(values)
        table[~covered] = np.nan
        over = int((covered & ~shapely.covers(self.features.area, shapes)).sum())
        table.attrs["notes"] = [
            *note_missing(self.name, ~covered, self.absent_over_polygons()),
            *([f"{self.name}: {over:,} polygons reach over the edge of the files"] if over else []),
        ]
        return table

    def _middles(self, plane: Plane, box: tuple[float, float, float, float]) -> NDArray[np.float64]:
        import shapely

        near = self.features.near(box, self.radius_m)
        return shapely.get_coordinates(shapely.centroid(plane.project(self.features.shapes[near])))

    def _areal(self) -> bool:
        import shapely

        return bool((shapely.get_dimensions(self.features.shapes) == 2).all())

    def _cover(self, shape: Any) -> float:
        """Share of a polygon's area under the features, overlaps counted once."""
        import shapely

        near = self.features.tree.query(shape, predicate="intersects")
        if not len(near):
            return 0.0
        middle = shape.representative_point()
        plane = Plane(middle.x, middle.y)
        whole = plane.project(np.array([shape]))[0]
        roofs = shapely.union_all(shapely.make_valid(plane.project(self.features.shapes[near])))
        return float(shapely.area(shapely.intersection(roofs, whole)) / shapely.area(whole))
