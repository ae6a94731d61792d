"""A damaged file of the feature cache is found, dropped and made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rs05bench.models.cache import FeatureCache

MAPS = [np.arange(48, dtype=np.float32).reshape(3, 4, 4), np.ones((2, 2), np.float32)]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 0xFF
    path.write_bytes(content)


DAMAGE = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:150]),
    "empty": lambda path: path.write_bytes(b""),
    "one bit pattern changed": flip,
    "other content": lambda path: path.write_text("hello"),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_dropped_and_made_again(tmp_path, damage):
    FeatureCache(tmp_path).put("e", "u", MAPS)
    damage(sorted(tmp_path.rglob("*.npy"))[0])
    cache = FeatureCache(tmp_path)
    assert cache.get("e", "u") is None
    assert cache.dropped == 1
    assert not list(tmp_path.rglob("*.npy"))
    cache.put("e", "u", MAPS)
    for found, expected in zip(cache.get("e", "u"), MAPS, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_more_layers_than_ten_keep_their_order(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.put("e", "u", [np.full(2, layer, np.float32) for layer in range(12)])
    assert [float(found[0]) for found in cache.get("e", "u")] == list(range(12))
