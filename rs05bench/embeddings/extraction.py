"""Embeddings for any units: points, polygons or chips, from any source, to a table or to chips, with a record of what was read.

Work is cut into portions along tiles, and every finished portion is kept beside the output. After a cut, or Ctrl-C, the same call takes up
where it stopped; a portion is written whole and renamed last, so half of one is never taken for a result.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.embeddings.output import Portions, inspect_chip, read_record, record_path, write_chip, write_parquet
from rs05bench.embeddings.unitfile import parse_years, read_units
from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_text, writing

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    from numpy.typing import NDArray

    from rs05bench.embeddings.readers import EmbeddingReader

__all__ = ["Extraction", "Progress", "extract_chips", "extract_table", "parse_years", "read_record", "read_units", "start_exports"]

SCHEMA_VERSION = 1
_WORTH_A_PORTION = 2000  # units below which keeping a portion apart costs more than reading it again


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an extraction is.

    Args:
        done: Units finished, those of an earlier run included.
        total: Units times years.
        resumed: Units taken over from an earlier run.
        year: The year at work.
        tiles: Tiles read so far.
    """

    done: int
    total: int
    resumed: int
    year: int
    tiles: int


@dataclass(slots=True)
class Extraction:
    """What an extraction made.

    Args:
        out: The table, or the folder of chips.
        units: Rows written.
        empty: Rows without any unmasked pixel.
        tiles: Units read from each tile.
    """

    out: Path
    units: int
    empty: int
    tiles: dict[str, int] = field(default_factory=dict)


def extract_table(
    units: gpd.GeoDataFrame,
    source: EmbeddingReader,
    years: Sequence[int] | None,
    out: str | os.PathLike[str],
    *,
    stats: Sequence[str] = ("mean",),
    progress: Callable[[Progress], None] | None = None,
) -> Extraction:
    """Write a table of embeddings, one row a unit and year.

    The columns of the units come first, then `year`, `lon`, `lat` (of a point inside), the embedding, the counts of observations behind it
    where the store has them (at that point), and `status`: `ok`, or `masked` where no unmasked pixel was found (its components are
    missing, never zero).

    Args:
        units: From `read_units`: points (the pixel that holds each) or polygons (statistics).
        source: From `open_source`.
        years: Years to extract for every unit; None takes each unit's own from its column `year`.
        out: `.parquet` (GeoParquet, with geometry and the record in its metadata) or `.csv`.
        stats: Which of `mean`, `std`, `min`, `max`, for polygons.
        progress: Called after every portion.

    Raises:
        DataError: If the plan does not fit what is there, or a tile cannot be read. Finished portions stay.
    """
    import pandas as pd

    target = Path(out)
    if target.suffix not in (".parquet", ".csv"):
        raise DataError(f"cannot write a {target.suffix or 'nameless'} table", source=target, remedy="Name it .parquet or .csv.")
    work = _plan(units, source, years)
    store = Portions(target, _digest(units, source, work, [*stats]))
    point_like = bool((units.geom_type == "Point").all())
    lonlat = _lonlat(units)
    tiles: dict[str, int] = {}
    parts: list[pd.DataFrame] = []
    total, done, resumed = sum(len(rows) for _, rows in work), 0, 0
    for number, (year, rows) in enumerate(work):
        kept = store.load(number)
        if kept is None:
            read: dict[str, int] = {}

            def count(tile: str, units_read: int, read: dict[str, int] = read) -> None:
                read[tile] = read.get(tile, 0) + units_read

            if point_like:
                values = source.points(lonlat[rows, 0], lonlat[rows, 1], year, on_tile=count)
                table = pd.DataFrame(values, columns=list(source.product.bands))
            else:
                table = source.polygons(units.geometry.iloc[rows], year, stats=stats, on_tile=count).reset_index(drop=True)
            table = table.assign(**source.observation_counts(lonlat[rows, 0], lonlat[rows, 1], year))
            table.insert(0, "row", rows)
            table.insert(1, "year", year)
            store.save(number, table, read)
            kept = table, read
        else:
            resumed += len(rows)
        table, read = kept
        parts.append(table)
        for tile, amount in read.items():
            tiles[tile] = tiles.get(tile, 0) + amount
        done += len(rows)
        if progress is not None:
            progress(Progress(done, total, resumed, year, len(tiles)))
    table = pd.concat(parts, ignore_index=True).sort_values(["row", "year"], kind="stable", ignore_index=True)
    counts = [name for name in source.product.observation_counts if name in table]
    empty = _write_table(
        table, units, lonlat, target, _record(source, tiles, work, stats if not point_like else ["pixel"], len(table)), counts
    )
    store.remove()
    return Extraction(target, len(table), empty, tiles)


