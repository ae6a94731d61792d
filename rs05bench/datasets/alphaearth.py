"""The AlphaEarth annual embedding and the readers of points and polygons, under the addresses that scripts import them from."""

from __future__ import annotations

import sys
from types import ModuleType

from rs05bench.datasets.product_rasters import AlphaEarthEmbedding
from rs05bench.embeddings.points import read_points
from rs05bench.embeddings.polygons import read_polygons

__all__ = ["AlphaEarthEmbedding", "points", "polygons"]

points, polygons = (ModuleType(f"{__name__}.{name}") for name in ("points", "polygons"))
points.__dict__["read_points"], polygons.__dict__["read_polygons"] = read_points, read_polygons

#: As in `builders`: the modules below this one are in `sys.modules` already.
__path__: list[str] = []
sys.modules |= {module.__name__: module for module in (points, polygons)}
