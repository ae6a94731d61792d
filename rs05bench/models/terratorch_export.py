"""A deep cell as a configuration of TerraTorch's own command: ``terratorch fit --config cell.yaml``.

Where TerraTorch has every part (encoder, necks, decoder, LoRA), the configuration names TerraTorch's parts alone and needs nothing of ours.
Where it has not (the bottleneck adapter, the linear head with its norm, Clay with the data's ground sampling distance, AlphaEarth
networks), the model is `ExportedModel`, our network in TerraTorch's model interface.

What a configuration cannot say stays behind: the grid of learning rates and the budget of labelled pixels. Export one cell a learning rate,
and give masks in which unlabelled pixels are -1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from torch import Tensor, nn

from rs05bench.errors import ProtocolError
from rs05bench.models.adaptation import Adaptation, select_blocks
from rs05bench.models.backbones import backbone_spec, canonical_bands, match_bands
from rs05bench.models.backbones.bands import Matching
from rs05bench.models.backbones.spec import BackboneSpec

if TYPE_CHECKING:
    from rs05bench.models.chip_model import DeepModel
    from rs05bench.models.plan import TrainingPlan

_NATIVE_FAMILIES = ("prithvi", "terramind", "timm")
_NATIVE_TIERS = ("decoder", "lora", "full")
_DECODERS = {"unet": "UNetDecoder", "upernet": "UperNetDecoder"}


def export_terratorch(
    model: DeepModel,
    facts: dict[str, Any],
    plan: TrainingPlan,
    *,
    train: str | Path,
    val: str | Path,
    images: str = "*_merged.tif",
    labels: str = "*.mask.tif",
    batch_size: int = 4,
) -> str:
    """The YAML text of a cell.

    Args:
        model: The deep model.
        facts: What was found in the data: ``model.facts_`` after a fit, or ``model.inspect(data)``.
        plan: Its training plan; the first learning rate of the grid is exported.
        train: Folder of the training chips and masks.
        val: Folder of the validation chips and masks.
        images: Pattern of the chips' names.
        labels: Pattern of the masks' names.
        batch_size: Chips a batch.

    Raises:
        ProtocolError: TerraTorch's generic data module has no place for this model's inputs.
    """
    if facts["kind"] != "segmentation":
        raise ProtocolError(
            "only segmentation cells export to TerraTorch", remedy="Classification and regression tiers are trained by rs05bench run."
        )
    if model.spec.inputs == "hybrid":
        raise ProtocolError(
            f"{model.spec.name} reads bands and embeddings from two rasters; TerraTorch's generic data module reads one",
            remedy="Export raw/unet or alphaearth/unet, or train it by rs05bench run.",
        )
    native = _native(model, facts)
    arguments, means, stds, scale = native or _ours(model, facts)
    frozen = native is not None and model.spec.tier == "decoder"
    config = {
        "seed_everything": model.seed,
        "trainer": {
            "accelerator": "auto",
            "devices": 1,
            "max_steps": plan.steps,
            "val_check_interval": min(plan.val_every, plan.steps),
            "check_val_every_n_epoch": None,
            "accumulate_grad_batches": plan.accumulate,
            "gradient_clip_val": 1.0,
            "num_sanity_val_steps": 0,
            "logger": False,
        },
        "data": {
            "class_path": "terratorch.datamodules.GenericNonGeoSegmentationDataModule",
            "init_args": {
                "batch_size": batch_size,
                "num_workers": 0,
                "num_classes": len(facts["classes"]),
                "train_data_root": str(train),
                "val_data_root": str(val),
                "test_data_root": str(val),
                "img_grep": images,
                "label_grep": labels,
                **_bands(model, facts, native is not None),
                "means": means,
                "stds": stds,
                "constant_scale": scale,
                "no_label_replace": -1,
                "expand_temporal_dimension": facts["num_frames"] > 1,
                "drop_last": False,
            },
        },
        "model": {
            "class_path": "terratorch.tasks.SemanticSegmentationTask",
            "init_args": {
                **arguments,
                "loss": "ce",
                "ignore_index": -1,
                "freeze_backbone": frozen,
                "plot_on_val": False,
                "class_names": [str(value) for value in facts["classes"]],
            },
        },
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": plan.learning_rates[0], "weight_decay": plan.weight_decay}},
        "lr_scheduler": {"class_path": "CosineAnnealingLR", "init_args": {"T_max": plan.steps}},
    }
    head = f"# {model.spec.name} as a TerraTorch configuration: terratorch fit --config <this file>\n"
    return head + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


class ExportedModel(nn.Module):
    """One of our networks where TerraTorch expects a model.

    Args:
        name: Name of the deep model.
        facts: What was found in the data.
        seed: Of its initialisation.
        options: Its options.
    """

    def __init__(self, name: str, facts: dict[str, Any], seed: int = 0, options: dict[str, Any] | None = None) -> None:
        super().__init__()
        from rs05bench.models.deep import create

        self.embedding = name.startswith("alphaearth/")
        self.network = create(name, seed=seed, **(options or {})).network(facts)

    def forward(self, x: Tensor, **_: Any) -> Any:
        """(B, C, H, W), or (B, C, T, H, W) as TerraTorch stacks dates, to TerraTorch's ``ModelOutput``."""
        from terratorch.models.model import ModelOutput

        image = x.transpose(1, 2) if x.ndim == 5 else x
        return ModelOutput(output=self.network({"embedding" if self.embedding else "image": image}))

    def freeze_encoder(self) -> None:
        """Nothing to do: the tier has already decided what trains."""

    def freeze_decoder(self) -> None:
        """Not a tier of ours."""
        raise NotImplementedError("every tier trains its head")


