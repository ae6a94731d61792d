"""Shallow learners on a feature set of the card: the tiers raw, embedding and hybrid.

Scaling and imputation use the statistics of the training labels alone; tuning uses the validation labels of the budget
(`rs05bench.models.tuning`). They work from a single label on, with one class only, and with classes training never saw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import BenchError, NotApplicable, ProtocolError
from rs05bench.models.learners import LEARNERS, Fitted, Floats, Kind
from rs05bench.models.tuning import Choice, Rows, brier, choose, conformal_radius
from rs05bench.protocol import Predictions
from rs05bench.protocol.cell_record import TrainingRecord

if TYPE_CHECKING:
    from rs05bench.protocol import ModelCard, TaskData
    from rs05bench.protocol.predictions import TablePredictions


class Scaler:
    """Median imputation (where asked for), then mean 0 and deviation 1, all from the training features.

    Args:
        X: Training features, (n, d).
        impute: Whether NaN becomes the training median; a column without any training value becomes 0.
    """

    def __init__(self, X: Floats, *, impute: bool) -> None:
        X = np.asarray(X, dtype=np.float64)
        finite = np.isfinite(X)
        self._training = (X, finite) if impute else None
        if finite.all():  # as it nearly always is: masks cost more than the sums
            self.mean_ = X.sum(axis=0) / max(len(X), 1)
            deviation = np.sqrt(((X - self.mean_) ** 2).sum(axis=0) / max(len(X), 1))
        else:
            count = np.maximum(finite.sum(axis=0), 1)
            self.mean_ = np.where(finite, X, 0.0).sum(axis=0) / count
            deviation = np.sqrt((np.where(finite, X - self.mean_, 0.0) ** 2).sum(axis=0) / count)
        # A constant column has a deviation of rounding errors, which would blow it up.
        self.scale_ = np.where(deviation > 1e-12 * np.maximum(np.abs(self.mean_), 1.0), deviation, 1.0)

    @cached_property
    def fill_(self) -> Floats | None:
        """What stands in for a missing value of each column, (d,), computed when the first is met; None where it stays missing."""
        if self._training is None:
            return None
        X, finite = self._training
        columns = zip(X.T, finite.T, self.mean_, strict=True)
        return np.asarray([float(np.median(column[ok])) if ok.any() else mean for column, ok, mean in columns])

    def __call__(self, X: Floats) -> Floats:
        """Scaled features, float64."""
        scaled = np.array(X, dtype=np.float64)
        missing = ~np.isfinite(scaled)
        if missing.any():
            scaled = np.where(missing, np.nan if self.fill_ is None else self.fill_, scaled)
        scaled -= self.mean_
        scaled /= self.scale_
        return scaled


class Coding:
    """How one training set is scaled and coded for a learner, and how a learner's output is put back.

    Args:
        X: Training features, (n, d).
        y: Class indices or values, (n,).
        kind: Classification or regression.
        classes: How many classes the task has.
        impute: Whether missing features become the training median.
    """

    def __init__(self, X: Floats, y: NDArray[Any], kind: Kind, classes: int, *, impute: bool) -> None:
        self.kind, self.classes = kind, classes
        self.scale = Scaler(X, impute=impute)
        self.Z = self.scale(X)
        self.codes: NDArray[Any]
        if kind == "classification":
            self.seen, self.codes = np.unique(y, return_inverse=True)
        else:
            self.offset, self.spread = float(y.mean()), float(y.std()) or 1.0
            self.codes = (y - self.offset) / self.spread

    def decode(self, out: Floats) -> Floats:
        """Probabilities of all classes (n, k) float32, or values (n,) float64."""
        if self.kind == "regression":
            return np.asarray(out, dtype=np.float64) * self.spread + self.offset
        full = np.zeros((len(out), self.classes), dtype=np.float32)
        full[:, self.seen] = out
        return full

    def trivial(self) -> Fitted | None:
        """What needs no learner: one class or one unit."""
        if self.kind == "classification" and len(self.seen) == 1:
            return Fitted(lambda Z: np.ones((len(Z), 1)), lambda: 1)
        return Fitted(lambda Z: np.zeros(len(Z)), lambda: 1) if len(self.codes) == 1 else None

    def loss(self, fit: Fitted, X: Floats, y: NDArray[Any]) -> float:
        """Brier score or mean squared error of a fit on other units."""
        out = self.decode(fit.predict(self.scale(X)))
        return brier(out, y) if self.kind == "classification" else float(np.mean((out - y) ** 2))


class ShallowModel:
    """One learner on one feature set.

    Args:
        features: A feature set of the task card.
        learner: A key of `rs05bench.models.learners.LEARNERS`.
        card: What is known of the model before it is fitted.
        seed: Seed of everything random in it.

    Attributes:
        choice_: The tuning entry taken and why (after `fit`).
        radius_: Half-width of the 90 % interval, or None (classification; too few validation labels).
        notes_: What a reader of the result must know, one sentence each.
    """

    def __init__(self, features: str, learner: str, *, card: ModelCard, seed: int = 0) -> None:
        self.features, self.learner, self.card, self.seed = features, learner, card, seed

    def fit(self, data: TaskData) -> Self:
        """Fits every entry of the grid on the budget's training labels and keeps the one that labels it did not see prefer.

        Raises:
            ProtocolError: The learner cannot do this kind of task, or the budget left no training label.
        """
        coding = self._prepare(data)
        return self._choose(data, coding, self._path(coding))

    def _prepare(self, data: TaskData) -> Coding:
        """Scaled features and coded labels of the training units."""
        kind = task_kind(data, self.card.name, LEARNERS[self.learner].kinds)
        y = data.y("train")
        if len(y) == 0:
            raise NotApplicable(
                f"{self.card.name}: the budget {data.budget.name!r} left no training label in fold {data.fold!r} of {data.split!r}",
                remedy="Use a larger budget, or another split.",
            )
        self.kind_, self.classes_ = kind, data.classes
        self.notes_: list[str] = []
        self.read_ = {role: self._X(data, role) for role in ("train", "val")}
        return self._coding(self.read_["train"], y)

    def _coding(self, X: Floats, y: NDArray[Any]) -> Coding:
        return Coding(X, y, self.kind_, len(self.classes_ or ()), impute=not LEARNERS[self.learner].reads_missing)

    def _path(self, coding: Coding) -> list[Fitted]:
        grid, trivial = LEARNERS[self.learner].grid, coding.trivial()
        if trivial is not None:
            return [trivial] * len(grid)
        return LEARNERS[self.learner].path(coding.Z, coding.codes, grid, self.kind_, self.seed)

    def _choose(self, data: TaskData, coding: Coding, fits: list[Fitted]) -> Self:
        """Keeps the entry of the grid that labels prefer which did not fit it."""
        if coding.trivial() is not None:
            what = "class only: it" if self.kind_ == "classification" and len(coding.seen) == 1 else "unit only: its value"
            self.notes_.append(f"training saw one {what} is predicted everywhere")
        X_val, y_val = self.read_["val"], data.y("val")
        if data.budget.tuning.how == "held-out":
            self.choice_ = choose(LEARNERS[self.learner].grid, data, lambda _, judged: [coding.loss(fit, X_val, y_val) for fit in fits])
        else:
            X, y = np.concatenate([self.read_["train"], X_val]), np.concatenate([data.y("train"), y_val])

            def losses(fitted: Rows, judged: Rows) -> list[float]:
                part = self._coding(X[fitted], y[fitted])
                return [part.loss(fit, X[judged], y[judged]) for fit in self._path(part)]

            self.choice_ = choose(LEARNERS[self.learner].grid, data, losses)
        self._coded, self._fitted = coding, fits[self.choice_.index]
        if not self.choice_.losses:
            self.notes_.append(self.choice_.reason)
        self.radius_ = self._radius(X_val, y_val)
        learnt = self._fitted.count()
        self.card = self.card.model_copy(update={"parameters_total": learnt, "parameters_trainable": learnt})
        del self.read_
        return self

    def predict(self, data: TaskData, role: str) -> TablePredictions:
        """Predictions for every unit of a role."""
        return predictions(self, data, role, self.predict_array(self._X(data, role)))

    @property
    def training_record(self) -> TrainingRecord:
        """What was tuned and how, for the result."""
        return training_record(self, LEARNERS[self.learner].grid)

    def predict_array(self, X: Floats) -> Floats:
        """Probabilities (n, all classes of the card) float32, or values (n,) float64, for raw features (n, d): what a map is made with."""
        if len(X) == 0:
            return np.zeros((0, len(self.classes_ or ())), np.float32) if self.kind_ == "classification" else np.zeros(0)
        return self._coded.decode(self._fitted.predict(self._coded.scale(X)))

    def _X(self, data: TaskData, role: str) -> Floats:
        X = data.X(role, self.features)
        return X.reshape(len(X), math.prod(X.shape[1:])) if X.ndim > 2 else X  # a sequence is as many columns as it has numbers

    def _radius(self, X_val: Floats, y_val: NDArray[Any]) -> float | None:
        if self.kind_ == "classification" or len(y_val) == 0:
            return None
        radius = conformal_radius(y_val - self.predict_array(X_val))
        if radius is None:
            self.notes_.append(f"no interval: 90 % needs 9 validation labels, the budget has {len(y_val)}")
        return radius


def fit_together(pairs: Sequence[tuple[ShallowModel, TaskData]]) -> list[bool]:
    """Fits models of one learner, each on its own data, as `ShallowModel.fit` would, sharing the work where the learner can.

    Args:
        pairs: Models, not yet fitted, with what each may see.

    Returns:
        Whether each was fitted; one that cannot be is left as it was, and its own `fit` tells why.
    """
    ready: list[tuple[int, Coding]] = []
    done = [False] * len(pairs)
    for index, (model, data) in enumerate(pairs):
        try:
            coding = model._prepare(data)
        except BenchError:
            continue
        if coding.trivial() is not None:
            model._choose(data, coding, model._path(coding))
            done[index] = True
        else:
            ready.append((index, coding))
    if not ready:
        return done
    first = pairs[ready[0][0]][0]
    learner = LEARNERS[first.learner]
    paths = learner.paths([(coding.Z, coding.codes) for _, coding in ready], first.kind_, first.seed)
    for (index, coding), fits in zip(ready, paths, strict=True):
        model, data = pairs[index]
        model._choose(data, coding, fits)
        done[index] = True
    return done


def task_kind(data: TaskData, name: str, kinds: tuple[Kind, ...]) -> Kind:
    """The kind of the task, if the model can do it.

    Raises:
        ProtocolError: It cannot.
    """
    kind = data.card.kind
    if not hasattr(data, "y"):  # a data module of chips, which shows loaders
        raise ProtocolError(
            f"{name} reads a table of units, and {data.card.name!r} has chips",
            remedy="Make it with the task's card, models.create(name, card=dm.card), or use one that rs05bench models lists for it.",
        )
    if kind == "segmentation":
        kind = "classification"  # labelled pixels of a chip are classified one by one
    if kind in kinds:
        return kind
    other = "regression" if kind == "classification" else "classification"
    instead = {"ridge": "logistic", "logistic": "ridge", "centroid": "ridge", "mean": "majority", "majority": "mean"}
    inputs, _, learner = name.partition("@")[0].rpartition("/")
    stem, word = ("frozen-", learner[7:]) if learner.startswith("frozen-") else ("", learner)
    raise ProtocolError(
        f"{name} does {other} only, and {data.card.name!r} is a {data.card.kind}",
        remedy=f"Use {inputs}/{stem}{instead.get(word, 'rf')} instead.",
    )


class FittedOnTable(Protocol):
    """What a fitted model of tables knows of its fit."""

    @property
    def card(self) -> ModelCard:
        """What the model is."""

    @property
    def classes_(self) -> tuple[str, ...] | None:
        """Class values; None of a regression."""

    @property
    def choice_(self) -> Choice | None:
        """The tuning entry taken and why; None where nothing is tuned."""

    @property
    def radius_(self) -> float | None:
        """Half the width of the 90 % interval; None where there is none."""

    @property
    def notes_(self) -> list[str]:
        """What a reader should know of the fit."""


def training_record(model: FittedOnTable, grid: Sequence[Mapping[str, Any]] = ()) -> TrainingRecord:
    """Chosen setting, the grid it was chosen from, and notes of a fitted shallow model or floor."""
    choice = model.choice_
    record = TrainingRecord() if choice is None else choice.record(grid)
    return record.with_fields(notes=list(model.notes_))


def predictions(model: FittedOnTable, data: TaskData, role: str, out: Floats) -> TablePredictions:
    """Wraps probabilities or values as predictions, with the model's interval where it has one."""
    if model.classes_ is not None:
        return Predictions.of_classes(data.unit_ids(role), role, out, model.classes_)
    interval = None if model.radius_ is None else np.column_stack([out - model.radius_, out + model.radius_])
    return Predictions.of_values(data.unit_ids(role), role, out, interval)
