"""AlphaEarth reading against its rivals on one synthesised 2,048 px tile (int8, 64 planes, 1,024 px blocks, ZSTD, bottom-up).

Every round of ours starts with every cache of the package cold: a new dataset, a new file handle, no decoded block. The rivals are warm
(their files are open and GDAL's block cache is full). Rivals that take minutes are measured on a part of the same work, and
`extra_info["times"]` says how many such parts make the whole; `RS05BENCH_BENCH_WHOLE=1` measures them whole.
`RS05BENCH_BENCH_FULL_TILE=1` adds a full 8,192 px tile (4 GB on disk).
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

PIXELS, ORIGIN, CHIPS = 2048, (500_000.0, 4_100_000.0), 2000
WHOLE = os.environ.get("RS05BENCH_BENCH_WHOLE") == "1"


def synthesise(size: int, seed: int = 0) -> np.ndarray:
    """Bytes that compress like embeddings do (to about seven eighths): smooth fields mixed into 64 bands, with noise."""
    from scipy.ndimage import zoom

    from rs05bench.embeddings import encode

    generator = np.random.default_rng(seed)
    fields = [zoom(generator.standard_normal((size // 16 + 1, size // 16 + 1)), 16, order=1)[:size, :size] for _ in range(12)]
    x = np.tensordot(generator.standard_normal((64, 12)), np.stack(fields), 1).astype(np.float32)
    x += 0.35 * x.std() * generator.standard_normal(x.shape, dtype=np.float32)
    return encode(x / np.linalg.norm(x, axis=0))


def write(path: Path, values: np.ndarray, *, bottom_up: bool) -> Path:
    import rasterio

    path.parent.mkdir(parents=True, exist_ok=True)
    west, south = ORIGIN
    affine = (10, 0, west, 0, 10, south) if bottom_up else (10, 0, west, 0, -10, south + 10 * values.shape[1])
    profile = {
        "tiled": True,
        "blockxsize": 1024,
        "blockysize": 1024,
        "compress": "zstd",
        "interleave": "band",
        "bigtiff": "yes",
        "nodata": -128,
    }
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=64,
        dtype="int8",
        crs="EPSG:32610",
        height=values.shape[1],
        width=values.shape[2],
        transform=rasterio.Affine(*affine),
        **profile,
    ) as file:
        file.write(values[:, ::-1] if bottom_up else values)
    return path


@pytest.fixture(scope="session")
def values():
    return synthesise(PIXELS)


@pytest.fixture(scope="session")
def tile(tmp_path_factory, values):
    return write(tmp_path_factory.mktemp("bench") / "2024" / "10N" / "tile.tiff", values, bottom_up=True)


def queries(size, count):
    """The same random chips for everybody: slices as a TorchGeo sampler yields them."""
    import pandas as pd

    corners = np.random.default_rng(size).integers(0, PIXELS - size, (count, 2))
    time = slice(pd.Timestamp("2024-01-01"), pd.Timestamp("2024-12-31 23:59:59.999999"))
    west, south = ORIGIN
    return [
        (slice(west + 10.0 * c, west + 10.0 * (c + size), 10.0), slice(south + 10.0 * r, south + 10.0 * (r + size), 10.0), time)
        for r, c in corners.tolist()
    ]


def measure(benchmark, side, work, *, part=1.0, setup=None, rounds=3):
    """One side of a group; `part` is the share of the work that is really done."""
    benchmark.extra_info |= {"side": side, "times": 1 / part}
    return benchmark.pedantic(work, setup=setup, rounds=rounds if part == 1 else 1, warmup_rounds=0)


# ------------------------------------------------------------------------------------------------------------------------------ chips


SIZES = [256, 64, 32]


@pytest.mark.parametrize("size", SIZES)
def test_chips(benchmark, tile, size):
    from rs05bench.datasets import AlphaEarthEmbedding

    benchmark.group = f"epoch of {CHIPS} chips of {size} px"
    wanted = queries(size, CHIPS)

    def epoch(ds):
        for query in wanted:
            ds[query]

    measure(benchmark, "ours", epoch, setup=lambda: ((AlphaEarthEmbedding(tile, crs="native"),), {}))


@pytest.mark.parametrize("size", SIZES)
def test_chips_torchgeo(benchmark, tile, size):
    """`GoogleSatelliteEmbedding` and a fast decode of ours, so that only the reading differs."""
    from torchgeo.datasets import GoogleSatelliteEmbedding

    from rs05bench.datasets import AlphaEarthEmbedding
    from rs05bench.embeddings import decode

    benchmark.group = f"epoch of {CHIPS} chips of {size} px"
    count = CHIPS if WHOLE else 40
    ds, ours, wanted = GoogleSatelliteEmbedding(tile), AlphaEarthEmbedding(tile, crs="native"), queries(size, count)

    def epoch():
        for query in wanted:
            decode(ds[query]["image"].numpy().astype(np.int8))

    for query in wanted[:3]:  # the same decoded output
        np.testing.assert_array_equal(decode(ds[query]["image"].numpy().astype(np.int8)), ours[query]["image"].numpy())
    measure(benchmark, "TorchGeo GoogleSatelliteEmbedding", epoch, part=count / CHIPS)


@pytest.mark.parametrize("size", SIZES)
def test_chips_rasterio(benchmark, tile, size):
    import rasterio
    from rasterio.windows import from_bounds

    from rs05bench.embeddings import decode

    benchmark.group = f"epoch of {CHIPS} chips of {size} px"
    count = CHIPS if WHOLE else 100
    with rasterio.open(tile) as file:
        windows = [from_bounds(x.start, y.stop, x.stop, y.start, file.transform) for x, y, _ in queries(size, count)]
        file.read(1)

        def epoch():
            for window in windows:
                decode(file.read(window=window))

        measure(benchmark, "rasterio windows", epoch, part=count / CHIPS)


@pytest.mark.parametrize("size", SIZES)
def test_chips_async_geotiff(benchmark, tile, size):
    import asyncio

    from async_geotiff import GeoTIFF, Window
    from obstore.store import LocalStore

    from rs05bench.embeddings import decode

    benchmark.group = f"epoch of {CHIPS} chips of {size} px"
    count = CHIPS if WHOLE else 20
    corners = np.random.default_rng(size).integers(0, PIXELS - size, (count, 2))

    async def epoch():
        file = await GeoTIFF.open(tile.name, store=LocalStore(tile.parent))
        for row, column in corners.tolist():
            read = await file.read(window=Window(col_off=column, row_off=row, width=size, height=size))
            decode(np.asarray(read.data))

    measure(benchmark, "async-geotiff + obstore", lambda: asyncio.run(epoch()), part=count / CHIPS)


@pytest.mark.parametrize("size", SIZES)
def test_chips_rasteret(benchmark, tile, size, tmp_path):
    """Reads local files too, but was made for cold remote ones: it keeps headers, not blocks."""
    import geopandas as gpd
    import pandas as pd
    import rasteret
    import shapely

    from rs05bench.embeddings import TileIndex, decode, product

    benchmark.group = f"epoch of {CHIPS} chips of {size} px"
    count = CHIPS if WHOLE else 6
    footprint = shapely.force_2d(TileIndex.scan(tile).frame.geometry[0])
    record = {"id": ["tile"], "datetime": [pd.Timestamp("2024-07-01")], "href": [str(tile)], "proj:epsg": [32610]}
    gpd.GeoDataFrame(record, geometry=[footprint], crs=4326).to_parquet(tmp_path / "tiles.parquet")
    collection = rasteret.build_from_table(
        str(tmp_path / "tiles.parquet"),
        name="bench",
        workspace_dir=str(tmp_path / "workspace"),
        href_column="href",
        band_index_map={band: number for number, band in enumerate(product().bands)},
        enrich_cog=True,
        data_source="aef/v1-annual",
    )

    def epoch():
        for x, y, _ in queries(size, count):
            bounds = (x.start, y.start, x.stop, y.stop)
            read = collection.read_window(
                record_ids=["tile"], bounds=bounds, res=(10.0, 10.0), bands=list(product().bands), target_crs=32610
            )
            decode(np.asarray(read).astype(np.int8))

    measure(benchmark, "rasteret", epoch, part=count / CHIPS)


@pytest.mark.parametrize("size", SIZES)
def test_chips_tifffile(benchmark, tile, size):
    """tifffile and imagecodecs: the whole file decoded once, then sliced (what we do too, but needs the whole file in memory)."""
    import tifffile

    from rs05bench.embeddings import decode

    benchmark.group = f"epoch of {CHIPS} chips of {size} px"
    corners = np.random.default_rng(size).integers(0, PIXELS - size, (CHIPS, 2))

    def epoch():
        whole = tifffile.imread(tile)
        for row, column in corners.tolist():
            decode(whole[:, row : row + size, column : column + size])

    measure(benchmark, "tifffile + imagecodecs, whole file", epoch)


@pytest.mark.parametrize("size", SIZES)
def test_chips_memory_map(benchmark, tile, values, size, tmp_path):
    """An uncompressed copy on disk, memory-mapped; making it is not counted."""
    from rs05bench.embeddings import decode

    benchmark.group = f"epoch of {CHIPS} chips of {size} px"
    np.save(tmp_path / "whole.npy", values)
    corners = np.random.default_rng(size).integers(0, PIXELS - size, (CHIPS, 2))

    def epoch():
        whole = np.load(tmp_path / "whole.npy", mmap_mode="r")
        for row, column in corners.tolist():
            decode(whole[:, row : row + size, column : column + size])

    measure(benchmark, "memory map made before", epoch)


@pytest.mark.parametrize("size", SIZES)
def test_chips_limit(benchmark, tile, values, size):
    """The floor: decompress every block once, copy and decode every chip once, nothing else (below 1 says how near ours is)."""
    from rs05bench.embeddings import decode

    benchmark.group = f"epoch of {CHIPS} chips of {size} px"
    corners = np.random.default_rng(size).integers(0, PIXELS - size, (CHIPS, 2))
    chip, out = np.empty((64, size, size), np.int8), np.empty((64, size, size), np.float32)

    def epoch():
        decompress(tile)
        for row, column in corners.tolist():
            chip[...] = values[:, row : row + size, column : column + size]
            decode(chip, out=out)

    measure(benchmark, "LIMIT: decompress + copy + decode", epoch)


def decompress(path):
    """Every block of a tile with the bare codec in threads."""
    import imagecodecs
    import tifffile

    with tifffile.TiffFile(path) as file:
        places = list(zip(file.pages[0].dataoffsets, file.pages[0].databytecounts, strict=True))
    descriptor = os.open(path, os.O_RDONLY)
    buffers = [np.empty(1 << 20, np.uint8) for _ in range(2)]

    def work(numbers, buffer):
        for number in numbers:
            offset, length = places[number]
            imagecodecs.zstd_decode(os.pread(descriptor, length, offset), out=buffer)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (range(0, len(places), 2), range(1, len(places), 2)), buffers))
    os.close(descriptor)


@pytest.mark.skipif(os.environ.get("RS05BENCH_BENCH_FULL_TILE") != "1", reason="4 GB on disk; set RS05BENCH_BENCH_FULL_TILE=1")
@pytest.mark.parametrize("side", ["ours", "LIMIT: decompress"])
def test_full_tile(benchmark, values, tmp_path_factory, side):
    """Every chip of a full 8,192 px tile once, against decompressing it at all."""
    from rs05bench.datasets import AlphaEarthEmbedding

    benchmark.group = "every 256 px chip of an 8,192 px tile"
    folder = Path(os.environ.get("RS05BENCH_BENCH_FOLDER") or tmp_path_factory.getbasetemp()) / "2024"
    path = folder / "full.tiff"
    if not path.exists():
        write(path, np.tile(values, (1, 4, 4)), bottom_up=True)
    if side != "ours":
        return measure(benchmark, side, lambda: decompress(path), rounds=1)

    def epoch():
        ds = AlphaEarthEmbedding(path, decoded=False)
        for unit in ds.units(256)["unit_id"]:
            ds.chips([unit])

    return measure(benchmark, side, epoch, rounds=1)


# ----------------------------------------------------------------------------------------------------------------------------- decode


@pytest.mark.parametrize("side", ["ours", "three passes", "in place"])
def test_decode(benchmark, values, side):
    from rs05bench.embeddings import decode

    benchmark.group = "decode one 64 x 256 x 256 chip"
    chip, out = np.ascontiguousarray(values[:, :256, :256]), np.empty((64, 256, 256), np.float32)

    def passes():
        x = chip.astype(np.float32)
        return np.where(chip == -128, np.nan, np.sign(x) * (x / 127.5) ** 2)

    def in_place():
        np.multiply(chip, np.float32(1 / 127.5), out=out, dtype=np.float32)
        np.multiply(out, np.abs(out), out=out)
        out[chip == -128] = np.nan

    benchmark.extra_info["side"] = side
    benchmark({"ours": lambda: decode(chip, out=out), "three passes": passes, "in place": in_place}[side])


# ----------------------------------------------------------------------------------------------------------------------------- points


POINTS = 100_000


@pytest.fixture(scope="session")
def places():
    from pyproj import Transformer

    row, column = np.random.default_rng(0).integers(0, PIXELS, (2, POINTS))
    x, y = ORIGIN[0] + 10 * (column + 0.5), ORIGIN[1] + 10 * (row + 0.5)
    return x, y, *Transformer.from_crs(32610, 4326, always_xy=True).transform(x, y)


def test_points(benchmark, tile, places):
    from rs05bench.embeddings import read_points

    benchmark.group = f"{POINTS:,} points"
    measure(benchmark, "ours", lambda: read_points(tile, places[2], places[3], 2024))


def test_points_rasterio(benchmark, tile, places):
    import rasterio

    from rs05bench.embeddings import decode, read_points

    benchmark.group = f"{POINTS:,} points"
    count = POINTS if WHOLE else 1000
    with rasterio.open(tile) as file:
        pairs = list(zip(places[0][:count], places[1][:count], strict=True))
        expected = decode(np.array(list(file.sample(pairs[:200]))))
        np.testing.assert_array_equal(read_points(tile, places[2][:200], places[3][:200], 2024), expected)
        measure(benchmark, "rasterio.sample", lambda: decode(np.array(list(file.sample(pairs)))), part=count / POINTS)


def test_points_limit(benchmark, tile):
    benchmark.group = f"{POINTS:,} points"
    measure(benchmark, "LIMIT: decompress", lambda: decompress(tile))


# --------------------------------------------------------------------------------------------------------------------------- polygons


POLYGONS = 5000


@pytest.fixture(scope="session")
def parcels():
    import geopandas as gpd
    import shapely

    generator = np.random.default_rng(0)
    centre = generator.uniform(250, 10 * PIXELS - 250, (POLYGONS, 2)) + ORIGIN
    width, height, turn = generator.uniform(30, 150, POLYGONS), generator.uniform(30, 150, POLYGONS), generator.uniform(0, 90, POLYGONS)
    shapes = [
        shapely.affinity.rotate(shapely.box(x - a, y - b, x + a, y + b), angle)
        for (x, y), a, b, angle in zip(centre, width, height, turn, strict=True)
    ]
    return gpd.GeoDataFrame(geometry=shapes, crs=32610)


@pytest.fixture(scope="session")
def decoded(tmp_path_factory, values):
    """A decoded, north-up copy: the rivals know neither the quantisation nor bottom-up files."""
    import rasterio

    from rs05bench.embeddings import decode

    path = tmp_path_factory.mktemp("decoded") / "decoded.tif"
    affine = rasterio.Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1] + 10 * PIXELS)
    profile = {
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "interleave": "band",
        "bigtiff": "yes",
        "nodata": np.nan,
        "dtype": "float32",
    }
    with rasterio.open(
        path, "w", driver="GTiff", count=64, crs="EPSG:32610", height=PIXELS, width=PIXELS, transform=affine, **profile
    ) as file:
        file.write(decode(values))
    return path


def test_polygons(benchmark, tile, parcels):
    from rs05bench.embeddings import read_polygons

    benchmark.group = f"{POLYGONS:,} polygons, 64 bands"
    measure(benchmark, "ours", lambda: read_polygons(tile, parcels, 2024))


def test_polygons_exactextract(benchmark, tile, decoded, parcels):
    from exactextract import exact_extract

    from rs05bench.embeddings import read_polygons

    benchmark.group = f"{POLYGONS:,} polygons, 64 bands"
    count = POLYGONS if WHOLE else 100
    operations = ["mean", "max", "stdev"]
    found = exact_extract(decoded, parcels.iloc[:20], operations, output="pandas")
    ours = read_polygons(tile, parcels.iloc[:20], 2024)
    np.testing.assert_allclose(ours["A05"], found["band_6_mean"], atol=1e-6)
    np.testing.assert_allclose(ours["A05_std"], found["band_6_stdev"], atol=1e-6)
    work = parcels.iloc[:count]
    measure(benchmark, "exactextract, defaults", lambda: exact_extract(decoded, work, operations, output="pandas"), part=count / POLYGONS)


def test_polygons_exactextract_raster_sequential(benchmark, decoded, parcels):
    from exactextract import exact_extract

    benchmark.group = f"{POLYGONS:,} polygons, 64 bands"
    count = POLYGONS if WHOLE else 500
    work = parcels.iloc[:count]

    def run():
        return exact_extract(decoded, work, ["mean", "max", "stdev"], output="pandas", strategy="raster-sequential")

    measure(benchmark, "exactextract, raster-sequential", run, part=count / POLYGONS)


def test_polygons_rasterstats(benchmark, decoded, parcels):
    from rasterstats import zonal_stats

    benchmark.group = f"{POLYGONS:,} polygons, 64 bands"
    count, bands = (POLYGONS, 64) if WHOLE else (100, 4)
    work = parcels.iloc[:count]

    def run():
        for band in range(1, bands + 1):
            zonal_stats(work, str(decoded), band=band, stats=["mean", "max", "std"], nodata=-9999)

    measure(benchmark, "rasterstats, band by band", run, part=count * bands / POLYGONS / 64)


# ----------------------------------------------------------------------------------------------------------------------------- remote


WINDOWS, LATENCY = 8, 0.03


@pytest.fixture(scope="session")
def server(tile):
    """The folder of the tile behind a web server of its own process, 30 ms from here."""
    code = (
        "import sys, time, pathlib; from tests.embeddings.server import FileServer\n"
        "with FileServer(pathlib.Path(sys.argv[1]), latency=float(sys.argv[2])) as s: print(s.url, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tile.parent), str(LATENCY)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    yield process.stdout.readline().strip()
    process.communicate()


def test_remote(benchmark, server, tile):
    from rs05bench.datasets import AlphaEarthEmbedding

    benchmark.group = f"{WINDOWS} remote windows of 256 px, {LATENCY * 1000:.0f} ms away"

    def read():
        ds = AlphaEarthEmbedding(f"{server}/{tile.name}", crs="native", year=2024)
        for query in queries(256, WINDOWS):
            ds[query]

    measure(benchmark, "ours", read, rounds=2)


def test_remote_rasterio(benchmark, server, tile):
    import rasterio
    from rasterio.windows import from_bounds

    from rs05bench.embeddings import decode

    benchmark.group = f"{WINDOWS} remote windows of 256 px, {LATENCY * 1000:.0f} ms away"

    def read():
        options = {
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
            "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tiff",
            "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/",
        }
        with rasterio.Env(**options), rasterio.open(f"{server}/{tile.name}") as file:
            for x, y, _ in queries(256, WINDOWS):
                decode(file.read(window=from_bounds(x.start, y.stop, x.stop, y.start, file.transform)))

    measure(benchmark, "rasterio window loop", read, part=1, rounds=1)
