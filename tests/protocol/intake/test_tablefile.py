"""Table files in the dialects people have."""

from __future__ import annotations

from decimal import Decimal

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from rs05bench.errors import DataError
from rs05bench.protocol.intake.tablefile import read_tablefile
from rs05bench.protocol.intake.wgs84 import centres, make_polygons, split_at_180, to_wgs84


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas_are_numbers_and_said(tmp_path, separator):
    (tmp_path / "t.csv").write_text(f"name{separator}a{separator}b\nx{separator}-0,5{separator}1\ny{separator}1,25{separator}2\n")
    read = read_tablefile(tmp_path / "t.csv")
    assert read.frame["a"].tolist() == [-0.5, 1.25]
    assert read.remarks == ["numbers have decimal commas"]


@pytest.mark.parametrize(("encoding", "word"), [("cp1252", "Bâti – 5 €"), ("utf-8-sig", "Bâti"), ("utf-16", "Bâti")])
def test_other_encodings_are_read(tmp_path, encoding, word):
    (tmp_path / "t.csv").write_bytes(f"étiquette,n\n{word},1\n".encode(encoding))
    read = read_tablefile(tmp_path / "t.csv")
    assert read.frame["étiquette"].tolist() == [word]
    assert any("not UTF-8" in remark for remark in read.remarks) == (encoding == "cp1252")


def test_a_spreadsheets_sep_line_is_no_header(tmp_path):
    (tmp_path / "t.csv").write_text("sep=;\na;b\n1;2\n")
    assert read_tablefile(tmp_path / "t.csv").frame.to_dict("list") == {"a": [1], "b": [2]}


def test_a_column_of_lists_is_a_column_an_item(tmp_path):
    pd.DataFrame({"id": ["a", "b"], "embedding": [[1.0, 2.0], None]}).to_parquet(tmp_path / "t.parquet")
    frame = read_tablefile(tmp_path / "t.parquet").frame
    assert list(frame.columns) == ["id", "embedding_0", "embedding_1"]
    np.testing.assert_array_equal(frame[["embedding_0", "embedding_1"]], [[1, 2], [np.nan, np.nan]])


def test_lists_written_as_text_are_read(tmp_path):
    (tmp_path / "t.csv").write_text('id,v\na,"[0.5, 1e-3]"\nb,[2.0 3.0]\n')
    np.testing.assert_allclose(read_tablefile(tmp_path / "t.csv").frame[["v_0", "v_1"]], [[0.5, 0.001], [2, 3]])