def _native(model: DeepModel, facts: dict[str, Any]) -> tuple[dict[str, Any], list[float], list[float], float] | None:
    """TerraTorch's own parts, statistics in the data's units; None where TerraTorch lacks one."""
    options = model.options
    if model.spec.backbone is None or model.spec.tier not in _NATIVE_TIERS or options.get("decoder", "unet") not in _DECODERS:
        return None
    spec = backbone_spec(model.spec.inputs)
    adaptation = Adaptation(
        model.spec.tier,  # type: ignore[arg-type]
        **{key: options[key] for key in ("rank", "alpha", "dropout", "blocks", "layer_decay") if key in options},
        targets=tuple(options.get("targets", ("q", "v"))),
    )
    clipped = any(slot.clip for slot in spec.slots)
    partial = adaptation.tier == "full" and (adaptation.blocks != "all" or adaptation.layer_decay != 1.0)
    if spec.family not in _NATIVE_FAMILIES or clipped or partial or options.get("head") == "linear" or options.get("coordinates"):
        return None
    if facts["num_frames"] > 1 and spec.frames != "native":
        return None
    if not model.spec.random_twin and "weights" not in options:
        raise ProtocolError(f"{model.spec.name}: export needs the file of weights", remedy="Create the model with weights=<file>.")
    matching = match_bands(spec.slots, facts["bands"], require_all=spec.require_all, encoder=spec.name)
    arguments = {
        "backbone": spec.builder,
        **_backbone_arguments(spec, matching, facts),
        "backbone_pretrained": not model.spec.random_twin,
        **({} if model.spec.random_twin else {"backbone_ckpt_path": str(options["weights"])}),
        "necks": _necks(spec, facts),
        **_decoder_arguments(model, spec),
        "num_classes": len(facts["classes"]),
    }
    if adaptation.tier == "lora":
        arguments["peft_config"] = _lora(spec, adaptation)
    means, stds = [slot.mean for slot in matching.slots], [slot.std for slot in matching.slots]
    # TerraTorch standardises after constant_scale, so the data are brought to reflectance x 10,000 first.
    return {"model_factory": "EncoderDecoderFactory", "model_args": arguments}, means, stds, 10_000.0 / facts["scale"]


