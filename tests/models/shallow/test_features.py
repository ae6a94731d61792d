"""Feature builders against their definitions, as functions and as a card asks for them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from rs05bench.errors import DataError
from rs05bench.models.features import aggregates, angle, derive, dot_product, previous_year, spectral_indices
from rs05bench.models.options import derived_table
from rs05bench.protocol import TaskCard
from tests.datasets.table_files import card, regression_card

VECTORS = arrays(np.float64, (5, 8), elements=st.floats(-1, 1, allow_subnormal=False)).filter(
    lambda a: (np.linalg.norm(a, axis=1) > 1e-3).all()
)


def test_indices_follow_their_formulas_with_catalogue_constants():
    bands = {"N": np.array([0.5, 0.4]), "R": np.array([0.1, 0.4]), "B": np.array([0.05, 0.1]), "S2": np.array([0.2, 0.3])}
    found = spectral_indices(bands, ["NDVI", "NBR", "EVI"])
    n, r, b, s = (bands[key] for key in ("N", "R", "B", "S2"))
    assert_allclose(found["NDVI"], (n - r) / (n + r))
    assert_allclose(found["NBR"], (n - s) / (n + s))
    assert_allclose(found["EVI"], 2.5 * (n - r) / (n + 6 * r - 7.5 * b + 1))


def test_an_index_without_denominator_is_missing_not_infinite():
    assert np.isnan(spectral_indices({"N": [0.0], "R": [0.0]}, ["NDVI"])["NDVI"]).all()


@pytest.mark.parametrize(("names", "said"), [(["NDXX"], "no spectral index 'NDXX'"), (["NBR"], r"NBR needs the band S2 \(")])
def test_an_index_that_cannot_be_made_says_why(names, said):
    with pytest.raises(DataError, match=said):
        spectral_indices({"N": [0.5], "R": [0.1]}, names)


def test_aggregates_are_numpys_by_unit():
    rng = np.random.default_rng(0)
    values, owners = rng.normal(size=(50, 3)), rng.integers(0, 6, 50)
    units, out = aggregates(values, owners)
    for row, unit in enumerate(units):
        own = values[owners == unit]
        assert_allclose(out[row], np.concatenate([own.mean(axis=0), own.max(axis=0), own.std(axis=0)]))


@given(VECTORS, VECTORS, st.floats(0.1, 10), st.floats(0.1, 10))
def test_angle_and_dot_ignore_norms_and_agree(a, b, p, q):
    assert_allclose(angle(p * a, q * b), angle(a, b), atol=1e-7)
    assert_allclose(np.cos(angle(a, b)), dot_product(a, b), atol=1e-9)
    assert ((dot_product(a, a) <= 1) & (dot_product(a, b) >= -1)).all()


def test_small_angles_keep_their_digits_where_arccos_loses_them():
    tiny = 1e-9
    a, b = np.array([[1.0, 0.0]]), np.array([[np.cos(tiny), np.sin(tiny)]])
    assert_allclose(angle(a, b), tiny, rtol=1e-6)
    assert np.arccos(np.clip((a * b).sum(), -1, 1)) != pytest.approx(tiny, rel=1e-2)


def test_a_vector_of_zeros_has_no_angle():
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    assert np.isnan(angle(zero, one)).all()
    assert np.isnan(dot_product(zero, one)).all()


def test_difference_pairs_the_same_place_one_year_before():
    places, years = ["a", "b", "a", "a", "b"], [2018, 2018, 2019, 2021, 2020]
    assert_array_equal(previous_year(places, years), [-1, -1, 0, -1, -1])
    assert_array_equal(previous_year(places, years, lag=2), [-1, -1, -1, 2, 1])


def panel():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"place": np.repeat(["p", "q"], 3), "year": [2018, 2019, 2020] * 2, "height": rng.normal(size=6), "region": "r"})
    return frame.assign(A00=rng.normal(size=6), A01=rng.normal(size=6))


def test_a_card_asks_for_change_features_in_order():
    steps = [
        {"builder": "difference", "features": ["A??"]},
        {"builder": "angle", "features": ["A??"]},
        {"builder": "dot", "features": ["A??"], "name": "same"},
    ]
    task = regression_card(unit=["place", "year"], year="year", preprocessing={"derive": steps})
    frame = panel()
    out = derive(frame, task)
    assert list(out.columns[-4:]) == ["A00_diff", "A01_diff", "embedding_angle", "same"]
    bands = frame[["A00", "A01"]].to_numpy()
    assert_allclose(out["A01_diff"].to_numpy()[[1, 5]], [bands[1, 1] - bands[0, 1], bands[5, 1] - bands[4, 1]])
    assert_allclose(out["embedding_angle"][2], angle(bands[2], bands[1]))
    assert out["same"].isna().tolist() == [True, False, False, True, False, False]


def test_a_card_aggregates_pixels_to_parcels():
    pixels = pd.DataFrame(
        {
            "parcel": ["b", "a", "b"],
            "lc_label": [1, 0, 1],
            "region": "r",
            "longitude": [1.0, 5.0, 3.0],
            "latitude": 0.0,
            "A00": [1.0, 2.0, 3.0],
        }
    )
    task = card(unit=["parcel"], preprocessing={"derive": [{"builder": "aggregate", "by": ["parcel"], "features": ["A??"]}]})
    out = derive(pixels, task)
    assert out[["parcel", "lc_label", "longitude", "A00_mean", "A00_max", "A00_std"]].to_numpy().tolist() == [
        ["a", 0, 5.0, 2.0, 2.0, 0.0],
        ["b", 1, 2.0, 2.0, 3.0, 1.0],
    ]
    with pytest.raises(DataError, match=r"column 'lc_label' differs within the unit \['b'\]"):
        derive(pixels.assign(lc_label=[1, 0, 2]), task)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"builder": "difference", "features": ["Z*"]}, "'Z.' matches no column"),
        ({"builder": "difference", "features": ["A??"], "place": ["region"]}, r"the place \['r'\] has a year twice"),
        ({"builder": "indices", "names": ["DVI"], "bands": {"N": "A00", "R": "A99"}}, "'A99' matches no column"),
    ],
)
def test_a_step_that_cannot_be_done_names_itself(step, said):
    task = regression_card(unit=["place", "year"], year="year", preprocessing={"derive": [step]})
    with pytest.raises(DataError, match=said) as caught:
        derive(panel(), task)
    assert "preprocessing.derive[0]" in str(caught.value)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"builder": "magic"}, "'magic' found using 'builder' does not match any of the expected tags"),
        ({"builder": "angle", "features": ["A??"], "feature": 1}, r"derive\.0\.angle\.feature: Extra inputs"),
        ({"builder": "aggregate", "features": ["A??"], "statistics": ["median"]}, "statistics.0: Input should be 'mean', 'max' or 'std'"),
        ({"builder": "difference", "features": ["A??"], "lag": 0}, "lag: Input should be greater than or equal to 1"),
        ({"builder": "indices", "names": ["NDVI"]}, "bands: Field required"),
    ],
)
def test_a_card_refuses_a_step_that_it_does_not_know(step, said):
    plain = regression_card(unit=["place", "year"], year="year").model_dump(mode="json", exclude_defaults=True)
    with pytest.raises(DataError, match=said):
        TaskCard.parse({**plain, "preprocessing": {"derive": [step]}})


def test_a_step_is_digested_and_written_as_it_was_given():
    step = {"builder": "angle", "features": ["A??"]}
    given = regression_card(unit=["place", "year"], year="year", preprocessing={"derive": [step]})
    assert given.model_dump(mode="json")["preprocessing"] == {"derive": [step]}


def test_the_docs_list_every_field_of_every_step():
    assert "| `lag` | angle, dot | whole number from 1 | 1 | How many years earlier. |" in derived_table()
    assert "| `bands` | indices | {text: text} | needed |" in derived_table()


def test_a_normalised_difference_of_negative_reflectance_is_missing_and_counted():
    near, red = np.array([-0.0010, 0.0042, 0.012, 0.40]), np.array([0.0011, -0.0038, -0.006, 0.05])
    with pytest.warns(UserWarning, match="NDVI: 3 of 4 values lie beyond -1 to 1"):
        found = spectral_indices({"N": near, "R": red}, ["NDVI"])["NDVI"]
    assert np.isnan(found[:3]).all()
    assert found[3] == pytest.approx(0.35 / 0.45)


@pytest.mark.parametrize("name", ["EVI", "SAVI", "EVI2", "MSAVI"])
def test_an_index_with_constants_refuses_bands_that_are_no_reflectance(name: str):
    scaled = {"N": np.array([4000.0, 4100.0]), "R": np.array([500.0, 510.0]), "B": np.array([300.0, 310.0])}
    with pytest.raises(DataError, match=rf"{name} has constants for reflectance of 0 to 1, and half of band N lies above 4050"):
        spectral_indices(scaled, [name])
    assert np.isfinite(spectral_indices({band: values / 1e4 for band, values in scaled.items()}, [name])[name]).all()


@pytest.mark.parametrize(("name", "by"), [("NDVI", 1), ("SR", 1), ("ARVI", 1), ("DVI", 1e4)])
def test_an_index_without_added_constants_takes_bands_of_any_scale(name: str, by: float):
    bands = {"N": np.array([0.4]), "R": np.array([0.05]), "B": np.array([0.03])}
    one = spectral_indices(bands, [name])[name]
    assert spectral_indices({letter: 1e4 * value for letter, value in bands.items()}, [name])[name] == pytest.approx(by * one)
