"""A tiny leaderboard: one table task, one chip task, their frozen labels, and bundles written by hand.

Bundles are written here with json, hashlib, pyarrow and rasterio only, as a team without rs05bench would write them.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from rasterio.transform import from_origin

from rs05bench.protocol import TaskCard, UnitTable, build_manifest, draw_budget
from rs05bench.protocol.labels import write_masks
from rs05bench.protocol.submission.board import Board, freeze_task

CLASSES = ["crop", "tree", "water"]
TABLE = {
    "kind": "classification", "name": "tiny", "targets": ["cover"], "classes": CLASSES, "groups": ["region"],
    "coordinates": {"x": "lon", "y": "lat"}, "features": {"raw": ["b1"]}, "splits": ["leave-region-out"],
    "split_options": {"block_size_m": 2000, "buffer_m": 0}, "budgets": ["2-per-class", "4-per-class"], "overlap": "none",
}  # fmt: skip
CHIPS = {
    "kind": "segmentation", "name": "tiny-chips", "targets": ["burnt"], "classes": ["0", "1"], "groups": ["region"],
    "coordinates": {"x": "lon", "y": "lat"}, "splits": ["leave-region-out"],
    "split_options": {"block_size_m": 2000, "buffer_m": 0}, "budgets": ["50pct", "full"], "overlap": "none",
}  # fmt: skip
COVER = CHIPS | {"name": "cover-simulated", "simulated": True, "targets": ["cover"], "classes": ["soil", "grass", "tree"]}
SIDE = 16
PLACE = from_origin(5e5, 5e6, 30, 30)


def make_world(root: Path, a_region: int = 60) -> Board:
    """Writes `board/tasks.yaml` and `truth/` and returns the board; `a_region` is how many units of the table a region has."""
    truth = root / "truth"
    for part in ("cards", "manifests", "labels"):
        (truth / part).mkdir(parents=True)
    board = Board()
    for fields, count in ((TABLE, a_region), (CHIPS, 8), (COVER, 8)):
        card = TaskCard.parse(fields)
        units = _units(count)
        manifest = build_manifest(card, units, "leave-region-out")
        labels = _labels(card, units, truth)
        card.save(truth / "cards" / f"{card.name}.yaml")
        manifest.save(truth / "manifests" / card.name)
        board = board.frozen(freeze_task(card, {"leave-region-out": manifest}, labels, card.budgets))
    (root / "board").mkdir()
    board.save(root / "board" / "tasks.yaml")
    return board


def _units(a_region: int) -> UnitTable:
    rng = np.random.default_rng(0)
    rows = []
    for number, region in enumerate(("east", "north", "west")):
        for i in range(a_region):
            lon, lat = 10.0 * number + 0.2 * rng.random(), 45 + 0.2 * rng.random()
            rows.append({"unit_id": f"{region}-{i:03d}", "lon": lon, "lat": lat, "region": region})
    return UnitTable.build(pd.DataFrame(rows), groups=["region"])


def _labels(card: TaskCard, units: UnitTable, truth: Path) -> dict[str, pd.Series | str]:
    ids = units.frame["unit_id"]
    if card.kind == "segmentation":
        chips = ((unit, mask_of(unit, len(card.classes or ())), "EPSG:32610", PLACE) for unit in ids)
        return {card.targets[0]: write_masks(truth / "labels" / card.name, card, chips).digest}
    values = pd.Series([CLASSES[seed_of(unit) % 3] for unit in ids], index=ids, name="cover")
    values.rename_axis("unit_id").reset_index().to_parquet(truth / "labels" / "labels.parquet", index=False)
    return {"cover": values}


def mask_of(unit: str, classes: int) -> np.ndarray:
    """The true classes of a chip; the first row is not scored."""
    mask = np.random.default_rng(seed_of(unit)).integers(0, classes, (SIDE, SIDE)).astype(np.int16)
    mask[0] = -1
    return mask


def seed_of(text: str) -> int:
    """A number from a text, the same everywhere."""
    return zlib.crc32(text.encode())


def write_tif(path: Path, band: np.ndarray, **profile: Any) -> None:
    """Writes one band in a UTM zone at 30 m."""
    given = {"driver": "GTiff", "height": band.shape[0], "width": band.shape[1], "count": 1, "dtype": band.dtype, "crs": "EPSG:32610",
             "transform": PLACE} | profile  # fmt: skip
    with rasterio.open(path, "w", **given) as out:
        out.write(band, 1)


def write_bundle(folder: Path, root: Path, board: Board, task_name: str = "tiny", *, seeds: int = 5, slug: str = "forest-tiny") -> Path:
    """Writes a bundle without a fault: every fold, budget and seed."""
    task = board.task(task_name)
    assert task is not None
    split = task.splits["leave-region-out"]
    truth = root / "truth"
    card = TaskCard.load(truth / "cards" / f"{task_name}.yaml")
    manifest = _manifest(truth, task_name)
    labels = _label_map(truth) if task.kind == "classification" else None
    number = 0
    for budget in split.budgets:
        for fold in split.folds:
            for seed in range(seeds):
                number += 1
                drawn = draw_budget(card, manifest, fold, budget, seed, labels)
                record = {
                    "schema_version": 1, "kind": task.kind, "classes": task.classes,
                    "cell": {"task": task_name, "target": task.targets[0], "split": "leave-region-out",
                             "fold": fold, "budget": budget, "seed": seed},
                    "preprocessing": task.preprocessing, "budget": {"labels_used": drawn.labels_used, "digest": drawn.digest},
                }  # fmt: skip
                cell = folder / "cells" / str(number)
                cell.mkdir(parents=True)
                (cell / "predictions.json").write_text(json.dumps(record))
                rows = manifest.fold(fold)
                rows = rows[rows["role"].astype(str).isin(["test_id", "test_ood"])]
                write = _write_units if task.kind == "classification" else _write_chips if task_name == "tiny-chips" else _write_classes
                write(cell, rows["unit_id"].tolist(), rows["role"].astype(str).tolist(), f"{budget}/{fold}/{seed}/{slug}")
    (folder / "submission.json").write_text(json.dumps(submission(board, task_name, slug)))
    (folder / "costs.json").write_text(json.dumps(costs(board, task_name)))
    write_sums(folder)
    return folder


def submission(board: Board, task_name: str = "tiny", slug: str = "forest-tiny") -> dict[str, Any]:
    """A card without a fault."""
    task = board.task(task_name)
    assert task is not None
    return {
        "format": "rs05bench-submission", "format_version": 1, "slug": slug, "title": "A forest of bands",
        "authors": [{"name": "Zoë Álvarez", "affiliation": "Institute", "github": "zoe"}], "submitted": "2026-01-31",
        "model": {"name": "raw/rf", "tier": "raw", "inputs": "raw", "learner": "rf", "licence": "MIT", "open_weights": True},
        "overlap": "Nothing was pretrained.", "licence": "CC-BY-4.0", "code": "https://example.org/code",
        "hardware": [{"name": "A processor", "kind": "cpu", "cores": 2}],
        "environment": {"python": "3.12", "packages": {"scikit-learn": "1.6"}},
        "manifests": {f"{task_name}/leave-region-out@v1": task.splits["leave-region-out"].manifest}, "cards": {task_name: task.card},
        "statement": {"test_labels_unused": True, "budget_counts_all": True, "may_publish": True},
    }  # fmt: skip


def costs(board: Board, task_name: str = "tiny") -> dict[str, Any]:
    """Costs without a fault."""
    task = board.task(task_name)
    assert task is not None
    base = {"fit_s": 0.2, "predict_s": 0.02, "predict_s_per_1000": 0.1, "peak_memory_mb": 20.0, "labels_used": 6, "hardware": "A processor"}
    return {
        "schema_version": 1,
        "costs": [
            {"task": task_name, "target": task.targets[0], "split": "leave-region-out", "budget": budget, **base}
            for budget in task.splits["leave-region-out"].budgets
        ],
    }


def write_sums(folder: Path) -> None:
    """Writes SHA256SUMS as `sha256sum` does."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  ./{name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


