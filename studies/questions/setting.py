"""Where a study runs: its data, its store, how much of it; and the two ways its cells come about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from rs05bench.errors import DataError
from rs05bench.experiment.cell import Bench, make_bench, run_cell
from rs05bench.experiment.gridfile import GridFile
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import open_grid
from rs05bench.experiment.sweep import sweep as run_grid
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.result import Cell, Model, Result

from .page import Row

CARDS = Path(__file__).parents[2] / "examples" / "cards"

Own = tuple[Cell, Callable[[Cell], tuple[Model, Any]]]
"""A cell whose model or data no registry makes: the cell, and what makes its unfitted model and what that may see."""


@dataclass(frozen=True)
class Setting:
    """Where a study runs.

    Attributes:
        store: Folder of its results; taken up where it stopped.
        real: Folder of real data.
        jobs: Worker processes.
        quick: One seed, two budgets at most: for trying the steps; its numbers answer nothing.
        run_missing: False runs nothing and reads what is there.
    """

    store: Path
    real: Path
    jobs: int = 1
    quick: bool = False
    run_missing: bool = True

    def data(self, name: str) -> Path:
        """A folder of real data.

        Raises:
            DataError: It is absent.
        """
        if not (self.real / name).is_dir():
            raise DataError(f"{name!r} is not in the folder of real data", source=self.real, remedy="Set RS05BENCH_REAL, or --data DIR.")
        return self.real / name

    def card(self, card: TaskCard, **changes: Any) -> Path:
        """A card with some fields changed, kept in the store's folder under its name."""
        changed = TaskCard.model_validate(card.model_dump() | changes)
        path = self.store / "asked" / f"{changed.name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        changed.save(path)
        return path

    def sweep(
        self,
        card: Path,
        data: Path,
        *,
        models: list[str],
        splits: list[str],
        budgets: list[str],
        seeds: str = "0-4",
        targets: list[str] | None = None,
        options: dict[str, Any] | None = None,
    ) -> list[Result]:
        """Runs what is missing of a grid and reads what is there, in the grid's order."""
        entry = {"card": str(card.resolve()), "data": str(data.resolve())} | ({"options": options} if options else {})
        fields = {"models": models, "splits": splits, "budgets": budgets[:2] if self.quick else budgets, "targets": targets}
        grid = GridFile.model_validate(
            {"kind": "grid", "tasks": [entry], "seeds": "0" if self.quick else seeds, "costs": False, "keep_predictions": False}
            | {name: value for name, value in fields.items() if value is not None}
        )
        if self.run_missing:
            run_grid(grid, self.store, jobs=self.jobs)
        store = ResultStore(self.store)
        digests = [digest for one in open_grid(grid, store) for digest, _ in one.cells]
        return [store.read(digest) for digest in digests if digest in store]

    def own(self, bench: Bench, cells: Iterable[Own]) -> list[Result]:
        """Runs cells that make their own model and data, one after another in this process, and keeps their results as any other's."""
        store = ResultStore(self.store)
        store.put_card(bench.card)
        for manifest in bench.manifests.values():
            store.put_manifest(manifest)
        found = []
        for cell, make in cells:
            digest = bench.digest(cell)
            if digest not in store and self.run_missing:
                model, data = make(cell)
                store.write(run_cell(bench, cell, model=model, data=data)[0], None)
            if digest in store:
                found.append(store.read(digest))
        return found

    def bench(self, card: Path, data: Path, splits: list[str]) -> Bench:
        """A task opened in this process."""
        return make_bench(TaskCard.load(card), data, splits)


@dataclass
class Found:
    """What a study's `cells.py` found.

    Attributes:
        results: Cells beside those of the grids.
        rows: Comparisons beside those of the record.
        tables: Further tables: title and content.
    """

    results: list[Result] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    tables: list[tuple[str, pd.DataFrame]] = field(default_factory=list)
