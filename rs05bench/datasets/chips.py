"""Labelled chips in many coordinate systems as one TorchGeo dataset.

Chips of a national set lie in many UTM zones. TorchGeo's `RasterDataset` warps every file to the CRS of the first; here nothing is warped
unless somebody asks: the index is in WGS84, `chip(unit_id)` gives native pixels, and slicing needs an explicit `crs=`.
"""

from __future__ import annotations

import abc
import copy
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypedDict, Unpack

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio.features
import rasterio.transform
import rasterio.warp
import rasterio.windows
import shapely
import torch
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.enums import Resampling
from torchgeo.datasets import GeoDataset

from rs05bench.datasets.chip_image import IGNORE, Chip, ChipImage, ImageFormat, Reading, with_labels
from rs05bench.datasets.files import refuse_unknown, verify_receipt
from rs05bench.datasets.geography import Layer, same_ground
from rs05bench.datasets.slice_lookup import default_resolution, moved_shapes, rows_in, touched_window, whole_index
from rs05bench.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Sample = dict[str, Any]
WGS84 = CRS.from_epsg(4326)
MASK_TYPES = ("int8", "int16", "int32", "uint8", "uint16")


class Slicing(TypedDict, total=False):
    """How chips are listed and sliced: keywords of `ChipDataset`, described there."""

    crs: CRS | str | int | None
    res: float | tuple[float, float] | None
    transforms: Callable[[Sample], Sample] | None
    layers: Mapping[str, tuple[Layer, str]] | None
    resampling: str
    fill: float


