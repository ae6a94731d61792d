"""Which state a unit lies in, and layers of the user's own."""

from __future__ import annotations

import geopandas as gpd
import pandas as pd
import pytest
import shapely

from rs05bench.datasets.geography import CLIMATE_REGIONS, OUTSIDE, add_groups, locate, read_polygons, us_states
from rs05bench.errors import DataError


def points(*places):
    return gpd.GeoDataFrame(geometry=[shapely.Point(place).buffer(0.01) for place in places], crs=4326)


def test_states_by_position():
    places = points((-122.6, 38.4), (-105.9, 40.3), (-97.9, 46.4), (-60.0, 45.0))
    units = add_groups(places, None)
    assert units["state"].tolist() == ["CA", "CO", "ND", OUTSIDE]
    assert units["division"].tolist() == ["Pacific", "Mountain", "West North Central", OUTSIDE]
    assert units["climate_region"].tolist() == ["West", "Southwest", "Northern Rockies and Plains", OUTSIDE]


def test_every_contiguous_state_has_one_climate_region():
    members = [state for states in CLIMATE_REGIONS.values() for state in states]
    assert len(members) == len(set(members)) == 49
    assert set(members) | {"AK", "HI"} == set(us_states()["state"])


def test_states_do_not_overlap():
    assert shapely.coverage_is_valid(us_states().geometry.to_numpy())


def test_unit_that_reaches_over_the_edge_takes_what_covers_most_of_it():
    layer = gpd.GeoDataFrame({"zone": ["a", "b"]}, geometry=[shapely.box(0, 0, 1, 1), shapely.box(0, 3, 1, 4)], crs=4326)
    unit = gpd.GeoDataFrame(geometry=[shapely.box(0.5, 0.9, 0.9, 3.3)], crs=4326)
    assert locate(unit, layer, "zone").tolist() == ["b"]


def test_layer_of_another_crs_is_moved_to_the_units():
    layer = gpd.GeoDataFrame({"zone": ["here"]}, geometry=[shapely.box(-123, 38, -122, 39)], crs=4326).to_crs(5070)
    assert locate(points((-122.5, 38.5), (-120, 38.5)), layer, "zone").tolist() == ["here", OUTSIDE]


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson", "parquet"])
def test_layers_are_read_in_every_format(tmp_path, suffix):
    layer = gpd.GeoDataFrame({"zone": ["a"]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326)
    path = tmp_path / f"layer.{suffix}"
    layer.to_parquet(path) if suffix == "parquet" else layer.to_file(path)
    read = read_polygons(path)
    assert read["zone"].tolist() == ["a"]
    assert read.to_crs(4326).geometry.iloc[0].equals(layer.geometry.iloc[0])


def test_shapefile_without_crs_is_refused(tmp_path):
    gpd.GeoDataFrame({"zone": ["a"]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326).to_file(tmp_path / "l.shp")
    (tmp_path / "l.prj").unlink()
    with pytest.raises(DataError, match="no coordinate reference system"):
        read_polygons(tmp_path / "l.shp")


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ([shapely.Point(0, 0)], "expected polygons"),
        ([shapely.Polygon()], "none of its 1 rows has a geometry"),
        ([shapely.Polygon([(0, 0), (1, 1), (0, 0)])], "none of its 1 rows has a geometry with a place"),
        ([], "holds no feature"),
    ],
)
def test_layers_that_are_no_polygons_are_refused(shapes, says):
    with pytest.raises(DataError, match=says):
        read_polygons(gpd.GeoDataFrame(geometry=shapes, crs=4326))


def test_a_figure_of_eight_keeps_both_lobes_and_is_named():
    eight = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    with pytest.warns(UserWarning, match=r"1 polygons cross themselves and were made valid: row 2"):
        frame = read_polygons(gpd.GeoDataFrame(geometry=[shapely.box(5, 5, 6, 6), eight], crs=4326))
    assert frame.geometry.area.tolist() == pytest.approx([1.0, 2.0])


def test_a_row_without_a_polygon_is_named_and_left_out_and_the_others_keep_their_numbers():
    shapes = [shapely.box(0, 0, 1, 1), None, shapely.Polygon([(0, 0), (1, 1), (0, 0)]), shapely.box(2, 0, 3, 1)]
    with pytest.warns(UserWarning, match=r"2 of 4 rows have no geometry, or a polygon without area, and are left out: row 2, 3"):
        frame = read_polygons(gpd.GeoDataFrame(geometry=shapes, crs=4326))
    assert frame.index.tolist() == [0, 3]


def test_layer_in_a_package_must_be_named_when_there_are_two(tmp_path):
    layer = gpd.GeoDataFrame({"zone": ["a"]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326)
    layer.to_file(tmp_path / "l.gpkg", layer="one")
    layer.to_file(tmp_path / "l.gpkg", layer="two")
    with pytest.raises(DataError, match="holds 2 layers"):
        read_polygons(tmp_path / "l.gpkg")
    assert len(read_polygons(tmp_path / "l.gpkg", name="two")) == 1
    with pytest.raises(DataError, match="no layer 'three'"):
        read_polygons(tmp_path / "l.gpkg", name="three")


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "parquet", "shp"])
def test_rubbish_is_refused(tmp_path, suffix):
    (tmp_path / f"l.{suffix}").write_bytes(b"rubbish" * 50)
    with pytest.raises(DataError, match="cannot be read"):
        read_polygons(tmp_path / f"l.{suffix}")


def test_column_of_the_layer_must_exist():
    with pytest.raises(DataError, match="column 'nothing' is missing; there are: state"):
        locate(points((0, 0)), us_states(), "nothing")


@pytest.mark.real
def test_bundled_states_agree_with_real_counties(real):
    counties = read_polygons(real("aef_counties") / "counties.geojson")
    fips = us_states().set_index("state")["state_fips"]
    counties = counties[counties["STATE"].isin(set(fips))].iloc[::4].reset_index(drop=True)
    found = locate(counties, us_states(), "state").map(fips)
    wrong = found[found != counties["STATE"]]
    assert len(wrong) == 0, pd.concat([counties.loc[wrong.index, ["NAME", "STATE"]], wrong], axis=1)


@pytest.mark.real
def test_real_counties_are_a_group_layer(real):
    layer = real("aef_counties") / "counties.geojson"
    units = add_groups(points((-122.6, 38.4)), {"county": (layer, "id")})
    assert units["county"].tolist() == ["06097"]  # Sonoma
