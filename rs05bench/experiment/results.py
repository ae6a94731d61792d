"""Results as a table: a row a cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.drop import matched_drops, mean_drop, raw_drop
from rs05bench.protocol.metrics import METRICS, find_metric
from rs05bench.protocol.result import Cost, Result

KEYS = ("task", "target", "split", "fold", "model", "tier", "budget", "seed")
COLUMNS = {
    "classification": ("macro_f1", "balanced_accuracy", "overall_accuracy", "ece", "brier", "nll"),
    "regression": ("r2", "mae", "rmse", "spearman", "coverage90"),
    "segmentation": ("miou", "macro_f1", "boundary_f1", "area_error", "ece", "brier"),
}
COST_COLUMNS = (
    "labels_used",
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


def results_table(results: Sequence[Result], costs: dict[str, Cost] | None = None) -> pd.DataFrame:
    """A row a cell: names, `<metric>_id`, `<metric>_ood`, `<metric>_drop` (same ground), `<metric>_raw_drop`, costs.

    Args:
        results: Any results.
        costs: Costs measured alone, by digest; they take the place of the ones measured beside other cells.

    Returns:
        Sorted by the names; columns of metrics that no result has are left out.
    """
    metrics = list(dict.fromkeys(name for result in results for name in (result.main_metric, *COLUMNS.get(result.kind, ()))))
    drops = {name: matched_drops(results, name) for name in metrics if find_metric(name, METRICS).higher_is_better is not None}
    rows: list[dict[str, Any]] = []
    for result in results:
        cell = result.cell
        row: dict[str, Any] = {name: getattr(cell, name) for name in KEYS if name != "tier"}
        row["tier"] = result.model.tier
        row["kind"], row["main_metric"], row["main"], row["simulated"] = result.kind, result.main_metric, result.main, result.simulated
        row["random_twin"], row["open_weights"] = result.model.random_twin, result.model.open_weights
        for name in metrics:
            row[f"{name}_id"] = result.scores.get("test_id", {}).get(name)
            row[f"{name}_ood"] = result.scores.get("test_ood", {}).get(name)
            if name in drops:
                row[f"{name}_drop"] = mean_drop(drops[name].get(result.digest, ()))
                row[f"{name}_raw_drop"] = raw_drop(result, name)
        cost = (costs or {}).get(result.digest, result.cost)
        row |= {name: getattr(cost, name) for name in COST_COLUMNS}
        row["digest"] = result.digest
        rows.append(row)
    if not rows:
        return pd.DataFrame(columns=[*KEYS, "digest"])
    table = pd.DataFrame(rows)
    first = list(KEYS)
    table = table[first + [column for column in table.columns if column not in first]].dropna(axis=1, how="all")
    return table.sort_values([name for name in KEYS if name in table.columns], kind="stable").reset_index(drop=True)


def read_table(store: ResultStore) -> pd.DataFrame:
    """The table of all results in a store."""
    return results_table(list(store.results()), store.costs())
