"""Chips with masks of anyone's own: images and masks in a folder, described by a task card."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
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
from rs05bench.datasets.chip_layout import ChipLayout, PlaceBands, official_of, shelf_of
from rs05bench.datasets.chips import ChipDataset, Sample, Slicing
from rs05bench.datasets.files import hidden, missing_data
from rs05bench.datasets.geography import locate, read_polygons
from rs05bench.datasets.rasters import RasterHeader, grid_as_written, read_header, read_pixels, same_grid
from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file
from rs05bench.protocol.geodesy import pixel_metres

_ANY_TIME = (pd.Timestamp(1970, 1, 1), pd.Timestamp(2100, 1, 1))


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
        chips = [self._open(unit_id, images[unit_id], masks[unit_id]) for unit_id in sorted(images)]
        first = chips[0].image
        self.native_resolution = float(pixel_metres(first.grid.crs, first.transform, first.height)[0])
        same_band_order([chip.image for chip in chips], self.layout.bands)
        return chips

    def _paired(self) -> tuple[dict[str, Path], dict[str, Path]]:
        images = self._named(self.layout.images, self.layout.image_suffix)
        masks = self._named(self.layout.masks, self.layout.mask_suffix)
        # One glob may find both: what is a mask by its name is no image.
        taken = {path for paths in masks.values() for path in paths}
        images = {key: kept for key, paths in images.items() if (kept := [path for path in paths if path not in taken])}
        if not images and not masks:
            raise missing_data(
                f"holds no image ({self.layout.images}) and no mask ({self.layout.masks})", self.root, "Correct preprocessing.chips."
            )
        # The same name in several folders (training/1.tif, validation/1.tif): the folder becomes a part of the id.
        shelves = len({name for _, name in images}) < len(images)
        named = [
            {"-".join(filter(None, (shelf.replace("/", "-") if shelves else "", name))): paths for (shelf, name), paths in found.items()}
            for found in (images, masks if shelves else _on_one_shelf(masks))
        ]
        left_out = set(self.layout.leave_out)
        found = [{unit: self._only(paths) for unit, paths in group.items() if unit not in left_out} for group in named]
        for have, lack, what, other in ((found[0], found[1], "image", "mask"), (found[1], found[0], "mask", "image")):
            alone = sorted(set(have) - set(lack))
            if alone:
                raise DataError(
                    f"{len(alone)} of {len(have)} {what}s have no {other}, e.g. {have[alone[0]].name}",
                    source=self.root,
                    remedy=f"Add the {other}, correct the names, or list the chip under preprocessing.chips.leave_out.",
                )
        return found[0], found[1]

    def _named(self, pattern: str, suffix: str) -> dict[tuple[str, str], list[Path]]:
        found: dict[tuple[str, str], list[Path]] = defaultdict(list)
        for path in sorted(self.root.glob(pattern)):
            unit = self.layout.unit_of(path, suffix)
            if unit is not None and path.is_file() and not path.name.startswith(".") and not hidden(path.relative_to(self.root)):
                found[shelf_of(path, self.root), unit].append(path)
        return dict(found)

    def _only(self, paths: list[Path]) -> Path:
        if len(paths) > 1:
            raise DataError(
                f"has the same name as {paths[0]}", source=paths[1], remedy="Keep one, or narrow the glob in preprocessing.chips."
            )
        return paths[0]

    def _open(self, unit_id: str, image_path: Path, mask_path: Path) -> Chip:
        layout = self.layout
        image = read_header(image_path, whole=False)
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
        start, end = self._times(image_path)
        image = replace(image, grid=replace(image.grid, crs=_authority(image.grid.crs)))
        return Chip(unit_id, image, mask, start, end, official_of(image_path, self.root))

    def _times(self, path: Path) -> tuple[pd.Timestamp, pd.Timestamp]:
        end = pd.Timedelta(microseconds=-1)
        if self.layout.date:
            match = re.search(self.layout.date, path.name)
            said = "" if match is None else match["date"]
            form = {8: "%Y%m%d", 7: "%Y%j", 4: "%Y"}.get(len(said))
            try:
                start = pd.to_datetime(said, format=form or "%Y%m%d")
            except ValueError:
                raise DataError(
                    f"{said!r} is not a date (20230615, 2023166 or 2023)", source=path, remedy="Correct preprocessing.chips.date."
                ) from None
            return start, start + (pd.DateOffset(years=1) if form == "%Y" else pd.Timedelta(days=1)) + end
        if self.layout.year is not None:
            return pd.Timestamp(self.layout.year, 1, 1), pd.Timestamp(self.layout.year + 1, 1, 1) + end
        return _ANY_TIME

    def _when(self, chip: Chip) -> Sample:
        known = self.layout.date or self.layout.year is not None
        return {"date": chip.start.date().isoformat() if known else ""}

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


def _on_one_shelf(masks: dict[tuple[str, str], list[Path]]) -> dict[tuple[str, str], list[Path]]:
    """Masks by name alone: where names are unique among the images, masks may lie in any folder."""
    gathered: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for (_, name), paths in masks.items():
        gathered["", name] += paths
    return dict(gathered)


def _authority(wkt: str) -> str:
    """The CRS as an authority string where it is known by one, else as written."""
    code = CRS.from_wkt(wkt).to_epsg(min_confidence=70)
    return wkt if code is None else f"EPSG:{code}"
