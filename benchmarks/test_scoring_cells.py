"""What scoring costs one cell of a table, all of it: scores, grounds, groups, temperature, Moran's I, kept sums.

A sweep does this for every cell, so it must stay small beside the quickest fit. Target: 5 ms for about a thousand test units.
"""

from __future__ import annotations

import numpy as np
import pytest

from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.scored_labels import UnitLabels
from rs05bench.protocol.scoring import Scorer
from tests.protocol.toy import World, guess


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_scoring_one_cell(benchmark, kind: str) -> None:
    world = World(kind, n=3000, states=12)
    manifest = world.manifest("leave-state-out")
    fold = manifest.folds[0]
    predictions = guess(world.card, manifest, fold, world.labels, 3, 0.6, 0.3)
    scorer = Scorer.build(world.card, manifest, fold, UnitLabels.of(world.card, world.labels))
    none = np.array([], dtype=object)
    validation = LabelBudget("full", 0, none, predictions.of_role("val").unit_id, none)
    benchmark.extra_info["target"] = "5 ms"
    benchmark.extra_info["test units"] = len(scorer.unit_id)
    scored = benchmark.pedantic(scorer.score, args=(predictions,), kwargs={"validation": validation}, rounds=20, warmup_rounds=2)
    assert scored.sums
