"""The families of encoders that TerraTorch builds; only what differs between their interfaces is here."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, cast, override

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from rs05bench.models.backbones.family import Family, drop, token_map
from rs05bench.models.backbones.imports import terratorch_kept_quiet
from rs05bench.models.backbones.weights import load_complete, read_state_dict, strip_prefix

WAVELENGTHS_UM = {
    "BLUE": 0.493,
    "GREEN": 0.56,
    "RED": 0.665,
    "RED_EDGE_1": 0.704,
    "RED_EDGE_2": 0.74,
    "RED_EDGE_3": 0.783,
    "NIR_BROAD": 0.842,
    "NIR_NARROW": 0.865,
    "SWIR_1": 1.61,
    "SWIR_2": 2.19,
}
"""Central wavelengths in micrometres that Clay publishes for Sentinel-2 (`metadata.yaml`)."""
DOFA_WAVELENGTHS_UM = WAVELENGTHS_UM | {"BLUE": 0.49, "RED_EDGE_1": 0.705}
"""Those DOFA was pretrained with and uses in its own demonstration for Sentinel-2; its features depend on them."""


class FullPrecisionConv3d(nn.Conv3d):
    """A convolution that autocast leaves in the precision of its weights.

    cuDNN has no fast one over three dimensions in bfloat16: Prithvi's patch embedding took 110 ms for 16 chips on an H200, the 24 blocks
    behind it 14.
    """

    @override
    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        if kind == "meta" or not torch.is_autocast_enabled(kind):
            return super().forward(input)
        with torch.autocast(kind, enabled=False):
            return super().forward(input.to(self.weight.dtype))


class Prithvi(Family):
    """Prithvi-EO-2.0 through TerraTorch.

    Its ``forward`` is a closure over the first object: never ``deepcopy`` one, the copy runs the original's weights.
    """

    @override
    def build(self) -> nn.Module:
        encoding = ["time", "location"] if self.coordinates else []
        options = {"bands": self.slots, "num_frames": self.num_frames, "coords_encoding": encoding, "img_size": self.image_size}
        encoder = _terratorch(self.spec.builder, **options)
        # The class alone changes: names, weights and copies stay what they are.
        encoder.patch_embed.proj.__class__ = FullPrecisionConv3d
        return encoder

    @override
    def load(self, encoder: nn.Module, path: Path) -> None:
        from terratorch.models.backbones.prithvi_vit import PRETRAINED_BANDS, checkpoint_filter_fn_vit

        with warnings.catch_warnings():
            # An incompatible patch embedding is otherwise a warning and a random first layer.
            warnings.filterwarnings("error", message="Incompatible shapes between patch embedding")
            state = checkpoint_filter_fn_vit(read_state_dict(path), encoder, PRETRAINED_BANDS, encoder.model_bands)
        load_complete(encoder, state, source=path, may_miss=("pos_embed",))

    @override
    def run(self, encoder: nn.Module, image: Tensor, time: Tensor | None, location: Tensor | None, layers: tuple[int, ...]) -> list[Tensor]:
        height, width = image.shape[-2] // self.spec.patch, image.shape[-1] // self.spec.patch
        frames = image.transpose(1, 2) if image.ndim == 5 else image.unsqueeze(2)
        given = {"temporal_coords": time, "location_coords": location} if self.coordinates else {}
        tokens = encoder.forward_features(frames, **given)
        return [_prithvi_map(tokens[layer], self.num_frames, height, width) for layer in layers]


class Satlas(Family):
    """SatlasPretrain Swin v2 through TerraTorch; stages come as (B, h, w, C)."""

    # torchgeo's Landsat checkpoint has 11 inputs of which the first seven reflect; TerraTorch maps them by Sentinel-2 names, which is
    # wrong.
    @override
    def build(self) -> nn.Module:
        encoder = _terratorch(self.spec.builder, model_bands=self.slots, out_indices=[1, 3, 5, 7])
        drop(encoder.swin_model, "norm", "head")
        # torchvision's Swin drops up to half of its paths in training; no other encoder here drops any.
        for module in encoder.modules():
            if isinstance(module, StochasticDepth):
                module.p = 0.0
        return encoder

    @override
    def load(self, encoder: nn.Module, path: Path) -> None:
        state = read_state_dict(path)
        order = [slot.band for slot in self.spec.slots]
        stem = "features.0.0.weight"
        if stem in state:
            # By our own order: TerraTorch reads the Landsat checkpoint's band names as Sentinel-2's, and would mix them up. The thermal,
            # panchromatic and cirrus inputs come after the reflecting ones and are left out.
            state[stem] = state[stem][:, [order.index(band) for band in self.slots]]
        load_complete(
            cast("nn.Module", encoder.swin_model), state, source=path, may_miss=_SWIN_TABLES, may_add=("norm.", "head.", *_SWIN_TABLES)
        )

    @override
    def run(self, encoder: nn.Module, image: Tensor, time: Tensor | None, location: Tensor | None, layers: tuple[int, ...]) -> list[Tensor]:
        stages = encoder(image)
        return [stages[layer].permute(0, 3, 1, 2).contiguous() for layer in layers]


_SWIN_TABLES = ("relative_coords_table", "relative_position_index")


class Dofa(Family):
    """DOFA through TerraTorch: bands enter by their wavelengths."""

    @override
    def build(self) -> nn.Module:
        encoder = _terratorch(
            self.spec.builder,
            model_bands=list(self.matching.bands),
            out_indices=list(self.spec.layers),
            img_size=self.image_size,
        )
        # TerraTorch derives others from the names (.832 and 2.20).
        encoder.wavelengths = [DOFA_WAVELENGTHS_UM[band] for band in self.matching.bands]
        drop(encoder.dofa_model, "fc_norm", "norm", "head", "head_drop")
        return encoder

    @override
    def load(self, encoder: nn.Module, path: Path) -> None:
        from terratorch.models.backbones.dofa_vit import resize_pos_embed

        state = read_state_dict(path)
        model = cast("nn.Module", encoder.dofa_model)
        if "pos_embed" in state and state["pos_embed"].shape != model.state_dict()["pos_embed"].shape:
            side, grid = int(math.sqrt(state["pos_embed"].shape[1] - 1)), self.image_size // self.spec.patch
            state["pos_embed"] = resize_pos_embed(state["pos_embed"], (grid, grid), (side, side), "bilinear")
        load_complete(model, state, source=path, may_add=("fc_norm.", "norm.", "head.", "mask_token", "projector.", "decoder"))

    @override
    def run(self, encoder: nn.Module, image: Tensor, time: Tensor | None, location: Tensor | None, layers: tuple[int, ...]) -> list[Tensor]:
        tokens = encoder(image)
        position = {layer: index for index, layer in enumerate(self.spec.layers)}
        height, width = image.shape[-2] // self.spec.patch, image.shape[-1] // self.spec.patch
        return [token_map(tokens[position[layer]][:, 1:], height, width) for layer in layers]


class Clay(Family):
    """Clay v1 through TerraTorch's timm entry."""

    prefix = "model.encoder."

    @override
    def build(self) -> nn.Module:
        return _terratorch(self.spec.builder, bands=list(self.matching.bands), img_size=self.image_size)

    @override
    def load(self, encoder: nn.Module, path: Path) -> None:
        state = read_state_dict(path)
        if any(key.startswith(self.prefix) for key in state):
            state = strip_prefix(state, self.prefix)
        load_complete(cast("nn.Module", encoder.clay_encoder), state, source=path)

    @override
    def run(self, encoder: nn.Module, image: Tensor, time: Tensor | None, location: Tensor | None, layers: tuple[int, ...]) -> list[Tensor]:
        when, where = clay_metadata(time, location) if self.coordinates else (None, None)
        # TerraTorch would derive others from the names.
        waves = image.new_tensor(_wavelengths(self.matching.bands))
        tokens = encoder(image, time=when, latlon=where, waves=waves, gsd=self.resolution_m)
        height, width = image.shape[-2] // self.spec.patch, image.shape[-1] // self.spec.patch
        return [token_map(tokens[layer][:, 1:], height, width) for layer in layers]


