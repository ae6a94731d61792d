"""The untrained network of a deep tier: what was found in the data, then encoder, adaptation and head, or a network from scratch."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from rs05bench.errors import DataError
from rs05bench.models.adaptation import OPTIONS, Adaptation, adapt
from rs05bench.models.backbones import build_backbone
from rs05bench.models.backbones.encoder import Backbone
from rs05bench.models.deep import DeepSpec
from rs05bench.models.heads import DecoderHead, LinearHead, PooledHead
from rs05bench.models.networks import EncoderNetwork
from rs05bench.models.plan import ChipData, TrainingPlan
from rs05bench.models.scratch import EMBEDDING_BANDS, INDICES, InputStack, ScratchNetwork
from rs05bench.models.training import seeded

ADAPTATION_OPTIONS = tuple(dict.fromkeys(name for names in OPTIONS.values() for name in names))
BACKBONE_OPTIONS = ("weights", "revision", "coordinates", "resolution_m", "init_seed", "patch", "white")
HEAD_OPTIONS = ("head", "decoder", "decoder_width")
NETWORK_OPTIONS = (*ADAPTATION_OPTIONS, *BACKBONE_OPTIONS, *HEAD_OPTIONS)
RUN_OPTIONS = ("cache", "checkpoints", "accelerator", "window", "batch")
"""Options that say how a model is run, and nothing of what it is."""


def inspect_data(data: ChipData) -> dict[str, Any]:
    """What a network needs to know about data: kind, classes, bands, scale, dates, image size (reads one training batch)."""
    batch = next(iter(data.train_dataloader()), None)
    if batch is None:
        raise DataError("no training unit in this budget", remedy="Use a larger budget.")
    key = "image" if "image" in batch else "embedding"
    return {
        "kind": data.kind,
        "classes": list(data.classes) if data.classes else None,
        "targets": int(batch["label"].reshape(len(batch["label"]), -1).shape[1]) if data.kind == "regression" else 1,
        "bands": list(getattr(data, "bands", None) or []),
        "scale": float(getattr(data, "scale", 1.0)),
        "num_frames": int(getattr(data, "num_frames", 1) or 1),
        "image_size": int(max(batch[key].shape[-2:])),
        "resolution_m": getattr(data, "resolution_m", None),
        "extra": int(batch["extra"].shape[1]) if "extra" in batch else 0,
    }


def build_network(spec: DeepSpec, facts: dict[str, Any], options: dict[str, Any], seed: int) -> nn.Module:
    """The untrained network of a tier.

    Args:
        spec: The tier.
        facts: What `inspect_data` said of the data.
        options: Options of the model.
        seed: Of the head's weights, and of what adaptation adds.

    Raises:
        DataError: An option is unknown, bands do not fit, or weights are missing.
    """
    _refuse_unknown(spec, facts, options)
    outputs = facts["targets"] if facts["kind"] == "regression" else len(facts["classes"])
    if spec.backbone is None:
        with seeded(seed):
            return _scratch(spec, facts, outputs)
    given = {"resolution_m": facts["resolution_m"], **{key: options[key] for key in BACKBONE_OPTIONS if key in options}}
    if spec.random_twin:
        # A control is another network for every seed.
        given.setdefault("init_seed", seed)
    linear = _head(spec, options) == "linear"
    backbone = _backbone(
        spec,
        reads="last" if linear or facts["kind"] != "segmentation" else "all",
        bands=tuple(facts["bands"]),
        scale=facts["scale"],
        image_size=facts["image_size"],
        num_frames=facts["num_frames"],
        pretrained=not spec.random_twin,
        **given,
    )
    adaptation = Adaptation(spec.tier, **{key: _tupled(options[key]) for key in ADAPTATION_OPTIONS if key in options})  # type: ignore[arg-type]
    with seeded(seed):
        adapt(backbone.encoder, backbone.spec.layout, adaptation)
        if facts["kind"] != "segmentation":
            head: nn.Module = PooledHead(backbone.channels, outputs)
        elif linear:
            head = LinearHead(backbone.channels, outputs, pyramid=backbone.spec.pyramid)
        else:
            width = int(options.get("decoder_width", 32 if backbone.spec.dim <= 256 else 64))
            head = DecoderHead(
                backbone.channels, outputs, decoder=str(options.get("decoder", "unet")), width=width, pyramid=backbone.spec.pyramid
            )
        return EncoderNetwork(backbone, head, adaptation)


def _scratch(spec: DeepSpec, facts: dict[str, Any], outputs: int) -> nn.Module:
    stack = InputStack(spec.inputs, facts["bands"], facts["scale"])  # type: ignore[arg-type]
    channels = 0
    if spec.inputs != "alphaearth":
        channels += facts["num_frames"] * len(facts["bands"])
    if spec.inputs == "hybrid":
        usable = sum(any(a in stack.bands for a in first) and any(b in stack.bands for b in second) for first, second in INDICES.values())
        channels += facts["num_frames"] * usable + facts["extra"]
    if spec.inputs != "raw":
        channels += EMBEDDING_BANDS
    return ScratchNetwork(stack, spec.learner, channels, outputs, pooled=facts["kind"] != "segmentation")


def _refuse_unknown(spec: DeepSpec, facts: dict[str, Any], options: dict[str, Any]) -> None:
    """Options nobody knows, and those that this tier on these data would silently ignore."""
    network: tuple[str, ...] = ()
    if spec.backbone is not None:
        network = (*BACKBONE_OPTIONS, *OPTIONS[spec.tier])
        if facts["kind"] == "segmentation":
            network += HEAD_OPTIONS if _head(spec, options) == "decoder" else ("head",)
    known = {*network, *RUN_OPTIONS}
    unknown = sorted(set(options) - known - {entry.name for entry in fields(TrainingPlan)})
    if unknown:
        raise DataError(
            f"{spec.name} does not know the option {', '.join(unknown)}",
            remedy=f"On these data it takes {', '.join(sorted(known))}, and the fields of the training plan.",
        )


def _head(spec: DeepSpec, options: dict[str, Any]) -> str:
    return str(options.get("head", "linear" if spec.tier == "frozen" else "decoder"))


_FROZEN: dict[str, Backbone] = {}


def _backbone(spec: DeepSpec, *, reads: str, **arguments: Any) -> Backbone:
    """The encoder of a model.

    Tiers that leave it alone share the last one built in this process: the cells of a curve differ in their heads only.
    """
    if spec.tier not in ("frozen", "decoder"):
        return build_backbone(spec.inputs, **arguments)
    # Heads read other layers, which is set on the encoder.
    key = json.dumps([spec.inputs, reads, sorted(arguments.items(), key=lambda item: item[0])], default=str)
    weights = arguments.get("weights")
    if weights is not None and Path(weights).is_file():
        key += str(Path(weights).stat().st_mtime_ns)
    if key in _FROZEN:
        _FROZEN[key].begin()
    else:
        _FROZEN.clear()
        _FROZEN[key] = build_backbone(spec.inputs, **arguments)
    return _FROZEN[key]


def forget_encoders() -> None:
    """Let go of the encoder that frozen tiers of this process share."""
    _FROZEN.clear()


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
