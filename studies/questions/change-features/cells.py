"""Pixels in and around every simulated fire, with the embedding of the year before it and of its year."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from rs05bench.datasets.simulated import embedding, simulate
from rs05bench.embeddings import change_features
from rs05bench.protocol.card import TaskCard
from studies.questions.setting import Found, Setting

SETS = {
    "angle": ["change_angle"],
    "dot": ["change_dot"],
    "dnbr": ["dNBR"],
    "dndvi": ["dNDVI"],
    "indices": ["dNBR", "dNDVI"],
    "components": ["dA[0-9][0-9]"],
}


def cells(setting: Setting) -> Found:
    """Burned or not, and how severely, from each feature by itself."""
    folder = setting.store / "data"
    if not (folder / "SIMULATED.json").is_file():
        write_pixels(folder, "tiny" if setting.quick else "medium")
    found = Found()
    for kind in ("classification", "regression"):
        learner = "logistic" if kind == "classification" else "ridge"
        card = setting.card(change_card(kind))
        found.results += setting.sweep(
            card, folder, models=[f"{name}/{learner}" for name in SETS], splits=["leave-region-out"], budgets=["100-units"]
        )
    return found


def write_pixels(folder: Path, size: str) -> None:
    """Writes `pixels.csv` of a simulated world of some size."""
    world = simulate(size, 0)
    table = world.table("burn-scar")
    parts = []
    for wild in world.wildlands:
        for fire in wild.fires:
            rows = table[table["fire"] == fire.name]
            place = rows["pixel_id"].str.rsplit("-", n=2, expand=True)[[1, 2]].astype(int).to_numpy()
            before, after = (embedding.at_pixels(wild, year, place[:, 0], place[:, 1]) for year in (fire.year - 1, fire.year))
            values, names = change_features(before, after)
            parts.append(pd.concat([rows.reset_index(drop=True), pd.DataFrame(values, columns=names)], axis=1))
    whole = pd.concat(parts, ignore_index=True).dropna(subset=["change_angle"])
    kept = ["pixel_id", "label", "severity", "region", "biome", "fire", "year", "longitude", "latitude", "dNBR", "dNDVI"]
    folder.mkdir(parents=True, exist_ok=True)
    whole[[*kept, *names]].to_csv(folder / "pixels.csv", index=False, float_format="%.8g")
    (folder / "SIMULATED.json").write_text(json.dumps({"simulated": True, "size": size, "pixels": len(whole)}) + "\n", encoding="utf-8")


def change_card(kind: str) -> TaskCard:
    """The task over those pixels."""
    classes = kind == "classification"
    return TaskCard.model_validate(
        {
            "kind": kind,
            "name": "burned-change" if classes else "severity-change",
            "title": "Burned pixels from change (simulated)" if classes else "Burn severity from change (simulated)",
            "targets": ["label" if classes else "severity"],
            "classes": ["unburned", "burned"] if classes else None,
            "unit": ["pixel_id", "year"],
            "place": ["pixel_id"],
            "groups": ["region", "biome", "fire"],
            "coordinates": {"x": "longitude", "y": "latitude", "crs": "EPSG:4326"},
            "files": ["pixels.csv"],
            "features": SETS,
            "tiers": {name: "embedding" if name in ("angle", "dot", "components") else "raw" for name in SETS},
            "never_features": ["severity"] if classes else ["label"],
            "splits": ["leave-region-out"],
            "split_options": {"block_size_m": 2500, "buffer_m": 200, "max_folds": 10},
            "budgets": ["100-units"],
            "main_metric": "macro_f1" if classes else "r2",
            "simulated": True,
            "licence": "MIT",
            "source": "rs05bench.datasets.simulated",
            "overlap": "The simulated embedding was trained on nothing; its map is random and fixed.",
        }
    )
