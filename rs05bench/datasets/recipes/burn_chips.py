"""Burn-scar chips from fire perimeters: images cut from HLS granules or given as chips, masks rasterised on their pixels.

What is written has the layout of HLS Burn Scars, so `HLSBurnScars` and everything over it reads it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import rasterio.features
import rasterio.warp
import shapely
from numpy.typing import NDArray
from rasterio.transform import array_bounds
from rasterio.windows import Window

from rs05bench.datasets.mgrs import parse_tile
from rs05bench.datasets.rasters import missing_pixels, read_header, read_pixels
from rs05bench.datasets.recipes.hls import Granule, find_granules
from rs05bench.datasets.recipes.polygon_layers import read_layer
from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file
from rs05bench.protocol.intake.times import parse_times

if TYPE_CHECKING:
    from rs05bench.datasets.recipes.job import BuildJob
    from rs05bench.protocol.card import TaskCard

FILL = -9999.0
SIDE = 512
EVENT = ("Event_ID", "FIRE_ID", "Id")
IGNITION = ("Ig_Date", "IDate", "initialdate", "start_date")
NON_PROCESSING, GREENER = 6, 5  # classes of MTBS's thematic severity beside 1 (unburned to low) to 4 (high)


@dataclass(frozen=True, slots=True)
class BurnScene:
    """A chip that was written.

    Attributes:
        path: Its image.
        crs: That of its MGRS tile.
        transform: Its grid.
        shape: Rows and columns.
        date: Day of the image.
        snow: Share of pixels under snow; NaN where nobody says.
    """

    path: Path
    crs: str
    transform: Any
    shape: tuple[int, int]
    date: pd.Timestamp
    snow: float = float("nan")

    @property
    def footprint(self) -> Any:
        """Its outline in WGS84."""
        box = shapely.box(*array_bounds(*self.shape, self.transform))
        return gpd.GeoSeries([box.segmentize(5_000)], crs=self.crs).to_crs(4326).iloc[0]


def read_fires(job: BuildJob, source: str) -> gpd.GeoDataFrame:
    """Perimeters with `event`, `date` (day of ignition) and their geometry in WGS84, largest first.

    Raises:
        DataError: A column is missing, or no date can be read.
    """
    tables = []
    for path in job.files(source):
        frame = read_layer(path, {"event": EVENT, "date": IGNITION}, {"kind": ("Incid_Type",)}, job=job)
        written = frame["date"]
        frame["date"] = _days(written)
        if frame["date"].isna().all():
            raise DataError(
                f"no date of ignition can be read, e.g. {written.iloc[0]!r}", source=path, remedy="Expected days such as 2020-08-15."
            )
        frame = job.keep(frame, frame["date"].notna(), "fires without a date of ignition", "event")
        if "kind" in frame and not job.options.get("prescribed", True):
            prescribed = frame["kind"].fillna("").astype(str).str.lower().str.startswith(("prescribed", "rx"))
            frame = job.keep(frame, ~prescribed, "prescribed fires", "event")
        tables.append(frame[["event", "date", "geometry"]])
    fires = pd.concat(tables, ignore_index=True)
    fires["event"] = fires["event"].astype(str)
    order = fires.geometry.to_crs("ESRI:54034").area.to_numpy()  # equal area: which fire is larger, nothing more
    return fires.iloc[np.lexsort((fires["event"].to_numpy(), -order))].reset_index(drop=True)


def _days(values: pd.Series) -> pd.Series:
    """Days of ignition, missing where they cannot be read."""
    return parse_times(values)[0].first.dt.normalize().set_axis(values.index)


def given_chips(job: BuildJob, paths: Sequence[Path], folder: Path) -> list[BurnScene]:
    """Chips that already exist, put into the new folder; their own masks stay behind."""
    from rs05bench.datasets.burn_scars import HLSBurnScars

    folder.mkdir(parents=True, exist_ok=True)
    scenes = []
    for path in paths:
        # Names are refused by the reader too, but there the message would name a folder that is gone.
        parts = path.name.split(".")
        if len(parts) < 5 or not path.name.startswith("subsetted_"):
            raise DataError(
                "expected a name like subsetted_512x512_HLS.S30.T10SEH.2018190.v1.4_merged.tif", source=path, remedy="Rename it."
            )
        header = read_header(path, bands=len(HLSBurnScars.bands), dtypes=("float32", "float64"))
        tile = parse_tile(parts[2].removeprefix("T"))
        link(path, folder / path.name)
        date = pd.to_datetime(parts[3], format="%Y%j")
        scenes.append(BurnScene(folder / path.name, tile.crs, header.transform, (header.height, header.width), date))
    return scenes


def cut_chips(job: BuildJob, paths: Sequence[Path], fires: gpd.GeoDataFrame, folder: Path) -> list[BurnScene]:
    """A chip of 512 x 512 pixels around each fire, from the first granule after it that is clear enough.

    A granule gives one chip (tile and day name the unit); larger fires choose first. Fires without a granule are dropped and counted.
    """
    granules = find_granules(paths)
    folder.mkdir(parents=True, exist_ok=True)
    first, last = int(job.options["after_days"]), int(job.options["within_days"])
    used: set[tuple[str, pd.Timestamp]] = set()
    scenes: list[BurnScene] = []
    bounds = fires.geometry.bounds
    middles = gpd.GeoSeries.from_xy((bounds["minx"] + bounds["maxx"]) / 2, (bounds["miny"] + bounds["maxy"]) / 2, crs=4326)
    for row in range(len(fires)):
        job.progress("chips", row, len(fires))
        scene = None
        for granule in sorted(granules, key=lambda item: (item.date, item.tile, item.sensor)):
            wait = (granule.date - fires["date"].iloc[row]).days
            if first <= wait <= last and (granule.tile, granule.date) not in used:
                scene = _cut(job, granule, middles.iloc[row : row + 1], folder)
            if scene is not None:
                used.add((granule.tile, granule.date))
                scenes.append(scene)
                break
        if scene is None:
            job.drop(f"fires without a clear granule of their own, {first} to {last} days after", 1, fires["event"].iloc[row])
    return scenes


def _cut(job: BuildJob, granule: Granule, middle: gpd.GeoSeries, folder: Path) -> BurnScene | None:
    crs = parse_tile(granule.tile).crs
    point = middle.to_crs(crs).iloc[0]
    step = granule.header.transform
    column, row = round((point.x - step.c) / step.a), round((point.y - step.f) / step.e)
    if not (0 <= row < granule.header.height and 0 <= column < granule.header.width):
        return None
    height, width = min(SIDE, granule.header.height), min(SIDE, granule.header.width)
    # At a tile's edge the chip moves inwards: no pixel of it lies beyond.
    top = min(max(row - height // 2, 0), granule.header.height - height)
    left = min(max(column - width // 2, 0), granule.header.width - width)
    window = Window(left, top, width, height)
    image = granule.read(window)
    if np.isnan(image[0]).mean() > float(job.options["hidden"]):
        return None
    from rs05bench.datasets.recipes.hls import QUALITY_FILL, SNOW

    quality = granule.quality(window)
    snow = float(((quality != QUALITY_FILL) & (quality & SNOW > 0)).mean())
    transform = rasterio.windows.transform(window, step)
    name = f"subsetted_{height}x{width}_HLS.{granule.sensor}.T{granule.tile}.{granule.date:%Y%j}.v2.0_merged.tif"
    profile = {"driver": "GTiff", "height": height, "width": width, "crs": crs, "transform": transform, "nodata": FILL}
    with rasterio.open(folder / name, "w", count=6, dtype="float32", compress="deflate", predictor=3, tiled=True, **profile) as target:
        target.write(np.where(np.isnan(image), FILL, image).astype(np.float32))
    return BurnScene(folder / name, crs, transform, (height, width), granule.date, snow)


def write_masks(job: BuildJob, scenes: Sequence[BurnScene], fires: gpd.GeoDataFrame) -> None:
    """A mask beside every image: 1 in fires of the days before it, -1 where nothing is seen or an older scar may be, 0 elsewhere."""
    severity = {path.name.lower(): path for path in job.files("severity")} if _has(job, "severity") else {}
    burnt = 0
    for done, scene in enumerate(scenes):
        job.progress("masks", done, len(scenes))
        mask = _mask(job, scene, fires, severity)
        header = read_header(scene.path)
        mask[missing_pixels(read_pixels(header).astype(np.float32), anywhere=(FILL, 9999.0))] = -1
        burnt += bool((mask == 1).any())
        path = scene.path.with_name(scene.path.name.replace("_merged.tif", ".mask.tif"))
        rows, columns = scene.shape
        profile = {"driver": "GTiff", "height": rows, "width": columns, "crs": scene.crs, "transform": scene.transform, "nodata": -1}
        with rasterio.open(path, "w", count=1, dtype="int16", compress="lzw", **profile) as target:
            target.write(mask, 1)
    job.counts["chips with a burn"] = burnt
    if not burnt:
        raise DataError(
            f"none of {len(scenes)} chips shows a fire of the {job.options['window_days']} days before it",
            source=job.root,
            remedy="Are perimeters and images of the same place and time?",
        )


def _mask(job: BuildJob, scene: BurnScene, fires: gpd.GeoDataFrame, severity: dict[str, Path]) -> NDArray[np.int16]:
    near = fires.iloc[fires.sindex.query(scene.footprint, predicate="intersects")].to_crs(scene.crs)
    days = (scene.date - near["date"]).dt.days
    mask = np.zeros(scene.shape, np.int16)
    window, old = int(job.options["window_days"]), int(job.options["old_days"])
    for shapes, value in ((near.geometry[(days > window) & (days <= old)], -1), (near.geometry[(days >= 0) & (days <= window)], 1)):
        if len(shapes):
            inside = rasterio.features.geometry_mask(list(shapes), scene.shape, scene.transform, invert=True)
            mask[inside] = value
    for event in near["event"][(days >= 0) & (days <= window)]:
        found = [path for name, path in severity.items() if name.startswith(event.lower()) and name.endswith("6.tif")]
        if found:
            _apply_severity(mask, scene, found[0], int(job.options["min_severity"]))
    return mask


def _apply_severity(mask: NDArray[np.int16], scene: BurnScene, path: Path, least: int) -> None:
    header = read_header(path, bands=1, dtypes=("uint8", "int8", "int16"), whole=False)
    classes = np.zeros(scene.shape, np.uint8)
    with open_raster_file(header.path) as src:
        rasterio.warp.reproject(
            rasterio.band(src, 1), classes, dst_transform=scene.transform, dst_crs=scene.crs, resampling=rasterio.warp.Resampling.nearest
        )
    burnt = mask == 1
    mask[burnt & (classes == NON_PROCESSING)] = -1
    if least > 1:
        mask[burnt & (((classes >= 1) & (classes < least)) | (classes == GREENER))] = 0


def chip_card(job: BuildJob, *, groups: list[str], layers: dict[str, list[str]], years: Sequence[int]) -> TaskCard:
    """The card over the chips that were written to `chips/`."""
    said: dict[str, Any] = {"options": dict(job.options)}
    if layers:
        said["layers"] = layers
    if _has(job, "alphaearth") and job.files("alphaearth"):
        for path in job.files("alphaearth"):
            link(path, job.out / path.relative_to(job.root))
        said["embeddings"] = "alphaearth"
    splits = list(job.splits)
    if len(set(years)) > 1 and "until-<year>" in job.recipe.splits:
        # The last year that leaves at least a third of the chips to test on.
        ordered = sorted(years)
        until = ordered[min(len(ordered) * 2 // 3, len(ordered) - 1)] - 1
        splits.insert(splits.index("leave-year-out") + 1, f"until-{max(until, ordered[0])}")
    return job.card(groups=groups, splits=splits, split_options={"region": groups[0]}, preprocessing=said)


def link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system cannot."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def write_regions(path: Path, column: str, names: Sequence[str], shapes: Sequence[Any], **more: Sequence[Any]) -> None:
    """A polygon layer that the chips' groups are read from."""
    gpd.GeoDataFrame({column: list(names), **more}, geometry=list(shapes), crs=4326).to_file(path, driver="GPKG", layer=path.stem)


def _has(job: BuildJob, source: str) -> bool:
    return any(known.name == source for known in job.recipe.sources)
