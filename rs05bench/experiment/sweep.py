"""Running a grid on all cores of one machine: resumable, crash-safe, with progress."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from rs05bench.experiment.cell import Bench, make_bench
from rs05bench.experiment.grid import expand
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.workers import Job, Outcome, measure_cost, run_cells
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.result import Cell

BATCH = 16
"""Cells handed to a worker at once: large enough to hide the hand-over, small enough that little is lost with a worker."""
MOST_CRASHES = 3
"""A cell whose worker died this often is recorded as failed."""


@dataclass
class SweepSummary:
    """What became of a sweep."""

    store: Path
    cells: int
    reused: int
    done: int = 0
    failed: list[Outcome] = field(default_factory=list)
    stopped: bool = False


Progress = Callable[[Iterable[Outcome]], None]


def sweep(
    card_path: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    models: Sequence[str],
    splits: Sequence[str] | None = None,
    budgets: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    targets: Sequence[str] | None = None,
    folds: Sequence[str] | None = None,
    jobs: int | None = None,
    keep_predictions: bool = True,
    costs: bool = True,
    on_start: Callable[[list[Cell], int], None] | None = None,
    on_progress: Progress | None = None,
) -> SweepSummary:
    """Runs every cell of a grid that has no result yet.

    Args:
        card_path: Task card.
        data: Data directory.
        out: Folder of results; may hold earlier ones.
        models: Model names.
        splits: Default the card's.
        budgets: Default the card's.
        seeds: Seeds.
        targets: Default the card's.
        folds: Default all.
        jobs: Worker processes; default all cores.
        keep_predictions: Whether to keep predictions beside results.
        costs: Whether to measure, when all is done, one cell per target, split, model and budget alone in a fresh process.
        on_start: Called with all cells and how many are done already.
        on_progress: Called with outcomes as they come.

    Returns:
        What was run, reused and what failed.
    """
    card = TaskCard.load(card_path)
    bench = make_bench(card, data, splits or card.splits)
    store = ResultStore(out)
    store.sweep_leftovers()
    kept = store.put_card(card)
    for manifest in bench.manifests.values():
        store.put_manifest(manifest)
    if card.kind != "segmentation":
        store.put_labels(bench.source.digest, pd.DataFrame({target: bench.source.labels(target) for target in card.targets}))
    cells = expand(bench, models, splits or card.splits, budgets or card.budgets, seeds, targets, folds)
    finished = store.digests()
    todo = [cell for cell in cells if bench.digest(cell) not in finished]
    summary = SweepSummary(Path(out), len(cells), len(cells) - len(todo))
    if on_start:
        on_start(cells, summary.reused)
    job = Job(str(kept.resolve()), str(Path(data).resolve()), str(Path(out).resolve()), tuple(splits or card.splits), keep_predictions)
    run_local(job, bench, todo, jobs or os.cpu_count() or 1, summary, on_progress)
    if costs and not summary.stopped:
        measure_alone(job, bench, store, cells)
    return summary


def run_local(job: Job, bench: Bench, cells: Sequence[Cell], jobs: int, summary: SweepSummary, on_progress: Progress | None) -> None:
    """Runs cells in worker processes; a worker that dies takes nothing with it but its unfinished batch, which is run again."""
    waiting = [list(cells[start : start + BATCH]) for start in range(0, len(cells), BATCH)]
    crashes: Counter[str] = Counter()
    while waiting and not summary.stopped:
        with ProcessPoolExecutor(min(jobs, len(waiting)), mp_context=_context()) as pool:
            running: dict[Future[list[Outcome]], list[Cell]] = {}
            try:
                while waiting or running:
                    while waiting and len(running) < 2 * jobs:
                        batch = waiting.pop(0)
                        running[pool.submit(run_cells, job, batch)] = batch
                    ready, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in ready:
                        outcomes = future.result()
                        running.pop(future)
                        _tell(outcomes, summary, on_progress)
            except BrokenProcessPool:
                waiting = _again(list(running.values()), bench, job, crashes, summary, on_progress) + waiting
            except KeyboardInterrupt:
                summary.stopped = True
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list((pool._processes or {}).values()):
                    process.terminate()


def _again(
    batches: list[list[Cell]], bench: Bench, job: Job, crashes: Counter[str], summary: SweepSummary, on_progress: Progress | None
) -> list[list[Cell]]:
    """The cells that were with workers when one died, one a batch from the second time on, without those that keep killing."""
    store = ResultStore(job.store)
    again: list[list[Cell]] = []
    for batch in batches:
        left = [cell for cell in batch if bench.digest(cell) not in store]
        finished = [Outcome(bench.digest(cell), cell.model, True, 0.0) for cell in batch if cell not in left]
        _tell(finished, summary, on_progress)
        for cell in left:
            digest = bench.digest(cell)
            crashes[digest] += 1
            if crashes[digest] >= MOST_CRASHES and len(batch) == 1:
                error = "its worker process died (killed, or out of memory)"
                store.fail(digest, cell, error)
                _tell([Outcome(digest, cell.model, False, 0.0, error)], summary, on_progress)
            else:
                again.append([cell])
    return again


def _tell(outcomes: list[Outcome], summary: SweepSummary, on_progress: Progress | None) -> None:
    summary.done += sum(outcome.ok for outcome in outcomes)
    summary.failed += [outcome for outcome in outcomes if not outcome.ok]
    if on_progress and outcomes:
        on_progress(outcomes)


def measure_alone(job: Job, bench: Bench, store: ResultStore, cells: Sequence[Cell]) -> int:
    """Measures one cell per target, split, model and budget in a fresh process with nothing beside it; returns how many."""
    known = store.costs()
    done = store.digests()
    chosen: dict[tuple[str, str, str, str], Cell] = {}
    for cell in sorted(cells, key=lambda cell: (cell.fold, cell.seed)):
        if bench.digest(cell) in done:
            chosen.setdefault((cell.target, cell.split, cell.model, cell.budget), cell)
    measured = 0
    context = _context()
    for cell in chosen.values():
        if bench.digest(cell) in known:
            continue
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            try:
                digest, cost = pool.submit(measure_cost, job, cell).result()
            except BrokenProcessPool:
                continue
        store.put_cost(digest, cost)
        measured += 1
    return measured


def _context() -> multiprocessing.context.BaseContext:
    """Fresh processes that start fast: forked from a server that has imported the libraries and touched no data."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rs05bench.experiment.workers", "rs05bench.models.shallow", "sklearn.linear_model", "pyarrow.parquet"])
    return context
