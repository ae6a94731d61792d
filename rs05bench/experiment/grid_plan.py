"""What a grid would take: cells, what is done, time, memory and cost from stored costs of similar cells, and the rules it would break."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.experiment.gridfile import GridFile
from rs05bench.experiment.query import read_index
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import OpenEntry, open_grid
from rs05bench.protocol.result import Result
from rs05bench.protocol.rules import RuleVerdict, check_rules

SIMILAR = (
    ("task", "split", "model", "budget"),
    ("task", "model", "budget"),
    ("model", "budget"),
    ("model",),
    ("learner", "budget"),
    ("tier",),
)
"""Which cells are similar: the first of these names that finds any stored cost counts."""
OF_THE_GRID = (2, 6, 7, 8, 11, 12)
"""Rules that the choice of cells alone can break; the others are judged when there are results."""


@dataclass
class TierPlan:
    """What one tier of one task would take."""

    task: str
    tier: str
    cells: int
    done: int
    failed: int
    seconds: float | None
    memory_mb: float | None
    device_hours: float
    unknown: int


@dataclass
class GridPlan:
    """What a grid would take.

    Attributes:
        cells: Cells of the grid.
        done: Those with a result.
        failed: Those with a recorded failure and no result.
        seconds: Predicted work of what is left, seconds of one worker.
        wall_seconds: The same over the workers.
        memory_mb: Largest predicted memory of a cell, MiB.
        memory_together_mb: The same of the largest cells that may run at once, MiB; to this come what a worker itself and its data take.
        device_hours: Predicted hours on accelerators.
        price: `seconds` and `device_hours` in money, where prices were given.
        unknown: Cells left that nothing like them has a stored cost for; they are not in the prediction.
        tiers: The same by task and tier.
        lacking: Rules that the grid would break whatever comes out.
    """

    cells: int
    done: int
    failed: int
    seconds: float
    wall_seconds: float
    memory_mb: float | None
    memory_together_mb: float | None
    device_hours: float
    price: float | None
    unknown: int
    tiers: list[TierPlan] = field(default_factory=list)
    lacking: list[RuleVerdict] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {"lacking": [verdict.model_dump() for verdict in self.lacking]}


def plan_grid(
    grid: GridFile,
    runs: str | Path | None = None,
    *,
    costs_from: Sequence[str | Path] = (),
    jobs: int = 1,
    price_hour: float | None = None,
    price_device_hour: float | None = None,
) -> GridPlan:
    """Plans a grid. Opens the data, for they say which folds there are; runs nothing, and writes nothing but the index of results.

    Args:
        grid: The grid.
        runs: Folder its results would go to, where there is one.
        costs_from: Further folders of results to learn costs from.
        jobs: Workers.
        price_hour: Price of an hour of one worker.
        price_device_hour: Price of an hour of an accelerator.
    """
    store = None if runs is None else ResultStore(runs)
    entries = open_grid(grid, store, keep=False)
    known = _known([*([runs] if runs else []), *costs_from])
    finished, failed = (store.digests() | store.skipped(), store.failed()) if store else (set(), set())
    rows = pd.DataFrame(
        [
            {"task": cell.task, "split": cell.split, "model": cell.model, "budget": cell.budget, "learner": cell.model.rpartition("/")[2]}
            | {"tier": entry.models[cell.model].tier, "done": digest in finished, "failed": digest in failed and digest not in finished}
            | {"units": entry.predicted.get((cell.split, cell.fold), 0)}
            for entry in entries
            for digest, cell in entry.cells
        ]
    )
    rows = pd.concat([rows, _predicted(rows, known)], axis=1)
    left = rows[~rows["done"]]
    work = float(left["seconds"].sum())
    device = float(left["device_hours"].sum())
    price = None
    if price_hour is not None or price_device_hour is not None:
        price = work / 3600 * (price_hour or 0.0) + device * (price_device_hour or 0.0)
    return GridPlan(
        cells=len(rows),
        done=int(rows["done"].sum()),
        failed=int(rows["failed"].sum()),
        seconds=work,
        wall_seconds=work / max(jobs, 1),
        memory_mb=_largest(left["memory_mb"]),
        memory_together_mb=_largest(left["memory_mb"], max(jobs, 1)),
        device_hours=device,
        price=price,
        unknown=int(left["seconds"].isna().sum()),
        tiers=[_tier(str(task), str(tier), part) for (task, tier), part in rows.groupby(["task", "tier"], sort=False)],
        lacking=_lacking(entries),
    )


def _tier(task: str, tier: str, rows: pd.DataFrame) -> TierPlan:
    left = rows[~rows["done"]]
    seconds = left["seconds"].dropna()
    return TierPlan(
        task,
        tier,
        len(rows),
        int(rows["done"].sum()),
        int(rows["failed"].sum()),
        float(seconds.sum()) if len(seconds) or not len(left) else None,
        _largest(left["memory_mb"]),
        float(left["device_hours"].sum()),
        int(left["seconds"].isna().sum()),
    )


def _largest(values: pd.Series, count: int = 1) -> float | None:
    values = values.dropna()
    return float(values.nlargest(count).sum()) if len(values) else None


def _known(folders: Sequence[str | Path]) -> pd.DataFrame:
    """Stored costs of all folders, a row a result."""
    wanted = ["task", "split", "model", "tier", "budget", "fit_s", "predict_s_per_1000", "peak_memory_mb", "device_hours", "labels_used"]
    parts = []
    for folder in folders:
        if (Path(folder) / "cells").is_dir():
            table = read_index(ResultStore(folder))
            parts.append(table.reindex(columns=wanted))
    known = (
        pd.concat([part for part in parts if len(part)], ignore_index=True)
        if any(len(part) for part in parts)
        else pd.DataFrame(columns=wanted)
    )
    known["learner"] = known["model"].astype(str).str.rpartition("/")[2] if len(known) else pd.Series(dtype=object)
    return known


def _predicted(rows: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Median time, largest memory and median device hours of the most similar cells that have stored costs; NaN where there are none.

    Time is that of the fit, and of the prediction by unit times the units of the fold.
    """
    found = pd.DataFrame({"seconds": np.nan, "memory_mb": np.nan, "device_hours": np.nan}, index=rows.index)
    if not len(known):
        return found
    for names in SIMILAR:
        grouped = known.groupby(list(names)).agg(
            seconds=("fit_s", "median"),
            each=("predict_s_per_1000", "median"),
            memory_mb=("peak_memory_mb", "max"),
            device_hours=("device_hours", "median"),
        )
        matched = rows[list(names)].join(grouped, on=list(names))
        matched["seconds"] = matched["seconds"] + matched["each"].fillna(0.0) * rows["units"] / 1000
        for column in found.columns:
            found[column] = found[column].fillna(pd.to_numeric(matched[column]))
    return found


def _lacking(entries: Sequence[OpenEntry]) -> list[RuleVerdict]:
    """Rules that the cells break whatever comes out of them."""
    results = [
        Result(
            cell=cell,
            digest=digest,
            kind=entry.card.kind,
            main_metric=entry.card.main_metric,
            higher_is_better=True,
            simulated=entry.card.simulated,
            model=entry.models[cell.model],
            scores={},
            digests={"manifest": "planned"},
            main=cell.split.rule.may_be_main,
        )
        for entry in entries
        for digest, cell in entry.cells
    ]
    verdicts = check_rules(results, cards=[entry.card for entry in entries])
    return [verdict for verdict in verdicts if verdict.rule in OF_THE_GRID and verdict.verdict == "fail"]
