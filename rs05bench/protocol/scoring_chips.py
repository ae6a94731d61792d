"""The one scorer of chips: predicted maps and masks in, scores out; memory holds one chip at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.group_report import group_report
from rs05bench.protocol.kept import KeptSums, gives
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.metrics.cluster_calibration import ClusterCalibration
from rs05bench.protocol.metrics.map_calibration import band_counts, fit_band_temperature, fit_sampled_temperature
from rs05bench.protocol.metrics.segmentation import SegmentationScorer
from rs05bench.protocol.predictions import PROBABILITY_PREFIX
from rs05bench.protocol.rasters import RasterPredictions
from rs05bench.protocol.result import Stratum
from rs05bench.protocol.scoring import Scored
from rs05bench.protocol.scoring_parts import MOST_GROUPS, TEST_ROLES, Part, lay_out

ReadLabels = Callable[[str], tuple[NDArray[np.integer], float | tuple[float, float]]]
"""Unit id -> mask (H, W) with -1 for what is not scored, and the size of a pixel in metres."""

STRATUM_METRICS = ("miou", "macro_f1", "boundary_f1", "area_error", "ece", "brier")


@dataclass(frozen=True, slots=True)
class ChipScorer:
    """A fold of a segmentation task made ready to score; build it with `ChipScorer.build`."""

    card: TaskCard
    manifest: SplitManifest
    fold: str
    classes: tuple[str, ...]
    read_labels: ReadLabels
    tolerance_m: float

    @classmethod
    def build(cls, card: TaskCard, manifest: SplitManifest, fold: str, classes: tuple[str, ...], read_labels: ReadLabels) -> ChipScorer:
        """Binds a fold to its labels; the boundary's tolerance is the card's `preprocessing.boundary_tolerance_m`, else two 30 m pixels."""
        tolerance = float(card.preprocessing.get("boundary_tolerance_m", 60.0))
        return cls(card, manifest, fold, classes, read_labels, tolerance)

    def sums(self, predictions: RasterPredictions, role: str, *, temperature: float | None = None) -> SegmentationScorer:
        """The sums of one role, a cluster a chip: what scores and intervals are computed from.

        Args:
            predictions: Maps of the role's chips.
            role: The role.
            temperature: Scales probabilities for the scores after scaling.

        Raises:
            DataError: Chips are missing, of another shape than their mask, or over other classes.
        """
        if predictions.classes != self.classes:
            raise DataError(f"predictions are over {predictions.classes}, and the task has {self.classes}", source=predictions.directory)
        rows = self.manifest.fold(self.fold)
        wanted = set(rows.loc[rows["role"].astype(str) == role, "unit_id"])
        there = set(predictions.table.loc[predictions.table["role"] == role, "unit_id"])
        if missing := sorted(wanted - there):
            raise DataError(
                f"{len(missing)} of {len(wanted)} chips of role {role} have no prediction, e.g. {missing[0]!r}",
                source=predictions.directory,
            )
        background = 0 if len(self.classes) == 2 else None
        scorer = SegmentationScorer(self.classes, self.tolerance_m, background=background, temperature=temperature)
        sampled = _by_chip(predictions, role)
        for unit, _, predicted, probability in predictions.chips([role]):
            if unit not in wanted:
                continue
            truth, pixel = self.read_labels(unit)
            if truth.shape != predicted.shape:
                raise DataError(f"chip {unit!r} is {predicted.shape}, and its mask {truth.shape}", source=predictions.directory)
            scorer.update(truth, predicted, pixel_size_m=pixel, cluster=unit, probabilities=probability)
            if predictions.samples is not None:
                at, p = self._sampled(predictions, sampled, unit, truth.size)
                scorer.update_sample(truth.ravel()[at], p, cluster=unit)
        return scorer

    def score(self, predictions: RasterPredictions, *, validation: LabelBudget | None = None) -> Scored:
        """Scores both test roles.

        Args:
            predictions: Maps of the test chips, and of validation chips where a temperature is to be fitted.
            validation: The budget: a temperature is fitted on the pixels it shows of its validation chips, and on no other.

        Raises:
            DataError: As `sums`.
        """
        temperature = self._temperature(predictions, validation)
        rows = self.manifest.fold(self.fold)
        rows = rows[rows["role"].astype(str).isin(TEST_ROLES)]
        ids = rows["unit_id"].to_numpy(dtype=object)
        scores: dict[str, dict[str, float]] = {}
        per_group: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
        kept: dict[str, KeptSums] = {}
        calibration: dict[str, dict[str, list[float]]] = {}
        fairness: dict[str, dict[str, dict[str, Any]]] = {}
        strata: list[Stratum] = []
        for part in lay_out(self.card, self.manifest, rows, pd.Index(ids)):
            units = ids[part.units]
            sums = self.sums(predictions, part.role, temperature=temperature)
            scores[part.role] = _finite(sums.scores() | sums.calibration_scores())
            if curve := _reliability(sums.calibration()):
                calibration[part.role] = curve
            shifts = np.array([part.strata[index][0] for index in part.stratum_of])
            for shift in sorted(set(shifts)) if len(set(shifts)) > 1 else ():
                scores[f"{part.role}:{shift}"] = _finite(sums.scores(units[shifts == shift]))
            for index, (shift, ground, group) in enumerate(part.strata):
                here = units[part.stratum_of == index]
                found = _finite(sums.scores(here))
                wanted = dict.fromkeys([*STRATUM_METRICS, self.card.main_metric])
                chosen = {metric: found[metric] for metric in wanted if metric in found}
                strata.append(Stratum(role=part.role, shift=shift, ground=ground, group=group, units=len(here), scores=chosen))
            per_group[part.role] = self._per_group(sums, part, units)
            kept[part.role] = _kept(sums, part, units)
            if found_groups := self._fairness(sums, part, units):
                fairness[part.role] = found_groups
        return Scored(scores, strata, per_group, calibration, kept, fairness)

    def _per_group(self, sums: SegmentationScorer, part: Part, units: NDArray[np.object_]) -> dict[str, dict[str, dict[str, float]]]:
        metrics = (self.card.main_metric, "boundary_f1")
        found: dict[str, dict[str, dict[str, float]]] = {}
        for column, (names, code) in part.groups.items():
            if len(names) > MOST_GROUPS:
                continue
            found[column] = {}
            for index, name in enumerate(names):
                here = units[code == index]
                scores = _finite(sums.scores(here))
                found[column][name] = {"units": float(len(here)), **{metric: scores[metric] for metric in metrics if metric in scores}}
        return found

    def _fairness(self, sums: SegmentationScorer, part: Part, units: NDArray[np.object_]) -> dict[str, dict[str, Any]]:
        kinds = (sums.confusion(), sums.boundary_sums(), sums.calibration())
        stats = next((kind for kind in kinds if gives(kind, self.card.main_metric)), None)
        if stats is None:
            return {}
        found: dict[str, dict[str, Any]] = {}
        for column in self.card.fairness_groups:
            names, code = part.groups[column]
            # A chip is of one group, so every group has the same clusters with the chips of others empty.
            of_unit = dict(zip(units, code, strict=True))
            mine = np.array([of_unit[cluster] for cluster in stats.clusters])
            of_group = [_only(stats, mine == index) for index in range(len(names))]
            found[column] = group_report(self.card.main_metric, names, of_group, np.bincount(code, minlength=len(names)))
        return found

    def _temperature(self, predictions: RasterPredictions, budget: LabelBudget | None) -> float | None:
        """The temperature of the budget's validation pixels; None where no validation chip was predicted or none shows a label."""
        table = predictions.table
        held = set() if budget is None else {str(unit) for unit in budget.val}
        files = table.loc[(table["role"] == "val") & table["unit_id"].isin(held), ["unit_id", "file"]]
        if budget is None or files.empty:
            return None
        counts: NDArray[np.int64] | None = None
        chips: list[tuple[NDArray[Any], NDArray[Any]]] = []
        sampled = _by_chip(predictions, "val")
        for unit, file in files.sort_values("unit_id").itertuples(index=False):
            truth, _ = self.read_labels(unit)
            shown = budget.pixel_mask(unit, *truth.shape) & (truth >= 0)
            if len(self.classes) == 2:
                band = predictions.band(file)
                if band.shape != truth.shape:
                    raise DataError(f"chip {unit!r} is {band.shape}, and its mask {truth.shape}", source=predictions.directory)
                found = band_counts(truth[shown], band[shown])
                counts = found if counts is None else counts + found
                continue
            pixel, p = self._sampled(predictions, sampled, unit, truth.size)
            seen = shown.ravel()[pixel]
            chips.append((truth.ravel()[pixel][seen], p[seen]))
        if counts is not None:
            return fit_band_temperature(counts) if counts.any() else None
        return fit_sampled_temperature(chips) if any(len(y) for y, _ in chips) else None

    def _sampled(
        self, predictions: RasterPredictions, sampled: Mapping[str, pd.DataFrame], unit: str, size: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The sampled pixels of a chip (flat indices), and their probabilities (n, K)."""
        rows = sampled.get(unit)
        pixel = np.empty(0, np.int64) if rows is None else rows["pixel"].to_numpy(dtype=np.int64)
        if rows is None or len(pixel) == 0 or pixel.min() < 0 or pixel.max() >= size:
            raise DataError(f"chip {unit!r} has no sampled probabilities inside its map", source=predictions.directory)
        p = rows[[f"{PROBABILITY_PREFIX}{value}" for value in self.classes]].to_numpy(dtype=np.float64)
        return pixel, p / p.sum(axis=1, keepdims=True)


def _by_chip(predictions: RasterPredictions, role: str) -> dict[str, pd.DataFrame]:
    """Sampled probabilities of a role's chips."""
    if predictions.samples is None:
        return {}
    return {str(unit): rows for unit, rows in predictions.samples[predictions.samples["role"] == role].groupby("unit_id", sort=False)}


def _reliability(stats: ClusterCalibration) -> dict[str, list[float]]:
    """The reliability curve of all chips; empty without probabilities."""
    bins = (stats.sums.shape[1] - 2) // 3
    count, confidence, hits = stats.sums[:, : 3 * bins].sum(0).reshape(3, bins)
    filled = count > 0
    if not filled.any():
        return {}
    return {
        "confidence": [round(float(value), 6) for value in confidence[filled] / count[filled]],
        "accuracy": [round(float(value), 6) for value in hits[filled] / count[filled]],
        "units": [float(value) for value in count[filled]],
    }


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}


def _kept(sums: SegmentationScorer, part: Part, units: NDArray[np.object_]) -> KeptSums:
    """Sums of chips added up to the rows that results keep."""
    row_of = dict(zip(units, part.row_of, strict=True))
    kinds: list[Any] = [sums.confusion(), sums.boundary_sums()]
    calibration = sums.calibration()
    if calibration.sums.any():
        kinds.append(calibration)
    added = []
    for stats in kinds:
        # Rows are numbered with leading zeros, so that their text order is their order.
        names = [f"{row_of[cluster]:09d}" for cluster in stats.clusters]
        rows = stats.regroup(names)
        added.append(replace(rows, clusters=tuple(map(str, range(part.rows)))))
    return KeptSums(part.keys, tuple(added))


def _only(stats: Any, kept: NDArray[np.bool_]) -> Any:
    """The sums with all other clusters emptied."""
    if isinstance(stats, ClusterCalibration):
        return replace(stats, sums=stats.sums * kept[:, None])
    return replace(stats, counts=stats.counts * kept.reshape(-1, *[1] * (stats.counts.ndim - 1)))
