"""The deep tiers on a GPU: they run there, repeat there, predict as on the host, and say what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from rs05bench.errors import BenchError
from rs05bench.models.backbones.catalogue import BACKBONES
from rs05bench.models.chip_model import DeepModel
from rs05bench.models.deep import create

pytestmark = pytest.mark.gpu

TIERS = ("frozen", "decoder", "adapter", "lora", "full")
MODELS = (
    "raw/unet",
    "raw/segformer",
    "alphaearth/conv1x1",
    "alphaearth/unet",
    "hybrid/unet",
    *(f"prithvi-tiny/{tier}@random" for tier in TIERS),
    "satlas/lora@random",
)
FAST = {"val_every": 3, "learning_rates": [1e-3]}


def predicted(model: DeepModel, data) -> dict[str, np.ndarray]:
    return dict(model.predict_chips(data, "test_id"))


def apart(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> float:
    """The largest difference of a probability."""
    assert one.keys() == two.keys()
    return max(float(np.abs(one[unit] - two[unit]).max()) for unit in one)


@pytest.fixture(autouse=True)
def _all_memory_is_given_back() -> Iterator[None]:
    yield
    torch.cuda.empty_cache()


@pytest.mark.parametrize("name", MODELS)
def test_one_seed_repeats_on_the_gpu_and_another_differs(name: str, chips: Callable):
    one, again, other = (create(name, seed=seed, **FAST).fit(chips(steps=6, size=64)) for seed in (1, 1, 2))
    data = chips(size=64)
    assert next(one.network_.parameters()).is_cuda
    assert apart(predicted(one, data), predicted(again, data)) == 0
    assert apart(predicted(one, data), predicted(other, data)) > 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_a_model_trained_on_the_gpu_predicts_the_same_on_the_host(name: str, chips: Callable, tmp_path: Path):
    data = chips(steps=3)
    model = create(name, **FAST).fit(data)
    model.save(tmp_path / "m")
    here = DeepModel.load(tmp_path / "m", accelerator="cpu")
    assert not next(here.network_.parameters()).is_cuda
    # Convolutions of a GPU keep 10 bits of the mantissa (TF32).
    assert apart(predicted(model, data), predicted(here, data)) < 5e-3


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("backbone", sorted(set(BACKBONES) - {"prithvi-600", "prithvi-600-tl", "prithvi-300-tl"}))
def test_every_encoder_and_tier_takes_a_step_on_the_gpu(backbone: str, tier: str, chips: Callable):
    bands = [slot.band for slot in BACKBONES[backbone].slots]
    if len(bands) < 4:  # the chips hide their label in the fourth
        bands = None
    model = create(f"{backbone}/{tier}@random", **FAST).fit(chips(steps=1, size=64, bands=bands))
    assert np.isfinite(model.history_.best_validation)


def test_cached_features_give_the_same_predictions(chips: Callable, tmp_path: Path):
    data = chips(steps=4)
    plain = create("prithvi-tiny/frozen@random", **FAST).fit(data)
    cached = create("prithvi-tiny/frozen@random", **FAST, cache=str(tmp_path)).fit(data)
    assert apart(predicted(plain, data), predicted(cached, data)) < 1e-6


def test_a_scene_is_predicted_on_the_gpu_as_on_the_host(chips: Callable, tmp_path: Path):
    data = chips(steps=2)
    model = create("prithvi-tiny/lora@random", **FAST).fit(data)
    model.save(tmp_path / "m")
    scene = np.random.default_rng(0).random((6, 80, 72), dtype=np.float32) * 0.4

    def read(window) -> dict[str, np.ndarray]:
        return {"image": scene[:, window.row : window.row + window.height, window.column : window.column + window.width]}

    here = DeepModel.load(tmp_path / "m", accelerator="cpu")
    (_, on_gpu), (_, on_host) = (next(iter(one.predict_scene(read, 80, 72))) for one in (model, here))
    assert np.abs(on_gpu - on_host).max() < 5e-3


def test_augmentation_turns_pixels_where_they_are():
    from rs05bench.datamodules.augment import augment

    image = torch.rand(3, 2, 6, 16, 16, device="cuda")
    image[0, 0, :, 2, 3] = torch.nan
    mask = torch.randint(-1, 2, (3, 16, 16), device="cuda")
    embedding = torch.randint(-128, 128, (3, 64, 16, 16), device="cuda", dtype=torch.int8)
    turned = augment({"image": image, "mask": mask, "embedding": embedding, "unit_id": ["a", "b", "c"]}, ["hflip", "vflip", "rot90"])
    for name, before in (("image", image), ("mask", mask), ("embedding", embedding)):
        after = turned[name]
        assert after.is_cuda
        assert after.dtype == before.dtype
        values = [torch.nan_to_num(part.float(), nan=9.0).flatten(1).sort().values for part in (before, after)]
        assert torch.equal(*values)


def test_memory_that_runs_out_says_what_to_do(chips: Callable):
    torch.cuda.set_per_process_memory_fraction(0.001)
    try:
        with pytest.raises(BenchError, match=r"memory ran out on the GPU[\s\S]*halve training.batch_size"):
            create("raw/unet", **FAST).fit(chips(steps=2, size=512))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_meter_reads_the_gpu(chips: Callable):
    from rs05bench.experiment.metering import Meter, device_name, read_device_energy

    create("raw/unet", **FAST).warm_up(chips(steps=6, size=128))
    meter = Meter().start()
    create("raw/unet", **FAST).fit(chips(steps=6, size=128))
    lap = meter.lap()
    assert 50 < meter.peak_device_memory_mb() < 8_000
    assert meter.device_hours(lap) == pytest.approx(lap.seconds / 3600)
    assert device_name()
    counted = read_device_energy()
    assert all(identity.startswith("GPU-") and value > 0 for identity, value in counted.items())
    if counted:
        energy, whose = meter.energy_wh(lap)
        assert energy > 0
        assert whose.endswith("accelerator")


def test_models_that_share_a_frozen_encoder_predict_wherever_each_is(chips: Callable):
    data = chips(steps=2)
    here = create("prithvi-tiny/frozen@random", **FAST).fit(data)
    first = predicted(here, data)
    there = create("prithvi-tiny/frozen@random", seed=1, **FAST, accelerator="cpu").fit(data)
    assert not next(there.network_.parameters()).is_cuda
    predicted(there, data)
    assert apart(predicted(here, data), first) == 0
    assert create("prithvi-tiny/frozen@random", seed=2, **FAST).cost(data)["gflops_per_unit"] > 0


@pytest.mark.parametrize("name", ["raw/unet", "prithvi-tiny/frozen@random", "prithvi-tiny/lora@random"])
def test_a_trainer_of_ones_own_trains_and_predicts_on_the_gpu(name: str, chip_folder: Path, tmp_path: Path):
    import lightning

    from rs05bench.datamodules.chip_datamodule import BurnScarDataModule
    from rs05bench.datamodules.chipsource import chip_card
    from rs05bench.models.task import TierTask

    folder = chip_folder / "hls_burn_scars"
    card = chip_card("burn-scars", folder)
    training = card.training.model_copy(update={"steps": 4, "val_every": 2, "class_weights": "balanced"})
    card = card.with_preprocessing(patch_size=64).model_copy(update={"training": training})
    data = BurnScarDataModule(folder, "leave-state-out", budget="5-fires", card=card)
    task = TierTask(name)
    trainer = lightning.Trainer(max_steps=data.steps, accelerator="gpu", devices=1, logger=False, enable_checkpointing=False)
    trainer.fit(task, datamodule=data)
    # Chips of 96 pixels, larger than a patch: by sliding window.
    told = [pair for batches in trainer.predict(task, datamodule=data) for batch in batches for pair in batch]
    assert {probabilities.shape for _, probabilities in told} == {(2, 96, 96)}
    assert {unit for unit, _ in told} == {*data.unit_ids("test_id"), *data.unit_ids("test_ood")}
