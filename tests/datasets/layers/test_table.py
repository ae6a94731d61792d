"""A folder of layers, the table they are appended to, the command, and the simulated twin."""

from __future__ import annotations

import json
import shutil

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from rasterio.transform import from_origin
from typer.testing import CliRunner

from rs05bench.datasets.layers import Layer, append_layers, list_sources, open_layers
from rs05bench.datasets.simulated import simulate, write_layers
from rs05bench.errors import BenchError, DataError
from tests.datasets.layers.files import write_raster

NAMES = ["dem", "climate", "road", "water", "urban", "poi", "buildings"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("layers")
    write_layers(root, "tiny", seed=0)
    return root


@pytest.fixture(scope="module")
def world():
    return simulate("tiny", seed=0)


def pixels(place, count=60, margin=6):
    rng = np.random.default_rng(0)
    rows, cols = rng.integers(margin, place.grid.height - margin, count), rng.integers(margin, place.grid.width - margin, count)
    return rows, cols, *place.grid.lonlat(rows, cols)


def test_every_layer_of_the_catalogue_has_a_simulated_twin(folder):
    opened = open_layers(folder)
    assert list(opened) == NAMES == [source.name for source in list_sources()]
    assert all(isinstance(layer, Layer) and layer.simulated for layer in opened.values())
    for name in ("dem", "climate"):
        import rasterio

        for path in (folder / name).glob("*.tif"):
            with rasterio.open(path) as src:
                assert src.tags()["SIMULATED"] == "YES"


def test_every_source_is_documented():
    for source in list_sources():
        said = source.model_dump()
        assert all(said.values()), source.name
        assert source.homepage.startswith("https://")


def test_the_twin_holds_the_landscape(folder, world):
    opened = open_layers(folder)
    for place in (world.wildlands[0], world.farmlands[0], world.cities[0]):
        rows, cols, lon, lat = pixels(place)
        ground = place.terrain
        dem = opened["dem"].at_points(lon, lat)
        # One arc second against 30 m: a position falls up to half a pixel from the centre of its own.
        reach = 35 * np.tan(ground.slope[rows, cols]) + 3
        assert (np.abs(dem["dem_elevation_m"] - ground.elevation[rows, cols]) < reach).mean() > 0.95
        steep = ground.slope[rows, cols] > np.deg2rad(1)
        along = np.sin(ground.aspect[rows, cols]) * dem["dem_aspect_sin"] + np.cos(ground.aspect[rows, cols]) * dem["dem_aspect_cos"]
        assert np.median(along[steep]) > 0.95
        assert opened["climate"].at_points(lon, lat)["koppen"].eq(place.climate.koppen).all()
        # The twin's roads run through pixel centres, its water along pixel edges.
        assert np.abs(opened["road"].at_points(lon, lat)["dist_road_m"] - ground.road[rows, cols]).max() < 15
        assert np.abs(opened["water"].at_points(lon, lat)["dist_water_m"] - ground.water[rows, cols]).max() < 31


def test_the_same_seed_writes_the_same_layers(folder, tmp_path):
    write_layers(tmp_path, "tiny", seed=0)
    for name in ("dem", "climate"):
        for path in (folder / name).glob("*.tif"):
            assert path.read_bytes() == (tmp_path / name / path.name).read_bytes()
    for name in ("road", "water", "urban"):
        assert gpd.read_file(folder / name / f"{name}.gpkg").equals(gpd.read_file(tmp_path / name / f"{name}.gpkg"))


def test_a_csv_keeps_its_text_and_gets_columns(folder, world, tmp_path):
    _, _, lon, lat = pixels(world.cities[0], 5)
    frame = pd.DataFrame(
        {"tract_id": "06037101110", "note": "", "longitude": np.repeat(lon, 2), "latitude": np.repeat(lat, 2), "year": [2020, 2021] * 5}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    done = append_layers(tmp_path / "t.csv", folder, tmp_path / "out.csv")
    raw = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert raw[frame.columns].equals(pd.read_csv(tmp_path / "t.csv", dtype=str, keep_default_na=False))
    found = pd.read_csv(tmp_path / "out.csv")
    expected = pd.concat([layer.at_points(frame["longitude"], frame["latitude"]) for layer in open_layers(folder).values()], axis=1)
    assert list(found.columns[5:]) == list(expected.columns)
    numbers = expected.columns.drop("koppen")
    assert np.allclose(found[numbers], expected[numbers], equal_nan=True)
    assert found["koppen"].tolist() == expected["koppen"].tolist()
    assert done.simulated
    assert done.card_lines[0] == "layers: ['buildings_*', 'climate_*', 'dem_*', 'dist_*', 'poi_*']"
    frame.assign(dem_source="x").to_csv(tmp_path / "t.csv", index=False)
    again = append_layers(tmp_path / "t.csv", folder, tmp_path / "again.csv", names=["dem", "road"])
    assert again.card_lines[0] == "layers: ['dem_aspect_cos', 'dem_aspect_sin', 'dem_elevation_m', 'dem_slope_deg', 'dist_*']"
    record = json.loads((tmp_path / "out.layers.json").read_text())
    assert record["simulated"] is True
    assert record["layers"]["dem"]["licence"].startswith("Copernicus")


def test_polygons_are_answered_as_polygons(folder, world, tmp_path):
    city = world.cities[0]
    tracts = gpd.GeoDataFrame({"tract": range(4)}, geometry=list(city.tract_shapes[:4]), crs=city.grid.crs)
    tracts = pd.concat([tracts.assign(year=2020), tracts.assign(year=2021)])
    tracts.to_file(tmp_path / "t.gpkg")
    done = append_layers(tmp_path / "t.gpkg", folder, tmp_path / "out.gpkg", names=["dem", "buildings"])
    found = gpd.read_file(tmp_path / "out.gpkg")
    assert found.crs == tracts.crs
    assert done.columns["buildings"] == ["buildings_count", "buildings_per_km2", "buildings_cover"]
    counts = found["buildings_count"]
    assert counts[:4].tolist() == counts[4:].tolist()
    assert counts.sum() > 0
    for out in ("out.parquet", "again.csv"):
        append_layers(tmp_path / "t.gpkg", folder, tmp_path / out, names=["buildings"])
    assert gpd.read_parquet(tmp_path / "out.parquet")["buildings_count"].tolist() == counts.tolist()
    assert shapely.from_geojson(pd.read_csv(tmp_path / "again.csv")[".geo"][0]).geom_type == "Polygon"


def test_earth_engine_tables_and_other_crs(folder, world, tmp_path):
    city = world.cities[0]
    _, _, lon, lat = pixels(city, 3)
    pd.DataFrame({".geo": shapely.to_geojson(shapely.points(lon, lat))}).to_csv(tmp_path / "geo.csv", index=False)
    x, y = city.grid.xy(*pixels(city, 3)[:2])
    pd.DataFrame({"e": x, "n": y}).to_parquet(tmp_path / "utm.parquet")
    append_layers(tmp_path / "geo.csv", folder, tmp_path / "a.csv", names=["road"])
    append_layers(tmp_path / "utm.parquet", folder, tmp_path / "b.csv", names=["road"], x="e", y="n", crs=city.grid.crs)
    a, b = (pd.read_csv(tmp_path / name)["dist_road_m"] for name in ("a.csv", "b.csv"))
    assert np.allclose(a, b, atol=0.01)


def test_a_card_takes_the_columns_as_a_hybrid_set(folder, world, tmp_path):
    from rs05bench.datasets.embedding_table import EmbeddingTable
    from rs05bench.datasets.simulated import write_tables
    from rs05bench.protocol import TaskCard

    card_path = write_tables(tmp_path, tasks=["urban"], size="tiny")["urban"]
    table = next(card_path.parent.glob("urban*.csv"))
    append_layers(table, folder, tmp_path / "with.csv", names=["dem", "climate", "road", "water"])
    shutil.move(tmp_path / "with.csv", table)
    card = TaskCard.load(card_path)
    features = {**card.features, "layers": ["dem_*", "climate_[A-E]*", "dist_*"], "hybrid": ["alphaearth", "raw", "layers"]}
    wider = TaskCard.model_validate({**card.model_dump(), "features": features, "tiers": {**card.tiers, "layers": "raw"}})
    read = EmbeddingTable(wider, card_path.parent)
    columns = read.feature_sets["layers"]
    assert len(columns) == 36
    assert set(columns) < set(read.feature_sets["hybrid"])
    assert "koppen" not in columns


def test_refusals_of_tables(folder, tmp_path):
    (tmp_path / "t.csv").write_text("lon,lat,dem_elevation_m\n-84.4,33.76,1\n")
    with pytest.raises(DataError, match="has a column 'dem_elevation_m' already"):
        append_layers(tmp_path / "t.csv", folder, tmp_path / "o.csv", names=["dem"])
    with pytest.raises(DataError, match="is the table itself"):
        append_layers(tmp_path / "t.csv", folder, tmp_path / "t.csv", names=["road"])
    with pytest.raises(DataError, match=r"cannot write a .xlsx table"):
        append_layers(tmp_path / "t.csv", folder, tmp_path / "o.xlsx", names=["road"])
    with pytest.raises(DataError, match="a GeoPackage needs geometries"):
        append_layers(tmp_path / "t.csv", folder, tmp_path / "o.gpkg", names=["road"])
    for text, words in [
        ("a,b\n1,2\n", "no columns 'lon' and 'lat'"),
        ("lon,lat\n-84,north\n", "column 'lat' holds 'north'"),
        ("lon,lat\n500000,4000000\n", "not WGS84 degrees"),
        ("lon,lat\n", "holds no row"),
        (".geo\nnowhere\n", "'.geo' holds no GeoJSON in 1 rows"),
    ]:
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(DataError, match=words):
            append_layers(tmp_path / "bad.csv", folder, tmp_path / "o.csv", names=["road"])
    with pytest.raises(DataError, match="no such file"):
        append_layers(tmp_path / "none.csv", folder, tmp_path / "o.csv")
    assert not (tmp_path / "o.csv").exists()


def test_a_blank_position_is_missing_not_wrong(folder, tmp_path):
    (tmp_path / "t.csv").write_text("lon,lat\n,\n-84.4,33.76\n")
    done = append_layers(tmp_path / "t.csv", folder, tmp_path / "o.csv", names=["road"])
    assert pd.read_csv(tmp_path / "o.csv")["dist_road_m"].isna().tolist() == [True, False]
    assert "1 of 2 units have no value" in done.notes[0]


def test_options_of_a_folder(folder, tmp_path):
    for name in ("road", "poi", "climate", "dem"):
        shutil.copytree(folder / name, tmp_path / name)
    shutil.copytree(folder / "poi", tmp_path / "schools")
    (tmp_path / "layers.yaml").write_text(
        "dem: {aspect: false}\nclimate: {level: main}\nroad: {max_m: 100}\n"
        "schools: {source: poi, where: {category: [school]}, radius_m: 800}\n"
    )
    opened = open_layers(tmp_path)
    assert list(opened) == ["dem", "climate", "road", "poi", "schools"]
    assert opened["dem"].window_columns() == ["dem_elevation_m", "dem_slope_deg"]
    assert len(opened["climate"].window_columns()) == 5
    assert opened["schools"].window_columns() == ["schools_count_800m"]
    schools, every = (opened[name].features.shapes for name in ("schools", "poi"))
    assert 0 < len(schools) < len(every)
    assert not opened["road"].simulated
    for text, words in [
        ("road: {radius_m: 5}", "a distance layer takes no 'radius_m'"),
        ("road: {colour: red}", "a distance layer takes no 'colour'"),
        ("dem: {where: {a: [1]}}", "a raster layer takes no 'where'"),
        ("climate: {aspect: false}", "only terrain has one"),
        ("rail: {source: road}", "no such folder"),
        ("rail: {}", "no layer named 'rail'|no such folder"),
        ("[1, 2]", "expected fields with their values"),
        ("road: [", "line 1, column"),
    ]:
        (tmp_path / "layers.yaml").write_text(text)
        with pytest.raises(DataError, match=words):
            open_layers(tmp_path)


def test_a_record_of_ones_own_makes_any_raster_a_layer(tmp_path):
    (tmp_path / "canopy").mkdir()
    transform = from_origin(10, 50, 0.001, 0.001)
    heights = np.arange(81, dtype=np.int16).reshape(9, 9)
    heights[8, 8] = 250
    write_raster(tmp_path / "canopy" / "a.tif", heights, transform)
    said = dict.fromkeys(["title", "reads", "resolution", "crs", "unit", "licence", "citation", "homepage", "get", "leaks", "checked"], "m")
    record = {**said, "sampler": {"kind": "raster", "missing": [250], "range": [0, 79]}, "columns": {"canopy": "metres"}}
    (tmp_path / "canopy.yaml").write_text(json.dumps(record))
    (tmp_path / "layers.yaml").write_text("canopy: {source: canopy.yaml}")
    layer = open_layers(tmp_path)["canopy"]
    found = layer.at_points([10.0005, 10.0085], [49.9995, 49.9915])
    assert list(found.columns) == ["canopy"]
    assert found["canopy"].tolist() == pytest.approx([0, np.nan], nan_ok=True)
    (tmp_path / "layers.yaml").write_text("canopy: {source: canopy.yaml, range: [0, 5]}")
    with pytest.raises(DataError, match="expected m between 0 and 5, found 79"):
        open_layers(tmp_path)["canopy"].at_points([10.0075], [49.9915])


def test_refusals_of_folders(tmp_path):
    with pytest.raises(DataError, match="is not a folder of layers"):
        open_layers(tmp_path / "none")
    with pytest.raises(DataError, match="holds no layer: expected a subfolder named dem"):
        open_layers(tmp_path)
    (tmp_path / "dem").mkdir()
    with pytest.raises(DataError, match="holds no file of the layer") as caught:
        open_layers(tmp_path)
    assert "copernicus-dem-30m" in str(caught.value)
    with pytest.raises(DataError, match="has no layer 'road'; there are: dem"):
        open_layers(tmp_path, ["road"])


def run(*arguments):
    from rs05bench.cli import _register, app

    if not any(command.name == "layers" for command in app.registered_commands):
        _register()
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)


def test_the_command(folder, tmp_path):
    (tmp_path / "t.csv").write_text("lon,lat\n-84.4,33.76\n")
    told = run("layers", tmp_path / "t.csv", "--layers", folder, "--out", tmp_path / "o.csv", "--only", "dem", "--only", "road")
    assert told.exit_code == 0, told.output
    assert "1 rows, 5 columns of dem, road" in told.output
    assert "layers: ['dem_*', 'dist_*']" in told.output
    assert "simulated: true" in told.output
    said = json.loads(run("layers", tmp_path / "t.csv", "--layers", folder, "--out", tmp_path / "p.csv", "--only", "dem", "--json").output)
    assert said["columns"] == {"dem": ["dem_elevation_m", "dem_slope_deg", "dem_aspect_sin", "dem_aspect_cos"]}
    listed = json.loads(run("layers", "--list", "--json").output)
    assert [entry["name"] for entry in listed] == NAMES
    assert "Horn" not in run("layers", "--list").output
    assert isinstance(run("layers").exception, BenchError)


def test_simulate_writes_them(tmp_path):
    assert isinstance(run("simulate", "--out", tmp_path / "x", "--layers", "--tables").exception, BenchError)
