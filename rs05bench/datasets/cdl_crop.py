"""Multi-temporal crop classification: HLS chips of three dates in 2022 with labels from the Cropland Data Layer; and that layer itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import geopandas as gpd
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pyproj import CRS
from torchgeo.datasets import CDL

from rs05bench.datasets.cdl_classes import CDL_TABLE, CROP_CLASSES, CROP_COLOURS
from rs05bench.datasets.chip_image import Chip
from rs05bench.datasets.chips import MASK_TYPES, ChipDataset, Sample
from rs05bench.datasets.files import hidden, paired_files, read_list, require_data
from rs05bench.datasets.geography import add_groups
from rs05bench.datasets.mgrs import nearest_tile, parse_tile
from rs05bench.datasets.rasters import read_header, read_pixels, same_grid
from rs05bench.errors import DataError

_NAME = re.compile(r"^(?P<unit>chip_\d+_\d+)(?P<kind>_merged|\.mask)\.tif$")
_EXAMPLE = "chip_257_266_merged.tif or chip_257_266.mask.tif"
_FOLDERS = {"training_chips": "train", "validation_chips": "val"}
_LISTS = {"training_data.txt": "train", "validation_data.txt": "val", "train_ids.csv": "train", "val_ids.csv": "val"}
_TABLES = ("chips_df.csv", "chips_id.csv", "chip_tracker.csv")
# The publisher's table, and the tracker of the repository that made the chips, name the dates differently.
_DATES = (
    ("first_img_date", "middle_img_date", "last_img_date"),
    ("first_image_date", "second_image_date", "third_image_date"),
)
_YEAR = (pd.Timestamp(2022, 1, 1), pd.Timestamp(2023, 1, 1) - pd.Timedelta(microseconds=1))


class CDLCrop(ChipDataset):
    """The multi-temporal crop set, read as published.

    Files are found by name (`chip_257_266_merged.tif`, `chip_257_266.mask.tif`) anywhere below `root`: `training_chips/` and
    `validation_chips/` as in
    the publisher's archives, or `hls/` and `masks/` as on its mirror. Units are chips of 224 x 224 pixels of 30 m in EPSG:5070.

    `image` has shape (3 dates, 6 bands, H, W) in reflectance times 1e4. Mask values 1-13 become the indices 0-12 of `classes`; 0 (no data)
    becomes -1. `valid` has shape (3, H, W): the makers clipped negative values to 0, so missing dates are 0 in all six bands.

    The labels are the 2022 Cropland Data Layer's, a model product. There is one year only. The published split is random: nearly every
    validation chip
    shares its HLS tile with a training chip; group by `tile` or `state`.

    Args:
        root: Folder that holds the chips and, if there is one, the table of dates (`chips_df.csv` or `chip_tracker.csv`).
        checksum: Hash every file and compare with the receipt that `rs05bench download` left.
        **slicing: See `ChipDataset`; `crs="EPSG:5070"` is the chips' own, slices in it are not resampled.

    Raises:
        DataError: Nothing found, files without a partner, or a file that is not what its name promises.

    If you use this dataset, please cite https://doi.org/10.57967/hf/0955.
    """

    name = "multi-temporal-crop"
    classes = CROP_CLASSES
    colours = CROP_COLOURS
    dates = 3
    size: ClassVar[int] = 224
    """Rows and columns a chip must have."""
    scale = 1e-4
    # Published with the Prithvi fine-tuning configuration for this dataset (NASA-IMPACT/hls-foundation-os,
    # multi_temporal_crop_classification.py).
    mean = (494.905781, 815.239594, 924.335066, 2968.881459, 2634.621962, 1739.579917)
    std = (284.925432, 357.84876, 575.566823, 896.601013, 951.900334, 921.407808)
    licence = "CC-BY-4.0"
    homepage = "https://huggingface.co/datasets/ibm-nasa-geospatial/multi-temporal-crop-classification"
    citation = (
        "@misc{hls-multi-temporal-crop-classification, author = {Cecil, Michael and Kordi, Fatemeh and Li, Hanxi (Steve) and "
        "Khallaghi, Sam and Alemohammad, Hamed}, "
        "title = {{HLS Multi Temporal Crop Classification}}, year = {2023}, doi = {10.57967/hf/0955}}"
    )
    _plausible = (-32768.0, 32767.0)
    _nodata_anywhere = (-9999.0, -1000.0)  # HLS writes -9999, its quality-filtered copies -1000
    # 9999 is also a bright cloud: it means missing only where all six bands of a date hold it.
    _nodata_everywhere = (0.0, 9999.0)

    def units(self) -> gpd.GeoDataFrame:
        """All chips with what a split can move.

        Returns:
            Sorted by `unit_id`, WGS84 footprints as geometry: `unit_id`, `lon`, `lat`, `year` (Int64), `date` (first date), `official`
            (published split:
            train or val), `first_date`, `middle_date`, `last_date` (NaT without a table), `tile`, `tile_source` (`table`, or `nearest`
            where no table
            names it: agrees for 95 % of the published tracker), `state`, `division`, `climate_region` and the columns of `layers`.
        """
        units = self._base_units()
        rows = self.table.reindex(units["unit_id"])
        for column in ("first_date", "middle_date", "last_date"):
            units[column] = pd.to_datetime(rows[column].to_numpy())
        known = rows["tile"].to_numpy(dtype=object)
        named = pd.notna(known)
        units["tile"] = [
            parse_tile(str(tile)).name if have else nearest_tile(lon, lat).name
            for tile, have, lon, lat in zip(known, named, units["lon"], units["lat"], strict=True)
        ]
        units["tile_source"] = np.where(named, "table", "nearest")
        return add_groups(units, self.layers)

    def _verify(self) -> list[Chip]:
        require_data(self.root, self.name, self.homepage)
        self.table = _read_table(self.root)
        files = paired_files(
            self.root, self.name, "chip_*.tif", _NAME, lambda name: str(name["unit"]), "chip_257_266_merged.tif or chip_257_266.mask.tif"
        )
        official = self._published()
        return [self._open(unit_id, *pair, official) for unit_id, pair in files.items()]

    def _published(self) -> dict[str, str]:
        official: dict[str, str] = {}
        for name, split in _LISTS.items():
            for path in sorted(self.root.rglob(name)):
                for line in read_list(path):
                    number = line.removeprefix("chip_")
                    if re.fullmatch(r"\d+_\d+", number):
                        official[f"chip_{number}"] = split
        return official

    def _open(self, unit_id: str, image_path: Path, mask_path: Path, official: Mapping[str, str]) -> Chip:
        size = (self.size, self.size)
        types = ("int16", "uint16", "int32", "float32", "float64")
        image = read_header(image_path, bands=self.dates * len(self.bands), dtypes=types, size=size)
        mask = read_header(mask_path, bands=1, dtypes=MASK_TYPES, size=size)
        same_grid(image, mask)
        image = replace(image, grid=replace(image.grid, crs=_authority(image.grid.crs, image_path)))
        start, end = _YEAR
        if unit_id in self.table.index and self.table.loc[unit_id, ["first_date", "last_date"]].notna().all():
            start = self.table.loc[unit_id, "first_date"]
            end = self.table.loc[unit_id, "last_date"] + pd.Timedelta(days=1, microseconds=-1)
        split = _FOLDERS.get(image_path.parent.name) or official.get(unit_id, "")
        return Chip(unit_id, image, mask, start, end, split)

    def _labels(self, chip: Chip) -> NDArray[np.int16]:
        values = read_pixels(chip.mask)[0].astype(np.int32)
        if values.min() < 0 or values.max() > len(self.classes):
            raise DataError(
                f"expected the values 0 (no data) to {len(self.classes)}, found {values.min()} to {values.max()}",
                source=chip.mask.path,
                remedy="Is it a raw CDL mask? Map its codes with `rs05bench.datasets.cdl_classes.crop_class`.",
            )
        return (values - 1).astype(np.int16)

    def _when(self, chip: Chip) -> Sample:
        if chip.unit_id not in self.table.index:
            return {"date": chip.start.date().isoformat()}
        row = self.table.loc[chip.unit_id, ["first_date", "middle_date", "last_date"]]
        return {"date": ",".join("" if pd.isna(day) else day.date().isoformat() for day in row)}


class CDL13(CDL):
    """USDA's Cropland Data Layer with the 13 classes of the crop set, over TorchGeo's `CDL`.

    Everything but the classes is TorchGeo's: files `{year}_30m_cdls.tif`, download, slicing. `mask` holds class indices 0-12, -1 where
    there is no data.

    Args:
        paths: See `torchgeo.datasets.CDL`.
        years: Years of the layer.
        **kwargs: Passed on to `torchgeo.datasets.CDL`, but for `classes`.
    """

    class_names: ClassVar[tuple[str, ...]] = CROP_CLASSES
    ignore_index: ClassVar[int] = -1

    def __init__(self, paths: str | Path = "data", *, years: list[int] | None = None, **kwargs: Any) -> None:
        if "classes" in kwargs:
            raise DataError("CDL13 has its own 13 classes; use torchgeo.datasets.CDL to choose others")
        self._after = kwargs.pop("transforms", None)  # TorchGeo calls them before it maps the codes
        super().__init__(paths, years=years or [2022], **kwargs)
        self.ordinal_map = torch.from_numpy(CDL_TABLE.astype(np.int64)) - 1

    def __getitem__(self, index: Any) -> Sample:
        """Pixels of a slice; see `torchgeo.datasets.CDL`."""
        sample: Sample = super().__getitem__(index)
        return self._after(sample) if self._after is not None else sample

    def plot(self, sample: Sample, show_titles: bool = True, suptitle: str | None = None) -> Any:
        """Draw a sample's mask with its classes.

        Args:
            sample: From slicing; may hold `prediction`.
            show_titles: Titles over the panels.
            suptitle: Title over all.

        Returns:
            A matplotlib Figure.
        """
        from rs05bench.datasets.plotting import plot_classes

        return plot_classes(sample, CROP_CLASSES, CROP_COLOURS, show_titles=show_titles, suptitle=suptitle)


def _authority(crs: str, path: Path) -> str:
    """The written CRS as an authority string: the published chips name NAD83 / Conus Albers in several spellings."""
    written = CRS.from_wkt(crs)
    code = written.to_epsg(min_confidence=25)
    if code is None and written.equals(CRS.from_epsg(5070), ignore_axis_order=True):
        code = 5070
    if code is None or not written.is_projected:
        raise DataError(f"expected a projected CRS that is known to EPSG (published: EPSG:5070), found {written.name!r}", source=path)
    return f"EPSG:{code}"


def _read_table(root: Path) -> pd.DataFrame:
    """Tile and dates by chip id; empty where no table is there."""
    for name in _TABLES:
        paths = [path for path in sorted(root.rglob(name)) if not hidden(path.relative_to(root))]
        if paths:
            return _parse_table(paths[0])
    return pd.DataFrame(
        {"tile": [], "first_date": [], "middle_date": [], "last_date": []}, index=pd.Index([], name="chip_id"), dtype=object
    )


def _parse_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as CSV ({error})", source=path) from None
    if "chip_id" not in table.columns:
        raise DataError(f"column 'chip_id' is missing; there are: {', '.join(table.columns)}", source=path)
    ids = table["chip_id"].where(table["chip_id"].str.startswith("chip_"), "chip_" + table["chip_id"])
    if ids.duplicated().any():
        raise DataError(f"chip {ids[ids.duplicated()].iloc[0]!r} occurs more than once", source=path)
    out = pd.DataFrame(index=pd.Index(ids, name="chip_id"))
    out["tile"] = table["tile"].to_numpy() if "tile" in table.columns else None
    columns = next((names for names in _DATES if set(names) <= set(table.columns)), None)
    if columns is None:
        raise DataError(
            f"expected the dates in {' / '.join(', '.join(names) for names in _DATES)}; there are: {', '.join(table.columns)}", source=path
        )
    for column, target in zip(columns, ("first_date", "middle_date", "last_date"), strict=True):
        try:
            out[target] = pd.to_datetime(table[column].to_numpy(), format="ISO8601")
        except ValueError as error:
            raise DataError(f"column {column!r} holds something that is not a date ({error})", source=path) from None
    return out
