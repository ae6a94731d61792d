"""What trains: nothing but a head, a bottleneck adapter, low-rank updates, or all of the encoder.

Every tier starts from the same encoder and the same head; only the set of trainable parameters differs, and ``trainable_names`` says which
they are. Patterns are anchored at the transformer blocks: PEFT's usual ``["qkv", "proj"]`` would also hit the projection of the patch
embedding.

LoRA is PEFT's (Hu et al. 2021, arXiv:2106.09685) wherever the encoder calls its layers. torchvision's Swin reads ``qkv.weight`` and calls
no layer, so a PEFT wrapper around it would train nothing and say nothing; there the same low-rank update is a parametrisation of the
weight. The bottleneck adapter follows the MLP of a block (Pfeiffer et al. 2021, arXiv:2005.00247).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rs05bench.errors import BenchError
from rs05bench.models.backbones.spec import Layout
from rs05bench.models.options import AdaptationOptions, validated

Tier = Literal["frozen", "decoder", "adapter", "lora", "full"]
TIERS: tuple[Tier, ...] = ("frozen", "decoder", "adapter", "lora", "full")
_PROJECTION = {"q": 0, "k": 1, "v": 2}


_USUAL = AdaptationOptions()


@dataclass(frozen=True)
class Adaptation:
    """How an encoder is adapted: the tier, and what `AdaptationOptions` says of each of the other fields.

    ``frozen`` and ``decoder`` train no encoder parameter (a linear head or a full decoder alone); ``adapter`` and ``lora`` train what they
    add; ``full`` trains the encoder.

    Raises:
        BenchError: An unknown tier, or a value that is none.
    """

    tier: Tier
    rank: int = _USUAL.rank
    alpha: float = _USUAL.alpha
    dropout: float = _USUAL.dropout
    targets: tuple[str, ...] | None = _USUAL.targets
    bottleneck: int = _USUAL.bottleneck
    blocks: str = _USUAL.blocks
    layer_decay: float = _USUAL.layer_decay

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.tier not in TIERS:
            raise BenchError(f"unknown tier {self.tier!r}; known: {', '.join(TIERS)}")
        validated(self.tier, {name: value for name, value in asdict(self).items() if name != "tier"})


class SplitProjection(nn.Module):
    """A fused query-key-value layer as three, so that an update can go to one of them.

    Names as in TerraTorch, whose checkpoints then fit.
    """

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        names, size = ("q_linear", "k_linear", "v_linear"), fused.out_features // 3
        for index, name in enumerate(names):
            part = nn.Linear(fused.in_features, size, bias=fused.bias is not None, device=fused.weight.device, dtype=fused.weight.dtype)
            rows = slice(index * size, (index + 1) * size)
            part.weight = nn.Parameter(fused.weight.detach()[rows].clone(), requires_grad=fused.weight.requires_grad)
            if fused.bias is not None:
                part.bias = nn.Parameter(fused.bias.detach()[rows].clone(), requires_grad=fused.bias.requires_grad)
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., 3d), as the fused layer."""
        return torch.cat([self.q_linear(x), self.k_linear(x), self.v_linear(x)], dim=-1)


