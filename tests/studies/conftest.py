"""Quick runs of the studies, made once: on simulated tables, and on tables whose truth is planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rs05bench.studies import find_study, run_study
from rs05bench.studies.page import Page
from rs05bench.studies.setting import Setting

REGIONS = {"north": (-93.0, 42.0), "south": (-60.0, -3.0), "west": (-120.0, 36.0), "bay": (-122.0, 38.5)}
Run = tuple[Page, Path, Path]


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """`quick("small-area")` is its page, the folder of the page, and the store; each is run once."""
    made: dict[tuple[str, Path | None], Run] = {}

    def run(name: str, real: Path | None = None) -> Run:
        if (name, real) not in made:
            root = tmp_path_factory.mktemp(name)
            page = run_study(find_study(name), Setting(root / "runs", real=real, quick=True), root / "page")
            made[name, real] = page, root / "page", root / "runs"
        return made[name, real]

    return run


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`planted("rotated")` is a folder of real-looking land-cover files in which each region spells its classes by other axes.

    `planted("alike")` has all regions spell them alike, behind so much noise that many labels are needed.
    """
    made: dict[str, Path] = {}

    def write(kind: str) -> Path:
        if kind not in made:
            root = tmp_path_factory.mktemp(kind)
            (root / "aef_landcover").mkdir()
            for number, (region, (lon, lat)) in enumerate(REGIONS.items()):
                table = _table(np.random.default_rng(number), region, lon, lat, 2 * number if kind == "rotated" else 0)
                table.to_csv(root / "aef_landcover" / f"alphaearth_s1_dw_samples_{region}_2024.csv", index=False)
            made[kind] = root
        return made[kind]

    return write


def _table(rng: np.random.Generator, region: str, lon: float, lat: float, turn: int) -> pd.DataFrame:
    label = np.tile(np.arange(9), 40)
    X = rng.normal(0, 0.35, (len(label), 64))
    X[np.arange(len(label)), (label + turn) % 9] += 1.0 if turn else 0.8
    columns = {"system:index": np.arange(len(label))} | {f"A{i:02d}": X[:, i] for i in range(64)}
    columns |= {name: rng.normal(-12, 3, len(label)) for name in ("S1_VV", "S1_VH", "S1_VV_div_VH")}
    columns |= {"dw_label": label, "region": region, "year": 2024}
    columns |= {"longitude": lon + rng.uniform(-0.6, 0.6, len(label)), "latitude": lat + rng.uniform(-0.6, 0.6, len(label))}
    return pd.DataFrame(columns)
