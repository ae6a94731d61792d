"""Scripts import from addresses that were: AlphaEarth's readers, recipes as `builders`, the terrain layer."""

from __future__ import annotations

import pytest

from rs05bench.errors import DataError


def test_the_addresses_give_what_the_embeddings_room_holds():
    from rs05bench import datasets, embeddings
    from rs05bench.datasets.alphaearth import AlphaEarthEmbedding
    from rs05bench.datasets.alphaearth.points import read_points
    from rs05bench.datasets.alphaearth.polygons import read_polygons

    assert AlphaEarthEmbedding is datasets.AlphaEarthEmbedding
    assert (read_points, read_polygons) == (embeddings.read_points, embeddings.read_polygons)


def test_the_former_names_of_recipes_are_the_same_functions():
    from rs05bench.datasets.builders import himalaya
    from rs05bench.datasets.builders.burn_chips import Scene
    from rs05bench.datasets.builders.hls import find_granules
    from rs05bench.datasets.builders.vectors import read_layer
    from rs05bench.datasets.recipes import burn_chips, hls, polygon_layers
    from rs05bench.datasets.recipes import himalaya as recipe

    assert (himalaya, Scene, find_granules, read_layer) == (recipe, burn_chips.BurnScene, hls.find_granules, polygon_layers.read_layer)


def test_terrain_is_the_layer_of_heights():
    from rs05bench.datasets.layers.terrain import Terrain

    with pytest.raises(DataError, match="dem needs at least one GeoTIFF"):
        Terrain([])
