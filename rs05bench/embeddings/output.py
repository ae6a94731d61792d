"""What an extraction writes: tables and chips that carry their record, and portions that survive a cut."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.embeddings.products import EmbeddingProduct, all_products
from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_bytes, write_text, writing
from rs05bench.protocol.cog import CogLayout, open_raster_file, write_cog
from rs05bench.protocol.hashing import file_digest

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from rs05bench.protocol.pixel_grid import Grid


def write_chip(path: Path, values: NDArray[Any], grid: Grid, of: EmbeddingProduct, *, tiles: Sequence[str] = ()) -> None:
    """Write `(dimensions, height, width)` values as a Cloud Optimized GeoTIFF that says what it is; written whole and renamed last."""
    tags = {
        "PRODUCT": of.name,
        "ATTRIBUTION": of.attribution,
        "LICENCE": of.licence,
        "DECODE": of.formula,
        "TILES": json.dumps(list(tiles)),
    }
    # No overviews: GDAL would average what is stored, and a mean of bytes is no embedding.
    layout = CogLayout(by_band=True)
    write_cog(path, values, grid, nodata=of.codec.fill, band_names=of.bands, tags=tags, layout=layout)


def extracted_product(table: Path) -> EmbeddingProduct | None:
    """The product that a table was extracted from, as the record beside it says; None where there is no such record."""
    record = record_path(table)
    try:
        name = json.loads(record.read_text(encoding="utf-8")).get("product")
    except (OSError, ValueError, AttributeError):
        return None
    return all_products().get(name) if isinstance(name, str) else None


def record_path(table: Path) -> Path:
    """Where the record of an extracted table is."""
    return table.with_name(f"{table.stem}.record.json")


def write_parquet(frame: pd.DataFrame, out: Path, record: dict[str, Any]) -> None:
    """(Geo)Parquet with the record in its metadata; written whole and renamed last."""
    import geopandas as gpd
    import pyarrow as pa
    import pyarrow.parquet as parquet

    with writing(out) as part:
        if isinstance(frame, gpd.GeoDataFrame):
            frame.to_parquet(part, index=False)
            table = parquet.read_table(part)
        else:
            table = pa.Table.from_pandas(frame, preserve_index=False)
        text = json.dumps(record, ensure_ascii=False)
        parquet.write_table(table.replace_schema_metadata((table.schema.metadata or {}) | {b"rs05bench": text.encode()}), part)


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The record of an extracted Parquet table: attribution, source, tiles read."""
    import pyarrow.parquet as parquet

    metadata = parquet.read_schema(path).metadata or {}
    if b"rs05bench" not in metadata:
        raise DataError("holds no record of an extraction", source=os.fspath(path))
    return dict(json.loads(metadata[b"rs05bench"]))


def inspect_chip(path: Path, of: EmbeddingProduct) -> tuple[float, list[str]]:
    """Share of missing pixels of a chip of an earlier run, and the tiles it was read from."""
    with open_raster_file(path) as chip:
        return float(np.mean(of.codec.is_missing(chip.read(1)))), list(json.loads(chip.tags().get("TILES", "[]")))


class Portions:
    """Finished portions beside the output, valid only for the very same extraction."""

    def __init__(self, out: Path, digest: str) -> None:
        self.folder = out.with_name(f"{out.name}.parts")
        plan = self.folder / "plan.json"
        other = plan.exists() and json.loads(plan.read_text()).get("digest") != digest
        if other and any(self.folder.glob("*.parquet")):
            raise DataError(
                "holds portions of another extraction (other units, source, years or statistics)",
                source=self.folder,
                remedy="Delete this folder to start again, or name another output.",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(plan, json.dumps({"digest": digest}))

    def load(self, number: int) -> tuple[pd.DataFrame, dict[str, int]] | None:
        """A finished portion and the tiles it was read from, None where it is not finished."""
        import pyarrow.parquet as parquet

        path = next(self.folder.glob(f"{number:06d}-*.parquet"), None)
        if path is None:
            return None
        if path.stem.partition("-")[2] != file_digest(path)[:16]:  # changed on the disk: read again
            path.unlink()
            return None
        table = parquet.read_table(path)
        return table.to_pandas(), json.loads((table.schema.metadata or {}).get(b"tiles", b"{}"))

    def save(self, number: int, table: pd.DataFrame, tiles: dict[str, int]) -> None:
        """Keep a portion: written whole and renamed last."""
        import pyarrow as pa
        import pyarrow.parquet as parquet

        arrow = pa.Table.from_pandas(table, preserve_index=False)
        arrow = arrow.replace_schema_metadata((arrow.schema.metadata or {}) | {b"tiles": json.dumps(tiles).encode()})
        content = io.BytesIO()
        parquet.write_table(arrow, content)
        # The name holds a checksum, so that a changed byte is found.
        write_bytes(self.folder / f"{number:06d}-{hashlib.sha256(content.getvalue()).hexdigest()[:16]}.parquet", content.getvalue())

    def remove(self) -> None:
        """Throw the portions away: the output holds them."""
        shutil.rmtree(self.folder, ignore_errors=True)
