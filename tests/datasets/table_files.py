"""Small tables as Earth Engine exports them, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.protocol import TaskCard

BANDS = [f"A{band:02d}" for band in range(8)]
CENTRES = {"north": (-93.0, 42.0), "south": (-60.0, -3.0), "west": (-120.0, 36.0)}


def export(region: str, n: int = 60, *, seed: int = 0, year: int = 2024) -> pd.DataFrame:
    """One region's export: unit-norm bands that know the class, two SAR columns that know it less, `.geo` and coordinates."""
    rng = np.random.default_rng([seed, sorted(CENTRES).index(region)])
    label = np.arange(n) % 3
    bands = rng.normal(size=(n, len(BANDS))) + 1.5 * np.eye(3, len(BANDS))[label]
    bands /= np.linalg.norm(bands, axis=1, keepdims=True)
    lon, lat = CENTRES[region][0] + rng.uniform(-1, 1, n), CENTRES[region][1] + rng.uniform(-1, 1, n)
    frame = pd.DataFrame({"system:index": [str(i) for i in range(n)], **dict(zip(BANDS, bands.T, strict=True))})
    frame["S1_VV"], frame["S1_VH"] = rng.normal(-10, 2, n) + label, rng.normal(-17, 2, n)
    frame["trees"] = (label == 1) * 0.8 + rng.uniform(0, 0.1, n)
    frame["lc_label"], frame["region"], frame["year"] = label, region, year
    frame["height"] = 10.0 + 5.0 * bands[:, 0] + rng.normal(0, 0.5, n)
    frame["longitude"], frame["latitude"] = lon, lat
    frame[".geo"] = [json.dumps({"geodesic": False, "type": "Point", "coordinates": [x, y]}) for x, y in zip(lon, lat, strict=True)]
    return frame


def write_regions(folder: Path, n: int = 60, **changes: Any) -> Path:
    """Three CSV files, a region each; `changes` are passed to `export`."""
    for region in CENTRES:
        export(region, n, **changes).to_csv(folder / f"points_{region}.csv", index=False)
    return folder


def card(**changes: Any) -> TaskCard:
    """A land-cover card over `write_regions`."""
    fields: dict[str, Any] = {
        "kind": "classification",
        "name": "landcover",
        "targets": ["lc_label"],
        "classes": [0, 1, 2],
        "groups": ["region"],
        "coordinates": {"x": "longitude", "y": "latitude"},
        "files": ["points_*.csv"],
        "features": {"alphaearth": ["A??"], "raw": ["S1_*"], "hybrid": ["alphaearth", "raw"]},
        "splits": ["leave-region-out", "random"],
        "split_options": {"block_size_m": 20_000, "buffer_m": 1_000},
        "budgets": ["5-per-class"],
    }
    return TaskCard.parse({key: value for key, value in {**fields, **changes}.items() if value is not None})


def regression_card(**changes: Any) -> TaskCard:
    """A height card over `write_regions`."""
    return card(kind="regression", name="height", targets=["height"], classes=None, budgets=["50-units"], **changes)
