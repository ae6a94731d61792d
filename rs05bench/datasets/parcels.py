"""Parcels: polygons with a crop label over any raster, and their labels from the Cropland Data Layer where nobody asked the farmer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypedDict, Unpack

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio.features
import rasterio.transform
import rasterio.windows
import shapely
import torch
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS

from rs05bench.datasets.cdl_classes import CDL_TABLE, CROP_CLASSES
from rs05bench.datasets.chips import WGS84, Sample
from rs05bench.datasets.files import refuse_unknown
from rs05bench.datasets.geography import Layer, add_groups, read_polygons
from rs05bench.datasets.polygon_values import PolygonDataset, require_columns, unique_ids
from rs05bench.datasets.rasters import RasterHeader, missing_pixels, read_header, read_meant
from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file
from rs05bench.protocol.intake.keys import as_keys, refuse_lost_digits, two_spellings
from rs05bench.protocol.pixel_grid import transformer


class ParcelFile(TypedDict, total=False):
    """What else is said of a file of parcels: keywords of `Parcels`, described there."""

    layer: str | None
    classes: Sequence[str] | None
    layers: Mapping[str, tuple[Layer, str]] | None


class Parcels(PolygonDataset):
    """Field polygons with one class each.

    Reads GeoPackage, Shapefile, GeoJSON and GeoParquet. `chip(unit_id)` cuts the parcel out of a raster in that raster's own pixels and
    CRS; the polygon moves to the pixels, never the other way round. Slices hold the class index on the grid asked for, so
    `imagery & parcels` is imagery with labels. (TorchGeo joins two datasets that both hold a `mask` end to end: give `IntersectionDataset`
    a `collate_fn` then.)

    Args:
        path: The polygon file or table.
        label: Column of the class; None where there are no labels.
        unit: Column, or columns that together make the unit id; default the row number in the file.
        year: Column of the year, or the year itself.
        raster: One raster file or several, each in any CRS: the pixels for `chip`.
        crs: CRS of slices; default WGS84.
        res: Pixel size of slices in units of `crs`; default 10 m.
        transforms: Called on every sample.
        **file: `layer` inside a GeoPackage, default the only one; `classes`, names in the order of their index, default all that occur,
            sorted; `layers`, further group columns of `units()`: name -> (polygon layer, its column), e.g.
            `{"county": ("counties.gpkg", "GEOID")}`.

    Raises:
        DataError: Unreadable, no CRS, broken polygons, columns missing, a unit twice, a class that is not in `classes`.
    """

    name: ClassVar[str] = "parcels"
    licence: ClassVar[str] = "that of the polygons"
    citation: ClassVar[str] = "cite the source of the polygons"
    ignore_index: ClassVar[int] = -1

    def __init__(
        self,
        path: Layer,
        *,
        label: str | None = "crop",
        unit: str | Sequence[str] = (),
        year: str | int = "year",
        raster: str | Path | Sequence[str | Path] = (),
        crs: CRS | str | int | None = None,
        res: float | tuple[float, float] | None = None,
        transforms: Callable[[Sample], Sample] | None = None,
        **file: Unpack[ParcelFile],
    ) -> None:
        source = "parcels" if isinstance(path, gpd.GeoDataFrame) else str(path)
        refuse_unknown(file, ParcelFile)
        self.layers, classes = dict(file.get("layers") or {}), file.get("classes")
        frame = read_polygons(path, name=file.get("layer")).to_crs(4326)
        unit = [unit] if isinstance(unit, str) else unit
        wanted = [*unit, *([label] if label else []), *([year] if isinstance(year, str) else [])]
        require_columns(frame, wanted, source)
        names = as_keys(frame[label]).fillna("") if label else pd.Series("", index=frame.index)
        if again := two_spellings(set(names) - set(classes or ()) - {""}, set(names) & set(classes or ())):
            raise DataError(f"column {label!r} holds one class in two spellings: {again[0]}", source=source, remedy="Write it one way.")
        self.classes = tuple(classes) if classes is not None else tuple(sorted(set(names) - {""}))
        unknown = sorted(set(names) - {"", *self.classes})
        if unknown:
            raise DataError(f"class {unknown[0]!r} is not among {', '.join(self.classes)}", source=source, remedy="Add it to `classes`.")
        years = pd.to_numeric(frame[year], errors="coerce") if isinstance(year, str) else pd.Series(year, index=frame.index)
        if years.isna().any() or not years.between(1984, 2100).all():
            raise DataError(
                f"column {year!r} must hold years; it does not in {int((~years.between(1984, 2100)).sum())} rows", source=source
            )
        kept = gpd.GeoDataFrame(geometry=frame.geometry.to_numpy(), crs=WGS84)
        kept["unit_id"] = _unit_names(frame, unit, source) if unit else _row_names(frame.index)
        unique_ids(kept["unit_id"], source)
        kept["class"] = names.to_numpy(dtype=object)
        kept["start"] = pd.to_datetime(years.astype(int).astype(str).to_numpy() + "-01-01")
        kept["end"] = pd.to_datetime((years.astype(int) + 1).astype(str).to_numpy() + "-01-01") - pd.Timedelta(microseconds=1)
        super().__init__(kept.sort_values("unit_id", kind="stable"), source, crs=crs, res=res, transforms=transforms)
        index = {name: position for position, name in enumerate(self.classes)}
        self._labels = np.array([index.get(name, self.ignore_index) for name in self.frame["class"]], dtype=np.int64)
        files = [raster] if isinstance(raster, str | Path) else list(raster)
        self.rasters = [read_header(file, whole=False, north_up=False) for file in files]

    def units(self) -> gpd.GeoDataFrame:
        """All parcels with what a split can move; no label among them.

        Returns:
            Sorted by `unit_id`, WGS84: `unit_id`, `lon`, `lat` (a point inside), `year`, `date`, `area_ha` (on the ellipsoid), `state`,
            `division`,
            `climate_region`, the columns of `layers`.
        """
        units = self._base_units()
        geod = WGS84.get_geod()
        assert geod is not None
        units["area_ha"] = [abs(geod.geometry_area_perimeter(shape)[0]) / 10_000 for shape in units.geometry]
        return add_groups(units, self.layers)

    def labels(self) -> pd.Series:
        """Class names by unit id; missing where the parcel has none."""
        return pd.Series(
            self.frame["class"].replace("", None).to_numpy(dtype=object), index=pd.Index(self.unit_ids, name="unit_id"), name="class"
        )

    def chip(self, unit_id: str) -> Sample:
        """The pixels over one parcel, in the raster's own grid, rows from north to south.

        Returns:
            `image` (float32, bands x rows x columns of the parcel's bounding box, NaN where missing), `inside` (bool: pixel centre in
            the polygon; the nearest
            pixel where the parcel is smaller than one), `label` (class index, -1 without a label), `unit_id`, `crs`, `transform`.

        Raises:
            DataError: Unknown unit, no raster given, or none that holds the whole parcel.
        """
        row = self.row(unit_id)
        header, shape = self._covering(row)
        image, inside, transform = _cut(header, shape)
        sample: Sample = {
            "image": torch.from_numpy(image),
            "inside": torch.from_numpy(inside),
            "label": int(self._labels[row]),
            "unit_id": unit_id,
            "crs": _short(header.grid.crs),
            "transform": torch.tensor(tuple(transform)[:9]),
        }
        return self.transforms(sample) if self.transforms is not None else sample

    def majority(self, table: NDArray[np.uint8] = CDL_TABLE, classes: Sequence[str] = CROP_CLASSES) -> pd.DataFrame:
        """Label every parcel by vote of the pixels of a class raster, by default the Cropland Data Layer with the 13 classes.

        Args:
            table: Raster code -> class value, 0 = no vote.
            classes: Names of the values from 1 on.

        Returns:
            By `unit_id`: `class` (missing where no pixel votes; the first in order where votes are equal), `share` of the votes it won,
            `pixels` that voted.

        Raises:
            DataError: No raster given, or none that holds the parcel, or codes that are no codes.
        """
        rows = []
        for unit_id in self.unit_ids:
            header, shape = self._covering(self.row(unit_id))
            image, inside, _ = _cut(header, shape)
            codes = image[0][inside & ~np.isnan(image[0])]
            if len(codes) and (codes.min() < 0 or codes.max() >= len(table) or (codes % 1 != 0).any()):
                raise DataError(
                    f"expected class codes from 0 to {len(table) - 1}, found {codes.min():g} to {codes.max():g}", source=header.path
                )
            votes = np.bincount(table[codes.astype(np.int64)], minlength=len(classes) + 1)[1:]
            total = int(votes.sum())
            winner = int(votes.argmax()) if total else -1
            rows.append((classes[winner] if total else None, votes[winner] / total if total else np.nan, total))
        return pd.DataFrame(rows, columns=["class", "share", "pixels"], index=pd.Index(self.unit_ids, name="unit_id"))

    def plot(self, sample: Sample, show_titles: bool = True, suptitle: str | None = None) -> Any:
        """Draw a parcel's pixels with its outline, or the classes of a slice.

        Args:
            sample: From `chip`, or from slicing (which may hold `prediction`, class indices).
            show_titles: Title over the panel.
            suptitle: Title over all.

        Returns:
            A matplotlib Figure.
        """
        from rs05bench.datasets.plotting import plot_classes, plot_parcel

        if "image" not in sample:
            return plot_classes(sample, self.classes, show_titles=show_titles, suptitle=suptitle)
        return plot_parcel(sample, self.classes, show_titles=show_titles, suptitle=suptitle)

    def _burn(self, where: NDArray[np.int64]) -> Sample:
        padded = np.append(self._labels, self.ignore_index)  # row -1: no polygon
        return {"mask": torch.from_numpy(padded[where])}

    def _covering(self, row: int) -> tuple[RasterHeader, shapely.Geometry]:
        """The first raster that holds the whole parcel, and the parcel in that raster's CRS."""
        if not self.rasters:
            raise DataError("no raster was given, so there are no pixels to cut", source=self.source, remedy="Pass raster=FILE.")
        polygon = self.frame.geometry.iloc[row]
        for header in self.rasters:
            move = transformer("EPSG:4326", header.grid.crs).transform
            shape = shapely.transform(polygon, move, interleaved=False)
            # A parcel on the raster's edge must not fall off it by the rounding of a transformation.
            frame = shapely.box(*header.grid.bounds).buffer(0.01 * abs(header.transform.a), join_style="mitre")
            if np.isfinite(shape.bounds).all() and frame.covers(shape):
                return header, shape
        raise DataError(
            f"parcel {self.frame['unit_id'].iloc[row]!r} (at {polygon.centroid.x:.4f}, {polygon.centroid.y:.4f}) "
            f"lies in none of the {len(self.rasters)} rasters",
            source=self.source,
        )


