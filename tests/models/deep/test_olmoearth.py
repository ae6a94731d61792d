"""OlmoEarth: what its makers' own package computes of the same pixels, with bands filled as their evaluations fill them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.data.normalize import Normalizer
from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.olmoearth_pretrain_v1 import OlmoEarthPretrain_v1
from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.constants import Modality
from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.datatypes import MaskedOlmoEarthSample

from rs05bench.errors import DataError
from rs05bench.models.backbones import build_backbone
from rs05bench.models.options import EncoderOptions

HLS6 = ["B02", "B03", "B04", "B8A", "B11", "B12"]
ORDER = Modality.SENTINEL2_L2A.band_order


@pytest.mark.parametrize("dates", [1, 2])
@pytest.mark.parametrize("version", ["1", "1.2"])
def test_features_and_keys_are_those_of_the_makers_own_code(version: str, dates: int, tmp_path):
    """A whole published state dict (encoder, decoder, target encoder, every modality) loads, and the features are theirs."""
    torch.manual_seed(3)
    whole = OlmoEarthPretrain_v1(model_size="nano", model_version=f"v{version}").eval()  # type: ignore[arg-type]
    torch.save(whole.model.state_dict(), tmp_path / "weights.pth")
    counts = torch.rand(2, dates, 6, 16, 16) * 3000 + 100
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backbone = build_backbone(
            f"olmoearth-{version}-nano",
            bands=HLS6,
            scale=10_000.0,
            image_size=16,
            num_frames=dates,
            options=EncoderOptions(weights=tmp_path / "weights.pth"),
        ).eval()
        cube = np.full((2, 16, 16, dates, 12), np.nan)
        for channel, band in enumerate(HLS6):
            cube[..., ORDER.index(band)] = counts[:, :, channel].permute(0, 2, 3, 1).numpy()
        normal = torch.from_numpy(Normalizer(model_type=f"v{version}").normalize(Modality.SENTINEL2_L2A, cube)).float()
    sets = 3 if version == "1" else 1
    sample = MaskedOlmoEarthSample(
        timestamps=torch.tensor([(1, month, 2024) for month in range(dates)]).expand(2, dates, 3),
        sentinel2_l2a=normal,
        sentinel2_l2a_mask=torch.zeros(2, 16, 16, dates, sets),
    )
    with torch.no_grad():
        tokens = whole.model.encoder(sample, patch_size=4, fast_pass=True)["tokens_and_masks"].sentinel2_l2a
        found = backbone(counts if dates > 1 else counts[:, 0])[-1]
    assert torch.allclose(found, tokens.mean(dim=(3, 4)).permute(0, 3, 1, 2), atol=1e-4)


def test_a_file_of_another_version_names_both_sides(tmp_path):
    other = OlmoEarthPretrain_v1(model_size="nano", model_version="v1")
    torch.save(other.model.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(DataError, match=r"are missing \(.*rope_mixed_freqs.*; .*belong to something else.*have another shape"):
        build_backbone("olmoearth-1.2-nano", bands=HLS6, image_size=16, options=EncoderOptions(weights=tmp_path / "weights.pth"))
