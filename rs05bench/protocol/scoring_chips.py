"""The one scorer of chips: predicted maps and masks in, scores out; memory holds one chip at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.metrics.segmentation import SegmentationScorer
from rs05bench.protocol.predictions import PROBABILITY_PREFIX
from rs05bench.protocol.rasters import RasterPredictions
from rs05bench.protocol.result import Stratum
from rs05bench.protocol.scoring import MOST_GROUPS, TEST_ROLES, Scored

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

    def sums(self, predictions: RasterPredictions, role: str) -> SegmentationScorer:
        """The sums of one role, a cluster a chip: what scores and intervals are computed from.

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
        scorer = SegmentationScorer(self.classes, self.tolerance_m, background=0 if len(self.classes) == 2 else None)
        for unit, _, predicted, probability in predictions.chips([role]):
            if unit not in wanted:
                continue
            truth, pixel = self.read_labels(unit)
            if truth.shape != predicted.shape:
                raise DataError(f"chip {unit!r} is {predicted.shape}, and its mask {truth.shape}", source=predictions.directory)
            scorer.update(truth, predicted, pixel_size_m=pixel, cluster=unit, probabilities=probability)
            if predictions.samples is not None:
                self._sampled(scorer, predictions, unit, role, truth)
        return scorer

    def score(self, predictions: RasterPredictions) -> Scored:
        """Scores both test roles.

        Raises:
            DataError: As `sums`.
        """
        rows = self.manifest.fold(self.fold).set_index("unit_id")
        grounds = self.manifest.grounds()
        groups = self._groups()
        scores: dict[str, dict[str, float]] = {}
        per_group: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
        strata: list[Stratum] = []
        for role in TEST_ROLES:
            units = sorted(rows.index[rows["role"].astype(str) == role])
            if not units:
                continue
            sums = self.sums(predictions, role)
            scores[role] = _finite(sums.scores())
            shift = rows.loc[units, "shift"].astype(str)
            for name in sorted(set(shift)):
                of_shift = [unit for unit in units if shift[unit] == name]
                if shift.nunique() > 1:
                    scores[f"{role}:{name}"] = _finite(sums.scores(of_shift))
                ground = grounds.reindex(of_shift).fillna("")
                for place in sorted(set(ground)):
                    here = [unit for unit in of_shift if ground[unit] == place]
                    found = _finite(sums.scores(here))
                    kept = {metric: found[metric] for metric in STRATUM_METRICS if metric in found}
                    strata.append(Stratum(role=role, shift=name, ground=place, units=len(here), scores=kept))
            per_group[role] = {
                column: {
                    value: {
                        "units": found.pop("clusters"),
                        **{name: found[name] for name in (self.card.main_metric, "boundary_f1") if name in found},
                    }
                    for value, found in ((value, _finite(found)) for value, found in sums.scores_by_group(of_unit).items())
                }
                for column, of_unit in groups.items()
                if len(set(of_unit.values())) <= MOST_GROUPS
            }
        return Scored(scores, strata, per_group, {})

    def _groups(self) -> dict[str, Mapping[str, str]]:
        placed = self.manifest.units.set_index("unit_id")
        found = {column: placed[column].astype(str).to_dict() for column in self.card.groups}
        if self.card.year is not None:
            found["year"] = placed["year"].astype(str).to_dict()
        return found

    def _sampled(
        self, scorer: SegmentationScorer, predictions: RasterPredictions, unit: str, role: str, truth: NDArray[np.integer]
    ) -> None:
        samples = predictions.samples
        assert samples is not None
        rows = samples[(samples["unit_id"] == unit) & (samples["role"] == role)]
        columns = [f"{PROBABILITY_PREFIX}{value}" for value in self.classes]
        p = rows[columns].to_numpy(dtype=np.float64)
        pixel = rows["pixel"].to_numpy(dtype=np.int64)
        if len(p) == 0 or pixel.min() < 0 or pixel.max() >= truth.size:
            raise DataError(f"chip {unit!r} has no sampled probabilities inside its map", source=predictions.directory)
        scorer.update_sample(truth.ravel()[pixel], p / p.sum(axis=1, keepdims=True), cluster=unit)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}
