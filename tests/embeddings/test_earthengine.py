from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely

from rs05bench.embeddings.embedding_source import Access, open_source
from rs05bench.embeddings.vectors import decode
from rs05bench.errors import DataError
from tests.embeddings.earthengine_server import EarthEngineServer
from tests.embeddings.tiles import BANDS

ee = pytest.importorskip("ee")


@pytest.fixture
def service(west):
    """Earth Engine as if it held the western tile."""

    def value(zone, x, y, year):
        row, column = int((west.north - y) // 10), int((x - west.west) // 10)
        if zone != "10N" or year != 2024 or not (0 <= row < 160 and 0 <= column < 160):
            return np.full(64, np.nan)
        return decode(west.values[:, row, column].copy())

    with EarthEngineServer(value) as server:
        yield server
    ee.Reset()


@pytest.fixture
def source(service):
    from google.auth.credentials import AnonymousCredentials

    return open_source("earthengine", access=Access(project="mine", url=service.url, credentials=AnonymousCredentials()))


def test_points_are_asked_for_by_zone_and_come_back_in_order(source, west):
    row, column = np.random.default_rng(0).integers(0, 160, (2, 30))
    row[0], column[0] = 25, 45  # masked
    lon, lat = west.lonlat(row + 0.5, column + 0.5)
    lon, lat = np.append(lon, -117.0), np.append(lat, 37.0)  # zone 11: nothing there
    told = []
    found = source.points(lon, lat, 2024, on_tile=lambda tile, count: told.append((tile.rpartition("/")[2], count)))
    np.testing.assert_allclose(found[:-1], decode(west.values[:, row, column].T.copy()), atol=1e-7)
    assert np.isnan(found[[0, -1]]).all()
    assert told == [("10N", 30), ("11N", 1)]


def test_polygons(source, west):
    shape = shapely.box(west.west + 50, west.north - 100, west.west + 60, west.north - 90)
    frame = gpd.GeoSeries([shape], crs=west.crs, index=["a"])
    found = source.polygons(frame, 2024, stats=["mean", "max", "std"])
    vector = decode(west.values[:, 9, 5].copy())
    for shift, columns in enumerate((list(BANDS), [f"{b}_max" for b in BANDS], [f"{b}_std" for b in BANDS])):
        np.testing.assert_allclose(found.loc["a", columns].to_numpy(dtype=float), vector + shift, atol=1e-6)
    np.testing.assert_allclose(source.polygons(frame, 2024, stats=["mean"])[list(BANDS)].to_numpy()[0], vector, atol=1e-6)


def test_a_chip_is_the_native_grid(source, west):
    lon, lat = west.lonlat(25.5, 40.5)
    values, grid = source.chip(float(lon), float(lat), 12, 2024)
    np.testing.assert_array_equal(values, west.values[:, 19:31, 34:46])
    assert (grid.crs, grid.transform()) == ("EPSG:32610", (10.0, 0.0, west.west + 340, 0.0, -10.0, west.north - 190))


def test_an_export_is_started_on_the_server(source, service, west):
    lon, lat = west.lonlat([3.5, 4.5], [3.5, 4.5])
    units = gpd.GeoDataFrame({"unit_id": ["a", "b"]}, geometry=gpd.points_from_xy(lon, lat), crs=4326)
    assert source.export_table(units, 2024, stats=["mean"], to="gs://bucket/folder/table", description="parcels") == "TASK1"
    request, rows = service.exported
    assert request["fileExportOptions"]["cloudStorageDestination"] == {"bucket": "bucket", "filenamePrefix": "folder/table"}
    assert request["fileExportOptions"]["fileFormat"] == "CSV"
    assert {row["properties"]["unit_id"] for row in rows} == {"a", "b"}
    with pytest.raises(DataError, match="cannot export to 'ftp"):
        source.export_table(units, 2024, stats=["mean"], to="ftp://x", description="parcels")


def test_a_refusal_of_the_service_is_one_readable_error(source, service, west):
    service.broken = True
    with pytest.raises(DataError, match="User memory limit exceeded"):
        source.points(*west.lonlat([3.5], [3.5]), 2024)
    with pytest.raises(DataError, match="refused a chip"):
        source.chip(*(float(v) for v in west.lonlat(3.5, 3.5)), 4, 2024)


def test_an_unreachable_service_says_what_to_do():
    from google.auth.credentials import AnonymousCredentials

    ee.data.setMaxRetries(0)
    with pytest.raises(DataError, match="Earth Engine cannot be reached"):
        open_source("earthengine", access=Access(project="mine", url="http://127.0.0.1:9", credentials=AnonymousCredentials()))
    ee.data.setMaxRetries(5)
    ee.Reset()
