"""Arrays as other writers lay them out, read against what zarr-python reads."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec

from rs05bench.embeddings.raster import in_threads
from rs05bench.embeddings.zarr_chunks import ChunkReader, chunk_reader
from rs05bench.errors import DataError
from tests.embeddings.server import FileServer

SHAPE = (2, 5, 41, 37)
LAYOUTS = {
    "chunks": {"chunks": (1, 5, 16, 16)},
    "split bands, no compression": {"chunks": (1, 2, 8, 64), "compressors": None},
    "zstd shards": {"chunks": (1, 5, 8, 8), "shards": (1, 5, 16, 16), "compressors": ZstdCodec()},
    "blosc with a checksum": {"chunks": (1, 5, 8, 8), "shards": (2, 5, 24, 24), "compressors": [BloscCodec(cname="lz4"), Crc32cCodec()]},
    "gzip, big endian": {"chunks": (1, 5, 8, 8), "compressors": GzipCodec(), "serializer": BytesCodec(endian="big")},
}


def built(path, dtype="float32", **layout):
    array = zarr.create_array(str(path), shape=SHAPE, dtype=dtype, fill_value=7, zarr_format=3, **layout)
    array[:, :, :30, 5:] = np.random.default_rng(0).integers(-100, 100, (2, 5, 30, 32))  # the rest is never written, or in part
    return zarr.open_array(str(path), mode="r")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rectangles_are_those_of_zarr(tmp_path, layout):
    array = built(tmp_path / "a", **LAYOUTS[layout])
    reader = chunk_reader(array, str(tmp_path / "a"))
    for spans in (((0, 2), (0, 5), (0, 41), (0, 37)), ((1, 2), (1, 4), (13, 33), (7, 9)), ((0, 1), (4, 5), (40, 41), (36, 37))):
        np.testing.assert_array_equal(reader.read(spans), array[tuple(slice(*span) for span in spans)])


def test_a_reader_over_http_asks_once_for_the_index_of_a_shard(tmp_path):
    array = built(tmp_path / "a", **LAYOUTS["zstd shards"])
    with FileServer(tmp_path) as server:
        local = chunk_reader(array, str(tmp_path / "a"))
        remote = ChunkReader(
            f"{server.url}/a", key_of=array.metadata.encode_chunk_key, chunk=array.chunks, shard=array.shards, index_first=False,
            dtype=array.dtype, decoders=local._decoders, fill=7,
        )  # fmt: skip
        inside = ((0, 1), (0, 5), (0, 16), (0, 16))
        for _ in range(2):
            np.testing.assert_array_equal(remote.read(inside), local.read(inside))
        assert sum(method == "HEAD" for method, *_ in server.requests) == 1
        whole = tuple((0, size) for size in SHAPE)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(remote)).read(whole), array[:])  # a shard that is not there is fill


def test_a_damaged_shard_is_refused_by_name(tmp_path):
    array = built(tmp_path / "a", **LAYOUTS["zstd shards"])
    shard = tmp_path / "a" / "c" / "0" / "0" / "0" / "0"
    raw = shard.read_bytes()
    span = ((0, 1), (0, 5), (0, 16), (0, 16))
    for damaged, problem in (
        (raw[: len(raw) // 3], "shorter than its index|checksum"),
        (raw[:-3] + b"abc", "checksum is not that of the bytes"),
        (bytes(20) + raw[20:], "cannot be read|bytes, expected"),
    ):
        shard.write_bytes(damaged)
        with pytest.raises(DataError, match=problem) as caught:
            chunk_reader(array, str(tmp_path / "a")).read(span)
        assert "a/c/0/0/0/0" in str(caught.value) or "chunk 0/0/" in str(caught.value)


def test_codecs_that_are_not_known_are_left_to_zarr(tmp_path):
    array = built(tmp_path / "a", chunks=(1, 5, 16, 16), filters=[zarr.codecs.TransposeCodec(order=(0, 2, 3, 1))])
    assert chunk_reader(array, str(tmp_path / "a")) is None


def test_work_that_is_shared_inside_a_shared_part_is_done_there():
    assert in_threads(lambda outer: in_threads(lambda inner: 10 * outer + inner, 3), 40)[39] == [390, 391, 392]
