"""Arrays of caches carry a checksum: any changed bit is found, and nothing of a damaged file is read."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rs05bench.protocol.checked_arrays import CheckedArrays

VALUES = np.random.default_rng(0).integers(-127, 127, (3, 5, 4)).astype(np.int8)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "cache" / "a.npy"
    CheckedArrays().save(path, VALUES)
    return path


def test_what_was_saved_is_loaded_as_a_map(path):
    found = CheckedArrays().load(path)
    np.testing.assert_array_equal(found, VALUES)
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable


def test_numpy_reads_the_file_as_it_is(path):
    np.testing.assert_array_equal(np.load(path), VALUES)


def test_no_file_is_none_and_no_damage(path):
    arrays = CheckedArrays()
    assert arrays.load(path.with_name("b.npy")) is None
    assert arrays.dropped == 0


def test_every_single_bit_of_the_file_counts(path):
    good = path.read_bytes()
    for at in range(len(good)):
        for bit in range(8):
            changed = bytearray(good)
            changed[at] ^= 1 << bit
            path.write_bytes(changed)
            arrays = CheckedArrays()
            assert arrays.load(path) is None, (at, bit)
            assert (arrays.dropped, path.exists()) == (1, False)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_any_other_content_is_dropped(path, content):
    path.write_bytes(content)
    assert CheckedArrays().load(path) is None
    assert not path.exists()


def test_a_file_that_changed_after_it_was_read_is_checked_again(path):
    arrays = CheckedArrays()
    assert arrays.load(path) is not None
    changed = bytearray(path.read_bytes())
    changed[-12] ^= 1
    path.write_bytes(changed)
    assert arrays.load(path) is None


def test_the_first_writer_wins(path):
    CheckedArrays().save(path, VALUES + 1)
    np.testing.assert_array_equal(CheckedArrays().load(path), VALUES)
    assert [entry.name for entry in path.parent.iterdir()] == ["a.npy"]


def test_an_empty_array_comes_back(tmp_path):
    CheckedArrays().save(tmp_path / "e.npy", np.empty((0, 4), np.float32))
    found = CheckedArrays().load(tmp_path / "e.npy")
    assert (found.shape, found.dtype) == ((0, 4), np.float32)
