"""HLS Burn Scars: 804 chips of burnt and unburnt land over the contiguous United States, 2018-2021."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.datasets.chip_image import IGNORE, Chip
from rs05bench.datasets.chips import MASK_TYPES, ChipDataset
from rs05bench.datasets.files import paired_files, read_list, require_data
from rs05bench.datasets.fires import fire_ids
from rs05bench.datasets.geography import add_groups
from rs05bench.datasets.mgrs import parse_tile
from rs05bench.datasets.rasters import RasterHeader, read_header, read_pixels, same_grid
from rs05bench.errors import DataError

_NAME = re.compile(
    r"^subsetted_(?P<rows>\d+)x(?P<columns>\d+)_HLS\.(?P<sensor>[SL]30)\.T(?P<tile>\d{2}[A-Z]{3})\.(?P<date>\d{7})\.v\d+\.\d+"
    r"(?P<kind>_merged|\.mask)\.tif$"
)
_EXAMPLE = "subsetted_512x512_HLS.S30.T10SEH.2018190.v1.4_merged.tif"
_KEY = re.compile(r"T(?P<tile>\d{2}[A-Z]{3})\.(?P<date>\d{7})")
_FOLDERS = {"training": "train", "validation": "val"}
_SLACK = 15_000.0  # HLS tiles reach 9.8 km beyond their square; the rest is for rounding at chip edges


class HLSBurnScars(ChipDataset):
    """HLS Burn Scars, read as published.

    Two layouts are read alike: `training/` and `validation/` as in the publisher's archive, or `data/` with
    `splits/{train,val,test}.txt` as other benchmarks repack it. Units are chips; `unit_id` is tile and date, e.g. `T10SEH.2018190`, the
    same in both layouts.

    The CRS that the files write is a nameless copy of UTM with an "unknown datum": the zone is taken from the MGRS tile in the name
    instead, and a chip that does not lie in its tile is refused. Missing data is -9999, 9999, 0 in all bands or NaN, depending on the
    copy; all of them end as `valid == False`, and as label -1 together with the mask's own -1.

    Both published splits put chips of one tile on both sides; group by `tile` and `fire`.

    Args:
        root: Folder that holds one of the layouts.
        checksum: Hash every file and compare with the receipt that `rs05bench download` left.
        **slicing: See `ChipDataset`; slices have pixels of 30 m.

    Raises:
        DataError: Nothing found, files without a partner, or a file that is not what its name promises.

    If you use this dataset, please cite https://doi.org/10.57967/hf/0956.
    """

    name = "hls-burn-scars"
    classes = ("not burned", "burn scar")
    colours = ("#b8b8b8", "#D55E00")  # grey land, vermilion scar (Okabe-Ito)
    composites = (("natural colour", ("B04", "B03", "B02")), ("SWIR 2, NIR, red: burnt is reddish brown", ("B12", "B8A", "B04")))
    scale = 1.0
    # Published with the Prithvi fine-tuning configuration for this dataset (NASA-IMPACT/hls-foundation-os, configs/burn_scars.py).
    mean = (0.03335, 0.05701, 0.05890, 0.23232, 0.19729, 0.11945)
    std = (0.02269, 0.02681, 0.04004, 0.07792, 0.08709, 0.07242)
    licence = "CC-BY-4.0"
    homepage = "https://huggingface.co/datasets/ibm-nasa-geospatial/hls_burn_scars"
    citation = (
        "@software{HLS_Foundation_2023, author = {Phillips, Christopher and Roy, Sujit and Ankur, Kumar and Ramachandran, Rahul}, "
        "title = {{HLS Foundation Burnscars Dataset}}, year = {2023}, doi = {10.57967/hf/0956}}"
    )
    # HLS stores reflectance times 1e4 as int16: nothing beyond +-3.2768 can have been measured. Copies that scaled their -9999 keep
    # -0.9999.
    _plausible = (-3.2768, 3.2768)
    _nodata_anywhere = (-9999.0, 9999.0, float(np.float32(-0.9999)))

    def units(self, *, fire_days: int = 90, fire_distance: float = 5_000.0) -> gpd.GeoDataFrame:
        """All chips with what a split can move. Reads every mask (about 10 ms each).

        Args:
            fire_days: Chips at most so many days apart, and
            fire_distance: at most so many metres apart (0 = they touch), show the same fire; see `rs05bench.datasets.fires`.

        Returns:
            Sorted by `unit_id`, WGS84 footprints as geometry: `unit_id`, `lon`, `lat` (middle of the chip), `year` (Int64), `date`,
            `official`
            (published split: train, val, test or empty), `tile`, `fire`, `state`, `division`, `climate_region`, the columns of `layers`,
            `burn_fraction` (burnt share of the labelled pixels; NaN without any), `labelled_fraction` (share of pixels with a label).
        """
        units = self._base_units()
        units["tile"] = [unit_id.split(".")[0].removeprefix("T") for unit_id in units["unit_id"]]
        units["fire"] = fire_ids(units, days=fire_days, distance=fire_distance)
        units = add_groups(units, self.layers)
        shares = [_shares(self.read_labels(unit_id)) for unit_id in units["unit_id"]]
        units["burn_fraction"] = [burnt for burnt, _ in shares]
        units["labelled_fraction"] = [labelled for _, labelled in shares]
        return units

    def _verify(self) -> list[Chip]:
        require_data(self.root, self.name, self.homepage)
        files = paired_files(
            self.root, self.name, "subsetted_*.tif", _NAME, _unit_of, "subsetted_512x512_HLS.S30.T10SEH.2018190.v1.4_merged.tif"
        )
        splits = self._published()
        return [self._open(unit_id, *pair, splits) for unit_id, pair in files.items()]

    def _published(self) -> dict[str, str]:
        """Unit -> split from `splits/*.txt`; the folders speak where there are none."""
        splits: dict[str, str] = {}
        for name in ("train", "val", "test"):
            for path in sorted(self.root.glob(f"**/splits/{name}.txt")):
                for line in read_list(path):
                    match = _KEY.search(line)
                    if match is None:
                        raise DataError(f"expected tile and date as in T10SEH.2018190, found {line!r}", source=path)
                    splits[match[0]] = name
        return splits

    def _open(self, unit_id: str, image_path: Path, mask_path: Path, splits: Mapping[str, str]) -> Chip:
        match = _NAME.match(image_path.name)
        assert match is not None  # `_find` let no other through
        size = (int(match["rows"]), int(match["columns"]))
        image = read_header(image_path, bands=len(self.bands), dtypes=("float32", "float64"), size=size)
        try:
            tile = parse_tile(match["tile"])
            day = pd.to_datetime(match["date"], format="%Y%j")
        except DataError as error:
            raise DataError(error.problem, source=image_path) from None
        except ValueError:
            raise DataError(f"{match['date']!r} is not a year and a day of the year", source=image_path) from None
        image = replace(image, grid=replace(image.grid, crs=tile.crs))
        _check_place(image, *tile.corner, tile.name)
        mask = read_header(mask_path, bands=1, dtypes=MASK_TYPES, size=size)
        same_grid(image, mask)
        official = splits.get(unit_id, "" if splits else _FOLDERS.get(image_path.parent.name, ""))
        return Chip(unit_id, image, mask, day, day + pd.Timedelta(days=1, microseconds=-1), official)

    def _labels(self, chip: Chip) -> NDArray[np.int16]:
        labels = read_pixels(chip.mask)[0].astype(np.int32)
        strange = np.setdiff1d(labels, (-1, 0, 1))
        if len(strange):
            raise DataError(f"expected the values -1 (missing), 0 and 1 (burnt), found also {strange[:5].tolist()}", source=chip.mask.path)
        return labels.astype(np.int16)


def _unit_of(name: re.Match[str]) -> str:
    return f"T{name['tile']}.{name['date']}"


def _shares(labels: NDArray[np.int16]) -> tuple[float, float]:
    labelled = labels != IGNORE
    burnt = float((labels == 1).sum() / labelled.sum()) if labelled.any() else float("nan")
    return burnt, float(labelled.mean())


def _check_place(image: RasterHeader, easting: float, northing: float, tile: str) -> None:
    """The chip must lie in the tile its name gives: eastings and northings swapped, or a wrong name, show here."""
    west, south, east, north = image.grid.bounds
    x, y = (west + east) / 2, (south + north) / 2
    if not (easting - _SLACK <= x <= easting + 100_000 + _SLACK and northing - _SLACK <= y <= northing + 100_000 + _SLACK):
        raise DataError(
            f"its middle lies at easting {x:,.0f}, northing {y:,.0f}, but tile {tile} spans {easting:,.0f}-{easting + 100_000:,.0f} and "
            f"{northing:,.0f}-{northing + 100_000:,.0f}",
            source=image.path,
            remedy="Its axes were swapped, or its name is that of another chip: take the published file.",
        )
