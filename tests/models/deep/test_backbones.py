"""Every encoder builds offline, reads its bands and refuses others; weights are complete or an error."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from rs05bench.errors import DataError
from rs05bench.models.backbones import BACKBONES, ScaleWarning, build_backbone
from rs05bench.models.backbones.encoder import Backbone
from rs05bench.models.backbones.imports import terratorch_kept_quiet
from rs05bench.models.backbones.terratorch_families import WAVELENGTHS_UM
from rs05bench.models.backbones.weights import state_digest
from rs05bench.models.options import EncoderOptions

HLS6 = ["B02", "B03", "B04", "B8A", "B11", "B12"]
LIGHT = ["prithvi-tiny", "terramind-tiny", "dinov3", "galileo-nano", "olmoearth-1-nano", "olmoearth-1.2-nano", "timm-tf_efficientnet_lite0"]
HEAVY = ["prithvi-100", "satlas", "satlas-landsat", "dofa", "clay"]


def build(name: str, **options) -> Backbone:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = {name: options.pop(name) for name in list(options) if name in EncoderOptions.model_fields}
        return build_backbone(
            name, **{"bands": HLS6, "image_size": 64, "pretrained": False} | options, options=EncoderOptions(**own)
        ).eval()


def check_encoder(backbone: Backbone) -> None:
    frames = backbone.num_frames
    image = torch.rand((2, frames, 6, 64, 64) if frames > 1 else (2, 6, 64, 64)) * 0.4
    with torch.no_grad():
        maps = backbone(image)
        again = backbone(image[:1])
    assert tuple(feature.shape[1] for feature in maps) == backbone.channels
    assert all(feature.shape[0] == 2 and torch.isfinite(feature).all() for feature in maps)
    assert all(torch.allclose(one[:1], two, atol=1e-4) for one, two in zip(maps, again, strict=True))
    assert not torch.allclose(maps[-1][0], maps[-1][1]), "two images, one feature: the image does not reach the encoder"
    with pytest.raises(DataError, match="5 channels"):
        backbone(image[..., :5, :, :])


def test_every_encoder_is_declared_in_full():
    for name, spec in BACKBONES.items():
        assert spec.licence
        assert spec.pretraining
        assert any(host in spec.source for host in ("github.com/", "huggingface.co/", "arXiv:")), name
        assert len(set(spec.layers)) == 4 or spec.family == "clay-1.5"


def test_revisions_that_public_code_names_are_pinned():
    from rslearn.models.prithvi import MODEL_TO_HF_INFO

    found = {info["hf_hub_id"]: (info["weights"], info["revision"]) for info in MODEL_TO_HF_INFO.values()}
    pinned = {spec.weights.repository: (spec.weights.filename, spec.weights.revision) for spec in BACKBONES.values()}
    assert {repository: pinned[repository] for repository in found} == found


@pytest.mark.parametrize("name", list(BACKBONES))
def test_every_encoder_refuses_bands_it_has_no_place_for(name: str):
    """Before it is built, so that a wrong card costs no minute."""
    with pytest.raises(DataError, match=f"{name} needs band"):
        build(name, bands=["CIRRUS"])
    with pytest.raises(DataError, match="unknown band 'B99'"):
        build(name, bands=[*HLS6, "B99"])


@pytest.mark.parametrize("name", ["prithvi-300", "prithvi-300-tl", "prithvi-600", "prithvi-600-tl"])
def test_a_large_prithvi_builds_and_runs_without_memory(name: str):
    """On the meta device: every layer and shape is real, no number is."""
    with torch.device("meta"):
        backbone = build(name, coordinates=False)
        backbone._scale_checked = True  # needs values
        maps = backbone(torch.rand(1, 6, 60, 50))
    patch = backbone.spec.patch
    assert [tuple(feature.shape) for feature in maps] == [(1, backbone.spec.dim, -(-60 // patch), -(-50 // patch))] * 4
    assert sum(value.numel() for value in backbone.parameters()) > 290e6 * (2 if "600" in name else 1)
    with pytest.raises(DataError, match="needs bands SWIR_1, SWIR_2"):
        build(name, bands=HLS6[:4])


@pytest.mark.slow
def test_clay_15_reads_any_subset_of_its_bands():
    backbone = build("clay-1.5", bands=["B04", "B8A"])
    image = torch.rand(2, 2, 32, 32) * 0.4
    with torch.no_grad():
        feature = backbone(image)[-1]
    assert feature.shape == (2, 1024, 4, 4)
    assert torch.isfinite(feature).all()
    assert not torch.allclose(feature[0], feature[1])


@pytest.mark.slow
def test_the_aerial_encoder_takes_8_bit_rgb():
    backbone = build("satlas-aerial", bands=["RED", "GREEN", "BLUE"], scale=255.0)
    image = torch.randint(0, 200, (2, 3, 64, 64)).float()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        maps = backbone(image)
    assert tuple(feature.shape[1] for feature in maps) == backbone.channels == (128, 256, 512, 1024)
    assert torch.allclose(backbone.normalise(torch.full((1, 3, 4, 4), 255.0)), torch.ones(1, 3, 4, 4))


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("name", LIGHT)
def test_a_light_encoder_builds_offline_and_reads_its_bands(name: str, frames: int):
    check_encoder(build(name, num_frames=frames))


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_a_heavy_encoder_builds_offline_and_reads_its_bands(name: str):
    check_encoder(build(name))


def test_a_band_matters_where_it_should():
    backbone = build("prithvi-tiny", bands=[*HLS6, "B05"])
    image = torch.rand(1, 7, 64, 64) * 0.4
    unused, used = image.clone(), image.clone()
    unused[:, 6] = 0
    used[:, 3] = 0
    with torch.no_grad():
        reference = backbone(image)[-1]
        assert torch.equal(backbone(unused)[-1], reference)
        assert not torch.allclose(backbone(used)[-1], reference)


def test_the_declared_scale_is_undone_and_a_wrong_one_warns():
    image = torch.rand(1, 6, 64, 64) * 0.4
    one, many = build("prithvi-tiny"), build("prithvi-tiny", scale=10_000)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.allclose(one(image)[-1], many(image * 10_000)[-1], atol=1e-4)
    with pytest.warns(ScaleWarning, match="probably 10000"):
        build("prithvi-tiny")(image * 10_000)


def test_missing_pixels_become_the_pretraining_mean():
    backbone = build("prithvi-tiny")
    image = torch.full((1, 6, 64, 64), torch.nan)
    assert torch.equal(backbone.normalise(image), torch.zeros(1, 6, 64, 64))


def test_images_of_any_size_are_padded_to_whole_patches():
    backbone = build("prithvi-tiny")
    with torch.no_grad():
        assert backbone(torch.rand(1, 6, 50, 70) * 0.4)[-1].shape[-2:] == (4, 5)


def test_time_and_location_switch_on_and_off():
    image = torch.rand(1, 6, 64, 64) * 0.4
    time, here, there = torch.tensor([[[2020.0, 200.0]]]), torch.tensor([[40.0, -120.0]]), torch.tensor([[-10.0, 20.0]])
    on, off = build("prithvi-tiny", coordinates=True), build("prithvi-tiny")
    with torch.no_grad():
        assert not torch.allclose(on(image, time, here)[-1], on(image, time, there)[-1])
        assert torch.equal(off(image, time, here)[-1], off(image, time, there)[-1])
    with pytest.raises(DataError, match="asked to use time and location"):
        on(image)
    with pytest.raises(DataError, match="has no time and location"):
        build("dinov3", coordinates=True)


def test_the_number_of_dates_is_checked():
    with pytest.raises(DataError, match="built for 3 dates and got 1"):
        build("prithvi-tiny", num_frames=3)(torch.rand(1, 6, 64, 64))


def test_missing_weights_say_what_to_do(tmp_path: Path):
    with pytest.raises(DataError, match="pins no revision") as caught:
        build("prithvi-tiny", pretrained=True)
    assert "weights=<file>" in str(caught.value)
    assert "@random" in str(caught.value)
    with pytest.raises(DataError, match="no such weights file"):
        build("prithvi-tiny", pretrained=True, weights=tmp_path / "absent.pt")


def test_a_download_that_cannot_happen_says_what_to_do():
    with pytest.raises(DataError, match="could not be fetched") as caught:
        build("dofa", pretrained=True)
    assert "weights=<file>" in str(caught.value)


def test_weights_of_a_file_replace_all_random_ones(tmp_path: Path):
    source = build("prithvi-tiny", init_seed=5)
    # As the published file has it: an encoder inside a masked autoencoder.
    state = {f"encoder.{key}": value for key, value in source.encoder.state_dict().items()}
    state["decoder.mask_token"] = torch.zeros(1)
    torch.save(state, tmp_path / "tiny.pt")
    loaded = build("prithvi-tiny", pretrained=True, weights=tmp_path / "tiny.pt")
    assert state_digest(loaded.encoder) == state_digest(source.encoder) != state_digest(build("prithvi-tiny").encoder)
    assert loaded.origin.startswith("tiny.pt:")


@pytest.mark.parametrize("name", ["prithvi-tiny", "terramind-tiny", "dinov3"])
def test_a_missing_key_is_an_error(name: str, tmp_path: Path):
    bands = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
    backbone = build(name, bands=bands)
    state = dict(backbone.encoder.state_dict())
    key = next(key for key in state if key.endswith("attn.proj.weight"))
    torch.save({other: value for other, value in state.items() if other != key}, tmp_path / "part.pt")
    with pytest.raises(DataError, match=r"1 of \d+ weights are missing"):
        build(name, bands=bands, pretrained=True, weights=tmp_path / "part.pt")
    torch.save(state, tmp_path / "whole.pt")
    assert state_digest(build(name, bands=bands, pretrained=True, weights=tmp_path / "whole.pt").encoder) == state_digest(backbone.encoder)


def _prithvi(variant: str) -> dict[str, torch.Tensor]:
    """A whole masked autoencoder of four dates, as the files of ibm-nasa-geospatial are."""
    from terratorch.models.backbones.prithvi_mae import PrithviMAE
    from terratorch.models.backbones.prithvi_vit import prithvi_cfgs

    return PrithviMAE(**prithvi_cfgs[f"prithvi_eo_v2_{variant}"]).state_dict()


def _clay(library: str, **sizes: int) -> dict[str, torch.Tensor]:
    """A Lightning checkpoint of github.com/Clay-foundation/model: encoder, decoder, teacher and projection."""
    from importlib import import_module

    encoder = import_module(f"terratorch.models.backbones.{library}")
    made = encoder.Encoder(mask_ratio=0.0, patch_size=8, shuffle=False, dim_head=64, mlp_ratio=4, **sizes).state_dict()
    rest = {"model.decoder.mask_patch": torch.zeros(8), "model.teacher.cls_token": torch.zeros(8), "model.proj.weight": torch.zeros(8)}
    return {f"model.encoder.{key}": value for key, value in made.items()} | rest


def _satlas(channels: int) -> dict[str, torch.Tensor]:
    """As torchgeo publishes them: torchvision's Swin v2 with another first layer."""
    from torchvision.models import swin_v2_b

    model = swin_v2_b()
    model.features[0][0] = torch.nn.Conv2d(channels, 128, 4, 4)
    return model.state_dict()