class Clay15(Clay):
    """Clay 1.5: TerraTorch has its encoder as a class, not in its registry of backbones."""

    @override
    def build(self) -> nn.Module:
        with terratorch_kept_quiet():
            from terratorch.models.backbones.clay_v15.model import Encoder

        encoder = Encoder(
            mask_ratio=0.0,
            patch_size=self.spec.patch,
            shuffle=False,
            dim=self.spec.dim,
            depth=self.spec.depth,
            heads=16,
            dim_head=64,
            mlp_ratio=4,
        )
        return nn.ModuleDict({"clay_encoder": encoder})

    @override
    def load(self, encoder: nn.Module, path: Path) -> None:
        state = read_state_dict(path)
        if any(key.startswith(self.prefix) for key in state):
            state = strip_prefix(state, self.prefix)
        load_complete(cast("nn.ModuleDict", encoder)["clay_encoder"], state, source=path)

    @override
    def run(self, encoder: nn.Module, image: Tensor, time: Tensor | None, location: Tensor | None, layers: tuple[int, ...]) -> list[Tensor]:
        when, where = clay_metadata(time, location) if self.coordinates else (None, None)
        empty = image.new_zeros(image.shape[0], 4)
        waves = image.new_tensor(_wavelengths(self.matching.bands))
        cube = {
            "pixels": image,
            "time": empty if when is None else when,
            "latlon": empty if where is None else where,
            "gsd": image.new_tensor(self.resolution_m),
            "waves": waves,
        }
        tokens = cast("nn.ModuleDict", encoder)["clay_encoder"](cube)[0]
        height, width = image.shape[-2] // self.spec.patch, image.shape[-1] // self.spec.patch
        feature = token_map(tokens[:, 1:], height, width)
        return [feature for _ in layers]


