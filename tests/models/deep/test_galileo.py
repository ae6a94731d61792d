"""Galileo: what its makers' own code computes of the same pixels, on the channel groups that the data fill."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rslearn.models.galileo import single_file_galileo as makers
from torch import Tensor

from rs05bench.errors import DataError
from rs05bench.models.backbones import BandWarning, build_backbone
from rs05bench.models.backbones.encoder import Backbone
from rs05bench.models.deep import create
from rs05bench.models.options import EncoderOptions

HLS6 = ["B02", "B03", "B04", "B8A", "B11", "B12"]
SENTINEL2 = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
RGB = ["RED", "GREEN", "BLUE"]
MAKERS_BANDS = dict(zip(SENTINEL2, ["B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"], strict=True))
MAKERS_GROUPS = {"B02": "S2_RGB", "B05": "S2_Red_Edge", "B08": "S2_NIR_10m", "B8A": "S2_NIR_20m", "B11": "S2_SWIR"}


def build(bands: list[str], **options) -> Backbone:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = {name: options.pop(name) for name in list(options) if name in EncoderOptions.model_fields}
        return build_backbone(
            "galileo-nano",
            **{"bands": bands, "scale": 10_000.0, "image_size": 16, "pretrained": False} | options,
            options=EncoderOptions(**own),
        ).eval()


def features(backbone: Backbone, image: Tensor, *context: Tensor) -> Tensor:
    with torch.no_grad():
        return backbone(image, *context)[-1]


def makers_features(folder: Path, counts: Tensor, bands: list[str], *, months: Tensor | None = None, place: Tensor | None = None) -> Tensor:
    """Features (B, 128, h, w) of counts (B, T, C, 16, 16) by the makers' normaliser, encoder and pooling, patches of 4 px."""
    encoder = makers.Encoder.load_from_folder(folder, torch.device("cpu")).eval()
    batch, dates = counts.shape[:2]
    raw = torch.zeros(batch, 16, 16, dates, 13, dtype=torch.float64)
    hidden = torch.ones(batch, 16, 16, dates, 7)
    groups = list(makers.SPACE_TIME_BANDS_GROUPS_IDX)
    for channel, band in enumerate(bands):
        raw[..., makers.SPACE_TIME_BANDS.index(MAKERS_BANDS[band])] = counts[:, :, channel].permute(0, 2, 3, 1).double()
        if band in MAKERS_GROUPS:
            hidden[..., groups.index(MAKERS_GROUPS[band])] = 0
    if {"B04", "B08"} <= set(bands):
        red, near = (raw[..., makers.SPACE_TIME_BANDS.index(band)] for band in ("B4", "B8"))
        raw[..., -1] = (near - red) / (near + red)
        hidden[..., groups.index("NDVI")] = 0
    static, static_mask = torch.zeros(batch, len(makers.STATIC_BANDS)), torch.ones(batch, 4)
    if place is not None:
        latitude, longitude = np.deg2rad(place.numpy()).T
        point = np.stack([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], axis=1)
        static[:, 1:4] = torch.from_numpy(point)
        static_mask[:, 1] = 0
    with torch.no_grad():
        out = encoder(
            makers.Normalizer()(raw).float(),
            torch.zeros(batch, 16, 16, 16),
            torch.zeros(batch, dates, 6),
            static,
            hidden,
            torch.ones(batch, 16, 16, 3),
            torch.ones(batch, dates, 3),
            static_mask,
            torch.full((batch, dates), 5) if months is None else months,
            patch_size=4,
        )
        pooled = encoder.apply_mask_and_average_tokens_per_patch(*out[:-1])
    return pooled.reshape(batch, 4, 4, 128).permute(0, 3, 1, 2)


