"""Public embeddings: products, their readers, and what is read with them.

The names below are imported where they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rs05bench.embeddings.block_cache import BlockCache
    from rs05bench.embeddings.change import angle, change_features, dot
    from rs05bench.embeddings.embedding_source import Access, open_source
    from rs05bench.embeddings.pixel_grid import Grid
    from rs05bench.embeddings.points import read_points
    from rs05bench.embeddings.polygons import read_polygons
    from rs05bench.embeddings.products import EmbeddingProduct, all_products, product
    from rs05bench.embeddings.raster_files import open_raster
    from rs05bench.embeddings.readers import EmbeddingReader
    from rs05bench.embeddings.tile_index import TileIndex
    from rs05bench.embeddings.vectors import DecodeEmbedding, decode, decode_tensor, encode, normalise, pool

__all__ = [
    "Access",
    "BlockCache",
    "DecodeEmbedding",
    "EmbeddingProduct",
    "EmbeddingReader",
    "Grid",
    "TileIndex",
    "all_products",
    "angle",
    "change_features",
    "decode",
    "decode_tensor",
    "dot",
    "encode",
    "normalise",
    "open_raster",
    "open_source",
    "pool",
    "product",
    "read_points",
    "read_polygons",
]

_HOMES = {
    "block_cache": ("BlockCache",),
    "change": (
        "angle",
        "change_features",
        "dot",
    ),
    "pixel_grid": ("Grid",),
    "points": ("read_points",),
    "polygons": ("read_polygons",),
    "products": (
        "EmbeddingProduct",
        "all_products",
        "product",
    ),
    "raster_files": ("open_raster",),
    "readers": ("EmbeddingReader",),
    "embedding_source": ("Access", "open_source"),
    "tile_index": ("TileIndex",),
    "vectors": (
        "DecodeEmbedding",
        "decode",
        "decode_tensor",
        "encode",
        "normalise",
        "pool",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
