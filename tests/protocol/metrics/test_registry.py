"""What is said of the metrics is complete and true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rs05bench.errors import ProtocolError
from rs05bench.protocol.metrics import METRICS, SegmentationScorer, classification_scores, metric, regression_scores

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


def test_the_page_has_a_row_for_every_metric():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert {row.split("`")[1] for row in rows} == set(METRICS)


@pytest.fixture(scope="module")
def computed():
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(3), 200), rng.integers(0, 3, 200)
    values = rng.normal(size=200)
    scorer = SegmentationScorer(("land", "burnt"), tolerance_m=30)
    scorer.update(rng.integers(0, 2, (20, 20)), rng.integers(0, 2, (20, 20)), pixel_size_m=30, probabilities=rng.random((20, 20)))
    return {
        "classification": classification_scores(y, p, ("a", "b", "c")),
        "regression": regression_scores(values, values + 1, np.stack([values, values + 2], axis=1)),
        "segmentation": scorer.scores(),
    }


@pytest.mark.parametrize("task", ["classification", "regression", "segmentation"])
def test_every_score_that_is_computed_is_described_and_in_its_range(computed, task):
    for name, value in computed[task].items():
        if name == "n":
            continue
        described = metric(name)
        assert task in described.tasks, name
        assert described.range[0] <= value <= described.range[1], name


@pytest.mark.parametrize("name", ["f1_", "f2_corn", ""])
def test_an_unknown_metric_is_refused_with_the_known_ones(name):
    with pytest.raises(ProtocolError, match="macro_f1"):
        metric(name)


def test_scoring_needs_no_heavy_library():
    code = (
        "import sys, rs05bench.protocol.metrics, rs05bench.protocol.inference;"
        "print([m for m in ('torch', 'sklearn', 'cv2', 'scipy.stats') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
