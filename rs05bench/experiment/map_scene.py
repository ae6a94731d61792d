"""What one map is drawn from: embeddings, an image and further layers on one grid, read window by window as chips are."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.datasets.chip_layout import ChipLayout, date_in
from rs05bench.errors import DataError
from rs05bench.experiment.map_frame import Frame, image_frame
from rs05bench.protocol.cog import open_raster_file
from rs05bench.protocol.pixel_grid import WGS84, Grid, name_of, transformer

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from rs05bench.datamodules.chip_view import ChipView
    from rs05bench.datasets.chip_image import ImageFormat
    from rs05bench.datasets.layers import Layer
    from rs05bench.embeddings import EmbeddingReader
    from rs05bench.models.sliding_windows import Window

CACHE_BYTES = 256 << 20
"""Decompressed blocks of tiles that are kept while one scene is drawn, of all products together."""
_HLS_DATE = re.compile(r"\.(20\d\d)(\d{3})\.")

Arrays = dict[str, NDArray[Any]]


@dataclass
class Scene:
    """Everything that a map is drawn from in one place at one time.

    Attributes:
        name: Names its folder, and the map in the report.
        frame: Where it is.
        sources: Embeddings, one reader a product.
        year: Year of the embeddings.
        layers: Column -> raster, for columns of a table that are no component of an embedding.
        image: The image that is mapped.
        extra: Layers that a network was trained with.
        dates: Year and day of year of each date of the image, (dates, 2); None where that is not known.
        tags: What is kept in the map's files.
    """

    name: str
    frame: Frame
    sources: Sequence[EmbeddingReader] = ()
    year: int | None = None
    layers: Mapping[str, RasterLayer] = field(default_factory=dict)
    image: SceneImage | None = None
    extra: Sequence[Layer] = ()
    dates: NDArray[np.float32] | None = None
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.year is not None and self.sources:
            products = [source.product for source in self.sources]
            attribution = " ".join(product.attribution for product in products if product.attribution)
            self.tags |= {"YEAR": str(self.year), "PRODUCT": "+".join(product.name for product in products), "ATTRIBUTION": attribution}

    def embedding(self, window: Window) -> NDArray[np.float32]:
        """The components of all products, decoded, (components, h, w); NaN where there is none."""
        assert self.year is not None
        part = self.frame.part(window)
        return np.concatenate([reader.read(part, self.year) for reader in self._readers])

    def columns(self, window: Window, names: Sequence[str]) -> NDArray[np.float32]:
        """Columns of a table at the pixels of a window, (columns, h, w); NaN where missing."""
        values = self.embedding(window)
        place = self.component_numbers(names)
        part = self.frame.part(window)
        return np.stack([self.layers[name].read(part) if at is None else values[at] for name, at in zip(names, place, strict=True)])

    def component_numbers(self, names: Sequence[str]) -> list[int | None]:
        """Where columns are among the components of `embedding`; None for columns of no product."""
        found: list[int | None] = []
        for name in names:
            first, number = 0, None
            for source in self.sources:
                at = source.product.component(name)
                if at is not None:
                    number = first + at
                    break
                first += source.product.size
            found.append(number)
        return found

    def batch(self, window: Window) -> Arrays:
        """What a network reads of a window, by the names of a batch and without its first axis, with place and date."""
        part = self.frame.part(window)
        west, south, east, north = part.bounds
        lon, lat = transformer(part.crs, WGS84).transform((west + east) / 2, (south + north) / 2)
        arrays: Arrays = {"location": np.array([lat, lon], dtype=np.float32)}
        if self.image is not None and self.image.has_bands:
            arrays["image"] = self.image.read(window)
        if self.dates is not None:
            arrays["time"] = self.dates
        if self.sources:
            values = self.embedding(window)
            arrays["embedding"] = self.sources[0].product.codec.as_stored(values, axis=0) if len(self.sources) == 1 else values
        if self.extra:
            arrays["extra"] = np.concatenate([layer.on_window(part) for layer in self.extra]).astype(np.float32)
        return arrays

    def predictors(self, window: Window) -> NDArray[np.float32]:
        """What a network's area of applicability is measured in, (d, h, w): all bands of all dates, else the embedding."""
        if self.image is None or not self.image.has_bands:
            return self.embedding(window)
        values = self.image.read(window)
        return values.reshape(-1, *values.shape[-2:])

    def close(self) -> None:
        """Closes files and lets go of the blocks kept in memory."""
        self.__dict__.pop("_readers", None)
        if self.image is not None:
            self.image.close()
        for layer in self.layers.values():
            layer.close()

    @functools.cached_property
    def _readers(self) -> list[EmbeddingReader]:
        """The sources, of tiles only those that meet the frame in this year, with few blocks in memory."""
        from rs05bench.embeddings.readers import TileReader

        bounds, year = self.frame.grid.bounds_in(WGS84), int(self.year or 0)
        memory = CACHE_BYTES // len(self.sources)
        return [
            TileReader(source.index.search(bounds, [year]), memory=memory) if isinstance(source, TileReader) else source
            for source in self.sources
        ]


