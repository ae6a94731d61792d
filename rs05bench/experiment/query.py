"""The index of a store: all results as one Parquet table, kept up to date by what is new, and asked with SQL.

`index/rows-*.parquet` are append-only segments, a row a result as it was read; `index/table.parquet` is what they add up to, with the
drops on the same ground, which need results of several folds, and the costs measured alone. The table says which results and costs it was
made from. Before it is used it is compared with the folders that are there: a result that came is added, one that went is left out, and a
folder named by its content cannot hold another. Where no folder has changed since it was last compared (`index/seen.json`), which 257 times
of change tell, nothing is listed. The index may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rs05bench.errors import DataError
from rs05bench.experiment.results import COST_COLUMNS, KEYS, arranged, cost_of, drops_of, row_of
from rs05bench.experiment.store import ResultStore, entries_of
from rs05bench.protocol.atomic import write_text, writing
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.result import Cell, ModelCard, Result, Stratum
from rs05bench.protocol.splits import Split

VERSION = "2"
MOST_SEGMENTS = 16
"""More segments than this are written as one."""
SETTLED_S = 3.0
"""A folder that changed within so many seconds may still change unseen."""
_STAMP = b"rs05bench"


def read_index(store: ResultStore, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The table of all results.

    Args:
        store: The store.
        columns: Only these columns.

    Raises:
        DataError: No such column; a result that cannot be read.
    """
    found = compact(store)
    if columns is not None:
        _known(columns, pq.read_schema(found).names if isinstance(found, Path) else found.columns)
    if isinstance(found, Path):
        return pd.read_parquet(found, columns=None if columns is None else list(columns))
    return found if columns is None else found[list(columns)]


def select(store: ResultStore, where: str | None = None, columns: Sequence[str] | None = None, order: str | None = None) -> pd.DataFrame:
    """Rows of the table of results, chosen with SQL (DuckDB).

    Args:
        store: The store.
        where: A condition, e.g. `tier = 'embedding' and macro_f1_ood > 0.5`.
        columns: Columns or expressions, e.g. `model`, `avg(macro_f1_ood) as ood`; default all. With an aggregate among them, rows are
            grouped by the others.
        order: What to order by; default as the table is.

    Raises:
        DataError: DuckDB is not installed, or the condition is not understood.
    """
    try:
        import duckdb
    except ImportError as error:
        raise DataError("--where and expressions need duckdb", remedy="pip install 'rs05bench[query]'") from error
    found = compact(store)
    chosen = ", ".join(columns) if columns else "*"
    grouped = " group by all" if columns and any("(" in column for column in columns) else ""
    with duckdb.connect(config={"threads": 2}) as base:
        _offer(base, found)
        try:
            return base.execute(
                f"select {chosen} from cells{f' where ({where})' if where else ''}{grouped}{f' order by {order}' if order else ''}"
            ).df()
        except duckdb.Error as error:
            names = ", ".join(row[0] for row in base.execute("select column_name from (describe cells)").fetchall())
            raise DataError(
                f"is not understood: {str(error).splitlines()[0]}", source=where or chosen, remedy=f"Columns: {names}."
            ) from error


def _offer(base: Any, found: Path | pd.DataFrame) -> None:
    """Makes the table known to DuckDB as `cells`, and no other file: a condition is no way to those."""
    if not isinstance(found, Path):
        base.register("given", pa.Table.from_pandas(found, preserve_index=False))
        base.execute("create table cells as select * from given")
        base.execute("set enable_external_access = false")
        return
    name = str(found.resolve()).replace("'", "''")
    base.execute(f"set allowed_paths = ['{name}']")
    base.execute("set enable_external_access = false")
    base.execute(f"create view cells as select * from read_parquet('{name}')")  # reads only the columns that are asked for


def compact(store: ResultStore) -> Path | pd.DataFrame:
    """Brings the index up to date.

    Returns:
        The table's file; or the table itself where the folder cannot be written to.
    """
    path, state = store.root / "index" / "table.parquet", _state(store)
    seen = _seen(path)
    if state is not None and seen.get("state") == state and seen.get("stamp") and _stamp(path) == seen["stamp"]:
        return path
    found = _compared(store)
    if state is not None and isinstance(found, Path):
        with contextlib.suppress(OSError):
            write_text(path.with_name("seen.json"), json.dumps({"state": state, "stamp": _stamp(path)}))
    return found


