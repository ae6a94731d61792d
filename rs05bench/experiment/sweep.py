"""Running a grid: resumable, crash-safe, with progress, here or on a cluster.

What is asked for is kept in the store (`grids/`), so that a sweep can be taken up, looked at and fixed by the folder alone.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from rs05bench.datasets.tables.design import design_flags
from rs05bench.experiment.cell import PREDICTED_ROLES, Bench, make_bench
from rs05bench.experiment.executors import Batch, Executor, Needs, make_executor
from rs05bench.experiment.executors.machine import accelerators, die_with_parent
from rs05bench.experiment.grid import choose_models, expand
from rs05bench.experiment.gridfile import GridFile, GridTask
from rs05bench.experiment.provenance import this_command
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.workers import Job, Outcome, measure_cost, stop_at_machine_error
from rs05bench.models.logs import check_loggers
from rs05bench.protocol.atomic import write_text, writing
from rs05bench.protocol.audit import warnings_of_table
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.result import Cell, Cost, ModelCard
from rs05bench.protocol.rules import ENCODER_TIERS

LARGEST_BATCH = 64
"""Cells handed to a worker at once: enough to share what they share; what is done is told cell by cell."""

Retry = Literal["all", "new", "failed"]


@dataclass
class SweepSummary:
    """What became of a sweep.

    Attributes:
        store: Folder of results.
        cells: Cells of the grid.
        reused: Those that had a result already.
        left: Those that failed before and were not tried again.
        done: Those that were run.
        skipped: Those whose model has nothing to answer there.
        failed: Those that failed.
        stopped: Whether it was interrupted.
        warnings: What the cells that were run warned of the data, and costs that could not be measured; each text once.
    """

    store: Path
    cells: int
    reused: int
    done: int = 0
    skipped: list[Outcome] = field(default_factory=list)
    failed: list[Outcome] = field(default_factory=list)
    stopped: bool = False
    left: int = 0
    warnings: list[str] = field(default_factory=list)


Progress = Callable[[Iterable[Outcome]], None]
Start = Callable[[list[Cell], int], None]


@dataclass
class OpenEntry:
    """One task of a grid, opened: its cells and their digests.

    Attributes:
        card: The task card.
        job: What a worker must know.
        cells: (digest, cell), in the order they are best run in.
        models: Cards of the models in use.
        needs: What each cell needs, aligned with `cells`.
        predicted: (split, fold) -> units a cell predicts.
        warnings: What the features of a table give away, where cells are to be run.
    """

    card: TaskCard
    job: Job
    cells: list[tuple[str, Cell]]
    models: dict[str, ModelCard]
    needs: list[Needs]
    predicted: dict[tuple[str, str], int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def sweep(
    grid: GridFile,
    out: str | Path,
    *,
    jobs: int | None = None,
    executor: str | Executor = "local",
    retry: Retry = "all",
    loggers: Sequence[str] = (),
    on_start: Start | None = None,
    on_progress: Progress | None = None,
) -> SweepSummary:
    """Runs every cell of a grid that has no result yet.

    Args:
        grid: The grid.
        out: Folder of results; may hold earlier ones.
        jobs: Worker processes of the local executor; default all cores.
        executor: `local`, `ray`, or one that was made.
        retry: Cells without a result to run: `all`, those `new` (no failure recorded), or those that `failed`.
        loggers: Lightning loggers of deep cells (`rs05bench.models.logs.LOGGERS`), writing to `logs/<digest>/`; part of no cell's digest.
        on_start: Called with all cells, those not to be run first, and how many those are.
        on_progress: Called with outcomes as they come.

    Returns:
        What was run, reused and what failed.
    """
    loggers = check_loggers(loggers)
    store = ResultStore(out)
    store.sweep_leftovers()
    summary = SweepSummary(Path(out), 0, 0)
    with _stoppable():
        try:
            entries = open_grid(grid, store, loggers=loggers)
            _remember(grid, entries, store)
            finished, failed = store.digests() | store.skipped(), store.failed()
            resting = {"all": set[str](), "new": failed}.get(retry)
            cells = [item for entry in entries for item in entry.cells]
            todo = {
                digest for digest, _ in cells if digest not in finished and (digest in failed if resting is None else digest not in resting)
            }
            summary.cells = len(cells)
            summary.reused = sum(digest in finished for digest, _ in cells)
            summary.left = len(cells) - summary.reused - len(todo)
            if on_start:
                on_start(sorted_by_state(cells, todo), len(cells) - len(todo))
            runner = make_executor(executor, jobs=jobs) if isinstance(executor, str) else executor
            runner.run(batches_of(entries, todo, jobs), lambda outcomes: _tell(outcomes, summary, on_progress))
            summary.warnings += warnings_of(store, [digest for digest, _ in cells if digest in todo])
            summary.warnings += list(dict.fromkeys(text for entry in entries for text in entry.warnings))
            if grid.costs:
                for entry in entries:
                    summary.warnings += measure_alone(entry, store)
        except KeyboardInterrupt:
            summary.stopped = True
    return summary


def warnings_of(store: ResultStore, digests: Iterable[str]) -> list[str]:
    """What results warn of the data they rest on, once where texts differ in their numbers alone.

    Args:
        store: The store.
        digests: Of cells; those without a result are passed over.
    """
    found: list[str] = []
    for digest in digests:
        try:
            text = (store.folder(digest) / "result.json").read_text(encoding="utf-8")
        except OSError:
            continue
        # A grid has thousands of results, and hardly one warns: only those are read in full.
        if '"warnings"' in text:
            found += json.loads(text).get("training", {}).get("warnings", [])
    # Every fold and seed warns of its own first batch, with its own percentile.
    return list({re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "#", text): text for text in reversed(found)}.values())[::-1]


def sorted_by_state(cells: Sequence[tuple[str, Cell]], todo: set[str]) -> list[Cell]:
    """Cells, those not to be run first."""
    return [cell for digest, cell in cells if digest not in todo] + [cell for digest, cell in cells if digest in todo]


def open_grid(grid: GridFile, store: ResultStore | None, *, keep: bool = True, loggers: tuple[str, ...] = ()) -> list[OpenEntry]:
    """Opens the tasks of a grid and lists their cells.

    Args:
        grid: The grid.
        store: The store the cells are for; None only lists them.
        keep: Whether card, manifests and labels are put into the store.
        loggers: Lightning loggers of deep cells.

    Raises:
        DataError: Data, names or models that are not there; a store that holds another manifest of the same name; an empty grid.
    """
    return [_open(grid, entry, store, keep and store is not None, loggers) for entry in grid.tasks]


def _open(grid: GridFile, entry: GridTask, store: ResultStore | None, keep: bool, loggers: tuple[str, ...]) -> OpenEntry:
    from rs05bench import models

    card = TaskCard.load(entry.card)
    data = entry.data or str(Path(entry.card).parent)
    splits, budgets = grid.splits_of(entry, card), grid.budgets_of(entry, card)
    names = choose_models(grid.of(entry, "models") or ["shallow"], card)
    bench = make_bench(card, data, splits, frozen=entry.manifests or ())
    kept = entry.card
    if keep and store is not None:
        kept = str(store.put_card(card).resolve())
        for manifest in bench.manifests.values():
            store.put_manifest(manifest)
        if len(bench.source.scored(card.targets[0]).known):
            store.put_labels(bench.source.digest, pd.DataFrame({target: bench.source.labels(target) for target in card.targets}))
    cells = expand(
        bench, names, splits, budgets, grid.of(entry, "seeds") or [0], grid.of(entry, "targets"), grid.of(entry, "folds"), entry.options
    )
    cards = {name: models.model_card(name, card) for name in names}
    cells = sorted((cell for cell in cells if grid.keeps(cell)), key=lambda cell: _near(cell, cards[cell.model], splits, budgets))
    usual = {name: Needs(gpus=int(_deep(model) and bool(accelerators()))) for name, model in cards.items()}
    root = "" if store is None else str(store.root.resolve())
    job = Job(kept, str(Path(data).resolve()), root, tuple(splits), grid.keep_predictions, this_command(), loggers)
    needs = [grid.needs_of(cell, usual[cell.model]) for cell in cells]
    listed = [(digest_of(bench, cell), cell) for cell in cells]
    new = keep and store is not None and not {digest for digest, _ in listed} <= set(store.digests())
    return OpenEntry(card, job, listed, cards, needs, _predicted_units(bench, cells), _of_the_data(bench) if new else [])


def _of_the_data(bench: Bench) -> list[str]:
    """What a table gives away under the split that tells most, and designs under which no score says anything of the ground."""
    known = bench.source.scored(bench.card.targets[0]).known
    if known.empty:  # labels of pixels
        return []
    manifest = min(bench.manifests.values(), key=lambda one: one.split.rule.rank, default=None)
    units = bench.source.units()
    flags = design_flags(units.frame, bench.source.labels(bench.card.targets[0]), units.groups, bench.card.kind)
    said = [*(flag.sentence for flag in flags), *warnings_of_table(bench.source, manifest)]
    return [f"{bench.card.name}: {text}" for text in said]


def _predicted_units(bench: Bench, cells: Sequence[Cell]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for split, fold in dict.fromkeys((cell.split, cell.fold) for cell in cells):
        counts = bench.manifest(split).fold(fold)["role"].value_counts()
        found[split, fold] = int(sum(counts.get(role, 0) for role in PREDICTED_ROLES))
    return found


def digest_of(bench: Bench, cell: Cell) -> str:
    """A cell's digest."""
    return bench.digest(cell)


