"""Where chips fail, from the sums that results keep: no raster is read, and a place is a test block."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.protocol.metrics import ClusterConfusion
from rs05bench.protocol.metrics.cluster_calibration import ClusterCalibration
from rs05bench.report.data import WHERE, Study, interval, plain_estimate
from rs05bench.report.evidence import ELSEWHERE, HOME, Key

PIXELS = "overall_accuracy"
"""Any score of the confusion counts finds them."""


def block_errors(study: Study, model: str) -> pd.DataFrame:
    """Held-out error of one model on every test block: the columns of `failures.unit_errors`; `error` is the share of pixels wrong."""
    counts = _counts(study, model)
    chips = _held_out_chips(study)
    if counts is None or chips.empty:
        return pd.DataFrame()
    blocks = np.array([name.partition("\t")[2] for name in counts.clusters])
    of_block = counts.regroup(list(blocks))
    found = pd.DataFrame({"place": of_block.clusters, "_row": range(len(of_block.clusters))})
    groups = [name for name in study.section.card.groups if name in chips]
    placed = chips.groupby("block").agg(
        held_region=("region", "first"),
        lon=("lon", "mean"),
        lat=("lat", "mean"),
        predictions=("unit_id", "nunique"),
        **{name: (name, "first") for name in groups},
    )
    found = found.merge(placed, left_on="place", right_index=True, how="inner")
    picked = np.asarray(of_block.counts, dtype=np.float64)[found.pop("_row").to_numpy()]
    pixels = picked.sum((1, 2))
    found["error"] = 1 - np.trace(picked, axis1=1, axis2=2) / np.maximum(pixels, 1)
    found["bias"] = np.nan
    found["usual_mistake"] = [_mistake(one, study.class_names or counts.classes) for one in picked]
    return found[pixels > 0].reset_index(drop=True)


def region_failures(study: Study, model: str) -> dict[str, tuple[int, str]]:
    """Region -> how many chips were held out, and what was usually wrong."""
    counts, chips = _counts(study, model), _held_out_chips(study)
    if counts is None:
        return {}
    region_of = study.evidence.groups[str(study.section.lead_split)]
    by_region = counts.regroup([region_of[name] for name in counts.clusters])
    number = chips.groupby("region")["unit_id"].nunique() if len(chips) else pd.Series(dtype=int)
    return {
        region: (int(number.get(region, 0)), _failure(np.asarray(one, dtype=np.float64), study.class_names or counts.classes))
        for region, one in zip(by_region.clusters, by_region.counts, strict=True)
    }


def group_scores(study: Study, columns: list[str]) -> pd.DataFrame:
    """Held-out scores of each tier's best model by the values of group columns that the kept sums are split by."""
    section, split = study.section, str(study.section.lead_split)
    chips = _held_out_chips(study)
    rows = []
    for tier, model in study.representatives.items():
        key = Key(split, model, str(study.lead_budget))
        for column in columns:
            for value in sorted(set(chips[column].astype(str))) if column in chips else ():
                fits = study.evidence.fits_where(key, section.metric, ELSEWHERE, (column, value))
                if not fits:
                    continue
                units = int(chips.loc[chips[column].astype(str) == value, "unit_id"].nunique())
                head = {"column": column, "group": value, "tier": tier, "model": model, "units": units}
                rows.append(head | plain_estimate(interval(fits, section.metric, study.evidence.groups[split])))
    return pd.DataFrame(rows)


def reliability(study: Study) -> pd.DataFrame:
    """Confidence against share right of each tier's best model, pixels pooled over folds and seeds."""
    rows: list[dict[str, Any]] = []
    for tier, model in study.representatives.items():
        for role in (HOME, ELSEWHERE):
            fits = study.evidence.fits_where(Key(str(study.section.lead_split), model, str(study.lead_budget)), "ece", role)
            sums = [fit.sums.sum(0) for fit in fits if isinstance(fit, ClusterCalibration)]
            if not sums:
                continue
            total = np.sum(sums, axis=0)
            count, confidence, right = total[:-2].reshape(3, -1)
            head = {"tier": tier, "model": model, "role": role, "where": WHERE[role]}
            rows += [
                head | {"confidence": c / n, "right": r / n, "predictions": round(n)}
                for n, c, r in zip(count, confidence, right, strict=True)
                if n > 0
            ]
    return pd.DataFrame(rows)


def _counts(study: Study, model: str) -> ClusterConfusion | None:
    """Confusion counts of a model over seeds, under the lead split's largest budget with the place held out."""
    key = Key(str(study.section.lead_split), model, str(study.lead_budget))
    total: ClusterConfusion | None = None
    for fit in study.evidence.fits_where(key, PIXELS, ELSEWHERE):
        if isinstance(fit, ClusterConfusion):
            total = fit if total is None else total + fit
    return total


def _held_out_chips(study: Study) -> pd.DataFrame:
    """Chips that some fold of the lead split holds out: `unit_id`, `region`, `block`, position and groups."""
    manifest = study.section.manifest(str(study.section.lead_split))
    if manifest is None:
        return pd.DataFrame()
    table = manifest.table[manifest.table["role"].astype(str) == ELSEWHERE].drop_duplicates("unit_id")
    table = table[["unit_id", "region", "block"]].astype(str)
    return table.merge(manifest.units.drop(columns=["region", "block"], errors="ignore"), on="unit_id", how="left")


def _wrong(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts * (1 - np.eye(len(counts)))


def _mistake(counts: NDArray[np.float64], classes: tuple[str, ...]) -> str:
    wrong = _wrong(counts)
    if not wrong.any():
        return ""
    truth, said = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return f"{classes[truth]} taken for {classes[said]}"


def _failure(counts: NDArray[np.float64], classes: tuple[str, ...]) -> str:
    wrong = _wrong(counts)
    if not wrong.any():
        return "none"
    truth, said = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return f"{wrong[truth, said] / counts[truth].sum():.0%} of {classes[truth]} taken for {classes[said]}"
