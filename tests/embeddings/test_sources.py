from __future__ import annotations

import shutil

import numpy as np
import pytest

from rs05bench.datasets import AlphaEarthEmbedding
from rs05bench.embeddings.embedding_source import Access, open_source
from rs05bench.embeddings.points import read_points
from rs05bench.embeddings.vectors import decode
from rs05bench.errors import DataError
from tests.embeddings.server import FileServer
from tests.embeddings.tiles import write_index


@pytest.fixture(scope="module")
def web(tmp_path_factory, archive):
    """A copy of the archive with the published index, as it lies on a web server."""
    root = tmp_path_factory.mktemp("web") / "annual"
    shutil.copytree(archive, root)
    write_index(
        root,
        [
            {
                "path": path.relative_to(root).as_posix(),
                "year": int(path.parts[-3]),
                "zone": "10N",
                "crs": "EPSG:32610",
                "west": 500_000.0 if path.stem.startswith("west") else 501_600.0,
                "south": 4_098_400.0,
                "east": 501_600.0 if path.stem.startswith("west") else 503_200.0,
                "north": 4_100_000.0,
            }
            for path in sorted(root.glob("*/*/*.tiff"))
        ],
    )
    return root


def pixels(tile, count=50):
    row, column = np.random.default_rng(0).integers(0, 160, (2, count))
    return (*tile.lonlat(row + 0.5, column + 0.5), tile.values[:, row, column].T)


@pytest.mark.parametrize("name", ["mirror", "gcs"])
def test_points_over_http_with_the_index_fetched_once(web, west, tmp_path, name):
    lon, lat, values = pixels(west)
    with FileServer(web) as server:
        for _ in range(2):
            source = open_source(
                name, access=Access(url=server.url, cache_dir=tmp_path), area=(lon.min(), lat.min(), lon.max(), lat.max()), years=[2024]
            )
            np.testing.assert_array_equal(source.points(lon, lat, 2024), decode(values.copy()))
        whole = [path for method, path, range_ in server.requests if method == "GET" and path.endswith("parquet")]
        tiles = {path for _, path, _ in server.requests if path.endswith(".tiff")}
    assert len(whole) == 1
    assert len(tiles) == 1  # the tile that holds the points, no other
    assert not any(range_ is None for method, path, range_ in server.requests if method == "GET" and path.endswith(".tiff"))


def test_a_chip_over_http_reaches_into_the_next_tile(web, west, east, tmp_path):
    lon, lat = west.lonlat(80.5, 155.5)
    told = []
    with FileServer(web) as server:
        source = open_source("mirror", access=Access(url=server.url, cache_dir=tmp_path))
        values, grid = source.chip(float(lon), float(lat), 32, 2024, on_tile=lambda tile, _: told.append(tile))
    np.testing.assert_array_equal(values, np.concatenate([west.values, east.values], axis=2)[:, 64:96, 139:171])
    assert grid.crs == "EPSG:32610"
    assert grid.transform() == (10, 0, west.west + 1390, 0, -10, west.north - 640)
    assert len(told) == 2


def test_a_single_remote_file_as_a_dataset(web, west):
    with FileServer(web) as server:
        ds = AlphaEarthEmbedding(f"{server.url}/2024/10N/{west.path.name}", crs="native", decoded=False)
        image = ds[500_000:500_500:10, 4_099_500:4_100_000:10]["image"].numpy()
    np.testing.assert_array_equal(image, west.values[:, :50, :50])


def test_a_bucket_that_refuses_strangers_is_asked_in_the_name_of_a_project(web, west, tmp_path, monkeypatch):
    monkeypatch.setattr("rs05bench.embeddings.embedding_source._google_token", lambda: "token")
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    lon, lat, values = pixels(west)
    with FileServer(web, need_header="x-goog-user-project") as server:
        with pytest.raises(DataError, match="refused an anonymous request"):
            open_source("gcs", access=Access(url=server.url, cache_dir=tmp_path))
        source = open_source("gcs", access=Access(url=server.url, cache_dir=tmp_path, project="mine"))
        np.testing.assert_array_equal(source.points(lon, lat, 2024), decode(values.copy()))


def test_a_remote_tile_that_is_missing_or_cut_is_an_error(web, west, tmp_path):
    lon, lat, _ = pixels(west)
    with FileServer(web, cut=("west",)) as server, pytest.raises(DataError, match=r"range request failed|not a readable"):
        read_points(open_source("mirror", access=Access(url=server.url, cache_dir=tmp_path)).index, lon, lat, 2024)
    with FileServer(tmp_path) as server, pytest.raises(DataError, match="tile index cannot be fetched"):
        open_source("mirror", access=Access(url=server.url, cache_dir=tmp_path / "other"))


def test_a_truncated_remote_tile_is_refused(web, west, tmp_path):
    folder = tmp_path / "2024"
    folder.mkdir()
    (folder / "x.tiff").write_bytes(west.path.read_bytes()[:-60_000])
    with FileServer(tmp_path) as server, pytest.raises(DataError, match=r"x\.tiff"):
        read_points(f"{server.url}/2024/x.tiff", *pixels(west)[:2], 2024)


def test_an_unknown_source_names_the_known_ones():
    with pytest.raises(DataError, match="mirror, gcs, zarr, earthengine"):
        open_source("nowhere")


def test_folders_files_and_indexes_are_sources(archive, web, west):
    lon, lat, values = pixels(west)
    for name in (archive, west.path, web / "aef_index.parquet"):
        np.testing.assert_array_equal(open_source(name, years=[2024]).points(lon, lat, 2024), decode(values.copy()))


def test_remote_tiles_in_forked_workers_say_what_to_do(web, west):
    from torch.utils.data import DataLoader

    with FileServer(web) as server:
        ds = AlphaEarthEmbedding(f"{server.url}/2024/10N/{west.path.name}", crs="native")
        query = (slice(500_000, 500_100, 10), slice(4_099_900, 4_100_000, 10), ds.bounds[2])
        ds.tile_index.open(0)
        raster = ds.tile_index._open
        with pytest.raises(DataError, match="spawn"):
            list(DataLoader(_Keeps(ds, raster), sampler=[query], batch_size=None, num_workers=1))


class _Keeps:
    """A dataset whose open handles came along with the fork."""

    def __init__(self, ds, handles):
        self.ds, self.handles = ds, handles

    def __getitem__(self, query):
        return next(iter(self.handles.values())).read_block(0, 0)
