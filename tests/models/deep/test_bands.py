"""Bands find their slots by name, or not at all; a wrong scale is noticed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from rs05bench.errors import DataError
from rs05bench.models.backbones import (
    BACKBONES,
    BandWarning,
    DataWarning,
    ScaleWarning,
    backbone_spec,
    canonical_bands,
    check_scale,
    match_bands,
)

HLS6 = ["B02", "B03", "B04", "B8A", "B11", "B12"]


def match(name: str, bands: list[str]):
    spec = backbone_spec(name)
    return match_bands(spec.slots, bands, require_all=spec.require_all, encoder=name)


def test_bands_are_matched_by_name_whatever_their_order():
    shuffled = ["SWIR_2", "B8A", "BLUE", "B11", "RED", "B3", "B05"]
    found = match("prithvi-tiny", shuffled)
    assert found.bands == ("BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2")
    assert [shuffled[index] for index in found.indices] == ["BLUE", "B3", "RED", "B8A", "B11", "SWIR_2"]
    assert found.unused == ("RED_EDGE_1",)


@pytest.mark.parametrize("nir", ["nir08", "NIR_NARROW", "B8A", "nir narrow"])
def test_bands_are_known_by_the_names_people_give_them(nir: str):
    assert match("prithvi-tiny", ["blue", "green", "red", nir, "swir16", "SWIR2"]).bands[3:] == ("NIR_NARROW", "SWIR_1", "SWIR_2")


def test_a_band_that_no_encoder_knows_is_left_out_with_a_warning():
    with pytest.warns(BandWarning, match="dofa sees no band DEM"):
        assert match("dofa", ["RED", "DEM", "B03"]).indices == (0, 2)


@pytest.mark.parametrize("name", ["prithvi-tiny", "prithvi-600", "dinov3"])
def test_an_encoder_that_needs_all_its_bands_names_the_missing_one(name: str):
    with pytest.raises(DataError, match=f"{name} needs band RED"):
        match(name, ["BLUE", "GREEN", "NIR_NARROW", "SWIR_1", "SWIR_2"])


def test_unknown_and_doubled_bands_are_refused():
    with pytest.raises(DataError, match="unknown band 'NIRR'"):
        canonical_bands(["BLUE", "NIRR"])
    with pytest.raises(DataError, match="BLUE is declared twice"):
        canonical_bands(["B02", "BLUE"])


def test_a_neighbouring_band_stands_in_only_where_declared_and_warns():
    with pytest.warns(BandWarning, match="NIR_NARROW stands in for NIR_BROAD"):
        found = match("satlas", HLS6)
    assert "NIR_NARROW" in found.bands
    assert "RED_EDGE_1" not in [slot.band for slot in found.slots]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both = match("satlas", [*HLS6, "B08"])
    assert "NIR_BROAD" in both.bands
    assert both.unused == ("NIR_NARROW",)


@pytest.mark.parametrize(
    ("values", "scale", "wrong"), [(0.3, 1.0, False), (3000.0, 10_000.0, False), (3000.0, 1.0, True), (0.3, 10_000.0, True)]
)
def test_a_wrong_scale_is_noticed(values: float, scale: float, wrong: bool):
    sample = np.full((6, 8, 8), values, dtype=np.float32)
    sample[0, 0, 0] = np.nan
    assert (check_scale(sample, scale) is not None) == wrong


def test_every_encoder_declares_what_a_card_needs():
    for spec in BACKBONES.values():
        assert all((spec.licence, spec.pretraining, spec.citation)), spec.name
        assert all((spec.weights.repository, spec.weights.filename)), spec.name
        assert all(slot.std > 0 for slot in spec.slots), spec.name
        assert max(spec.layers) < spec.depth, spec.name
        assert canonical_bands([slot.band for slot in spec.slots])


def test_what_is_wrong_with_the_values_is_named():
    """8-bit images hide below the scale of 10,000, and a mark for missing data is no reflectance."""
    generator = np.random.default_rng(0)
    eight_bit = generator.integers(0, 256, (6, 32, 32)).astype(np.float32)
    assert "probably 255 (an 8-bit image)" in str(check_scale(eight_bit, 10_000.0))
    assert "probably 255 (an 8-bit image)" in str(check_scale(eight_bit, 1.0))
    assert check_scale(eight_bit, 255.0) is None
    reflectance = generator.uniform(-0.01, 0.5, (6, 32, 32)).astype(np.float32)
    for scale in (1.0, 10_000.0):
        holed = np.where(generator.uniform(size=reflectance.shape) < 0.1, np.float32(-9999), reflectance * scale)
        fault = str(check_scale(holed, scale))
        assert "10% of the values are -9999" in fault
        assert "nodata" in fault
        assert "scale" not in fault
        assert check_scale(reflectance * scale, scale) is None
    both = str(check_scale(np.where(generator.uniform(size=reflectance.shape) < 0.1, np.float32(-9999), reflectance), 10_000.0))
    assert "nodata" in both
    assert "probably 1" in both


def test_all_warnings_about_data_are_of_one_kind():
    assert issubclass(BandWarning, DataWarning)
    assert issubclass(ScaleWarning, DataWarning)