def test_lists_of_several_lengths_are_refused(tmp_path):
    pd.DataFrame({"v": [[1.0, 2.0], [1.0, 2.0], [1.0]]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"column 'v' holds lists of several lengths \(1, 2\), first other at row 3"):
        read_tablefile(tmp_path / "t.parquet")


def test_decimals_are_numbers(tmp_path):
    pd.DataFrame({"v": [Decimal("0.25"), None], "code": [Decimal(6037101110), Decimal(1)]}).to_parquet(tmp_path / "t.parquet")
    frame = read_tablefile(tmp_path / "t.parquet", text=["code"]).frame
    np.testing.assert_array_equal(frame["v"], [0.25, np.nan])
    assert frame["code"].tolist() == ["6037101110", "1"]


@pytest.mark.parametrize("name", ["WKT", "geometry"])
def test_a_column_of_well_known_text_is_geometry(tmp_path, name):
    (tmp_path / "t.csv").write_text(f"id,{name}\na,POINT (10 50)\nb,\n")
    read = read_tablefile(tmp_path / "t.csv")
    assert read.crs == "OGC:CRS84"
    assert read.shapes[0] == shapely.Point(10, 50)
    assert read.shapes[1] is None


def test_projected_well_known_text_without_crs_is_refused_where_a_position_is_needed(tmp_path):
    (tmp_path / "t.csv").write_text("id,WKT\na,POINT (500000 4000000)\n")
    with pytest.raises(DataError, match="does not say its CRS"):
        read_tablefile(tmp_path / "t.csv").with_wgs84()


def test_a_layer_is_named_or_refused(tmp_path):
    for layer, x in (("draft", 0), ("final", 5)):
        gpd.GeoDataFrame({"id": ["a"]}, geometry=gpd.points_from_xy([x], [0]), crs=4326).to_file(tmp_path / "t.gpkg", layer=layer)
    assert shapely.get_x(read_tablefile(f"{tmp_path}/t.gpkg#final").shapes).tolist() == [5]
    with pytest.raises(DataError, match=r"holds 2 layers \(draft, final\)"):
        read_tablefile(tmp_path / "t.gpkg")
    with pytest.raises(DataError, match="has no layer 'other'"):
        read_tablefile(f"{tmp_path}/t.gpkg#other")


def test_a_sheet_is_named_or_refused(tmp_path):
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        pd.DataFrame({"a": ["007"], "b": [1.5]}).to_excel(book, sheet_name="plots", index=False)
        pd.DataFrame({"note": ["x"]}).to_excel(book, sheet_name="notes", index=False)
    assert read_tablefile(f"{tmp_path}/t.xlsx#plots").frame.to_dict("list") == {"a": ["007"], "b": [1.5]}
    with pytest.raises(DataError, match=r"holds 2 sheets \(plots, notes\)"):
        read_tablefile(tmp_path / "t.xlsx")


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        (shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]), 2.0),  # a figure of eight: two triangles of base 2 and height 1
        (shapely.Polygon([(0, 0), (4, 0), (6, 0), (4, 0), (4, 4), (0, 4)]), 16.0),  # a spike
        (shapely.Polygon([(0, 0), (9, 0), (9, 9), (0, 9)], [[(0, 2), (2, 2), (2, 4), (0, 4)]]), 77.0),  # a hole on the border
        (shapely.MultiPolygon([shapely.box(0, 0, 2, 2), shapely.box(1, 0, 3, 2)]), 6.0),  # overlapping parts
        (shapely.GeometryCollection([shapely.box(0, 0, 2, 2), shapely.Point(5, 5)]), 4.0),  # what making valid left
    ],
)
def test_a_polygon_made_valid_keeps_its_area(shape, area):
    (made,), rows = make_polygons([shape])
    assert made.area == pytest.approx(area)
    assert made.is_valid
    assert rows.tolist() == [0]


def test_a_polygon_without_area_is_none():
    assert make_polygons([shapely.Polygon([(0, 0), (1, 1), (0, 0)])])[0].tolist() == [None]


def test_a_ring_over_the_antimeridian_is_cut_there():
    jumps = shapely.Polygon([(179.9, -18), (-179.9, -18), (-179.9, -17), (179.9, -17)])
    (cut,) = split_at_180([jumps])
    assert cut.area == pytest.approx(0.2)
    assert cut.bounds == (-180, -18, 180, -17)
    assert abs(centres([cut])[0][0]) == pytest.approx(180)


@pytest.mark.parametrize(
    ("box", "crs", "said"),
    [
        ((36, -122, 37, -121), "EPSG:4326", "beyond the poles .*\n.*x and y look swapped"),
        ((500_000, 4_000_000, 500_100, 4_000_100), "EPSG:4326", "beyond the poles .*\n.*no degrees"),
        ((-122, 36, -121, 37), "EPSG:32610", "look like degrees .*, and its CRS WGS 84 / UTM zone 10N is in metres"),
    ],
)
def test_geometries_that_cannot_be_in_their_crs_are_refused(box, crs, said):
    with pytest.raises(DataError, match=said):
        to_wgs84([shapely.box(*box)], crs, source="x.gpkg")


def test_longitudes_to_360_are_turned_back():
    (east,) = split_at_180([shapely.box(238, 36, 239, 37)])
    assert east.bounds == (-122, 36, -121, 37)


@pytest.mark.parametrize("wide", [shapely.segmentize(shapely.box(-170, -10, 170, 10), 20), shapely.box(-180, -90, 180, 90)])
def test_a_geometry_around_the_earth_stays(wide):
    assert split_at_180([wide])[0].equals(wide)
