"""Whole networks: a batch in, logits out.

A batch is a dict of ``image`` (B, [T,] C, H, W) in the data set's units, and where the data have them ``embedding`` (B, 64, H, W),
``extra`` (B, E, H, W), ``time`` (B, T, 2) and ``location`` (B, 2). A batch of cached features has ``features`` and ``size`` instead of
``image``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from rs05bench.models.adaptation import Adaptation, set_training_modes
from rs05bench.models.backbones.encoder import Backbone

Batch = Mapping[str, Any]


class EncoderNetwork(nn.Module):
    """An adapted encoder and a head."""

    def __init__(self, backbone: Backbone, head: nn.Module, adaptation: Adaptation) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.adaptation = adaptation
        positions: tuple[int, ...] = head.positions
        backbone.use_layers(*positions)
        self.encoder_frozen = not any(parameter.requires_grad for parameter in backbone.parameters())
        backbone.begin()

    def train(self, mode: bool = True) -> EncoderNetwork:
        """Training mode for what trains; a frozen encoder never leaves evaluation mode."""
        super().train(mode)
        if mode:
            set_training_modes(self.backbone, self.adaptation.tier)
        return self

    def encode(self, batch: Batch) -> list[Tensor]:
        """Feature maps of the padded images."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.encoder_frozen), self._precision():
            return self.backbone(batch["image"], batch.get("time"), batch.get("location"))

    def _precision(self) -> AbstractContextManager[None]:
        """Features of a frozen encoder are those of float32 on every device: they are kept, and read on another."""
        return full_precision() if self.encoder_frozen else nullcontext()

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, K, H, W) or (B, K)."""
        if "features" in batch:
            features, (height, width) = list(batch["features"]), batch["size"]
        else:
            features, (height, width) = self.encode(batch), batch["image"].shape[-2:]
            if self.encoder_frozen:
                # As the cache keeps them: a head adds up another layout in another order, and the same cell would differ in the last bit.
                features = [feature.contiguous() for feature in features]
        logits = self.head(features, self.backbone.padded_size(height, width))
        return logits[..., :height, :width] if logits.ndim == 4 else logits


@contextmanager
def full_precision() -> Iterator[None]:
    """Has cuDNN's convolutions compute in float32: by default they round their inputs to TF32, whose mantissa has 10 bits."""
    flags = torch.backends.cudnn
    with flags.flags(enabled=flags.enabled, benchmark=flags.benchmark, deterministic=flags.deterministic, allow_tf32=False):
        yield


def parameter_counts(network: nn.Module) -> tuple[int, int]:
    """Number of parameters, and of those that train."""
    total = sum(parameter.numel() for parameter in network.parameters())
    return total, sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def gflops_per_unit(network: nn.Module, batch: Batch) -> float:
    """Billions of floating-point operations of one forward pass for one unit (a multiply-add counts as two), counted while it runs.

    Args:
        network: Any network here.
        batch: A batch; only its first unit is used.
    """
    from torch.utils.flop_counter import FlopCounterMode

    single = {key: value[:1] if isinstance(value, Tensor) else value for key, value in batch.items()}
    if "features" in single:
        single["features"] = [feature[:1] for feature in single["features"]]
    was_training = network.training
    network.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(single)
    network.train(was_training)
    return counter.get_total_flops() / 1e9


def trainable_state(network: nn.Module) -> dict[str, Tensor]:
    """What training changes: trainable parameters, and the running statistics and scalers that go with them.

    Buffers of a frozen encoder are left out: they are rebuilt with it.
    """
    learned = {name: value for name, value in network.named_parameters() if value.requires_grad}
    persistent = network.state_dict(keep_vars=True)
    running = ("running_mean", "running_var", "num_batches_tracked")
    for name, value in network.named_buffers():
        inside_encoder = name.startswith("backbone.")
        if name in persistent and (not inside_encoder or name.endswith(running)):
            learned[name] = value
    return {name: value.detach().cpu().clone().contiguous() for name, value in learned.items()}