class RasterLayer:
    """One band of any raster on a map's grid (bilinear): a further column such as elevation.

    Args:
        path: The raster.
        column: The column it stands for, for messages.
    """

    def __init__(self, path: str | Path, column: str) -> None:
        from rasterio.errors import RasterioIOError

        try:
            self.dataset: Any = open_raster_file(path)
        except RasterioIOError as error:
            raise DataError(f"the layer of column {column!r} cannot be read: {error}", source=path) from error
        if self.dataset.count != 1 or self.dataset.crs is None:
            what = f"{self.dataset.count} bands" if self.dataset.count != 1 else "no coordinate reference system"
            raise DataError(f"the layer of column {column!r} has {what}; one georeferenced band was expected", source=path)

    def read(self, part: Grid) -> NDArray[np.float32]:
        """Values of a rectangle, (h, w); NaN outside the raster and where it has no data."""
        from rasterio.enums import Resampling
        from rasterio.vrt import WarpedVRT

        grid = {"crs": part.crs, "transform": part.affine, "height": part.height, "width": part.width}
        with WarpedVRT(self.dataset, **grid, resampling=Resampling.bilinear, nodata=np.nan, dtype="float32") as view:
            return np.asarray(view.read(1), dtype=np.float32)

    def close(self) -> None:
        """Closes the file."""
        self.dataset.close()


class SceneImage:
    """An open image, read as the chips of the training were.

    Args:
        path: GeoTIFF with the bands of the training chips, all dates of the first, then the next.
        later: Files of its further dates, where each date is a file.
        format: How the task's images are read; None where a network takes only the image's grid.

    Raises:
        DataError: It cannot be read, has other bands, or no CRS.
    """

    def __init__(self, path: Path, format: ImageFormat | None, later: Sequence[Path] = ()) -> None:
        from rasterio.errors import RasterioIOError

        self.path, self._format, self._seen, self.has_bands = path, format, (0, 0), format is not None
        self._files: list[Any] = []
        try:
            for file in (path, *later):
                try:
                    self._files.append(open_raster_file(file))
                except RasterioIOError as error:
                    raise DataError(f"cannot be read: {error}", source=file) from error
            self.grid = self._whole()
        except BaseException:
            self.close()
            raise

    def frame(self, area: BaseGeometry | None, margin: int) -> Frame:
        """Where the image is drawn; see `image_frame`."""
        seen, frame = image_frame(self.grid, area, margin=margin, source=self.path)
        self._seen = (seen.row, seen.column)
        return frame

    def read(self, window: Window) -> NDArray[np.float32]:
        """The bands of a window of the frame's grid, NaN where missing."""
        from rasterio.windows import Window as Pixels

        assert self._format is not None
        pixels = Pixels(self._seen[1] + window.column, self._seen[0] + window.row, window.width, window.height)
        values = np.concatenate([src.read(window=pixels) for src in self._files])
        return self._format.mark_missing(values.astype(np.float32), self._files[0].nodata)

    def close(self) -> None:
        """Closes its files."""
        for src in self._files:
            src.close()

    def _whole(self) -> Grid:
        src, *later = self._files
        if self._format is not None:
            bands, dates = list(self._format.bands), self._format.dates
            count = sum(file.count for file in self._files)
            if count != dates * len(bands):
                said = f"{dates} dates of " if dates > 1 else ""
                files = f" in {len(self._files)} files" if later else ""
                raise DataError(
                    f"has {count} bands{files}; {said}{', '.join(bands)} were expected ({dates * len(bands)} bands)", source=self.path
                )
        if other := next((file for file in later if (file.transform, file.crs, file.shape) != (src.transform, src.crs, src.shape)), None):
            raise DataError(
                f"lies on another grid than {self.path.name}, its other date", source=other.name, remedy="Warp it first (gdalwarp)."
            )
        place = src.transform
        if src.crs is None or place.b or place.d or place.e >= 0:
            raise DataError(
                "is not a north-up raster with a coordinate reference system", source=self.path, remedy="Warp it first (gdalwarp)."
            )
        return Grid(name_of(src.crs), place.c, place.f, place.a, -place.e, src.height, src.width)


