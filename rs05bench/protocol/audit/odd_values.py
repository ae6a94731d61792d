"""Values that may stand for "missing", and features of two scales or outside their range: what a person decides and no program can."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from rs05bench.protocol.audit.audit_report import Finding
from rs05bench.protocol.intake.sentinels import standing_apart, suspicious_classes
from rs05bench.protocol.taskdata import TaskSource

_NORMALISED = re.compile(r"(?i)(.*[_\W])?(m?ndvi|ndwi|mndwi|ndbi|ndmi|ndsi|nbr2?|gndvi|ndre)([_\W].*|\d*)")
_PERHAPS = "far from all others: a code for a missing value? If so, blank it in the file"
_FEWEST_COLUMNS = 3
_SHARE = 0.01
"""Rows of a kind, of all, from which on they are no accident."""


def odd_labels(target: str, labels: pd.Series, kind: str) -> list[Finding]:
    """Labels that look like a code for "no label"."""
    if kind == "classification":
        found = suspicious_classes({str(name): int(count) for name, count in labels.value_counts().items()})
        said = ", ".join(f"{name!r} ({count} units)" for name, count in found.items())
        sentence = f"{target}: {said} looks like a word or code for no label: leave it out of `classes`, and its units are left out"
    else:
        apart = standing_apart(labels)
        found = {f"{value:.10g}": count for value, count in apart.items()}
        sentence = f"{target}: {_counted(apart)}, {_PERHAPS}"
    if not found:
        return [Finding(check="odd_labels", level="pass", sentence=f"{target}: no label looks like a code for a missing one", count=0)]
    return [Finding(check="odd_labels", level="warning", sentence=sentence, count=sum(found.values()), of=len(labels))]


def odd_features(source: TaskSource) -> list[Finding]:
    """Features other than embeddings that hold codes, rows of zeros, two scales, or an index outside its range."""
    said: dict[str, int] = {}
    units = 0
    for name, members in source.card.features.items():
        embedded = members.product is not None or source.card.tiers.get(name) == "embedding"
        if embedded or set(members.columns) & source.card.features.keys():  # a union's sets are looked at by themselves
            continue
        columns, values = source.features(name)
        units = len(values)
        if values.ndim == 2:
            said |= dict(_in_columns(columns, values))
            said |= dict(_in_rows(name, values))
    if not said:
        return [Finding(check="odd_features", level="pass", sentence="features that look like codes, or of two scales: none", count=0)]
    return [Finding(check="odd_features", level="warning", sentence=text, count=count, of=units) for text, count in said.items()]


def _in_columns(columns: list[str], values: npt.NDArray[np.float32]) -> Iterator[tuple[str, int]]:
    for column, of_column in zip(columns, values.T, strict=True):
        numbers = of_column[np.isfinite(of_column)].astype(np.float64)
        if not len(numbers):
            continue
        if apart := standing_apart(pd.Series(numbers)):
            yield f"{column}: {_counted(apart)}, {_PERHAPS}", sum(apart.values())
        beyond = np.abs(numbers) > 1.001
        if _NORMALISED.fullmatch(column) and 0 < beyond.mean() < 0.5:
            count, first = int(beyond.sum()), numbers[beyond][0]
            yield f"{column}: {count} values are outside -1 to 1 (first {first:g}), as of negative reflectance: blank or clip them", count


def _in_rows(name: str, values: npt.NDArray[np.float32]) -> Iterator[tuple[str, int]]:
    if values.shape[1] < _FEWEST_COLUMNS:
        return
    nothing = (values == 0).all(axis=1)
    if 0 < nothing.sum() < len(values) / 2:
        yield f"{int(nothing.sum())} units hold 0 in every column of {name}: no data? If so, blank them", int(nothing.sum())
    size = np.abs(np.where(np.isfinite(values), values, 0))
    small, large = (size <= 2).all(axis=1) & ~nothing, np.median(size, axis=1) >= 50
    if min(small.mean(), large.mean()) >= _SHARE:
        yield (
            f"{name} is in two scales: all columns of {int(small.sum())} units are within 2, and those of {int(large.sum())} are around "
            f"{np.median(size[large]):.3g}: bring them to one (reflectance is 0 to 1, or times 10,000)",
            int(min(small.sum(), large.sum())),
        )


def _counted(apart: dict[float, int]) -> str:
    return ", ".join(f"{value:.10g} stands in {count} units" for value, count in apart.items())
