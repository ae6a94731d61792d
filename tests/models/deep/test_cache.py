"""A frozen encoder runs once a unit, whoever asks; whatever changes a feature changes its address."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rs05bench.models.cache import EncodedLoader, FeatureCache, unit_digest
from rs05bench.models.deep import create
from rs05bench.models.networks import EncoderNetwork

FAST = {"accelerator": "cpu", "val_every": 3, "learning_rates": [1e-3]}


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Units encoded, batch by batch."""
    counted: list[int] = []
    original = EncoderNetwork.encode

    def counting(self: EncoderNetwork, batch):
        counted.append(len(batch["image"]))
        return original(self, batch)

    monkeypatch.setattr(EncoderNetwork, "encode", counting)
    return counted


def test_a_unit_is_encoded_once_across_epochs_seeds_and_models(chips: Callable, tmp_path: Path, encodings: list[int]):
    for seed in (0, 1):
        data = chips(steps=6)
        model = create("prithvi-tiny/frozen@random", seed=seed, cache=tmp_path, **FAST).fit(data)
        list(model.predict_chips(data, "test_id"))
    assert sum(encodings) == 8


def test_images_are_read_once_a_fit(chips: Callable, tmp_path: Path):
    """Later passes need neither the encoder nor the files."""
    data = chips(steps=20)
    create("prithvi-tiny/frozen@random", cache=tmp_path, **FAST).fit(data)
    # Once to look at the data, once for the features; validation units only the second time.
    assert max(data.asked.count(f"u{unit}") for unit in range(4)) <= 2
    assert max(data.asked.count(f"u{unit}") for unit in (4, 5)) == 1


def test_labels_too_many_to_keep_are_read_again(chips: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rs05bench.models.cache.KEPT_BYTES", 10_000)
    data = chips(steps=20)
    model = create("prithvi-tiny/frozen@random", **FAST).fit(data)
    assert data.asked.count("u0") > 5
    assert model.history_.steps == 20


def test_without_a_folder_a_fit_still_encodes_each_unit_once(chips: Callable, encodings: list[int]):
    create("prithvi-tiny/decoder@random", **FAST).fit(chips(steps=9))
    assert sum(encodings) == 6


def test_the_cache_changes_no_score(chips: Callable, tmp_path: Path):
    data = chips(steps=4)
    plain = create("prithvi-tiny/decoder@random", **FAST).fit(data)
    create("prithvi-tiny/decoder@random", seed=9, cache=tmp_path, **FAST).fit(data)
    cached = create("prithvi-tiny/decoder@random", cache=tmp_path, **FAST).fit(data)
    for (unit, one), (_, two) in zip(plain.predict_chips(data, "test_id"), cached.predict_chips(data, "test_id"), strict=True):
        assert np.allclose(one, two, atol=1e-6), unit


def test_augmenting_loaders_are_never_cached(chips: Callable, tmp_path: Path, encodings: list[int]):
    data = chips(steps=4)
    data.augments = True
    create("prithvi-tiny/frozen@random", cache=tmp_path, **FAST).fit(data)
    assert sum(encodings) > 6
    assert not list(tmp_path.rglob("*.npy"))


def test_tiers_that_train_the_encoder_do_not_touch_the_cache(chips: Callable, tmp_path: Path):
    create("prithvi-tiny/lora@random", cache=tmp_path, **FAST).fit(chips(steps=1))
    assert not list(tmp_path.rglob("*.npy"))


def test_encoder_pixels_layers_and_scale_all_make_the_address(chips: Callable):
    data = chips()
    digests = {
        create(name, **options).build(data).backbone.digest()
        for name, options in (
            ("prithvi-tiny/frozen@random", {}),
            ("prithvi-tiny/frozen@random", {"init_seed": 1}),
            ("prithvi-tiny/decoder@random", {}),
            ("prithvi-tiny/frozen@random", {"coordinates": True}),
        )
    }
    digests.add(create("prithvi-tiny/frozen@random").build(chips(scale=10_000.0)).backbone.digest())
    assert len(digests) == 5
    assert create("prithvi-tiny/frozen@random", seed=5).build(data).backbone.digest() in digests
    image = torch.rand(6, 8, 8)
    other = image.clone()
    other[0, 0, 0] += 1e-6
    assert unit_digest(image) == unit_digest(image.clone()) != unit_digest(other)
    assert unit_digest(image, torch.zeros(2)) != unit_digest(image, torch.ones(2))


WRITER = """
import sys
import numpy as np
from rs05bench.models.cache import FeatureCache

cache = FeatureCache(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for unit in range(20):
    maps = [np.full((64, 8, 8), unit, dtype=np.float32), np.full((2, 2), unit, dtype=np.float32)]
    cache.put("e" * 64, f"{unit:064d}", maps)
"""


def test_many_processes_may_write_at_once(tmp_path: Path, repository: Path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command, cwd=repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    cache = FeatureCache(tmp_path)
    for unit in range(20):
        maps = cache.get("e" * 64, f"{unit:064d}")
        assert maps is not None
        assert [array.shape for array in maps] == [(64, 8, 8), (2, 2)]
        assert all((array == unit).all() for array in maps)
    assert not list(tmp_path.rglob(".draft-*"))


def test_features_are_mapped_not_read(tmp_path: Path):
    cache = FeatureCache(tmp_path)
    cache.put("e", "u", [np.zeros((4, 4), dtype=np.float32)])
    found = cache.get("e", "u")
    assert found is not None
    assert isinstance(found[0], np.memmap)
    assert not found[0].flags.writeable
    assert cache.get("e", "other") is None


def test_batches_that_are_groups_stay_whole(chips: Callable):
    data = chips()
    network = create("prithvi-tiny/frozen@random").build(data)
    batches = [{"image": torch.rand(size, 6, 32, 32), "unit_id": [f"{size}-{row}" for row in range(size)]} for size in (1, 3, 2)]
    loader = EncodedLoader(batches, network, FeatureCache(None), shuffle=True)  # type: ignore[arg-type]
    for _ in range(3):
        groups = [sorted(batch["unit_id"]) for batch in loader]
        assert sorted(map(len, groups)) == [1, 2, 3]
        assert all(len({unit[0] for unit in group}) == 1 for group in groups)
