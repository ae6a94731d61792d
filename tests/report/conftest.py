from __future__ import annotations

from pathlib import Path

import pytest

from rs05bench.datasets.simulated import write_tables
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.sweep import sweep
from rs05bench.report import Report, write_report

TARGET = "log_income"
GRIDS = {
    # Fast models only: what is tested here is the report, not the learners.
    "crop": (("floor/majority", "raw/knn", "alphaearth/knn"), ("leave-crop-system-out", "random"), ("5-per-class", "10-per-class"), None),
    "urban": (("floor/mean", "alphaearth/ridge"), ("leave-city-out",), ("20-units", "50-units"), (TARGET,)),
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a classification and a regression, run here in this process."""
    root = tmp_path_factory.mktemp("report")
    cards = write_tables(root / "data", tasks=list(GRIDS), size="tiny", seed=0)
    for task, (models, splits, budgets, targets) in GRIDS.items():
        summary = sweep(
            GridFile.over(
                cards[task],
                cards[task].parent,
                GridChoice(models=models, splits=splits, budgets=budgets, seeds=(0, 1), targets=targets),
                costs=False,
            ),
            root / "runs",
            jobs=1,
        )
        assert not summary.failed, summary.failed[0].error
    return root / "runs"


@pytest.fixture(scope="session")
def report(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return write_report(runs, tmp_path_factory.mktemp("page"))
