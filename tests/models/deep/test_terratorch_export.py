"""An exported cell trains the same thing with TerraTorch's own command."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import rasterio
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from rs05bench.datamodules import BurnScarDataModule, ChipDataModule, CropDataModule
from rs05bench.datamodules.chip_view import ChipView
from rs05bench.datamodules.chipsource import ChipSource, chip_card
from rs05bench.datamodules.pixels import PixelStore
from rs05bench.datasets.burn_scars import HLSBurnScars
from rs05bench.embeddings.products import families
from rs05bench.errors import ProtocolError
from rs05bench.models.backbones.imports import terratorch_kept_quiet
from rs05bench.models.deep import create
from rs05bench.models.networks import parameter_counts
from rs05bench.models.summary import TrainingSummary
from rs05bench.models.terratorch_export import ExportedModel, export_terratorch, patch_contents
from rs05bench.models.tier_module import TierModule
from rs05bench.protocol.card import Training

SPLIT = "leave-state-out"
READERS = {"burn-scars": (BurnScarDataModule, "hls_burn_scars"), "crop-chips": (CropDataModule, "crop_chips")}
LORA = {"targets": ("q", "v", "o"), "rank": 4}


@pytest.fixture
def burn(chip_folder: Path) -> Callable[..., ChipDataModule]:
    """Burn scars in patches, with what a card says of training."""
    return lambda **said: open_module(chip_folder, "burn-scars", **said)


class Hills:
    """A layer beside the chips, with a hole."""

    def window_columns(self) -> list[str]:
        return ["height", "slope"]

    def on_window(self, grid):
        values = np.random.default_rng(0).normal(300, 50, (2, grid.height, grid.width)).astype(np.float32)
        values[:, 3, :5] = np.nan
        return [*values]


def open_module(
    root: Path, reader: str, budget: str = "full", patch: int = 64, *, embeddings: bool = False, extra: Path | None = None, **training
) -> ChipView:
    """A data module over a few chips that has missing pixels in one band of its training chips."""
    kind, folder = READERS[reader]
    card = chip_card(reader, root / folder)
    said = {"steps": 4, "val_every": 4, "batch_size": 2, "augmentation": [], "precision": "32-true", **training}
    schedule = type(card.training).model_validate({**dict(card.training), **said})
    card = card.with_preprocessing(patch_size=patch).model_copy(update={"training": schedule})
    source = ChipSource(root / folder, card, embeddings=root / "alphaearth" if embeddings else None, extra=extra and (extra, None))
    if extra is not None:
        source.pixels.__dict__["extra_layers"] = {"hills": Hills()}
    module = kind(source, SPLIT, budget=budget)
    for unit in module.unit_ids("train"):
        source.pixels.image(unit, keep=True)[..., 1, :7, :9] = np.nan
    return module.view


def exported(name: str, data: Any, folder: Path | str = "patches", seed: int = 0, **options) -> dict[str, Any]:
    text = export_terratorch(create(name, seed=seed, **options), data, train=f"{folder}/train", val=f"{folder}/val")
    return yaml.safe_load(text)


def task_of(config: dict[str, Any]) -> dict[str, Any]:
    return config["model"]["init_args"]


def written(name: str, data: ChipDataModule, folder: Path, **options) -> Path:
    """Patches and configuration of a cell."""
    for role in ("train", "val"):
        data.write_patches(role, folder / role, **patch_contents(create(name, **options), data))
    path = folder / "cell.yaml"
    path.write_text(export_terratorch(create(name, **options), data, train=folder / "train", val=folder / "val"))
    return path


def terratorch_cli(path: Path) -> Any:
    with terratorch_kept_quiet():  # Clay's module sets the precision of the whole process as it is imported
        from terratorch.cli_tools import build_lightning_cli

    cpu = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
    place = ["--trainer.default_root_dir", str(path.parent / "out"), "--trainer.limit_val_batches", "1"]
    return build_lightning_cli(["--config", str(path), *place, *cpu], run=False)


class Recorder(Callback):
    """Losses of the batches, and the learning rates they were trained with."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        # TerraTorch has a group a name where ours has one a rate.
        self.rates += sorted({round(group["lr"], 10) for group in trainer.optimizers[0].param_groups})

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        # Lightning divides the loss that it hands on by the batches of a step.
        self.losses.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)


