"""Chips with masks of anyone's own: images and masks in a folder, described by a task card."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import geopandas as gpd
import numpy as np
import pandas as pd
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from rs05bench.datasets.chip_image import IGNORE, Chip
from rs05bench.datasets.chip_layout import ChipLayout, Dated, PlaceBands, official_of
from rs05bench.datasets.chip_pairs import by_name
from rs05bench.datasets.chips import ChipDataset, Sample, Slicing
from rs05bench.datasets.files import missing_data
from rs05bench.datasets.geography import locate, read_polygons
from rs05bench.datasets.rasters import RasterHeader, grid_as_written, read_header, read_pixels, same_grid
from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file
from rs05bench.protocol.geodesy import pixel_metres

_ANY_TIME = Dated(pd.Timestamp(1970, 1, 1), pd.Timestamp(2100, 1, 1))


class ChipFolder(ChipDataset):
    """A folder of GeoTIFF images and GeoTIFF, PNG or NPY masks.

    Units are chips; the id is the name that image and mask share. Images may be in any CRS, degrees included, of any size, bands, dates and
    pixel type. A mask without georeferencing lies on its image, pixel by pixel; one with it must be on its image's grid.

    Args:
        root: The folder.
        layout: How it is laid out; `rs05bench card init FOLDER` writes it into a card.
        **slicing: See `ChipDataset`.

    Raises:
        DataError: Nothing found, an image without a mask or the other way round, sizes that differ, or files that are not what the layout
            says; names the file and what to do.
    """

    name = "chip-folder"
    licence = "that of the files"
    homepage = "docs/howto/chips.md"
    citation = "cite the source of the files"

    def __init__(
        self,
        root: str | Path,
        layout: ChipLayout,
        **slicing: Unpack[Slicing],
    ) -> None:
        self.root, self.layout = Path(root), layout
        if not self.root.is_dir():
            raise missing_data("is not a folder", self.root, "Give the folder of images and masks.")
        self.bands = self.all_bands = tuple(layout.bands)
        self.rgb_bands = tuple(layout.bands[:3]) if len(layout.bands) >= 3 else (layout.bands[0],) * 3
        self.classes, self.dates = tuple(layout.labels.values()), layout.dates
        self.scale = 1.0 if layout.scale is None else 1.0 / layout.scale
        self._nodata_anywhere, self._nodata_everywhere = tuple(layout.nodata), ()
        # Beyond four times white, or as far below black, nothing is a reflectance.
        self._plausible = (-np.inf, np.inf) if layout.scale is None else (-4.0 * layout.scale, 4.0 * layout.scale)
        self._values = {value: index for index, value in enumerate(layout.labels)}
        super().__init__(root, **slicing)

    @property
    def label_rule(self) -> str:
        """The card's labels, and the values that mean none."""
        return f"{self.layout.labels}|{sorted(self.layout.ignore)}"

    def units(self) -> gpd.GeoDataFrame:
        """All chips with what a split can move. Reads every mask.

        Returns:
            Sorted by `unit_id`, WGS84 footprints as geometry: `unit_id`, `lon`, `lat`, `year` (Int64, missing where nothing tells it),
            `date`, `official` (train, val or test, where folders are named so, or empty), the groups of the layout and of `layers`,
            `labelled_fraction` (share of pixels with a label), and the share of each class of the labelled pixels, `share_<class>`.

        Raises:
            DataError: A table or layer of groups lacks a chip.
        """
        units = self._base_units()
        if self.layout.year is None and not self.layout.date:
            units["year"], units["date"] = pd.array([pd.NA] * len(units), dtype="Int64"), pd.NaT
        for group, source in self.layout.groups.items():
            if isinstance(source, PlaceBands):
                units[group] = [source.of(degrees) for degrees in units["lon" if source.place == "longitude" else "lat"]]
            else:
                units[group] = self._from_table(units["unit_id"], source.file, source.id, source.column)
        for group, (layer, column) in self.layers.items():
            units[group] = locate(units, read_polygons(layer), column, source=str(layer))
        labels = [self.read_labels(unit_id) for unit_id in units["unit_id"]]
        units["labelled_fraction"] = [float((mask != IGNORE).mean()) for mask in labels]
        for index, name in enumerate(self.classes):
            units[f"share_{name}"] = [float((mask == index).sum() / max((mask != IGNORE).sum(), 1)) for mask in labels]
        return units

    def _verify(self) -> list[Chip]:
        images, masks = self._paired()
        chips = [self._open(unit_id, self._header(unit_id, images[unit_id]), masks[unit_id]) for unit_id in sorted(images)]
        first = chips[0].image
        self.native_resolution = float(pixel_metres(first.grid.crs, first.transform, first.height)[0])
        same_band_order([chip.image for chip in chips], self.layout.bands)
        return chips

    def _paired(self) -> tuple[dict[str, list[Path]], dict[str, Path]]:
        """The images of each chip and its mask."""
        named = by_name(self.root, self.layout)
        if not any(named):
            raise missing_data(
                f"holds no image ({self.layout.images}) and no mask ({self.layout.masks})", self.root, "Correct preprocessing.chips."
            )
        left_out = set(self.layout.leave_out)
        found = [{unit: paths for unit, paths in group.items() if unit not in left_out} for group in named]
        for have, lack, what, other in ((found[0], found[1], "image", "mask"), (found[1], found[0], "mask", "image")):
            alone = sorted(set(have) - set(lack))
            if alone:
                raise DataError(
                    f"{len(alone)} of {len(have)} {what}s have no {other}, e.g. {have[alone[0]][0].name}",
                    source=self.root,
                    remedy=f"Add the {other}, correct the names, or list the chip under preprocessing.chips.leave_out.",
                )
        alone_in_name = {unit: [self._only(paths)] for unit, paths in found[0].items()} if not self.layout.file_per_date else found[0]
        return alone_in_name, {unit: self._only(paths) for unit, paths in found[1].items()}

    def _only(self, paths: list[Path]) -> Path:
        if len(paths) > 1:
            raise DataError(
                f"has the same name as {paths[0]}", source=paths[1], remedy="Keep one, or narrow the glob in preprocessing.chips."
            )
        return paths[0]

    def _header(self, unit_id: str, paths: list[Path]) -> RasterHeader:
        """The header of a chip's image; of a file per date one over all of them, in the order of their dates."""
        if not self.layout.file_per_date:
            return read_header(paths[0], whole=False)
        dates = {path: self.layout.date_of(path, self.root) for path in paths}
        first, *later = (read_header(path, whole=False) for path in sorted(paths, key=dates.__getitem__))
        same_band_order([first, *later])
        if len(paths) != self.layout.dates or len(set(dates.values())) != len(paths):
            raise DataError(
                f"chip {unit_id!r} has {len(paths)} images of {len(set(dates.values()))} dates "
                f"({', '.join(path.name for path in sorted(dates))}); preprocessing.chips says {self.layout.dates}, a file per date",
                source=self.root,
                remedy=f"Keep as many dates of every chip, or add {unit_id!r} to preprocessing.chips.leave_out.",
            )
        for other in later:
            same_grid(first, other)
            if (other.count, other.dtype, other.nodata) != (first.count, first.dtype, first.nodata) or other.grid.crs != first.grid.crs:
                raise DataError(
                    f"differs from {first.path.name} of the same chip: {_kind(other)} against {_kind(first)}",
                    source=other.path,
                    remedy="All dates of a chip have one CRS, number of bands, pixel type and nodata value.",
                )
        return replace(first, count=first.count * len(paths), further=tuple(other.path for other in later))

    def _open(self, unit_id: str, image: RasterHeader, mask_path: Path) -> Chip:
        layout, image_path = self.layout, image.path
        wanted = layout.dates * len(layout.bands)
        if image.count != wanted:
            dates = f"{layout.dates} dates of " if layout.dates > 1 else ""
            raise DataError(
                f"has {image.count} bands; preprocessing.chips says {dates}{', '.join(layout.bands)} ({wanted})",
                source=image_path,
                remedy="Name every band of the file, or the number of dates.",
            )
        if image.dtype == "uint8" and layout.scale is not None and (layout.scale < 100 or layout.scale > 1000):
            raise DataError(
                f"holds 8-bit values (0 to 255), and the card's scale says that {layout.scale:g} is a reflectance of 1",
                source=image_path,
                remedy="8-bit pictures have scale: 255; values that are no reflectance have scale: null.",
            )
        mask = mask_header(mask_path)
        if (mask.height, mask.width) != (image.height, image.width):
            raise DataError(
                f"its mask {mask_path.name} has {mask.height} x {mask.width} pixels, the image {image.height} x {image.width}",
                source=image_path,
                remedy=f"Correct one of them, or add {unit_id!r} to preprocessing.chips.leave_out.",
            )
        if mask.grid.crs:
            same_grid(image, mask)
        times = [self._time(path) for path in image.paths]
        image = replace(image, grid=replace(image.grid, crs=_authority(image.grid.crs)))
        return Chip(unit_id, image, mask, times[0].start, times[-1].end, official_of(image_path, self.root))

    def _time(self, path: Path) -> Dated:
        if self.layout.date:
            return self.layout.date_of(path, self.root)
        if self.layout.year is not None:
            return Dated(pd.Timestamp(self.layout.year, 1, 1), pd.Timestamp(self.layout.year + 1, 1, 1) - pd.Timedelta(microseconds=1))
        return _ANY_TIME

    def _when(self, chip: Chip) -> Sample:
        known = self.layout.date or self.layout.year is not None
        return {"date": ",".join(self._time(path).start.date().isoformat() for path in chip.image.paths) if known else ""}

    def _labels(self, chip: Chip) -> NDArray[np.int16]:
        values = mask_values(chip.mask)
        ignored = {
            *self.layout.ignore,
            *([int(chip.mask.nodata)] if chip.mask.nodata is not None and np.isfinite(chip.mask.nodata) else []),
        }
        labels = np.full(values.shape, IGNORE, np.int16)
        strange = []
        for value in np.unique(values[np.isfinite(values)]):
            if value in self._values:
                labels[values == value] = self._values[value]
            elif value not in ignored:
                strange.append(f"{value:g}")
        if strange:
            raise DataError(
                f"holds the values {', '.join(strange[:6])}, which preprocessing.chips does not name (labels: {list(self._values)}, "
                f"ignore: {sorted(ignored)})",
                source=chip.mask.path,
                remedy="Add them under labels with their class, or under ignore.",
            )
        return labels

    def _from_table(self, units: pd.Series, file: str, key: str, column: str) -> NDArray[np.object_]:
        path = self.root / file
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read as CSV ({error})", source=path) from None
        for name in (key, column):
            if name not in table.columns:
                raise DataError(f"column {name!r} is missing; there are: {', '.join(table.columns)}", source=path)
        found = table.drop_duplicates(key).set_index(key)[column].reindex(units)
        absent = found[found.isna() | (found == "")]
        if len(absent):
            raise DataError(f"names no {column} for {len(absent)} of {len(units)} chips, e.g. {absent.index[0]!r}", source=path)
        return found.to_numpy(dtype=object)


