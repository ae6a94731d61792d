"""Making a bundle from results: what is rounded keeps its order, and what was not measured is told before anyone checks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rs05bench.errors import SubmissionError
from rs05bench.protocol.predictions import Predictions
from rs05bench.protocol.result import Cell, Cost, ModelCard, Result
from rs05bench.protocol.submission.make import _costs, _write_units


def test_half_precision_keeps_which_class_is_the_most_probable(tmp_path):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 2000)
    # Nearly equal, as the votes of a forest are: rounding alone would tie them, and a tie falls to the first class.
    p[:500] = [0.33330, 0.33334, 0.33336]
    units = np.array([f"u{i}" for i in range(len(p))], dtype=object)
    role = np.array(["test_ood"] * len(p), dtype=object)
    _write_units(Predictions(unit_id=units, role=role, probabilities=p, classes=("a", "b", "c")), tmp_path / "units.parquet", half=True)
    found = pd.read_parquet(tmp_path / "units.parquet")[["p_a", "p_b", "p_c"]].to_numpy(dtype=np.float64)
    assert (p.astype(np.float16).argmax(axis=1) != p.argmax(axis=1)).sum() >= 500
    assert (found.argmax(axis=1) == p.argmax(axis=1)).all()
    assert np.abs(found - p).max() < 1e-3


def test_costs_that_were_not_measured_are_told_with_the_way_to_measure_them(tmp_path):
    cell = Cell(task="t", target="y", split="leave-region-out", fold="a", model="raw/rf", budget="full", seed=0)
    model = ModelCard(name="raw/rf", tier="raw", inputs="raw", learner="rf")
    result = Result(
        cell=cell,
        digest="0" * 64,
        kind="regression",
        main_metric="r2",
        higher_is_better=True,
        simulated=False,
        model=model,
        scores={},
        cost=Cost(fit_s=1.0),
    )
    with pytest.raises(SubmissionError, match="t/y/leave-region-out/full: run the same sweep again without --no-costs"):
        _costs([(result, tmp_path)], {}, result)
