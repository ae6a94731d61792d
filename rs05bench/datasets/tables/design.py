"""Designs under which a score says nothing: labels that are a function of the place, the year or the group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.geodesy import unit_vectors
from rs05bench.protocol.splits import Split

ALONE = 0.9
"""From this score of coordinates alone on, the label is called a function of the place: recall, the mean over classes, or R2."""
ONE_CLASS = 0.9
"""From this share of groups with one class only on, the label is called a function of the group."""
_SAMPLE = 5_000
_FOLDS = 5
_NEIGHBOURS = 5


class DesignFlag(BaseModel):
    """Something in the design that a model can answer without looking at the ground.

    Attributes:
        what: `place`, `year`, or the group column.
        score: Score of it alone (accuracy or R2), or share of groups with one class.
        sentence: What it means, for people.
        split: Split word that means nothing under it: the group, `year`, or None.
    """

    what: str
    score: float
    sentence: str
    split: str | None = None


def design_flags(units: pd.DataFrame, labels: pd.Series, groups: tuple[str, ...], kind: str) -> list[DesignFlag]:
    """Looks for labels that follow from place, year or group.

    Args:
        units: `lon`, `lat`, `year` and the group columns, a row a unit.
        labels: Their labels, in order.
        groups: Group columns.
        kind: Kind of the task.
    """
    known = labels.notna().to_numpy()
    labels = labels[known].reset_index(drop=True)
    units = units[known].reset_index(drop=True)
    if labels.nunique() < 2:
        return []
    flags = [flag for name in groups if (flag := _one_class(units[name], labels, name, kind))]
    if "year" in units and (flag := _one_class(units["year"].astype("string"), labels, "year", kind)):
        flags.append(flag)
    if flag := _place_alone(units["lon"].to_numpy(np.float64), units["lat"].to_numpy(np.float64), labels, kind):
        flags.append(flag)
    return flags


def _one_class(values: pd.Series, labels: pd.Series, name: str, kind: str) -> DesignFlag | None:
    sizes = labels.groupby(values).size()
    large = sizes[sizes >= 3].index
    if len(large) < 2 or len(sizes) > len(labels) / 3:
        return None
    inside = values.isin(large)
    distinct = labels[inside].groupby(values[inside]).nunique()
    share = float((distinct == 1).mean())
    if share < ONE_CLASS or labels[inside].nunique() < 2:
        return None
    what = "class" if kind == "classification" else "value"
    return DesignFlag(
        what=name,
        score=share,
        sentence=(
            f"the label is a function of {name}: {int((distinct == 1).sum())} of {len(distinct)} values of {name} hold one {what} only. "
            f"A model can answer with the {name} alone, and one that is tested in a new {name} has nothing to tell apart"
        ),
        split=name,
    )


def _place_alone(lon: NDArray[np.float64], lat: NDArray[np.float64], labels: pd.Series, kind: str) -> DesignFlag | None:
    located = np.flatnonzero(np.isfinite(lon) & np.isfinite(lat))
    if len(located) < 30:
        return None
    if len(located) > _SAMPLE:
        located = np.sort(np.random.default_rng(0).choice(located, _SAMPLE, replace=False))
    lon, lat, labels = lon[located], lat[located], labels.iloc[located]
    fold = _block_folds(lon, lat)
    if len(np.unique(fold)) < 2:
        return None
    from scipy.spatial import cKDTree

    points = unit_vectors(lon, lat)
    classes = kind == "classification"
    truth = pd.factorize(labels)[0] if classes else labels.to_numpy(np.float64)
    near_said, lines_said = np.zeros(len(truth)), np.zeros(len(truth))
    for one in np.unique(fold):
        train, test = np.flatnonzero(fold != one), np.flatnonzero(fold == one)
        near = cKDTree(points[train]).query(points[test], k=min(_NEIGHBOURS, len(train)))[1].reshape(len(test), -1)
        votes = truth[train][near]
        near_said[test] = [np.bincount(row).argmax() for row in votes] if classes else votes.mean(axis=1)
        lines_said[test] = _by_lines(points, truth, train, test, classes)
    score = max(_score(said, truth, classes) for said in (near_said, lines_said))
    if score < ALONE:
        return None
    word = "balanced accuracy" if classes else "R2"
    return DesignFlag(
        what="place",
        score=score,
        sentence=(
            f"the label is a function of the place: coordinates alone reach {word} {score:.2f} in blocks held out, without "
            "any image. The classes lie in different places, so no score here shows that a model sees them"
        ),
    )


def _by_lines(
    points: NDArray[np.float64], truth: NDArray[Any], train: NDArray[np.int64], test: NDArray[np.int64], classes: bool
) -> NDArray[Any]:
    """What a few straight borders say: positives north of a line are no patch that a nearest place finds."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    tree = (DecisionTreeClassifier if classes else DecisionTreeRegressor)(max_depth=4, random_state=0)
    found: NDArray[Any] = tree.fit(points[train], truth[train]).predict(points[test])
    return found


def _score(said: NDArray[Any], truth: NDArray[Any], classes: bool) -> float:
    if classes:  # the mean of recalls: a class of one unit in ten apart from the others is as much a function of the place
        right = np.bincount(truth, weights=said == truth)
        return float((right / np.bincount(truth)).mean())
    spread = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - said) ** 2).sum()) / spread if spread else 0.0


def _block_folds(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.int64]:
    """Blocks of about ten units, three times as wide as units are apart, dealt to folds in a fixed order that mixes neighbours."""
    from scipy.spatial import cKDTree

    narrow = np.cos(np.radians(float(lat.mean())))
    flat = np.column_stack([lon * narrow, lat])
    apart = cKDTree(flat).query(flat, k=2)[0][:, 1]
    step = max(3 * float(np.median(apart)), float(np.ptp(lat)) / 1e5, 1e-7)
    column, row = (np.floor((flat[:, axis] - flat[:, axis].min()) / step).astype(np.int64) for axis in (0, 1))
    blocks, where = np.unique(row * 10_000_000 + column, return_inverse=True)
    deal = np.random.default_rng(0).permutation(len(blocks)) % _FOLDS
    folds: NDArray[np.int64] = deal[where]
    return folds


def meaningless_splits(card: TaskCard, flags: Sequence[DesignFlag]) -> dict[str, str]:
    """Splits of a card that test nothing, because they move what the label is a function of, and the reason."""
    empty = {flag.split for flag in flags if flag.split}
    moved = {name: card.group_column(Split(name).group) or ("year" if Split(name).rule.needs_year else "") for name in card.splits}
    return {name: f"the label is a function of {what}" for name, what in moved.items() if what in empty}


def counts_below(labels: Mapping[str, int], least: int) -> dict[str, int]:
    """Classes with fewer units than `least`."""
    return {name: count for name, count in labels.items() if count < least}
