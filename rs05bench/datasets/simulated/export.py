"""Write the simulated tables as Earth Engine writes its exports, each with its task card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from rs05bench.datasets.simulated.world import TASKS, World, simulate

if TYPE_CHECKING:
    import pandas as pd


def write_tables(out: str | Path, *, tasks: Sequence[str] = TASKS, size: str = "small", seed: int = 0) -> dict[str, Path]:
    """Write one folder a task: its CSV files in the Earth Engine export form and ``card.yaml``.

    Columns stand in Earth Engine's order: ``system:index`` first, then all others by name, ``.geo`` (GeoJSON) last. The crop table is
    split into one file a year, as exports are. The same size and seed give the same bytes.

    Args:
        out: Folder to write to; made if absent.
        tasks: Which of ``burn-scar``, ``crop`` and ``urban``.
        size: ``tiny`` (about 200 units a task), ``small`` (about 2,000) or ``medium``.
        seed: The world's seed.

    Returns:
        The card of each task. Its data directory is the folder it lies in.

    Raises:
        DataError: Unknown task or size.
    """
    world, cards = simulate(size, seed), {}
    for task in tasks:
        table = world.table(task)
        folder = Path(out) / task
        folder.mkdir(parents=True, exist_ok=True)
        table[".geo"] = _geojson(world, task, table)
        named = sorted(name for name in table.columns if name not in ("system:index", ".geo"))
        table = table[["system:index", *named, ".geo"]]
        parts = table.groupby("year", sort=True) if task == "crop" else [("all", table)]
        for part, rows in parts:
            name = f"{task}_{part}.csv" if part != "all" else f"{task}.csv"
            rows.to_csv(folder / name, index=False, float_format="%.8g", date_format="%Y-%m-%d", lineterminator="\n")
        cards[task] = folder / "card.yaml"
        cards[task].write_text(card_text(task), encoding="utf-8")
    return cards


def card_text(task: str) -> str:
    """Return the YAML of a simulated task's card, as shipped in the package."""
    return resources.files("rs05bench.datasets.simulated").joinpath("cards", f"{task}.yaml").read_text(encoding="utf-8")


def _geojson(world: World, task: str, table: pd.DataFrame) -> list[str]:
    if task == "burn-scar":
        return [
            json.dumps({"geodesic": False, "type": "Point", "coordinates": [round(x, 8), round(y, 8)]}, separators=(",", ":"))
            for x, y in zip(table["longitude"], table["latitude"], strict=True)
        ]
    import shapely

    from rs05bench.datasets.simulated import shapes

    outlines, key = (shapes.parcel_shapes(world), "parcel_id") if task == "crop" else (shapes.tract_shapes(world), "tract_id")
    text = {
        name: json.dumps({"geodesic": False, **json.loads(shapely.to_geojson(shape))}, separators=(",", ":"))
        for name, shape in outlines.items()
    }
    return [text[name] for name in table[key]]
