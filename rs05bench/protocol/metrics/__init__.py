"""Every score of the protocol: stateless functions, plain NumPy in, numbers out.

`METRICS` says of each what it means, where its definition comes from and which way is better.
"""

from __future__ import annotations

import math

from rs05bench.protocol.metrics import area, boundary, calibration, confusion, regression, spatial
from rs05bench.protocol.metrics.area import area_errors, relative_area_error, size_classes
from rs05bench.protocol.metrics.boundary import BoundaryCounts, boundary_counts
from rs05bench.protocol.metrics.classification import AreaAdjusted, area_adjusted_accuracy, classification_scores
from rs05bench.protocol.metrics.confusion import confusion_matrix
from rs05bench.protocol.metrics.parcels import ParcelVotes, count_votes
from rs05bench.protocol.metrics.registry import Metric, find_metric
from rs05bench.protocol.metrics.regression import regression_scores
from rs05bench.protocol.metrics.segmentation import SegmentationScorer
from rs05bench.protocol.metrics.spatial import distance_weights, knn_weights, local_morans_i, morans_i
from rs05bench.protocol.metrics.sufficient import (
    ClusterBoundary,
    ClusterCalibration,
    ClusterConfusion,
    ClusterMoments,
    metric_from_stats,
    stats_from_dict,
)

_LABELLED = ("classification", "segmentation")
_COUNTS = ("labels",)
_RARE = -math.log(calibration.SMALLEST_PROBABILITY)


def _counted(name: str, function: object, source: str, *, low: float = 0.0, tasks: tuple[str, ...] = _LABELLED) -> Metric:
    kind = "segmentation" if tasks == ("segmentation",) else "classification"
    return Metric(name, kind, True, (low, 1.0), _COUNTS, source, function, tasks)  # type: ignore[arg-type]