def _cut(header: RasterHeader, shape: shapely.Geometry) -> tuple[NDArray[np.float32], NDArray[np.bool_], Any]:
    # By the inverse transform: rows of a published AlphaEarth tile run north, which `windows.from_bounds` does not take.
    west, south, east, north = shape.bounds
    (x0, y0), (x1, y1) = ~header.transform @ (west, north), ~header.transform @ (east, south)
    # A hundredth of a pixel that a parcel reaches into the next one is rounding, not land.
    top, left = max(int(np.floor(min(y0, y1) + 0.01)), 0), max(int(np.floor(x0 + 0.01)), 0)
    bottom = min(max(int(np.ceil(max(y0, y1) - 0.01)), top + 1), header.height)
    right = min(max(int(np.ceil(x1 - 0.01)), left + 1), header.width)
    exact = rasterio.windows.Window(left, top, right - left, bottom - top)
    try:
        with open_raster_file(header.path) as src:
            image = read_meant(src, window=exact).astype(np.float32)
    except rasterio.errors.RasterioError as error:
        raise DataError(f"its pixels cannot be read ({error})", source=header.path) from None
    image[:, missing_pixels(image, anywhere=(-9999.0,), everywhere=())] = np.nan
    transform = rasterio.windows.transform(exact, header.transform)
    if transform.e > 0:
        image, transform = image[:, ::-1].copy(), transform @ Affine(1, 0, 0, 0, -1, image.shape[1])
    inside = rasterio.features.geometry_mask([shape], image.shape[1:], transform, invert=True)
    if not inside.any():  # smaller than a pixel
        middle = shape.representative_point()
        row, column = rasterio.transform.rowcol(transform, middle.x, middle.y)
        inside[min(max(int(row), 0), inside.shape[0] - 1), min(max(int(column), 0), inside.shape[1] - 1)] = True
    return image, inside, transform


