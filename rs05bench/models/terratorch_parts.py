"""A deep tier named in TerraTorch's own parts: encoder, necks, decoder and PEFT, with the statistics of the pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rs05bench.errors import ProtocolError
from rs05bench.models.adaptation import Adaptation, select_blocks
from rs05bench.models.backbones import backbone_spec, canonical_bands, match_bands
from rs05bench.models.backbones.bands import Matching
from rs05bench.models.backbones.spec import BackboneSpec
from rs05bench.models.options import AdaptationOptions

if TYPE_CHECKING:
    from rs05bench.models.chip_facts import ChipFacts
    from rs05bench.models.chip_model import DeepModel

_NATIVE_FAMILIES = ("prithvi", "terramind")
_NATIVE_TIERS = ("decoder", "lora", "full")
_DECODERS = {"unet": "UNetDecoder", "upernet": "UperNetDecoder"}


@dataclass(frozen=True)
class NativeParts:
    """A tier in TerraTorch's words.

    Args:
        arguments: Of the task: the factory of the model and what it is given.
        data: Of the generic data module: bands, statistics, scale, dates.
        fill: What missing pixels are written as, a number for each band of the data in the data's units: the pretraining's mean, which is
            what our own encoders read them as.
    """

    arguments: dict[str, Any]
    data: dict[str, Any]
    fill: tuple[float, ...]


def native_parts(model: DeepModel, facts: ChipFacts, height: int, width: int) -> NativeParts | None:
    """The tier in TerraTorch's own parts; None where TerraTorch lacks one, or would compute something else.

    Args:
        model: The deep model.
        facts: What its `inspect` found in the data.
        height: Rows of a patch.
        width: Columns of a patch.

    Raises:
        ProtocolError: A pretrained encoder without a file of weights.
    """
    if model.spec.backbone is None:
        return None
    spec = backbone_spec(model.spec.inputs)
    if not _has_parts(model, spec) or not _same_pixels(spec, facts, height, width):
        return None
    if not model.spec.random_twin and model.options.weights is None:
        raise ProtocolError(f"{model.spec.name}: export needs the file of weights", remedy="Create the model with weights=<file>.")
    matching = match_bands(spec.slots, facts.bands, require_all=spec.require_all, encoder=spec.name)
    pretrained: dict[str, Any] = {"backbone_pretrained": not model.spec.random_twin}
    if not model.spec.random_twin:
        pretrained["backbone_ckpt_path"] = str(Path(str(model.options.weights)).absolute())
    arguments = {
        "backbone": spec.builder,
        **_backbone_arguments(spec, matching, facts),
        **pretrained,
        "necks": _necks(spec, facts),
        **_decoder_arguments(model, spec),
        "num_classes": facts.outputs,
    }
    if model.spec.tier == "lora":
        arguments["peft_config"] = _lora(spec, _adaptation(model))
    task = {"model_factory": "EncoderDecoderFactory", "model_args": arguments, "freeze_backbone": model.spec.tier == "decoder"}
    return NativeParts(task, _data_arguments(matching, facts), _fill(matching, facts))


def _has_parts(model: DeepModel, spec: BackboneSpec) -> bool:
    options = model.options
    if model.spec.tier not in _NATIVE_TIERS or spec.family not in _NATIVE_FAMILIES or any(slot.clip for slot in spec.slots):
        return False
    if options.head == "linear" or options.decoder not in _DECODERS:
        return False
    adaptation = _adaptation(model)
    partial = adaptation.tier == "full" and (adaptation.blocks != "all" or adaptation.layer_decay != 1.0)
    return not partial and not reads_coordinates(model)


def _same_pixels(spec: BackboneSpec, facts: ChipFacts, height: int, width: int) -> bool:
    """Whether TerraTorch shows the encoder what we show it: dates natively, and no padding.

    It pads to twice the patch and on all sides, our encoders to the patch and at the bottom and right.
    """
    if facts.num_frames > 1 and spec.frames != "native":
        return False
    return height % (2 * spec.patch) == 0 and width % (2 * spec.patch) == 0 and (height == width or not spec.square)


def reads_coordinates(model: DeepModel) -> bool:
    """Whether the encoder is told time and location."""
    if model.spec.backbone is None:
        return False
    said = model.options.coordinates
    return bool(backbone_spec(model.spec.inputs).coordinates_default if said is None else said)


def _adaptation(model: DeepModel) -> Adaptation:
    return Adaptation(model.spec.tier, **model.options.given(AdaptationOptions))  # type: ignore[arg-type]


def _data_arguments(matching: Matching, facts: ChipFacts) -> dict[str, Any]:
    return {
        "dataset_bands": list(canonical_bands(facts.bands)),
        "output_bands": list(matching.bands),
        "rgb_indices": [0, 0, 0],
        "means": [slot.mean for slot in matching.slots],
        "stds": [slot.std for slot in matching.slots],
        # TerraTorch standardises after constant_scale, so the data are brought to reflectance x 10,000 first.
        "constant_scale": 10_000.0 / facts.scale,
        "expand_temporal_dimension": facts.num_frames > 1,
    }


def _fill(matching: Matching, facts: ChipFacts) -> tuple[float, ...]:
    means = {index: slot.mean * facts.scale / 10_000.0 for index, slot in zip(matching.indices, matching.slots, strict=True)}
    return tuple(means.get(index, 0.0) for index in range(len(facts.bands)))


def _backbone_arguments(spec: BackboneSpec, matching: Matching, facts: ChipFacts) -> dict[str, Any]:
    slots = [slot.band for slot in matching.slots]
    if spec.family == "prithvi":
        return {
            "backbone_bands": slots,
            "backbone_num_frames": facts.num_frames,
            "backbone_coords_encoding": [],
            "backbone_img_size": facts.image_size,
        }
    if spec.family == "terramind":
        return {"backbone_modalities": ["S2L2A"], "backbone_bands": {"S2L2A": slots}}
    return {"backbone_in_chans": len(slots), "backbone_out_indices": list(spec.layers), "backbone_img_size": facts.image_size}


def _necks(spec: BackboneSpec, facts: ChipFacts) -> list[dict[str, Any]]:
    reshape: dict[str, Any] = {"name": "ReshapeTokensToImage"}
    if spec.family == "terramind":
        reshape["remove_cls_token"] = False
    if facts.num_frames > 1:
        reshape["effective_time_dim"] = facts.num_frames
    select = [{"name": "SelectIndices", "indices": list(spec.layers)}, reshape]
    return [*select, {"name": "LearnedInterpolateToPyramidal"}]


def _decoder_arguments(model: DeepModel, spec: BackboneSpec) -> dict[str, Any]:
    decoder = model.options.decoder
    width = model.options.decoder_width or (32 if spec.dim <= 256 else 64)
    channels: int | Sequence[int] = [4 * width, 2 * width, width, max(width // 2, 8)] if decoder == "unet" else width
    return {"decoder": _DECODERS[decoder], "decoder_channels": channels}


def _lora(spec: BackboneSpec, adaptation: Adaptation) -> dict[str, Any]:
    """PEFT's pattern over the chosen blocks; TerraTorch splits the fused projection under the names our own split uses."""
    layout = spec.layout
    numbers = "|".join(str(index) for index in select_blocks(spec.depth, adaptation.blocks))
    block = layout.blocks.replace(r"\d+", f"(?:{numbers})")
    targets = layout.targets if adaptation.targets is None else adaptation.targets
    ends = [rf"{layout.qkv}.{target}_linear" for target in targets if target in "qkv"]
    ends += [layout.out] if "o" in targets else []
    ends += list(layout.mlp) if "mlp" in targets else []
    pattern = block + r"\.(?:" + "|".join(end.replace(".", r"\.") for end in ends) + ")"
    kwargs = {"target_modules": pattern, "r": adaptation.rank, "lora_alpha": adaptation.alpha, "lora_dropout": adaptation.dropout}
    split = layout.qkv.rpartition(".")[2] if any(target in "qkv" for target in targets) else None
    return {"method": "LORA", "replace_qkv": split, "peft_config_kwargs": kwargs}
