"""Where embeddings come from: a folder, the public mirror, the bucket, the Zarr mosaic, or Earth Engine, behind one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rs05bench.embeddings.blocks import BlockCache
from rs05bench.embeddings.bytesource import is_remote, store_for
from rs05bench.embeddings.codec import MASKED, encode
from rs05bench.embeddings.grid import WGS84, crs_name, transformer
from rs05bench.embeddings.points import read_points
from rs05bench.embeddings.polygons import read_polygons
from rs05bench.embeddings.raster import open_raster
from rs05bench.embeddings.resample import Target, is_native, read_onto
from rs05bench.embeddings.tiles import INDEX_NAME, TileIndex, as_index
from rs05bench.embeddings.window import read_window
from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_text, writing
from rs05bench.protocol.hashing import file_digest

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

MIRROR = "https://data.source.coop/tge-labs/aef/v1/annual"
BUCKET = "https://storage.googleapis.com/alphaearth_foundations/satellite_embedding/v1/annual"
MOSAIC = "https://data.source.coop/tge-labs/aef-mosaic"
NAMES = ("mirror", "gcs", "zarr", "earthengine")


class EmbeddingSource(Protocol):
    """What extraction asks of a source."""

    description: str
    portion: int

    def points(
        self, lon: ArrayLike, lat: ArrayLike, year: int, *, on_tile: Callable[[str, int], None] | None = None
    ) -> NDArray[np.float32]:
        """The embedding at points, `(n, 64)` float32, NaN where there is none."""

    def polygons(
        self, polygons: gpd.GeoSeries, year: int, *, stats: Sequence[str], on_tile: Callable[[str, int], None] | None = None
    ) -> pd.DataFrame:
        """Statistics of polygons, one row each."""

    def chip(
        self, lon: float, lat: float, size: int, year: int, *, on_tile: Callable[[str, int], None] | None = None
    ) -> tuple[NDArray[np.int8], str, tuple[float, ...]]:
        """The native chip around a place: bytes, CRS, north-up transform."""


class TileSource:
    """Tiles of a folder, a web server, a bucket or a mosaic as an embedding source.

    Args:
        index: The tiles.
        memory: Bytes of decompressed blocks kept between chips.
    """

    portion = 250_000

    def __init__(self, index: TileIndex, *, memory: int = 1 << 30) -> None:
        self.index, self.description = index, index.description
        self._blocks = BlockCache(memory)

    def points(
        self, lon: ArrayLike, lat: ArrayLike, year: int, *, on_tile: Callable[[str, int], None] | None = None
    ) -> NDArray[np.float32]:
        """The embedding at points, see `read_points`."""
        return read_points(self.index, lon, lat, year, on_tile=on_tile)

    def polygons(
        self, polygons: gpd.GeoSeries, year: int, *, stats: Sequence[str], on_tile: Callable[[str, int], None] | None = None
    ) -> pd.DataFrame:
        """Statistics of polygons, see `read_polygons`."""
        return read_polygons(self.index, polygons, year, stats=stats, on_tile=on_tile)

    def chip(
        self, lon: float, lat: float, size: int, year: int, *, on_tile: Callable[[str, int], None] | None = None
    ) -> tuple[NDArray[np.int8], str, tuple[float, ...]]:
        """The native chip whose centre pixel holds a place; neighbours of the same grid fill what lies beyond its tile."""
        for position, _ in self.index.candidates([lon], [lat], year):
            raster = self.index.open(position)
            grid = raster.grid
            x, y = transformer(WGS84, grid.crs).transform(lon, lat)
            row, column = (int(v) for v in grid.rows_columns(x, y))
            if not (0 <= row < grid.height and 0 <= column < grid.width):
                continue
            top, left = row - size // 2, column - size // 2
            self._tell(position, on_tile)
            values = _as_bytes(read_window(raster, self._blocks, top, left, size, size))
            if top < 0 or left < 0 or top + size > grid.height or left + size > grid.width:
                west, north = grid.west + left * grid.xres, grid.north - top * grid.yres
                target = Target(crs_name(grid.crs), west, north, grid.xres, grid.yres, size, size)
                values = self._fill(values, target, position, year, on_tile)
            return values, grid.crs, grid.transform(top, left)
        raise DataError(f"no tile of {year} holds longitude {lon:g}, latitude {lat:g}", source=self.description)

    def tile_of(self, lon: ArrayLike, lat: ArrayLike, year: int) -> NDArray[np.int64]:
        """The position of the first tile tried for each point, -1 where there is none: the order in which work is cheap."""
        out = np.full(np.size(lon), -1, dtype=np.int64)
        for position, members in self.index.candidates(lon, lat, year):
            out[members] = np.where(out[members] < 0, position, out[members])
        return out

    def _tell(self, position: int, on_tile: Callable[[str, int], None] | None) -> None:
        if on_tile is not None:
            on_tile(str(self.index.frame["tile_id"].iloc[position]), 1)

    def _fill(
        self, values: NDArray[np.int8], target: Target, position: int, year: int, on_tile: Callable[[str, int], None] | None
    ) -> NDArray[np.int8]:
        west, south, east, north = target.bounds
        frame = self.index.frame
        near = (frame["crs"] == target.crs) & (frame["year"] == year) & (frame["west"] < east) & (frame["east"] > west)
        near &= (frame["south"] < north) & (frame["north"] > south)
        for other in np.flatnonzero(near.to_numpy()):
            raster = self.index.open(int(other))
            if other != position and is_native(raster, target):
                self._tell(int(other), on_tile)
                values = np.where(values[0] == MASKED, _as_bytes(read_onto(raster, self._blocks, target, range(64))), values)
        return values


def open_source(
    name: str | os.PathLike[str],
    *,
    area: tuple[float, float, float, float] | None = None,
    years: Iterable[int] | None = None,
    url: str | None = None,
    project: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    credentials: Any = "persistent",
) -> EmbeddingSource:
    """Open a source by name.

    Args:
        name: A folder, a file, an index Parquet file, or one of `mirror`, `gcs`, `zarr`, `earthengine`.
        area: Bounds in WGS84 degrees: only the rows of the published index that meet them are read.
        years: Years wanted; None for all.
        url: Another address of `mirror`, `gcs`, `zarr` or `earthengine`.
        project: Cloud project: Earth Engine's, or the one that pays where the bucket asks for it.
        cache_dir: Where the published index is kept (default: `$XDG_CACHE_HOME/rs05bench`).
        credentials: Earth Engine credentials.

    Raises:
        DataError: If the source cannot be opened.
    """
    text = os.fspath(name)
    if text == "earthengine":
        from rs05bench.embeddings.earthengine import EarthEngine

        return EarthEngine(project, credentials=credentials, url=url)
    if text == "zarr" or text.rstrip("/").endswith(".zarr"):
        from rs05bench.embeddings.zarr_mosaic import open_mosaic

        index = open_mosaic(url or (MOSAIC if text == "zarr" else text))
        return TileSource(index.search(years=years) if years is not None else index)
    if text in ("mirror", "gcs"):
        base = (url or (MIRROR if text == "mirror" else BUCKET)).rstrip("/")
        return TileSource(_published(base, area, years, _payer(text, base, project), Path(cache_dir) if cache_dir else _cache_dir()))
    if not is_remote(text) and not Path(text).exists():
        raise DataError("no such file or folder", source=text, remedy=f"A source is a path or one of {', '.join(NAMES)}.")
    index = TileIndex.from_parquet(text, root=Path(text).parent, area=area, years=years) if text.endswith(".parquet") else as_index(text)
    return TileSource(index.search(area))


def _published(
    base: str, area: tuple[float, float, float, float] | None, years: Iterable[int] | None, options: dict[str, Any], cache: Path
) -> TileIndex:
    """The published index of a web server or bucket, fetched once, with tiles opened where the index lies."""
    import hashlib

    local = cache / f"aef_index-{hashlib.sha256(base.encode()).hexdigest()[:12]}.parquet"
    checksum = local.with_suffix(".sha256")
    if not (local.is_file() and checksum.is_file() and checksum.read_text(encoding="utf-8") == file_digest(local)):
        _fetch(base, INDEX_NAME, local, options)
        write_text(checksum, file_digest(local))

    def opener(path: str) -> Any:
        return open_raster(path, **options)

    try:
        return TileIndex.from_parquet(local, root=base, area=area, years=years, opener=opener)
    except DataError:
        local.unlink(missing_ok=True)  # a damaged copy must not be found again
        raise


def _fetch(base: str, key: str, target: Path, options: dict[str, Any]) -> None:
    try:
        response = store_for(base, **options).get(key)
        with writing(target) as part, part.open("wb") as stream:
            for piece in response.stream(min_chunk_size=1 << 22):
                stream.write(piece)
    except Exception as error:  # the store raises exceptions of its own
        raise DataError(f"the tile index cannot be fetched: {str(error).strip().splitlines()[0][:300]}", source=f"{base}/{key}") from error


def _payer(name: str, base: str, project: str | None) -> dict[str, Any]:
    """Anonymous where the bucket allows it, else in the name of the user's project."""
    if name != "gcs":
        return {}
    try:
        store_for(base).head(INDEX_NAME)
        return {}
    except Exception as error:
        anonymous = str(error)
    project = project or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        raise DataError(
            f"the bucket refused an anonymous request: {anonymous.strip().splitlines()[0][:200]}",
            source=base,
            remedy="Name a project that may be billed with --project, or use --from mirror.",
        )
    headers = {"x-goog-user-project": project}
    token = _google_token()
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return {"client_options": {"default_headers": headers} | ({"allow_http": True} if base.startswith("http://") else {})}


def _google_token() -> str | None:
    """A token of the user's application default credentials, None where there are none."""
    try:
        import google.auth
        from google.auth.transport.requests import Request

        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/devstorage.read_only"])
        credentials.refresh(Request())
        return str(credentials.token)
    except Exception:  # no library, no credentials, no metadata server: the bucket will say that it refuses
        return None


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rs05bench"


def _as_bytes(values: NDArray[Any]) -> NDArray[np.int8]:
    return values if values.dtype == np.int8 else encode(values, axis=0)