class TerraMind(Family):
    """TerraMind through TerraTorch, with its Sentinel-2 L2A modality alone."""

    @override
    def build(self) -> nn.Module:
        return _terratorch(self.spec.builder, modalities=["S2L2A"], bands={"S2L2A": self.slots})

    @override
    def load(self, encoder: nn.Module, path: Path) -> None:
        state = read_state_dict(path)
        order = [slot.band for slot in self.spec.slots]
        stem = next((key for key in state if key.startswith("encoder_embeddings.untok_sen2l2a") and key.endswith("proj.weight")), None)
        if stem is not None:
            weight = state[stem]
            pixels = self.spec.patch**2
            chosen = weight.view(weight.shape[0], pixels, -1)[..., [order.index(band) for band in self.slots]]
            state[stem] = chosen.reshape(weight.shape[0], -1)
        others = tuple(key for key in state if key.startswith("encoder_embeddings.") and "untok_sen2l2a" not in key)
        load_complete(encoder, state, source=path, may_add=(*others, "decoder", "mask_token", "tokenizer"))

    @override
    def run(self, encoder: nn.Module, image: Tensor, time: Tensor | None, location: Tensor | None, layers: tuple[int, ...]) -> list[Tensor]:
        tokens = encoder(image)
        height, width = image.shape[-2] // self.spec.patch, image.shape[-1] // self.spec.patch
        return [token_map(tokens[layer], height, width) for layer in layers]


def clay_metadata(time: Tensor | None, location: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Clay's encodings: (sin, cos) of the week and of the hour, (sin, cos) of latitude and of longitude.

    Args:
        time: (B, T, 2) year and day of year; the first date counts.
        location: (B, 2) latitude and longitude in degrees.
    """
    when = None
    if time is not None:
        week = (time[:, 0, 1] / 7.0) * (2 * math.pi / 52)
        # The hour is not in the data; zeros are what Clay saw where metadata were dropped.
        unknown = torch.zeros_like(week)
        when = torch.stack([week.sin(), week.cos(), unknown, unknown], dim=1).float()
    where = None
    if location is not None:
        angle = torch.deg2rad(location.float())
        where = torch.stack([angle[:, 0].sin(), angle[:, 0].cos(), angle[:, 1].sin(), angle[:, 1].cos()], dim=1)
    return when, where


def _wavelengths(bands: tuple[str, ...]) -> list[float]:
    """Wavelengths of bands that are really there; one without any cannot pass (TerraTorch would give it 0 in silence)."""
    return [WAVELENGTHS_UM[band] for band in bands]


def _prithvi_map(tokens: Tensor, frames: int, height: int, width: int) -> Tensor:
    """(B, 1 + T*h*w, D) -> (B, T*D, h, w); the class token goes."""
    body = tokens[:, 1:].reshape(tokens.shape[0], frames, height * width, tokens.shape[2])
    return body.permute(0, 1, 3, 2).reshape(tokens.shape[0], frames * tokens.shape[2], height, width)


def _terratorch(builder: str, **options: Any) -> nn.Module:
    with terratorch_kept_quiet():
        from terratorch.registry import BACKBONE_REGISTRY

        return cast("nn.Module", BACKBONE_REGISTRY.build(builder, pretrained=False, **options))
