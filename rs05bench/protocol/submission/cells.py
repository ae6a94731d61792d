"""The cells of a submission: rows of `predictions.parquet`, checked against the board, and complete."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from rs05bench.errors import BenchError
from rs05bench.protocol.map_predictions import SAMPLE_PIXELS, MapPredictions, sample_pixels
from rs05bench.protocol.predictions import PROBABILITY_PREFIX, Predictions, TablePredictions
from rs05bench.protocol.scoring import TEST_ROLES
from rs05bench.protocol.submission.board import Board, BoardTask, units_digest
from rs05bench.protocol.submission.faults import Faults, HostileError, shown
from rs05bench.protocol.submission.folder import MAPS, RECORD, SAMPLES, TABLE, OpenedSubmission
from rs05bench.protocol.submission.limits import Limits
from rs05bench.protocol.submission.reading import ChipPlace, check_chip, read_table
from rs05bench.protocol.submission.schema import CellName

CELL = ("task", "target", "split", "fold", "budget", "seed")
VALUES = ("y", "lower", "upper")


@dataclass(slots=True)
class ReadCell:
    """A cell that passed.

    Attributes:
        name: Which cell.
        task: Its task on the board.
        predictions: Its predictions.
        units: Predicted units.
        digest: Digest of the predictions.
        places: Chip -> where its map is; empty for tables.
    """

    name: CellName
    task: BoardTask
    predictions: Predictions
    units: int
    digest: str
    places: dict[str, ChipPlace] = field(default_factory=dict, repr=False)


def read_cells(opened: OpenedSubmission, board: Board, limits: Limits, faults: Faults) -> list[ReadCell]:
    """Reads every cell and checks it on its own; a cell with a fault is left out, and the fault kept.

    Raises:
        HostileError: The table cannot be read.
    """
    classes = dict.fromkeys(f"{PROBABILITY_PREFIX}{value}" for task in board.tasks for value in task.classes or ())
    text = dict.fromkeys(("task", "target", "split", "fold", "budget", "unit_id", "role", "map"), "text")
    columns = text | {"seed": "whole"} | dict.fromkeys((*VALUES, *classes), "number")
    loose = ("target", "map", *VALUES, *classes)
    frame = read_table(opened.root / TABLE, columns, limits, TABLE, optional=loose, gaps=loose)
    samples = _read_samples(opened, list(classes), limits)
    if "target" not in frame:
        frame["target"] = ""
    for task in board.tasks:
        if len(task.targets) == 1:
            frame.loc[(frame["task"] == task.task) & (frame["target"] == ""), "target"] = task.targets[0]
    frame.loc[frame["target"] == "", "target"] = "none"
    found: list[ReadCell] = []
    used: set[str] = set()
    for key, rows in frame.groupby(list(CELL), sort=True, observed=True):
        try:
            name = CellName.model_validate(dict(zip(CELL, (*key[:5], int(key[5])), strict=True)))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            faults.add(f"{TABLE}: {shown('/'.join(map(str, key)), 120)}: {first['loc'][0]}: {shown(first['msg'], 160)}")
            continue
        cell = _read_cell(opened, name, rows.drop(columns=list(CELL)), samples, board, limits, faults)
        if cell is not None:
            found.append(cell)
        if "map" in rows:
            used |= set(rows["map"]) - {""}
    for extra in sorted(set(opened.files) - used - {TABLE, SAMPLES}):
        faults.add(f"{extra}: no row of {TABLE} names it")
    return found


def _read_cell(
    opened: OpenedSubmission, name: CellName, rows: pd.DataFrame, samples: pd.DataFrame | None, board: Board, limits: Limits, faults: Faults
) -> ReadCell | None:
    before = faults.count
    task = _on_board(name, board, opened, faults)
    if task is None or faults.count > before:
        return None
    _check_units(rows, name, task, faults)
    try:
        if task.about.pixel_labels:
            return _read_maps(opened, name, rows, samples, task, limits, faults)
        return _read_units(rows, name, task, faults)
    except HostileError as error:
        faults.add(str(error))
    except BenchError as error:
        faults.add(str(error).replace(str(opened.root), "").lstrip("/"), name)
    return None


def _on_board(cell: CellName, board: Board, opened: OpenedSubmission, faults: Faults) -> BoardTask | None:
    task = board.task(cell.task)
    if task is None:
        names = ", ".join(sorted(known.task for known in board.tasks))
        faults.add(f"task {shown(cell.task)} is not on the board (there are: {names})")
        return None
    if cell.target not in task.targets:
        faults.add(f"{task.task}: target {shown(cell.target)} is not among {task.targets}")
    split = task.splits.get(cell.split)
    if split is None:
        faults.add(f"{task.task}: split {shown(cell.split)} does not count (there are: {', '.join(task.splits)})")
        return None
    if cell.fold not in split.folds:
        faults.add(f"{task.task}/{cell.split}: fold {shown(cell.fold)} does not exist (there are: {', '.join(split.folds)})")
    if cell.budget not in split.budgets:
        faults.add(f"{task.task}/{cell.split}: budget {shown(cell.budget)} does not count (there are: {', '.join(split.budgets)})")
    submission = opened.submission
    if submission is not None:
        manifest = f"{task.task}/{cell.split.split('+')[0]}@v{split.version}"
        for kind, said, wanted in (
            (f"manifest {manifest}", submission.manifests.get(manifest), split.manifest),
            (f"card {task.task}", submission.cards.get(task.task), task.card),
        ):
            if said != wanted:
                found = "is missing" if said is None else f"is {said[:12]}…"
                faults.add(f"{RECORD}: the digest of {kind} {found}, the board has {wanted[:12]}…")
    return task


def _read_units(rows: pd.DataFrame, name: CellName, task: BoardTask, faults: Faults) -> ReadCell | None:
    classes = task.classes if task.kind == "classification" else None
    wanted = [f"{PROBABILITY_PREFIX}{value}" for value in classes] if classes else ["y"]
    given = [column for column in rows.columns if column not in ("unit_id", "role", "map") and rows[column].notna().any()]
    ends = [column for column in ("lower", "upper") if classes is None and column in given]
    if missing := [column for column in wanted if column not in given]:
        faults.add(f"columns {missing[:5]} are missing or empty", name)
        return None
    if extra := sorted(set(given) - set(wanted) - set(ends)):
        faults.add(f"columns {extra[:5]} are filled, and {task.task} has none of that name", name)
    if len(ends) == 1:
        faults.add("an interval needs both columns, lower and upper", name)
        return None
    frame = rows[["unit_id", "role", *wanted, *ends]].reset_index(drop=True)
    numbers = frame[[*wanted, *ends]].to_numpy(dtype=np.float64)
    bad = ~np.isfinite(numbers).all(axis=1)
    if bad.any():
        faults.add(f"{int(bad.sum())} predictions are missing or not finite, first unit {shown(frame['unit_id'][bad].iloc[0])}", name)
        return None
    if ends and (numbers[:, 1] > numbers[:, 2]).any():
        faults.add(f"{int((numbers[:, 1] > numbers[:, 2]).sum())} intervals end before they begin (lower > upper)", name)
        return None
    if classes and len(numbers):
        low, high, off = numbers.min(), numbers.max(), np.abs(numbers.sum(axis=1) - 1).max()
        if low < -1e-6 or high > 1 + 1e-3 or off > 4e-3:
            hint = " (they look like percent: divide by 100)" if 1.5 < high <= 100 else " (they look like bytes: divide by 255)"
            outside = low < -1e-6 or high > 1 + 1e-3
            found = f"{low:.2g} to {high:.2g}" if outside else f"sums off by {off:.1g}"
            faults.add(f"must hold probabilities from 0 to 1 that sum to 1; found {found}{hint if 1.5 < high <= 255 else ''}", name)
            return None
        # Half precision may be off by a thousandth, and the scorer's own check is narrower; exact rows stay as they were sent.
        sums = numbers.sum(axis=1, keepdims=True)
        frame[wanted] = np.where(np.abs(sums - 1) > 5e-4, np.clip(numbers, 0, 1) / sums, numbers)
    if frame.duplicated(["unit_id", "role"]).any():
        return None  # Kept as a fault already.
    predictions = TablePredictions.from_frame(frame, classes, source=TABLE)
    return ReadCell(name, task, predictions, len(frame), predictions.digest)


def _read_maps(
    opened: OpenedSubmission,
    name: CellName,
    rows: pd.DataFrame,
    samples: pd.DataFrame | None,
    task: BoardTask,
    limits: Limits,
    faults: Faults,
) -> ReadCell | None:
    classes = task.classes or []
    if "map" not in rows:
        faults.add(f"column map is missing (path of each map under {MAPS}/)", name)
        return None
    before = faults.count
    frame = rows[["unit_id", "role", "map"]].rename(columns={"map": "file"}).reset_index(drop=True)
    places: dict[str, ChipPlace] = {}
    for unit, file in zip(frame["unit_id"], frame["file"], strict=True):
        if file not in opened.files or not file.startswith(f"{MAPS}/"):
            faults.add(f"the map {shown(file)} of chip {shown(unit)} is not in the submission", name)
            continue
        try:
            places[unit] = check_chip(opened.root / file, len(classes), limits, file)
        except HostileError as error:
            faults.add(str(error))
    if frame["file"].duplicated().any():
        faults.add(f"the map {shown(frame.loc[frame['file'].duplicated(), 'file'].iloc[0])} stands for two chips", name)
    kept = None
    if len(classes) > 2:
        keys = zip(frame["unit_id"], frame["role"], strict=True)
        shapes = {(unit, role): places[unit][2] for unit, role in keys if unit in places}
        kept = _samples_of(name, classes, samples, shapes, faults)
    if faults.count > before or frame.duplicated(["unit_id", "role"]).any():
        return None
    predictions = MapPredictions(opened.root, tuple(classes), frame, kept, {})
    return ReadCell(name, task, predictions, len(frame), predictions.digest, places)


def _read_samples(opened: OpenedSubmission, classes: list[str], limits: Limits) -> pd.DataFrame | None:
    if SAMPLES not in opened.files:
        return None
    text = dict.fromkeys(("task", "target", "split", "fold", "budget", "unit_id", "role"), "text")
    columns = text | dict.fromkeys(("seed", "pixel"), "whole") | dict.fromkeys(classes, "number")
    return read_table(opened.root / SAMPLES, columns, limits, SAMPLES, optional=("target", *classes), gaps=("target", *classes))


def _samples_of(
    name: CellName, classes: list[str], samples: pd.DataFrame | None, shapes: dict[tuple[str, str], tuple[int, int]], faults: Faults
) -> pd.DataFrame | None:
    values = [f"{PROBABILITY_PREFIX}{value}" for value in classes]
    if samples is None or any(column not in samples for column in values):
        faults.add(f"{SAMPLES}: is missing or lacks columns (probabilities of all classes at {SAMPLE_PIXELS:,} pixels per chip)")
        return None
    here = np.ones(len(samples), dtype=bool)
    for column in ("task", "split", "fold", "budget", "seed"):
        here &= (samples[column] == getattr(name, column)).to_numpy()
    frame = samples.loc[here, ["unit_id", "role", "pixel", *values]].reset_index(drop=True)
    p = frame[values].to_numpy(dtype=np.float64)
    if not np.isfinite(p).all() or (p.size and (p.min() < -1e-6 or p.max() > 1.001 or np.abs(p.sum(axis=1) - 1).max() > 0.01)):
        faults.add(f"{SAMPLES}: must hold probabilities from 0 to 1 that sum to 1", name)
        return None
    if frame.duplicated(["unit_id", "role", "pixel"]).any():
        faults.add(f"{SAMPLES}: a pixel of a chip occurs twice", name)
        return None
    # Calibration is judged at these pixels: whoever chose them could choose the easy ones.
    there = {key: part.to_numpy() for key, part in frame.groupby(["unit_id", "role"])["pixel"]} if len(frame) else {}
    wrong = sorted(
        key
        for key in there.keys() | shapes.keys()
        if key not in shapes or key not in there or not np.array_equal(np.sort(there[key]), _kept_pixels(key[0], *shapes[key]))
    )
    if wrong:
        faults.add(
            f"{SAMPLES}: holds other pixels of chip {shown(wrong[0][0])} than the {SAMPLE_PIXELS:,} that are asked for "
            "(drawn by a hash of the chip's name, docs/submission_format.md)",
            name,
        )
        return None
    return frame


@lru_cache(maxsize=20_000)
def _kept_pixels(unit: str, rows: int, columns: int) -> NDArray[np.int64]:
    """`sample_pixels`, in order of the pixels."""
    return np.sort(sample_pixels(unit, rows, columns))


def _check_units(frame: pd.DataFrame, name: CellName, task: BoardTask, faults: Faults) -> None:
    odd = sorted(set(frame["role"]) - set(TEST_ROLES))
    if odd:
        faults.add(f"role {shown(odd[0])} is not asked for; roles are test_id and test_ood", name)
    twice = frame.duplicated(["unit_id", "role"])
    if twice.any():
        faults.add(f"unit {shown(frame['unit_id'][twice].iloc[0])} occurs twice in one role", name)
    expected = task.splits[name.split].folds.get(name.fold)
    if expected is None or odd or twice.any():
        return
    if len(frame) != expected.units:
        faults.add(f"predicts {len(frame):,} units, and the fold has {expected.units:,} test units", name)
    elif units_digest(frame["unit_id"], frame["role"]) != expected.digest:
        faults.add("predicts as many units as the fold tests, but not the same ones under the same roles", name)


def check_completeness(cells: Iterable[CellName], board: Board, faults: Faults) -> list[str]:
    """All folds, budgets and seeds of every task, target and split that the submission takes part in.

    Args:
        cells: All readable cells.
        board: What counts.
        faults: Takes what is missing.

    Returns:
        `task/target/split` of those that are complete.
    """
    families: dict[tuple[str, str, str], list[CellName]] = defaultdict(list)
    for cell in cells:
        families[cell.family].append(cell)
    asked = set(range(board.least_seeds))
    complete = []
    for (task_name, target, split_name), members in sorted(families.items()):
        task = board.task(task_name)
        split = task.splits.get(split_name) if task else None
        if task is None or split is None:
            continue
        before = faults.count
        where = f"{task_name}/{target}/{split_name}"
        seeds: dict[tuple[str, str], set[int]] = defaultdict(set)
        for cell in members:
            seeds[cell.budget, cell.fold].add(cell.seed)
        for budget in split.budgets:
            lacking = [fold for fold in split.folds if not seeds[budget, fold]]
            if len(lacking) == len(split.folds):
                faults.add(f"{where}: budget {budget} is missing")
                continue
            for fold in lacking:
                faults.add(f"{where}: budget {budget} lacks fold {fold}")
            for fold in split.folds:
                if seeds[budget, fold] and (gone := sorted(asked - seeds[budget, fold])):
                    faults.add(f"{where}: budget {budget}, fold {fold} lacks seed {', '.join(map(str, gone))}")
            if len({frozenset(seeds[budget, fold]) for fold in split.folds if seeds[budget, fold]}) > 1:
                faults.add(f"{where}: budget {budget} has other seeds in some folds than in others")
        if faults.count == before:
            complete.append(where)
    return complete
