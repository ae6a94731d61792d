"""What the columns of a feature set are: declared, or read from how sensors and layers are called; never from the set's own name."""

from __future__ import annotations

import pytest

from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.feature_sets import content_of, content_of_column, is_image

FIELDS = {"kind": "regression", "name": "toy", "targets": ["y"], "groups": ["state"], "splits": ["leave-state-out"]}


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("optical", "B02 B8A b2 S2_B04_mean blue nir08 SWIR_1 NDVI NDVI_t3 dNBR NBR_pre evi_p90 B* HLS_red landsat_b5"),
        ("radar", "VV VH S1_VV S1_VV_div_VH vv_mean sentinel1_vh HH_t?"),
        ("embedding", "A00 A63 A?? A[0-9][0-9] A07_std emb_3"),
        ("covariate", "PopDensity pop_density RuralUrbanContinuumCode2013 CENSUSAREA Population"),
        ("coordinates", "lon lat longitude x"),
        ("layer", "elevation slope_deg dynamic_world_t? climate_zone road_m dist_water temperature_c"),
        ("other", "noise column_1 month id q7"),
    ],
)
def test_known_names_say_what_a_column_is(content, names):
    assert {name: content_of_column(name) for name in names.split()} == dict.fromkeys(names.split(), content)


def test_the_name_of_the_set_decides_nothing():
    card = TaskCard.parse(FIELDS | {"features": {"raw": ["CENSUSAREA"], "optical": ["VV"], "mixed": ["raw", "B04"]}})
    assert content_of("raw", card.features) == {"covariate"}
    assert content_of("optical", card.features) == {"radar"}
    assert content_of("mixed", card.features) == {"covariate", "optical"}
    assert content_of("absent", card.features) == frozenset()


def test_a_declaration_is_taken_at_its_word_and_a_wrong_one_refused():
    card = TaskCard.parse(FIELDS | {"features": {"raw": {"columns": ["q1", "q2"], "content": "optical"}}})
    assert content_of("raw", card.features) == {"optical"}
    with pytest.raises(DataError, match=r"features\.raw\.content"):
        TaskCard.parse(FIELDS | {"features": {"raw": {"columns": ["q1"], "content": "spectral"}}})


def test_an_image_has_bands_and_no_embedding():
    assert is_image({"radar"})
    assert is_image({"optical", "layer"})
    assert not is_image({"optical", "embedding"})
    assert not is_image({"covariate"})


def test_covariates_are_a_feature_set_of_their_own_and_change_no_other_card():
    plain, with_them = TaskCard.parse(FIELDS), TaskCard.parse(FIELDS | {"covariates": ["density", "code"]})
    assert with_them.features["covariates"].columns == ["density", "code"]
    assert content_of("covariates", with_them.features) == {"covariate"}
    assert plain.digest != with_them.digest
    assert TaskCard.parse(with_them.model_dump(mode="json")).digest == with_them.digest
