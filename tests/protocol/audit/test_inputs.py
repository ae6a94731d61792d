"""Lists come in many files; ids stay the strings they are."""

import json

import geopandas
import pandas as pd
import pytest
import shapely

from rs05bench.errors import DataError
from rs05bench.protocol.audit import AuditColumns, audit_lists
from rs05bench.protocol.audit.inputs import read_lists
from rs05bench.protocol.audit.unit_files import point_to, read_table

FRAME = pd.DataFrame({"unit_id": ["007", "010"], "lon": [10.0, 11.0], "lat": [50.0, 51.0], "tile": ["01", "02"]})


def written(folder, name, frame=FRAME):
    path = folder / name
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(frame.to_dict("records")))
    elif path.suffix in (".geojson", ".gpkg"):
        plain = frame.drop(columns=["lon", "lat"])
        geopandas.GeoDataFrame(plain, geometry=geopandas.points_from_xy(frame["lon"], frame["lat"]), crs="EPSG:4326").to_file(path)
    elif path.suffix == ".xlsx":
        frame.to_excel(path, index=False)
    else:
        frame.to_csv(path, index=False, sep=";" if "semicolon" in name else "\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("name", ["a.csv", "semicolon.csv", "a.tsv", "a.csv.gz", "a.xlsx", "a.parquet", "a.json", "a.geojson", "a.gpkg"])
def test_every_format_gives_the_same_audit(tmp_path, name):
    other = FRAME.assign(unit_id=["007", "10"], lon=[10.0, 13.0])
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    train, test = written(tmp_path / "one", name), written(tmp_path / "two", name, other)
    report = audit_lists(train, test, columns=AuditColumns(groups=["tile"]))
    assert report.shared_ids == 1
    assert report.shared_groups == {"tile": 2}
    assert report.within_km == {"1": 1, "10": 1, "30": 1, "100": 1}


def test_a_byte_order_mark_and_quoted_cells_are_no_trouble(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes('\ufeffunit_id,name,lon,lat\n"007","a, b",1,2\n'.encode())
    frame, _, columns = read_lists(path, path)
    assert frame["unit_id"].tolist() == ["007"]
    assert (columns.id, columns.lon, columns.lat) == ("unit_id", "lon", "lat")


def test_lists_are_read_as_every_other_table_is(tmp_path):
    """Another encoding, decimal commas and a spreadsheet's own first line; a column of well-known text is a footprint."""
    path = tmp_path / "a.csv"
    path.write_bytes("sep=;\nunit_id;lon;lat;tile\n007;10,5;50,25;Plön\n".encode("cp1252"))
    frame, _, columns = read_lists(path, path, columns=AuditColumns(groups=["tile"]))
    assert frame[["lon", "lat"]].to_numpy().tolist() == [[10.5, 50.25]]
    assert (frame["unit_id"].tolist(), frame["tile"].tolist(), columns.id) == (["007"], ["Plön"], "unit_id")
    (tmp_path / "b.csv").write_text('id,WKT\n1,"POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0))"\n')
    (tmp_path / "c.csv").write_text('id,WKT\n2,"POLYGON ((1 0, 2 0, 2 1, 1 1, 1 0))"\n')
    assert audit_lists(tmp_path / "b.csv", tmp_path / "c.csv").touching == 1


def test_a_wide_table_is_read_by_the_columns_that_are_asked_for(tmp_path):
    wide = FRAME.assign(**{f"A{i:02d}": 0.5 for i in range(8)}, note="x")
    for name in ("a.csv", "a.parquet"):
        frame, _, _ = read_lists(written(tmp_path, name, wide), tmp_path / name, columns=AuditColumns(features=["A0[0-3]"]))
        assert list(frame.columns) == ["unit_id", "lon", "lat", "A00", "A01", "A02", "A03"]


def test_ids_inside_json_are_looked_up_in_tables_of_units(tmp_path):
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"a.b": {"train": ["1", "2"], "test": ["3", "4"]}}))
    units = pd.DataFrame(
        {"chip_id": ["chip_1", "chip_2", "chip_3"], "lon": [0.0, 1.0, 0.0], "lat": [0.0, 0.0, 0.001], "tile": ["x", "y", "x"]}
    )
    units.to_csv(tmp_path / "units.csv", index=False)
    report = audit_lists(
        f"{splits}#/a.b/train",
        f"{splits}#/a.b/test",
        units=[tmp_path / "units.csv"],
        columns=AuditColumns(groups=["tile"]),
        id_format="chip_{}",
    )
    assert (report.shared_groups, report.within_km["1"], report.unlocated, report.n_test) == ({"tile": 1}, 1, 1, 2)
    assert report.train_source == "splits.json#/a.b/train"


def test_footprints_and_groups_come_from_different_tables(tmp_path):
    (tmp_path / "train.csv").write_text("ids\n1\n")
    (tmp_path / "test.csv").write_text("ids\n2\n")
    boxes = geopandas.GeoDataFrame(
        {"chip": ["1", "2"]}, geometry=[shapely.box(0, 0, 9000, 9000), shapely.box(9000, 0, 18000, 9000)], crs="EPSG:5070"
    )
    boxes.to_file(tmp_path / "boxes.geojson")
    (tmp_path / "tiles.csv").write_text("id,tile\n1,A\n2,A\n")
    units = [f"{tmp_path / 'boxes.geojson'}#chip", tmp_path / "tiles.csv"]
    report = audit_lists(tmp_path / "train.csv", tmp_path / "test.csv", units=units, columns=AuditColumns(groups=["tile"]))
    assert (report.touching, report.shared_groups) == (1, {"tile": 1})