def extract_chips(
    units: gpd.GeoDataFrame,
    source: EmbeddingReader,
    years: Sequence[int] | None,
    out: str | os.PathLike[str],
    *,
    size: int = 128,
    progress: Callable[[Progress], None] | None = None,
) -> Extraction:
    """Write a chip around every unit as a Cloud Optimized GeoTIFF, `{out}/{year}/{unit_id}.tif`, and `chips.parquet` that lists them.

    Chips hold what the product stores (components where it has a scale a pixel), north up, in the UTM zone of their place: a dataset of
    the product reads them.
    A chip that already exists is not read again.

    Args:
        units: From `read_units`; a polygon's chip is centred on a point inside it.
        source: From `open_source`.
        years: Years to extract; None takes each unit's own from its column `year`.
        out: Folder.
        size: Height and width in pixels.
        progress: Called after every chip.
    """
    import pandas as pd

    folder = Path(out)
    work, lonlat = _plan(units, source, years), _lonlat(units)
    _check_file_names(units["unit_id"])
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / "plan.json"
    plan = _digest(units, source, work, ["chips", str(size)])
    if marker.exists() and json.loads(marker.read_text()).get("digest") != plan:
        raise DataError("holds chips of another extraction", source=folder, remedy="Choose another folder, or delete this one.")
    write_text(marker, json.dumps({"digest": plan}))
    rows_out, empty, resumed, done = [], 0, 0, 0
    tiles: dict[str, int] = {}
    total = sum(len(rows) for _, rows in work)
    for year, rows in work:
        for row in rows:
            unit = str(units["unit_id"].iloc[row])
            path = folder / str(year) / f"{unit}.tif"
            if path.exists():
                resumed += 1
                masked, read = inspect_chip(path, source.product)
            else:
                read = []
                lon, lat = float(lonlat[row, 0]), float(lonlat[row, 1])
                values, grid = source.chip(lon, lat, size, year, on_tile=partial(_note, read))
                masked = float(np.mean(source.product.codec.is_missing(values[0])))
                write_chip(path, values, grid, source.product, tiles=read)
            for tile in read:
                tiles[tile] = tiles.get(tile, 0) + 1
            empty += masked == 1
            rows_out.append(
                {
                    "unit_id": unit,
                    "year": year,
                    "lon": lonlat[row, 0],
                    "lat": lonlat[row, 1],
                    "file": f"{year}/{unit}.tif",
                    "masked": masked,
                }
            )
            done += 1
            if progress is not None:
                progress(Progress(done, total, resumed, year, len(tiles)))
    record = _record(source, tiles, work, [f"chips of {size} px"], done)
    write_parquet(pd.DataFrame(rows_out).sort_values(["unit_id", "year"], ignore_index=True), folder / "chips.parquet", record)
    write_text(folder / "chips.record.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return Extraction(folder, done, empty, tiles)


def _plan(units: gpd.GeoDataFrame, source: EmbeddingReader, years: Sequence[int] | None) -> list[tuple[int, NDArray[np.int64]]]:
    """Portions of (year, unit rows), units of one tile together."""
    if not len(units):
        raise DataError("there are no units")
    if years is None and "year" not in units:
        raise DataError("which years?", remedy="Pass --years, or give the units a column 'year'.")
    lonlat = _lonlat(units)
    own = None if years is not None else units["year"].astype("int64").to_numpy()
    work: list[tuple[int, NDArray[np.int64]]] = []
    for year in sorted({int(y) for y in (years if own is None else own)}):  # type: ignore[union-attr]
        rows = np.arange(len(units)) if own is None else np.flatnonzero(own == year)
        tiles = source.portions_of(lonlat[rows, 0], lonlat[rows, 1], year)
        order = np.argsort(tiles, kind="stable")
        work.extend((year, rows[order[start:stop]]) for start, stop in _cuts(tiles[order], source.portion))
    return work


def _cuts(tiles: NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    """Where to cut units that are sorted by tile: between tiles where possible, so that no block is decompressed for two portions."""
    cuts, start = [], 0
    ends = [*(np.flatnonzero(np.diff(tiles)) + 1).tolist(), len(tiles)]
    for end in ends:
        while end - start > most:
            cuts.append((start, start + most))
            start += most
        if end - start >= _WORTH_A_PORTION or end == len(tiles):
            cuts.append((start, end))
            start = end
    return [cut for cut in cuts if cut[1] > cut[0]]


def _lonlat(units: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """Longitude and latitude of a point inside each unit."""
    centres = units.geometry.representative_point().to_crs("EPSG:4326")
    return np.column_stack([centres.x.to_numpy(), centres.y.to_numpy()])


def _digest(units: gpd.GeoDataFrame, source: EmbeddingReader, work: Iterable[tuple[int, NDArray[np.int64]]], options: Sequence[str]) -> str:
    """Of everything that decides what is written: portions of another plan are never mixed in."""
    import shapely

    state = hashlib.sha256()
    for text in (source.description, source.product.name, units.crs.to_wkt(), *options, *units["unit_id"]):
        state.update(str(text).encode() + b"\x00")
    for shape in shapely.to_wkb(units.geometry.to_numpy()):
        state.update(shape)
    for year, rows in work:
        state.update(f"{year}:".encode() + np.ascontiguousarray(rows, dtype="<i8").tobytes())
    return state.hexdigest()


def _record(
    source: EmbeddingReader, tiles: dict[str, int], work: Iterable[tuple[int, NDArray[np.int64]]], stats: Sequence[str], rows: int
) -> dict[str, Any]:
    """Where the numbers come from: kept in the file itself and beside it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("rs05bench")
    except PackageNotFoundError:
        own = "unknown"
    return {
        "schema_version": SCHEMA_VERSION,
        "product": source.product.name,
        "attribution": source.product.attribution,
        "licence": source.product.licence,
        "citation": source.product.citation,
        "source": source.description,
        "years": sorted({year for year, _ in work}),
        "statistics": list(stats),
        "decode": source.product.formula,
        "rows": rows,
        "tiles": dict(sorted(tiles.items())),
        "rs05bench": own,
    }


def _write_table(
    table: pd.DataFrame, units: gpd.GeoDataFrame, lonlat: NDArray[np.float64], out: Path, record: dict[str, Any], counts: Sequence[str]
) -> int:
    """Join units and embeddings and write them; returns the number of rows without an embedding."""
    import geopandas as gpd
    import pandas as pd

    rows = table.pop("row").to_numpy()
    bands = [column for column in table.columns if column != "year"]
    own = pd.DataFrame(units.drop(columns=[units.geometry.name, "year", "lon", "lat", *bands, "status"], errors="ignore")).iloc[rows]
    empty = table[bands].drop(columns=list(counts)).isna().all(axis=1) if "pixels" not in table else table["pixels"] == 0
    place = pd.DataFrame({"lon": lonlat[rows, 0], "lat": lonlat[rows, 1]})
    status = pd.DataFrame({"status": np.where(empty, "masked", "ok")})
    joined = pd.concat([own.reset_index(drop=True), table[["year"]], place, table[bands], status], axis=1)
    if out.suffix == ".csv":
        with writing(out) as part:
            joined.to_csv(part, index=False)
    else:
        write_parquet(gpd.GeoDataFrame(joined, geometry=units.geometry.iloc[rows].to_numpy(), crs=units.crs), out, record)
    write_text(record_path(out), json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return int(empty.sum())


def _note(read: list[str], tile: str, _: int) -> None:
    read.append(tile)


def _check_file_names(names: pd.Series) -> None:
    wrong = [name for name in names if name in ("", ".", "..") or any(character in name for character in '/\\:*?"<>|\x00')]
    if wrong:
        raise DataError(f"{len(wrong)} unit ids cannot be file names (first: {wrong[0]!r})", remedy="Name another column with --unit.")
    if names.duplicated().any():
        raise DataError(f"unit id {names[names.duplicated()].iloc[0]!r} occurs twice", remedy="Name another column with --unit.")


def start_exports(
    units: gpd.GeoDataFrame, source: EmbeddingReader, years: Sequence[int] | None, *, to: str, stats: Sequence[str]
) -> list[str]:
    """Start one Earth Engine table export a year, for more units than requests can carry; returns the tasks' names.

    The exported CSVs hold `unit_id`, `year`, the product's columns and `.geo`; they are read like any table of embeddings.
    """
    from rs05bench.embeddings.earthengine import EarthEngine

    if not isinstance(source, EarthEngine):
        raise DataError("only Earth Engine can export a table by itself", source=source.description, remedy="Leave --export-to out.")
    started: dict[int, list[NDArray[np.int64]]] = {}
    for year, rows in _plan(units, source, years):
        started.setdefault(year, []).append(rows)
    return [
        source.export_table(
            units.iloc[np.concatenate(rows)], year, stats=stats, to=to, description=f"rs05bench-{source.product.family}-{year}"
        )
        for year, rows in started.items()
    ]