class ChipDataset(GeoDataset, abc.ABC):
    """Base of `HLSBurnScars`, `CDLCrop` and `ChipFolder`.

    Samples hold `image` (float32, missing pixels are `fill`), `mask` (int64: index into `classes`, `IGNORE` = -1 elsewhere), `valid`
    (bool: where
    the image holds data) and, from `chip`, where and when it was taken. Values are in the files' own units (`scale` times them is
    reflectance), and
    `mean` and `std` are in the same units.

    Slices follow TorchGeo: `ds[xmin:xmax:xres, ymin:ymax:yres, tmin:tmax]` in the dataset's CRS. Where chips overlap the first in the index
    wins.

    Args:
        root: Folder of the files.
        checksum: Hash every file and compare with the receipt that `rs05bench download` left.
        **slicing: `crs` of slices, default None: only native chips, and slicing says so; `res`, pixel size of slices in units of `crs`,
            default that of the chips; `transforms`, called on every sample; `layers`, further group columns of `units()`: name -> (polygon
            layer, its column), e.g. `{"ecoregion": ("us_eco_l3.gpkg", "US_L3NAME")}`; `resampling` of images where a slice asks for
            another grid, default bilinear (masks always take the nearest pixel); `fill`, value of missing pixels in `image`, default 0.

    Raises:
        DataError: Nothing found, files without a partner, or a file that is not what its name promises.
    """

    bands: tuple[str, ...] = ("B02", "B03", "B04", "B8A", "B11", "B12")
    all_bands: tuple[str, ...] = bands
    rgb_bands: tuple[str, ...] = ("B04", "B03", "B02")
    classes: tuple[str, ...]
    dates: int = 1
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    native_resolution: float = 30.0
    name: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    homepage: ClassVar[str]
    ignore_index: ClassVar[int] = IGNORE
    colours: ClassVar[Sequence[str]] = ()
    """A colour a class; the usual ones where there are none."""
    composites: ClassVar[Sequence[tuple[str, tuple[str, ...]]]] = ()
    """Title and bands of each picture of an image; `rgb_bands` where there are none."""
    # Values that no sensor delivers in this product's units, and those that are also real measurements (see `missing_pixels`).
    _nodata_anywhere: tuple[float, ...] = (-9999.0, 9999.0)
    _nodata_everywhere: tuple[float, ...] = (0.0,)
    # Beyond these a valid pixel is in other units or not an image at all.
    _plausible: tuple[float, float]

    def __init__(
        self,
        root: str | Path,
        *,
        checksum: bool = False,
        **slicing: Unpack[Slicing],
    ) -> None:
        refuse_unknown(slicing, Slicing)
        self.root = self.paths = Path(root)
        self.layers, crs, res = dict(slicing.get("layers") or {}), slicing.get("crs"), slicing.get("res")
        self.transforms, self.fill, resampling = slicing.get("transforms"), slicing.get("fill", 0.0), slicing.get("resampling", "bilinear")
        if checksum:
            verify_receipt(self.root, self.name)
        chips = self._verify()
        try:
            self._resampling = Resampling[resampling]
        except KeyError:
            raise DataError(f"unknown resampling {resampling!r}; e.g. nearest, bilinear, cubic, average") from None
        self.format = ImageFormat(self.bands, self.dates, self.scale, self._nodata_anywhere, self._nodata_everywhere, self._plausible)
        self._chips = {chip.unit_id: chip for chip in sorted(chips, key=lambda chip: chip.unit_id)}
        self._asked_crs = crs is not None
        self._footprints: dict[str, shapely.Polygon] = {}
        target = WGS84 if crs is None else CRS.from_user_input(crs)
        if res is not None:
            self._res = (float(res), float(res)) if isinstance(res, int | float) else (float(res[0]), float(res[1]))
        else:
            self._res = default_resolution(target, self.native_resolution)
        self.index = self._build_index(target)

    # --- TorchGeo -----------------------------------------------------------------------------------------------------------------------

    @property
    def crs(self) -> CRS:
        """The CRS of the index and of slices: WGS84 unless another was asked for."""
        return self.index.crs

    @crs.setter
    def crs(self, new_crs: CRS | str | int) -> None:
        """Ask for slices in another CRS; from then on they are warped. `a & b` and `a | b` do this to `b`.

        The rows of the index stay those it has: what TorchGeo's splitters took away stays away, and a clipped footprint stays clipped.
        """
        target = CRS.from_user_input(new_crs)
        if target == self.index.crs and self._asked_crs:
            return
        # `a & b` hands on the CRS of `a` even where nobody chose it: degrees stay the index's own and are still no wish.
        self._asked_crs = self._asked_crs or target != WGS84
        self._res = default_resolution(target, self.native_resolution)
        rows = self._rows()
        old, self._footprints = self._footprints, dict(zip(self._chips, self.index_geometry(target), strict=True))
        moved = moved_shapes(list(rows.geometry), rows.crs, target)
        # A whole footprint is made from the chip again: moving it twice would round its corners.
        shapes = [
            self._footprints[unit_id] if shape.equals(old[unit_id]) else clipped
            for unit_id, shape, clipped in zip(rows["unit_id"], rows.geometry, moved, strict=True)
        ]
        self.index = gpd.GeoDataFrame(rows.drop(columns=rows.geometry.name), geometry=shapes, crs=target)

    def plot(self, sample: Sample, show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """Draw a sample: each date in its composites, the mask with its classes, and the prediction if the sample holds one.

        Args:
            sample: From `chip` or slicing; may hold `prediction` (H, W) class indices.
            show_titles: Titles over the panels.
            suptitle: Title over all.
        """
        from rs05bench.datasets.plotting import plot_chip

        return plot_chip(self, sample, show_titles=show_titles, suptitle=suptitle)

    @property
    def files(self) -> list[str]:
        """The image files of the chips in the index, sorted."""
        return sorted({str(path) for unit_id in self._rows()["unit_id"] for path in self._chips[unit_id].image.paths})

    @property
    def dtype(self) -> torch.dtype:
        """Type of `image`."""
        return torch.float32

    def __getitem__(self, index: Any) -> Sample:
        """Pixels of a slice in the dataset's CRS.

        Where no chip is, and outside a footprint that a splitter clipped, pixels are missing. Where chips overlap, each pixel has the image
        and the label of the first in the index that has data there.

        Returns:
            `image`, `mask`, `valid`, `bounds` and `transform`.

        Raises:
            DataError: No CRS was asked for.
            IndexError: Outside `bounds` in space or time.
        """
        if not self._asked_crs:
            zones = sorted({chip.image.grid.crs for chip in self._chips.values()})
            name = type(self).__name__
            raise DataError(
                f"{name} holds chips in {len(zones)} coordinate systems ({', '.join(zones[:4])}{', ...' if len(zones) > 4 else ''}); "
                "a slice would have to warp their pixels",
                source=self.root,
                remedy=f"Say into which: {name}(root, crs='{zones[0]}', res={self.native_resolution:g}); "
                f"or take native pixels with chip(unit_id).",
            )
        x, y, t = self._disambiguate_slice(index)
        rows = rows_in(self._rows(), (x, y, t), self.bounds)
        shape = (max(round((y.stop - y.start) / y.step), 1), max(round((x.stop - x.start) / x.step), 1))
        transform = rasterio.transform.from_origin(x.start, y.stop, x.step, y.step)
        lead = (self.dates, len(self.bands)) if self.dates > 1 else (len(self.bands),)
        image = np.full((*lead, *shape), np.nan, np.float32)
        labels = np.full(shape, IGNORE, np.int16)
        for unit_id, footprint in zip(rows["unit_id"], rows.geometry, strict=True):
            window = touched_window(footprint.bounds, transform, shape)
            part, size = rasterio.windows.transform(window, transform), (int(window.height), int(window.width))
            reading = self._warp(self._chips[unit_id], part, size)
            inside = window.toslices()
            known, free = image[..., *inside], labels[inside]
            # A pixel is wholly of one chip: image and label of two dates are never put together.
            new = reading.any_valid & np.isnan(known).all(axis=tuple(range(known.ndim - 2)))
            if not footprint.equals(self._footprints[unit_id]):
                new &= rasterio.features.geometry_mask([footprint], size, part, invert=True)
            np.copyto(known, reading.image, where=new)
            np.copyto(free, reading.labels, where=new)
        sample = self._sample(Reading(image, labels))
        sample["bounds"] = self._slice_to_tensor((x, y, t))
        sample["transform"] = torch.tensor(tuple(transform)[:9])
        return self.transforms(sample) if self.transforms is not None else sample

    # --- units --------------------------------------------------------------------------------------------------------------------------

    @property
    def unit_ids(self) -> list[str]:
        """All unit ids, sorted."""
        return list(self._chips)

    def chip(self, unit_id: str) -> Sample:
        """One chip in its native pixels and its own CRS; nothing is resampled.

        Args:
            unit_id: From `unit_ids` or `units()`.

        Returns:
            `image`, `mask`, `valid` as in the class, `transform` (9 numbers), `crs` (an authority code), `unit_id`, `lonlat` (2 degrees).

        Raises:
            DataError: Unknown unit, or damaged pixels.
        """
        chip = self._chip(unit_id)
        sample = self._sample(self.read(unit_id))
        sample["transform"] = torch.tensor(tuple(chip.image.transform)[:9])
        sample["crs"] = chip.image.grid.crs
        sample["unit_id"] = unit_id
        sample["lonlat"] = torch.tensor(chip.centre, dtype=torch.float64)
        sample.update(self._when(chip))
        return self.transforms(sample) if self.transforms is not None else sample

    def image(self, unit_id: str) -> ChipImage:
        """The image of a chip without its mask; reads no pixel."""
        chip = self._chip(unit_id)
        dates = [pd.Timestamp(date) for date in str(self._when(chip)["date"]).split(",")]
        dates = dates if len(dates) == self.dates else [dates[0]] * self.dates
        return ChipImage(unit_id, chip.image, tuple(dates), chip.centre)

    def read(self, unit_id: str) -> Reading:
        """Pixels and labels of one chip, checked, with every convention for missing data turned into one.

        Raises:
            DataError: Unknown unit, damaged pixels, values in other units, or labels that do not exist.
        """
        chip = self._chip(unit_id)
        return with_labels(self.format.read(chip.image), self._labels(chip))

    def read_labels(self, unit_id: str) -> NDArray[np.int16]:
        """The mask file alone, as class indices."""
        return self._labels(self._chip(unit_id))

    def mask_path(self, unit_id: str) -> Path:
        """The mask file of a chip."""
        return self._chip(unit_id).mask.path

    @property
    def label_rule(self) -> str:
        """What decides which class a mask value is: part of the name under which masks are kept."""
        return str(self.classes)

    def only(self, unit_ids: Collection[str]) -> Self:
        """This data set with some of its chips alone: nothing of it leads to the others.

        Raises:
            DataError: A unit is unknown.
        """
        wanted = {unit_id: self._chip(unit_id) for unit_id in sorted(unit_ids)}
        part = copy.copy(self)
        part._chips = wanted
        part._footprints = {unit_id: self._footprints[unit_id] for unit_id in wanted}
        part.index = self._rows()[self._rows()["unit_id"].isin(wanted)]
        return part

    @property
    def digest(self) -> str:
        """SHA-256 over ids, the bytes of every mask, and the size of every image."""
        digest = hashlib.sha256()
        for unit_id, chip in self._chips.items():
            sizes = ",".join(str(path.stat().st_size) for path in chip.image.paths)
            digest.update(f"{unit_id}\t{sizes}\t".encode())
            digest.update(hashlib.sha256(chip.mask.path.read_bytes()).digest())
        return digest.hexdigest()

    # --- for subclasses -----------------------------------------------------------------------------------------------------------------

    def _chip(self, unit_id: str) -> Chip:
        if unit_id not in self._chips:
            raise DataError(f"no unit {unit_id!r}; there are {len(self._chips)}, e.g. {', '.join(self.unit_ids[:3])}", source=self.root)
        return self._chips[unit_id]

    @abc.abstractmethod
    def _verify(self) -> list[Chip]:
        """All chips, their files checked without their pixels."""

    @abc.abstractmethod
    def _labels(self, chip: Chip) -> NDArray[np.int16]:
        """Class indices of one chip from its mask file."""

    def _when(self, chip: Chip) -> Sample:
        return {"date": chip.start.date().isoformat()}

    def _base_units(self) -> gpd.GeoDataFrame:
        """Ids, positions, place (chips of one ground share it), time and published split of every chip, sorted by id, WGS84."""
        chips = list(self._chips.values())
        shapes = self.index_geometry(WGS84)
        centres = np.array([chip.centre for chip in chips], dtype=float).reshape(-1, 2)
        return gpd.GeoDataFrame(
            {
                "unit_id": [chip.unit_id for chip in chips],
                "lon": centres[:, 0],
                "lat": centres[:, 1],
                "place": same_ground(list(self._chips), shapes),
                "year": pd.array([chip.end.year for chip in chips], dtype="Int64"),
                "date": pd.to_datetime([chip.start.normalize() for chip in chips]),
                "official": [chip.official for chip in chips],
            },
            geometry=shapes,
            crs=WGS84,
        )

    def index_geometry(self, target: CRS) -> list[shapely.Polygon]:
        """Footprints in unit order; exact boxes where the target is the chip's own CRS, densified edges elsewhere."""
        chips = list(self._chips.values())
        out: list[Any] = [None] * len(chips)
        by_crs: dict[str, list[int]] = {}
        for position, chip in enumerate(chips):
            by_crs.setdefault(chip.image.grid.crs, []).append(position)
        for crs, positions in by_crs.items():
            boxes = [shapely.box(*chips[position].image.grid.bounds) for position in positions]
            for position, box in zip(positions, moved_shapes(boxes, CRS.from_user_input(crs), target), strict=True):
                out[position] = box
        return out

    def _rows(self) -> gpd.GeoDataFrame:
        """The index, with the column that says which chip a row is.

        Raises:
            DataError: A splitter dropped the column.
        """
        return whole_index(self.index, "unit_id", self.root)

    def _build_index(self, target: CRS) -> gpd.GeoDataFrame:
        chips = list(self._chips.values())
        times = pd.IntervalIndex.from_tuples([(chip.start, chip.end) for chip in chips], closed="both", name="datetime")
        data = {"filepath": [str(chip.image.path) for chip in chips], "unit_id": [chip.unit_id for chip in chips]}
        self._footprints = dict(zip(self._chips, self.index_geometry(target), strict=True))
        return gpd.GeoDataFrame(data, index=times, geometry=list(self._footprints.values()), crs=target)

    def _sample(self, reading: Reading) -> Sample:
        image = np.where(np.isnan(reading.image), np.float32(self.fill), reading.image)
        return {
            "image": torch.from_numpy(image),
            "mask": torch.from_numpy(reading.labels.astype(np.int64)),
            "valid": torch.from_numpy(reading.valid),
        }

    def _warp(self, chip: Chip, transform: Any, shape: tuple[int, int]) -> Reading:
        """One chip on another grid: labels by nearest neighbour, image by the chosen resampling, missing data never blended in."""
        reading = self.read(chip.unit_id)
        lead = reading.image.shape[:-2]
        flat = np.ascontiguousarray(reading.image.reshape(-1, *reading.image.shape[-2:]))
        common = {
            "src_transform": chip.image.transform,
            "src_crs": chip.image.grid.crs,
            "dst_transform": transform,
            "dst_crs": self.crs.to_wkt(),
        }
        image = np.full((flat.shape[0], *shape), np.nan, np.float32)
        labels = np.full(shape, IGNORE, np.int16)
        rasterio.warp.reproject(flat, image, **common, src_nodata=np.nan, dst_nodata=np.nan, resampling=self._resampling)
        rasterio.warp.reproject(reading.labels, labels, **common, src_nodata=IGNORE, dst_nodata=IGNORE, resampling=Resampling.nearest)
        return Reading(image.reshape(*lead, *shape), labels)
