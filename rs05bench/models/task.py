"""A tier by name as a LightningModule that a configuration file can name.

`TierTask` builds its network when it meets the data, because bands, dates, classes and patch size are theirs to say. For the whole of the
protocol (the grid of learning rates, the best weights of the validation region, results with costs) use `rs05bench fit-predict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from rs05bench.errors import ProtocolError
from rs05bench.models.deep import create_network
from rs05bench.models.tier_module import TierModule


class TierTask(lightning.LightningModule):
    """A deep tier under a Trainer of anyone's own, on a data module of rs05bench.

    It trains with the middle rate of the task card's grid.

    Args:
        model: Name of a deep model, e.g. `prithvi-300/lora`.
        seed: Seed of the head's weights, and of what adaptation adds.
        options: Options of the model, e.g. `weights`, `rank`, `decoder`.
    """

    # Only what trains is in a checkpoint; the frozen rest is rebuilt.
    strict_loading = False
    reads_missing = True

    def __init__(self, model: str, seed: int = 0, options: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.deep = create_network(model, seed=seed, **(options or {}))
        self.tier: TierModule | None = None

    def configure_model(self) -> None:
        """Builds the network for the data available, once.

        Raises:
            ProtocolError: The Trainer was given loaders and no data module.
        """
        if self.tier is None:
            data = getattr(self.trainer, "datamodule", None)
            if data is None:
                raise ProtocolError(
                    "a tier is built from its data, and the Trainer has no data module", remedy="Call trainer.fit(task, datamodule=dm)."
                )
            # Lightning calls this on the Trainer's device; data are read, and weights drawn, on the host, as `fit` does.
            with torch.device("cpu"):
                self.tier = self.deep.module(data.view)

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """Logits."""
        return self._tier(batch)

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> Tensor:
        """Mean loss over the labelled pixels of a batch."""
        return self._tier.training_step(batch, batch_index)

    def validation_step(self, batch: Mapping[str, Any], batch_index: int) -> None:
        """Logs `val_loss`, the mean over labelled pixels."""
        total, count = self._tier.loss(batch)
        self.log("val_loss", total / count.clamp_min(1e-8), batch_size=max(int(count), 1))

    def predict_step(self, batch: dict[str, Any], batch_index: int, dataloader_idx: int = 0) -> list[tuple[str, Any]]:
        """Unit ids with their probabilities (K, H, W), large chips by sliding window."""
        return list(zip([str(unit) for unit in batch["unit_id"]], self.deep.probabilities(batch), strict=True))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The protocol's optimiser and schedule."""
        return self._tier.configure_optimizers()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps what trains."""
        from rs05bench.models.networks import trainable_state

        checkpoint["state_dict"] = {f"tier.network.{name}": value for name, value in trainable_state(self._tier.network).items()}

    @property
    def encoder_frozen(self) -> bool:
        """Whether the encoder is left alone: data modules then augment nothing."""
        return self._tier.encoder_frozen

    @property
    def _tier(self) -> TierModule:
        assert self.tier is not None
        return self.tier
