from __future__ import annotations

import json
import shutil

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from typer.testing import CliRunner

from rs05bench.datasets import AlphaEarthEmbedding
from rs05bench.embeddings import product
from rs05bench.embeddings.embedding_source import open_source
from rs05bench.embeddings.extraction import extract_chips, extract_table, parse_years, read_record, read_units
from rs05bench.embeddings.points import read_points
from rs05bench.embeddings.polygons import read_polygons
from rs05bench.errors import DataError
from tests.embeddings.tiles import BANDS


@pytest.fixture
def points(tmp_path, west, east):
    rows = []
    for tile in (east, west):
        row, column = np.random.default_rng(0).integers(0, 160, (2, 30))
        lon, lat = tile.lonlat(row + 0.5, column + 0.5)
        rows.append(pd.DataFrame({"lon": lon, "lat": lat, "crop": row % 3}))
    path = tmp_path / "parcels.csv"
    pd.concat(rows).to_csv(path, index=False)
    return path


@pytest.fixture
def polygons(tmp_path, west):
    shapes = [shapely.box(west.west + 100 * i, west.north - 400, west.west + 100 * i + 80, west.north - 300) for i in range(30)]
    path = tmp_path / "fields.gpkg"
    gpd.GeoDataFrame({"field": [f"f{i}" for i in range(30)]}, geometry=shapes, crs=west.crs).to_file(path)
    return path


def test_a_table_of_points_for_several_years(points, archive, tmp_path):
    units = read_units(points)
    made = extract_table(units, open_source(archive), [2024, 2023], tmp_path / "out.parquet")
    table = gpd.read_parquet(tmp_path / "out.parquet")
    assert made.units == len(table) == 120
    assert list(table.columns[:5]) == ["unit_id", "crop", "year", "lon", "lat"]
    assert list(table["unit_id"][:2]) == ["parcels-000000", "parcels-000000"]
    for year, part in table.groupby("year"):
        expected = read_points(archive, units.geometry.x, units.geometry.y, int(year))
        np.testing.assert_array_equal(part[list(BANDS)].to_numpy(), expected)
        np.testing.assert_array_equal(part["status"] == "masked", np.isnan(expected[:, 0]))
    assert not (tmp_path / "out.parquet.parts").exists()


def test_the_record_names_attribution_source_and_tiles(points, archive, tmp_path):
    extract_table(read_units(points), open_source(archive), [2024], tmp_path / "out.parquet")
    record = read_record(tmp_path / "out.parquet")
    assert record["attribution"] == product().attribution
    assert record["tiles"] == {"2024/10N/east-0000000000-0000008192": 30, "2024/10N/west-0000000000-0000000000": 30}
    assert record["years"] == [2024]
    assert json.loads((tmp_path / "out.record.json").read_text()) == record


def test_the_units_own_years(points, archive, tmp_path):
    table = pd.read_csv(points)
    table["year"] = np.where(np.arange(len(table)) % 2, 2023, 2024)
    table.to_csv(points, index=False)
    units = read_units(points)
    extract_table(units, open_source(archive), None, tmp_path / "out.csv")
    found = pd.read_csv(tmp_path / "out.csv")
    expected = read_points(archive, units.geometry.x, units.geometry.y, table["year"])
    np.testing.assert_allclose(found[list(BANDS)], expected, atol=1e-7)
    with pytest.raises(DataError, match="which years"):
        extract_table(units.drop(columns="year"), open_source(archive), None, tmp_path / "none.csv")


def test_a_table_of_polygons(polygons, archive, tmp_path):
    units = read_units(polygons, unit="field")
    extract_table(units, open_source(archive), [2024], tmp_path / "out.parquet", stats=["mean", "std"])
    table = gpd.read_parquet(tmp_path / "out.parquet")
    assert list(table["unit_id"]) == [f"f{i}" for i in range(30)]
    expected = read_polygons(archive, units, 2024, stats=["mean", "std"])
    pd.testing.assert_frame_equal(table[expected.columns], expected)
    assert table.crs == units.crs
    assert table.geometry.geom_equals(units.geometry).all()


class Cut:
    """A source that breaks off after some portions, as a cable does."""

    def __init__(self, source, after):
        self.source, self.after, self.calls = source, after, 0
        self.product = source.product
        self.description, self.portion, self.portions_of = source.description, 7, source.portions_of
        self.observation_counts = source.observation_counts

    def points(self, lon, lat, year, *, on_tile=None):
        self.calls += 1
        if self.calls > self.after:
            raise KeyboardInterrupt
        return self.source.points(lon, lat, year, on_tile=on_tile)


