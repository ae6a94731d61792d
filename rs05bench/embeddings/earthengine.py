"""Earth Engine as one more source of the same embeddings: tables of points and polygons, chips of pixels, and table exports.

Tested against a loopback stand-in of the endpoints that the `earthengine-api` client calls. **Never run against the real service**: that
needs a registered project.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.embeddings.products import EmbeddingProduct, product
from rs05bench.errors import DataError
from rs05bench.extras import require
from rs05bench.protocol.pixel_grid import WGS84, GeoBoxLike, Grid, transformer, utm_zone, zone_of

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

_LARGEST_ANSWER = 48 << 20  # bytes of pixels that one request may have
_FEATURES = 500  # in one request: the request body is limited too
_SUFFIXES = {"mean": "mean", "min": "min", "max": "max", "std": "stdDev"}


class EarthEngine:
    """The annual embedding in Earth Engine.

    Args:
        project: The Cloud project that requests are counted for.
        credentials: As `ee.Initialize` takes them; the default are those that `earthengine authenticate` stored.
        url: Another address than the service's, e.g. of a stand-in.
        of: The product; its record names the image collection (access `earthengine`).
    """

    portion = _FEATURES

    def __init__(
        self, project: str | None = None, *, credentials: Any = "persistent", url: str | None = None, of: EmbeddingProduct | None = None
    ) -> None:
        self.product = of if of is not None else product()
        if "earthengine" not in self.product.access:
            raise DataError(
                f"{self.product.name} is not in Earth Engine", remedy=f"It is at: {', '.join(self.product.access) or 'unknown'}."
            )
        self._bands = self.product.bands
        ee: Any = require("ee", purpose="reading from Earth Engine")
        try:
            ee.Initialize(credentials=credentials, project=project, url=url)
        except Exception as error:  # the client raises its own, google-auth's and requests' exceptions
            raise DataError(
                f"Earth Engine cannot be reached: {str(error).strip().splitlines()[0][:300]}",
                remedy="Run `earthengine authenticate` and name a registered project with --project.",
            ) from error
        self._ee, self._collection = ee, self.product.access["earthengine"]
        self.description = f"earthengine:{self._collection}"

    @property
    def years(self) -> None:
        """Earth Engine is not asked which years it has."""
        return None

    def tiles(self, bounds: tuple[float, float, float, float] | None, year: int) -> gpd.GeoDataFrame:
        """The UTM zones that WGS84 bounds meet: Earth Engine cuts pixels wherever it is asked."""
        import geopandas as gpd
        import shapely

        west, south, east, north = bounds if bounds is not None else (-180.0, -80.0, 180.0, 84.0)
        zones = [f"{number}{half}" for number in range(1, 61) for half in "NS"]
        boxes = [
            shapely.box(-186 + 6 * int(z[:-1]), 0 if z[-1] == "N" else -80, -180 + 6 * int(z[:-1]), 84 if z[-1] == "N" else 0)
            for z in zones
        ]
        frame = gpd.GeoDataFrame(
            {"tile_id": [f"{year}/{zone}" for zone in zones], "year": year, "crs": [_zone_crs(zone) for zone in zones]},
            geometry=boxes,
            crs=WGS84,
        )
        return frame[frame.intersects(shapely.box(west, south, east, north))].reset_index(drop=True)

    def read(self, geobox: GeoBoxLike | Grid, year: int) -> NDArray[np.float32]:
        """The components on a grid in one UTM zone's CRS, `(dimensions, rows, columns)` float32."""
        grid = Grid.of(geobox)
        zone = utm_zone(grid.crs)
        if zone is None:
            raise DataError(f"expected the CRS of a UTM zone, found {grid.crs}", source=self.description)
        return self.product.codec.decode(self._cut(year, zone, grid))

    def observation_counts(self, lon: ArrayLike, lat: ArrayLike, year: int) -> dict[str, NDArray[np.float32]]:
        """None is recorded."""
        return {}

    def portions_of(self, lon: ArrayLike, lat: ArrayLike, year: int) -> NDArray[np.int64]:
        """All alike: the service does the work."""
        return np.zeros(np.size(lon), dtype=np.int64)

    def points(
        self, lon: ArrayLike, lat: ArrayLike, year: int, *, on_tile: Callable[[str, int], None] | None = None
    ) -> NDArray[np.float32]:
        """The embedding at points, `(n, dimensions)` float32; NaN where Earth Engine has no unmasked pixel.

        Points are asked for by UTM zone, on that zone's own ten-metre grid, so that no pixel is resampled.
        """
        ee = self._ee
        lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
        out = np.full((lon.size, len(self._bands)), np.nan, dtype=np.float32)
        zones = zone_of(lon, lat)
        for zone in np.unique(zones):
            members = np.flatnonzero(zones == zone)
            for start in range(0, members.size, _FEATURES):
                chosen = members[start : start + _FEATURES]
                features = [ee.Feature(ee.Geometry.Point([float(lon[i]), float(lat[i])]), {"unit": int(i)}) for i in chosen]
                found = self._reduce(features, year, str(zone), ee.Reducer.first())
                rows = found["unit"].to_numpy(dtype=np.int64)
                out[rows] = _columns(found, self._bands)
                if on_tile is not None:
                    on_tile(f"{self._collection}/{year}/{zone}", int(chosen.size))
        return out

    def polygons(
        self,
        polygons: gpd.GeoSeries,
        year: int,
        *,
        stats: Sequence[str] = ("mean", "max", "std"),
        on_tile: Callable[[str, int], None] | None = None,
    ) -> pd.DataFrame:
        """Statistics of polygons, columns as `read_polygons` names them but without `pixels` and `covered`."""
        import pandas as pd

        ee = self._ee
        shapes = polygons.to_crs(WGS84)
        centres = shapes.representative_point()
        zones = zone_of(centres.x.to_numpy(), centres.y.to_numpy())
        names = {stat: [band if stat == "mean" else f"{band}_{stat}" for band in self._bands] for stat in stats}
        out = pd.DataFrame(np.nan, index=polygons.index, columns=[name for group in names.values() for name in group], dtype=np.float32)
        for zone in np.unique(zones):
            members = np.flatnonzero(zones == zone)
            for start in range(0, members.size, _FEATURES):
                chosen = members[start : start + _FEATURES]
                features = [ee.Feature(self._geometry(shapes.iloc[i]), {"unit": int(i)}) for i in chosen]
                found = self._reduce(features, year, str(zone), self._reducer(stats))
                rows = found["unit"].to_numpy(dtype=np.int64)
                for stat, columns in names.items():
                    # One reducer alone names its outputs after the bands, several add their own name.
                    asked = [f"{band}_{_SUFFIXES[stat]}" for band in self._bands] if len(stats) > 1 else _single(found, stat, self._bands)
                    out.iloc[rows, [out.columns.get_loc(name) for name in columns]] = _columns(found, asked)
                if on_tile is not None:
                    on_tile(f"{self._collection}/{year}/{zone}", int(chosen.size))
        return out

    def chip(
        self, lon: float, lat: float, size: int, year: int, *, on_tile: Callable[[str, int], None] | None = None
    ) -> tuple[NDArray[Any], Grid]:
        """The native chip around a place: `(dimensions, size, size)` as stored, and its grid."""
        zone = str(zone_of(lon, lat))
        crs = _zone_crs(zone)
        x, y = transformer(WGS84, crs).transform(lon, lat)
        west, north = 10.0 * (np.floor(x / 10) - size // 2), 10.0 * (np.ceil(y / 10) + size // 2)
        grid = Grid(crs, west, north, 10.0, 10.0, size, size)
        out = self._cut(year, zone, grid)
        if on_tile is not None:
            on_tile(f"{self._collection}/{year}/{zone}", 1)
        return out, grid

    def _cut(self, year: int, zone: str, grid: Grid) -> NDArray[Any]:
        """The stored values of a grid, in requests of bounded size."""
        side = int(np.sqrt(_LARGEST_ANSWER / (8 * len(self._bands))))
        out = np.empty((len(self._bands), grid.height, grid.width), dtype=self.product.codec.dtype)
        for row in range(0, grid.height, side):
            for column in range(0, grid.width, side):
                height, width = min(side, grid.height - row), min(side, grid.width - column)
                affine = grid.transform(row, column)
                out[:, row : row + height, column : column + width] = self._pixels(year, zone, grid.crs, affine, height, width)
        return out

    def export_table(self, units: gpd.GeoDataFrame, year: int, *, stats: Sequence[str], to: str, description: str) -> str:
        """Start an export of a table on the server, for more units than requests can carry; returns the task's name.

        Args:
            units: Points or polygons with a column `unit_id`.
            year: The year.
            stats: Which statistics of polygons.
            to: `drive:FOLDER` or `gs://bucket/prefix`.
            description: The task's name in the task list.
        """
        ee = self._ee
        shapes = units.to_crs(WGS84)
        centres = shapes.geometry.representative_point()
        zones = zone_of(centres.x.to_numpy(), centres.y.to_numpy())
        table = None
        for zone in np.unique(zones):
            features = [
                ee.Feature(self._geometry(shape), {"unit_id": str(unit), "year": int(year)})
                for shape, unit, of in zip(shapes.geometry, shapes["unit_id"], zones, strict=True)
                if of == zone
            ]
            points = all(shape.geom_type == "Point" for shape in shapes.geometry)
            part = self._reduction(features, year, str(zone), ee.Reducer.first() if points else self._reducer(stats))
            table = part if table is None else table.merge(part)
        if to.startswith("drive:"):
            task = ee.batch.Export.table.toDrive(collection=table, description=description, folder=to[6:], fileFormat="CSV")
        elif to.startswith("gs://"):
            bucket, _, prefix = to[5:].partition("/")
            task = ee.batch.Export.table.toCloudStorage(
                collection=table, description=description, bucket=bucket, fileNamePrefix=prefix or description, fileFormat="CSV"
            )
        else:
            raise DataError(f"cannot export to {to!r}", remedy="Use drive:FOLDER or gs://bucket/prefix.")
        task.start()
        return str(task.id)

    def _image(self, year: int, zone: str) -> Any:
        """One year of one zone as an image; tiles of a zone share one grid."""
        ee = self._ee
        collection = ee.ImageCollection(self._collection).filterDate(f"{year}-01-01", f"{year + 1}-01-01")
        return collection.filter(ee.Filter.eq("UTM_ZONE", zone)).mosaic().select(list(self._bands))

    def _geometry(self, shape: Any) -> Any:
        """A geometry with straight edges in degrees, as files mean them; a point has none."""
        ee = self._ee
        return ee.Geometry.Point([shape.x, shape.y]) if shape.geom_type == "Point" else ee.Geometry(shape.__geo_interface__, None, False)

    def _reducer(self, stats: Sequence[str]) -> Any:
        ee = self._ee
        makers = {"mean": ee.Reducer.mean, "min": ee.Reducer.min, "max": ee.Reducer.max, "std": ee.Reducer.stdDev}
        reducer = makers[stats[0]]()
        for stat in stats[1:]:
            reducer = reducer.combine(makers[stat](), sharedInputs=True)
        return reducer

    def _reduction(self, features: list[Any], year: int, zone: str, reducer: Any) -> Any:
        ee = self._ee
        regions = ee.FeatureCollection(features)
        return self._image(year, zone).reduceRegions(collection=regions, reducer=reducer, scale=10, crs=_zone_crs(zone))

    def _reduce(self, features: list[Any], year: int, zone: str, reducer: Any) -> pd.DataFrame:
        request = {"expression": self._reduction(features, year, zone, reducer), "fileFormat": "PANDAS_DATAFRAME", "pageSize": _FEATURES}
        try:
            found = self._ee.data.computeFeatures(request)
        except Exception as error:
            raise DataError(
                f"Earth Engine refused a table of {len(features)} features: {str(error)[:300]}", source=self.description
            ) from error
        if len(found) != len(features) or "unit" not in found:
            raise DataError(f"Earth Engine answered {len(found)} of {len(features)} features", source=self.description)
        return found

    def _pixels(self, year: int, zone: str, crs: str, affine: tuple[float, ...], height: int, width: int) -> NDArray[Any]:
        a, b, c, d, e, f = affine
        grid = {
            "dimensions": {"width": width, "height": height},
            "affineTransform": {"scaleX": a, "shearX": b, "translateX": c, "shearY": d, "scaleY": e, "translateY": f},
            "crsCode": crs,
        }
        # Masked pixels would come as zeros, which are valid components: give them a value that cannot occur.
        image = self._image(year, zone).unmask(-9).toFloat()
        try:
            found = self._ee.data.computePixels({"expression": image, "fileFormat": "NUMPY_NDARRAY", "grid": grid})
        except Exception as error:
            raise DataError(
                f"Earth Engine refused a chip of {height} x {width} pixels: {str(error)[:300]}", source=self.description
            ) from error
        if found.dtype.names is None or set(self._bands) - set(found.dtype.names) or found.shape != (height, width):
            raise DataError(
                f"expected {height} x {width} pixels of {len(self._bands)} bands, found {found.shape} {found.dtype}",
                source=self.description,
            )
        values = np.stack([found[band] for band in self._bands]).astype(np.float32)
        values[values < -1.5] = np.nan
        return self.product.codec.encode(values, axis=0)


def _zone_crs(zone: str) -> str:
    """The CRS of a UTM zone such as `10N`."""
    return f"EPSG:{(32600 if zone[-1] == 'N' else 32700) + int(zone[:-1])}"


def _single(found: pd.DataFrame, stat: str, bands: Sequence[str]) -> list[str]:
    """How a lone reducer named its outputs."""
    return list(bands) if bands[0] in found else [f"{band}_{_SUFFIXES[stat]}" for band in bands]


def _columns(found: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float32]:
    """Columns as floats; Earth Engine leaves a property out where every pixel is masked."""
    return found.reindex(columns=list(names)).astype(np.float32).to_numpy()