_ALL = (
    _counted("macro_f1", confusion.macro_f1, "van Rijsbergen 1979; mean over the classes present, Opitz & Burst 2019 arXiv:1911.03347"),
    _counted("balanced_accuracy", confusion.balanced_accuracy, "Brodersen et al. 2010, doi:10.1109/ICPR.2010.764"),
    _counted("overall_accuracy", confusion.overall_accuracy, "Congalton 1991, doi:10.1016/0034-4257(91)90048-B"),
    _counted("kappa", confusion.kappa, "Cohen 1960; on its limits Foody 2020, doi:10.1016/j.rse.2019.111630", low=-1.0),
    _counted("f1_<class>", confusion.f1_per_class, "van Rijsbergen 1979"),
    _counted("precision_<class>", confusion.precision_per_class, "user's accuracy, Congalton 1991"),
    _counted("recall_<class>", confusion.recall_per_class, "producer's accuracy, Congalton 1991"),
    _counted("miou", confusion.mean_iou, "Everingham et al. 2010, doi:10.1007/s11263-009-0275-4", tasks=("segmentation",)),
    _counted("iou_<class>", confusion.iou_per_class, "Jaccard 1912; Everingham et al. 2010", tasks=("segmentation",)),
    *(
        Metric(
            name,
            "segmentation",
            True,
            (0, 1),
            ("masks", "pixel_size"),
            "Csurka et al. 2013, doi:10.5244/C.27.32",
            boundary.boundary_counts,
            ("segmentation",),
        )
        for name in ("boundary_f1", "boundary_f1_<class>")
    ),
    Metric(
        "area_error",
        "segmentation",
        False,
        (0, math.inf),
        _COUNTS,
        "mean over classes of |mapped - true| / true",
        area.relative_area_error,
        ("segmentation",),
    ),
    Metric(
        "area_rmse_<class>",
        "segmentation",
        False,
        (0, math.inf),
        ("labels", "pixel_size"),
        "root mean square over regions of mapped - true area",
        area.area_errors,
        ("segmentation",),
    ),
    Metric("ece", "calibration", False, (0, 1), ("probabilities",), "Guo et al. 2017, arXiv:1706.04599", calibration.ece, _LABELLED),
    Metric(
        "ece_mass",
        "calibration",
        False,
        (0, 1),
        ("probabilities",),
        "Nixon et al. 2019, arXiv:1904.01685",
        calibration.ece,
        ("classification",),
    ),
    Metric(
        "ece_classwise",
        "calibration",
        False,
        (0, 1),
        ("probabilities",),
        "Kull et al. 2019, arXiv:1910.12656",
        calibration.classwise_ece,
        _LABELLED,
    ),
    Metric("brier", "calibration", False, (0, 2), ("probabilities",), "Brier 1950 (summed over all classes)", calibration.brier, _LABELLED),
    Metric(
        "nll", "calibration", False, (0, _RARE), ("probabilities",), "Good 1952; probabilities floored at 2^-23", calibration.nll, _LABELLED
    ),
    *(
        Metric(
            f"{name}_scaled",
            "calibration",
            False,
            (0, high),
            ("probabilities", "validation labels"),
            "after temperature scaling, Guo et al. 2017, arXiv:1706.04599",
            calibration.apply_temperature,
            tasks,
        )
        for name, high, tasks in (
            ("ece", 1, _LABELLED),
            ("ece_classwise", 1, _LABELLED),
            ("brier", 2, _LABELLED),
            ("nll", _RARE, _LABELLED),
        )
    ),
    Metric(
        "r2",
        "regression",
        True,
        (-math.inf, 1),
        ("values",),
        "1 - SSE/SST about the mean of the scored truth",
        regression.r2,
        ("regression",),
    ),
    Metric("mae", "regression", False, (0, math.inf), ("values",), "mean |prediction - truth|", regression.mae, ("regression",)),
    Metric("rmse", "regression", False, (0, math.inf), ("values",), "root of the mean squared error", regression.rmse, ("regression",)),
    Metric(
        "bias", "regression", None, (-math.inf, math.inf), ("values",), "mean prediction - truth", regression.bias, ("regression",), 0.0
    ),
    Metric(
        "spearman", "regression", True, (-1, 1), ("values",), "Spearman 1904, mean ranks for ties", regression.spearman, ("regression",)
    ),
    Metric("pearson", "regression", True, (-1, 1), ("values",), "Pearson 1895", regression.pearson, ("regression",)),
    Metric(
        "coverage90",
        "calibration",
        None,
        (0, 1),
        ("values", "interval"),
        "share of truth inside the 90 % interval",
        regression.interval_coverage,
        ("regression",),
        0.9,
    ),
    Metric(
        "width90",
        "calibration",
        False,
        (0, math.inf),
        ("interval",),
        "mean width of the 90 % interval; read beside coverage90",
        regression.regression_scores,
        ("regression",),
    ),
    Metric(
        "morans_i",
        "spatial",
        None,
        (-math.inf, math.inf),
        ("values", "coordinates"),
        "Moran 1950; permutation test Cliff & Ord 1981",
        spatial.morans_i,
        ("regression",),
        0.0,
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def metric(name: str) -> Metric:
    """The metric of this name; `f1_corn` gives `f1_<class>`.

    Raises:
        ProtocolError: No metric has this name.
    """
    return find_metric(name, METRICS)


__all__ = [
    "METRICS",
    "AreaAdjusted",
    "BoundaryCounts",
    "ClusterBoundary",
    "ClusterCalibration",
    "ClusterConfusion",
    "ClusterMoments",
    "Metric",
    "ParcelVotes",
    "SegmentationScorer",
    "area_adjusted_accuracy",
    "area_errors",
    "boundary_counts",
    "classification_scores",
    "confusion_matrix",
    "count_votes",
    "distance_weights",
    "find_metric",
    "knn_weights",
    "local_morans_i",
    "metric",
    "metric_from_stats",
    "morans_i",
    "regression_scores",
    "relative_area_error",
    "size_classes",
    "stats_from_dict",
]