def test_a_cut_extraction_goes_on_where_it_stopped(points, archive, tmp_path):
    units, source, out = read_units(points), open_source(archive), tmp_path / "out.parquet"
    with pytest.raises(KeyboardInterrupt):
        extract_table(units, Cut(source, 4), [2024], out)
    assert not out.exists()
    seen = []
    again = Cut(source, 100)
    made = extract_table(units, again, [2024], out, progress=seen.append)
    assert again.calls == len(seen) - 4
    assert seen[3].resumed == 28
    assert seen[-1].done == seen[-1].total == 60
    extract_table(units, source, [2024], tmp_path / "whole.parquet")
    pd.testing.assert_frame_equal(gpd.read_parquet(out), gpd.read_parquet(tmp_path / "whole.parquet"))
    assert made.tiles == read_record(tmp_path / "whole.parquet")["tiles"]  # tiles of the first run are in the record too


def test_portions_of_another_extraction_are_not_mixed_in(points, archive, tmp_path):
    units, out = read_units(points), tmp_path / "out.parquet"
    with pytest.raises(KeyboardInterrupt):
        extract_table(units, Cut(open_source(archive), 2), [2024], out)
    with pytest.raises(DataError, match="portions of another extraction"):
        extract_table(units, open_source(archive), [2023], out)


def test_chips_are_tiles_again(points, archive, west, tmp_path):
    units = read_units(points).iloc[[0, 1, 40, 41]].reset_index(drop=True)
    source = open_source(archive)
    made = extract_chips(units, source, [2024], tmp_path / "chips", size=32)
    paths = sorted((tmp_path / "chips" / "2024").glob("*.tif"))
    assert [path.stem for path in paths] == sorted(units["unit_id"])
    ds = AlphaEarthEmbedding(tmp_path / "chips", crs="native", decoded=False)
    lon, lat = units.geometry.x, units.geometry.y
    np.testing.assert_array_equal(ds.points(lon, lat, 2024), read_points(archive, lon, lat, 2024))
    with rasterio.open(paths[0]) as chip:
        assert chip.tags()["ATTRIBUTION"] == product().attribution
        assert chip.descriptions == BANDS
        assert chip.nodata == -128
        assert chip.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert json.loads(chip.tags()["TILES"])
    listed = pd.read_parquet(tmp_path / "chips" / "chips.parquet")
    assert sorted(listed["file"]) == [f"2024/{path.name}" for path in paths]
    paths[0].unlink()
    again = extract_chips(units, source, [2024], tmp_path / "chips", size=32)
    assert again.tiles == made.tiles
    assert paths[0].exists()
    with pytest.raises(DataError, match="another extraction"):
        extract_chips(units, source, [2024], tmp_path / "chips", size=16)


def test_a_chip_whose_name_cannot_be_a_file_is_refused(archive, tmp_path):
    units = gpd.GeoDataFrame({"unit_id": ["../evil"]}, geometry=[shapely.Point(-122.99, 37.04)], crs=4326)
    with pytest.raises(DataError, match="cannot be file names"):
        extract_chips(units, open_source(archive), [2024], tmp_path / "chips")


@pytest.mark.parametrize(
    ("text", "years"), [("2024", [2024]), ("2018-2020,2023", [2018, 2019, 2020, 2023]), (" 2021 , 2019", [2019, 2021])]
)
def test_years(text, years):
    assert parse_years(text) == years


@pytest.mark.parametrize("text", ["", "last year", "2020-", "2024-2020"])
def test_unreadable_years(text):
    if text == "2020-":
        assert parse_years(text) == [2020]
        return
    with pytest.raises(DataError):
        parse_years(text)


def test_units_as_earth_engine_exports_them(tmp_path):
    pd.DataFrame({"system:index": ["0"], ".geo": ['{"type":"Point","coordinates":[-120.5,38.5]}']}).to_csv(tmp_path / "x.csv", index=False)
    units = read_units(tmp_path / "x.csv", unit="system:index")
    assert (units.geometry.x[0], units.geometry.y[0], units["unit_id"][0]) == (-120.5, 38.5, "0")


