"""The tiles of whatever a dataset of embeddings was given, with TorchGeo's kind of error where there are none."""

from __future__ import annotations

import os

from rs05bench.datasets.absent import MissingDatasetError
from rs05bench.embeddings.embedding_source import open_source
from rs05bench.embeddings.products import EmbeddingProduct
from rs05bench.embeddings.readers import TileReader
from rs05bench.embeddings.tile_index import Source, TileIndex, as_index
from rs05bench.errors import DataError


def index_of_tiles(paths: Source, record: EmbeddingProduct, year: int | None, unfilled: str = "skip") -> TileIndex:
    """The tiles of whatever a dataset was given; nothing there is TorchGeo's kind of error too."""
    if isinstance(paths, TileIndex):
        return paths
    try:
        if year is None and isinstance(paths, str | os.PathLike):
            reader = open_source(paths, of=record, unfilled=unfilled)
            if not isinstance(reader, TileReader):
                raise DataError(f"{record.name} is not made of pixels", source=os.fspath(paths), remedy="Read it with open_source.")
            return reader.index
        return as_index(paths, year=year, of=record)
    except DataError as error:
        names = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        if any("://" in str(name) for name in names) or any(_holds_files(name) for name in names):
            raise
        raise MissingDatasetError(error.problem, source=error.source, remedy=error.remedy) from error


def _holds_files(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file of the kind that is read."""
    if os.path.isfile(path):
        return True
    return any(name.lower().endswith((".tif", ".tiff", ".npy", "zarr.json")) for _, _, names in os.walk(path) for name in names)
