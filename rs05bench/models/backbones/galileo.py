"""Galileo through rslearn: a transformer over channel groups, of which it takes those the data fill.

Each group of Sentinel-2 bands (blue green red; red edge; near infrared at 10 m; near infrared at 20 m; short-wave infrared; NDVI) is a
token of its own in every patch. The six HLS bands fill three groups, a colour picture one. Groups that are not there are masked, as in
pretraining, and a patch's feature is the mean of its tokens: the makers' own pooling.
Source: Tseng et al. 2025, arXiv:2502.09356; github.com/nasaharvest/galileo (config/normalization.json).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, override

import torch
from torch import Tensor, nn

from rs05bench.errors import DataError
from rs05bench.extras import require
from rs05bench.models.backbones.bands import BandWarning
from rs05bench.models.backbones.family import Family, calendar, outputs_of
from rs05bench.models.backbones.imports import terratorch_kept_quiet
from rs05bench.models.backbones.weights import load_complete, read_state_dict

GROUPS: Mapping[str, tuple[str, ...]] = {
    "S2_RGB": ("BLUE", "GREEN", "RED"),
    "S2_Red_Edge": ("RED_EDGE_1", "RED_EDGE_2", "RED_EDGE_3"),
    "S2_NIR_10m": ("NIR_BROAD",),
    "S2_NIR_20m": ("NIR_NARROW",),
    "S2_SWIR": ("SWIR_1", "SWIR_2"),
}
"""Bands of each group, in the encoder's order; NDVI is made of RED and NIR_BROAD where both are there."""
_NAMES = {
    "BLUE": "B2",
    "GREEN": "B3",
    "RED": "B4",
    "RED_EDGE_1": "B5",
    "RED_EDGE_2": "B6",
    "RED_EDGE_3": "B7",
    "NIR_BROAD": "B8",
    "NIR_NARROW": "B8A",
    "SWIR_1": "B11",
    "SWIR_2": "B12",
}
_SHAPES = {
    "galileo-nano": {"embedding_size": 128, "depth": 4, "num_heads": 8, "mlp_ratio": 4},
    "galileo-tiny": {"embedding_size": 192, "depth": 12, "num_heads": 3, "mlp_ratio": 4},
    "galileo-base": {"embedding_size": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4},
}
_STATISTIC_RANGE = 2.0
"""Galileo maps its mean minus and plus two standard deviations to 0 and 1."""
_JUNE = 5
"""Month of data that tell none, counted from 0: the makers' default."""


