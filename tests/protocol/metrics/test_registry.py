"""What is said of the metrics is complete and true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rs05bench.errors import ProtocolError
from rs05bench.protocol.metrics import (
    METRICS,
    BandTable,
    Confusion,
    MapRules,
    Tally,
    classification_scores,
    find_metric,
    markdown_table,
    metric,
    regression_scores,
)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


def test_the_page_has_the_table_of_the_declarations():
    assert markdown_table() in PAGE.read_text()


def test_a_metric_is_added_by_its_declaration_alone():
    added = dict(METRICS)
    try:

        @metric("error_rate", sums=Confusion, tasks=("classification",), range=(0, 1), better="lower", words="share wrong")
        def _error_rate(parts):
            return 1 - parts.hits.sum(-1) / parts.truth.sum(-1)

        found = classification_scores(np.array([0, 1, 1, 0]), np.eye(2)[[0, 1, 0, 0]], ("a", "b"))
        assert found["error_rate"] == 0.25
        assert find_metric("error_rate").drop(0.1, 0.4) == pytest.approx(0.3)
        assert "`error_rate`" in markdown_table()
    finally:
        METRICS.pop("error_rate", None)
    assert added == METRICS


def test_a_name_is_declared_once():
    with pytest.raises(ProtocolError, match="declared twice"):
        metric("r2", words="", range=(0, 1), better="higher", tasks=("regression",))(lambda parts: parts)


@pytest.fixture(scope="module")
def computed():
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(3), 200), rng.integers(0, 3, 200)
    values = rng.normal(size=200)
    rules = MapRules(("land", "burnt"), tolerance_m=30)
    truth = rng.integers(0, 2, (20, 20))
    chip = rules.chip(truth, rng.integers(0, 2, (20, 20)), pixel_size_m=30)
    chip = Tally((*chip.kinds, *rules.band(truth, rng.random((20, 20)), BandTable()).kinds))
    return {
        "classification": classification_scores(y, p, ("a", "b", "c")),
        "regression": regression_scores(values, values + 1, np.stack([values, values + 2], axis=1)),
        "segmentation": chip.scores("segmentation"),
    }


@pytest.mark.parametrize("task", ["classification", "regression", "segmentation"])
def test_every_score_that_is_computed_is_described_and_in_its_range(computed, task):
    for name, value in computed[task].items():
        if name == "n":
            continue
        described = find_metric(name)
        assert task in described.tasks, name
        assert np.isnan(value) or described.range[0] <= value <= described.range[1], name


@pytest.mark.parametrize("name", ["f1_", "f2_corn", ""])
def test_an_unknown_metric_is_refused_with_the_known_ones(name):
    with pytest.raises(ProtocolError, match="macro_f1"):
        find_metric(name)


def test_scoring_needs_no_heavy_library():
    code = (
        "import sys, rs05bench.protocol.metrics, rs05bench.protocol.inference;"
        "print([m for m in ('torch', 'sklearn', 'cv2', 'scipy.stats') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
