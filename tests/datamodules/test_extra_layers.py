"""Layers beside the bands of a chip: on its own grid, turned with it, and part of what a hybrid network reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rasterio.transform import from_origin

from rs05bench.datamodules import BurnScarDataModule
from rs05bench.datamodules.augment import augment
from rs05bench.datamodules.chipsource import chip_card, open_chips
from rs05bench.datasets.layers import open_layers
from rs05bench.datasets.simulated.tessera_store import Block, write_store
from rs05bench.errors import DataError
from rs05bench.protocol.checked_arrays import CheckedArrays
from tests.datasets.layers.files import write_raster


@pytest.fixture(scope="module")
def layers(chip_folder, tmp_path_factory):
    """Elevation that rises to the east and north, over all chips."""
    root = tmp_path_factory.mktemp("layers")
    card = chip_card("burn-scars", chip_folder / "hls_burn_scars")
    source = open_chips(card.with_preprocessing(folder="hls_burn_scars"), chip_folder)
    boxes = []
    for unit in source.frame["unit_id"]:
        boxes.append(source.place(unit).bounds_in("EPSG:4326"))
    for number, (west, south, east, north) in enumerate(boxes):
        transform = from_origin(west - 0.01, north + 0.01, 0.001, 0.001)
        shape = (int((north - south) / 0.001) + 20, int((east - west) / 0.001) + 20)
        rows, cols = np.mgrid[: shape[0], : shape[1]]
        write_raster(root / f"dem/{number}.tif", (100 + cols + 2 * rows).astype(np.float32), transform)
    return root


@pytest.fixture
def source(chip_folder, layers, tmp_path, monkeypatch):
    monkeypatch.setenv("RS05BENCH_CACHE", str(tmp_path / "cache"))
    card = chip_card("burn-scars", chip_folder / "hls_burn_scars")
    extra = {"folder": str(layers), "only": ["dem"]}
    return open_chips(card.with_preprocessing(folder="hls_burn_scars", extra=extra, patch_size=64, embeddings="alphaearth"), chip_folder)


def test_layers_lie_on_the_chip_and_are_kept(source, layers, tmp_path):
    unit = source.frame["unit_id"].iloc[0]
    expected = open_layers(layers)["dem"].on_window(source.place(unit))
    assert source.pixels.extra_columns == ["dem_elevation_m", "dem_slope_deg", "dem_aspect_sin", "dem_aspect_cos"]
    assert np.array_equal(source.pixels.extra(unit), expected, equal_nan=True)
    assert np.isfinite(expected).mean() > 0.95
    kept = list((tmp_path / "cache/chips").glob("*.npy"))
    assert len(kept) == 1
    kept[0].unlink()
    CheckedArrays().save(kept[0], np.full_like(expected, 7))
    assert (source.pixels.extra(unit) == 7).all()


def test_one_changed_byte_of_any_cache_is_found_and_the_entry_made_again(source, tmp_path, monkeypatch):
    monkeypatch.setattr("rs05bench.datamodules.array_cache.KEPT_BYTES", 0)  # pixels are kept on the disk
    unit = source.frame["unit_id"].iloc[0]

    def read():
        pixels = source.pixels
        return [pixels.extra(unit), pixels.embedding(unit, 2018), pixels.image(unit, keep=True)]

    expected = [np.array(values) for values in read()]
    files = sorted((tmp_path / "cache").rglob("*.npy"))
    assert len(files) == 3
    for at in (3, 90, -20, -2):  # magic, header, data, checksum
        for path in files:
            changed = bytearray(path.read_bytes())
            changed[at] ^= 0x40
            path.write_bytes(changed)
        source.pixels._kept._kept.clear()
        for found, wanted in zip(read(), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_batches_hold_them_cut_and_turned_with_the_image(source):
    dm = BurnScarDataModule(source, split="leave-state-out", fold="CA")
    batch = next(iter(dm.train_dataloader()))
    assert batch["extra"].shape == (*batch["image"].shape[:1], 4, *batch["image"].shape[-2:])
    whole = next(iter(dm.predict_dataloader("test_ood")))
    assert np.array_equal(whole["extra"][0].numpy(), source.pixels.extra(whole["unit_id"][0]), equal_nan=True)
    torch.manual_seed(0)
    marked = batch | {"extra": batch["image"].reshape(len(batch["image"]), -1, *batch["image"].shape[-2:])[:, :4].clone()}
    turned = augment(marked, ["hflip", "vflip", "rot90"])
    flat = turned["image"].reshape(len(turned["image"]), -1, *turned["image"].shape[-2:])[:, :4]
    assert torch.equal(turned["extra"].nan_to_num(), flat.nan_to_num())


def test_only_who_reads_them_is_shown_them(source):
    dm = BurnScarDataModule(source, split="leave-state-out", fold="CA")
    dm.view.shown.extra = False
    assert "extra" not in next(iter(dm.train_dataloader()))


def test_a_hybrid_network_has_a_channel_for_each(source):
    from rs05bench.models.chip_facts import ChipFacts

    dm = BurnScarDataModule(source, split="leave-state-out", fold="CA")
    assert ChipFacts.of(dm).extra == 4
    dm.view.shown.extra = False
    assert ChipFacts.of(dm).extra == 0


def test_a_folder_that_is_none_is_refused(chip_folder):
    with pytest.raises(DataError, match="is not a folder of layers"):
        BurnScarDataModule(chip_folder / "hls_burn_scars", split="leave-state-out", extra=chip_folder / "none").setup()


def test_a_card_names_the_product_of_the_tiles_under_its_chips(chip_folder, tmp_path, monkeypatch):
    """Ten-metre pixels with a scale each, whose decoded values are known, under chips of 30 m: the mean of nine."""
    monkeypatch.setenv("RS05BENCH_CACHE", str(tmp_path / "cache"))
    card = chip_card("burn-scars", chip_folder / "hls_burn_scars")
    said = {"folder": "hls_burn_scars", "embeddings": str(tmp_path / "store"), "embedding_product": "tessera-v1.1-dclimate"}
    plain = open_chips(card.with_preprocessing(folder="hls_burn_scars"), chip_folder)
    unit = plain.frame["unit_id"].iloc[0]
    transform, (height, width) = plain.place(unit).affine, plain.pixels.size(unit)
    zone, year = int(unit[1:3]), int(unit.split(".")[1][:4])
    rng = np.random.default_rng(0)
    values = rng.integers(-127, 128, (128, 3 * height, 3 * width)).astype(np.int8)
    scales = rng.uniform(0.01, 0.1, values.shape[1:]).astype(np.float32)
    scales[:3, :3] = np.nan
    write_store(tmp_path / "store", {zone: [Block(year, transform.c, transform.f, values, scales, {})]}, years=[year])
    source = open_chips(card.with_preprocessing(**said), chip_folder)
    found = source.pixels.embedding(unit, year)
    expected = (values * scales).reshape(128, height, 3, width, 3).mean(axis=(2, 4))
    assert found.dtype == np.float32
    assert np.isnan(found[:, 0, 0]).all()
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], rtol=1e-4, atol=1e-5)
    assert source.pixels.sources.product.name == "tessera-v1.1-dclimate"
