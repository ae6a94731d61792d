"""Results as a table: a row a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rs05bench.protocol.comparison import cell_drops
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.result import Cost, Result

KEYS = ("task", "target", "split", "fold", "model", "tier", "budget", "seed")
COST_COLUMNS = (
    "labels_used",
    "labels_inspected",
    "fit_s",
    "predict_s_per_1000",
    "peak_memory_mb",
    "peak_device_memory_mb",
    "device_hours",
    "parameters_total",
    "parameters_trainable",
    "gflops_per_unit",
    "energy_wh",
    "alone",
)


def results_table(results: Sequence[Result], costs: Mapping[str, Cost] | None = None) -> pd.DataFrame:
    """A row a cell: names, `<metric>_id`, `<metric>_ood`, `<metric>_drop` (mean over groups, same units), `<metric>_raw_drop`, costs.

    Args:
        results: Any results.
        costs: Costs measured alone, by digest; they take the place of the ones measured beside other cells.

    Returns:
        Sorted by the names; columns of metrics that no result has are left out.
    """
    drops = drops_of(results)
    return arranged([row_of(result) | cost_of((costs or {}).get(result.digest, result.cost)) | drops[result.digest] for result in results])


def metrics_of(result: Result) -> tuple[str, ...]:
    """Metrics a result's row shows: its main one and those of its kind."""
    return tuple(dict.fromkeys((result.main_metric, *result.about.shown)))


def row_of(result: Result) -> dict[str, Any]:
    """Names and scores of a result."""
    cell = result.cell
    row: dict[str, Any] = {name: getattr(cell, name) for name in KEYS if name != "tier"}
    row["tier"] = result.model.tier
    row["kind"], row["main_metric"], row["main"], row["simulated"] = result.kind, result.main_metric, result.main, result.simulated
    row["random_twin"], row["open_weights"] = result.model.random_twin, result.model.open_weights
    for name in metrics_of(result):
        row[f"{name}_id"] = result.scores.get("test_id", {}).get(name)
        row[f"{name}_ood"] = result.scores.get("test_ood", {}).get(name)
        if find_metric(name).higher_is_better is not None:
            row[f"{name}_drop"] = None
            row[f"{name}_raw_drop"] = raw_drop(result, name)
    row["digest"] = result.digest
    return row


def raw_drop(result: Result, metric: str) -> float | None:
    """Score on `test_id` minus score on `test_ood`, other units on each side (positive for worse); None where one is missing."""
    at_home, held = result.scores.get("test_id", {}).get(metric), result.scores.get("test_ood", {}).get(metric)
    return None if at_home is None or held is None else find_metric(metric).drop(at_home, held)


def cost_of(cost: Cost) -> dict[str, Any]:
    """Cost columns of a result."""
    return {name: getattr(cost, name) for name in COST_COLUMNS}


def drops_of(results: Sequence[Result]) -> dict[str, dict[str, float | None]]:
    """Drops on the same ground of every result, `<metric>_drop` by digest; results are matched among those given."""
    found: dict[str, dict[str, float | None]] = {result.digest: {} for result in results}
    for name in dict.fromkeys(name for result in results for name in metrics_of(result)):
        if find_metric(name).higher_is_better is None:
            continue
        shown = [result for result in results if name in metrics_of(result)]
        drops = cell_drops(shown, name)
        for result in shown:
            found[result.digest][f"{name}_drop"] = drops.get(result.digest)
    return found


def arranged(rows: Sequence[dict[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """Rows as a table: names, what they are, scores, costs, digest; sorted by the names, without empty columns."""
    if len(rows) == 0:
        return pd.DataFrame(columns=[*KEYS, "digest"])
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
    last = [name for name in (*COST_COLUMNS, "digest") if name in table.columns]
    middle = [name for name in table.columns if name not in KEYS and name not in last]
    table = table[[*KEYS, *middle, *last]].dropna(axis=1, how="all")
    return table.sort_values([name for name in KEYS if name in table.columns], kind="stable").reset_index(drop=True)
