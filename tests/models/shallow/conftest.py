"""Tasks for the shallow models: a small land-cover and a height table of three regions, split and budgeted as in a sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import pytest

from rs05bench.datasets.embedding_table import EmbeddingTable
from rs05bench.protocol import SplitManifest, TaskCard, TaskData, build_manifest
from tests.datasets.table_files import CENTRES, card, export, regression_card


@dataclass
class Task:
    """A table with its manifest."""

    table: EmbeddingTable
    manifest: SplitManifest

    @property
    def card(self) -> TaskCard:
        return self.table.card

    def data(self, budget: str = "10-per-class", seed: int = 0, fold: str | None = None) -> TaskData:
        return TaskData.build(self.table, self.manifest, fold or self.manifest.folds[0], budget, seed)


def _write(folder, years=(2024,), n=90) -> None:
    for region in CENTRES:
        parts = [export(region, n, year=year, seed=0 if len(years) == 1 else year) for year in years]
        for part in parts[1:]:  # the same places in every year
            part[["longitude", "latitude", ".geo"]] = parts[0][["longitude", "latitude", ".geo"]]
        frame = pd.concat(parts, ignore_index=True)
        frame["place"] = [f"{region}-{row % n}" for row in range(len(frame))]
        frame["system:index"] = [str(row) for row in range(len(frame))]
        frame.to_csv(folder / f"points_{region}.csv", index=False)


@pytest.fixture(scope="session")
def make_task(tmp_path_factory) -> Callable[..., Task]:
    def make(kind: str = "classification", *, split: str = "leave-region-out", years: tuple[int, ...] = (2024,), **changes) -> Task:
        folder = tmp_path_factory.mktemp("task")
        _write(folder, years)
        build = card if kind == "classification" else regression_card
        if len(years) > 1:
            changes = {"year": "year", "unit": ["place", "year"], **changes}
        table = EmbeddingTable(build(**{"splits": [split], **changes}), folder)
        return Task(table, build_manifest(table.card, table.units(), split))

    return make


@pytest.fixture(scope="session")
def landcover(make_task) -> Task:
    return make_task()


@pytest.fixture(scope="session")
def height(make_task) -> Task:
    return make_task("regression")
