"""The numbers of the site as CSV and Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from rs05bench.experiment.query import without_formulas
from rs05bench.report.site.rank_words import Ranks
from rs05bench.report.site.records import TRACKS, BoardPoint, BoardTable, Entry, Leaderboard, Row, Spread

_COSTS = (
    "fit_s", "predict_s", "predict_s_per_1000", "device_hours", "peak_memory_mb", "peak_device_memory_mb", "parameters_total",
    "parameters_trainable", "energy_wh", "energy_of", "hardware",
)  # fmt: skip


def write_downloads(board: Leaderboard, ranks: dict[str, Ranks], folder: Path) -> None:
    """Writes `leaderboard`, `groups` and one file a table, each as CSV and Parquet, and a CSV a model."""
    folder.mkdir()
    (folder / "models").mkdir()
    cells = pd.DataFrame(
        [
            _cell(table, row, board.entries[row.slug], budget, ranks[table.key])
            for table in board.tables
            for row in table.rows
            for budget in table.budgets
        ],
        columns=list(_COLUMNS),
    )
    groups = pd.DataFrame(
        [
            {"table": table.key, "submission": row.slug, "budget": budget, "group": group, "ood": value, "drop": point.drops.get(group)}
            for table in board.tables
            for row in table.rows
            for budget, point in row.points.items()
            for group, value in point.by_group.items()
        ],
        columns=["table", "submission", "budget", "group", "ood", "drop"],
    )
    _write(_typed(cells), folder / "leaderboard")
    _write(groups, folder / "groups")
    for table in board.tables:
        _write(_typed(cells[cells["table"] == table.key]), folder / table.key)
    # A file a submission is a piece of the whole: its lines are taken from there, as setting each again takes half of a large site's time.
    head, *lines = _lines(folder / "leaderboard.csv")
    of_slug: dict[str, list[str]] = {slug: [head] for slug in board.entries}
    for slug, line in zip(cells["submission"], lines, strict=True):
        of_slug[slug].append(line)
    for slug, own in of_slug.items():
        (folder / "models" / f"{slug}.csv").write_text("".join(own), encoding="utf-8")


_COLUMNS: dict[str, str] = {
    "table": "text", "task": "text", "target": "text", "split": "text", "submission": "text", "model": "text", "tier": "text",
    "title": "text", "authors": "text", "open_weights": "bool", "standing": "text", "simulated": "bool", "budget": "text",
    "labels": "number", "metric": "text",
    **{f"{name}_{track}": "number" for track in TRACKS for name in ("rank", "rank_low", "rank_high")},
    **{f"{name}{end}": "number" for name in ("ood", "home", "drop")
       for end in ("", "_low", "_high", "_median", "_median_low", "_median_high")},
    "calibration": "number", "groups": "number", "seeds": "number", "missing": "text", "cost_measured": "bool",
    **dict.fromkeys(_COSTS, "number"), "hardware": "text", "digest": "text",
}  # fmt: skip


def _cell(table: BoardTable, row: Row, entry: Entry, budget: str, ranks: Ranks) -> dict[str, Any]:
    point = row.points.get(budget) or BoardPoint(budget=budget, missing="not submitted")
    record: dict[str, Any] = {
        "table": table.key,
        "task": table.task,
        "target": table.target,
        "split": table.split,
        "submission": row.slug,
        "model": entry.model.name,
        "tier": entry.model.tier,
        "title": entry.title,
        "authors": "; ".join(entry.authors),
        "open_weights": entry.model.open_weights,
        "standing": entry.standing,
        "simulated": table.simulated,
        "budget": budget,
        "labels": point.labels,
        "metric": table.metric,
        "calibration": point.calibration,
        "groups": point.ood.groups if point.ood else None,
        "seeds": point.ood.seeds if point.ood else None,
        "missing": point.missing,
        "cost_measured": point.measured,
        "digest": entry.digests.get("submission", ""),
    }
    for track in TRACKS:
        place = ranks[track, budget].get(row.slug)
        record |= {
            f"rank_{track}": place.rank if place else None,
            f"rank_low_{track}": place.low if place else None,
            f"rank_high_{track}": place.high if place else None,
        }
    for name in ("ood", "home", "drop"):
        found: Spread | None = getattr(point, name)
        record |= {name: found and found.value, f"{name}_low": found and found.low, f"{name}_high": found and found.high}
        middle = found and found.median
        record |= {f"{name}_median{end}": middle and middle[at] for at, end in ((1, ""), (2, "_low"), (3, "_high"))}
    return record | {name: getattr(point.cost, name, None) for name in _COSTS}


def _lines(path: Path) -> list[str]:
    """Records of a CSV as they stand there; a text may hold line ends inside its quotes."""
    lines: list[str] = []
    open_quote = False
    with path.open(encoding="utf-8", newline="") as file:
        for line in file:
            if open_quote:
                lines[-1] += line
            else:
                lines.append(line)
            open_quote ^= line.count('"') % 2 == 1
    return lines


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The same types whatever is missing, so that the files of two days can be put together."""
    kinds = {"text": "string", "bool": "boolean", "number": "float64"}
    return frame.astype({name: kinds[kind] for name, kind in _COLUMNS.items()})


def _write(frame: pd.DataFrame, stem: Path) -> None:
    frame.to_parquet(stem.with_name(stem.name + ".parquet"), index=False, compression="zstd")
    safe_csv(frame, stem.with_name(stem.name + ".csv"))


def safe_csv(frame: pd.DataFrame, path: Path) -> None:
    """A CSV no spreadsheet takes for a formula: text that begins like one gets an apostrophe."""
    without_formulas(frame).to_csv(path, index=False, float_format="%.6g")
