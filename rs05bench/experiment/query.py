"""The index of a store: all results as one Parquet table, kept up to date by what is new, and asked with SQL.

`index/table.parquet` has a row per result, with the drops on the same test units, which need results of several folds, and the costs
measured alone. Its metadata name the results and costs it was made from. Before it is used it is compared with the folders that are
there: a result that came is added, one that went is left out, and a folder named by its content cannot hold another.
Where no folder has changed since it was last compared (`index/seen.json`), which 257 times of change tell, nothing is
listed. The index may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rs05bench.errors import DataError
from rs05bench.experiment.results import COST_COLUMNS, KEYS, arranged, cost_of, drops_of, row_of
from rs05bench.experiment.store import ResultStore, entries_of
from rs05bench.extras import require
from rs05bench.protocol.atomic import write_text, writing
from rs05bench.protocol.hashing import content_digest, json_digest, text_digest
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.result import Cell, Cost, ModelCard, Result, Stratum
from rs05bench.protocol.splits import Split

VERSION = "3"
LONGEST_S = 120.0
"""A query that takes longer is stopped."""
SETTLED_S = 3.0
"""A folder that changed within so many seconds may still change unseen."""
_STAMP = b"rs05bench"
_OWN = ("family", "strata")
"""Columns that only the index needs: which results share drops, and their scores by group."""


def read_index(store: ResultStore, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The table of all results.

    Args:
        store: The store.
        columns: Only these columns.

    Raises:
        DataError: No such column; a result that cannot be read.
    """
    found = compact(store)
    there = [name for name in (pq.read_schema(found).names if isinstance(found, Path) else found.columns) if name not in _OWN]
    if columns is not None:
        _known(columns, there)
    shown = there if columns is None else list(columns)
    return pd.read_parquet(found, columns=shown) if isinstance(found, Path) else found[shown]


def select(store: ResultStore, where: str | None = None, columns: Sequence[str] | None = None, order: str | None = None) -> pd.DataFrame:
    """Rows of the table of results, chosen with SQL (DuckDB).

    Args:
        store: The store.
        where: A condition, e.g. `tier = 'embedding' and macro_f1_ood > 0.5`.
        columns: Columns or expressions, e.g. `model`, `avg(macro_f1_ood) as ood`; default all. With an aggregate among them, rows are
            grouped by the others.
        order: What to order by; default as the table is.

    Raises:
        MissingExtraError: DuckDB is not installed.
        DataError: The condition is not understood.
    """
    duckdb: Any = require("duckdb", purpose="a condition or an expression over results")
    found = compact(store)
    chosen = ", ".join(columns) if columns else "*"
    grouped = " group by all" if columns and any("(" in column for column in columns) else ""
    text = f"select {chosen} from cells{f' where ({where})' if where else ''}{grouped}{f' order by {order}' if order else ''}"
    with duckdb.connect(config={"threads": 2}) as base:
        stop = threading.Timer(LONGEST_S, base.interrupt)
        stop.daemon = True
        _offer(base, found)
        try:
            if len(base.extract_statements(text)) != 1:
                raise DataError("holds more than one statement", source=where or chosen, remedy="Give one condition.")
            stop.start()
            return base.execute(text).df()
        except duckdb.InterruptException as error:
            raise DataError(f"takes longer than {LONGEST_S:.0f} s", source=where or chosen, remedy="Ask for less.") from error
        except duckdb.Error as error:
            names = ", ".join(row[0] for row in base.execute("select column_name from (describe cells)").fetchall())
            raise DataError(
                f"is not understood: {str(error).splitlines()[0]}", source=where or chosen, remedy=f"Columns: {names}."
            ) from error
        finally:
            stop.cancel()


def _offer(base: Any, found: Path | pd.DataFrame) -> None:
    """Makes the table known to DuckDB as `cells`, and no other file: a condition is no way to those."""
    if not isinstance(found, Path):
        base.register("given", pa.Table.from_pandas(found.drop(columns=list(_OWN), errors="ignore"), preserve_index=False))
        base.execute("create table cells as select * from given")
        base.execute("set enable_external_access = false")
        return
    name = str(found.resolve()).replace("'", "''")
    base.execute(f"set allowed_paths = ['{name}']")
    base.execute("set enable_external_access = false")
    base.execute(
        f"create view cells as select * exclude ({', '.join(_OWN)}) from read_parquet('{name}')"
    )  # reads only the columns that are asked for


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
    return text_digest(repr((VERSION, sorted(times))))


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
    lines = [*sorted(digests), *(f"{name} {time}" for name, time in costs)]
    stamp, path = f"{VERSION}:{content_digest(lines)}", store.root / "index" / "table.parquet"
    if _stamp(path) == stamp:
        return path
    before = _before(path)
    rows = before if before is None else before[before["digest"].isin(digests)]
    new = pd.DataFrame([_read(store, digest) for digest in sorted(digests - set(() if rows is None else rows["digest"]))])
    parts = [part for part in (rows, new) if part is not None and len(part)]
    if not parts:
        return arranged([])
    touched = set() if before is None else set(before.loc[~before["digest"].isin(digests), "family"])
    touched |= set(new["family"]) if len(new) else set()
    table = arranged(_with_costs(_with_drops(pd.concat(parts, ignore_index=True), touched), store))
    try:
        _put(table, path, stamp)
    except OSError:
        return table
    return path


