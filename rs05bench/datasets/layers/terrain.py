"""Elevation, slope and aspect under the former address of their layer: `Terrain(paths)` is the layer `dem` over those files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rs05bench.datasets.layers.layer_sources import find_source
from rs05bench.datasets.layers.raster_sampler import RasterSampler

__all__ = ["Terrain"]


def Terrain(paths: Sequence[str | Path]) -> RasterSampler:
    """The layer `dem` over GeoTIFF tiles; see `RasterSampler` for what it refuses."""
    return RasterSampler(find_source("dem"), paths)
