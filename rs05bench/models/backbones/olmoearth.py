"""OlmoEarth through its makers' own inference package, on Sentinel-2 L2A bands.

A feature is the mean over the tokens of a patch (dates and band sets), as the makers pool them. Bands that the data lack are filled as the
makers' evaluations do: version 1 copies the band nearest in wavelength, later versions, which were trained with bands left out, take 0.
Source: allenai's `olmoearth-pretrain-minimal`; Herzog et al. 2025, OlmoEarth, arXiv:2511.13655.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, override

import torch
from torch import Tensor, nn

from rs05bench.extras import require
from rs05bench.models.backbones.family import Family, calendar, drop, outputs_of
from rs05bench.models.backbones.imports import terratorch_kept_quiet
from rs05bench.models.backbones.weights import load_complete, read_state_dict, strip_prefix

ORDER = (
    "BLUE",
    "GREEN",
    "RED",
    "NIR_BROAD",
    "RED_EDGE_1",
    "RED_EDGE_2",
    "RED_EDGE_3",
    "NIR_NARROW",
    "SWIR_1",
    "SWIR_2",
    "COASTAL_AEROSOL",
    "WATER_VAPOR",
)
"""Bands in the order of the makers' band sets (10 m, 20 m, 60 m)."""
_NANOMETRES = (490, 560, 665, 842, 705, 740, 783, 865, 1610, 2190, 443, 945)
_STATISTIC_RANGE = 2.0
"""Mean minus and plus two standard deviations are mapped to 0 and 1."""
_YEAR = 2024
"""Data that tell no date get the first days of successive months of this year, as in rslearn."""


class OlmoEarth(Family):
    """OlmoEarth's encoder with its Sentinel-2 modality alone."""

    @override
    def build(self) -> nn.Module:
        version, size = self.spec.builder.split("/")
        with terratorch_kept_quiet():
            whole = _library().OlmoEarthPretrain_v1(
                model_size=size, model_version=version, supported_modality_names=["sentinel2_l2a"], drop_path=0.0
            )
        encoder: nn.Module = whole.model.encoder
        drop(encoder, "project_and_aggregate")
        return encoder

    @override
    def load(self, encoder: nn.Module, path: Path) -> None:
        state = read_state_dict(path)
        if any(key.startswith("encoder.") for key in state):
            state = strip_prefix(state, "encoder.")
        own = (
            "patch_embeddings.per_modality_embeddings.sentinel2_l2a.",
            "composite_encodings.per_modality_channel_embeddings.sentinel2_l2a",
        )
        others = [key for key in state if ".per_modality_" in key and not key.startswith(own)]
        load_complete(encoder, state, source=path, may_add=(*others, "project_and_aggregate."))

    @override
    def run(self, encoder: Any, image: Tensor, time: Tensor | None, location: Tensor | None, layers: tuple[int, ...]) -> list[Tensor]:
        from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.datatypes import MaskedOlmoEarthSample

        dates = image if image.ndim == 5 else image.unsqueeze(1)
        batch, frames, _, rows, columns = dates.shape
        cube = self._cube(dates.permute(0, 3, 4, 1, 2))
        if self.coordinates and time is not None:
            when = calendar(time)
        else:
            when = torch.tensor([(1, month, _YEAR) for month in range(frames)], device=image.device).expand(batch, frames, 3)
        sets = encoder.patch_embeddings.tokenization_config.get_num_bandsets("sentinel2_l2a")
        sample = MaskedOlmoEarthSample(
            timestamps=when, sentinel2_l2a=cube, sentinel2_l2a_mask=image.new_zeros(batch, rows, columns, frames, sets)
        )
        with outputs_of(encoder.blocks) as tokens:
            encoder(sample, patch_size=self.spec.patch, input_res=self.resolution_m, fast_pass=True)
        height, width = rows // self.spec.patch, columns // self.spec.patch
        return [
            encoder.norm(tokens[layer]).reshape(batch, height, width, -1, self.spec.dim).mean(dim=3).permute(0, 3, 1, 2) for layer in layers
        ]

    @override
    def channels(self) -> tuple[int, ...]:
        return (self.spec.dim,) * 4

    def _cube(self, values: Tensor) -> Tensor:
        """Values in standard deviations from the mean (B, H, W, T, bands of the data) to what was pretrained on, all twelve bands."""
        copies = self.spec.builder.startswith("v1/")
        own = {slot.band: slot for slot in self.spec.slots}
        parts = []
        for band, length in zip(ORDER, _NANOMETRES, strict=True):
            if band in self.slots:
                standard = values[..., self.slots.index(band)]
            elif copies:
                nearest = min(
                    self.slots, key=lambda other: (abs(_NANOMETRES[ORDER.index(other)] - length), _NANOMETRES[ORDER.index(other)])
                )
                raw = values[..., self.slots.index(nearest)] * own[nearest].std + own[nearest].mean
                standard = (raw - own[band].mean) / own[band].std
            else:
                parts.append(torch.zeros_like(values[..., 0]))
                continue
            parts.append((standard + _STATISTIC_RANGE) / (2 * _STATISTIC_RANGE))
        return torch.stack(parts, dim=-1)


def _library() -> Any:
    return require("olmoearth_pretrain_minimal.olmoearth_pretrain_v1.olmoearth_pretrain_v1", purpose="OlmoEarth")
