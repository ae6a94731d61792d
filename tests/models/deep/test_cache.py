"""A frozen encoder runs once a unit, whoever asks; whatever changes a feature changes its address."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rs05bench.models.backbones import ScaleWarning
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
        model = create("prithvi-tiny/frozen@random", seed=seed, init_seed=0, cache=tmp_path, **FAST).fit(data)
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
    assert create("prithvi-tiny/frozen@random", seed=5, init_seed=0).build(data).backbone.digest() in digests
    # Without a seed of its own a random encoder is another one for every seed.
    assert create("prithvi-tiny/frozen@random", seed=5).build(data).backbone.digest() not in digests
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


def batches(count: int) -> list[dict]:
    generator = torch.Generator().manual_seed(3)
    return [{"image": torch.rand(1, 6, 32, 32, generator=generator) * 0.4, "unit_id": [f"u{row}"]} for row in range(count)]


@pytest.fixture
def network(chips: Callable) -> EncoderNetwork:
    return create("prithvi-tiny/frozen@random").build(chips())


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
def test_more_units_than_files_may_be_open_are_read_again_and_again(network: EncoderNetwork, tmp_path: Path):
    import resource

    cache = FeatureCache(tmp_path)
    loader = EncodedLoader(batches(60), network, cache, shuffle=True)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 30, limit[1]))
    try:
        units = [sorted(batch["unit_id"][0] for batch in loader) for _ in range(3)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert units == [sorted(f"u{row}" for row in range(60))] * 3
    assert cache.dropped == 0


def test_what_cannot_be_opened_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = FeatureCache(tmp_path)
    cache.put("e", "u", [np.zeros(4, dtype=np.float32)])

    def refuse(error: OSError) -> Callable:
        def load(*_: object, **__: object) -> None:
            raise error

        return load

    with monkeypatch.context() as patched:
        patched.setattr(np, "load", refuse(OSError(errno.EMFILE, "Too many open files")))
        with pytest.raises(OSError, match="Too many open files"):
            cache.get("e", "u")
        patched.setattr(np, "load", refuse(FileNotFoundError()))
        assert cache.get("e", "u") is None
    assert cache.dropped == 0
    assert cache.get("e", "u") is not None


def test_a_unit_whose_entry_another_reader_removed_has_its_features_all_the_same(network: EncoderNetwork, tmp_path: Path):
    class Emptied(FeatureCache):
        def get(self, encoder: str, unit: str) -> None:
            return None

    found = EncodedLoader([], network, Emptied(tmp_path), shuffle=False).encode(batches(1)[0])
    assert found[0]["features"][-1].shape[0] == network.backbone.channels[-1]


def test_entries_that_go_away_between_two_passes_are_made_again(network: EncoderNetwork, tmp_path: Path):
    loader = EncodedLoader(batches(3), network, FeatureCache(tmp_path), shuffle=False)
    before = [batch["features"][0] for batch in loader]
    for entry in tmp_path.iterdir():
        shutil.rmtree(entry)
    assert all(torch.equal(one, batch["features"][0]) for one, batch in zip(before, loader, strict=True))


def test_without_a_folder_what_memory_may_not_hold_lies_in_a_temporary_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rs05bench.models.cache.KEPT_BYTES", 100)
    cache = FeatureCache(None)
    maps = {f"u{unit}": [np.full(20, unit, dtype=np.float32)] for unit in range(3)}
    for unit, made in maps.items():
        cache.put("e", unit, made)
    assert list(cache.memory) == [("e", "u0")]
    assert all(np.array_equal(cache.get("e", unit)[0], made[0]) for unit, made in maps.items())
    assert cache.get("e", "absent") is None
    assert cache._overflow is not None
    folder = Path(cache._overflow.name)
    assert len(list(folder.rglob("*.npy"))) == 2
    del cache
    assert not folder.exists()


@pytest.mark.parametrize(("name", "allowed"), [("prithvi-tiny/frozen@random", False), ("prithvi-tiny/lora@random", True)])
def test_a_frozen_encoder_computes_in_float32_and_others_as_they_are_told(name: str, allowed: bool, chips: Callable):
    """TF32, the default of cuDNN's convolutions, would file other features on a GPU than on a CPU."""
    data = chips()
    network = create(name).build(data)
    seen: list[bool] = []
    network.backbone.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    torch.backends.cudnn.allow_tf32 = True
    try:
        network(next(iter(data.train_dataloader())))
        assert seen == [allowed]
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == before[1:]


@pytest.mark.gpu
def test_features_of_a_gpu_are_those_of_the_host(chips: Callable):
    data = chips(size=64)
    network = create("satlas/frozen@random").build(data).eval()
    image = next(iter(data.train_dataloader()))["image"]
    with torch.no_grad():
        host = network.encode({"image": image})
        device = network.to("cuda").encode({"image": image.to("cuda")})
    for one, two in zip(host, device, strict=True):
        # Sums in another order; products in TF32 would be ten times further apart.
        assert (one - two.cpu()).abs().max() < 2e-4 * one.abs().max()


def test_a_fit_whose_features_are_there_warns_of_the_data_as_the_first_did(chips: Callable, tmp_path: Path):
    """Cells share encoders and features; what their results keep of warnings must not depend on who came first."""

    def dim() -> Any:
        data = chips(steps=1)
        data.scale = 10_000.0
        return data

    told = []
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            create("prithvi-tiny/frozen@random", cache=tmp_path, **FAST).fit(dim())
        told.append([str(entry.message) for entry in caught if issubclass(entry.category, ScaleWarning)])
    assert len(told[0]) == 1
    assert "probably 1" in told[0][0]
    assert told[0] == told[1]