@dataclass(frozen=True)
class NetworkReads:
    """What a network reads of a scene.

    Attributes:
        name: The network's name, for messages.
        image: Whether it reads bands.
        embedding: Whether it reads an embedding.
    """

    name: str
    image: bool
    embedding: bool

    @classmethod
    def of(cls, name: str, inputs: str) -> NetworkReads:
        """From the inputs that a model card names."""
        from rs05bench.embeddings.products import families

        alone = all(part in families() for part in inputs.split("+"))
        return cls(name, not alone, alone or inputs == "hybrid")


@dataclass(frozen=True)
class ImageRequest:
    """How images become scenes.

    Attributes:
        reads: What the network reads.
        data: The view it was trained on.
        sources: Embeddings.
        year: Year of them; None takes the one in an image's name, shifted as the card's `embedding_year_offset` says.
        area: Which part of an image is drawn, WGS84 degrees; None for all.
        margin: Pixels that the network sees around that part.
    """

    reads: NetworkReads
    data: ChipView
    sources: Sequence[EmbeddingReader] = ()
    year: int | None = None
    area: BaseGeometry | None = None
    margin: int = 0


def image_scenes(paths: Sequence[Path], request: ImageRequest) -> list[Scene]:
    """The scenes of images; a network that reads an embedding alone takes only their grids.

    Where the card says that each date is a file, images whose names differ in the date alone are one scene.

    Raises:
        DataError: An image cannot be read, has other bands or no CRS, does not meet the area, needs tiles that were not given, or two have
            one name.
    """
    layout = ChipLayout.of(request.data.card) if request.data.card.preprocessing.chips else None
    named: dict[str, list[Path]] = {}
    for path in paths:
        name = (layout.unit_of(path, layout.image_suffix) or path.stem) if layout is not None and layout.file_per_date else path.stem
        if named.setdefault(name, []) and (layout is None or not layout.file_per_date):
            raise DataError("two images have the same name", remedy="Maps are named after their images: rename one.")
        named[name].append(path)
    scenes: list[Scene] = []
    try:
        for name, files in named.items():
            scenes.append(_image_scene(name, files, layout, request))
    except BaseException:
        for scene in scenes:
            scene.close()
        raise
    return scenes


def _image_scene(name: str, files: Sequence[Path], layout: ChipLayout | None, request: ImageRequest) -> Scene:
    reads, data = request.reads, request.data
    if layout is not None and layout.file_per_date:
        files = sorted(files, key=lambda file: layout.date_of(file, file.parent.parent))
    path, *later = files
    image = SceneImage(path, data.format if reads.image else None, later)
    try:
        frame = image.frame(request.area, request.margin)
        dates = [date for file in files if (date := _taken(file, layout)) is not None]
        dates = dates if len(dates) == data.num_frames else dates[:1] * data.num_frames
        return Scene(
            name,
            frame,
            sources=request.sources if reads.embedding else (),
            year=_embedding_year(path, request, frame, dates[0][0] if dates else None) if reads.embedding else None,
            image=image,
            extra=data.layers if data.shown.extra else (),
            dates=np.array(dates, dtype=np.float32) if dates else None,
            tags={"IMAGE": ", ".join(file.name for file in files)},
        )
    except BaseException:
        image.close()
        raise


def _taken(file: Path, layout: ChipLayout | None) -> tuple[int, int] | None:
    """Year and day of year of an image, from its name as the card finds it, or as HLS writes it."""
    dated = date_in(file, file.parent.parent, layout.date) if layout is not None and layout.date else None
    if dated is not None:
        return dated.start.year, dated.start.day_of_year
    found = _HLS_DATE.search(file.name)
    return None if found is None else (int(found[1]), int(found[2]))


def _embedding_year(path: Path, request: ImageRequest, frame: Frame, imaged: int | None) -> int:
    # Shifted as the data module does: a map of another year than the training's would be another map.
    year = request.year if request.year is not None or imaged is None else imaged + request.data.shown.year_offset
    if not request.sources or year is None:
        missing = "tiles (--from)" if not request.sources else "a year (--years)"
        raise DataError(f"{request.reads.name} reads an embedding, and no {missing} was given", source=path)
    for source in request.sources:
        if not len(source.tiles(frame.target.bounds_in(WGS84), year)):
            there = f"There are tiles of {', '.join(map(str, source.years or ())) or 'no year'}; check --years and --from."
            raise DataError(f"no tile of {source.product.name} of {year} meets the image", source=path, remedy=there)
    return year