def _dofa() -> dict[str, torch.Tensor]:
    from torchgeo.models import dofa_base_patch16_224

    return dofa_base_patch16_224().state_dict()


def _terramind() -> dict[str, torch.Tensor]:
    """The encoder of all modalities."""
    from terratorch.registry import BACKBONE_REGISTRY

    modalities = ["S2L2A", "S1GRD", "S1RTC", "DEM", "S2L1C", "RGB"]
    return BACKBONE_REGISTRY.build("terramind_v1_tiny", pretrained=False, modalities=modalities).state_dict()


def _dinov3() -> dict[str, torch.Tensor]:
    import timm

    return timm.create_model("vit_small_patch16_dinov3", num_classes=0).state_dict()


RGB = ["RED", "GREEN", "BLUE"]
PUBLISHED = {
    "prithvi-300": (lambda: _prithvi("300"), HLS6),
    "prithvi-300-tl": (lambda: _prithvi("300_tl"), HLS6),
    "prithvi-600": (lambda: _prithvi("600"), HLS6),
    "prithvi-600-tl": (lambda: _prithvi("600_tl"), HLS6),
    "clay": (lambda: _clay("clay_v1.modules", dim=768, depth=12, heads=12), HLS6),
    "clay-1.5": (lambda: _clay("clay_v15.model", dim=1024, depth=24, heads=16), HLS6),
    "satlas": (lambda: _satlas(9), ["B04", "B03", "B02", "B05", "B06", "B07", "B08", "B11", "B12"]),
    "satlas-landsat": (lambda: _satlas(11), ["COASTAL_AEROSOL", "BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]),
    "satlas-aerial": (lambda: _satlas(3), RGB),
    "dofa": (_dofa, HLS6),
    "terramind-tiny": (_terramind, HLS6),
    "dinov3": (_dinov3, RGB),
}
"""Encoder -> the state of a published file made by its makers' code, and bands."""


def _device(name: str) -> torch.device:
    """The meta device, where every name and shape is real and no number is; TerraMind asks for numbers when it is built."""
    return torch.device("cpu" if name == "terramind-tiny" else "meta")


@pytest.fixture
def from_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Loads a state without a file of its size."""

    def load(name: str, bands: list[str], state: dict[str, torch.Tensor]) -> Backbone:
        from rs05bench.models.backbones import terratorch_families, timm_family

        for module in (terratorch_families, timm_family):
            monkeypatch.setattr(module, "read_state_dict", lambda path: dict(state))
        file = tmp_path / "published.pt"
        file.write_bytes(b"")
        with _device(name):
            return build(name, bands=bands, pretrained=True, weights=file, image_size=224)

    return load


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_file_with_the_published_names_loads_whole(name: str, from_state):
    """A weight that found no place in the encoder, or an encoder's that found none in the file, is a `DataError`."""
    make, bands = PUBLISHED[name]
    with terratorch_kept_quiet(), _device(name):
        state = make()
    from_state(name, bands, state)
    # And with one weight of the last block gone, none is left at random.
    lost = [
        key
        for key in state
        if key.endswith("weight") and ("blocks.11." in key or "layers.11." in key or key.startswith("encoder.11.") or "features.7." in key)
    ][-1]
    with pytest.raises(DataError, match=r"1 of \d+ weights are missing"):
        from_state(name, bands, {key: value for key, value in state.items() if key != lost})


@pytest.mark.parametrize(
    ("name", "rename"),
    [
        ("satlas", lambda key: f"backbone.backbone.{key}"),
        ("dinov3", lambda key: key.replace("blocks.", "layer.").replace("attn.qkv", "attention.q_proj")),
    ],
    ids=["allenai's own names", "Meta's own names"],
)
def test_other_names_are_an_error_that_names_both_sides(name: str, rename, from_state):
    make, bands = PUBLISHED[name]
    with terratorch_kept_quiet(), torch.device("meta"):
        state = make()
    first = next(key for key in state if rename(key) != key)
    with pytest.raises(DataError, match="weights are missing") as error:
        from_state(name, bands, {rename(key): value for key, value in state.items()})
    assert "belong to something else" in str(error.value)
    assert rename(first).split(".")[0] in str(error.value)


def test_a_file_that_needs_unpickling_is_refused(tmp_path: Path):
    torch.save({"weights": Path("x")}, tmp_path / "pickle.pt")
    with pytest.raises(DataError, match="read safely"):
        build("prithvi-tiny", pretrained=True, weights=tmp_path / "pickle.pt")


def test_random_twins_repeat_by_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one = build("prithvi-tiny", init_seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert state_digest(one.encoder) == state_digest(build("prithvi-tiny", init_seed=1).encoder)
    assert state_digest(one.encoder) != state_digest(build("prithvi-tiny", init_seed=2).encoder)


def test_importing_terratorch_leaves_the_precision_of_matrix_products_alone():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with terratorch_kept_quiet():
            # What terratorch.models.backbones.clay_v15.model does as it is imported.
            torch.set_float32_matmul_precision("medium")
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_prithvi_embeds_patches_in_full_precision():
    backbone = build_backbone("prithvi-tiny", bands=HLS6, pretrained=False, image_size=32)
    image = torch.rand(1, 6, 32, 32) * 0.3
    projection = backbone.encoder.patch_embed.proj
    frames = backbone.normalise(image).unsqueeze(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert projection(frames).dtype == torch.float32
    plain = torch.nn.functional.conv3d(frames, projection.weight, projection.bias, stride=projection.stride)
    assert torch.equal(projection(frames), plain)


def test_dinov3_reads_its_layers_through_the_pretrained_final_norm():
    backbone = build_backbone("dinov3", bands=["B02", "B03", "B04"], pretrained=False, image_size=32).eval()
    image = torch.rand(1, 3, 32, 32) * 0.3
    with torch.no_grad():
        last = backbone(image)[-1].flatten(2).transpose(1, 2)
        tokens = backbone.encoder.forward_features(backbone.normalise(image))  # timm's own, normed
    assert torch.equal(last, tokens[:, backbone.encoder.num_prefix_tokens :])


def test_satlas_drops_no_path_in_training_as_no_other_encoder_does():
    from torchvision.ops import StochasticDepth

    encoder = build_backbone("satlas", bands=["B02", "B03", "B04"], pretrained=False, image_size=32).encoder
    depths = [module.p for module in encoder.modules() if isinstance(module, StochasticDepth)]
    assert depths
    assert set(depths) == {0.0}


def test_clay_and_dofa_are_told_the_declared_wavelengths(monkeypatch):
    bands = ["B02", "B8A", "B12"]
    declared = [WAVELENGTHS_UM[band] for band in ("BLUE", "NIR_NARROW", "SWIR_2")]
    dofa = build_backbone("dofa", bands=bands, pretrained=False, image_size=32)
    told = dict(zip(dofa.family.matching.bands, dofa.encoder.wavelengths, strict=True))
    # Of DOFA's own demonstration for Sentinel-2, which differ from Clay's in the blue.
    assert told == {"BLUE": 0.49, "NIR_NARROW": 0.865, "SWIR_2": 2.19}
    clay = build_backbone("clay", bands=bands, pretrained=False, image_size=32)
    seen = {}
    embed = clay.encoder.clay_encoder.to_patch_embed
    monkeypatch.setattr(clay.encoder.clay_encoder, "to_patch_embed", lambda cube, waves: embed(cube, seen.setdefault("waves", waves)))
    with torch.no_grad():
        clay(torch.rand(1, 3, 32, 32) * 0.3)
    assert torch.allclose(seen["waves"], torch.tensor(declared))