def _deep(model: ModelCard) -> bool:
    return model.tier in ENCODER_TIERS or model.learner.partition("@")[0] in ("unet", "segformer", "conv1x1")


def _near(cell: Cell, model: ModelCard, splits: list[str], budgets: list[str]) -> tuple[object, ...]:
    """Order in which cells that share stand together.

    Shallow ones by fold, so that what a model may see is made once; deep ones by backbone, so that an encoder and its features serve all.
    """
    deep = _deep(model)
    backbone = model.inputs if deep else ""
    return (deep, cell.target, backbone, splits.index(cell.split), cell.fold, budgets.index(cell.budget), cell.seed)


def batches_of(entries: Sequence[OpenEntry], todo: set[str], jobs: int | None = None) -> list[Batch]:
    """Batches of what is to be run: cells of one fold and like needs; deep cells one by one."""
    workers = jobs or 2
    size = max(1, min(LARGEST_BATCH, len(todo) // (4 * workers)))
    batches: list[Batch] = []
    for entry in entries:
        for (digest, cell), needs in zip(entry.cells, entry.needs, strict=True):
            if digest not in todo:
                continue
            fold = (cell.target, cell.split.base, cell.fold)
            last = batches[-1] if batches else None
            alone = _deep(entry.models[cell.model])
            if last and not alone and last.job == entry.job and last.fold == fold and last.needs == needs and len(last.cells) < size:
                last.cells.append((digest, cell))
            else:
                batches.append(Batch(entry.job, [(digest, cell)], needs, (*fold, cell.model) if alone else fold))
    return batches


def measure_alone(entry: OpenEntry, store: ResultStore) -> list[str]:
    """Measures one cell per target, split, model and budget in a fresh process with nothing beside it.

    Returns:
        Which could not be measured and why, a sentence each; their cells keep the times they had beside others.
    """
    known, done = store.costs(), store.digests()
    chosen: dict[tuple[str, str, str, str], tuple[str, Cell, Needs]] = {}
    listed = [(digest, cell, needs) for (digest, cell), needs in zip(entry.cells, entry.needs, strict=True)]
    for digest, cell, needs in sorted(listed, key=lambda item: (item[1].fold, item[1].seed)):
        if digest in done:
            chosen.setdefault((cell.target, cell.split, cell.model, cell.budget), (digest, cell, needs))
    faults: list[str] = []
    for digest, cell, needs in chosen.values():
        if digest in known:
            continue
        try:
            told, cost = _measured(entry.job, cell, needs)
        except Exception as error:  # whatever a model may raise; the other measurements go on
            stop_at_machine_error(error)
            died = isinstance(error, BrokenProcessPool)
            why = "its process died (killed, or out of memory)" if died else f"{type(error).__name__}: {error}"
            faults.append(f"no cost alone of {cell.model}, {cell.split} / {cell.fold}, {cell.budget}: {why.splitlines()[0]}")
            continue
        store.put_cost(told, cost)
    return faults


def _measured(job: Job, cell: Cell, needs: Needs) -> tuple[str, Cost]:
    from rs05bench.experiment.executors.local import worker_context

    # As the local executor gives its workers: one accelerator to a cell that wants any, and none to others.
    device = next(iter(accelerators()), "") if needs.gpus > 0 else ""
    with ProcessPoolExecutor(1, mp_context=worker_context(), initializer=_alone, initargs=(device,)) as pool:
        return pool.submit(measure_cost, job, cell).result()


def _alone(device: str) -> None:
    """Prepares a process that measures: one thread, and the accelerators of its cell.

    Torch and the boosters load an OpenMP of their own, which reads its threads when it is loaded; what is loaded here already is limited
    by `measure_cost`.
    """
    die_with_parent()
    os.environ["CUDA_VISIBLE_DEVICES"] = device
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))


