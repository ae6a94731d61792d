"""All kinds of kept sums in one place, and reading them back."""

from __future__ import annotations

from typing import Any, cast

from rs05bench.errors import DataError
from rs05bench.protocol.metrics.cluster_boundary import ClusterBoundary
from rs05bench.protocol.metrics.cluster_calibration import ClusterCalibration
from rs05bench.protocol.metrics.cluster_confusion import ClusterConfusion
from rs05bench.protocol.metrics.cluster_moments import ClusterMoments
from rs05bench.protocol.metrics.cluster_sums import SufficientStats, metric_from_stats

__all__ = [
    "ClusterBoundary",
    "ClusterCalibration",
    "ClusterConfusion",
    "ClusterMoments",
    "SufficientStats",
    "metric_from_stats",
    "stats_from_dict",
]

_KINDS = {"confusion": ClusterConfusion, "moments": ClusterMoments, "calibration": ClusterCalibration, "boundary": ClusterBoundary}


def stats_from_dict(record: dict[str, Any]) -> ClusterConfusion | ClusterMoments | ClusterCalibration | ClusterBoundary:
    """Read any kept sums back by their `kind`.

    Raises:
        DataError: The record is of no known kind.
    """
    if record.get("kind") not in _KINDS:
        raise DataError(f"kept sums of kind {record.get('kind')!r}; expected one of {', '.join(_KINDS)}")
    return cast(Any, _KINDS[record["kind"]]).from_dict(record)
