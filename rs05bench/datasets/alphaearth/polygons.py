"""`read_polygons` of :mod:`rs05bench.embeddings.polygons`."""

from rs05bench.embeddings.polygons import read_polygons

__all__ = ["read_polygons"]