def _tell(outcomes: Sequence[Outcome], summary: SweepSummary, on_progress: Progress | None) -> None:
    summary.done += sum(outcome.ok and not outcome.skipped for outcome in outcomes)
    summary.skipped += [outcome for outcome in outcomes if outcome.skipped]
    summary.failed += [outcome for outcome in outcomes if not outcome.ok]
    if on_progress and outcomes:
        on_progress(outcomes)


def _remember(grid: GridFile, entries: Sequence[OpenEntry], store: ResultStore) -> None:
    """Keeps what was asked for, with the digests of its cells, so that its state can be told without opening the data."""
    text = grid.text()
    path = store.root / "grids" / f"{grid.digest[:16]}.yaml"
    if not path.is_file():
        write_text(path, text)
    rows = [
        {**cell.model_dump(exclude={"options"}), "tier": entry.models[cell.model].tier, "digest": digest}
        for entry in entries
        for digest, cell in entry.cells
    ]
    table = path.with_suffix(".parquet")
    if table.is_file() and list(pd.read_parquet(table, columns=["digest"])["digest"]) == [row["digest"] for row in rows]:
        return
    with writing(table) as part:
        pd.DataFrame(rows).to_parquet(part, index=False)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Has SIGTERM stop a sweep as Ctrl-C does: workers end, what is stored stays."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
