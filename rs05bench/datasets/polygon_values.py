"""Polygons with values as a TorchGeo dataset: parcels, tracts.

Polygons can be laid on any grid without resampling a pixel, so slicing needs no explicit CRS: values are burnt into the grid the slice
asks for.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio.features
import rasterio.transform
import torch
from numpy.typing import NDArray
from pyproj import CRS
from torchgeo.datasets import GeoDataset

from rs05bench.datasets.chips import WGS84, Sample
from rs05bench.datasets.slice_lookup import default_resolution, rows_in
from rs05bench.errors import DataError


class PolygonDataset(GeoDataset, abc.ABC):
    """Base of `UrbanIndicators` and `Parcels`.

    Args:
        frame: WGS84 polygons, sorted by a unique `unit_id`, with `start` and `end` (Timestamps).
        source: The file, for messages.
        crs: CRS of the index and of slices; default WGS84.
        res: Pixel size of slices in units of `crs`; default 10 m.
        transforms: Called on every sample.
    """

    def __init__(
        self,
        frame: gpd.GeoDataFrame,
        source: Any,
        *,
        crs: CRS | str | int | None,
        res: float | tuple[float, float] | None,
        transforms: Callable[[Sample], Sample] | None,
    ) -> None:
        self.frame = frame.reset_index(drop=True)
        self.paths = source
        self.source = source
        self.transforms = transforms
        self._row = {unit_id: row for row, unit_id in enumerate(self.frame["unit_id"])}
        target = WGS84 if crs is None else CRS.from_user_input(crs)
        if res is not None:
            self._res = (float(res), float(res)) if isinstance(res, int | float) else (float(res[0]), float(res[1]))
        else:
            self._res = default_resolution(target, 10.0)
        times = pd.IntervalIndex.from_arrays(self.frame["start"], self.frame["end"], closed="both", name="datetime")
        data = {"filepath": str(source), "unit_id": self.frame["unit_id"].to_numpy()}
        self.index = gpd.GeoDataFrame(data, index=times, geometry=self.frame.geometry.to_numpy(), crs=WGS84).to_crs(target)

    def __getitem__(self, index: Any) -> Sample:
        """Values on the grid of a slice.

        Returns:
            What `_burn` makes, and `bounds` and `transform`.

        Raises:
            IndexError: Outside `bounds` in space or time; inside them a place without a polygon is an empty sample.
        """
        x, y, t = self._disambiguate_slice(index)
        rows = rows_in(self.index, (x, y, t), self.bounds)
        shape = (max(round((y.stop - y.start) / y.step), 1), max(round((x.stop - x.start) / x.step), 1))
        transform = rasterio.transform.from_origin(x.start, y.stop, x.step, y.step)
        # 0 = no polygon; written from the last to the first, so that where polygons overlap the first unit id wins, as it does for chips.
        shapes = [(shape_, self._row[unit_id] + 1) for shape_, unit_id in zip(rows.geometry, rows["unit_id"], strict=True)][::-1]
        where = rasterio.features.rasterize(shapes, shape, transform=transform, fill=0, dtype=np.int32) if shapes else np.zeros(shape)
        sample = self._burn(where.astype(np.int64) - 1)
        sample["bounds"] = self._slice_to_tensor((x, y, t))
        sample["transform"] = torch.tensor(tuple(transform)[:9])
        return self.transforms(sample) if self.transforms is not None else sample

    @property
    def dtype(self) -> torch.dtype:
        """Type of `mask`."""
        return self._burn(np.empty((0, 0), np.int64))["mask"].dtype

    @property
    def unit_ids(self) -> list[str]:
        """All unit ids, sorted."""
        return list(self._row)

    def row(self, unit_id: str) -> int:
        """Position of a unit.

        Raises:
            DataError: There is none.
        """
        if unit_id not in self._row:
            raise DataError(f"no unit {unit_id!r}; there are {len(self._row)}, e.g. {', '.join(self.unit_ids[:3])}", source=self.source)
        return self._row[unit_id]

    @abc.abstractmethod
    def _burn(self, where: NDArray[np.int64]) -> Sample:
        """Turn row numbers on a grid (-1 = no polygon) into a sample."""

    def _base_units(self) -> gpd.GeoDataFrame:
        middles = self.frame.geometry.representative_point()
        return gpd.GeoDataFrame(
            {
                "unit_id": self.frame["unit_id"].to_numpy(dtype=object),
                "lon": middles.x.to_numpy(),
                "lat": middles.y.to_numpy(),
                "year": pd.array(self.frame["start"].dt.year, dtype="Int64"),
                "date": self.frame["start"].to_numpy(),
            },
            geometry=self.frame.geometry.to_numpy(),
            crs=WGS84,
        )


def require_columns(frame: pd.DataFrame, columns: list[str], source: Any) -> None:
    """Make sure that columns are there.

    Raises:
        DataError: Which are missing, and which there are.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise DataError(
            f"column{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing))} missing; "
            f"there are: {', '.join(map(str, frame.columns))}",
            source=source,
        )


def unique_ids(ids: pd.Series, source: Any) -> None:
    """Make sure that unit ids occur once.

    Raises:
        DataError: One that does not.
    """
    if ids.duplicated().any():
        twice = ids[ids.duplicated()].unique()
        raise DataError(
            f"{len(twice)} units occur more than once, e.g. {twice[0]!r}", source=source, remedy="Keep one row a unit and year."
        )
