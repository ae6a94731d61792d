"""The AlphaEarth embedding in recipes: from tiles over polygons or at points, or from tables that Earth Engine exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from rs05bench.errors import DataError

if TYPE_CHECKING:
    import geopandas as gpd

    from rs05bench.datasets.recipes.job import BuildJob

EMBEDDING = tuple(f"A{number:02d}" for number in range(64))
LONGEST = 1.02
ATTRIBUTION = "The AlphaEarth Foundations Satellite Embedding dataset is produced by Google and Google DeepMind."
"""Decoded AlphaEarth vectors are 0.99 to 1.01 long, and means of them shorter."""


def embed(job: BuildJob, units: gpd.GeoDataFrame, over: Literal["polygons", "points"]) -> pd.DataFrame:
    """Units with the embedding of their year; what no tile covers is dropped and counted.

    Args:
        job: The run; its recipe has the shared source `alphaearth` and the shared option `embeddings`.
        units: WGS84 geometries with a column `year`.
        over: Means, spread and change over polygons, or the pixel at points.

    Raises:
        DataError: There are no tiles, or none that meets any unit.
    """
    from rs05bench.embeddings.unit_table import point_table, polygon_table

    there = bool(job.files("alphaearth"))
    source = job.root / "alphaearth" if there else str(job.options["embeddings"])
    if not source:
        raise DataError(
            "no AlphaEarth tiles lie under alphaearth/",
            source=job.root,
            remedy="Fetch those of your area and years (`rs05bench extract` does), or let them be read from afar: --set embeddings=mirror.",
        )
    table = polygon_table if over == "polygons" else point_table
    frame, left_out = table(units, source, lambda done, total: job.progress("embedding", done, total))
    for reason, count in left_out.items():
        job.drop(reason, count)
    return frame


def feature_sets(job: BuildJob, frame: pd.DataFrame) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Feature sets over a table that `embed` made, and the tiers of those whose name does not say it."""
    sets = {"alphaearth": ["A[0-9][0-9]"]}
    if "A00_std" in frame:
        sets["alphaearth-spread"] = ["alphaearth", "A[0-9][0-9]_max", "A[0-9][0-9]_std"]
    # A unit without a feature is dropped, so a set of change that lacks one year would cost every unit of that year.
    if "dA00" in frame and frame["dA00"].notna().all():
        sets["alphaearth-change"] = ["alphaearth", "dA[0-9][0-9]", "change_dot", "change_angle"]
    elif "dA00" in frame:
        job.notes.append("No feature set of change: tiles of the year before are not there for every year.")
    return sets, dict.fromkeys(sets, "embedding")


def read_export(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV of embeddings as Earth Engine exports it, ids as text.

    Args:
        path: The file.
        columns: Columns besides `A00..A63` that must be there.

    Raises:
        DataError: Not a CSV, a column is missing, the file was cut short, or its vectors are not decoded ones.
    """
    try:
        frame = pd.read_csv(path, dtype={"system:index": str}, low_memory=False)
    except pd.errors.EmptyDataError:
        raise DataError("the file is empty", source=path, remedy="Export it again.") from None
    except (ValueError, OSError) as error:
        raise DataError(f"cannot be read as CSV ({error})", source=path, remedy="Expected an Earth Engine table export (CSV).") from None
    if missing := [name for name in (*EMBEDDING, *columns) if name not in frame.columns]:
        shown = ", ".join(missing[:6]) + (f", … ({len(missing)} in all)" if len(missing) > 6 else "")
        raise DataError(
            f"column {shown} missing; it has {', '.join(map(str, frame.columns[:8]))}, … ({len(frame.columns)} in all)",
            source=path,
            remedy="Export all 64 bands, and the label, place and year beside them.",
        )
    if frame.empty:
        raise DataError("holds a header and no row", source=path, remedy="The export found no sample: check its region and year.")
    check_vectors(frame, path)
    return frame


def check_vectors(frame: pd.DataFrame, source: Path) -> None:
    """Make sure that `A00..A63` hold decoded embeddings.

    Raises:
        DataError: Text, or the bytes of the published tiles, or something longer than a mean of unit vectors.
    """
    for name in EMBEDDING:
        if not pd.api.types.is_numeric_dtype(frame[name]):
            wrong = frame[name][pd.to_numeric(frame[name], errors="coerce").isna() & frame[name].notna()]
            raise DataError(
                f"column {name!r} holds text, e.g. {wrong.iloc[0]!r} in row {wrong.index[0]}",
                source=source,
                remedy="The file was cut short or edited: export it again.",
            )
    lengths = np.linalg.norm(frame[list(EMBEDDING)].to_numpy(dtype=np.float64), axis=1)
    longest = np.nanmax(lengths, initial=0.0)
    if longest > LONGEST:
        whole = bool((frame["A00"].dropna() % 1 == 0).all())
        raise DataError(
            f"the vectors A00..A63 are up to {longest:.3g} long, expected at most 1"
            + (": these are the bytes of the tiles, not the embedding" if whole else ""),
            source=source,
            remedy="Decode them first: sign(v) (v/127.5)^2." if whole else "Were they scaled? Export them as they are.",
        )
