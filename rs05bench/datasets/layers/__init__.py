"""Layers that stand beside an embedding in a hybrid feature set: terrain, climate zone, distances, counts.

Every layer is a record (`records/*.yaml`: source, licence, columns, how it is sampled) over one of three samplers: raster, distance, count.
It reads a public source from files of the user's, and answers for points, polygons and raster windows in the same columns, so
that a card's `hybrid` set can name them by a glob (`dem_*`, `climate_*`, `dist_*`, `poi_*`, `buildings_*`).
`rs05bench layers --list` shows the sources with licence, resolution and unit; `docs/howto/layers.md` says how to get them.

Example:
    >>> from rs05bench.datasets.layers import list_sources
    >>> [source.name for source in list_sources()]
    ['dem', 'climate', 'road', 'water', 'urban', 'poi', 'buildings']
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rs05bench.extras import first_use

if TYPE_CHECKING:
    from rs05bench.datasets.layers.counts import CountSampler
    from rs05bench.datasets.layers.distance import DistanceSampler
    from rs05bench.datasets.layers.layer_folder import open_layers
    from rs05bench.datasets.layers.layer_sources import LayerSource, find_source, list_sources
    from rs05bench.datasets.layers.raster_sampler import RasterSampler
    from rs05bench.datasets.layers.sampler import Layer
    from rs05bench.datasets.layers.table import append_layers

_HOME = {
    "CountSampler": "counts",
    "DistanceSampler": "distance",
    "Layer": "sampler",
    "LayerSource": "layer_sources",
    "RasterSampler": "raster_sampler",
    "append_layers": "table",
    "find_source": "layer_sources",
    "list_sources": "layer_sources",
    "open_layers": "layer_folder",
}

__all__ = [
    "CountSampler",
    "DistanceSampler",
    "Layer",
    "LayerSource",
    "RasterSampler",
    "append_layers",
    "find_source",
    "list_sources",
    "open_layers",
]

__getattr__, __dir__ = first_use(__name__, _HOME)
