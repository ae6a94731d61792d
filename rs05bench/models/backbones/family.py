"""What every family of encoders does: build offline, load a checkpoint completely, run, and give back feature maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rs05bench.models.backbones.bands import Matching
from rs05bench.models.backbones.spec import BackboneSpec


class Family(ABC):
    """How to build, load and run one kind of encoder."""

    def __init__(
        self, spec: BackboneSpec, matching: Matching, *, image_size: int, num_frames: int, coordinates: bool, resolution_m: float
    ) -> None:
        self.spec = spec
        self.matching = matching
        self.image_size = image_size
        self.num_frames = num_frames if spec.frames == "native" else 1
        self.coordinates = coordinates
        self.resolution_m = resolution_m
        self.slots = [slot.band for slot in matching.slots]

    @abstractmethod
    def build(self) -> nn.Module:
        """The encoder with random weights."""

    @abstractmethod
    def load(self, encoder: nn.Module, path: Path) -> None:
        """Load pretrained weights; every key must be there."""

    @abstractmethod
    def run(self, encoder: nn.Module, image: Tensor, time: Tensor | None, location: Tensor | None, layers: tuple[int, ...]) -> list[Tensor]:
        """Feature maps (B, D, h, w) of the asked layers.

        ``image`` is (B, C, H, W), or (B, T, C, H, W) for encoders that take dates natively.
        """

    def channels(self) -> tuple[int, ...]:
        """Channels of the four layers."""
        return self.spec.widths or (self.spec.dim * self.num_frames,) * 4


def token_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """(B, h*w, D) -> (B, D, h, w)."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], height, width)


def drop(module: Any, *names: str) -> None:
    """Take out layers the feature maps never pass through, so that they are neither counted nor declared trainable."""
    for name in names:
        if isinstance(getattr(module, name, None), nn.Module):
            setattr(module, name, nn.Identity())


@contextmanager
def outputs_of(blocks: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """What each block gives while the encoder runs, in their order: for encoders whose own forward gives the last layer alone."""
    found: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _module, _given, output: found.append(output)) for block in blocks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def calendar(time: Tensor) -> Tensor:
    """Day of the month from 1, month from 0 and year of (..., 2) year and day of year: (..., 3), whole numbers.

    Months are those of a common year, which in a leap year is a day late.
    """
    ends = time.new_tensor([31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334])
    day = time[..., 1].clamp(1, 365)
    month = torch.bucketize(day.contiguous(), ends)
    start = torch.cat([ends.new_zeros(1), ends])[month]
    return torch.stack([day - start, month.to(day.dtype), time[..., 0]], dim=-1).long()
