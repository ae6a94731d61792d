"""The AlphaEarth annual embedding: the dataset, and the readers of points and polygons, under the addresses scripts import them from."""

from rs05bench.datasets.product_rasters import AlphaEarthEmbedding

__all__ = ["AlphaEarthEmbedding"]
