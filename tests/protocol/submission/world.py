"""A tiny leaderboard: one table task, two chip tasks, their frozen labels, and submissions written by hand.

Submissions are written here with yaml, pyarrow and rasterio only, as a team without rs05bench would write them.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
import yaml
from rasterio.transform import from_origin

from rs05bench.protocol import TaskCard, UnitTable, build_manifest
from rs05bench.protocol.labels import write_masks
from rs05bench.protocol.pixel_grid import Grid
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
        grid = Grid("EPSG:32610", 5e5, 5e6, 30, 30, SIDE, SIDE)
        chips = ((unit, mask_of(unit, len(card.classes or ())), grid) for unit in ids)
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


def write_submission(folder: Path, root: Path, board: Board, task_name: str = "tiny", *, seeds: int = 5, slug: str = "forest-tiny") -> Path:
    """Writes a submission without a fault: every fold, budget and seed."""
    folder.mkdir(parents=True)
    task = board.task(task_name)
    assert task is not None
    manifest = _manifest(root / "truth", task_name)
    parts, samples = [], []
    for budget in task.splits["leave-region-out"].budgets:
        for fold in task.splits["leave-region-out"].folds:
            for seed in range(seeds):
                cell = {"task": task_name, "split": "leave-region-out", "fold": fold, "budget": budget, "seed": seed}
                rows = manifest.fold(fold)
                rows = rows[rows["role"].astype(str).isin(["test_id", "test_ood"])]
                units, roles, salt = rows["unit_id"].tolist(), rows["role"].astype(str).tolist(), f"{budget}/{fold}/{seed}/{slug}"
                frame = pd.DataFrame({"unit_id": units, "role": roles})
                if task.kind == "classification":
                    p = probabilities(units, salt)
                    frame = frame.assign(**{f"p_{name}": p[:, i] for i, name in enumerate(CLASSES)})
                else:
                    frame["map"], sampled = _write_maps(folder, len(parts), units, roles, salt, task.classes or [])
                    samples += [sampled.assign(**cell)] if sampled is not None else []
                parts.append(frame.assign(**cell))
    write_parquet(folder / "predictions.parquet", pd.concat(parts, ignore_index=True))
    if samples:
        write_parquet(folder / "samples.parquet", pd.concat(samples, ignore_index=True))
    (folder / "submission.yaml").write_text(yaml.safe_dump(record(board, task_name, slug)))
    return folder


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Writes a table with pyarrow's defaults."""
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)


def record(board: Board, task_name: str = "tiny", slug: str = "forest-tiny") -> dict[str, Any]:
    """A record without a fault."""
    task = board.task(task_name)
    assert task is not None
    cost = {"fit_s": 0.2, "predict_s": 0.02, "predict_s_per_1000": 0.1, "peak_memory_mb": 20.0, "hardware": "A processor"}
    return {
        "format": "rs05bench-submission", "format_version": 2, "slug": slug, "title": f"A forest of bands ({slug})",
        "authors": [{"name": f"Zoë Álvarez of {slug}", "affiliation": "Institute", "github": "zoe"}], "submitted": "2026-01-31",
        "model": {
            "name": "raw/rf" if slug == "forest-tiny" else f"raw/rf-{slug}", "tier": "raw", "inputs": "raw", "content": ["optical"],
            "learner": "rf", "licence": "MIT", "open_weights": True,
        },
        "overlap": "Nothing was pretrained.", "licence": "CC-BY-4.0", "code": "https://example.org/code",
        "hardware": [{"name": "A processor", "kind": "cpu", "cores": 2}],
        "environment": {"python": "3.12", "packages": {"scikit-learn": "1.6"}},
        "costs": [{"task": task_name, "target": task.targets[0], "split": "leave-region-out", "budget": budget, **cost}
                  for budget in task.splits["leave-region-out"].budgets],
        "manifests": {f"{task_name}/leave-region-out@v1": task.splits["leave-region-out"].manifest}, "cards": {task_name: task.card},
        "statement": {"test_labels_unused": True, "budget_counts_all": True, "may_publish": True},
    }  # fmt: skip


def probabilities(units: list[str], salt: str) -> np.ndarray:
    """Random probabilities, right a little more often than chance, float32 (n, 3)."""
    raw = np.stack([np.random.default_rng(seed_of(unit + salt)).random(3) for unit in units])
    raw[np.arange(len(units)), [seed_of(unit) % 3 for unit in units]] += 0.3
    return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)


def _write_maps(
    folder: Path, cell: int, units: list[str], roles: list[str], salt: str, classes: list[str]
) -> tuple[list[str], pd.DataFrame | None]:
    """Maps of a cell: probabilities of the second class, or classes with all probabilities at some pixels."""
    (folder / "maps" / str(cell)).mkdir(parents=True)
    files = [f"maps/{cell}/{at:03d}.tif" for at in range(len(units))]
    if len(classes) == 2:
        for unit, file in zip(units, files, strict=True):
            write_tif(
                folder / file, np.random.default_rng(seed_of(unit + salt)).random((SIDE, SIDE)).astype(np.float32), compress="deflate"
            )
        return files, None
    samples = []
    for unit, role, file in zip(units, roles, files, strict=True):
        raw = np.random.default_rng(seed_of(unit + salt)).random((len(classes), SIDE, SIDE))
        raw += 0.5 * (np.arange(len(classes))[:, None, None] == mask_of(unit, len(classes)))
        p = (raw / raw.sum(axis=0)).astype(np.float32)
        write_tif(folder / file, p.argmax(axis=0).astype(np.uint8), compress="deflate")
        # Chips of 256 pixels have no 1,024: all are kept.
        values = {f"p_{name}": p[at].ravel() for at, name in enumerate(classes)}
        samples.append(pd.DataFrame({"unit_id": unit, "role": role, "pixel": np.arange(SIDE * SIDE), **values}))
    return files, pd.concat(samples, ignore_index=True)


def _manifest(truth: Path, task: str) -> Any:
    from rs05bench.protocol import SplitManifest

    return SplitManifest.load(truth / "manifests" / task / "leave-region-out@v1.parquet")


def fill_in(record: Path, *, slug: str) -> None:
    """Replaces what the template's record asks for, as a person does in an editor."""
    fields = yaml.safe_load(record.read_text())
    fields |= {"slug": slug, "title": "Nearest neighbours", "overlap": "None.", "licence": "CC-BY-4.0", "code": "https://example.org"}
    fields["authors"] = [{"name": "An Outsider"}]
    fields["model"] = {
        "name": "raw/knn",
        "tier": "raw",
        "inputs": "raw",
        "content": ["optical"],
        "learner": "knn",
        "licence": "MIT",
        "open_weights": True,
    }
    fields["hardware"] = [{"name": "A laptop", "kind": "cpu"}]
    fields["environment"] = {"python": "R 4.4"}
    fields["statement"] = dict.fromkeys(fields["statement"], True)
    for cost in fields["costs"]:
        cost |= {"fit_s": 0.1, "predict_s": 0.1, "predict_s_per_1000": 1.0, "peak_memory_mb": 50.0, "hardware": "A laptop"}
    record.write_text(yaml.safe_dump(fields))
