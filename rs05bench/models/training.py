"""One way to train every deep tier: same steps, same learning-rate grid, same early stopping, on the budget's labels alone.

The loop is Lightning's. Nothing here asks a data module for anything but its training and validation loaders; test units are out of reach.
"""

from __future__ import annotations

import json
import random
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from rs05bench.errors import BenchError, DataError
from rs05bench.models.adaptation import parameter_groups
from rs05bench.models.cache import EncodedLoader, FeatureCache
from rs05bench.models.networks import EncoderNetwork, trainable_state
from rs05bench.models.scratch import ScratchNetwork

Kind = Literal["segmentation", "classification", "regression"]
IGNORE = -1


class ChipData(Protocol):
    """What a deep tier asks of data under the protocol; a `LightningDataModule` of rs05bench has it all.

    Attributes:
        kind: segmentation, classification or regression.
        classes: Class names, None for regression.
        bands: Bands of ``image``, in channel order.
        scale: The number that stands for a reflectance of 1.
        num_frames: Dates of ``image``.
        steps: Optimiser steps every tier gets.
    """

    kind: Kind
    classes: Any
    bands: Any
    scale: float
    num_frames: int
    steps: int

    def train_dataloader(self) -> Iterable[Mapping[str, Any]]:
        """Batches with labels of the budget's training units."""

    def val_dataloader(self) -> Iterable[Mapping[str, Any]] | None:
        """Batches with labels of the budget's validation units; None where the budget leaves none."""

    def predict_dataloader(self, role: str) -> Iterable[Mapping[str, Any]]:
        """Batches without labels."""


@dataclass(frozen=True)
class TrainingPlan:
    """How every tier is trained; a task card's ``training`` says otherwise for all of them at once.

    Args:
        steps: Optimiser steps.
        learning_rates: The declared grid; the rate with the lowest validation loss is kept. With no validation labels the middle one is
            used.
        weight_decay: Of AdamW.
        warmup: Share of the steps that warm up; a cosine follows.
        patience: Validations without improvement before stopping; 0 switches early stopping off.
        val_every: Steps between two looks at the validation labels.
        class_weights: ``none``, or ``balanced`` (inverse frequency of the training labels, at most 10 times the mean).
        accumulate: Batches a step.
        precision: ``auto`` (bfloat16 on a GPU that has it, else 32 bit) or a name of Lightning's.
    """

    steps: int = 200
    learning_rates: tuple[float, ...] = (1e-3,)
    weight_decay: float = 0.01
    warmup: float = 0.05
    patience: int = 5
    val_every: int = 20
    class_weights: Literal["none", "balanced"] = "none"
    accumulate: int = 1
    precision: str = "auto"

    @classmethod
    def of(cls, data: ChipData, **options: Any) -> TrainingPlan:
        """The plan of a data module: its card's ``training``, its ``steps``, then explicit options.

        Raises:
            DataError: A field is unknown.
        """
        known = {entry.name for entry in fields(cls)}
        declared = getattr(getattr(data, "card", None), "training", None) or {}
        plan = {key: value for key, value in dict(declared).items() if key in known}
        if getattr(data, "steps", None):
            plan["steps"] = int(data.steps)
        unknown = sorted(set(options) - known)
        if unknown:
            raise DataError(f"unknown training option {', '.join(unknown)}", remedy=f"Known: {', '.join(sorted(known))}.")
        plan |= options
        if "learning_rates" in plan:
            rates = plan["learning_rates"]
            plan["learning_rates"] = tuple(float(rate) for rate in ([rates] if isinstance(rates, int | float) else rates))
        return cls(**plan)


