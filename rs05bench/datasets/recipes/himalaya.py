"""Burn scars in the Himalaya, held out: steep, shaded, snowy ground that no training region looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import pandas as pd
    import rasterio
    from affine import Affine
    from numpy.typing import NDArray

    from rs05bench.datasets.recipes.burn_chips import BurnScene
    from rs05bench.datasets.recipes.job import BuildJob
    from rs05bench.protocol.card import TaskCard

# The Hindu Kush Himalaya as ICIMOD bounds it, rounded outwards: west, south, east, north.
BOX = (60.0, 15.0, 106.0, 40.0)
STEEP = 25.0
TERRAIN = ((5.0, "flat"), (15.0, "hilly"), (90.0, "steep"))


def make(job: BuildJob) -> TaskCard:
    """Chips of the home region as they are, chips of the Himalaya with masks from perimeters, both with their terrain."""
    import pandas as pd

    from rs05bench.datasets.recipes.burn_chips import chip_card, cut_chips, given_chips, link, read_fires, write_masks, write_regions

    fires = read_fires(job, "perimeters")
    folder = job.out / "chips" / "data"
    scenes = given_chips(job, job.files("chips"), folder)
    if job.files("hls"):
        scenes += cut_chips(job, job.files("hls"), fires, folder)
    if not scenes:
        raise DataError(
            "no chip of the Himalaya: neither granules (hls/) that show a fire in time, nor chips (chips/)",
            source=job.root,
            remedy="Fetch one of them.",
        )
    write_masks(job, scenes, fires)
    _in_place(scenes, job.root, inside=True)
    masks = {path.name.replace(".mask.tif", "") for path in job.files("home") if path.name.endswith(".mask.tif")}
    images = [path for path in job.files("home") if path.name.endswith("_merged.tif")]
    alone = [path for path in images if path.name.removesuffix("_merged.tif") not in masks]
    if alone or not images:
        raise DataError(
            f"{len(alone)} of {len(images)} chips of the home region have no mask" + (f", e.g. {alone[0].name}" if alone else ""),
            source=job.root / "home",
            remedy="Put HLS Burn Scars there as `rs05bench download hls-burn-scars` leaves it.",
        )
    home = given_chips(job, images, folder)
    for path in job.files("home"):
        if path.name.endswith(".mask.tif"):
            link(path, folder / path.name)
    _in_place(home, job.root / "home", inside=False)
    everything = [*scenes, *home]
    names = ["himalaya"] * len(scenes) + ["home"] * len(home)
    shapes = [scene.footprint for scene in everything]
    write_regions(job.out / "regions.gpkg", "region", names, shapes)
    table = _terrain(job, everything)
    write_regions(
        job.out / "terrain.gpkg",
        "terrain",
        table["terrain"].tolist(),
        shapes,
        **{name: table[name].tolist() for name in table if name != "terrain"},
    )
    job.counts["by region"] = pd.Series(names).value_counts().to_dict()
    job.counts["by terrain"] = table["terrain"].value_counts().sort_index().to_dict()
    layers = {"region": ["regions.gpkg", "region"], "terrain": ["terrain.gpkg", "terrain"]}
    return chip_card(
        job, groups=["region", "terrain", "tile", "fire"], layers=layers,
        years=[scene.date.year for scene in everything],
    )  # fmt: skip


def _in_place(scenes: Sequence[BurnScene], source: Path, *, inside: bool) -> None:
    import shapely

    box = shapely.box(*BOX)
    for scene in scenes:
        middle = scene.footprint.centroid
        if box.contains(middle) != inside:
            where = "outside of" if inside else "in"
            raise DataError(
                f"{scene.path.name} lies at {middle.x:.2f}, {middle.y:.2f}: {where} the Hindu Kush Himalaya (longitude 60 to 106, "
                f"latitude 15 to 40)",
                source=source,
                remedy="Chips of the home region belong under home/, those of the Himalaya under chips/ or hls/.",
            )


def _terrain(job: BuildJob, scenes: Sequence[BurnScene]) -> pd.DataFrame:
    """Per chip: mean elevation (m), mean slope (degrees), share steeper than 25 degrees, share under snow, and the terrain class."""
    import numpy as np
    import pandas as pd

    rows = []
    for done, scene in enumerate(scenes):
        job.progress("terrain", done, len(scenes))
        height = _elevation(job.files("dem"), scene)
        row = {"elevation_m": np.nan, "slope_deg": np.nan, "steep_share": np.nan, "snow_share": scene.snow, "terrain": "unknown"}
        known = ~np.isnan(height)
        if known.mean() > 0.5:
            slope = slope_degrees(height, abs(scene.transform.a))
            mean = float(np.nanmean(slope))
            row |= {
                "elevation_m": float(np.nanmean(height)),
                "slope_deg": mean,
                "steep_share": float((slope[~np.isnan(slope)] > STEEP).mean()),
            }
            row["terrain"] = next(name for limit, name in TERRAIN if mean <= limit)
        rows.append(row)
    table = pd.DataFrame(rows)
    unknown = int((table["terrain"] == "unknown").sum())
    if unknown:
        job.notes.append(f"{unknown} of {len(table)} chips have no elevation under most of their pixels: their terrain is 'unknown'.")
    return table


def slope_degrees(height: NDArray[np.floating], step: float) -> NDArray[np.floating]:
    """Slope from central differences.

    Args:
        height: Elevation, metres.
        step: Pixel size, metres.
    """
    import numpy as np

    down, across = np.gradient(height, step)
    return np.degrees(np.arctan(np.hypot(down, across)))


def _elevation(paths: Sequence[Path], scene: BurnScene) -> NDArray[np.float32]:
    import numpy as np
    import rasterio
    import rasterio.warp
    import shapely

    height = np.full(scene.shape, np.nan, np.float32)
    for path in paths:
        try:
            with open_raster_file(path) as src:
                if src.crs is None or src.count != 1:
                    raise DataError(
                        f"expected one band with a CRS, found {src.count} and {src.crs}", source=path, remedy="Is it an elevation model?"
                    )
                bounds = rasterio.warp.transform_bounds(src.crs, "EPSG:4326", *src.bounds)
                if not shapely.box(*bounds).intersects(scene.footprint):
                    continue
                part = np.full(scene.shape, np.nan, np.float32)
                heights, transform = _around(src, scene)
                rasterio.warp.reproject(
                    heights, part, src_transform=transform, src_crs=src.crs, src_nodata=np.nan, dst_transform=scene.transform,
                    dst_crs=scene.crs, dst_nodata=np.nan, resampling=rasterio.warp.Resampling.bilinear,
                )  # fmt: skip
        except rasterio.errors.RasterioError as error:
            raise DataError(
                f"cannot be read as an elevation model ({error})", source=path, remedy="It was cut short: fetch it again."
            ) from None
        height = np.where(np.isnan(height), part, height)
    return height


def _around(src: rasterio.DatasetReader, scene: BurnScene) -> tuple[NDArray[np.float64], Affine]:
    """Heights in metres around a scene, NaN in voids, and their grid.

    Raises:
        DataError: A height no land has.
    """
    import numpy as np
    from rasterio.warp import transform_bounds
    from rasterio.windows import Window, from_bounds, transform

    from rs05bench.datasets.layers.layer_sources import RasterSampling, find_source
    from rs05bench.datasets.rasters import read_meant

    asked = from_bounds(*transform_bounds("EPSG:4326", src.crs, *scene.footprint.bounds), transform=src.transform)
    left, top = max(int(asked.col_off) - 2, 0), max(int(asked.row_off) - 2, 0)
    right = min(int(np.ceil(asked.col_off + asked.width)) + 2, src.width)
    bottom = min(int(np.ceil(asked.row_off + asked.height)) + 2, src.height)
    window = Window(left, top, max(right - left, 1), max(bottom - top, 1))
    heights = read_meant(src, [1], window=window)[0]
    said = find_source("dem").sampler
    assert isinstance(said, RasterSampling)
    assert said.range is not None
    lowest, highest = said.range
    heights[np.isin(heights, said.missing)] = np.nan
    strange = (heights < lowest) | (heights > highest)
    if strange.any():
        raise DataError(
            f"expected metres between {lowest:g} and {highest:g}, found {heights[strange][0]:g}",
            source=src.name,
            remedy=said.remedy,
        )
    return heights, transform(window, src.transform)
