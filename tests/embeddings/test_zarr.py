from __future__ import annotations

import numpy as np
import pytest
import zarr

from rs05bench.embeddings.embedding_source import Access, open_source
from rs05bench.embeddings.vectors import decode
from rs05bench.embeddings.zarr_store import open_zarr
from rs05bench.errors import DataError
from tests.embeddings.server import FileServer
from tests.embeddings.tiles import BANDS, vectors

RES = 8.983152841195215e-05
WEST, NORTH = -120.0, 38.0
VALUES = np.stack([vectors(96, 80, seed) for seed in (1, 2)])


def build(path, *, attributes=None, coordinates=True, fill=-128, time=(2023, 2024), units=None):
    group = zarr.create_group(path, zarr_format=3)
    array = group.create_array(
        "embeddings", shape=VALUES.shape, chunks=(1, 64, 32, 32), dtype="int8", fill_value=fill, dimension_names=["time", "band", "y", "x"]
    )
    array[:, :, :64] = VALUES[:, :, :64]  # the last row of chunks is never written
    group.attrs.update({"proj:code": "EPSG:4326"} if attributes is None else attributes)
    if coordinates:
        group.create_array("x", data=WEST + RES * (np.arange(80) + 0.5))
        group.create_array("y", data=NORTH - RES * (np.arange(96) + 0.5))
    stamps = group.create_array("time", data=np.array(time))
    if units:
        stamps.attrs["units"] = units
    return path


def place(row, column):
    return WEST + RES * (np.asarray(column) + 0.5), NORTH - RES * (np.asarray(row) + 0.5)


LAYOUTS = {
    "coordinates and years": {},
    "spatial:transform": {
        "attributes": {"proj:code": "EPSG:4326", "spatial:transform": [RES, 0, WEST, 0, -RES, NORTH]},
        "coordinates": False,
    },
    "geo:proj": {"attributes": {"geo:proj": {"code": "EPSG:4326", "transform": [RES, 0, WEST, 0, -RES, NORTH]}}, "coordinates": False},
    "CF time": {"time": (19358, 19723), "units": "days since 1970-01-01"},
    "fill value 0": {"fill": 0},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_points_of_the_mosaic(tmp_path, layout):
    path = build(tmp_path / "aef.zarr", **LAYOUTS[layout])
    row, column = np.random.default_rng(0).integers(0, 64, (2, 100))
    for year, values in zip((2023, 2024), VALUES, strict=True):
        found = open_source(path).points(*place(row, column), year)
        np.testing.assert_array_equal(found, decode(values[:, row, column].T.copy()))
    assert np.isnan(open_source(path).points(*place([80], [5]), 2024)).all()  # a chunk that was never written


def test_polygons_and_chips_of_the_mosaic(tmp_path):
    import geopandas as gpd
    import shapely

    source = open_source(build(tmp_path / "aef.zarr"))
    shape = shapely.box(WEST + 10 * RES, NORTH - 20 * RES, WEST + 40 * RES, NORTH - 15 * RES)
    found = source.polygons(gpd.GeoSeries([shape], crs=4326), 2024, stats=["mean"])
    np.testing.assert_allclose(found[list(BANDS)].to_numpy()[0], decode(VALUES[1][:, 15:20, 10:40].copy()).mean(axis=(1, 2)), atol=1e-6)
    chip, grid = source.chip(*(float(v) for v in place(30, 40)), 16, 2023)
    np.testing.assert_array_equal(chip, VALUES[0][:, 22:38, 32:48])
    assert grid.crs == "EPSG:4326"


def test_the_mosaic_over_http(tmp_path):
    build(tmp_path / "aef.zarr")
    with FileServer(tmp_path) as server:
        found = open_source("zarr", access=Access(url=f"{server.url}/aef.zarr"), years=[2024]).points(*place([3], [4]), 2024)
    np.testing.assert_array_equal(found[0], decode(VALUES[1][:, 3, 4].copy()))


def test_what_is_not_the_mosaic_is_refused(tmp_path):
    with pytest.raises(DataError, match="not a Zarr group"):
        open_zarr(str(tmp_path / "absent.zarr"))
    with pytest.raises(DataError, match="no coordinate reference system"):
        open_zarr(str(build(tmp_path / "a.zarr", attributes={})))
    with pytest.raises(DataError, match="no transform"):
        open_zarr(str(build(tmp_path / "b.zarr", coordinates=False)))
    with pytest.raises(DataError, match="time coordinate"):
        open_zarr(str(build(tmp_path / "c.zarr", time=(1, 2))))
    with pytest.raises(DataError, match="one year a slice"):
        open_zarr(str(build(tmp_path / "d.zarr", time=(2024, 2024))))
    group = zarr.create_group(tmp_path / "e.zarr")
    group.create_array("embeddings", shape=(2, 64, 8, 8), dtype="float32")
    with pytest.raises(DataError, match="expected int8"):
        open_zarr(str(tmp_path / "e.zarr"))
