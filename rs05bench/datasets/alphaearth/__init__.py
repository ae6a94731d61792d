"""The AlphaEarth annual embedding: the dataset, and the readers of points and polygons under their former addresses."""

from rs05bench.datasets.embedding_rasters import AlphaEarthEmbedding

__all__ = ["AlphaEarthEmbedding"]
