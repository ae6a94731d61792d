"""Mean scores of cells for reading: every model at every budget, over folds and seeds."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.splits import Split

HOME, ELSEWHERE, DROP = "in-domain", "out-of-domain", "drop"


@dataclass(frozen=True)
class Means:
    """One task, target and split.

    Attributes:
        same: What is the same in all rows: task, target, split, metric, and the model or the budget where there is one only.
        mean: Which mean the scores are, in words.
        rows: `model`, `budget` (where there are several), `in-domain`, `out-of-domain`, `drop`; by budget, best first.
    """

    same: tuple[str, ...]
    mean: str
    rows: pd.DataFrame


def means_of(table: pd.DataFrame) -> list[Means]:
    """Means over folds and seeds of a table of cells; splits that can be a main result first.

    Args:
        table: From `rs05bench.experiment.results.results_table`, or rows of it.
    """
    if table.empty:
        return []
    found = [
        _means(rows, (str(task), str(target), str(split)), str(metric))
        for (task, target, split, metric), rows in table.groupby(["task", "target", "split", "main_metric"], sort=False)
    ]
    return sorted(found, key=lambda one: (one.same[0], Split(one.same[2]).rule.rank))


def _means(rows: pd.DataFrame, names: tuple[str, str, str], metric: str) -> Means:
    better = find_metric(metric).higher_is_better is not False
    columns = {HOME: f"{metric}_id", ELSEWHERE: f"{metric}_ood", DROP: f"{metric}_drop"}
    columns = {name: column for name, column in columns.items() if column in rows.columns and rows[column].notna().any()}
    keys = ["model", "budget"]
    means = rows.groupby(keys, sort=False)[[*columns.values(), "labels_used"]].mean().reset_index()
    means = means.rename(columns={column: name for name, column in columns.items()})
    by = [name for name in (ELSEWHERE, HOME) if name in columns][:1]
    budgets = means.groupby("budget")["labels_used"].transform("mean")
    means = means.assign(_labels=budgets).sort_values(
        ["_labels", "budget", *by], ascending=[True, True, *[not better] * len(by)], kind="stable"
    )
    single = [name for name in keys if len(means) > 1 and (means[name] == means[name].iloc[0]).all()]
    words = "higher is better" if better else "lower is better"
    same = (*names, f"{metric} ({words})", *(str(means[name].iloc[0]) for name in single))
    shown = means[[*(name for name in keys if name not in single), *columns]].reset_index(drop=True)
    return Means(same, _words(rows, columns), shown)


def _words(rows: pd.DataFrame, columns: dict[str, str]) -> str:
    cells = rows.groupby(["model", "budget"]).size()
    folds, seeds = rows["fold"].nunique(), rows["seed"].nunique()
    count = f"{folds} fold{'' if folds == 1 else 's'} and {seeds} draw{'' if seeds == 1 else 's'} of labels"
    said = f"Mean over {count} of each cell's score"
    if (cells != folds * seeds).any():
        said += f" ({cells.min()} to {cells.max()} cells a row: some are missing)"
    if DROP in columns:
        said += "; drop is measured on the same test units, with their group in training and held out"
    return said
