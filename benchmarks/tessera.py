"""Points and windows of a `geoemb:` store, read by rs05bench and by geotessera's own reader, side by side in one run.

Run: `python benchmarks/tessera.py` in an environment that has geotessera too. Prints seconds, the ratio, and whether the values are equal.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import zarr
from geotessera.store import GeoTesseraZarr
from pyproj import Transformer

from rs05bench.datasets.simulated.tessera_store import Block, write_store
from rs05bench.embeddings import Grid, open_source

SIDE, WINDOW, POINTS, WINDOWS = 1024, 256, 2_000, 30
WEST, NORTH = 494_880.0, 4_430_720.0
PRODUCT = "tessera-v1.1-dclimate"


def main() -> None:
    """Write a store, read it both ways."""
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.zarr"
        values, scales = rng.integers(-40, 40, (128, SIDE, SIDE)).astype(np.int8), rng.uniform(0.01, 0.1, (SIDE, SIDE)).astype(np.float32)
        write_store(path, {10: [Block(2021, WEST, NORTH, values, scales, {})]}, years=[2021])
        zarr.consolidate_metadata(str(path))
        theirs = GeoTesseraZarr(str(path))
        x, y = WEST + rng.uniform(0, 10 * SIDE, POINTS), NORTH - rng.uniform(0, 10 * SIDE, POINTS)
        lon, lat = Transformer.from_crs(32610, 4326, always_xy=True).transform(x, y)
        start = time.perf_counter()
        ours = open_source(path, of=PRODUCT).points(lon, lat, 2021)
        middle = time.perf_counter()
        other = np.asarray(theirs.sample_points(list(zip(lon, lat, strict=True)), 2021))
        _show("points", middle - start, time.perf_counter() - middle, np.array_equal(ours, other, equal_nan=True))
        reader, spent, equal = open_source(path, of=PRODUCT), [0.0, 0.0], True
        for row, column in rng.integers(0, SIDE - WINDOW, (WINDOWS, 2)).tolist():
            # Their patch has the place in pixel WINDOW // 2.
            middle_x, middle_y = WEST + 10 * (column + WINDOW // 2) + 5, NORTH - 10 * (row + WINDOW // 2) - 5
            lon, lat = Transformer.from_crs(32610, 4326, always_xy=True).transform(middle_x, middle_y)
            start = time.perf_counter()
            ours = reader.read(Grid("EPSG:32610", WEST + 10 * column, NORTH - 10 * row, 10, 10, WINDOW, WINDOW), 2021)
            middle = time.perf_counter()
            other, _, _ = theirs.read_patch(lon, lat, 2021, WINDOW)
            spent = [spent[0] + middle - start, spent[1] + time.perf_counter() - middle]
            equal &= np.array_equal(ours, other.transpose(2, 0, 1), equal_nan=True)
        _show("windows", *spent, equal)


def _show(what: str, ours: float, theirs: float, equal: bool) -> None:
    print(f"{what}: rs05bench {ours:.2f} s, geotessera {theirs:.2f} s, ratio {theirs / ours:.1f}, equal values: {equal}")


if __name__ == "__main__":
    main()