@pytest.mark.real
@pytest.mark.parametrize(("bands", "dates"), [(HLS6, 1), (SENTINEL2, 3), (["B02", "B03", "B04"], 1)])
def test_features_are_those_of_the_makers_own_code(bands: list[str], dates: int, real: Callable[[str], Path]):
    folder = real("galileo_nano")
    counts = torch.rand(2, dates, len(bands), 16, 16) * 3000 + 100
    backbone = build(bands, pretrained=True, weights=folder / "encoder.pt", num_frames=dates)
    found = features(backbone, counts if dates > 1 else counts[:, 0])
    assert torch.allclose(found, makers_features(folder, counts, bands), atol=1e-4)


@pytest.mark.real
def test_month_and_place_reach_it_as_in_the_makers_own_code(real: Callable[[str], Path]):
    folder = real("galileo_nano")
    counts, place = torch.rand(2, 1, 6, 16, 16) * 3000, torch.tensor([[-3.0, -60.0], [45.0, 10.0]])
    backbone = build(HLS6, pretrained=True, weights=folder / "encoder.pt", coordinates=True)
    when = torch.tensor([[[2021.0, 32.0]], [[2021.0, 365.0]]])  # the first of February and the last of December
    found = features(backbone, counts[:, 0], when, place)
    months = torch.tensor([[1], [11]])
    assert torch.allclose(found, makers_features(folder, counts, HLS6, months=months, place=place), atol=1e-4)
    assert not torch.allclose(found, makers_features(folder, counts, HLS6), atol=1e-2)


def test_a_picture_of_8_bits_is_rescaled_to_reflectance_by_its_white():
    """255 is a reflectance of 0.3558 in Sentinel-2's true-colour image, and what is declared elsewhere."""
    picture = torch.randint(0, 256, (1, 3, 16, 16)).float()
    reflectance = build(RGB, scale=1.0)
    assert torch.allclose(features(build(RGB, scale=255.0), picture), features(reflectance, picture / 255 * 0.3558), atol=1e-5)
    assert torch.allclose(features(build(RGB, scale=255.0, white=0.5), picture), features(reflectance, picture / 255 * 0.5), atol=1e-5)
    with pytest.raises(DataError, match="white has no meaning"):
        build(RGB, scale=1.0, white=0.5)


def test_bands_that_fill_no_whole_group_are_left_out_with_a_warning():
    with pytest.warns(BandWarning, match="SWIR_1 fill no whole group"):
        backbone = build_backbone("galileo-nano", bands=["B02", "B03", "B04", "B11"], image_size=16, pretrained=False)
    image = torch.rand(1, 4, 16, 16) * 0.3
    other = image.clone()
    other[:, 3] = 0.1
    assert torch.equal(features(backbone.eval(), image), features(backbone, other))
    with pytest.raises(DataError, match="takes its bands in groups, and the data fill none"):
        build(["B02", "B03", "B11"])


def test_the_side_of_a_token_can_be_chosen():
    image = torch.rand(1, 6, 16, 16) * 3000
    assert features(build(HLS6, patch=8), image).shape[-2:] == (2, 2)
    assert features(build(HLS6), image).shape[-2:] == (4, 4)
    with pytest.raises(DataError, match="takes patches of 1 to 8 px, and patch is 16"):
        build(HLS6, patch=16)


@pytest.mark.real
@pytest.mark.parametrize("learner", ["centroid", "knn"])
def test_shallow_learners_go_on_its_features(learner: str, chips: Callable, real: Callable[[str], Path]):
    data = chips(size=16)
    model = create(f"galileo-nano/frozen-{learner}", weights=real("galileo_nano") / "encoder.pt", accelerator="cpu").fit(data)
    found = dict(model.predict_chips(data, "test_id"))
    assert all(np.allclose(value.sum(axis=0), 1, atol=1e-4) for value in found.values())
    assert model.training_record.encoder.startswith("encoder.pt:")


def test_a_file_of_another_size_names_both_sides(tmp_path: Path):
    tiny = build_backbone("galileo-tiny", bands=RGB, image_size=16, pretrained=False).encoder.state_dict()
    torch.save(tiny, tmp_path / "encoder.pt")
    with pytest.raises(DataError, match=r"have another shape \(blocks.0.*192.*expected.*128"):
        build(RGB, pretrained=True, weights=tmp_path / "encoder.pt")
