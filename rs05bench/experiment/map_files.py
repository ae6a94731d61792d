"""Files of a map: Cloud Optimized GeoTIFFs written block by block, and the preview."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from rs05bench.experiment.map_frame import BLOCK
from rs05bench.protocol.atomic import hidden_sibling
from rs05bench.protocol.cog import CogLayout, copy_to_cog, refuse_full_disk
from rs05bench.protocol.geodesy import metres_per_degree

if TYPE_CHECKING:
    from rs05bench.embeddings import Grid
    from rs05bench.models.applicability import Applicability

GDAL_CACHE_MB = 64
NO_CLASS = 255
STRIPED_SIDE = 720
"""Pictures of small maps are enlarged to about this many pixels, so that stripes are thin."""
STRIPE = 16
# Qualitative, told apart by colour-blind people as far as so many can be (Okabe-Ito, then Tol's muted and light schemes).
COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#332288", "#88CCEE", "#44AA99", "#117733", "#999933",
    "#DDCC77", "#CC6677", "#882255", "#AA4499", "#77AADD", "#99DDFF", "#BBCC33", "#AAAA00", "#EEDD88", "#EE8866", "#FFAABB", "#DDDDDD",
)  # fmt: skip


def gdal_limits() -> Any:
    """A context in which GDAL keeps few blocks: its own limit is a share of the machine, and would grow with the area up to that."""
    import rasterio

    return rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_MB, GDAL_NUM_THREADS="1")


class CogWriter:
    """Writes one raster block by block and turns it into a Cloud Optimized GeoTIFF; a file that was not finished is not there.

    Args:
        path: The file.
        target: Its grid.
        dtype: Pixel type.
        nodata: Value of pixels without one.
        description: Name of the band.
        tags: Words kept in the file.
        colours: Colour of each value from 0 on, where the values are classes.
    """

    def __init__(
        self, path: Path, target: Grid, dtype: str, nodata: float, *, description: str, tags: dict[str, str], colours: Sequence[str] = ()
    ) -> None:
        import rasterio

        self.path, self.categorical = path, bool(colours)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._work = hidden_sibling(path)
        self._work.mkdir()
        self._out: Any = rasterio.open(
            self._work / "blocks.tif",
            "w",
            driver="GTiff",
            count=1,
            dtype=dtype,
            nodata=nodata,
            height=target.height,
            width=target.width,
            crs=target.crs,
            transform=target.affine,
            tiled=True,
            blockxsize=BLOCK,
            blockysize=BLOCK,
            compress="deflate",
            sparse_ok=True,
            bigtiff="if_safer",
        )
        self._out.set_band_description(1, description)
        self._out.update_tags(**tags)
        if colours and dtype == "uint8":
            self._out.write_colormap(1, {code: _rgba(colour) for code, colour in enumerate(colours)})

    def write(self, values: NDArray[Any], row: int, column: int) -> None:
        """Writes a block at its place."""
        from rasterio.windows import Window

        self._out.write(values, 1, window=Window(column, row, values.shape[1], values.shape[0]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._out.close()
            if kind is None:
                refuse_full_disk(self._work)
                layout = CogLayout("DEFLATE", overviews="nearest" if self.categorical else "average")
                copy_to_cog(self._work / "blocks.tif", self.path, layout)
        finally:
            shutil.rmtree(self._work, ignore_errors=True)


class MapWriter:
    """The files of one map, and what is counted while they are written.

    Args:
        folder: Where to.
        target: The grid.
        layers: Names of the planes of a block: `class` or `value`, `confidence` or `half_width90`, `dissimilarity`.
        area: Says which dissimilarities lie inside.
        classes: Names of the classes; None for numbers.
        tags: Words kept in every file.

    Attributes:
        files: Name -> file.
    """

    def __init__(
        self, folder: Path, target: Grid, layers: Sequence[str], area: Applicability, *, classes: list[str] | None, tags: dict[str, str]
    ) -> None:
        kinds = {name: ("float32", float("nan")) for name in layers}
        if classes is not None:
            kinds["class"] = ("uint8", NO_CLASS) if len(classes) < NO_CLASS else ("uint16", 65535)
        kinds["applicable"] = ("uint8", NO_CLASS)
        tags = tags | {"AOA_THRESHOLD": f"{area.threshold:.6g}"} | {f"CLASS_{code}": name for code, name in enumerate(classes or ())}
        colours = {"class": class_colours(len(classes or ())), "applicable": ["#BBBBBB", "#009E73"]}
        self.files = {name: folder / f"{name}.tif" for name in kinds}
        self._kinds, self._area, self._classes = kinds, area, classes
        self._pixel_area = abs(target.xres * target.yres)
        self._writers = {
            name: CogWriter(self.files[name], target, dtype, nodata, description=name, tags=tags, colours=colours.get(name, ()))
            for name, (dtype, nodata) in kinds.items()
        }
        self._pixels = self._inside = 0
        self._by_class = np.zeros((2, len(classes or ())), dtype=np.int64)
        self._confidence = 0.0
        self._values = [0.0, 0.0, np.inf, -np.inf]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for writer in self._writers.values():
            writer.__exit__(kind, error, trace)

    def add(self, planes: dict[str, NDArray[np.float32]], row: int, column: int) -> None:
        """Writes a block and counts it; pixels that are NaN have no prediction, and those without a dissimilarity are not inside."""
        known = np.isfinite(planes["value" if self._classes is None else "class"])
        inside = known & self._area.inside(planes["dissimilarity"])
        written = {**planes, "applicable": np.where(known, inside, np.nan).astype(np.float32)}
        for name, plane in written.items():
            dtype, nodata = self._kinds[name]
            self._writers[name].write(plane if dtype == "float32" else np.where(np.isnan(plane), nodata, plane).astype(dtype), row, column)
        self._pixels, self._inside = self._pixels + int(known.sum()), self._inside + int(inside.sum())
        if self._classes is not None:
            for which, mask in enumerate((known, inside)):
                self._by_class[which] += np.bincount(planes["class"][mask].astype(np.int64), minlength=len(self._classes))
            self._confidence += float(planes["confidence"][known].sum(dtype=np.float64))
        elif known.any():
            values = planes["value"][known].astype(np.float64)
            total, squares, low, high = self._values
            self._values = [total + values.sum(), squares + (values**2).sum(), min(low, values.min()), max(high, values.max())]

    def counts(self) -> dict[str, Any]:
        """Pixels, how many are inside the area of applicability, and per class or over all values."""
        found: dict[str, Any] = {"pixels": self._pixels, "inside": self._inside, "share_inside": self._inside / max(self._pixels, 1)}
        if self._classes is not None:
            found["classes"] = {
                name: {"pixels": int(everywhere), "inside": int(inside)}
                for name, everywhere, inside in zip(self._classes, *self._by_class, strict=True)
            }
            found["mean_confidence"] = self._confidence / max(self._pixels, 1)
        elif self._pixels:
            mean = self._values[0] / self._pixels
            spread = max(self._values[1] / self._pixels - mean**2, 0.0) ** 0.5
            found["values"] = {"mean": mean, "deviation": spread, "least": float(self._values[2]), "largest": float(self._values[3])}
        return found | {"pixel_area": self._pixel_area}


def class_colours(count: int) -> list[str]:
    """One colour a class."""
    return [COLOURS[code % len(COLOURS)] for code in range(count)]


@dataclass(frozen=True)
class MapPanel:
    """One picture of a map, with what its colours mean.

    Attributes:
        name: `class`, `value`, `confidence` or `half_width90`.
        pixels: RGBA bytes (rows, columns, 4), north up; transparent where nothing was mapped, striped outside the area of applicability.
        entries: (colour, words) of each class that is there, and of the stripes.
        ramp: (colour map, least, largest) of numbers; None for classes.
        words: What the numbers are.
        width_m: Ground width of the picture, metres.
    """

    name: str
    pixels: NDArray[np.uint8]
    entries: list[tuple[str, str]]
    ramp: tuple[str, float, float] | None
    words: str
    width_m: float


def map_panels(files: Mapping[str, Path], *, classes: Sequence[str] | None, unit: str = "") -> list[MapPanel]:
    """The pictures of a map: what was mapped, and how sure it is where that is known.

    Args:
        files: `class` or `value`, and where there are such `confidence` or `half_width90`, `applicable`.
        classes: Names of the classes, None for numbers.
        unit: Name of what is mapped.
    """
    from matplotlib import colormaps
    from matplotlib.colors import Normalize, to_rgba_array

    found = []
    striped = _decimated(files["applicable"]) == 0 if "applicable" in files else None
    words = {"value": unit, "confidence": "largest probability", "half_width90": f"half width of the 90 % interval ({unit})"}
    for name in ("class", "value", "confidence", "half_width90"):
        if name not in files:
            continue
        values = _decimated(files[name])
        known, entries, ramp = np.isfinite(values), list[tuple[str, str]](), None
        if name == "class" and classes is not None:
            colours = class_colours(len(classes))
            codes = np.where(known, values, 0).astype(np.int64)
            picture = to_rgba_array(colours)[codes]
            entries = [(colours[code], str(classes[code])) for code in np.unique(codes[known]).tolist()]
        else:
            low, high = (float(values[known].min()), float(values[known].max())) if known.any() else (0.0, 1.0)
            ramp = ("viridis" if name == "value" else "cividis", low, high)
            picture = colormaps[ramp[0]](Normalize(low, high)(np.where(known, values, low)))
        picture[~known] = 0
        times = -(-STRIPED_SIDE // max(values.shape))
        picture = np.repeat(np.repeat(picture, times, axis=0), times, axis=1)
        if name in ("class", "value") and striped is not None and striped.any():
            rows, columns = np.indices(picture.shape[:2])
            outside = np.repeat(np.repeat(striped & known, times, axis=0), times, axis=1)
            picture[outside & ((rows + columns) % STRIPE < STRIPE // 4)] = (0.1, 0.1, 0.1, 1.0)
            entries.append(("stripes", "outside the area of applicability"))
        pixels = np.asarray(np.round(picture * 255), dtype=np.uint8)
        found.append(MapPanel(name, pixels, entries, ramp, words.get(name, ""), _width_m(files[name])))
    return found


def write_preview(
    path: Path, files: Mapping[str, Path], *, title: str, classes: Sequence[str] | None, unit: str = "", simulated: bool = False
) -> Path:
    """A picture of a map and of how sure it is, in one file; what is outside the area of applicability is striped.

    Args:
        path: The PNG.
        files: As for `map_panels`.
        title: Over the picture.
        classes: Names of the classes, None for numbers.
        unit: Name of what is mapped.
        simulated: Whether to say that the data are simulated.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    panels = map_panels(files, classes=classes, unit=unit)
    figure = Figure(figsize=(11 if len(panels) > 1 else 6.5, 5.2), layout="constrained")
    for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axis.imshow(panel.pixels, interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        if panel.ramp is not None:
            colours, low, high = panel.ramp
            figure.colorbar(ScalarMappable(Normalize(low, high), colours), ax=axis, shrink=0.8, label=panel.words)
        if panel.entries:
            handles = [
                Patch(facecolor="white", edgecolor="0.1", hatch="////", label=words)
                if colour == "stripes"
                else Patch(facecolor=colour, label=words)
                for colour, words in panel.entries
            ]
            axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=3, frameon=False, fontsize=8)
    # Names of images are long, and a title that does not fit is cut at both ends.
    figure.axes[0].set_title(textwrap.fill(title, 56), fontsize=10)
    if simulated:
        figure.text(0.99, 0.985, "SIMULATED DATA", ha="right", va="top", fontsize=9, fontweight="bold", color="#D55E00")
    figure.savefig(path, dpi=110, metadata={"Software": "rs05bench"})
    return path


def _width_m(path: Path) -> float:
    """Ground width of a raster, metres."""
    import rasterio

    with rasterio.open(path, driver="GTiff") as src:
        left, bottom, right, top = src.bounds
        if src.crs.is_geographic:
            return float((right - left) * metres_per_degree((bottom + top) / 2)[0])
        return float((right - left) * src.crs.linear_units_factor[1])


def _decimated(path: Path, most: int = 900) -> NDArray[np.float32]:
    """A small copy from the overviews, NaN where there is no value."""
    import rasterio
    from rasterio.enums import Resampling

    with rasterio.open(path, driver="GTiff") as src:
        factor = max(1.0, max(src.height, src.width) / most)
        shape = (max(1, round(src.height / factor)), max(1, round(src.width / factor)))
        values = src.read(1, out_shape=shape, masked=True, resampling=Resampling.nearest)
    return np.ma.filled(values.astype(np.float32), np.nan)


def _rgba(colour: str) -> tuple[int, int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16), 255