@dataclass
class FitHistory:
    """What happened in a fit.

    Attributes:
        learning_rate: The rate that was kept.
        steps: Optimiser steps run at that rate.
        best_step: Step whose weights were kept.
        best_validation: Their validation loss; None without validation labels.
        stopped_early: Whether patience ran out.
        validation: (step, loss) of that rate.
        tried: Lowest validation loss of every rate of the grid.
        seconds: Wall time of the whole grid.
        note: What a reader should know (no validation labels, ...).
        planned_steps: Steps every tier was given (rule 4).
        batch_size: Units a batch; None where the data do not say.
    """

    learning_rate: float
    steps: int
    best_step: int
    best_validation: float | None
    stopped_early: bool
    validation: list[tuple[int, float]]
    tried: dict[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""
    planned_steps: int | None = None
    batch_size: int | None = None

    def record(self) -> dict[str, Any]:
        """What a result says of its training; the rules read it."""
        kept = ("planned_steps", "steps", "best_step", "stopped_early", "learning_rate", "tried", "batch_size", "note")
        return {"early_stopping_role": "val", **{name: getattr(self, name) for name in kept}}


@dataclass(frozen=True)
class TrainingSummary:
    """Statistics of the training role's labels and, for networks from scratch, inputs."""

    class_weights: Tensor | None = None
    target_mean: Tensor | None = None
    target_std: Tensor | None = None


class TierModule(lightning.LightningModule):
    """Loss and optimiser of a tier; also usable on its own with any Trainer."""

    # Only what trains is in a checkpoint; the frozen rest is rebuilt.
    strict_loading = False

    def __init__(
        self, network: nn.Module, kind: Kind, plan: TrainingPlan, learning_rate: float, summary: TrainingSummary | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.kind = kind
        self.plan = plan
        self.learning_rate = learning_rate
        self.summary = summary or TrainingSummary()
        self.validation_loss = (0.0, 0.0)

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """Logits."""
        return cast("Tensor", self.network(batch))

    def loss(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Sum of the losses of the labelled pixels or units, and the sum of their weights."""
        logits = self(batch).float()
        if self.kind == "regression":
            target = batch["label"].float().reshape(logits.shape)
            if self.summary.target_mean is not None and self.summary.target_std is not None:
                target = (target - self.summary.target_mean.to(target.device)) / self.summary.target_std.to(target.device)
            known = torch.isfinite(target)
            return (logits - torch.nan_to_num(target)).square()[known].sum(), known.sum()
        target = batch["mask" if self.kind == "segmentation" else "label"].long()
        weights = None if self.summary.class_weights is None else self.summary.class_weights.to(logits.device)
        total = F.cross_entropy(logits, target, weight=weights, ignore_index=IGNORE, reduction="sum")
        known = target[target != IGNORE]
        return total, known.numel() * logits.new_ones(()) if weights is None else weights[known].sum()

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> Tensor:
        """Mean loss of the batch; zero (with a gradient) when none of its pixels is labelled."""
        total, count = self.loss(batch)
        return total / count.clamp_min(1e-8)

    def on_validation_epoch_start(self) -> None:
        """Start the sum."""
        self.validation_loss = (0.0, 0.0)

    def validation_step(self, batch: Mapping[str, Any], batch_index: int) -> None:
        """Add a batch; batches of few labels weigh little."""
        total, count = self.loss(batch)
        self.validation_loss = (self.validation_loss[0] + float(total), self.validation_loss[1] + float(count))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with warm-up and cosine decay over the plan's steps."""
        layout = self.network.backbone.spec.layout if isinstance(self.network, EncoderNetwork) else None
        adaptation = getattr(self.network, "adaptation", None)
        groups = parameter_groups(self.network, layout, adaptation, self.learning_rate)
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, weight_decay=self.plan.weight_decay)
        warm = max(1, round(self.plan.warmup * self.plan.steps))

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            progress = min(1.0, (step - warm) / max(1, self.plan.steps - warm))
            return float(0.5 * (1 + np.cos(np.pi * progress)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what trains; a 300 M encoder is not written for the sake of a head."""
        kept = trainable_state(self.network)
        checkpoint["state_dict"] = {f"network.{name}": value for name, value in kept.items()}


class KeepBest(Callback):
    """Keeps the trainable weights of the lowest validation loss, and stops when patience runs out."""

    def __init__(self, patience: int, checkpoint: Path | None) -> None:
        self.patience = patience
        self.checkpoint = checkpoint
        self.best: dict[str, Tensor] | None = None
        self.best_loss = float("inf")
        self.best_step = 0
        self.since = 0
        self.curve: list[tuple[int, float]] = []

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Compare, keep, stop, and write the resumable checkpoint."""
        if trainer.sanity_checking:
            return
        module = cast("TierModule", pl_module)
        total, count = module.validation_loss
        if count:
            loss = total / count
            if not np.isfinite(loss):
                loss = float("inf")
            self.curve.append((trainer.global_step, loss))
            if loss < self.best_loss:
                self.best, self.best_loss, self.best_step, self.since = trainable_state(module.network), loss, trainer.global_step, 0
            else:
                self.since += 1
            if self.patience and self.since >= self.patience:
                trainer.should_stop = True
        if self.checkpoint is not None:
            draft = self.checkpoint.with_suffix(".draft")
            trainer.save_checkpoint(draft)
            draft.replace(self.checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """For resuming."""
        return {"best": self.best, "best_loss": self.best_loss, "best_step": self.best_step, "since": self.since, "curve": self.curve}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.best, self.best_loss, self.best_step = state_dict["best"], state_dict["best_loss"], state_dict["best_step"]
        self.since, self.curve = state_dict["since"], [tuple(point) for point in state_dict["curve"]]


def fit_network(
    network: nn.Module,
    data: ChipData,
    plan: TrainingPlan,
    *,
    seed: int,
    cache: FeatureCache | None = None,
    checkpoints: str | Path | None = None,
    accelerator: str = "auto",
) -> tuple[FitHistory, TrainingSummary]:
    """Train a network in place and leave it with the weights of the lowest validation loss.

    Args:
        network: An `EncoderNetwork` or a `ScratchNetwork`.
        data: Data under the protocol.
        plan: Steps, grid, patience.
        seed: Of dropout, and of loaders that draw from torch's global generator.
        cache: Features of a frozen encoder; used only where nothing random precedes the encoder.
        checkpoints: Folder to resume from and to write into at every validation.
        accelerator: Lightning's.

    Raises:
        BenchError: Memory ran out, with what to do about it.
        DataError: There is no training label.
    """
    started = time.perf_counter()
    with seeded(seed), memory_advice(plan):
        summary = summarise(network, data, plan)
        loaders: dict[str, Any] = {"train_dataloaders": data.train_dataloader(), "val_dataloaders": _validation(data)}
        validated = loaders["val_dataloaders"] is not None
        if isinstance(network, EncoderNetwork) and network.encoder_frozen and not augments(data):
            store = cache or FeatureCache(None)
            loaders = {
                name: loader if loader is None else EncodedLoader(loader, network, store, shuffle=name.startswith("train"), seed=seed)
                for name, loader in loaders.items()
            }
        elif isinstance(data, lightning.LightningDataModule):
            # Through the data module, so that its hooks (augmentation on the device) run.
            loaders = {"datamodule": data}
        rates = plan.learning_rates if validated else (sorted(plan.learning_rates)[len(plan.learning_rates) // 2],)
        start = trainable_state(network)
        best: tuple[FitHistory, dict[str, Tensor]] | None = None
        tried: dict[str, float | None] = {}
        for rate in rates:
            load_trainable(network, start)
            folder = None if checkpoints is None else Path(checkpoints) / f"lr-{rate:g}"
            with seeded(seed):
                history, state = _fit_once(
                    network, data, plan, rate, summary, loaders, validated=validated, folder=folder, accelerator=accelerator
                )
            tried[f"{rate:g}"] = history.best_validation
            if best is None or (history.best_validation or 0.0) < (best[0].best_validation or 0.0):
                best = history, state
        assert best is not None
        load_trainable(network, best[1])
    note = "" if validated else "no validation labels in this budget: the middle learning rate of the grid, all steps, no early stopping"
    history = replace(best[0], tried=tried, seconds=time.perf_counter() - started, note=note)
    return replace(history, planned_steps=plan.steps, batch_size=getattr(data, "batch_size", None)), summary


def _fit_once(
    network: nn.Module,
    data: ChipData,
    plan: TrainingPlan,
    rate: float,
    summary: TrainingSummary,
    loaders: dict[str, Any],
    *,
    validated: bool,
    folder: Path | None,
    accelerator: str,
) -> tuple[FitHistory, dict[str, Tensor]]:
    finished = None if folder is None else folder / "history.json"
    if folder is not None and finished is not None and finished.is_file():
        from safetensors.torch import load_file

        content = json.loads(finished.read_text())
        content["validation"] = [tuple(point) for point in content["validation"]]
        return FitHistory(**content), load_file(folder / "best.safetensors")
    last = None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        last = folder / "last.ckpt"
    module = TierModule(network, data.kind, plan, rate, summary)
    keeper = KeepBest(plan.patience, last)
    trainer = _trainer(plan, keeper, accelerator, validated=validated)
    with warnings.catch_warnings():
        # Lightning advises more loader workers, and that an iterable has no length; neither is the user's to mend here.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        trainer.fit(module, ckpt_path=last if last is not None and last.is_file() else None, weights_only=True, **loaders)
    steps = trainer.global_step
    state = keeper.best if keeper.best is not None else trainable_state(network)
    history = FitHistory(
        learning_rate=rate,
        steps=steps,
        best_step=keeper.best_step if keeper.best is not None else steps,
        best_validation=keeper.best_loss if keeper.best is not None else None,
        stopped_early=steps < plan.steps,
        validation=keeper.curve,
    )
    network.to("cpu")
    if folder is not None and finished is not None:
        from safetensors.torch import save_file

        save_file(state, folder / "best.safetensors")
        finished.write_text(json.dumps(asdict(history)))
    return history, state


def _trainer(plan: TrainingPlan, keeper: KeepBest, accelerator: str, *, validated: bool) -> lightning.Trainer:
    every = max(1, min(plan.val_every, plan.steps) * plan.accumulate)
    precision = plan.precision
    if precision == "auto":
        precision = "bf16-mixed" if accelerator != "cpu" and torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true"
    import logging

    # "GPU available: ..." once a learning rate drowns what the command prints.
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return lightning.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=cast("Any", precision),
        max_steps=plan.steps,
        max_epochs=-1,
        accumulate_grad_batches=plan.accumulate,
        val_check_interval=every if validated else 1.0,
        check_val_every_n_epoch=None if validated else 1,
        limit_val_batches=None if validated else 0,
        num_sanity_val_steps=0,
        callbacks=[keeper],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        deterministic="warn" if accelerator != "cpu" and torch.cuda.is_available() else False,
        gradient_clip_val=1.0,
    )


def summarise(network: nn.Module, data: ChipData, plan: TrainingPlan) -> TrainingSummary:
    """One pass over the training role for what needs it: input statistics (from scratch), class weights, target scale.

    Raises:
        DataError: No label at all.
    """
    scratch = isinstance(network, ScratchNetwork)
    if not scratch and plan.class_weights == "none" and data.kind != "regression":
        return TrainingSummary()
    outputs = len(data.classes) if data.classes else 0
    total = square = count = torch.zeros((), dtype=torch.float64)
    classes = torch.zeros(outputs, dtype=torch.float64)
    targets: list[Tensor] = []
    for batch in data.train_dataloader():
        if scratch:
            x = cast("ScratchNetwork", network).stack(batch).double()
            finite = torch.isfinite(x)
            x = torch.where(finite, x, 0.0)
            total = total + x.sum(dim=(0, 2, 3))
            square = square + x.square().sum(dim=(0, 2, 3))
            count = count + finite.sum(dim=(0, 2, 3))
        if data.kind == "regression":
            targets.append(batch["label"].double().reshape(len(batch["label"]), -1))
        else:
            labels = batch["mask" if data.kind == "segmentation" else "label"]
            classes += torch.bincount(labels[labels != IGNORE].flatten().long(), minlength=outputs)[:outputs]
    if scratch:
        mean = total / count.clamp_min(1)
        cast("ScratchNetwork", network).set_statistics(
            mean.float(), (square / count.clamp_min(1) - mean.square()).clamp_min(0).sqrt().float()
        )
    if data.kind == "regression":
        values = torch.cat(targets) if targets else torch.empty(0, 1)
        if not torch.isfinite(values).any():
            raise DataError("no training label in this budget", remedy="Use a larger budget.")
        mean = values.nanmean(dim=0)
        deviation = (values - mean).square().nanmean(dim=0).sqrt()
        return TrainingSummary(
            target_mean=mean.float(), target_std=torch.where(deviation > 0, deviation, torch.ones_like(deviation)).float()
        )
    if not classes.sum():
        raise DataError("no training label in this budget", remedy="Use a larger budget.")
    if plan.class_weights == "none":
        return TrainingSummary()
    # A class without a training label has no weight to speak of; 1 keeps its (absent) terms finite.
    weights = torch.where(classes > 0, classes.sum() / (outputs * classes.clamp_min(1)), torch.ones_like(classes))
    return TrainingSummary(class_weights=weights.clamp_max(10.0).float())


def load_trainable(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put trainable weights back.

    Raises:
        DataError: A key is unknown or missing.
    """
    expected = set(trainable_state(network))
    if expected != set(state):
        missing, added = sorted(expected - set(state)), sorted(set(state) - expected)
        raise DataError(
            f"saved weights do not fit the network: missing {missing[:3]}, unknown {added[:3]}",
            remedy="Load them into the model that saved them.",
        )
    network.load_state_dict(dict(state), strict=False)


def augments(data: Any) -> bool:
    """Whether the loaders themselves give other pixels each time (``data.augments``); features are then never cached.

    Augmentation in a data module's device hooks does not count: a frozen encoder is fed by the loaders, past those hooks.
    """
    return bool(getattr(data, "augments", False))


def _validation(data: ChipData) -> Any:
    loader: Any = data.val_dataloader()
    return None if loader is None or (hasattr(loader, "__len__") and len(loader) == 0) else loader


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed every generator, and put them all back afterwards."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 (TerraMind and kornia draw from the global generators)
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


@contextmanager
def memory_advice(plan: TrainingPlan | None = None) -> Iterator[None]:
    """Turn an out-of-memory failure into what to do about it.

    Raises:
        BenchError: Memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if (
            not isinstance(error, MemoryError | torch.OutOfMemoryError)
            and "out of memory" not in text
            and "can't allocate memory" not in text
        ):
            raise
        where = "on the GPU" if "cuda" in text else "on this machine"
        advice = (
            "halve the batch size and double 'accumulate' in the training options (the same steps), use a smaller patch, "
            "or a lighter tier (frozen or lora)"
        )
        if plan is None:
            advice = "predict with a smaller window or batch"
        raise BenchError(
            f"memory ran out {where}: {str(error).splitlines()[0] if str(error) else 'MemoryError'}\n  To go on, {advice}."
        ) from error
