"""Layers that stand beside an embedding in a hybrid feature set: terrain, climate zone, distances, counts.

Every layer reads a public source from files of the user's, and answers for points, polygons and raster windows in the same columns, so
that a card's `hybrid` set can name them by a glob (`dem_*`, `climate_*`, `dist_*`, `poi_*`, `buildings_*`).
`rs05bench layers --list` shows the sources with licence, resolution and unit; `docs/howto/layers.md` says how to get them.

Example:
    >>> from rs05bench.datasets.layers import list_sources
    >>> [source.name for source in list_sources()]
    ['dem', 'climate', 'road', 'water', 'urban', 'poi', 'buildings']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rs05bench.datasets.layers.base import Layer
    from rs05bench.datasets.layers.climate import ClimateZones
    from rs05bench.datasets.layers.counts import Counts
    from rs05bench.datasets.layers.distance import Distance
    from rs05bench.datasets.layers.layer_folder import open_layers
    from rs05bench.datasets.layers.layer_sources import LayerSource, list_sources
    from rs05bench.datasets.layers.table import append_layers
    from rs05bench.datasets.layers.terrain import Terrain

_HOME = {
    "ClimateZones": "climate",
    "Counts": "counts",
    "Distance": "distance",
    "Layer": "base",
    "LayerSource": "layer_sources",
    "Terrain": "terrain",
    "append_layers": "table",
    "list_sources": "layer_sources",
    "open_layers": "layer_folder",
}

__all__ = ["ClimateZones", "Counts", "Distance", "Layer", "LayerSource", "Terrain", "append_layers", "list_sources", "open_layers"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
