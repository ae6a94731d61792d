"""A store in the layout of the published one of TESSERA, from blocks of pixels.

Zarr v3; root attributes of the ``geoemb:`` convention; one group a UTM zone (``utm01`` to ``utm60``) in the northern CRS with
``embeddings`` int8 (time, band, y, x), ``scales`` float32 (time, y, x), the observation counts, ``time``, ``band``, ``y``, ``x``. A scale
that is NaN is water or was never embedded, one that is infinite is land that is not filled yet. Chunks are those of the published store,
shards are smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.embeddings.products import EmbeddingProduct, PixelScale, product
from rs05bench.errors import DataError

PRODUCT = "tessera-v1.1-dclimate"
STEP = 10.0
CHUNK, SHARD = 32, 512


@dataclass(frozen=True)
class Block:
    """Pixels of one year to write into a zone.

    Attributes:
        year: The year.
        west: x of the western edge, a multiple of the pixel.
        north: y of the northern edge; negative in the south.
        embeddings: (components, rows, columns) int8, the first row in the north.
        scales: (rows, columns) float32.
        counts: Observation counts by array name, (rows, columns) each.
    """

    year: int
    west: float
    north: float
    embeddings: NDArray[np.int8]
    scales: NDArray[np.float32]
    counts: dict[str, NDArray[Any]]


def write_store(
    path: str | Path,
    zones: Mapping[int, Sequence[Block]],
    *,
    years: Sequence[int],
    of: EmbeddingProduct | None = None,
    unfilled: Iterable[tuple[int, int]] = (),
) -> Path:
    """Write blocks of pixels as a store.

    Args:
        path: Folder of the store; must not exist.
        zones: UTM zone number -> its blocks.
        years: The years along the time axis.
        of: The product whose layout it is.
        unfilled: (zone, year) pairs that the groups do not list as complete (`years_complete`).

    Raises:
        DataError: The product has no scale a pixel, or a block is off the grid.
    """
    import zarr

    record = of if of is not None else product(PRODUCT)
    if not isinstance(record.scale, PixelScale):
        raise DataError(f"{record.name} has no scale a pixel, and this layout has one")
    root = zarr.open_group(str(path), mode="w-", zarr_format=3)
    scale = {"type": "array", "array_name": record.scale.array, "nodata": "+inf"}
    root.attrs.update(
        {
            "zarr_conventions": [{"name": "geoemb:", "spec_url": "https://github.com/geo-embeddings/embeddings-zarr-convention"}],
            "geoemb:type": "pixel",
            "geoemb:model": record.name,
            "geoemb:dimensions": record.size,
            "geoemb:data_type": record.dtype,
            "geoemb:gsd": STEP,
            "geoemb:spatial_layout": "utm_zones",
            "geoemb:quantization": {
                "method": "per_pixel_scale", "original_dtype": "float32", "quantized_dtype": record.dtype, "scale": scale,
            },
            "simulated": True,
        }
    )  # fmt: skip
    waiting = set(unfilled)
    for zone, blocks in sorted(zones.items()):
        _write_zone(root, zone, blocks, list(years), record, [year for year in years if (zone, year) not in waiting])
    return Path(path)


def _write_zone(root: Any, zone: int, blocks: Sequence[Block], years: list[int], record: EmbeddingProduct, complete: list[int]) -> None:
    from zarr.codecs import BloscCodec

    assert isinstance(record.scale, PixelScale)
    span = SHARD * STEP
    west, north = min(block.west for block in blocks) // span * span, -(-max(block.north for block in blocks) // span) * span
    east = max(block.west + block.scales.shape[1] * STEP for block in blocks)
    south = min(block.north - block.scales.shape[0] * STEP for block in blocks)
    height, width = (int(-(-size // span)) * SHARD for size in (north - south, east - west))
    group = root.create_group(f"utm{zone:02d}")
    packed = BloscCodec(cname="zstd", clevel=3)
    sizes = len(years), height, width
    embeddings = group.create_array(
        "embeddings", shape=(sizes[0], record.size, *sizes[1:]), chunks=(1, record.size, CHUNK, CHUNK), dtype=record.dtype,
        shards=(1, record.size, SHARD, SHARD), fill_value=0, compressors=packed, dimension_names=["time", "band", "y", "x"],
    )  # fmt: skip
    planes = {
        name: group.create_array(
            name, shape=sizes, chunks=(1, CHUNK, CHUNK), shards=(1, SHARD, SHARD), dtype=dtype, fill_value=fill, compressors=packed,
            dimension_names=["time", "y", "x"],
        )
        for name, dtype, fill in (
            (record.scale.array, "float32", np.float32(np.inf)), *((count, "uint16", 0) for count in record.observation_counts),
        )
    }  # fmt: skip
    axes = {
        "time": np.array(years, dtype=np.int32),
        "band": np.arange(record.size, dtype=np.int32),
        "y": north - (np.arange(height) + 0.5) * STEP,
        "x": west + (np.arange(width) + 0.5) * STEP,
    }
    for name, values in axes.items():
        group.create_array(name, shape=values.shape, dtype=values.dtype, fill_value=0, dimension_names=[name])[:] = values
    group.attrs.update(
        {
            "proj:code": f"EPSG:{32600 + zone}",
            "spatial:dimensions": ["y", "x"],
            "spatial:transform": [STEP, 0.0, west, 0.0, -STEP, north],
            "spatial:shape": [height, width],
            "years_complete": complete,
        }
    )
    for block in blocks:
        row, column = (north - block.north) / STEP, (block.west - west) / STEP
        if row != round(row) or column != round(column):
            raise DataError(f"a block at {block.west:g}, {block.north:g} is off the {STEP:g} m grid", source=f"utm{zone:02d}")
        here = (
            years.index(block.year),
            slice(int(row), int(row) + block.scales.shape[0]),
            slice(int(column), int(column) + block.scales.shape[1]),
        )
        embeddings[here[0], :, here[1], here[2]] = block.embeddings
        planes[record.scale.array][here] = block.scales
        for name, values in block.counts.items():
            planes[name][here] = values
