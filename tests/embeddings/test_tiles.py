from __future__ import annotations

import shutil

import pytest
import rasterio
import shapely

from rs05bench.embeddings.points import read_points
from rs05bench.embeddings.tile_index import TileIndex, as_index
from rs05bench.embeddings.tile_paths import year_of
from rs05bench.errors import DataError
from tests.embeddings.tiles import vectors, write_index, write_tile


@pytest.mark.parametrize(
    ("path", "year"),
    [
        ("/data/2019/annual/2024/10N/x086q72fv2f9q1x4a-0000000000-0000000000.tiff", 2024),
        ("2023/U/1/L/7/471U_587L.tif", 2023),
        ("aef_wisconsin_2024_64band.tif", 2024),
        ("2018_2019.tif", None),
        ("s3://bucket/annual/2020/33S/x.tiff", 2020),
        ("/data/2025/site/aef_2019.tif", 2019),
        ("/data/2021/10N/x2019abc-0000000000-0000000000.tiff", 2021),
        ("one/aef_2048px.tif", None),
        ("x.tif", None),
        ("120245.tif", None),
    ],
)
def test_the_year_a_path_names(path, year):
    assert year_of(path) == year


def test_folders_are_scanned_with_their_years_zones_and_footprints(archive):
    frame = TileIndex.scan(archive).frame
    assert list(frame["year"]) == [2023, 2023, 2024, 2024]
    assert set(frame["utm_zone"]) == {"10N"}
    assert frame["tile_id"].iloc[0] == "2023/10N/east-0000000000-0000008192"
    assert frame.crs == "EPSG:4326"
    assert frame.total_bounds == pytest.approx([-123, 37.03, -122.96, 37.05], abs=0.02)


def test_a_file_without_a_year_asks_for_it(tmp_path):
    path = write_tile(tmp_path / "x.tif", vectors(20, 20))
    with pytest.raises(DataError, match="year"):
        TileIndex.scan(path)
    assert TileIndex.scan(path, year=2021).years == [2021]


def test_a_year_in_a_files_tags_counts_and_contradicts_a_folder(tmp_path):
    path = write_tile(tmp_path / "x.tif", vectors(20, 20))
    with rasterio.open(path, "r+") as file:
        file.update_tags(YEAR="2019", TIFFTAG_DATETIME="2024:01:01 00:00:00")
    assert TileIndex.scan(path).years == [2019]
    (tmp_path / "2020").mkdir()
    moved = shutil.move(path, tmp_path / "2020/x.tif")
    with pytest.raises(DataError, match="own tags say 2019, and its path says 2020"):
        TileIndex.scan(moved)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no GeoTIFF"):
        TileIndex.scan(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        TileIndex.scan(tmp_path / "absent")


@pytest.fixture
def published(tmp_path, archive):
    root = tmp_path / "annual"
    shutil.copytree(archive, root)
    records = []
    for path in sorted(root.glob("*/*/*.tiff")):
        west = 500_000.0 if path.stem.startswith("west") else 501_600.0
        records.append(
            {
                "path": path.relative_to(root).as_posix(),
                "year": int(path.parts[-3]),
                "zone": "10N",
                "crs": "EPSG:32610",
                "west": west,
                "south": 4_098_400.0,
                "east": west + 1600,
                "north": 4_100_000.0,
            }
        )
    write_index(root, records)
    return root


def test_the_published_index_is_used_where_it_lies_and_searched_by_area_and_year(published):
    index = as_index(published)
    assert len(index) == 4
    assert index.frame["path"].str.startswith(str(published)).all()
    lon, lat = -122.999, 37.04
    found = TileIndex.from_parquet(published / "aef_index.parquet", root=published, area=(lon, lat, lon + 1e-4, lat + 1e-4), years=[2024])
    assert list(found.frame["tile_id"]) == ["2024/10N/west-0000000000-0000000000"]
    triangle = shapely.Polygon([(lon, lat), (lon + 0.001, lat), (lon, lat + 0.001)])
    assert len(TileIndex.from_parquet(published / "aef_index.parquet", root=published, area=triangle)) == 2
    assert len(index.search((10, 10, 11, 11))) == 0


def test_the_index_of_the_world_beside_a_few_tiles_is_those_tiles(published):
    next(published.glob("2024/10N/west*")).unlink()
    with pytest.warns(UserWarning, match="1 of 4 tiles listed in the index are not here"):
        index = as_index(published)
    assert sorted(index.frame["tile_id"]) == [
        "2023/10N/east-0000000000-0000008192",
        "2023/10N/west-0000000000-0000000000",
        "2024/10N/east-0000000000-0000008192",
    ]
    for path in published.rglob("*.tiff"):
        path.unlink()
    with pytest.raises(DataError, match="none of the 4 tiles listed in the index is here"):
        as_index(published)


def test_a_file_that_goes_away_after_it_was_listed_is_an_error_not_a_gap(published):
    index = as_index(published)
    next(published.glob("2024/10N/west*")).unlink()
    with pytest.raises(DataError, match="listed but its file is missing"):
        read_points(index, [-122.999], [37.04], 2024)


def test_an_index_that_contradicts_the_file_is_refused(published):
    frame = as_index(published).frame
    frame["crs"] = "EPSG:32611"
    with pytest.raises(DataError, match="the index says EPSG:32611"):
        TileIndex(frame).open(0)


def test_another_parquet_file_is_not_the_index(tmp_path):
    import pandas as pd

    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="not a tile index"):
        as_index(tmp_path / "x.parquet")
    (tmp_path / "y.parquet").write_text("nothing")
    with pytest.raises(DataError, match="cannot be read as the tile index"):
        as_index(tmp_path / "y.parquet")


def test_a_year_without_tiles_is_named(archive):
    with pytest.raises(DataError, match="no tile of 2019 in this area; there are 2023, 2024"):
        read_points(archive, [-122.999], [37.04], 2019)


def test_a_year_given_by_hand_counts_for_all_files(tmp_path):
    write_tile(tmp_path / "2025/mean.tif", vectors(64, 64))
    assert as_index(tmp_path, year=2020).years == [2020]
    for year in (2019, 2021):
        write_tile(tmp_path / f"two/aef_{year}.tif", vectors(64, 64))
    with pytest.raises(DataError, match="year=2020 was given for files that name 2019, 2021"):
        as_index(tmp_path / "two", year=2020)
