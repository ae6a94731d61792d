"""The fair protocol: cards, units, splits, budgets, predictions, metrics, scores. Needs no torch.

Names are imported when first used, so that `import rs05bench.protocol` stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rs05bench.extras import first_use

if TYPE_CHECKING:
    from rs05bench.protocol.budget import LabelBudget, draw_budget
    from rs05bench.protocol.card import TaskCard
    from rs05bench.protocol.comparison import compare
    from rs05bench.protocol.cross_validation import ManifestCV
    from rs05bench.protocol.manifest import SplitManifest, build_manifest, load_manifest
    from rs05bench.protocol.predictions import Predictions
    from rs05bench.protocol.rescoring import score
    from rs05bench.protocol.result import Cell, Cost, Model, ModelCard, Result
    from rs05bench.protocol.splitters import draw_folds, possible_splits
    from rs05bench.protocol.taskdata import TaskData, TaskSource
    from rs05bench.protocol.units import UnitTable

_HOME = {
    "Cell": "result",
    "Cost": "result",
    "LabelBudget": "budget",
    "Model": "result",
    "ManifestCV": "cross_validation",
    "ModelCard": "result",
    "Predictions": "predictions",
    "Result": "result",
    "SplitManifest": "manifest",
    "TaskCard": "card",
    "TaskData": "taskdata",
    "TaskSource": "taskdata",
    "UnitTable": "units",
    "build_manifest": "manifest",
    "compare": "comparison",
    "draw_budget": "budget",
    "draw_folds": "splitters",
    "load_manifest": "manifest",
    "possible_splits": "splitters",
    "score": "rescoring",
}

__all__ = [
    "Cell",
    "Cost",
    "LabelBudget",
    "ManifestCV",
    "Model",
    "ModelCard",
    "Predictions",
    "Result",
    "SplitManifest",
    "TaskCard",
    "TaskData",
    "TaskSource",
    "UnitTable",
    "build_manifest",
    "compare",
    "draw_budget",
    "draw_folds",
    "load_manifest",
    "possible_splits",
    "score",
]

__getattr__, __dir__ = first_use(__name__, _HOME)
