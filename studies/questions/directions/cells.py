"""Probes of single axes and of directions over all axes, and how alike the directions of different groups are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.datasets.simulated import write_tables
from rs05bench.models.registry import model_card
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.result import Cell
from studies.questions.directions.probes import BestAxis, agreement, axes_in_use, correlations, direction
from studies.questions.setting import CARDS, Found, Own, Setting

PROBE, AXIS = "alphaearth/ridge", "alphaearth/best-axis"


@dataclass(frozen=True)
class Case:
    """Signals over the units of one data set.

    Attributes:
        key: Name of its task.
        folder: Folder of real data; empty for simulated ones.
        card: Example card, or simulated task.
        group: Group that moves.
        signals: Columns.
        made: Signals that are computed from other columns: name -> (plus, minus).
        where: Rows to keep: column -> value.
    """

    key: str
    folder: str
    card: str
    group: str
    signals: tuple[str, ...]
    made: dict[str, tuple[str, str]]
    where: dict[str, str]


CASES = (
    Case("radar", "aef_landcover", "aef_landcover", "region", ("S1_VV", "S1_VH"), {}, {}),
    Case(
        "phenology",
        "",
        "crop",
        "state",
        ("green_up", "green_down"),
        {"green_up": ("NDVI_2", "NDVI_1"), "green_down": ("NDVI_2", "NDVI_3")},
        {},
    ),
    Case("severity", "", "burn-scar", "region", ("severity",), {}, {"label": "burned"}),
)


def cells(setting: Setting) -> Found:
    """Probe and best axis for every signal and fold, and a table of the directions fitted in each group."""
    found = Found()
    lines: list[list[str]] = []
    for case in CASES:
        card, data = _written(setting, case)
        split = f"leave-{case.group}-out"
        bench = setting.bench(card, data, [split])
        found.results += setting.own(bench, _cells(bench, case, split))
        lines += _directions(bench.source, case)
    head = ["Signal", "Group", "Best axis", "its \\|r\\|", "Axes in use", "Lowest agreement with another group"]
    found.tables.append(("Directions of each group", pd.DataFrame(lines, columns=head)))
    return found


def _cells(bench: Any, case: Case, split: str) -> list[Own]:
    card = model_card(PROBE, bench.card)

    def make(cell: Cell) -> tuple[Any, Any]:
        if cell.model == AXIS:
            return BestAxis("alphaearth", "ridge", card=card.model_copy(update={"name": AXIS}), seed=cell.seed), bench.data(cell)
        return bench.model(cell), bench.data(cell)

    # All labels train, so another seed would give the same fit.
    return [
        (Cell(task=bench.card.name, target=signal, split=split, fold=fold, model=name, budget="full", seed=0), make)
        for signal in case.signals
        for fold in bench.manifest(split).folds
        for name in (PROBE, AXIS)
    ]


def _directions(source: Any, case: Case) -> list[list[str]]:
    names, X = source.features("alphaearth")
    frame = source.units().frame
    groups = frame[source.card.group_column(case.group)].to_numpy()
    lines = []
    for signal in case.signals:
        y = source.labels(signal).reindex(frame["unit_id"]).to_numpy(dtype=float)
        known = np.isfinite(X).all(1) & np.isfinite(y)
        Z, of, values = np.asarray(X[known], dtype=np.float64), groups[known], y[known]
        centre, spread = Z.mean(0), np.maximum(Z.std(0), 1e-9)
        covariance = np.cov(((Z - centre) / spread).T)
        there = [group for group in dict.fromkeys(of) if (of == group).sum() >= 60]
        fitted = {group: direction(Z[of == group], values[of == group], centre, spread) for group in there}
        for group in there:
            r = np.abs(correlations(Z[of == group], values[of == group]))
            others = [agreement(fitted[group], fitted[other], covariance) for other in there if other != group]
            lowest = f"{min(others):.2f}" if others else "–"
            lines.append([signal, str(group), names[int(r.argmax())], f"{r.max():.2f}", f"{axes_in_use(fitted[group]):.0f}", lowest])
    return lines


def _written(setting: Setting, case: Case) -> tuple[Path, Path]:
    """A regression card over the signals, and the folder of its table."""
    if case.folder:
        source, folder = CARDS / f"{case.card}.yaml", setting.data(case.folder)
    else:
        size = "tiny" if setting.quick else "small"
        source = write_tables(setting.store / "simulated" / case.key, tasks=[case.card], size=size)[case.card]
        folder = source.parent
    card = TaskCard.load(source)
    files = card.files
    if case.made or case.where:
        table = pd.concat([pd.read_csv(path) for pattern in files for path in sorted(folder.glob(pattern))], ignore_index=True)
        for column, value in case.where.items():
            table = table[table[column].astype(str) == value]
        table = table.assign(**{name: table[plus] - table[minus] for name, (plus, minus) in case.made.items()})
        folder, files = setting.store / "data" / case.key, ["table.csv"]
        folder.mkdir(parents=True, exist_ok=True)
        table.drop(columns=[".geo"], errors="ignore").to_csv(folder / "table.csv", index=False)
    changed = {
        "kind": "regression",
        "name": f"directions-{case.key}",
        "title": f"Signals in the embedding: {', '.join(case.signals)}",
        "targets": list(case.signals),
        "classes": None,
        "class_names": None,
        "features": {"alphaearth": card.features["alphaearth"]},
        "tiers": {},
        "never_features": [],
        "files": files,
        "splits": [f"leave-{case.group}-out"],
        "budgets": ["full"],
        "main_metric": "r2",
        "fairness_groups": [],
    }
    return setting.card(card, **changed), folder
