"""Pixels of chips without their labels: images, embeddings and layers on each chip's own grid."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.datamodules.array_cache import KeptArrays, cache_folder, file_key
from rs05bench.datasets.chip_image import ChipImage, ImageFormat
from rs05bench.embeddings.products import DEFAULT, EmbeddingProduct, product
from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.hashing import text_digest
from rs05bench.protocol.pixel_grid import Grid


@dataclass(frozen=True)
class PixelSources:
    """Where rasters other than the image come from.

    Attributes:
        name: Name of the task, for messages.
        root: Folder of the chips, for messages.
        resolution_m: Pixel size of the chips in metres.
        embeddings: Tiles of an embedding (a folder, files, addresses, a store or a published index); None where models need none.
        product: What the tiles hold.
        extra: A folder of layers for hybrid models, and which of them (None takes all).
    """

    name: str
    root: Path
    resolution_m: float
    embeddings: Any | None = None
    extra: tuple[Path, tuple[str, ...] | None] | None = None
    product: EmbeddingProduct = field(default_factory=product)


class PixelStore:
    """Pixels of some chips; nothing of it leads to a label.

    Args:
        images: The images by unit.
        format: How they are read.
        sources: Where embeddings and layers come from.
    """

    def __init__(self, images: Mapping[str, ChipImage], format: ImageFormat, sources: PixelSources) -> None:
        self.format, self.sources = format, sources
        self._images = dict(images)
        self._kept = KeptArrays()
        self._tiles: dict[str, Any] = {}

    def only(self, unit_ids: Collection[str]) -> PixelStore:
        """The same store for some of its chips alone; what is kept is shared."""
        part = copy.copy(self)
        part._images = {unit_id: self.chip(unit_id) for unit_id in unit_ids}
        return part

    def chip(self, unit_id: str) -> ChipImage:
        """A chip's image, not read.

        Raises:
            ProtocolError: The unit is not among those shown.
        """
        if unit_id not in self._images:
            raise ProtocolError(f"unit {unit_id!r} is not among the {len(self._images)} that are shown here")
        return self._images[unit_id]

    def size(self, unit_id: str) -> tuple[int, int]:
        """Rows and columns of a chip; reads no pixel."""
        header = self.chip(unit_id).header
        return header.height, header.width

    def place(self, unit_id: str) -> Grid:
        """Where the pixels of a chip are."""
        return self.chip(unit_id).header.grid

    def image(self, unit_id: str, *, keep: bool = False) -> NDArray[np.float32]:
        """float32 (bands, H, W) or (dates, bands, H, W), NaN where missing.

        Args:
            unit_id: The chip.
            keep: Whether it is likely to be asked for again: then it is decoded once, and kept in memory or, where that is full, as a
                memory map in the cache folder that all processes share.
        """
        header = self.chip(unit_id).header
        if not keep:
            return self.format.read(header)
        size = header.height * header.width * 4 * len(self.format.bands) * self.format.dates
        return self._kept.get(f"image|{self.format}|{file_key(*header.paths)}", size, lambda: self.format.read(header))

    def time(self, unit_id: str) -> NDArray[np.float32]:
        """Year and day of year of each date, (dates, 2)."""
        return np.array([[date.year, date.day_of_year] for date in self.chip(unit_id).dates], dtype=np.float32)

    def location(self, unit_id: str) -> NDArray[np.float32]:
        """Latitude and longitude, (2,)."""
        return np.array(self.chip(unit_id).lonlat[::-1], dtype=np.float32)

    # --- embedding ----------------------------------------------------------------------------------------------------------------------

    @property
    def has_embedding(self) -> bool:
        """Whether tiles of an embedding were given."""
        return self.sources.embeddings is not None

    def embedding(self, unit_id: str, year: int) -> NDArray[Any]:
        """The embedding on a chip's own grid, (dimensions, H, W) as the product's codec holds it, with its fill where there is none.

        Computed once a chip and year, ever: kept as a memory map under `RS05BENCH_CACHE` (default `~/.cache/rs05bench`), named by the
        tiles, the grid and the year.
        """
        chip = self.chip(unit_id)
        key = f"{self._tiles_digest}|{chip.header.grid.crs}|{tuple(chip.header.transform)}|{chip.header.height}x{chip.header.width}|{year}"
        path = cache_folder() / "chips" / f"{text_digest(key)}.npy"
        return self._kept.on_disk(path, lambda: self._read_embedding(chip, year))

    def _read_embedding(self, chip: ChipImage, year: int) -> NDArray[Any]:
        grid = chip.header.grid
        tiles = self._tiles_in(grid.crs)
        when = slice(pd.Timestamp(year, 1, 1), pd.Timestamp(year, 12, 31))
        try:
            return np.asarray(tiles[grid.west : grid.east : grid.xres, grid.south : grid.north : grid.yres, when]["image"].numpy())
        except IndexError:
            codec = tiles.product.codec
            return np.full((tiles.product.size, grid.height, grid.width), codec.fill, dtype=codec.dtype)

    @functools.cached_property
    def _tiles_digest(self) -> str:
        """Identity of the tiles: their paths, and size and time of change of local ones."""
        if self.sources.embeddings is None:
            raise self._no_tiles()
        from rs05bench.datasets import EmbeddingRasters

        record = self.sources.product
        # The default product has no name in the key: what was computed before there were others stays valid.
        digest = hashlib.sha256(b"" if record.name == DEFAULT else record.name.encode())
        for path in sorted(str(path) for path in EmbeddingRasters(self.sources.embeddings, of=record).tiles["path"]):
            there = Path(path).stat() if Path(path).exists() else None
            digest.update(f"{path}\t{there.st_size if there else ''}\t{there.st_mtime_ns if there else ''}\n".encode())
        return digest.hexdigest()

    def _no_tiles(self) -> DataError:
        return DataError(
            f"{self.sources.name} was opened without tiles of an embedding, and this model needs them",
            source=self.sources.root,
            remedy="Give embeddings=FOLDER (rs05bench extract fetches them, rs05bench simulate makes some).",
        )

    def _tiles_in(self, crs: str) -> Any:
        if self.sources.embeddings is None:
            raise self._no_tiles()
        if crs not in self._tiles:
            from rs05bench.datasets import EmbeddingRasters

            self._tiles[crs] = EmbeddingRasters(
                self.sources.embeddings, crs=crs, res=self.sources.resolution_m, of=self.sources.product, decoded=False
            )
        return self._tiles[crs]

    # --- layers -------------------------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def extra_layers(self) -> dict[str, Any]:
        """The layers that hybrid models see beside bands and embedding; none where the card names none."""
        if self.sources.extra is None:
            return {}
        from rs05bench.datasets.layers import open_layers

        return dict(open_layers(*self.sources.extra))

    @property
    def extra_columns(self) -> list[str]:
        """What the channels of `extra` are."""
        return [column for layer in self.extra_layers.values() for column in layer.window_columns()]

    def extra(self, unit_id: str) -> NDArray[np.float32]:
        """The layers on a chip's own grid, float32 (channels, H, W), NaN where missing; computed once a chip and kept as `embedding` is."""
        grid = self.place(unit_id)
        key = f"{self._extra_digest}|{grid.crs}|{tuple(grid.affine)}|{(grid.height, grid.width)}"

        def read() -> NDArray[np.float32]:
            windows = [layer.on_window(grid) for layer in self.extra_layers.values()]
            return np.concatenate(windows).astype(np.float32)

        return self._kept.on_disk(cache_folder() / "chips" / f"{text_digest(key)}.npy", read)

    @functools.cached_property
    def _extra_digest(self) -> str:
        """Identity of the layers: their columns, and name, size and time of change of their files."""
        assert self.sources.extra is not None
        digest = hashlib.sha256("|".join(self.extra_columns).encode())
        for path in sorted(path for path in self.sources.extra[0].rglob("*") if path.is_file()):
            there = path.stat()
            digest.update(f"{path}\t{there.st_size}\t{there.st_mtime_ns}\n".encode())
        return digest.hexdigest()
