"""Public embeddings: products, their readers, and what is read with them.

The names below are imported where they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rs05bench.extras import first_use

if TYPE_CHECKING:
    from rs05bench.embeddings.block_cache import BlockCache
    from rs05bench.embeddings.change import angle, change_features, dot
    from rs05bench.embeddings.embedding_source import Access, open_source
    from rs05bench.embeddings.points import read_points
    from rs05bench.embeddings.polygons import read_polygons
    from rs05bench.embeddings.products import EmbeddingProduct, all_products, product
    from rs05bench.embeddings.raster_files import open_raster
    from rs05bench.embeddings.readers import EmbeddingReader
    from rs05bench.embeddings.tile_index import TileIndex
    from rs05bench.embeddings.vectors import DecodeEmbedding, decode, decode_tensor, encode, normalise, pool
    from rs05bench.protocol.pixel_grid import Grid

_HOME = {
    "Access": "embedding_source",
    "BlockCache": "block_cache",
    "DecodeEmbedding": "vectors",
    "EmbeddingProduct": "products",
    "EmbeddingReader": "readers",
    "Grid": "raster",
    "TileIndex": "tile_index",
    "all_products": "products",
    "angle": "change",
    "change_features": "change",
    "decode": "vectors",
    "decode_tensor": "vectors",
    "dot": "change",
    "encode": "vectors",
    "normalise": "vectors",
    "open_raster": "raster_files",
    "open_source": "embedding_source",
    "pool": "vectors",
    "product": "products",
    "read_points": "points",
    "read_polygons": "polygons",
}

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

__getattr__, __dir__ = first_use(__name__, _HOME)