def _before(path: Path) -> pd.DataFrame | None:
    """The table as it was; None where there is none of this version that can be read, and then every result is read again."""
    if not (_stamp(path) or "").startswith(f"{VERSION}:"):
        return None
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError):
        return None


def _read(store: ResultStore, digest: str) -> dict[str, Any]:
    """One result as a row: its records are not checked again, which would cost twenty times as much."""
    path = store.folder(digest) / "result.json"
    try:
        record = json.loads(path.read_bytes())
        cell = Cell.model_construct(**record["cell"])
        result = Result.model_construct(
            cell=cell,
            digest=digest,
            kind=record["kind"],
            main_metric=record["main_metric"],
            higher_is_better=bool(find_metric(record["main_metric"]).higher_is_better),
            main=record.get("main", True),
            simulated=record["simulated"],
            scores=record["scores"],
            sums=record.get("sums", {}),
            model=ModelCard.model_construct(**record["model"]),
        )
        if (why := result.contradiction(result.main_metric)) is not None:
            raise DataError(why, source=path, remedy="Delete the cell's folder and run the sweep again.")
        cost = Cost.model_construct(**record.get("cost", {}))
        family = [cell.task, cell.target, cell.split, cell.model, cell.budget, cell.seed, sorted(cell.options.items())]
        return {
            **row_of(result),
            **cost_of(cost),
            "family": json_digest(family)[:16],
            "strata": json.dumps(record.get("strata", [])),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"is no result: {type(error).__name__}: {error}", source=path, remedy="rs05bench prune RUNS --yes removes it; then sweep again."
        ) from error


def _with_drops(rows: pd.DataFrame, touched: set[str]) -> pd.DataFrame:
    """Fills in the drops of families that changed; those of the others stay as they are."""
    columns = [name for name in rows.columns if name.endswith("_drop") and not name.endswith("_raw_drop")]
    again = rows["family"].isin(touched)
    fresh = rows[again]
    found = drops_of([_light(row) for row in fresh.to_dict("records")])
    for name in columns:
        rows[name] = rows[name].astype(object)
        rows.loc[again, name] = [found[digest].get(name) for digest in fresh["digest"]]
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
            # A column in which nothing was known is not in the table.
            column = rows[name].astype(object) if name in rows.columns else pd.Series(None, index=rows.index, dtype=object)
            column.loc[here] = alone[name].astype(object)
            rows[name] = column.astype(bool) if name == "alone" else pd.to_numeric(column)
    return rows


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


_FORMULA = tuple("=+-@\t\r")


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """A table that no spreadsheet takes for formulas: text that begins like one gets an apostrophe."""
    guarded = table.copy()
    for name in guarded.columns:
        if not pd.api.types.is_numeric_dtype(guarded[name]):
            guarded[name] = guarded[name].map(lambda value: f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA else value)
    return guarded


def export(table: pd.DataFrame, path: str | Path) -> Path:
    """Writes a table as CSV (without what a spreadsheet would run) or Parquet, by the file's ending.

    Raises:
        DataError: Another ending.
    """
    import pyarrow.csv

    path = Path(path)
    content = pa.Table.from_pandas(without_formulas(table) if path.suffix == ".csv" else table, preserve_index=False)
    if path.suffix == ".csv":
        with writing(path) as part:
            pyarrow.csv.write_csv(content, part)
    elif path.suffix in (".parquet", ".pq"):
        with writing(path) as part:
            pq.write_table(content, part, compression="zstd")
    else:
        raise DataError("is neither .csv nor .parquet", source=path)
    return path


def _known(columns: Iterable[str], there: Iterable[str]) -> None:
    missing = [name for name in columns if name not in set(there)]
    if missing:
        raise DataError(f"no column {missing[0]!r}", remedy=f"Columns: {', '.join(there)}.")
