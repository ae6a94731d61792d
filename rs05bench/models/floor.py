"""The floor: what knowing the label frequencies, or the place alone, already gives.

A model that does not beat `floor/nearest` has learnt where it is, not what the land looks like.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import NotApplicable
from rs05bench.models.learners import Floats, Kind
from rs05bench.models.shallow import predictions, task_kind, training_record
from rs05bench.models.tuning import NEAREST, Choice, Rows, choose, conformal_radius
from rs05bench.protocol.cell_record import TrainingRecord

if TYPE_CHECKING:
    from rs05bench.protocol import ModelCard, TaskData
    from rs05bench.protocol.predictions import TablePredictions

BOTH: tuple[Kind, ...] = ("classification", "regression")


class FloorModel(abc.ABC):
    """Base of the floors: label arithmetic common to all; each says in `_guess` what it predicts for a role.

    Args:
        card: What is known of the model.
        seed: Unused: a floor draws nothing.
    """

    kinds: tuple[Kind, ...] = BOTH

    def __init__(self, *, card: ModelCard, seed: int = 0) -> None:
        self.card, self.seed = card, seed

    def fit(self, data: TaskData) -> Self:
        """Remembers the budget's labels.

        Raises:
            ProtocolError: It cannot do this kind of task, or these units lack what it needs (position, groups, year).
        """
        self.kind_ = task_kind(data, self.card.name, self.kinds)
        self.classes_ = data.classes
        self.notes_: list[str] = []
        self.radius_: float | None = None
        self.choice_: Choice | None = None
        self._y, self._y_val = self._spread_out(data.y("train")), data.y("val")
        if len(self._y) == 0:
            raise NotApplicable(f"{self.card.name}: the budget {data.budget.name!r} left no training label in fold {data.fold!r}")
        self._learn(data)
        if self.kind_ == "regression" and len(self._y_val):
            self.radius_ = conformal_radius(self._y_val - self._guess(data, "val")[:, 0])
            if self.radius_ is None:
                self.notes_.append(f"no interval: 90 % needs 9 validation labels, the budget has {len(self._y_val)}")
        return self

    def predict(self, data: TaskData, role: str) -> TablePredictions:
        """Predictions for every unit of a role."""
        out = self._guess(data, role)
        return predictions(self, data, role, out if self.kind_ == "classification" else out[:, 0])

    @property
    def training_record(self) -> TrainingRecord:
        """What was tuned and how, for the result."""
        return training_record(self, NEAREST)

    def _learn(self, data: TaskData) -> None:  # noqa: B027 (most floors prepare nothing)
        """What is prepared once; nothing by default."""

    @abc.abstractmethod
    def _guess(self, data: TaskData, role: str) -> Floats:
        """Probabilities (n, classes) or values (n, 1) for a role."""

    def _spread_out(self, y: NDArray[Any]) -> Floats:
        """Labels as rows that can be averaged: one-hot (n, classes), or values (n, 1)."""
        if self.kind_ == "regression":
            return np.asarray(y, dtype=np.float64)[:, None]
        return np.eye(len(self.classes_ or ()))[y]


class Majority(FloorModel):
    """`floor/majority`: the class frequencies of the training labels, everywhere; its most probable class is the majority."""

    kinds: tuple[Kind, ...] = ("classification",)

    def _guess(self, data: TaskData, role: str) -> Floats:
        return np.repeat(self._y.mean(axis=0, keepdims=True), len(data.unit_ids(role)), axis=0)


class Mean(Majority):
    """`floor/mean`: the mean of the training labels, everywhere."""

    kinds = ("regression",)


class Nearest(FloorModel):
    """`floor/nearest`: the mean label of the k nearest labelled units, great-circle; k is tuned on the validation labels.

    Where units have no position, the labelled units that share most group columns stand in for the nearest ones.

    Attributes:
        choice_: The k taken and why (None without positions).
    """

    def _learn(self, data: TaskData) -> None:
        positions = data.coordinates("train")
        self._located = bool(np.isfinite(positions).all()) and all(
            np.isfinite(data.coordinates(r)).all() for r in ("val", "test_id", "test_ood")
        )
        self.choice_ = None
        if not self._located:
            _require_groups(data, self.card.name)
            self.notes_.append(
                f"no positions: labelled units sharing most of the groups {', '.join(data.card.groups)} stand in for the nearest"
            )
            self._groups = data.groups("train")
            return
        self._sphere = on_sphere(positions)
        grid = NEAREST
        everywhere = np.concatenate([self._sphere, on_sphere(data.coordinates("val"))])
        labels = np.concatenate([self._y, self._spread_out(self._y_val)])

        def losses(fitted: Rows, judged: Rows) -> list[float]:
            found = neighbours(everywhere[fitted], everywhere[judged], max(entry["k"] for entry in grid))
            # Summed over classes this is the Brier score, of one value the squared error.
            guesses = [labels[fitted][found[:, : entry["k"]]].mean(axis=1) for entry in grid]
            return [float(((guess - labels[judged]) ** 2).sum(axis=1).mean()) for guess in guesses]

        self.choice_ = choose(grid, data, losses)
        if not self.choice_.losses:
            self.notes_.append(self.choice_.reason)

    def _around(self, points: Floats, k: int) -> Floats:
        return self._y[neighbours(self._sphere, points, k)].mean(axis=1)

    def _guess(self, data: TaskData, role: str) -> Floats:
        if self.choice_ is not None:
            return self._around(on_sphere(data.coordinates(role)), self.choice_.parameters["k"])
        return by_shared_groups(self._groups, self._y, data.groups(role))


class LastYear(FloorModel):
    """`floor/last-year`: the same place's latest label of an earlier year.

    It is withheld where no test unit has one: at new places (`leave-year-out`, `until-<year>`) it would answer with a neighbour's value,
    which is what `floor/nearest` does. Under `next-year` every place whose earlier label is in the budget has one. A unit without, among
    others that have one, gets the nearest place's, and before every labelled year the training mean (or class frequencies); `notes_` says
    how many.

    All labels of the budget are looked up, training and validation; for the interval, validation units are predicted from training alone.
    """

    def _learn(self, data: TaskData) -> None:
        years = data.units["year"].dropna().unique()
        if data.card.year is None or len(years) < 2:
            why = "declares no year column" if data.card.year is None else f"has one year only ({', '.join(map(str, years))})"
            raise NotApplicable(f"{self.card.name} is not applicable: {data.card.name!r} {why}", remedy="Use floor/nearest.")
        self._train = _Past.of(data, ("train",), self._y)
        self._all = _Past.of(data, ("train", "val"), np.concatenate([self._y, self._spread_out(self._y_val)]))
        tested = {role: self._all.own(data.places(role), data.years(role)) for role in ("test_id", "test_ood")}
        if not any((own >= 0).any() for own in tested.values()):
            raise NotApplicable(
                f"{self.card.name} is not applicable: no test unit of {data.split}, fold {data.fold!r}, has a label of its own place in an "
                "earlier year",
                remedy="It answers next-year, with enough labels; at new places use floor/nearest.",
            )

    def _guess(self, data: TaskData, role: str) -> Floats:
        past = self._train if role == "val" else self._all
        years, places, points = data.years(role), data.places(role), data.coordinates(role)
        groups = data.groups(role)
        out = np.repeat(self._y.mean(axis=0, keepdims=True), len(years), axis=0)
        own = past.own(places, years)
        out[own >= 0] = past.labels[own[own >= 0]]
        too_early = 0
        for year in np.unique(years[own < 0]):
            away = np.flatnonzero((years == year) & (own < 0))
            latest = past.latest(year)
            if len(latest):
                out[away] = past.elsewhere(latest, points[away], groups.iloc[away])
            else:
                too_early += len(away)
        lacking = int((own < 0).sum())
        for count, what in (
            (lacking - too_early, "have no earlier label of their own place and got the nearest place's"),
            (too_early, "are before every labelled year and got the training mean"),
        ):
            note = f"{role}: {count} of {len(years)} units {what}"
            if count and note not in self.notes_:
                self.notes_.append(note)
        return out


@dataclass(frozen=True)
class _Past:
    """Labelled places and years: `table` has place, year, row; the other fields are by row."""

    table: pd.DataFrame
    labels: Floats
    sphere: Floats | None
    groups: pd.DataFrame

    @classmethod
    def of(cls, data: TaskData, roles: tuple[str, ...], labels: Floats) -> _Past:
        positions = np.concatenate([data.coordinates(role) for role in roles])
        table = pd.DataFrame(
            {
                "place": np.concatenate([data.places(role) for role in roles]),
                "year": np.concatenate([data.years(role) for role in roles]),
                "row": np.arange(len(labels)),
            }
        )
        groups = pd.concat([data.groups(role) for role in roles], ignore_index=True)
        return cls(table, labels, on_sphere(positions) if np.isfinite(positions).all() else None, groups)

    def latest(self, year: float) -> NDArray[np.int64]:
        """Row of each place's latest label before a year."""
        earlier = self.table[self.table["year"] < year].sort_values(["year", "row"], kind="stable")
        return earlier.drop_duplicates("place", keep="last")["row"].to_numpy(dtype=np.int64)

    def own(self, places: NDArray[np.object_], years: NDArray[np.float64]) -> NDArray[np.int64]:
        """Row of each unit's own place's latest label before its year, (n,); -1 where there is none."""
        found = np.full(len(places), -1, dtype=np.int64)
        for year in np.unique(years):
            here, rows = np.flatnonzero(years == year), self.latest(year)
            at = pd.Index(self.table["place"].to_numpy(dtype=object)[rows], dtype=object).get_indexer(pd.Index(places[here], dtype=object))
            found[here[at >= 0]] = rows[at[at >= 0]]
        return found

    def elsewhere(self, rows: NDArray[np.int64], points: Floats, groups: pd.DataFrame) -> Floats:
        if self.sphere is not None and np.isfinite(points).all():
            return self.labels[rows[neighbours(self.sphere[rows], on_sphere(points), 1)[:, 0]]]
        return by_shared_groups(self.groups.iloc[rows], self.labels[rows], groups)