BROKEN = {
    "no coordinates": (pd.DataFrame({"a": [1]}), "no coordinates"),
    "metres": (pd.DataFrame({"lon": [500_000], "lat": [4_000_000]}), "not degrees"),
    "a gap": (pd.DataFrame({"lon": [1.0, None], "lat": [1.0, 2.0]}), "not degrees"),
    "a name twice": (pd.DataFrame({"lon": [1, 2], "lat": [1, 2], "unit_id": ["a", "a"]}), "more than once"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_wrong_unit_files_are_refused(tmp_path, fault):
    table, message = BROKEN[fault]
    table.to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(DataError, match=message):
        read_units(tmp_path / "x.csv")


def test_polygons_over_the_antimeridian_are_one_however_they_are_written(tmp_path):
    whole = [
        shapely.MultiPolygon([shapely.box(179.9, 0, 180, 1), shapely.box(-180, 0, -179.9, 1)]),
        shapely.Polygon([(179.9, 0), (-179.9, 0), (-179.9, 1), (179.9, 1)]),
        shapely.box(179.9, 0, 180.1, 1),
    ]
    gpd.GeoDataFrame(geometry=whole, crs=4326).to_file(tmp_path / "x.geojson", COORDINATE_PRECISION=12)
    units = read_units(tmp_path / "x.geojson")
    assert all(shape.normalize().equals_exact(whole[0].normalize(), 1e-9) for shape in units.geometry)


def test_a_polygon_without_area_among_good_ones_is_named_and_left_out(tmp_path):
    good, flat = shapely.box(0, 0, 1, 1), shapely.Polygon([(0, 0), (1, 1), (0, 0)])
    gpd.GeoDataFrame({"plot": ["a", "b", "c"]}, geometry=[good, flat, None], crs=4326).to_parquet(tmp_path / "x.parquet")
    with pytest.warns(UserWarning, match=r"2 of 3 rows have no geometry, or a polygon without area, and are left out: plot 'b', 'c'"):
        units = read_units(tmp_path / "x.parquet", unit="plot")
    assert units["unit_id"].tolist() == ["a"]
    gpd.GeoDataFrame({"plot": ["b"]}, geometry=[flat], crs=4326).to_parquet(tmp_path / "y.parquet")
    with pytest.raises(DataError, match="none of its 1 rows has a geometry"):
        read_units(tmp_path / "y.parquet")


def test_mixed_geometries_are_refused(tmp_path):
    gpd.GeoDataFrame(geometry=[shapely.Point(0, 0), shapely.box(0, 0, 1, 1)], crs=4326).to_file(tmp_path / "x.geojson")
    with pytest.raises(DataError, match="points or polygons"):
        read_units(tmp_path / "x.geojson")


def command(*arguments):
    import typer

    from rs05bench.cli.data import register

    app = typer.Typer()
    register(app)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, ["extract", *map(str, arguments)])


def test_the_command(points, polygons, archive, tmp_path):
    result = command(points, "--years", "2024", "--from", archive, "--out", tmp_path / "p.parquet")
    assert result.exit_code == 0, result.output
    assert product().attribution in result.output
    assert len(gpd.read_parquet(tmp_path / "p.parquet")) == 60
    result = command(
        polygons, "--unit", "field", "--years", "2023-2024", "--from", archive, "--out", tmp_path / "f.csv", "--stat", "max", "--json"
    )
    assert json.loads(result.output)["rows"] == 60
    assert "A00_max" in pd.read_csv(tmp_path / "f.csv")
    result = command(points, "--years", "2024", "--from", archive, "--out", tmp_path / "chips", "--chips", "16")
    assert len(list((tmp_path / "chips" / "2024").glob("*.tif"))) == 60
    result = command(points, "--years", "1999", "--from", archive, "--out", tmp_path / "q.parquet")
    assert isinstance(result.exception, DataError)


@pytest.mark.real
def test_real_places_through_the_real_chip(real, tmp_path):
    chip = real("aef_chip") / "aef_wisconsin_2024_64band.tif"
    with rasterio.open(chip) as file:
        lon, lat = file.transform.c + file.transform.a * 20.5, file.transform.f + file.transform.e * 30.5
        expected = file.read()[:, 30, 20]
    shutil.copy(chip, tmp_path / "aef_2024.tif")
    pd.DataFrame({"longitude": [lon], "latitude": [lat]}).to_csv(tmp_path / "x.csv", index=False)
    extract_table(read_units(tmp_path / "x.csv"), open_source(tmp_path / "aef_2024.tif"), [2024], tmp_path / "out.parquet")
    found = gpd.read_parquet(tmp_path / "out.parquet")[list(BANDS)].to_numpy()[0]
    np.testing.assert_array_equal(found, expected)