def _short(crs: str) -> str:
    code = CRS.from_wkt(crs).to_epsg()
    return crs if code is None else f"EPSG:{code}"


def _unit_names(frame: gpd.GeoDataFrame, unit: Sequence[str], source: str) -> NDArray[np.object_]:
    keys = pd.DataFrame({name: as_keys(frame[name]) for name in unit})
    for name in unit:
        if keys[name].isna().any():
            row = int(np.flatnonzero(keys[name].isna())[0]) + 1
            raise DataError(
                f"column {name!r} is blank in {int(keys[name].isna().sum())} rows, first row {row}", source=source, remedy="Fill it."
            )
        refuse_lost_digits(keys[name], f"column {name!r}", source=source)
        if again := two_spellings(keys[name].unique()):
            more = f", and {len(again) - 1} more" if len(again) > 1 else ""
            warnings.warn(f"{source}: column {name!r}: one unit in two spellings? {again[0]}{more}", UserWarning, stacklevel=4)
    joined: NDArray[np.object_] = keys.agg("-".join, axis=1).to_numpy(dtype=object)
    return joined


def _row_names(rows: pd.Index) -> list[str]:
    """Names by the row in the file; a row that was left out keeps its number."""
    width = len(str(max(int(rows.max()), 1)))
    return [f"row-{number:0{width}d}" for number in rows]