FLOORS: dict[str, type[FloorModel]] = {"majority": Majority, "mean": Mean, "nearest": Nearest, "last-year": LastYear}


def on_sphere(lonlat: NDArray[np.floating[Any]]) -> Floats:
    """Unit vectors of degrees (longitude, latitude), (n, 2) -> (n, 3): the chord orders places as the great circle does."""
    lon, lat = np.radians(np.asarray(lonlat, dtype=np.float64)).T
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def neighbours(known: Floats, points: Floats, k: int) -> NDArray[np.int64]:
    """Rows of the k nearest known points, (n, k); k is cut to how many there are."""
    from scipy.spatial import cKDTree

    k = min(k, len(known))
    return np.asarray(cKDTree(known).query(points, k=k)[1], dtype=np.int64).reshape(len(points), k)


def by_shared_groups(known: pd.DataFrame, labels: Floats, asked: pd.DataFrame) -> Floats:
    """Mean label of the known units that share most group values with each asked one, (n, width of labels)."""
    out = np.empty((len(asked), labels.shape[1]))
    combinations = (
        asked.reset_index(drop=True).groupby(list(asked.columns), sort=False, dropna=False).indices
        if len(asked.columns)
        else {(): np.arange(len(asked))}
    )
    for values, rows in combinations.items():
        wanted = values if isinstance(values, tuple) else (values,)
        shared = np.sum([(known[column] == value).to_numpy() for column, value in zip(asked.columns, wanted, strict=True)], axis=0)
        out[rows] = labels[shared == np.max(shared)].mean(axis=0) if len(asked.columns) else labels.mean(axis=0)
    return out


def _require_groups(data: TaskData, name: str) -> None:
    if not data.card.groups:
        raise NotApplicable(
            f"{name} is not applicable: the units of {data.card.name!r} have neither positions nor groups",
            remedy="Declare `coordinates` or `groups` in the card, or leave this floor out.",
        )
