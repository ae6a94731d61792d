"""Scores of maps, chip after chip: memory stays flat however many chips there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.metrics.area import AreaError, area_errors, relative_area_error
from rs05bench.protocol.metrics.boundary import BoundaryCounts, boundary_counts
from rs05bench.protocol.metrics.calibration import N_BINS
from rs05bench.protocol.metrics.confusion import confusion_matrix, scores_of_counts
from rs05bench.protocol.metrics.map_calibration import MapCalibration, band_counts, binary_sums
from rs05bench.protocol.metrics.sufficient import ClusterBoundary, ClusterCalibration, ClusterConfusion

OVER_CLASSES = ("miou", "macro_f1", "balanced_accuracy", "overall_accuracy", "kappa")
PER_CLASS = ("iou", "f1", "precision", "recall")


@dataclass
class _Cluster:
    counts: NDArray[np.int64]
    boundary: dict[int, BoundaryCounts]
    calibration: NDArray[np.float64]
    pixel_area_m2: float
    chips: int = 0


@dataclass
class SegmentationScorer:
    """Adds up chips and gives every segmentation score.

    Kept are sums per cluster (a fire, a block, a county), never a chip. The sums are what intervals are computed from.

    Args:
        classes: K names; index 0 is the background where `background` says so.
        tolerance_m: Tolerance of the boundary F1 in metres.
        ignore_index: Value of the truth that is not scored.
        background: Class whose boundary and area are not of interest; None when all are.
        bins: Bins of the calibration error.
        temperature: Scales the probabilities for the scores of `calibration_scores`; None for none.
    """

    classes: Sequence[str]
    tolerance_m: float
    ignore_index: int | None = -1
    background: int | None = 0
    bins: int = N_BINS
    temperature: float | None = None
    _clusters: dict[str, _Cluster] = field(default_factory=dict, repr=False)
    _whole: MapCalibration = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._whole = MapCalibration(len(self.classes), self.temperature, self.bins)

    def update(
        self,
        y_true: NDArray[np.integer],
        y_pred: NDArray[np.integer],
        *,
        pixel_size_m: float | tuple[float, float],
        cluster: str = "all",
        probabilities: NDArray | None = None,
    ) -> None:
        """Add one chip.

        Args:
            y_true: (H, W) class indices.
            y_pred: (H, W) class indices.
            pixel_size_m: Width of a pixel in metres, or (width, height).
            cluster: The fire, block or group this chip belongs to.
            probabilities: (K, H, W), or (H, W) for the probability of the second of two classes; None when they come as
                samples (see `update_sample`).
        """
        truth, predicted = np.asarray(y_true), np.asarray(y_pred)
        if truth.shape != predicted.shape or truth.ndim != 2:
            raise DataError(f"expected two maps (H, W), found {truth.shape} and {predicted.shape}")
        width, height = (pixel_size_m, pixel_size_m) if isinstance(pixel_size_m, int | float) else pixel_size_m
        kept = self._cluster(cluster, width * height)
        kept.counts += confusion_matrix(truth, predicted, len(self.classes), ignore_index=self.ignore_index)
        kept.chips += 1
        valid = None if self.ignore_index is None else truth != self.ignore_index
        if valid is not None and valid.all():
            valid = None
        for k in self._of_interest():
            found = boundary_counts(truth == k, predicted == k, tolerance_m=self.tolerance_m, pixel_size_m=(width, height), valid=valid)
            kept.boundary[k] = kept.boundary.get(k, BoundaryCounts()) + found
        if probabilities is not None:
            self._add_probabilities(kept, truth, np.asarray(probabilities), valid)

    def update_sample(self, y_true: NDArray[np.integer], probabilities: NDArray, *, cluster: str = "all") -> None:
        """Add calibration from sampled pixels only: labels (n,) and probabilities (n, K). The map itself comes by `update`."""
        names = np.full(len(y_true), cluster)
        stats = ClusterCalibration.from_probabilities(names, y_true, probabilities, bins=self.bins, ignore_index=self.ignore_index)
        if len(stats.clusters):
            self._cluster(cluster, float("nan")).calibration += stats.sums[0]
            self._add_whole(np.asarray(y_true), np.asarray(probabilities))

    def merge(self, other: SegmentationScorer) -> None:
        """Add what another scorer (another process, another fold) has seen."""
        if tuple(self.classes) != tuple(other.classes) or self.tolerance_m != other.tolerance_m:
            raise DataError("scorers of different classes or tolerance cannot be merged")
        for name, theirs in other._clusters.items():
            ours = self._cluster(name, theirs.pixel_area_m2)
            ours.counts += theirs.counts
            ours.calibration += theirs.calibration
            ours.chips += theirs.chips
            for k, found in theirs.boundary.items():
                ours.boundary[k] = ours.boundary.get(k, BoundaryCounts()) + found
        self._whole.merge(other._whole)

    def confusion(self) -> ClusterConfusion:
        """Confusion counts per cluster: the sums behind every interval."""
        names = tuple(sorted(self._clusters))
        k = len(self.classes)
        counts = np.stack([self._clusters[name].counts for name in names]) if names else np.zeros((0, k, k), np.int64)
        return ClusterConfusion(names, tuple(self.classes), counts, self.background)

    def calibration(self) -> ClusterCalibration:
        """Calibration sums per cluster."""
        names = tuple(sorted(self._clusters))
        sums = np.stack([self._clusters[name].calibration for name in names]) if names else np.zeros((0, 3 * self.bins + 2))
        return ClusterCalibration(names, sums)

    def boundary_sums(self) -> ClusterBoundary:
        """Boundary counts per cluster, for intervals of the boundary F1."""
        names, of_interest = tuple(sorted(self._clusters)), self._of_interest()
        rows = [
            (found.predicted_matched, found.predicted, found.true_matched, found.true)
            for name in names
            for found in (self._clusters[name].boundary.get(k, BoundaryCounts()) for k in of_interest)
        ]
        counts = np.array(rows, dtype=np.int64).reshape(len(names), len(of_interest), 4)
        return ClusterBoundary(names, tuple(self.classes[k] for k in of_interest), counts)

    def boundary(self, clusters: Iterable[str] | None = None) -> dict[str, BoundaryCounts]:
        """Boundary counts of each class of interest, of these clusters (default: all)."""
        chosen = list(self._clusters) if clusters is None else list(clusters)
        return {
            self.classes[k]: sum((self._clusters[name].boundary.get(k, BoundaryCounts()) for name in chosen), BoundaryCounts())
            for k in self._of_interest()
        }

    def areas(self) -> dict[str, AreaError]:
        """Area error of each class in hectares, with the RMSE over clusters."""
        stats = self.confusion()
        pixel_ha = np.array([self._clusters[name].pixel_area_m2 / 1e4 for name in stats.clusters])
        return area_errors(stats.counts, self.classes, pixel_area=pixel_ha)

    def scores(self, clusters: Iterable[str] | None = None) -> dict[str, float]:
        """Every score over all chips, or over these clusters.

        Returns:
            `miou`, `macro_f1`, `balanced_accuracy`, `overall_accuracy`, `kappa`, `boundary_f1` (mean over the classes of interest that have
            a boundary), `area_error`, with probabilities also `ece`, `brier`, `nll`; `iou_`, `f1_`, `precision_`, `recall_`,
            `boundary_f1_<class>` where defined.
        """
        chosen = sorted(self._clusters) if clusters is None else list(clusters)
        k = len(self.classes)
        counts = sum((self._clusters[name].counts for name in chosen), np.zeros((k, k), np.int64))
        scores = {"n": float(counts.sum())}
        scores.update(scores_of_counts(counts, self.classes, names=OVER_CLASSES, per_class=PER_CLASS))
        edges = {name: found.f1 for name, found in self.boundary(chosen).items()}
        defined = {name: value for name, value in edges.items() if value == value}
        scores["boundary_f1"] = float(np.mean(list(defined.values()))) if defined else float("nan")
        scores.update({f"boundary_f1_{name}": value for name, value in defined.items()})
        scores["area_error"] = relative_area_error(counts, background=self.background)
        sums = sum((self._clusters[name].calibration for name in chosen), np.zeros(3 * self.bins + 2))
        if sums[: self.bins].sum():
            stats = ClusterCalibration(("all",), sums[None])
            scores.update({name: float(stats.evaluate(name, sums)) for name in stats.metrics})
        return scores

    def calibration_scores(self) -> dict[str, float]:
        """`ece_classwise`, and with a temperature the scores after scaling: over all chips, see `MapCalibration`."""
        return self._whole.scores()

    def scores_by_cluster(self) -> dict[str, dict[str, float]]:
        """Every score of each cluster, e.g. of each fire."""
        return {name: self.scores([name]) for name in sorted(self._clusters)}

    def scores_by_group(self, groups: Mapping[str, str]) -> dict[str, dict[str, float]]:
        """Every score of each group of clusters (a size class, a biome); `groups` names the group of each cluster.

        The entry `clusters` says how many there are in the group.
        """
        members: dict[str, list[str]] = {}
        for name in sorted(self._clusters):
            members.setdefault(groups[name], []).append(name)
        return {group: {"clusters": float(len(names)), **self.scores(names)} for group, names in sorted(members.items())}

    def _of_interest(self) -> list[int]:
        return [k for k in range(len(self.classes)) if k != self.background]

    def _cluster(self, name: str, pixel_area_m2: float) -> _Cluster:
        kept = self._clusters.get(name)
        if kept is None:
            k = len(self.classes)
            kept = _Cluster(np.zeros((k, k), np.int64), {}, np.zeros(3 * self.bins + 2), pixel_area_m2)
            self._clusters[name] = kept
        elif np.isnan(kept.pixel_area_m2):
            kept.pixel_area_m2 = pixel_area_m2
        elif not np.isnan(pixel_area_m2) and abs(kept.pixel_area_m2 - pixel_area_m2) > 1e-3 * kept.pixel_area_m2:
            raise DataError(
                f"cluster {name!r} has chips of {kept.pixel_area_m2:g} m2 and of {pixel_area_m2:g} m2 a pixel; areas cannot be added"
            )
        return kept

    def _add_probabilities(self, kept: _Cluster, truth: NDArray, probabilities: NDArray, valid: NDArray | None) -> None:
        if probabilities.ndim == 2 and len(self.classes) == 2 and probabilities.shape == truth.shape:
            labels, p = (truth, probabilities) if valid is None else (truth[valid], probabilities[valid])
            counts = band_counts(labels.ravel(), p.ravel())
            kept.calibration += binary_sums(counts, self.bins)
            self._whole.add_band(counts)
            return
        if probabilities.shape != (len(self.classes), *truth.shape):
            raise DataError(f"probabilities {probabilities.shape} do not fit {len(self.classes)} classes of a map {truth.shape}")
        labels, p = truth.ravel(), probabilities.reshape(len(self.classes), -1).T
        stats = ClusterCalibration.from_probabilities(
            np.full(labels.size, "all"), labels, p, bins=self.bins, ignore_index=self.ignore_index
        )
        if len(stats.clusters):
            kept.calibration += stats.sums[0]
            self._add_whole(labels, p)

    def _add_whole(self, y_true: NDArray, probabilities: NDArray) -> None:
        scored = np.ones(len(y_true), bool) if self.ignore_index is None else y_true != self.ignore_index
        self._whole.add(y_true[scored], probabilities[scored])