def test_spreadsheets_dialects_and_layers_are_read_or_refused_as_everywhere(tmp_path):
    frame = pd.DataFrame({"id": ["001", "002"], "lon": [10.5, 11.5], "lat": [45.0, 46.0], "tile": ["Müller", "B"]})
    frame.to_csv(tmp_path / "a.csv", index=False, sep=";", decimal=",", encoding="cp1252")
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    for name in ("a.csv", "a.xlsx"):
        read = read_table(str(tmp_path / name), columns=AuditColumns(groups=["tile"]))
        assert (read["unit_id"].tolist(), read["lon"].tolist(), read["tile"].tolist()) == (["001", "002"], [10.5, 11.5], ["Müller", "B"])
    layers = geopandas.GeoDataFrame(frame, geometry=geopandas.points_from_xy(frame["lon"], frame["lat"]), crs=4326)
    for layer in ("layer_styles", "draft", "final"):
        layers.to_file(tmp_path / "a.gpkg", layer=layer)
        if layer == "draft":
            assert len(read_table(str(tmp_path / "a.gpkg"), columns=AuditColumns())) == 2
    with pytest.raises(DataError, match=r"holds 2 layers \(draft, final\)"):
        read_table(str(tmp_path / "a.gpkg"), columns=AuditColumns())


def test_an_object_without_a_pointer_names_the_lists_in_it(tmp_path):
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"split1": {"train": ["a"], "test": ["b", "c"]}}))
    with pytest.raises(DataError, match=r"#split1.train \(1\); #split1.test \(2\)"):
        audit_lists(path, path)
    with pytest.raises(DataError, match="no part 'split2'"):
        point_to({"split1": 1}, "split2", source="x")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "empty"),
        ("a.csv", "id,lon,lat\n", "empty"),
        ("a.json", "[]", "empty"),
        ("a.json", "{", "not JSON"),
        ("a.json", '["a", null]', "mixes ids"),
        ("a.json", '"a"', "found str"),
        ("a.csv", "id,lon,lat\n1,2\n", "cannot be read as CSV"),
        ("a.parquet", "no parquet", "cannot be read as Parquet"),
        ("a.geojson", "{}", "cannot be read as a vector layer"),
        ("a.xls", "x", "no reader for '.xls'"),
    ],
)
def test_unreadable_lists_are_refused_in_words(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        audit_lists(path, path)


def test_ids_that_match_no_unit_show_both_forms(tmp_path):
    (tmp_path / "list.csv").write_text("ids\n257_266\n")
    (tmp_path / "units.csv").write_text("chip_id,lon,lat\nchip_257_266,1,2\n")
    with pytest.raises(DataError, match=r"look like '257_266', here 'chip_257_266'"):
        audit_lists(tmp_path / "list.csv", tmp_path / "list.csv", units=[tmp_path / "units.csv"])


def test_missing_files_and_wrong_options_are_refused(tmp_path):
    path = written(tmp_path, "a.csv")
    with pytest.raises(DataError, match="no such file"):
        audit_lists(tmp_path / "b.csv", path)
    with pytest.raises(DataError, match="shift 'space' is not one of"):
        audit_lists(path, path, shift="space")
    with pytest.raises(DataError, match="no place for the id"):
        audit_lists(path, path, id_format="chip")


def test_coordinates_under_different_names_and_from_points_meet(tmp_path):
    (tmp_path / "train.csv").write_text("id,Latitude,Longitude\na,50,10\n")
    (tmp_path / "test.csv").write_text("id,lat,lng\nb,50,10\n")
    assert audit_lists(tmp_path / "train.csv", tmp_path / "test.csv").within_km["1"] == 1
    points = geopandas.GeoDataFrame({"id": ["b"]}, geometry=geopandas.points_from_xy([10.0], [50.0]), crs="EPSG:4326").to_crs("EPSG:32632")
    points.to_file(tmp_path / "test.gpkg")
    assert audit_lists(tmp_path / "train.csv", tmp_path / "test.gpkg").within_km["1"] == 1
    named = AuditColumns(lat="Latitude", lon="Longitude")
    assert audit_lists(tmp_path / "train.csv", tmp_path / "test.gpkg", columns=named).within_km["1"] == 1


def test_files_named_in_the_content_column_are_compared_by_what_is_in_them(tmp_path):
    for folder, contents in (("one", ["same", "other"]), ("two", ["new", "same"])):
        (tmp_path / folder).mkdir()
        for k, text in enumerate(contents):
            (tmp_path / folder / f"{folder}{k}.tif").write_text(text)
        (tmp_path / folder / "list.csv").write_text(f"id,file\n{folder}0,{folder}0.tif\n{folder}1,{folder}1.tif\n")
    report = audit_lists(tmp_path / "one" / "list.csv", tmp_path / "two" / "list.csv", columns=AuditColumns(content="file"))
    assert [(case.test, case.train) for case in report.finding("content_hash").cases] == [("two1", "one0")]
    (tmp_path / "two" / "two1.tif").unlink()
    with pytest.raises(DataError, match="not there"):
        audit_lists(tmp_path / "one" / "list.csv", tmp_path / "two" / "list.csv", columns=AuditColumns(content="file"))


def test_a_missing_column_is_told_with_the_columns_that_are_there(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,lon,lat,hls_tile\n1,2,3,T\n")
    with pytest.raises(DataError, match=r"no column 'tile' \(columns: id, lon, lat, hls_tile\)|no column 'tile' .*hls_tile"):
        audit_lists(path, path, columns=AuditColumns(groups=["tile"]))