def _kind(image: RasterHeader) -> str:
    """What an image is apart from its pixels, for messages."""
    nodata = "" if image.nodata is None else f", nodata {image.nodata:g}"
    return f"{image.count} bands of {image.dtype}{nodata}, {_authority(image.grid.crs)}"


def same_band_order(images: Sequence[RasterHeader], bands: Sequence[str] = ()) -> None:
    """Makes sure that the files which describe their bands have them in one order, and in that of the card where it uses the same names.

    Raises:
        DataError: The same descriptions in another order.
    """
    named = next((image for image in images if image.bands), None)
    if named is None:
        return
    expected, source = (tuple(bands), "the card") if set(bands) == set(named.bands) else (named.bands, named.path.name)
    for image in images:
        if image.bands and image.bands[: len(expected)] != expected and set(image.bands) == set(expected):
            raise DataError(
                f"describes its bands as {', '.join(image.bands)}, and {source} has them as {', '.join(expected)}",
                source=image.path,
                remedy="Write all files in one order (rio stack, gdal_translate -b), or name the bands as the files do.",
            )


def mask_header(path: Path) -> RasterHeader:
    """Size, type and grid of a mask; the CRS is empty where it has no georeferencing.

    Raises:
        DataError: Not a mask of one band.
    """
    if path.suffix.lower() == ".npy":
        values = _array(path)
        height, width = values.shape
        return RasterHeader(path, grid_as_written("", Affine.identity(), height, width), 1, str(values.dtype), None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with open_raster_file(path) as src:
                crs = "" if src.crs is None or src.transform.is_identity else src.crs.to_wkt()
                step = src.transform
                grid = grid_as_written(crs, step, src.height, src.width)
                header = RasterHeader(path, grid, src.count, src.dtypes[0], src.nodata)
    except RasterioError as error:
        raise DataError(f"cannot be opened as a mask ({error})", source=path) from None
    if crs and (step.b or step.d):
        raise DataError(f"its axes are turned (transform {tuple(step)[:6]})", source=path, remedy="A mask is on the grid of its image.")
    if header.count != 1:
        raise DataError(
            f"has {header.count} bands; a mask has one, of class values", source=path, remedy="Is it a coloured picture of the mask?"
        )
    return header


def mask_values(header: RasterHeader) -> NDArray[np.float64]:
    """The values of a mask, (H, W); NaN where the file has NaN.

    Raises:
        DataError: Damaged, or values that are no whole numbers.
    """
    if header.path.suffix.lower() == ".npy":
        values = np.array(_array(header.path), dtype=np.float64)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            values = read_pixels(header)[0].astype(np.float64)
    known = values[np.isfinite(values)]
    if (known % 1 != 0).any():
        raise DataError("holds values that are no whole numbers, and a mask names classes by number", source=header.path)
    return values


def _array(path: Path) -> NDArray[Any]:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as an array ({error})", source=path) from None
    values = values[0] if values.ndim == 3 and values.shape[0] == 1 else values
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise DataError(f"expected class values by row and column, found {values.dtype} {values.shape}", source=path)
    return values


def _authority(wkt: str) -> str:
    """The CRS as an authority string where it is known by one, else as written."""
    code = CRS.from_wkt(wkt).to_epsg(min_confidence=70)
    return wkt if code is None else f"EPSG:{code}"
