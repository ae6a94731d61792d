"""What a trained network is drawn over: an image, or the AlphaEarth tiles of a year. Both are read window by window, as chips are."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.experiment.map_frame import Frame, image_frame
from rs05bench.experiment.map_grid import EmbeddingBlocks, affine_of
from rs05bench.protocol.cog import open_raster_file

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from rs05bench.datasets.chip_image import ImageFormat
    from rs05bench.embeddings import TileIndex
    from rs05bench.embeddings.grid import Grid
    from rs05bench.models.inference import Window

_HLS_DATE = re.compile(r"\.(20\d\d)(\d{3})\.")

Arrays = dict[str, NDArray[Any]]


class Scene(Protocol):
    """What a network can be drawn over.

    Attributes:
        name: Names its folder, and the map in the report.
        tags: Words kept in its files.
        frame: Where it lies.
    """

    name: str
    tags: dict[str, str]
    frame: Frame

    def read(self, window: Window) -> Arrays:
        """What the network sees of a window, by the names of a batch and without its first axis."""

    def predictors(self, window: Window) -> NDArray[np.float32]:
        """What the area of applicability is measured in, (d, h, w); NaN where missing."""

    def close(self) -> None:
        """Lets go of files and of the blocks kept in memory."""


def predictors(arrays: Mapping[str, NDArray[Any]], inputs: str) -> NDArray[np.float32]:
    """Per-pixel predictors (n, d, h, w) of a batch: the decoded embedding, or all bands of all dates."""
    from rs05bench.embeddings import decode
    from rs05bench.embeddings.products import families

    if inputs in families():
        values = arrays["embedding"]
        return decode(values) if values.dtype == np.int8 else np.asarray(values, dtype=np.float32)
    image = arrays["image"]
    return np.asarray(image.reshape(len(image), -1, *image.shape[-2:]), dtype=np.float32)


class TileScene:
    """AlphaEarth tiles of one year.

    Args:
        index: The tiles.
        frame: From `tile_frame`.
        year: Which year.
    """

    def __init__(self, index: TileIndex, frame: Frame, year: int) -> None:
        self.name, self.tags, self.frame = str(year), _tile_tags(index, year), frame
        self._index, self._year = index, year

    @functools.cached_property
    def _embedding(self) -> EmbeddingBlocks:
        return EmbeddingBlocks(self._index, self.frame.grid, self._year)

    def read(self, window: Window) -> Arrays:
        """The embedding of a window, int8."""
        from rs05bench.embeddings import encode

        return {"embedding": encode(self._embedding.read(self.frame.part(window)), axis=0, of=self._index.product)}

    def predictors(self, window: Window) -> NDArray[np.float32]:
        """The decoded embedding."""
        return predictors({name: value[None] for name, value in self.read(window).items()}, "alphaearth")[0]

    def close(self) -> None:
        """Lets go of the blocks kept in memory."""
        self.__dict__.pop("_embedding", None)


class ImageScene:
    """One image, read as the data module reads chips.

    Args:
        path: GeoTIFF with the bands of the training chips, all dates of the first, then the next. A network that reads AlphaEarth alone
            takes only its grid.
        model: The network; says what it reads.
        data: The view it was trained on; says which bands an image has, and which layers and year go with it.
        index: AlphaEarth tiles.
        year: Year of the embedding; default the one in the image's name, shifted as the card's `embedding_year_offset` says.
        area: Which part is drawn, WGS84 degrees; None for all.
        margin: Pixels that the network sees around that part.

    Raises:
        DataError: It cannot be read, has other bands or no CRS, lies off the area, or needs tiles that were not given.
    """

    def __init__(
        self, path: Path, model: Any, data: Any, *, index: TileIndex | None, year: int | None, area: BaseGeometry | None, margin: int
    ) -> None:
        self.path, self.inputs = path, model.card.inputs
        self.name, self.tags = path.stem, {"IMAGE": path.name}
        self._dates, self._bands = int(data.num_frames), list(data.bands)
        self._date = _HLS_DATE.search(path.name)
        self._src: Any = _opened(path)
        try:
            whole = self._whole()
            self._seen, self.frame = image_frame(whole, area, margin=margin, source=path)
            self._format: ImageFormat = data.format
            self._layers = list(data.layers) if data.shown.extra else []
            self._index, self._year = index, self._embedding_year(model, data, index, year)
            self.tags |= {} if self._year is None or index is None else _tile_tags(index, self._year)
        except BaseException:
            self._src.close()
            raise

    def _whole(self) -> Grid:
        from rs05bench.embeddings.grid import Grid, name_of

        src, wanted = self._src, self._dates * len(self._bands)
        if self.inputs != "alphaearth" and src.count != wanted:
            dates = f"{self._dates} dates of " if self._dates > 1 else ""
            raise DataError(f"has {src.count} bands; {dates}{', '.join(self._bands)} were expected ({wanted} bands)", source=self.path)
        place = src.transform
        if src.crs is None or place.b or place.d or place.e >= 0:
            raise DataError(
                "is not a north-up raster with a coordinate reference system", source=self.path, remedy="Warp it first (gdalwarp)."
            )
        return Grid(name_of(src.crs), place.c, place.f, place.a, -place.e, src.height, src.width)

    def _embedding_year(self, model: Any, data: Any, index: TileIndex | None, year: int | None) -> int | None:
        """The year of the embedding; None for a network that reads none."""
        if self.inputs not in ("alphaearth", "hybrid"):
            return None
        if year is None and self._date:
            # As the data module does: a map of another year than the training's would be another map.
            year = int(self._date[1]) + int(data.card.preprocessing.get("embedding_year_offset", 0))
        if index is None or year is None:
            missing = "tiles (--from)" if index is None else "a year (--years)"
            raise DataError(f"{model.card.name} reads AlphaEarth, and no {missing} was given", source=self.path)
        if not len(index.search(_in_degrees(self.frame.target), [year])):
            there = f"There are tiles of {', '.join(map(str, index.years)) or 'no year'}; check --years and --from."
            raise DataError(f"no tile of {index.product.name} of {year} meets the image", source=self.path, remedy=there)
        return year

    def read(self, window: Window) -> Arrays:
        """What the network sees of a window: only what it reads, with place and, where the name tells it, date."""
        part = self.frame.part(window)
        arrays: Arrays = {"location": self._location(part)}
        if self.inputs != "alphaearth":
            arrays["image"] = self._image(window)
        if self._date:
            when = [float(self._date[1]), float(self._date[2])]
            arrays["time"] = np.array([when] * self._dates, dtype=np.float32)
        if self._year is not None:
            arrays["embedding"] = self._embedded(part)
        if self._layers:
            shape, place = (part.height, part.width), affine_of(part)
            arrays["extra"] = np.concatenate([layer.on_window(part.crs, place, shape) for layer in self._layers]).astype(np.float32)
        return arrays

    def predictors(self, window: Window) -> NDArray[np.float32]:
        """The decoded embedding for a network that reads it alone, else all bands of all dates."""
        alone = self.inputs == "alphaearth"
        arrays = {"embedding": self._embedded(self.frame.part(window))} if alone else {"image": self._image(window)}
        return predictors({name: value[None] for name, value in arrays.items()}, self.inputs)[0]

    def close(self) -> None:
        """Closes the image and lets go of the blocks kept in memory."""
        self._src.close()
        self.__dict__.pop("_tiles", None)

    def _image(self, window: Window) -> NDArray[np.float32]:
        from rasterio.windows import Window as Pixels

        pixels = Pixels(self._seen.column + window.column, self._seen.row + window.row, window.width, window.height)
        return self._format.mark_missing(self._src.read(window=pixels).astype(np.float32), self._src.nodata)

    def _embedded(self, part: Grid) -> NDArray[np.int8]:
        from rs05bench.embeddings import encode

        assert self._index is not None
        return encode(self._tiles.read(part), axis=0, of=self._index.product)

    @functools.cached_property
    def _tiles(self) -> EmbeddingBlocks:
        assert self._index is not None
        assert self._year is not None
        return EmbeddingBlocks(self._index, self.frame.grid, self._year)

    def _location(self, part: Grid) -> NDArray[np.float32]:
        from rs05bench.embeddings.grid import transformer

        west, south, east, north = part.bounds
        lon, lat = transformer(part.crs, "EPSG:4326").transform((west + east) / 2, (south + north) / 2)
        return np.array([lat, lon], dtype=np.float32)


def _tile_tags(index: TileIndex, year: int) -> dict[str, str]:
    return {"YEAR": str(year), "PRODUCT": index.product.name, "ATTRIBUTION": index.product.attribution}


def _in_degrees(target: Grid) -> tuple[float, float, float, float]:
    from rs05bench.embeddings.grid import transformer

    return transformer(target.crs, "EPSG:4326").transform_bounds(*target.bounds, densify_pts=21)


def _opened(path: Path) -> Any:
    from rasterio.errors import RasterioIOError

    try:
        return open_raster_file(path)
    except RasterioIOError as error:
        raise DataError(f"cannot be read: {error}", source=path) from error
