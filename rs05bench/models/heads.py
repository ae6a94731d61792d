"""What turns feature maps into predictions: a linear head, a pooled head, or one of TerraTorch's decoders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rs05bench.errors import BenchError
from rs05bench.models.backbones.imports import terratorch_kept_quiet

DECODERS = ("unet", "upernet", "fpn")


def pixel_features(features: Sequence[Tensor]) -> Tensor:
    """What is read at a pixel, (B, D, h, w): the one map there is, or all stages of a pyramid at the resolution of the finest.

    The deepest map of a convolutional network has a pixel for 32 x 32 of the image's, too few to read a segmentation from.
    """
    if len(features) == 1:
        return features[0]
    size = features[0].shape[-2:]
    return torch.cat([F.interpolate(level, size=size, mode="bilinear", align_corners=False) for level in features], dim=1)


class LinearHead(nn.Module):
    """1 x 1 convolution on the deepest map, or on all stages of a pyramid; logits are interpolated to the image."""

    def __init__(self, channels: Sequence[int], outputs: int, *, pyramid: bool = False) -> None:
        super().__init__()
        self.positions = (0, 1, 2, 3) if pyramid else (3,)
        # Scales differ by orders of magnitude between encoders, and between stages; without a norm one learning rate could not serve all.
        self.norms = nn.ModuleList([nn.GroupNorm(1, channels[position]) for position in self.positions])
        self.classify = nn.Conv2d(sum(channels[position] for position in self.positions), outputs, 1)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Feature maps to logits (B, K, H, W) of the padded image."""
        normed = [norm(level) for norm, level in zip(self.norms, features, strict=True)]
        return F.interpolate(self.classify(pixel_features(normed)), size=size, mode="bilinear", align_corners=False)


class PooledHead(nn.Module):
    """Mean over space, then a linear layer: one prediction a chip."""

    positions = (3,)

    def __init__(self, channels: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels[-1])
        self.predict = nn.Linear(channels[-1], outputs)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Feature maps to (B, K)."""
        return self.predict(self.norm(features[-1].mean(dim=(-2, -1))))


class DecoderHead(nn.Module):
    """TerraTorch's neck and decoder, then a 1 x 1 convolution.

    A plain vision transformer gives four maps of one resolution; ``LearnedInterpolateToPyramidal`` turns them into a pyramid. Swin comes
    as one.
    """

    positions = (0, 1, 2, 3)

    def __init__(self, channels: Sequence[int], outputs: int, *, decoder: str = "unet", width: int = 64, pyramid: bool = False) -> None:
        super().__init__()
        with terratorch_kept_quiet():
            from terratorch.models.necks import LearnedInterpolateToPyramidal

        channel_list = list(channels)
        self.neck = None if pyramid else LearnedInterpolateToPyramidal(channel_list)
        if self.neck is not None:
            channel_list = self.neck.process_channel_list(channel_list)
        self.decoder = _decoder(decoder, channel_list, width)
        self.classify = nn.Conv2d(self.decoder.out_channels, outputs, 1)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Feature maps to logits (B, K, H, W) of the padded image."""
        maps = features if self.neck is None else self.neck(features)
        logits = self.classify(self.decoder(list(maps)))
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False) if logits.shape[-2:] != size else logits


class _Fpn(nn.Module):
    """torchvision's feature pyramid through TerraTorch's neck, its levels summed at the finest (Kirillov et al.

    2019, arXiv:1901.02446, without its group norms).
    """

    def __init__(self, channel_list: list[int], width: int) -> None:
        super().__init__()
        with terratorch_kept_quiet():
            from terratorch.models.necks import FeaturePyramidNetworkNeck

        self.pyramid = FeaturePyramidNetworkNeck(channel_list, out_channel=width, output_ordered_dict=False)
        levels = self.pyramid.process_channel_list(channel_list)
        self.lateral = nn.ModuleList([nn.Conv2d(count, width, 3, padding=1) for count in levels])
        self.out_channels = width

    def forward(self, features: list[Tensor]) -> Tensor:
        levels = [layer(level) for layer, level in zip(self.lateral, self.pyramid(features), strict=True)]
        finest = levels[0].shape[-2:]
        summed = levels[0]
        for level in levels[1:]:
            summed = summed + F.interpolate(level, size=finest, mode="bilinear", align_corners=False)
        return F.relu(summed)


def _decoder(name: str, channel_list: list[int], width: int) -> nn.Module:
    with terratorch_kept_quiet():
        from terratorch.registry import DECODER_REGISTRY

    if name == "unet":
        return DECODER_REGISTRY.build("UNetDecoder", channel_list, channels=[4 * width, 2 * width, width, max(width // 2, 8)])
    if name == "upernet":
        return DECODER_REGISTRY.build("UperNetDecoder", channel_list, channels=width)
    if name == "fpn":
        return _Fpn(channel_list, width)
    raise BenchError(f"unknown decoder {name!r}; known: {', '.join(DECODERS)}")
