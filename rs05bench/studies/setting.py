"""Where a study runs: its data, its store, how much of it; and the two ways its cells come about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rs05bench.errors import DataError
from rs05bench.experiment.cell import Bench, make_bench, run_cell
from rs05bench.experiment.executors import Batch, Tell
from rs05bench.experiment.gridfile import GridFile
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import open_grid, sweep_grid
from rs05bench.experiment.workers import run_cells
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.result import Cell, Model, Result

Own = tuple[Cell, Callable[[Cell], tuple[Model, Any]]]
"""A cell whose model or data no registry makes: the cell, and what makes its unfitted model and what that may see."""


class Here:
    """Runs cells in this process, one after another: a study of many small grids would spend its time on starting workers."""

    def run(self, batches: Sequence[Batch], tell: Tell) -> None:
        """See `rs05bench.experiment.executors.Executor`."""
        for batch in batches:
            run_cells(batch.job, [cell for _, cell in batch.cells], done=lambda outcome: tell([outcome]))


@dataclass
class Setting:
    """Where a study runs.

    Attributes:
        store: Folder of its results; taken up where it stopped.
        real: Folder of real data, None where there is none.
        sources: Other folders of results: a cell that is there is taken over instead of run.
        jobs: Worker processes.
        quick: The fewest cells that go through every step.
        run_missing: False runs nothing and reads what is there.
        tell: Told one line of what is going on.
        missing: Cells that were asked for and have no result.
        without_sums: Results of an earlier version that keep no sums per block, from which nothing here can be computed.
        failures: What went wrong, a line a failed cell.
    """

    store: Path
    real: Path | None = None
    sources: Sequence[Path] = ()
    jobs: int = 1
    quick: bool = False
    run_missing: bool = True
    tell: Callable[[str], None] = lambda line: None
    missing: int = field(default=0, init=False)
    without_sums: int = field(default=0, init=False)
    failures: list[str] = field(default_factory=list, init=False)

    def folder(self, name: str) -> Path | None:
        """A folder of real data, None where it is absent."""
        found = None if self.real is None else self.real / name
        return found if found is not None and found.is_dir() else None

    def simulated(self, task: str, *, size: str | None = None) -> Path:
        """Card of a simulated table, written into the store's folder where it is missing; its data lie beside it."""
        from rs05bench.datasets.simulated import write_tables

        size = size or ("tiny" if self.quick else "small")
        folder = self.store / "data" / size
        card = folder / task / "card.yaml"
        return card if card.is_file() else write_tables(folder, tasks=[task], size=size)[task]

    def card(self, card: TaskCard, **changes: Any) -> Path:
        """A card with some fields changed, kept in the store's folder under its name."""
        changed = TaskCard.model_validate(card.model_dump() | changes)
        path = self.store / "asked" / f"{changed.name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        changed.save(path)
        return path

    def sweep(self, grid: GridFile) -> list[Result]:
        """Runs what is missing of a grid and reads what is there, in the grid's order.

        Raises:
            DataError: No cell of it has a result.
        """
        grid = grid.model_copy(update={"costs": False, "keep_predictions": False})
        store = ResultStore(self.store)
        digests = [digest for entry in open_grid(grid, store) for digest, _ in entry.cells]
        self._take_over(digests)
        if self.run_missing:
            self.tell(f"{len(digests)} cells, {sum(digest not in store for digest in digests)} to run")
            summary = sweep_grid(grid, self.store, jobs=self.jobs, executor="local" if self.jobs > 1 else Here())
            self.failures += [f"{outcome.model}: {outcome.error.splitlines()[0]}" for outcome in summary.failed if outcome.error]
            if summary.stopped:
                raise KeyboardInterrupt
        return self._read(digests)

    def own(self, bench: Bench, cells: Iterable[Own]) -> list[Result]:
        """Runs cells that make their own model and data, one after another in this process, and keeps their results as any other's.

        Raises:
            DataError: No cell has a result.
        """
        from threadpoolctl import threadpool_limits

        store = ResultStore(self.store)
        store.put_card(bench.card)
        for manifest in bench.manifests.values():
            store.put_manifest(manifest)
        asked = [(bench.digest(cell), cell, make) for cell, make in cells]
        self._take_over([digest for digest, _, _ in asked])
        todo = [item for item in asked if item[0] not in store] if self.run_missing else []
        self.tell(f"{len(asked)} cells, {len(todo)} to run")
        with threadpool_limits(1):
            for _, cell, make in todo:
                model, data = make(cell)
                result, _ = run_cell(bench, cell, model=model, data=data)
                store.write(result, None)
        return self._read([digest for digest, _, _ in asked])

    def bench(self, card: Path, data: Path, splits: Sequence[str]) -> Bench:
        """A task opened in this process."""
        return make_bench(TaskCard.load(card), data, splits)

    def _take_over(self, digests: Sequence[str]) -> None:
        """Copies finished cells of other stores: a digest covers card, manifest, data and model, so what is there is what would be run."""
        store = ResultStore(self.store)
        for digest in digests:
            if digest in store:
                continue
            source = next((other for other in map(ResultStore, self.sources) if digest in other), None)
            if source is not None and (result := source.read(digest)).sums:
                store.write(result, None)

    def _read(self, digests: Sequence[str]) -> list[Result]:
        store = ResultStore(self.store)
        there = [digest for digest in digests if digest in store]
        self.missing += len(digests) - len(there)
        if not there:
            why = f"; the first fault: {self.failures[0]}" if self.failures else ""
            raise DataError(f"no cell of the study has a result{why}", source=self.store, remedy="Run it without --no-run.")
        results = [store.read(digest) for digest in there]
        kept = [result for result in results if result.sums]
        self.without_sums += len(results) - len(kept)
        if not kept:
            raise DataError(
                "its results keep no sums: they are of an earlier version", source=self.store, remedy="Run the study into a new folder."
            )
        return kept

    def state(self) -> Iterator[str]:
        """What a reader has to know of what is not there."""
        if self.missing:
            yield f"{self.missing} cells that the design asks for have no result and are left out."
        if self.without_sums:
            yield f"{self.without_sums} results of an earlier version keep no sums per test block and are left out."
        for fault in dict.fromkeys(self.failures):
            yield f"Failed: {fault}"
        if self.quick:
            yield "A quick run of the fewest cells that go through every step: its numbers answer nothing."


CARDS = (Path(__file__).parent / "cards", Path(__file__).parents[2] / "examples" / "cards")


def example_card(name: str) -> Path:
    """A card that is shipped as an example: inside the installed package, or in the checkout.

    Raises:
        DataError: There is none of this name.
    """
    found = next((path for folder in CARDS if (path := folder / f"{name}.yaml").is_file()), None)
    if found is None:
        raise DataError(f"no example card {name!r}", source=CARDS[-1], remedy="Reinstall the package.")
    return found


def needed(setting: Setting, name: str, study: str) -> Path:
    """A folder of real data that a study cannot do without.

    Raises:
        DataError: It is absent.
    """
    found = setting.folder(name)
    if found is None:
        where = "no folder of real data was given" if setting.real is None else f"{name!r} is not in it"
        raise DataError(
            f"the study {study} needs the real data {name!r}, and {where}",
            source=setting.real or "real data",
            remedy="Give the folder that holds it: --data DIR, or set RS05BENCH_REAL.",
        )
    return found
