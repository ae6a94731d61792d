"""Inputs of the networks from scratch: reflectance, indices, embeddings of any product, training statistics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rs05bench.embeddings.products import product
from rs05bench.errors import DataError
from rs05bench.models.chip_model import DeepModel
from rs05bench.models.deep import create
from rs05bench.models.scratch import InputStack, decode_embedding
from rs05bench.models.summary import summarise
from rs05bench.protocol.card import Training

HLS6 = ["B02", "B03", "B04", "B8A", "B11", "B12"]


def test_int8_embeddings_are_decoded_and_masked():
    coded = torch.zeros(1, 64, 1, 3, dtype=torch.int8)
    coded[0, 0, 0, 0], coded[0, 1, 0, 0], coded[0, :, 0, 2] = 127, -64, -128
    decoded = decode_embedding(coded, product())
    assert decoded[0, 0, 0, 0] == pytest.approx((127 / 127.5) ** 2)
    assert decoded[0, 1, 0, 0] == pytest.approx(-((64 / 127.5) ** 2))
    assert torch.isnan(decoded[..., 2]).all()
    with pytest.raises(DataError, match="expected 64 components of alphaearth-v1, found 10"):
        decode_embedding(coded[:, :10], product())


@pytest.mark.parametrize("name", ["tessera-v1.1-dclimate", "olmoearth-v1-nano", "esd"])
@pytest.mark.parametrize("model", ["{family}/conv1x1", "{family}/unet", "hybrid/unet"])
def test_networks_read_chips_of_any_product_and_are_kept_with_its_record(name: str, model: str, chips: Callable, tmp_path: Path):
    data = chips(steps=2)
    data.embedding_product = product(name)
    components = data.embedding_product.dimensions or 6
    for sample in data.samples:
        sample["embedding"] = 40 * torch.randn(components, 32, 32)
        sample["embedding"][:, 0, 0] = torch.nan
    fitted = create(model.format(family=data.embedding_product.family), steps=2, accelerator="cpu").fit(data)
    assert fitted.network_.stack.product == product(name).sized(components)
    assert fitted.card.licence == product(name).licence
    wanted = dict(fitted.predict_chips(data, "test_id"))
    assert all(np.isfinite(maps).all() for maps in wanted.values())
    fitted.save(tmp_path)
    again = dict(DeepModel.load(tmp_path, accelerator="cpu").predict_chips(data, "test_id"))
    assert all((again[unit] == maps).all() for unit, maps in wanted.items())


def test_a_network_on_one_product_refuses_tiles_of_another(chips: Callable):
    with pytest.raises(DataError, match=r"a model on tessera was given an embedding of alphaearth-v1[\s\S]*alphaearth/"):
        create("tessera/unet").build(chips())


def test_hybrid_stacks_bands_indices_embedding_and_extra_layers():
    image = torch.zeros(1, 6, 1, 1)
    image[0, :, 0, 0] = torch.tensor([0.05, 0.1, 0.1, 0.5, 0.2, 0.1]) * 10_000
    batch = {"image": image, "embedding": torch.ones(1, 64, 1, 1), "extra": torch.full((1, 2, 1, 1), 7.0)}
    stacked = InputStack("hybrid", HLS6, 10_000, product())(batch).flatten()
    ndvi, nbr, ndwi, ndbi = 0.4 / 0.6, 0.4 / 0.6, -0.4 / 0.6, -0.3 / 0.7
    assert stacked[:10].tolist() == pytest.approx([0.05, 0.1, 0.1, 0.5, 0.2, 0.1, ndvi, nbr, ndwi, ndbi], abs=1e-6)
    assert stacked[10:].tolist() == [1.0] * 64 + [7.0] * 2


def test_an_absent_embedding_is_named():
    with pytest.raises(DataError, match="reads the pixels of an embedding, and the data have none"):
        InputStack("alphaearth", [], 1.0)


def test_inputs_are_standardised_by_the_training_role_alone(chips: Callable):
    data = chips()
    for sample in data.samples[4:]:
        sample["image"] += 100
    network = create("raw/unet").build(data)
    summarise(network, data, Training())
    train = torch.stack([sample["image"] for sample in data.samples[:4]])
    assert torch.allclose(network.mean.flatten(), train.mean(dim=(0, 2, 3)), atol=1e-5)
    assert torch.allclose(network.std.flatten(), train.std(dim=(0, 2, 3), unbiased=False), atol=1e-4)


def test_networks_from_scratch_load_no_pretrained_weights(chips: Callable):
    """The stem of an ImageNet network is smooth; two seeds of ours must differ everywhere."""
    data = chips()
    one, two = (create("raw/unet", seed=seed).build(data) for seed in (0, 1))
    stems = [network.network.encoder.conv1.weight for network in (one, two)]
    assert not torch.allclose(*stems)


@pytest.mark.parametrize("size", [33, 50])
def test_odd_sizes_come_back_whole(size: int, chips: Callable):
    data = chips(size=size)
    for name in ("raw/unet", "alphaearth/unet"):
        network = create(name).build(data).eval()
        with torch.no_grad():
            assert network(next(iter(data.train_dataloader()))).shape == (2, 2, size, size)
