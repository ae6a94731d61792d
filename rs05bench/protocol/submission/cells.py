"""The cells of a bundle: read, checked against the board, and complete."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import BenchError
from rs05bench.protocol.hashing import hash_order
from rs05bench.protocol.predictions import PROBABILITY_PREFIX, Predictions
from rs05bench.protocol.rasters import SAMPLE_PIXELS, RasterPredictions, sample_pixels
from rs05bench.protocol.scoring import TEST_ROLES
from rs05bench.protocol.submission import trail
from rs05bench.protocol.submission.archive import Opened
from rs05bench.protocol.submission.board import Board, BoardTask, units_digest
from rs05bench.protocol.submission.faults import Faults, HostileError, shown
from rs05bench.protocol.submission.limits import Limits
from rs05bench.protocol.submission.reading import ChipPlace, check_chip, read_record, read_table
from rs05bench.protocol.submission.schema import CellRecord, Submission

SKETCH_UNITS = 24


@dataclass(slots=True)
class ReadCell:
    """A cell that passed.

    Attributes:
        path: Its folder in the bundle.
        record: Its `predictions.json`.
        task: Its task on the board.
        predictions: Its predictions.
        units: Predicted units.
        sketch: Rounded predictions of some units.
        digest: Digest of the predictions.
        places: Chip -> where its map lies; empty for tables.
    """

    path: str
    record: CellRecord
    task: BoardTask
    predictions: Predictions | RasterPredictions
    units: int
    sketch: list[float]
    digest: str
    places: dict[str, ChipPlace] = field(default_factory=dict, repr=False)


def read_cell(opened: Opened, path: str, board: Board, submission: Submission | None, limits: Limits, faults: Faults) -> ReadCell | None:
    """Reads one cell and checks it on its own; what is wrong with it is told, and None returned."""
    missing = [name for name in ("predictions.json", "units.parquet") if f"{path}/{name}" not in opened.files]
    for name in missing:
        faults.add(f"{path}: {name} is missing")
    if missing:
        return None
    folder = opened.root / path
    record = read_record(folder / "predictions.json", CellRecord, limits, faults, f"{path}/predictions.json")
    if record is None:
        return None
    before = faults.count
    task = _on_board(record, path, board, submission, faults)
    if task is None or faults.count > before:
        return None
    try:
        if record.kind == "segmentation":
            return _read_chips(opened, path, record, task, limits, faults)
        return _read_units(folder, path, record, task, limits, faults)
    except HostileError as error:
        faults.add(str(error))
    except BenchError as error:
        faults.add(f"{path}: {str(error).replace(str(opened.root), '').lstrip('/')}")
    return None


def _on_board(record: CellRecord, path: str, board: Board, submission: Submission | None, faults: Faults) -> BoardTask | None:
    cell = record.cell
    task = board.task(cell.task)
    if task is None:
        names = ", ".join(sorted(known.task for known in board.tasks))
        faults.add(f"{path}: task {shown(cell.task)} is not on the board (there are: {names})")
        return None
    if cell.target not in task.targets:
        faults.add(f"{path}: target {shown(cell.target)} is not among {task.targets} of {task.task}")
    split = task.splits.get(cell.split)
    if split is None:
        faults.add(f"{path}: split {shown(cell.split)} does not count for {task.task} (there are: {', '.join(task.splits)})")
        return None
    if cell.fold not in split.folds:
        faults.add(f"{path}: fold {shown(cell.fold)} is none of {task.task}/{cell.split} (there are: {', '.join(split.folds)})")
    if cell.budget not in split.budgets:
        faults.add(
            f"{path}: budget {shown(cell.budget)} does not count for {task.task}/{cell.split} (there are: {', '.join(split.budgets)})"
        )
    if record.kind != task.kind:
        faults.add(f"{path}: says it is a {record.kind}, and {task.task} is a {task.kind}")
    if record.kind == "regression" and record.classes is not None:
        faults.add(f"{path}: a regression has no classes")
    if record.kind != "regression" and (record.classes is None or (task.classes is not None and record.classes != task.classes)):
        faults.add(f"{path}: its classes must be those of the task, in their order: {', '.join(task.classes or ())}")
    if record.preprocessing != task.preprocessing:
        faults.add(
            f"{path}: was made with another preprocessing (digest {record.preprocessing[:12]}…, the board has {task.preprocessing[:12]}…)"
        )
    if submission is not None:
        name = f"{task.task}/{cell.split.split('+')[0]}@v{split.version}"
        said = submission.manifests.get(name)
        if said != split.manifest:
            found = "is missing" if said is None else f"is {said[:12]}…"
            faults.add(f"submission.json: the digest of manifest {name} {found}, the board has {split.manifest[:12]}…")
        said = submission.cards.get(task.task)
        if said != task.card:
            found = "is missing" if said is None else f"is {said[:12]}…"
            faults.add(f"submission.json: the digest of card {task.task} {found}, the board has {task.card[:12]}…")
    return task


def _read_units(folder: Path, path: str, record: CellRecord, task: BoardTask, limits: Limits, faults: Faults) -> ReadCell | None:
    values = [f"{PROBABILITY_PREFIX}{value}" for value in record.classes] if record.classes else ["y", "lower", "upper"]
    columns = {"unit_id": "text", "role": "text"} | dict.fromkeys(values, "number")
    name = f"{path}/units.parquet"
    frame = read_table(folder / "units.parquet", columns, limits, name, optional=() if record.classes else ("lower", "upper"))
    _check_units(frame, path, record, task, faults)
    there = [column for column in values if column in frame]
    if record.classes is None and len(there) == 2:
        faults.add(f"{name}: an interval needs both columns, lower and upper")
        return None
    numbers = frame[there].to_numpy(dtype=np.float64)
    bad = ~np.isfinite(numbers).all(axis=1)
    if bad.any():
        faults.add(f"{name}: {int(bad.sum())} predictions are not finite numbers, first unit {shown(frame['unit_id'][bad].iloc[0])}")
        return None
    if record.classes is None and len(there) == 3 and (numbers[:, 1] > numbers[:, 2]).any():
        faults.add(f"{name}: {int((numbers[:, 1] > numbers[:, 2]).sum())} intervals end before they begin (lower > upper)")
        return None
    if record.classes is not None and len(numbers):
        low, high, off = numbers.min(), numbers.max(), np.abs(numbers.sum(axis=1) - 1).max()
        if low < -1e-6 or high > 1 + 1e-3 or off > 4e-3:
            hint = " (they look like bytes: divide by 255)" if 1.5 < high <= 255 else ""
            faults.add(
                f"{name}: must hold probabilities from 0 to 1 that sum to 1; found {low:.4g} to {high:.4g}, sums off by {off:.3g}{hint}"
            )
            return None
        # Half precision may be off by a thousandth, and the scorer's own check is narrower; exact rows stay as they were sent.
        sums = numbers.sum(axis=1, keepdims=True)
        numbers = np.where(np.abs(sums - 1) > 5e-4, np.clip(numbers, 0, 1) / sums, numbers)
        frame[there] = numbers
    if frame.duplicated(["unit_id", "role"]).any():
        return None  # Told already.
    predictions = Predictions.from_frame(frame, record.classes, source=name)
    return ReadCell(path, record, task, predictions, len(frame), _sketch(predictions), predictions.digest)


def _read_chips(opened: Opened, path: str, record: CellRecord, task: BoardTask, limits: Limits, faults: Faults) -> ReadCell | None:
    classes = record.classes or []
    name = f"{path}/units.parquet"
    folder = opened.root / path
    text = dict.fromkeys(("unit_id", "role", "file", "digest"), "text")
    frame = read_table(folder / "units.parquet", text, limits, name, optional=("digest",))
    _check_units(frame, path, record, task, faults)
    before = faults.count
    places: dict[str, ChipPlace] = {}
    for unit, file in zip(frame["unit_id"], frame["file"], strict=True):
        if not file.startswith("chips/") or f"{path}/{file}" not in opened.files:
            faults.add(f"{name}: the file {shown(file)} of chip {shown(unit)} is not in the bundle")
            continue
        try:
            places[unit] = check_chip(folder / file, len(classes), limits, f"{path}/{file}")
        except HostileError as error:
            faults.add(str(error))
    listed = {f"{path}/{file}" for file in frame["file"]}
    for extra in sorted(file for file in opened.files if file.startswith(f"{path}/chips/") and file not in listed):
        faults.add(f"{extra}: is listed nowhere in {name}")
    samples = None
    if len(classes) > 2:
        if f"{path}/samples.parquet" not in opened.files:
            faults.add(f"{path}: samples.parquet is missing (probabilities of all classes at 1,024 pixels a chip)")
        else:
            keys = zip(frame["unit_id"], frame["role"], strict=True)
            shapes = {(unit, role): places[unit][2] for unit, role in keys if unit in places}
            samples = _read_samples(folder / "samples.parquet", classes, path, shapes, limits, faults)
    if faults.count > before or frame.duplicated(["unit_id", "role"]).any():
        return None
    trail.reading(f"{path}/chips")
    predictions = RasterPredictions(folder, tuple(classes), frame, samples, {})
    return ReadCell(path, record, task, predictions, len(frame), [], predictions.digest, places)


def _read_samples(
    file: Path, classes: list[str], path: str, shapes: dict[tuple[str, str], tuple[int, int]], limits: Limits, faults: Faults
) -> pd.DataFrame | None:
    values = [f"{PROBABILITY_PREFIX}{value}" for value in classes]
    columns = {"unit_id": "text", "role": "text", "pixel": "whole"} | dict.fromkeys(values, "number")
    frame = read_table(file, columns, limits, f"{path}/samples.parquet")
    p = frame[values].to_numpy(dtype=np.float64)
    if not np.isfinite(p).all() or (p.size and (p.min() < -1e-6 or p.max() > 1.001 or np.abs(p.sum(axis=1) - 1).max() > 0.01)):
        faults.add(f"{path}/samples.parquet: must hold probabilities from 0 to 1 that sum to 1")
        return None
    if frame.duplicated(["unit_id", "role", "pixel"]).any():
        faults.add(f"{path}/samples.parquet: a pixel of a chip occurs twice")
        return None
    # Calibration is judged at these pixels: whoever chose them could choose the easy ones.
    there = {key: rows.to_numpy() for key, rows in frame.groupby(["unit_id", "role"])["pixel"]} if len(frame) else {}
    wrong = sorted(
        key
        for key in there.keys() | shapes.keys()
        if key not in shapes or key not in there or not np.array_equal(np.sort(there[key]), _kept_pixels(key[0], *shapes[key]))
    )
    if wrong:
        faults.add(
            f"{path}/samples.parquet: holds other pixels of chip {shown(wrong[0][0])} than the {SAMPLE_PIXELS:,} that are asked for "
            "(drawn by a hash of the chip's name, docs/submission_format.md)"
        )
        return None
    return frame


@lru_cache(maxsize=20_000)
def _kept_pixels(unit: str, rows: int, columns: int) -> NDArray[np.int64]:
    """`sample_pixels`, in order of the pixels."""
    return np.sort(sample_pixels(unit, rows, columns))


def _check_units(frame: pd.DataFrame, path: str, record: CellRecord, task: BoardTask, faults: Faults) -> None:
    odd = sorted(set(frame["role"]) - set(TEST_ROLES))
    if odd:
        faults.add(f"{path}/units.parquet: role {shown(odd[0])} is not asked for; roles are test_id and test_ood")
    twice = frame.duplicated(["unit_id", "role"])
    if twice.any():
        faults.add(f"{path}/units.parquet: unit {shown(frame['unit_id'][twice].iloc[0])} occurs twice in one role")
    expected = task.splits[record.cell.split].folds.get(record.cell.fold)
    if expected is None or odd or twice.any():
        return
    if len(frame) != expected.units:
        faults.add(f"{path}/units.parquet: predicts {len(frame):,} units, and fold {record.cell.fold} has {expected.units:,} test units")
    elif units_digest(frame["unit_id"], frame["role"]) != expected.digest:
        faults.add(
            f"{path}/units.parquet: predicts as many units as fold {record.cell.fold} tests, but not the same ones under the same roles"
        )


def check_completeness(cells: list[CellRecord], board: Board, faults: Faults) -> list[str]:
    """All folds, budgets and seeds of every task, target and split that the bundle takes part in.

    Args:
        cells: Records of all readable cells.
        board: What counts.
        faults: Takes what is missing.

    Returns:
        `task/target/split` of those that are complete.
    """
    families: dict[tuple[str, str, str], list[CellRecord]] = defaultdict(list)
    for record in cells:
        families[record.cell.family].append(record)
    complete = []
    for (task_name, target, split_name), members in sorted(families.items()):
        task = board.task(task_name)
        split = task.splits.get(split_name) if task else None
        if task is None or split is None:
            continue
        before = faults.count
        where = f"{task_name}/{target}/{split_name}"
        seeds: dict[tuple[str, str], list[int]] = defaultdict(list)
        for record in members:
            seeds[record.cell.budget, record.cell.fold].append(record.cell.seed)
        for budget in split.budgets:
            lacking = [fold for fold in split.folds if not seeds[budget, fold]]
            if len(lacking) == len(split.folds):
                faults.add(f"{where}: budget {budget} is missing")
                continue
            for fold in lacking:
                faults.add(f"{where}: budget {budget} lacks fold {fold}")
            for fold in split.folds:
                found = seeds[budget, fold]
                if len(set(found)) < len(found):
                    faults.add(f"{where}: budget {budget}, fold {fold} has a seed twice")
                if found and len(set(found)) < board.least_seeds:
                    faults.add(
                        f"{where}: budget {budget}, fold {fold} has {len(set(found))} seeds; at least {board.least_seeds} are needed"
                    )
            if len({frozenset(seeds[budget, fold]) for fold in split.folds if seeds[budget, fold]}) > 1:
                faults.add(f"{where}: budget {budget} has other seeds in some folds than in others")
        if faults.count == before:
            complete.append(where)
    return complete


def _sketch(predictions: Predictions) -> list[float]:
    ids = [f"{role}\t{unit}" for role, unit in zip(predictions.role, predictions.unit_id, strict=True)]
    rows = hash_order(ids, "sketch")[:SKETCH_UNITS]
    if predictions.probabilities is not None:
        return [round(float(value), 4) for value in predictions.probabilities[rows].max(axis=1)]
    return [float(f"{value:.6g}") for value in np.asarray(predictions.y)[rows]]