class LowRankWeight(nn.Module):
    """weight + alpha / rank * B A, for the chosen row blocks of a weight."""

    def __init__(self, weight: Tensor, rank: int, alpha: float, rows: list[slice]) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.rows = rows
        self.lora_A = nn.ParameterList([nn.Parameter(torch.empty(rank, weight.shape[1])) for _ in rows])
        self.lora_B = nn.ParameterList([nn.Parameter(torch.zeros(part.stop - part.start, rank)) for part in rows])
        for matrix in self.lora_A:
            nn.init.kaiming_uniform_(matrix, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """The updated weight."""
        updated = weight.clone()
        for part, low, high in zip(self.rows, self.lora_A, self.lora_B, strict=True):
            updated[part] = updated[part] + self.scale * (high @ low)
        return updated


class Bottleneck(nn.Module):
    """A module followed by a residual bottleneck that starts as the identity."""

    def __init__(self, inner: nn.Module, width: int, bottleneck: int, *, maps: bool = False) -> None:
        super().__init__()
        self.inner = inner
        # Of feature maps the channels come second.
        self.adapter_down = nn.Conv2d(width, bottleneck, 1) if maps else nn.Linear(width, bottleneck)
        self.adapter_up = nn.Conv2d(bottleneck, width, 1) if maps else nn.Linear(bottleneck, width)
        nn.init.normal_(self.adapter_down.weight, std=0.02)
        nn.init.zeros_(self.adapter_down.bias)
        nn.init.zeros_(self.adapter_up.weight)
        nn.init.zeros_(self.adapter_up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as the inner module's output."""
        y = self.inner(x)
        return y + self.adapter_up(nn.functional.gelu(self.adapter_down(y)))


def adapt(encoder: nn.Module, layout: Layout, adaptation: Adaptation) -> None:
    """Freeze an encoder and add or free what its tier trains, in place.

    Parameters the encoder itself keeps fixed (position tables) stay fixed in every tier.
    """
    trainable_before = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    encoder.requires_grad_(False)
    paths = block_paths(encoder, layout)
    chosen = select_blocks(len(paths), adaptation.blocks)
    blocks = [paths[index] for index in chosen]
    if adaptation.tier == "adapter":
        for block in blocks:
            if layout.convolutional:
                _add_bottleneck(encoder, block, _mixing(encoder, block)[-1], adaptation.bottleneck, maps=True)
            else:
                _add_bottleneck(encoder, f"{block}.{layout.mlp_module}", f"{block}.{layout.mlp[1]}", adaptation.bottleneck)
    elif adaptation.tier == "lora":
        _add_lora(encoder, layout, blocks, adaptation)
    elif adaptation.tier == "full":
        everything = len(blocks) == len(paths)
        for name, parameter in encoder.named_parameters():
            inside = any(name.startswith(f"{block}.") for block in blocks)
            parameter.requires_grad_(name in trainable_before and (everything or inside))


def block_paths(encoder: nn.Module, layout: Layout) -> list[str]:
    """Module paths of the transformer blocks, from the input to the output."""
    pattern = re.compile(layout.blocks)
    paths = [name for name, _ in encoder.named_modules() if pattern.fullmatch(name)]
    if not paths:
        raise BenchError(
            f"no transformer block matches {layout.blocks!r} in {type(encoder).__name__}; TerraTorch may have renamed its layers"
        )
    return paths


def select_blocks(depth: int, blocks: str) -> list[int]:
    """Block numbers of ``all``, ``top4``, ``bottom4`` or ``0,3,11``.

    Examples:
        >>> select_blocks(12, "top2"), select_blocks(12, "0,3")
        ([10, 11], [0, 3])
    """
    if blocks == "all":
        return list(range(depth))
    ends = re.fullmatch(r"(top|bottom)(\d+)", blocks)
    if ends:
        count = int(ends[2])
        chosen = list(range(depth))[-count:] if ends[1] == "top" else list(range(depth))[:count]
    elif re.fullmatch(r"\d+(,\d+)*", blocks):
        chosen, count = sorted({int(number) for number in blocks.split(",")}), 1
    else:
        raise BenchError(f"blocks {blocks!r} is none of all, top<n>, bottom<n> or numbers joined by commas")
    if count < 1 or count > depth or (chosen and chosen[-1] >= depth):
        raise BenchError(f"blocks {blocks!r}: the encoder has {depth} blocks, numbered from 0")
    return chosen


def trainable_names(module: nn.Module) -> list[str]:
    """Names of the parameters that train."""
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def set_training_modes(encoder: nn.Module, tier: Tier) -> None:
    """Encoders that train throughout are in training mode.

    Others keep evaluation mode (no dropped paths), but for the dropout of their updates.
    """
    if tier == "full":
        encoder.train()
        return
    encoder.eval()
    if tier == "lora":
        for name, module in encoder.named_modules():
            if "lora_dropout" in name:
                module.train()


@contextmanager
def merged(module: nn.Module) -> Iterator[nn.Module]:
    """The module with PEFT's low-rank updates folded into the weights, for as long as the block lasts."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [layer for layer in module.modules() if isinstance(layer, BaseTunerLayer)]
    for layer in layers:
        layer.merge(safe_merge=True)
    try:
        yield module
    finally:
        for layer in layers:
            layer.unmerge()


def parameter_groups(module: nn.Module, layout: Layout | None, adaptation: Adaptation | None, learning_rate: float) -> list[dict[str, Any]]:
    """Optimiser groups: one, or one a block when the learning rate decays towards the input.

    Args:
        module: The whole network; the encoder's blocks are found by their path.
        layout: Of the encoder; None for networks without one.
        adaptation: Its adaptation.
        learning_rate: Of the head and the last block.
    """
    named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    if layout is None or adaptation is None or adaptation.tier != "full" or adaptation.layer_decay == 1.0:
        return [{"params": [parameter for _, parameter in named], "lr": learning_rate}]
    pattern = re.compile(rf"(?:^|\.)({layout.blocks})\.")
    order = [match[1] for name, _ in module.named_parameters() if (match := pattern.search(name))]
    paths = list(dict.fromkeys(order))
    groups: dict[int, list[nn.Parameter]] = {}
    for name, parameter in named:
        match = pattern.search(name)
        if match:
            depth = len(paths) - 1 - paths.index(match[1])
        else:
            # The stem lies below the first block; whatever is outside the encoder is the head.
            depth = len(paths) if "encoder." in name else 0
        groups.setdefault(depth, []).append(parameter)
    return [{"params": parameters, "lr": learning_rate * adaptation.layer_decay**depth} for depth, parameters in sorted(groups.items())]


def _add_bottleneck(encoder: nn.Module, path: str, last: str, bottleneck: int, *, maps: bool = False) -> None:
    layer = encoder.get_submodule(last)
    width = layer.out_channels if isinstance(layer, nn.Conv2d) else cast("nn.Linear", layer).out_features
    parent, name = _parent(encoder, path)
    inner = encoder.get_submodule(path)
    wrapped = Bottleneck(inner, width, bottleneck, maps=maps).to(next(inner.parameters()).device)
    if isinstance(parent, nn.ModuleList):
        parent[int(name)] = wrapped
    else:
        setattr(parent, name, wrapped)


def _mixing(encoder: nn.Module, block: str) -> list[str]:
    """Paths of a block's layers that mix channels: convolutions that are not depthwise, and linear layers of ConvNeXt's kind."""
    return [
        f"{block}.{path}"
        for path, layer in encoder.get_submodule(block).named_modules()
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
    ]


def _add_lora(encoder: nn.Module, layout: Layout, blocks: list[str], adaptation: Adaptation) -> None:
    targets = layout.targets if adaptation.targets is None else adaptation.targets
    if layout.convolutional != (targets == ("conv",)):
        known = "conv" if layout.convolutional else "q, k, v, o, mlp"
        raise BenchError(f"LoRA targets {list(targets)}: the blocks of {type(encoder).__name__} have {known}")
    attention = [target for target in targets if target in _PROJECTION]
    called: list[str] = []
    for block in blocks:
        if layout.convolutional:
            called += _mixing(encoder, block)
        elif layout.functional_attention:
            _parametrise(encoder, f"{block}.{layout.qkv}", adaptation, attention)
            if "o" in targets:
                _parametrise(encoder, f"{block}.{layout.out}", adaptation, None)
        else:
            if layout.split is not None:
                called += [f"{block}.{layout.split[_PROJECTION[target]]}" for target in attention]
            elif attention:
                parent, name = _parent(encoder, f"{block}.{layout.qkv}")
                setattr(parent, name, SplitProjection(cast("nn.Linear", getattr(parent, name))))
                called += [f"{block}.{layout.qkv}.{target}_linear" for target in attention]
            if "o" in targets:
                called.append(f"{block}.{layout.out}")
        if "mlp" in targets:
            called += [f"{block}.{path}" for path in layout.mlp]
    if not called:
        return
    from peft import LoraConfig, inject_adapter_in_model

    pattern = "|".join(re.escape(path) for path in called)
    config = LoraConfig(r=adaptation.rank, lora_alpha=adaptation.alpha, lora_dropout=adaptation.dropout, target_modules=f"(?:{pattern})")
    frozen = {id(parameter) for parameter in encoder.parameters() if not parameter.requires_grad}
    free = {id(parameter) for parameter in encoder.parameters() if parameter.requires_grad}
    inject_adapter_in_model(config, encoder)
    # PEFT freezes everything that is not its own; parametrised updates from above stay free.
    for parameter in encoder.parameters():
        if id(parameter) in free:
            parameter.requires_grad_(True)
        elif id(parameter) in frozen:
            parameter.requires_grad_(False)


def _parametrise(encoder: nn.Module, path: str, adaptation: Adaptation, projections: list[str] | None) -> None:
    layer = cast("nn.Linear", encoder.get_submodule(path))
    if projections is None:
        rows = [slice(0, layer.out_features)]
    elif projections:
        size = layer.out_features // 3
        rows = [slice(_PROJECTION[part] * size, (_PROJECTION[part] + 1) * size) for part in projections]
    else:
        return
    if adaptation.dropout > 0:
        raise BenchError(
            f"dropout={adaptation.dropout:g}: {type(encoder).__name__} reads the weights of its attention and calls no layer there, so "
            "nothing can be dropped in front of the update\n  Leave dropout out, or choose targets=['mlp'], whose layers are called."
        )
    update = LowRankWeight(layer.weight, adaptation.rank, adaptation.alpha, rows).to(layer.weight.device)
    parametrize.register_parametrization(layer, "weight", update)
    layer.parametrizations.weight.original.requires_grad_(False)


def _parent(encoder: nn.Module, path: str) -> tuple[nn.Module, str]:
    head, _, name = path.rpartition(".")
    return encoder.get_submodule(head), name
