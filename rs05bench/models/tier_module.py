"""Loss, optimiser and the keeping of the best weights: a deep tier as a LightningModule."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from rs05bench.models.adaptation import parameter_groups
from rs05bench.models.networks import EncoderNetwork, trainable_state
from rs05bench.models.plan import IGNORE, Kind
from rs05bench.models.summary import TrainingSummary
from rs05bench.protocol.card import Training


class TierModule(lightning.LightningModule):
    """Loss and optimiser of a tier; also usable on its own with any Trainer.

    Args:
        network: The network.
        kind: Kind of the task.
        plan: Steps, weight decay, warm-up.
        learning_rate: Rate of the head and the last block.
        summary: Class weights and the scale of the target.
        chunk: Units that go through the network at once. A larger batch (a fire of many chips) is still one step of the optimiser: its
            parts are computed one after another, and again one after another for the gradient, so that memory follows the part.
    """

    # Only what trains is in a checkpoint; the frozen rest is rebuilt.
    strict_loading = False
    # Data modules then leave missing pixels NaN.
    reads_missing = True

    def __init__(
        self,
        network: nn.Module,
        kind: Kind,
        plan: Training,
        learning_rate: float,
        summary: TrainingSummary | None = None,
        *,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.kind = kind
        self.plan = plan
        self.learning_rate = learning_rate
        self.summary = summary or TrainingSummary()
        self.chunk = chunk
        self.validation_loss = (0.0, 0.0)
        self.validation_classes: set[int] = set()

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """Logits."""
        try:
            return cast("Tensor", self.network(batch))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            # A lone unit that a pyramid pools to one pixel (UPerNet) has no statistics of its own; the running ones serve.
            with _running_statistics(self.network):
                return cast("Tensor", self.network(batch))

    @property
    def encoder_frozen(self) -> bool:
        """Whether the encoder is left alone: data modules then augment nothing."""
        return bool(getattr(self.network, "encoder_frozen", False))

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
        # A row a pixel: over maps a GPU adds the losses up in no fixed order, and one seed is to repeat.
        rows, known = logits.movedim(1, -1).reshape(-1, logits.shape[1]), target.reshape(-1)
        total = F.cross_entropy(rows, known, weight=weights, ignore_index=IGNORE, reduction="sum")
        if weights is None:
            return total, (target != IGNORE).sum().to(logits.dtype)
        # Not a matrix product: under autocast that would be taken in half precision.
        return total, torch.stack([(target == value).sum() for value in range(len(weights))]).mul(weights).sum()

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> Tensor:
        """Mean loss of the batch; zero (with a gradient) when none of its pixels is labelled."""
        parts = self._parts(batch)
        if len(parts) == 1:
            total, count = self.loss(batch)
        else:
            sums = [checkpoint(self.loss, part, use_reentrant=False, context_fn=self._once_and_again) for part in parts]
            total, count = (torch.stack(column).sum() for column in zip(*sums, strict=True))
        return total / count.clamp_min(1e-8)

    def _parts(self, batch: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        units = len(batch["mask" if self.kind == "segmentation" else "label"])
        if self.chunk is None or units <= self.chunk:
            return [batch]
        count = -(-units // self.chunk)
        # Parts of almost one size: a single left-over unit would make poor statistics for a batch norm.
        cuts = [slice(units * part // count, units * (part + 1) // count) for part in range(count)]
        return [{name: _rows(value, rows) for name, value in batch.items()} for rows in cuts]

    def _once_and_again(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts of a part's first computation and of its repetition, which must not count in running statistics again."""
        return nullcontext(), _still(self.network)

    def on_validation_epoch_start(self) -> None:
        """Start the sum."""
        self.validation_loss = (0.0, 0.0)
        self.validation_classes = set()

    def validation_step(self, batch: Mapping[str, Any], batch_index: int) -> None:
        """Add a batch; batches of few labels weigh little."""
        total, count = self.loss(batch)
        if self.kind != "regression" and len(self.validation_classes) < 2:
            labels = batch["mask" if self.kind == "segmentation" else "label"]
            self.validation_classes |= {int(value) for value in labels.unique() if value != IGNORE}
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
        self.last_look = 0
        self.curve: list[tuple[int, float]] = []
        self.generators: dict[str, Any] | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Go on with the generators, and the patience, of an interrupted fit."""
        if self.generators is not None:
            restore_generators(self.generators)
            self.generators = None
        if self.patience and self.since >= self.patience:
            trainer.should_stop = True

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Compare, keep, stop, and write the resumable checkpoint. Labels of one class choose nothing: what says that class always wins."""
        if trainer.sanity_checking:
            return
        module = cast("TierModule", pl_module)
        self.last_look = trainer.global_step
        total, count = module.validation_loss
        if count and (module.kind == "regression" or len(module.validation_classes) > 1):
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
        if self.checkpoint is not None and trainer.state.fn == "fit":
            draft = self.checkpoint.with_suffix(".draft")
            trainer.save_checkpoint(draft)
            draft.replace(self.checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """For resuming."""
        kept = {"best": self.best, "best_loss": self.best_loss, "best_step": self.best_step, "since": self.since, "curve": self.curve}
        return {**kept, "generators": generator_states()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.best, self.best_loss, self.best_step = state_dict["best"], state_dict["best_loss"], state_dict["best_step"]
        self.since, self.curve = state_dict["since"], [tuple(point) for point in state_dict["curve"]]
        self.last_look = self.curve[-1][0] if self.curve else 0
        self.generators = state_dict["generators"]


def generator_states() -> dict[str, Any]:
    """States of all global generators that training draws on (dropout, augmentation), as tensors and plain numbers."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 (kornia and TerraMind draw from it)
    version, numbers, spare = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(numbers), spare],
    }


def restore_generators(states: Mapping[str, Any]) -> None:
    """Puts the states of `generator_states` back."""
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"]:
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, numbers, spare = states["python"]
    random.setstate((version, tuple(numbers), spare))


def _rows(value: Any, rows: slice) -> Any:
    """Some units of a batch's entry: a tensor, cached features (a list of tensors), ids; anything else belongs to all of them."""
    if isinstance(value, Tensor):
        return value[rows]
    if isinstance(value, list):
        return [part[rows] for part in value] if value and isinstance(value[0], Tensor) else value[rows]
    return value


@contextmanager
def _running_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norms use their running statistics."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    for module in norms:
        module.eval()
    try:
        yield
    finally:
        for module in norms:
            module.train()


@contextmanager
def _still(network: nn.Module) -> Iterator[None]:
    """Running statistics of batch norms stay as they are."""
    norms = [(module, module.momentum) for module in network.modules() if isinstance(module, _BatchNorm)]
    for module, _ in norms:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, momentum in norms:
            module.momentum = momentum
