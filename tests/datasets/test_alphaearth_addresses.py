"""Scripts import the AlphaEarth dataset and its readers from `rs05bench.datasets.alphaearth`."""

from __future__ import annotations


def test_the_addresses_give_what_the_embeddings_room_holds():
    from rs05bench import datasets, embeddings
    from rs05bench.datasets.alphaearth import AlphaEarthEmbedding
    from rs05bench.datasets.alphaearth.points import read_points
    from rs05bench.datasets.alphaearth.polygons import read_polygons

    assert AlphaEarthEmbedding is datasets.AlphaEarthEmbedding
    assert (read_points, read_polygons) == (embeddings.read_points, embeddings.read_polygons)