def _ours(model: DeepModel, facts: dict[str, Any]) -> tuple[dict[str, Any], list[float], list[float], float]:
    channels = 64 if model.spec.inputs == "alphaearth" else len(facts["bands"])
    from rs05bench.models.chip_network import NETWORK_OPTIONS

    options = {key: _plain(value) for key, value in model.options.items() if key in NETWORK_OPTIONS}
    arguments = {
        "name": model.spec.name,
        "facts": {key: value for key, value in facts.items() if key != "target"},
        "seed": model.seed,
        "options": options,
    }
    exported = {"class_path": f"{__name__}.ExportedModel", "init_args": arguments}
    # Our networks standardise by themselves.
    # The task reads the number of classes from model_args even where it is given a model.
    return {"model": exported, "model_args": {"num_classes": len(facts["classes"])}}, [0.0] * channels, [1.0] * channels, 1.0


def _bands(model: DeepModel, facts: dict[str, Any], native: bool) -> dict[str, Any]:
    if model.spec.inputs == "alphaearth":
        return {}
    present = list(canonical_bands(facts["bands"]))
    if not native:
        return {"dataset_bands": present, "output_bands": present, "rgb_indices": [0, 0, 0]}
    spec = backbone_spec(model.spec.inputs)
    matching = match_bands(spec.slots, facts["bands"], require_all=spec.require_all, encoder=spec.name)
    return {"dataset_bands": present, "output_bands": list(matching.bands), "rgb_indices": [0, 0, 0]}


def _backbone_arguments(spec: BackboneSpec, matching: Matching, facts: dict[str, Any]) -> dict[str, Any]:
    slots = [slot.band for slot in matching.slots]
    if spec.family == "prithvi":
        return {
            "backbone_bands": slots,
            "backbone_num_frames": facts["num_frames"],
            "backbone_coords_encoding": [],
            "backbone_img_size": facts["image_size"],
        }
    if spec.family == "terramind":
        return {"backbone_modalities": ["S2L2A"], "backbone_bands": {"S2L2A": slots}}
    return {"backbone_in_chans": len(slots), "backbone_out_indices": list(spec.layers), "backbone_img_size": facts["image_size"]}


def _necks(spec: BackboneSpec, facts: dict[str, Any]) -> list[dict[str, Any]]:
    reshape: dict[str, Any] = {"name": "ReshapeTokensToImage"}
    if spec.family == "terramind":
        reshape["remove_cls_token"] = False
    if facts["num_frames"] > 1:
        reshape["effective_time_dim"] = facts["num_frames"]
    select = [] if spec.family == "timm" else [{"name": "SelectIndices", "indices": list(spec.layers)}, reshape]
    return [*select, {"name": "LearnedInterpolateToPyramidal"}]


def _decoder_arguments(model: DeepModel, spec: BackboneSpec) -> dict[str, Any]:
    decoder = str(model.options.get("decoder", "unet"))
    width = int(model.options.get("decoder_width", 32 if spec.dim <= 256 else 64))
    channels: int | Sequence[int] = [4 * width, 2 * width, width, max(width // 2, 8)] if decoder == "unet" else width
    return {"decoder": _DECODERS[decoder], "decoder_channels": channels}


def _lora(spec: BackboneSpec, adaptation: Adaptation) -> dict[str, Any]:
    """PEFT's pattern over the chosen blocks; TerraTorch splits the fused projection under the names our own split uses."""
    layout = spec.layout
    numbers = "|".join(str(index) for index in select_blocks(spec.depth, adaptation.blocks))
    block = layout.blocks.replace(r"\d+", f"(?:{numbers})")
    ends = [rf"{layout.qkv}.{target}_linear" for target in adaptation.targets if target in "qkv"]
    ends += [layout.out] if "o" in adaptation.targets else []
    ends += list(layout.mlp) if "mlp" in adaptation.targets else []
    pattern = block + r"\.(?:" + "|".join(end.replace(".", r"\.") for end in ends) + ")"
    kwargs = {"target_modules": pattern, "r": adaptation.rank, "lora_alpha": adaptation.alpha, "lora_dropout": adaptation.dropout}
    split = layout.qkv.rpartition(".")[2] if any(target in "qkv" for target in adaptation.targets) else None
    return {"method": "LORA", "replace_qkv": split, "peft_config_kwargs": kwargs}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