def probabilities(units: list[str], salt: str) -> np.ndarray:
    """Random probabilities, right a little more often than chance, float32 (n, 3)."""
    raw = np.stack([np.random.default_rng(seed_of(unit + salt)).random(3) for unit in units])
    raw[np.arange(len(units)), [seed_of(unit) % 3 for unit in units]] += 0.3
    return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)


def unit_table(units: list[str], roles: list[str], p: np.ndarray) -> pa.Table:
    """The table of a cell."""
    return pa.table({"unit_id": units, "role": roles} | {f"p_{name}": p[:, i] for i, name in enumerate(CLASSES)})


def _write_units(cell: Path, units: list[str], roles: list[str], salt: str) -> None:
    pq.write_table(unit_table(units, roles, probabilities(units, salt)), cell / "units.parquet")


def _write_chips(cell: Path, units: list[str], roles: list[str], salt: str) -> None:
    (cell / "chips").mkdir()
    files = [f"chips/{i:03d}.tif" for i in range(len(units))]
    for unit, file in zip(units, files, strict=True):
        write_tif(cell / file, np.random.default_rng(seed_of(unit + salt)).random((SIDE, SIDE)).astype(np.float32), compress="deflate")
    pq.write_table(pa.table({"unit_id": units, "role": roles, "file": files}), cell / "units.parquet")


def _write_classes(cell: Path, units: list[str], roles: list[str], salt: str) -> None:
    """Maps of three classes, right a little more often than chance, and all probabilities at some pixels."""
    (cell / "chips").mkdir()
    files = [f"chips/{i:03d}.tif" for i in range(len(units))]
    samples: dict[str, list[Any]] = {name: [] for name in ("unit_id", "role", "pixel", "p_soil", "p_grass", "p_tree")}
    for unit, role, file in zip(units, roles, files, strict=True):
        rng = np.random.default_rng(seed_of(unit + salt))
        raw = rng.random((3, SIDE, SIDE)) + 0.5 * (np.arange(3)[:, None, None] == mask_of(unit, 3))
        p = (raw / raw.sum(axis=0)).astype(np.float32)
        write_tif(cell / file, p.argmax(axis=0).astype(np.uint8), compress="deflate")
        # Chips of 256 pixels have no 1,024: all are kept.
        count = SIDE * SIDE
        for name, values in zip(samples, ([unit] * count, [role] * count, range(count), *p.reshape(3, -1)), strict=True):
            samples[name].extend(values)
    pq.write_table(pa.table({"unit_id": units, "role": roles, "file": files}), cell / "units.parquet")
    pq.write_table(pa.table(samples), cell / "samples.parquet")


def _manifest(truth: Path, task: str) -> Any:
    from rs05bench.protocol import SplitManifest

    return SplitManifest.load(truth / "manifests" / task / "leave-region-out@v1.parquet")


def _label_map(truth: Path) -> dict[str, str]:
    frame = pd.read_parquet(truth / "labels" / "labels.parquet")
    return dict(zip(frame["unit_id"], frame["cover"], strict=True))
