"""Keys are text from the file to the table, and two spellings of one key are found."""

from __future__ import annotations

import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs05bench.errors import DataError
from rs05bench.protocol.intake.keys import as_keys, find_keys, refuse_two_spellings, two_spellings
from rs05bench.protocol.intake.tablefile import read_tablefile

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=12).filter(
    lambda text: text.strip() == text
)


@given(st.lists(WORDS, min_size=2, max_size=8, unique=True))
def test_words_survive_a_csv_file(tmp_path_factory, words):
    path = tmp_path_factory.mktemp("keys") / "t.csv"
    words = ["a word", *words]  # in a column of numbers alone, NA is a missing number
    pd.DataFrame({"key": words, "n": range(len(words))}).to_csv(path, index=False)
    assert read_tablefile(path, text=["key"]).frame["key"].tolist() == words


@pytest.mark.parametrize(
    "words", [["06037", "01001"], ["NA", "ZA"], ["None", "Full"], ["010", "10"], ["1.0", "2.0"], ["1.10", "1.1"], ["TRUE", "x"]]
)
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".gpkg", ".xlsx"])
def test_codes_survive_every_format(tmp_path, words, ending):
    import geopandas as gpd

    frame, path = pd.DataFrame({"key": words, "n": [1, 2]}), tmp_path / f"t{ending}"
    match ending:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".parquet":
            frame.to_parquet(path)
        case ".xlsx":
            frame.to_excel(path, index=False)
        case _:
            gpd.GeoDataFrame(frame, geometry=gpd.points_from_xy([0, 1], [0, 1]), crs=4326).to_file(path)
    assert read_tablefile(path, text=["key"]).frame["key"].tolist() == words


def test_codes_with_leading_zeros_stay_text_in_a_column_nobody_named(tmp_path):
    (tmp_path / "t.csv").write_text("fips,n\n06037,1\n01001,2\n")
    frame = read_tablefile(tmp_path / "t.csv").frame
    assert frame["fips"].tolist() == ["06037", "01001"]
    assert frame["n"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        (pd.Series([1.0, np.nan, 3.0]), ["1", None, "3"]),
        (pd.Series([1.5, 2.0]), ["1.5", "2.0"]),
        (pd.Series([" a ", "", None]), ["a", None, None]),
        (pd.Series(["1.0", "", "3.0"]), ["1", None, "3"]),
        (pd.Series(["1", "NA"]), ["1", None]),
        (pd.Series(["x", "NA"]), ["x", "NA"]),
        (pd.Series([7, "007"], dtype=object), ["7", "007"]),
        (pd.Series(["b", "a"], dtype="category"), ["b", "a"]),
        (pd.Series([True, False]), ["True", "False"]),
    ],
)
def test_a_column_as_keys(values, keys):
    assert as_keys(values).tolist() == keys


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("06037", "6037", "leading zeros"),
        ("1", "1.0", "a whole number and .0"),
        ("King", "KING", "case"),
        ("King ", "King", "blanks at their ends"),
        (unicodedata.normalize("NFC", "Peñón"), unicodedata.normalize("NFD", "Peñón"), "Unicode"),
        ("3.60E+11", "360000000000", "scientific"),
        ("Fire 3", "fire_03", "case, blanks, dashes"),
        ("plot-007", "plot-7", "leading zeros"),
        ("north", "north\u200b", "cannot be seen"),
        ("\ufeffnorth", "north", "cannot be seen"),
        ("Côte d'Or", "Côte d\u2019Or", "apostrophes"),
        ("1,234", "1234", "commas between thousands"),
        ("Straße", "STRASSE", "case"),
    ],
)
def test_two_spellings_of_a_key_are_found_and_named(one, other, why):
    (found,) = two_spellings([one, "another"], [other])
    assert set(found.spelled) == {one, other}
    assert why in str(found)


@pytest.mark.parametrize(
    ("one", "other"), [("10", "100"), ("1.05", "1.5"), ("a1", "a2"), ("0", "00x"), ("é", "e"), ("-1", "1"), ("1,23", "123")]
)
def test_two_keys_are_two(one, other):
    assert two_spellings([one, other]) == []


@given(st.integers(0, 10**9), st.integers(0, 4))
def test_zeros_before_a_number_never_hide_it(number, zeros):
    spelled = {str(number), "0" * zeros + str(number), f"{number}.0"}
    found = two_spellings(spelled)
    assert len(found) == 1
    assert set(found[0].spelled) == spelled


def test_a_group_in_two_spellings_is_refused():
    with pytest.raises(DataError, match=r"column 'county' holds one key in two spellings: '06037' and '6037' \(leading zeros\)"):
        refuse_two_spellings(pd.Series(["06037", "6037", "x"]), "column 'county'", source="t.csv")


def test_digits_that_a_spreadsheet_lost_are_refused():
    with pytest.raises(DataError, match=r"scientific notation, e.g. '3.60E\+11'"):
        refuse_two_spellings(pd.Series(["3.60E+11", "1.70E+11"]), "column 'tract'", source="t.csv")


def test_a_filter_that_finds_nothing_names_the_spelling_there():
    with pytest.raises(DataError, match="no row has '6'") as caught:
        find_keys([10, 6], pd.Series(["10", "06"]), "where", source="card")
    assert "'06'" in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "values", "rows"),
    [
        ([2018], [2018, 2019], [True, False]),
        (["06"], ["06", "6"], [True, False]),
        ([True], ["true", "False"], [True, False]),
        ([0.5], ["0.50", "1"], [True, False]),
    ],
)
def test_filters_compare_text(wanted, values, rows):
    assert find_keys(wanted, pd.Series(values), "where", source="card").tolist() == rows
