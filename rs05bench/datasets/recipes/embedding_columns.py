"""The embedding in recipes: from tiles over polygons or at points, or from tables that somebody exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from rs05bench.embeddings.products import DEFAULT, DEFAULT_FAMILY, EmbeddingProduct, product
from rs05bench.errors import DataError

if TYPE_CHECKING:
    import geopandas as gpd

    from rs05bench.datasets.recipes.job import BuildJob

TILES = DEFAULT_FAMILY
"""Key of the shared source of tiles, and their folder: the one that recipes have had from the start, whatever the product."""
LONGEST = 1.02
"""Of a product of unit vectors: decoded ones are 0.99 to 1.01 long, and means of them shorter."""


def embedding_of(job: BuildJob) -> EmbeddingProduct:
    """The product of a run: that of the shared option `product`, else the default one."""
    return product(str(job.options.get("product", DEFAULT)))


def credit(record: EmbeddingProduct) -> str:
    """The sentence a product's licence asks for, else what to cite."""
    return record.attribution or record.citation


def has_tiles(job: BuildJob) -> bool:
    """Whether tiles are in the run's folder."""
    return bool(job.files(TILES))


def can_embed(job: BuildJob) -> bool:
    """Whether tiles are there, or may be read from somewhere else."""
    return has_tiles(job) or bool(job.options["embeddings"])


def embed(job: BuildJob, units: gpd.GeoDataFrame, over: Literal["polygons", "points"]) -> pd.DataFrame:
    """Units with the embedding of their year; what no tile covers is dropped and counted.

    Args:
        job: The run; its recipe has the shared source of tiles and the shared options `embeddings` and `product`.
        units: WGS84 geometries with a column `year`.
        over: Means, spread and change over polygons, or the pixel at points.

    Raises:
        DataError: There are no tiles, or none that meets any unit.
    """
    from rs05bench.embeddings.unit_table import point_table, polygon_table

    record = embedding_of(job)
    here = has_tiles(job)
    source = job.root / TILES if here else str(job.options["embeddings"])
    if not source:
        raise DataError(
            f"no tiles of {record.name} are below {TILES}/",
            source=job.root,
            remedy="Fetch those of your area and years (`rs05bench extract` does), or let them be read from afar: --set embeddings=mirror.",
        )
    table = polygon_table if over == "polygons" else point_table
    frame, left_out = table(units, source, lambda done, total: job.progress("embedding", done, total), of=record)
    for reason, count in left_out.items():
        job.drop(reason, count)
    return frame


def feature_sets(job: BuildJob, frame: pd.DataFrame) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Feature sets over a table that `embed` made, and the tiers of those whose name does not say it."""
    record = embedding_of(job)
    name, first, glob = record.family, record.bands[0], record.glob
    sets = {name: [glob]}
    if f"{first}_std" in frame:
        sets[f"{name}-spread"] = [name, f"{glob}_max", f"{glob}_std"]
    # A unit without a feature is dropped, so a set of change that lacks one year would cost every unit of that year.
    if f"d{first}" in frame and frame[f"d{first}"].notna().all():
        sets[f"{name}-change"] = [name, f"d{glob}", "change_dot", "change_angle"]
    elif f"d{first}" in frame:
        job.notes.append("No feature set of change: tiles of the year before are not there for every year.")
    return sets, dict.fromkeys(sets, "embedding")


def read_export(path: Path, columns: Sequence[str], record: EmbeddingProduct) -> pd.DataFrame:
    """A CSV of embeddings as Earth Engine exports it, ids as text.

    Args:
        path: The file.
        columns: Columns besides the product's that must be there.
        record: The product.

    Raises:
        DataError: Not a CSV, a column is missing, the file was cut short, or its vectors are not decoded ones.
    """
    try:
        frame = pd.read_csv(path, dtype={"system:index": str}, low_memory=False)
    except pd.errors.EmptyDataError:
        raise DataError("the file is empty", source=path, remedy="Export it again.") from None
    except (ValueError, OSError) as error:
        raise DataError(f"cannot be read as CSV ({error})", source=path, remedy="Expected an Earth Engine table export (CSV).") from None
    if missing := [name for name in (*record.bands, *columns) if name not in frame.columns]:
        shown = ", ".join(missing[:6]) + (f", … ({len(missing)} in all)" if len(missing) > 6 else "")
        raise DataError(
            f"column {shown} missing; it has {', '.join(map(str, frame.columns[:8]))}, … ({len(frame.columns)} in all)",
            source=path,
            remedy=f"Export all {record.size} bands, and the label, place and year with them.",
        )
    if frame.empty:
        raise DataError("holds a header and no row", source=path, remedy="The export found no sample: check its region and year.")
    check_vectors(frame, path, record)
    return frame


def check_vectors(frame: pd.DataFrame, source: Path, record: EmbeddingProduct) -> None:
    """Make sure that a product's columns hold decoded embeddings.

    Raises:
        DataError: Text, or the bytes of the published tiles, or something longer than a mean of unit vectors.
    """
    for name in record.bands:
        if not pd.api.types.is_numeric_dtype(frame[name]):
            wrong = frame[name][pd.to_numeric(frame[name], errors="coerce").isna() & frame[name].notna()]
            raise DataError(
                f"column {name!r} holds text, e.g. {wrong.iloc[0]!r} in row {wrong.index[0]}",
                source=source,
                remedy="The file was cut short or edited: export it again.",
            )
    lengths = np.linalg.norm(frame[list(record.bands)].to_numpy(dtype=np.float64), axis=1)
    longest = np.nanmax(lengths, initial=0.0)
    if record.unit_norm and longest > LONGEST:
        first, last = record.bands[0], record.bands[-1]
        whole = bool((frame[first].dropna() % 1 == 0).all())
        raise DataError(
            f"the vectors {first}..{last} are up to {longest:.3g} long, expected at most 1"
            + (": these are the bytes of the tiles, not the embedding" if whole else ""),
            source=source,
            remedy=f"Decode them first: {record.formula}." if whole else "Were they scaled? Export them as they are.",
        )
