"""Networks trained from scratch: the baseline every adapted encoder has to beat, and the heads that read chips of an embedding.

U-Net (Ronneberger et al. 2015, arXiv:1505.04597) and SegFormer (Xie et al. 2021, arXiv:2105.15203) are segmentation_models_pytorch's,
without ImageNet weights: nothing pretrained may enter this tier. Inputs are standardised with statistics of the training role.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rs05bench.embeddings.products import EmbeddingProduct
from rs05bench.errors import DataError
from rs05bench.models.backbones.bands import named_bands

# (index, near or first band, far or second band): (first - second) / (first + second).
INDICES = {
    "NDVI": (("NIR_NARROW", "NIR_BROAD"), ("RED",)),
    "NBR": (("NIR_NARROW", "NIR_BROAD"), ("SWIR_2",)),
    "NDWI": (("GREEN",), ("NIR_NARROW", "NIR_BROAD")),
    "NDBI": (("SWIR_1",), ("NIR_NARROW", "NIR_BROAD")),
}


class InputStack(nn.Module):
    """Turns a batch into one tensor of channels: reflectance, indices, the embedding, extra layers.

    Args:
        inputs: ``raw`` (all dates of all bands), ``hybrid`` (bands, NDVI, NBR, NDWI, NDBI, the embedding, and extra layers), or a family of
            embedding products (the embedding alone).
        bands: Bands of the data, in channel order.
        scale: The number that stands for a reflectance of 1.
        product: What the embedding is of; None where the data have none.

    Raises:
        DataError: The embedding is of another family than the one that is read, or absent.
    """

    def __init__(self, inputs: str, bands: Sequence[str], scale: float, product: EmbeddingProduct | None = None) -> None:
        super().__init__()
        self.inputs = inputs
        self.reads_image = inputs in ("raw", "hybrid")
        self.bands = named_bands(bands) if self.reads_image else ()
        self.scale = float(scale)
        self.product = None if inputs == "raw" else product
        if inputs != "raw" and product is None:
            raise DataError(
                f"a model on {inputs} reads the pixels of an embedding, and the data have none",
                remedy="Add tiles of the embedding to the data (preprocessing: {embeddings: FOLDER}), or use a raw/ or encoder model.",
            )
        if not self.reads_image and product is not None and product.family != inputs:
            raise DataError(
                f"a model on {inputs} was given an embedding of {product.name}",
                remedy=f"Use {product.family}/..., or name the product of the tiles: preprocessing: {{embedding_product: NAME}}.",
            )

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """(B, channels, H, W), missing values NaN."""
        parts: list[Tensor] = []
        if self.reads_image:
            image = batch["image"].float() / self.scale
            if image.shape[-3] != len(self.bands):
                raise DataError(
                    f"the image has {image.shape[-3]} channels and {len(self.bands)} bands are declared", remedy="Declare a band a channel."
                )
            dates = image if image.ndim == 5 else image.unsqueeze(1)
            parts.append(dates.flatten(1, 2))
            if self.inputs == "hybrid":
                parts.append(torch.stack(self._indices(dates), dim=2).flatten(1, 2))
        if self.product is not None:
            parts.append(decode_embedding(batch["embedding"], self.product))
        if self.inputs == "hybrid" and "extra" in batch:
            parts.append(batch["extra"].float())
        return torch.cat(parts, dim=1)

    def _indices(self, dates: Tensor) -> list[Tensor]:
        found = spectral_indices(dates, self.bands)
        if not found:
            raise DataError(
                "no spectral index can be formed from the bands " + ", ".join(self.bands),
                remedy="hybrid models need near infrared and one more band.",
            )
        return found


def spectral_indices(dates: Tensor, bands: Sequence[str]) -> list[Tensor]:
    """Those of `INDICES` that the bands allow, each (B, dates, H, W) in -1 to 1.

    Args:
        dates: Reflectance (B, dates, bands, H, W).
        bands: Canonical names, in channel order.
    """

    def band(names: Sequence[str]) -> Tensor | None:
        name = next((name for name in names if name in bands), None)
        return None if name is None else dates[:, :, bands.index(name)]

    found = []
    for first, second in INDICES.values():
        one, two = band(first), band(second)
        if one is not None and two is not None:
            # Reflectance can be slightly negative after atmospheric correction; the ratio is bounded rather than allowed to explode.
            found.append(((one - two) / (one + two).abs().clamp_min(1e-4)).clamp(-1, 1))
    return found


def decode_embedding(embedding: Tensor, product: EmbeddingProduct) -> Tensor:
    """Components (B, D, H, W) of an embedding as its product's codec holds it, NaN where missing; floating point is taken as decoded.

    Raises:
        DataError: The chip has another number of components than the product.
    """
    return product.sized(embedding.shape[1]).codec.decode_tensor(embedding).float()


class ScratchNetwork(nn.Module):
    """Inputs, standardisation with training statistics, and a network without pretrained weights."""

    adaptation = None

    def __init__(self, stack: InputStack, architecture: str, channels: int, outputs: int, *, pooled: bool = False) -> None:
        super().__init__()
        self.stack = stack
        self.pooled = pooled
        self.multiple = 32 if architecture in ("unet", "segformer") else 4 if architecture == "shallow-unet" else 1
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))
        self.network = _architecture(architecture, channels, outputs)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Standardise with these (per channel); a constant channel becomes zero."""
        self.mean.copy_(mean.view(-1, 1, 1))
        self.std.copy_(torch.where(std > 1e-8, std, torch.ones_like(std)).view(-1, 1, 1))

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """Logits (B, K, H, W), or (B, K) as their mean over space."""
        x = torch.nan_to_num((self.stack(batch) - self.mean) / self.std, nan=0.0)
        height, width = x.shape[-2:]
        bottom, right = -height % self.multiple, -width % self.multiple
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom), mode="replicate")
        logits = self.network(x)[..., :height, :width]
        return logits.mean(dim=(-2, -1)) if self.pooled else logits


class ShallowUNet(nn.Module):
    """Two levels, about 0.2 million parameters: embeddings already hold the context a deep network would have to find."""

    def __init__(self, channels: int, outputs: int, width: int = 32) -> None:
        super().__init__()
        self.down1 = _block(channels, width)
        self.down2 = _block(width, 2 * width)
        self.bottom = _block(2 * width, 4 * width)
        self.up2 = _block(4 * width + 2 * width, 2 * width)
        self.up1 = _block(2 * width + width, width)
        self.classify = nn.Conv2d(width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, H, W); H and W are multiples of 4."""
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        deep = self.bottom(F.max_pool2d(two, 2))
        two = self.up2(torch.cat([F.interpolate(deep, scale_factor=2, mode="nearest"), two], dim=1))
        one = self.up1(torch.cat([F.interpolate(two, scale_factor=2, mode="nearest"), one], dim=1))
        return self.classify(one)


def _block(channels: int, width: int) -> nn.Sequential:
    # Group norm: budgets of one fire make batches of one.
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.GroupNorm(8, width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.GroupNorm(8, width),
        nn.ReLU(inplace=True),
    )


def _architecture(name: str, channels: int, outputs: int) -> nn.Module:
    if name == "conv1x1":
        return nn.Conv2d(channels, outputs, 1)
    if name == "shallow-unet":
        return ShallowUNet(channels, outputs)
    import segmentation_models_pytorch as smp

    if name == "unet":
        return smp.Unet("resnet18", encoder_weights=None, in_channels=channels, classes=outputs)
    return smp.Segformer("mit_b0", encoder_weights=None, in_channels=channels, classes=outputs)