def their_names(state: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    """Our weights under TerraTorch's names."""
    peft = any(name.startswith("encoder.base_model.") for name in wanted)
    renamed = {}
    for name, value in state.items():
        name = re.sub(r"^backbone\.encoder\.", "encoder.base_model.model." if peft else "encoder.", name)
        name = re.sub(r"^head\.classify\.", "head.head.2.", name)
        renamed[re.sub(r"^head\.(neck|decoder)\.", lambda part: f"{part[1]}.", name)] = value
    necks = [name for name in wanted if name.startswith("neck.")]
    ours = [name for name in renamed if name.startswith("neck.")]
    return {dict(zip(ours, necks, strict=True)).get(name, name): value for name, value in renamed.items()}


def loss_in_double(tier: TierModule, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """`TierModule.loss` without its rounding to 32 bit."""
    weights, mask = tier.summary.class_weights.double(), batch["mask"]
    total = torch.nn.functional.cross_entropy(tier(batch), mask, weight=weights, ignore_index=-1, reduction="sum")
    return total, weights[mask[mask != -1]].sum()


def trained_by_both(name: str, data: ChipDataModule, folder: Path, **options) -> tuple[Recorder, Recorder]:
    """TerraTorch's command on the exported cell, and our module: the same initial weights, the same order of batches."""
    cli = terratorch_cli(written(name, data, folder, **options))
    tier = create(name, **options).module(data)
    if isinstance(cli.model.model, ExportedModel):
        theirs = cli.model.model.network.state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in tier.network.state_dict().items())
    else:
        wanted = cli.model.model.state_dict()
        cli.model.model.load_state_dict(their_names(tier.network.state_dict(), list(wanted)))
    plan, ours, theirs = tier.plan, Recorder(), Recorder()
    tier.loss = lambda batch: loss_in_double(tier, batch)
    cli.datamodule.setup("fit")
    files = cli.datamodule.train_dataset
    cli.datamodule.train_dataloader = lambda: DataLoader(files, batch_size=cli.datamodule.batch_size)
    cli.trainer.callbacks.append(theirs)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    loader = data.train_dataloader()
    numbers = [int(re.search(r"_(\d+)_merged", file)[1]) for file in files.image_files]
    size = data.batch_size
    batches = [loader.dataset[numbers[start : start + size]] for start in range(0, len(numbers), size)]
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=plan.steps,
        precision=plan.precision,
        accumulate_grad_batches=plan.accumulate,
        gradient_clip_val=1.0,
        callbacks=[ours],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(tier, train_dataloaders=DataLoader(batches, batch_size=None))
    return ours, theirs


# The same steps


@pytest.mark.parametrize(
    ("name", "options", "reader", "training"),
    [
        ("prithvi-tiny/lora@random", LORA, "burn-scars", {}),
        pytest.param("prithvi-tiny/lora@random", {}, "burn-scars", {"accumulate": 2}, marks=pytest.mark.slow),
        pytest.param("raw/unet", {}, "burn-scars", {}, marks=pytest.mark.slow),
        pytest.param("prithvi-tiny/lora@random", {}, "crop-chips", {}, marks=pytest.mark.slow),
        pytest.param("terramind-tiny/full@random", {}, "burn-scars", {}, marks=pytest.mark.slow),
        pytest.param("prithvi-tiny/decoder@random", {}, "burn-scars", {}, marks=pytest.mark.slow),
        pytest.param("prithvi-tiny/full@random", {"layer_decay": 0.5}, "burn-scars", {}, marks=pytest.mark.slow),
    ],
)
def test_terratorch_takes_the_same_steps(name: str, options: dict, reader: str, training: dict, chip_folder: Path, tmp_path: Path):
    """In double precision: AdamW makes whole steps of the last bits of gradients near zero (the loss is compared in 32 bit below)."""
    said = {"precision": "64-true", "class_weights": "balanced", "warmup": 0.5, **training}
    ours, theirs = trained_by_both(name, open_module(chip_folder, reader, **said), tmp_path, **options)
    assert len(ours.losses) == 4 * training.get("accumulate", 1)
    assert theirs.losses == pytest.approx(ours.losses, abs=1e-5)
    assert theirs.rates == pytest.approx(ours.rates, rel=1e-6)


@pytest.mark.parametrize(("steps", "warmup"), [(20, 0.15), (20, 0.0), (1, 0.05), (7, 1.0)])
def test_the_rate_warms_up_and_falls_a_step_at_a_time(steps: int, warmup: float, chips: Callable):
    with terratorch_kept_quiet():
        from terratorch.tasks.optimizer_factory import optimizer_factory

    task = task_of(exported("alphaearth/conv1x1", chips(), steps=steps, warmup=warmup))
    layer = torch.nn.Linear(1, 1)
    theirs = optimizer_factory(
        task["optimizer"],
        task["lr"],
        layer.parameters(),
        task["optimizer_hparams"],
        task["scheduler"],
        "val/loss",
        task["scheduler_hparams"],
    )
    assert theirs["lr_scheduler"]["interval"] == "step"
    ours: Any = TierModule(layer, "segmentation", Training(steps=steps, warmup=warmup), 1e-3).configure_optimizers()
    rates = []
    for both in (theirs, ours):
        rates.append([])
        for _ in range(steps):
            rates[-1].append(both["optimizer"].param_groups[0]["lr"])
            both["optimizer"].step()
            both["lr_scheduler"]["scheduler"].step()
    assert rates[0] == pytest.approx(rates[1], rel=1e-6, abs=1e-12)
    assert theirs["optimizer"].defaults["weight_decay"] == ours["optimizer"].defaults["weight_decay"] == 0.01


@pytest.mark.parametrize("weights", [None, [0.4, 7.5]])
def test_the_loss_is_the_weighted_mean_over_labelled_pixels(weights: list[float] | None, chips: Callable):
    with terratorch_kept_quiet():
        from terratorch.models.model import ModelOutput
        from terratorch.tasks import SemanticSegmentationTask

    said = task_of(exported("alphaearth/conv1x1", chips()))
    task = SemanticSegmentationTask(
        model=torch.nn.Identity(),
        model_args=said["model_args"],
        loss=said["loss"],
        ignore_index=said["ignore_index"],
        class_weights=weights,
    )
    generator = torch.Generator().manual_seed(1)
    logits, mask = torch.randn(3, 2, 9, 9, generator=generator) * 4, torch.randint(-1, 2, (3, 9, 9), generator=generator)
    theirs = task.train_loss_handler.compute_loss(ModelOutput(output=logits), mask, task.criterion, None)["loss"]
    summary = TrainingSummary(class_weights=None if weights is None else torch.tensor(weights))
    tier = TierModule(torch.nn.Identity(), "segmentation", Training(), 1e-3, summary)
    tier.forward = lambda batch: logits
    assert float(theirs) == pytest.approx(float(tier.training_step({"mask": mask}, 0)), abs=1e-6)


@pytest.mark.slow
def test_the_best_weights_are_kept_and_patience_stops_it_where_ours_stops(burn: Callable, tmp_path: Path):
    """Nothing is learnt at a rate of 0, so no validation after the first is better."""
    data = burn(embeddings=True, steps=9, val_every=1, patience=2, learning_rates=[0.0])
    cli = terratorch_cli(written("alphaearth/conv1x1", data, tmp_path))
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    history = create("alphaearth/conv1x1").fit(data).history_
    assert cli.trainer.global_step == history.steps == 3
    kept = torch.load(tmp_path / "out" / "checkpoints" / "best.ckpt", weights_only=False)
    assert kept["global_step"] == history.best_step == 1


# What is exported


def test_networks_from_scratch_take_the_statistics_of_the_training_role_with_them(burn: Callable):
    data = burn()
    ours = create("raw/unet").module(data).network
    network = ExportedModel(**task_of(exported("raw/unet", data))["model"]["init_args"]).network
    assert torch.equal(network.mean, ours.mean)
    assert torch.equal(network.std, ours.std)
    assert (network.mean != 0).all()


@pytest.mark.parametrize(
    ("name", "options", "reader"),
    [
        ("raw/unet", {}, "crop-chips"),
        ("alphaearth/unet", {}, "burn-scars"),
        ("hybrid/unet", {}, "burn-scars"),
        ("prithvi-tiny/frozen@random", {}, "burn-scars"),
        ("prithvi-tiny/adapter@random", {"coordinates": True}, "crop-chips"),
    ],
)
def test_our_network_reads_the_files_as_it_reads_our_batches(name: str, options: dict, reader: str, chip_folder: Path, tmp_path: Path):
    """All its rasters, missing pixels and coordinates included."""
    data = open_module(chip_folder, reader, embeddings=reader == "burn-scars", extra=tmp_path if name.startswith("hybrid") else None)
    cli = terratorch_cli(written(name, data, tmp_path, **options))
    cli.datamodule.setup("fit")
    their = cli.datamodule.train_dataset[0]
    loader = data.train_dataloader()
    our = loader.dataset[[int(re.search(r"_(\d+)_merged", their["filename"])[1])]]
    assert our["image"].isnan().any()
    with torch.no_grad():
        theirs = cli.model.model.eval()(cli.datamodule.aug({"image": their["image"][None]})["image"]).output
        ours = create(name, **options).module(data).network.eval()(our)
    assert torch.equal(their["mask"], our["mask"][0])
    assert torch.allclose(theirs, ours, atol=1e-5)


def test_every_deep_tier_on_chips_has_a_configuration(chips: Callable):
    from rs05bench.models.deep import catalogue

    data = chips(bands=[f"B{number:02d}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12)] + ["B8A"])
    others = families() - {data.embedding_product.family}
    read = [spec for spec in catalogue().values() if spec.data == "chips" and spec.name.split("/")[0] not in others]
    names = [spec.name for spec in read if spec.random_twin or spec.backbone is None]
    for name in names:
        task = task_of(exported(name, data))
        assert ("model" in task) != ("model_factory" in task), name


def test_the_middle_rate_of_the_grid_is_exported(chips: Callable):
    assert task_of(exported("alphaearth/conv1x1", chips(), learning_rates=[1e-2, 1e-4, 1e-3]))["lr"] == 1e-3
    assert create("alphaearth/conv1x1", learning_rates=[1e-2, 1e-4, 1e-3]).module(chips()).learning_rate == 1e-3


def test_class_weights_are_those_of_the_training_labels(burn: Callable):
    data = burn(class_weights="balanced")
    weights = create("prithvi-tiny/lora@random").module(data).summary.class_weights
    assert task_of(exported("prithvi-tiny/lora@random", data))["class_weights"] == weights.tolist()
    assert task_of(exported("prithvi-tiny/lora@random", burn()))["class_weights"] is None


def test_the_trainer_is_the_plans(chips: Callable):
    trainer = exported("alphaearth/conv1x1", chips(), steps=50, val_every=10, accumulate=3, patience=4, precision="16-mixed")["trainer"]
    assert trainer["val_check_interval"] == 30
    assert (trainer["max_steps"], trainer["accumulate_grad_batches"], trainer["precision"]) == (50, 3, "16-mixed")
    keep, stop = (callback["init_args"] for callback in trainer["callbacks"])
    assert (keep["monitor"], keep["mode"]) == (stop["monitor"], stop["mode"]) == ("val/loss", "min")
    assert stop["patience"] == 4
    assert len(exported("alphaearth/conv1x1", chips(), patience=0)["trainer"]["callbacks"]) == 1


# Augmentation


def turns(values: np.ndarray) -> list[np.ndarray]:
    """The eight ways to lay a square."""
    return [np.rot90(side, quarter, axes=(-2, -1)) for side in (values, values[..., ::-1]) for quarter in range(4)]


@pytest.mark.parametrize(
    ("name", "reader"), [("raw/unet", "burn-scars"), ("raw/unet", "crop-chips"), ("prithvi-tiny/lora@random", "crop-chips")]
)
def test_flips_and_turns_move_all_dates_and_labels_alike(name: str, reader: str, chip_folder: Path, tmp_path: Path):
    data = open_module(chip_folder, reader, augmentation=["hflip", "vflip", "rot90"])
    cli = terratorch_cli(written(name, data, tmp_path))
    cli.datamodule.setup("fit")
    turned, still = cli.datamodule.train_dataset, cli.datamodule.val_dataset
    still.image_files, still.segmentation_mask_files = turned.image_files, turned.segmentation_mask_files
    images, masks = (turns(still[0][part].numpy()) for part in ("image", "mask"))
    seen = set()
    for _ in range(60):
        sample = turned[0]
        way = next(way for way, image in enumerate(images) if np.array_equal(image, sample["image"].numpy(), equal_nan=True))
        assert np.array_equal(masks[way], sample["mask"].numpy())
        seen.add(way)
    assert seen == set(range(8))


def test_frozen_encoders_see_patches_as_they_are_and_oblong_ones_are_not_turned(burn: Callable, monkeypatch: pytest.MonkeyPatch):
    data = burn(augmentation=["vflip", "rot90"])

    def names(model: str) -> list[str] | None:
        transforms = exported(model, data)["data"]["init_args"]["train_transform"]
        return transforms and [transform["class_path"].rpartition(".")[2] for transform in transforms]

    assert names("prithvi-tiny/frozen@random") is None
    assert names("prithvi-tiny/decoder@random") is None
    assert names("prithvi-tiny/lora@random") == ["VerticalFlip", "RandomRotate90", "ToTensorV2"]
    monkeypatch.setattr(PixelStore, "size", lambda self, unit: (96, 40))
    assert names("raw/unet") == ["VerticalFlip", "ToTensorV2"]


def test_an_unknown_augmentation_is_refused(burn: Callable):
    with pytest.raises(ProtocolError, match="blur"):
        exported("raw/unet", burn(augmentation=["hflip", "blur"]))


# Patches


def test_a_patch_without_a_label_is_not_written(burn: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Alone in a batch it would make TerraTorch's loss, and then every weight, NaN."""
    data = burn(patch=48)
    unit = data.unit_ids("train")[0]
    inner = HLSBurnScars.read_labels

    def blank(self: HLSBurnScars, one: str) -> np.ndarray:
        labels = inner(self, one)
        if one == unit:
            labels[:48, :48] = -1
        return labels

    monkeypatch.setattr(HLSBurnScars, "read_labels", blank)
    files = data.write_patches("train", tmp_path)
    assert len(files) == 2 * (4 * len(data.unit_ids("train")) - 1)
    assert not [file for file in files if file.name.startswith(f"{unit}_00000")]


def test_missing_pixels_stay_missing_or_become_the_numbers_given(burn: Callable, tmp_path: Path):
    data = burn()
    kept = data.write_patches("train", tmp_path / "kept")[0]
    filled = data.write_patches("train", tmp_path / "filled", fill=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])[0]
    with rasterio.open(kept) as one, rasterio.open(filled) as two:
        missing = np.isnan(one.read(2))
        assert missing[:7, :9].all()
        assert (two.read(2)[missing] == 2.0).all()


# What a reader is told


def test_the_first_lines_name_what_terratorch_does_otherwise(burn: Callable):
    def head(data: Any, name: str, **options) -> str:
        text = export_terratorch(create(name, **options), data, train="train", val="val")
        return text.split("seed_everything:")[0]

    fires = head(burn(budget="5-fires", precision="auto"), "prithvi-tiny/lora@random", learning_rates=[1e-3, 1e-2])
    assert all(line.startswith("#") for line in fires.splitlines())
    for what in (
        "learning_rates",
        "fire budget",
        "precision",
        "patch embedding",
        "order",
        "initial weights",
        "validation loss",
        "unlabelled patches",
    ):
        assert f"# - {what}: " in fires
    more = head(burn(accumulate=2, steps=5, val_every=2), "prithvi-tiny/lora@random", decoder="upernet")
    for what in ("accumulate", "last look", "upernet"):
        assert f"# - {what}: " in more
    plain = head(burn(), "raw/unet")
    for what in ("learning_rates", "fire budget", "accumulate", "last look", "upernet", "precision", "initial weights"):
        assert f"# - {what}: " not in plain


def test_what_cannot_be_exported_says_so(chips: Callable):
    with pytest.raises(ProtocolError, match="needs the file of weights"):
        exported("prithvi-tiny/full", chips(size=64))
    with pytest.raises(ProtocolError, match="only segmentation"):
        exported("prithvi-tiny/full", chips(kind="classification"))


# TerraTorch's own parts


@pytest.mark.parametrize(
    "name", ["prithvi-tiny/decoder@random", "prithvi-tiny/lora@random", "prithvi-tiny/full@random", "terramind-tiny/lora@random"]
)
def test_terratorch_builds_the_same_network(name: str, chips: Callable):
    with terratorch_kept_quiet():
        from terratorch.models import EncoderDecoderFactory

    options = LORA if "lora" in name else {}
    data = chips(size=64)
    arguments = task_of(exported(name, data, **options))
    assert arguments["model_factory"] == "EncoderDecoderFactory"
    theirs = EncoderDecoderFactory().build_model(task="segmentation", **arguments["model_args"])
    ours = create(name, **options).build(data)
    if arguments["freeze_backbone"]:
        theirs.freeze_encoder()
    assert parameter_counts(theirs)[1] == parameter_counts(ours)[1]
    assert theirs(torch.rand(1, 6, 64, 64)).output.shape == (1, 2, 64, 64)


def test_statistics_and_scale_are_the_pretraining_ones(chips: Callable):
    data = exported("prithvi-tiny/full@random", chips(size=64))["data"]["init_args"]
    assert data["constant_scale"] == 10_000
    assert data["means"][0] == 1087.0
    assert data["output_bands"] == ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("prithvi-tiny/frozen@random", 64, {}),
        ("prithvi-tiny/adapter@random", 64, {}),
        ("raw/unet", 64, {}),
        # TerraTorch pads on all sides, and has no rates a layer and no coordinates of a generic data set.
        ("prithvi-tiny/lora@random", 48, {}),
        ("prithvi-tiny/full@random", 64, {"layer_decay": 0.5}),
        ("prithvi-300-tl/lora@random", 64, {}),
    ],
)
def test_what_terratorch_lacks_comes_as_our_network(name: str, size: int, options: dict, chips: Callable):
    model = task_of(exported(name, chips(size=size), **options))["model"]
    assert model["class_path"] == "rs05bench.models.terratorch_export.ExportedModel"
