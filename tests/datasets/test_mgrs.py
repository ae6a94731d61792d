"""MGRS tiles against pyproj and against tiles that published files really lie in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from rs05bench.datasets.mgrs import nearest_tile, parse_tile, tile_of
from rs05bench.errors import DataError


@given(lon=st.floats(-180, 180, exclude_max=True), lat=st.floats(-79.9, 83.9))
def test_position_lies_in_the_square_of_its_tile(lon, lat):
    tile = tile_of(lon, lat)
    easting, northing = tile.corner
    x, y = Transformer.from_crs("EPSG:4326", tile.crs, always_xy=True).transform(lon, lat)
    assert easting <= x < easting + 100_000
    assert northing - 0.001 <= y < northing + 100_000


@given(lon=st.floats(-180, 180, exclude_max=True), lat=st.floats(-79.9, 83.9))
def test_names_are_read_back(lon, lat):
    tile = tile_of(lon, lat)
    assert parse_tile(tile.name) == tile == parse_tile(f"T{tile.name}")


@pytest.mark.parametrize(
    ("name", "epsg", "corner"),
    [
        ("10TGS", 32610, (700_000, 5_100_000)),  # the published burn-scar mask of this tile starts at 699960, 5200020
        ("31UDQ", 32631, (400_000, 5_400_000)),  # Sentinel-2 tile over Paris: upper left 399960, 5500020
        ("23KKP", 32623, (200_000, -2_700_000)),  # Sao Paulo: upper left 7400020 in the southern zone; HLS counts on from the equator
    ],
)
def test_known_tiles(name, epsg, corner):
    tile = parse_tile(name)
    assert tile.epsg == epsg
    assert tile.corner == corner


@pytest.mark.parametrize("name", ["", "T10SE", "61SEH", "00SEH", "10IEH", "10SEO", "10seh", "S10EH"])
def test_other_names_are_refused(name):
    with pytest.raises(DataError, match="not an MGRS tile"):
        parse_tile(name)


def test_column_of_another_zone_is_refused():
    with pytest.raises(DataError, match="cannot exist"):
        _ = parse_tile("10SZH").corner


def test_row_of_another_latitude_band_is_refused():
    with pytest.raises(DataError, match="band C has no square AQ"):
        _ = parse_tile("10CAQ").corner


def test_poles_have_no_tile():
    with pytest.raises(DataError, match="no UTM square"):
        tile_of(0, 88)


@pytest.mark.real
def test_nearest_tile_agrees_with_the_makers_table(real):
    import pandas as pd

    table = pd.read_csv(real("hls_crop_chips") / "chip_tracker.csv").iloc[::5]
    ours = [nearest_tile(lon, lat).name for lon, lat in zip(table["chip_x"], table["chip_y"], strict=True)]
    agreement = (pd.Series(ours, index=table.index) == table["tile"]).mean()
    assert agreement > 0.93