class Galileo(Family):
    """Galileo's encoder on Sentinel-2 bands."""

    @override
    def build(self) -> nn.Module:
        library = _library()
        filled = [name for name, bands in GROUPS.items() if set(bands) <= set(self.slots)]
        if not filled:
            raise DataError(
                f"{self.spec.name} takes its bands in groups, and the data fill none (they have {', '.join(self.matching.bands)})",
                remedy="It needs all of one of: " + "; ".join(f"{', '.join(bands)}" for bands in GROUPS.values()) + ".",
            )
        left = [band for band in self.slots if not any(band in GROUPS[name] for name in filled)]
        if left:
            warnings.warn(
                f"{self.spec.name}: {', '.join(left)} fill no whole group of its channels and are left out", BandWarning, stacklevel=1
            )
        ndvi = {"RED", "NIR_BROAD"} <= set(self.slots)
        self.groups = [*filled, "NDVI"] if ndvi else filled
        encoder = library.Encoder(**_SHAPES[self.spec.name], max_sequence_length=24, max_patch_size=8, drop_path=0.0)
        # What no pixel passes through is neither counted nor declared trainable.
        for name in list(encoder.space_time_embed):
            if name not in self.groups:
                del encoder.space_time_embed[name]
        encoder.space_embed, encoder.time_embed = nn.ModuleDict(), nn.ModuleDict()
        for name in list(encoder.static_embed):
            if not (self.coordinates and name == "location"):
                del encoder.static_embed[name]
        encoder.sp_channel_embed.requires_grad_(False)
        encoder.t_channel_embed.requires_grad_(False)
        encoder.st_channel_embed.requires_grad_(self.coordinates)
        return encoder

    @override
    def load(self, encoder: nn.Module, path: Path) -> None:
        # Some published files have an extra ".backbone" in their names.
        state = {key.replace(".backbone", ""): value for key, value in read_state_dict(path).items()}
        unused = ("space_time_embed.", "space_embed.", "time_embed.", "static_embed.")
        load_complete(encoder, state, source=path, may_add=unused)

    @override
    def run(self, encoder: Any, image: Tensor, time: Tensor | None, location: Tensor | None, layers: tuple[int, ...]) -> list[Tensor]:
        library = _library()
        dates = image if image.ndim == 5 else image.unsqueeze(1)
        batch, frames, _, rows, columns = dates.shape
        values = dates.permute(0, 3, 4, 1, 2)
        cube = image.new_zeros(batch, rows, columns, frames, len(library.SPACE_TIME_BANDS))
        for position, band in enumerate(self.slots):
            cube[..., library.SPACE_TIME_BANDS.index(_NAMES[band])] = (values[..., position] + _STATISTIC_RANGE) / (2 * _STATISTIC_RANGE)
        if "NDVI" in self.groups:
            cube[..., library.SPACE_TIME_BANDS.index("NDVI")] = self._ndvi(values)
        hidden = [name not in self.groups for name in library.SPACE_TIME_BANDS_GROUPS_IDX]
        static, static_mask = self._place(library, location if self.coordinates else None, image)
        months = image.new_full((batch, frames), _JUNE, dtype=torch.long)
        if self.coordinates and time is not None:
            months = calendar(time)[..., 1]
        with outputs_of(encoder.blocks) as tokens:
            encoder(
                cube,
                image.new_zeros(batch, rows, columns, len(library.SPACE_BANDS)),
                image.new_zeros(batch, frames, len(library.TIME_BANDS)),
                static,
                torch.tensor(hidden, dtype=image.dtype, device=image.device).expand(batch, rows, columns, frames, len(hidden)),
                image.new_ones(batch, rows, columns, len(library.SPACE_BAND_GROUPS_IDX)),
                image.new_ones(batch, frames, len(library.TIME_BAND_GROUPS_IDX)),
                static_mask,
                months,
                patch_size=self.spec.patch,
                input_resolution_m=self.resolution_m,
            )
        height, width = rows // self.spec.patch, columns // self.spec.patch
        return [self._mean_map(encoder.norm(tokens[layer]), height, width) for layer in layers]

    @override
    def channels(self) -> tuple[int, ...]:
        return (self.spec.dim,) * 4

    def _mean_map(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """(B, h*w*T*groups [+ 1], D) to (B, D, h, w): the mean over a patch's tokens, and the location's where it is given."""
        pixels = tokens if not self.coordinates else tokens[:, :-1]
        patches = pixels.reshape(len(tokens), height, width, -1, tokens.shape[-1])
        total, count = patches.sum(dim=3), patches.shape[3]
        if self.coordinates:
            total, count = total + tokens[:, -1:, None], count + 1
        return (total / count).permute(0, 3, 1, 2)

    def _ndvi(self, values: Tensor) -> Tensor:
        """NDVI of values in standard deviations from the mean: (B, H, W, T)."""
        red, near = (
            values[..., position] * self.matching.slots[position].std + self.matching.slots[position].mean
            for position in (self.slots.index("RED"), self.slots.index("NIR_BROAD"))
        )
        total = near + red
        return torch.where(total > 0, (near - red) / total.clamp_min(1e-6), torch.zeros_like(total)).clamp(-1, 1)

    def _place(self, library: Any, location: Tensor | None, image: Tensor) -> tuple[Tensor, Tensor]:
        """The static bands and their mask: latitude and longitude as a point of the unit sphere, or nothing."""
        names = list(library.STATIC_BAND_GROUPS_IDX)
        values, mask = image.new_zeros(len(image), len(library.STATIC_BANDS)), image.new_ones(len(image), len(names))
        if location is None:
            return values, mask
        latitude, longitude = torch.deg2rad(location.to(image.dtype)).unbind(dim=1)
        point = (latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin())
        for name, value in zip(library.LOCATION_BANDS, point, strict=True):
            values[:, library.STATIC_BANDS.index(name)] = value
        mask[:, names.index("location")] = 0
        return values, mask


def _library() -> Any:
    """The module of rslearn that holds Galileo."""
    with terratorch_kept_quiet():
        return require("rslearn.models.galileo.single_file_galileo", purpose="Galileo")
