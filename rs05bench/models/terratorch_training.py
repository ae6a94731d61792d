"""A training plan in the words of Lightning's Trainer and TerraTorch's task: schedule, early stopping, precision, flips and turns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rs05bench.errors import ProtocolError
from rs05bench.models.adaptation import Adaptation, parameter_groups
from rs05bench.models.backbones import backbone_spec
from rs05bench.models.devices import device_of, precision_of

if TYPE_CHECKING:
    from rs05bench.models.chip_facts import ChipFacts
    from rs05bench.models.chip_model import DeepModel
    from rs05bench.protocol.card import Training

_TRANSFORMS: dict[str, dict[str, Any]] = {
    "hflip": {"class_path": "albumentations.HorizontalFlip", "init_args": {"p": 0.5}},
    "vflip": {"class_path": "albumentations.VerticalFlip", "init_args": {"p": 0.5}},
    "rot90": {"class_path": "albumentations.RandomRotate90", "init_args": {"p": 1.0}},
}


def trainer_arguments(plan: Training, accelerator: str) -> dict[str, Any]:
    """Arguments of the Trainer, with the callbacks that keep the best weights and stop early.

    Args:
        plan: The cell's plan.
        accelerator: Lightning's name.
    """
    best = {"monitor": "val/loss", "mode": "min", "filename": "best", "save_on_train_epoch_end": False}
    callbacks = [{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": best}]
    if plan.patience:
        stop = {"monitor": "val/loss", "mode": "min", "patience": plan.patience, "min_delta": 0.0}
        # As ours: a loss that is no number is no improvement, and no reason to stop at once.
        stop |= {"check_finite": False, "check_on_train_epoch_end": False}
        callbacks.append({"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": stop})
    return {
        "accelerator": accelerator,
        "devices": 1,
        "precision": precision_of(plan.precision, accelerator),
        "max_steps": plan.steps,
        "max_epochs": -1,
        # Lightning counts batches here, and the plan counts steps.
        "val_check_interval": max(1, min(plan.val_every, plan.steps) * plan.accumulate),
        "check_val_every_n_epoch": None,
        "accumulate_grad_batches": plan.accumulate,
        "gradient_clip_val": 1.0,
        "num_sanity_val_steps": 0,
        "deterministic": "warn" if device_of(accelerator) == "cuda" else False,
        "logger": False,
        "callbacks": callbacks,
    }


def optimiser_arguments(model: DeepModel, facts: ChipFacts, plan: Training) -> dict[str, Any]:
    """Arguments of the task: AdamW with linear warm-up and cosine decay, a step at a time.

    In the task and not beside it: Lightning's command would step a scheduler of its own once an epoch.

    Args:
        model: The deep model.
        facts: What its `inspect` found in the data.
        plan: The cell's plan.
    """
    warm = max(1, round(plan.warmup * plan.steps))
    schedule = {
        "schedulers": {
            # (step + 1) / warm
            "LinearLR": {"start_factor": 1.0 / warm, "end_factor": 1.0, "total_iters": max(1, warm - 1)},
            "CosineAnnealingLR": {"T_max": max(1, plan.steps - warm)},
        },
        "milestones": [warm],
        "interval": "step",
    }
    return {
        "optimizer": "AdamW",
        "lr": plan.middle_rate,
        "optimizer_hparams": {"weight_decay": plan.weight_decay},
        "lr_overrides": _layer_rates(model, facts, plan.middle_rate),
        "scheduler": "SequentialLR",
        "scheduler_hparams": schedule,
    }


def _layer_rates(model: DeepModel, facts: ChipFacts, rate: float) -> dict[str, float] | None:
    """Rates that decay towards the input, by the start of a parameter's name in TerraTorch's task."""
    decay = model.options.layer_decay
    if model.spec.backbone is None or decay == 1.0:
        return None
    network = model.network(facts)
    names = {id(parameter): f"model.network.{name}" for name, parameter in network.named_parameters()}
    layout = backbone_spec(model.spec.inputs).layout
    block = re.compile(rf".*?\.{layout.blocks}\.")
    rates = {}
    for group in parameter_groups(network, layout, Adaptation("full", layer_decay=decay), rate):
        for parameter in group["params"]:
            inside = block.match(names[id(parameter)])
            rates[inside[0] if inside else names[id(parameter)]] = group["lr"]
    return {name: own for name, own in rates.items() if own != rate}


def transforms(operations: Sequence[str], height: int, width: int, dates: int = 1) -> list[dict[str, Any]] | None:
    """Random flips and quarter turns of a patch, as a data module of ours draws them; None where there are none.

    Args:
        operations: Among `hflip`, `vflip`, `rot90`; the last is left out where patches are oblong.
        height: Rows of a patch.
        width: Columns.
        dates: Dates that TerraTorch's data set has unfolded.

    Raises:
        ProtocolError: An operation is unknown.
    """
    if unknown := sorted(set(operations) - set(_TRANSFORMS)):
        raise ProtocolError(f"augmentation {unknown} is unknown (known: {sorted(_TRANSFORMS)})")
    chosen = [_TRANSFORMS[name] for name in operations if name != "rot90" or height == width]
    if not chosen:
        return None
    tensor: dict[str, Any] = {"class_path": "albumentations.pytorch.ToTensorV2"}
    if dates == 1:
        return [*chosen, tensor]
    there, back = (f"terratorch.datasets.transforms.{name}" for name in ("FlattenTemporalIntoChannels", "UnflattenTemporalFromChannels"))
    return [{"class_path": there}, *chosen, tensor, {"class_path": back, "init_args": {"n_timesteps": dates}}]
