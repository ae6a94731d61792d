"""`read_points` of :mod:`rs05bench.embeddings.points`."""

from rs05bench.embeddings.points import read_points

__all__ = ["read_points"]
