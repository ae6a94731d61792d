"""Every score of the protocol, each with one formula: a function of sums, or of the units themselves where sums do not give it.

`METRICS` has of each what it means, where its definition comes from and which way is better. `Kind.of(arrays).evaluate(name)` computes one.
A metric is found by being declared (`@metric`) in a module of this folder.
"""

import importlib
import pkgutil

from rs05bench.protocol.metrics.answers import ClassAnswers, UnitAnswers, ValueAnswers, classification_scores, regression_scores
from rs05bench.protocol.metrics.area import AreaAdjusted, RegionalAreas, area_adjusted_accuracy
from rs05bench.protocol.metrics.boundary import Boundary, BoundaryCounts, boundary_counts
from rs05bench.protocol.metrics.calibration import Calibration, ClassCalibration, Reliability
from rs05bench.protocol.metrics.chip_sums import BandTable, MapRules, stack
from rs05bench.protocol.metrics.confusion import Confusion, confusion_matrix
from rs05bench.protocol.metrics.declaration import METRICS, Metric, find_metric, markdown_table, metric
from rs05bench.protocol.metrics.moments import Moments
from rs05bench.protocol.metrics.spatial import knn_weights, morans_i
from rs05bench.protocol.metrics.sums import Clusters, SufficientStats, Sums, Tally, UnitSums

__all__ = [
    "METRICS",
    "AreaAdjusted",
    "BandTable",
    "Boundary",
    "BoundaryCounts",
    "Calibration",
    "ClassAnswers",
    "ClassCalibration",
    "Clusters",
    "Confusion",
    "MapRules",
    "Metric",
    "Moments",
    "RegionalAreas",
    "Reliability",
    "SufficientStats",
    "Sums",
    "Tally",
    "UnitAnswers",
    "UnitSums",
    "ValueAnswers",
    "area_adjusted_accuracy",
    "boundary_counts",
    "classification_scores",
    "confusion_matrix",
    "find_metric",
    "knn_weights",
    "markdown_table",
    "metric",
    "morans_i",
    "regression_scores",
    "stack",
]

for _module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")