def _state(store: ResultStore) -> str | None:
    """The times of change of the folders that hold results and costs: a result that comes or goes changes one.

    None where one changed in the last seconds: by a clock of whole seconds the next change could look the same.
    """
    folders = [entry for entry in entries_of(store.root / "cells") if entry.is_dir()]
    times = [(entry.name, entry.stat().st_mtime_ns) for entry in folders]
    with contextlib.suppress(FileNotFoundError):
        times += [(name, (store.root / name).stat().st_mtime_ns) for name in ("cells", "costs")]
    if any(time.time() - moment / 1e9 < SETTLED_S for _, moment in times):
        return None
    return hashlib.sha256(repr((VERSION, sorted(times))).encode()).hexdigest()


def _seen(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.with_name("seen.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _compared(store: ResultStore) -> Path | pd.DataFrame:
    """Compares the index with every folder, and brings it up to date."""
    digests = store.digests()
    costs = sorted((path.name, path.stat().st_mtime_ns) for path in (store.root / "costs").glob("[!.]*.json"))
    stamp = hashlib.sha256("\n".join([VERSION, *sorted(digests), *(f"{name} {time}" for name, time in costs)]).encode()).hexdigest()
    folder = store.root / "index"
    path = folder / "table.parquet"
    if _stamp(path) == stamp:
        return path
    segments, rows = _segments(folder)
    known = set(rows["digest"]) if len(rows) else set()
    new = pd.DataFrame([_read(store, digest) for digest in sorted(digests - known)])
    rows = pd.concat([rows, new], ignore_index=True) if len(rows) and len(new) else (new if len(new) else rows)
    if not len(rows):
        return arranged([])
    gone = ~rows["digest"].isin(digests)
    touched = set(rows.loc[gone, "family"]) | (set(new["family"]) if len(new) else set())
    rows = rows[~gone].drop_duplicates("digest").reset_index(drop=True)
    table = arranged(_with_costs(_with_drops(rows, touched, path), store).drop(columns=["family", "strata"]))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if len(new):
            merge = len(segments) >= MOST_SEGMENTS
            _put(rows if merge else new, folder / f"rows-{uuid.uuid4().hex[:12]}.parquet")
            for segment in segments if merge else []:
                segment.unlink(missing_ok=True)
        _put(table, path, stamp)
    except OSError:
        return table
    return path


def _read(store: ResultStore, digest: str) -> dict[str, Any]:
    """One result as a row of a segment: plain JSON, since records of pydantic cost twenty times as much."""
    path = store.folder(digest) / "result.json"
    try:
        record = json.loads(path.read_bytes())
        cell = SimpleNamespace(**{"options": {}, **record["cell"]})
        result = SimpleNamespace(
            cell=cell,
            digest=digest,
            kind=record["kind"],
            main_metric=record["main_metric"],
            main=record.get("main", True),
            simulated=record["simulated"],
            scores=record["scores"],
            model=SimpleNamespace(**{"random_twin": False, "open_weights": True, **record["model"]}),
        )
        cost = SimpleNamespace(**(dict.fromkeys(COST_COLUMNS) | {"alone": False} | record.get("cost", {})))
        family = [cell.task, cell.target, cell.split, cell.model, cell.budget, cell.seed, sorted(cell.options.items())]
        return {
            **row_of(result),
            **cost_of(cost),
            "family": hashlib.sha1(json.dumps(family).encode(), usedforsecurity=False).hexdigest()[:16],
            "strata": json.dumps(record.get("strata", [])),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"is no result: {type(error).__name__}: {error}", source=path, remedy="rs05bench prune RUNS --yes removes it; then sweep again."
        ) from error


def _with_drops(rows: pd.DataFrame, touched: set[str], path: Path) -> pd.DataFrame:
    """Fills in the drops: anew for families that changed, from the table as it was for the others."""
    columns = [name for name in rows.columns if name.endswith("_drop") and not name.endswith("_raw_drop")]
    rows[columns] = None
    before = pd.read_parquet(path) if path.is_file() and _stamp(path) else None
    if before is not None:
        kept = before.set_index("digest")
        there = [name for name in columns if name in kept.columns]
        # A segment may know a result that went and came back: what counts is what the table was made from.
        touched = touched | set(rows.loc[~rows["digest"].isin(kept.index), "family"])
        same = ~rows["family"].isin(touched)
        values = kept.reindex(rows.loc[same, "digest"])[there]
        for name in there:
            rows.loc[same, name] = values[name].to_numpy()
        anew = ~same
    else:
        anew = pd.Series(True, index=rows.index)
    fresh = rows[anew]
    found = drops_of([_light(row) for row in fresh.to_dict("records")])
    for name in columns:
        rows.loc[anew, name] = [found[digest].get(name) for digest in fresh["digest"]]
        rows[name] = pd.to_numeric(rows[name])
    return rows


def _light(row: dict[str, Any]) -> Result:
    """What matching drops needs of a result; checked when it was written."""
    named = {name: row[name] for name in KEYS if name not in ("tier", "split")}
    return Result.model_construct(
        cell=Cell.model_construct(**named, split=Split(row["split"]), options={"family": row["family"]}),
        digest=row["digest"],
        kind=row["kind"],
        main_metric=row["main_metric"],
        higher_is_better=bool(find_metric(row["main_metric"]).higher_is_better),
        simulated=row["simulated"],
        model=ModelCard.model_construct(name=row["model"], tier=row["tier"], inputs="", learner=""),
        scores={},
        strata=[Stratum.model_construct(**stratum) for stratum in json.loads(row["strata"])],
    )


def _with_costs(rows: pd.DataFrame, store: ResultStore) -> pd.DataFrame:
    """Puts costs measured alone in the place of those measured beside other cells."""
    costs = store.costs()
    here = rows.index[rows["digest"].isin(costs)]
    if len(here):
        alone = pd.DataFrame([cost_of(costs[digest]) for digest in rows.loc[here, "digest"]], index=here)
        for name in COST_COLUMNS:
            column = rows[name].astype(object)
            column.loc[here] = alone[name].astype(object)
            rows[name] = column.astype(bool) if name == "alone" else pd.to_numeric(column)
    return rows


def _segments(folder: Path) -> tuple[list[Path], pd.DataFrame]:
    paths = sorted(folder.glob("rows-*.parquet"))
    parts = []
    for path in list(paths):
        try:
            parts.append(pd.read_parquet(path))
        except (OSError, ValueError):  # half written by a full disk, or cut by something else: its results are read again
            path.unlink(missing_ok=True)
            paths.remove(path)
    return paths, pd.concat(parts, ignore_index=True).drop_duplicates("digest") if parts else pd.DataFrame()


def _stamp(path: Path) -> str | None:
    try:
        return (pq.read_schema(path).metadata or {}).get(_STAMP, b"").decode() or None
    except (OSError, ValueError, pa.ArrowInvalid):
        return None


def _put(table: pd.DataFrame, path: Path, stamp: str = "") -> None:
    content = pa.Table.from_pandas(table, preserve_index=False)
    content = content.replace_schema_metadata({**(content.schema.metadata or {}), _STAMP: stamp.encode()})
    with writing(path) as part:
        pq.write_table(content, part, compression="zstd")


def export(table: pd.DataFrame, path: str | Path) -> Path:
    """Writes a table as CSV or Parquet, by the file's ending.

    Raises:
        DataError: Another ending.
    """
    import pyarrow.csv

    path = Path(path)
    content = pa.Table.from_pandas(table, preserve_index=False)
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(content, path)
    elif path.suffix in (".parquet", ".pq"):
        pq.write_table(content, path, compression="zstd")
    else:
        raise DataError("is neither .csv nor .parquet", source=path)
    return path


def _known(columns: Iterable[str], there: Iterable[str]) -> None:
    missing = [name for name in columns if name not in set(there)]
    if missing:
        raise DataError(f"no column {missing[0]!r}", remedy=f"Columns: {', '.join(there)}.")
