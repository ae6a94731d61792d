"""The contract of a model, checked: what an outside team runs before anything else (`rs05bench models check NAME`).

A model is given watched data: whoever asks for labels of test units, or reads their features while fitting, is caught even where it goes on
as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import BenchError, ProtocolError
from rs05bench.models.contract_task import contract_data
from rs05bench.protocol import ModelCard, TaskCard
from rs05bench.protocol.predictions import TablePredictions

Status = Literal["passed", "failed", "skipped"]


Make = Callable[[int], Any]
"""A fresh model from a seed."""


TEST_ROLES = ("test_id", "test_ood")


TOLERANCE = 1e-6


_LABEL_ROLES = ("train", "val")


# Where and when test units are is known to everybody who designs a model; what they look like is for predicting.
_FEATURE_CALLS = ("X", "predict_dataloader")


@dataclass(frozen=True, slots=True)
class Check:
    """One promise of the contract.

    Attributes:
        what: The promise.
        status: `passed`, `failed` or `skipped`.
        detail: Why it failed or was skipped, and what to do.
    """

    what: str
    status: Status
    detail: str = ""


class Watched:
    """A `TaskData` or data module that notes what a model asks of it.

    Args:
        data: The data.
        labels: Whether labels of training units are shown.
    """

    def __init__(self, data: Any, *, labels: bool = True) -> None:
        # Mangled, so that a model which reaches for `_data` meets `__getattr__` and is noted.
        self.__data, self.__labels = data, labels
        self.asked: list[str] = []
        self.fitting = False

    def __getattr__(self, name: str) -> Any:
        if name == "view":  # of a data module's view: itself
            return self
        if name.startswith("_") and not name.startswith("__"):
            self.asked.append(f"reached into the private {name!r} of its data")
        value = getattr(self.__data, name)
        if not callable(value):
            return value

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._note(name, args[0] if args else kwargs.get("role"))
            return value(*args, **kwargs)

        return watched

    def _note(self, name: str, role: Any) -> None:
        if name in ("y", "train_dataloader", "val_dataloader"):
            if name == "y" and role not in _LABEL_ROLES:
                self.asked.append(f"asked for the labels of {role!r}")
            if not self.__labels:
                raise ProtocolError("labels were asked for while predicting")
        elif name == "test_dataloader":
            self.asked.append("asked for a loader with test labels")
        elif self.fitting and name in _FEATURE_CALLS and role not in _LABEL_ROLES:
            self.asked.append(f"read {name} of {role or 'test units'} while fitting")


def check_model(make: Make, data: Any) -> list[Check]:
    """Checks a model on one task.

    Args:
        make: Makes a fresh model from a seed.
        data: What it may see: a `TaskData` or a data module.

    Returns:
        Every promise with its outcome, in the order they were looked at; what rests on a failed one is skipped.
    """
    return list(_checks(make, data))


def _checks(make: Make, data: Any) -> Iterator[Check]:
    try:
        model = make(0)
    except Exception as error:
        yield Check("can be created with card= and seed=", "failed", _said(error))
        return
    yield Check("can be created with card= and seed=", "passed")
    yield _card(model)
    yield _before_fit(model, data)
    watched = Watched(data)
    try:
        model = make(0)
        with _fitting(watched):
            returned = model.fit(watched)
    except ProtocolError as error:
        yield Check("fits", "failed", f"{_said(error)} (for another kind of task, or other data? then give --card and --data)")
        return
    except Exception as error:
        yield Check("fits", "failed", _said(error))
        return
    yield Check("fits", "passed")
    yield _verdict("fit returns the model itself", returned is model, "it returned something else; end fit with `return self`")
    predicted: dict[str, Any] = {}
    for role in TEST_ROLES:
        if not len(data.unit_ids(role)):
            continue
        try:
            predicted[role] = _plain(model.predict(watched, role))
        except Exception as error:
            yield Check(f"predicts {role}", "failed", _said(error))
            return
        yield from _valid(predicted[role], data, role)
    yield _verdict(
        "never asks for test labels, nor reads test units while fitting", not watched.asked, "; ".join(dict.fromkeys(watched.asked))
    )
    yield _without_labels(model, data, predicted)
    yield _same(make, data, predicted)
    yield _card_after(model)


@contextmanager
def _fitting(watched: Watched) -> Iterator[None]:
    watched.fitting = True
    try:
        yield
    finally:
        watched.fitting = False


@dataclass(frozen=True, slots=True)
class _Plain:
    """Predictions of any kind, in one form: units and an array, (n, K) or (n,), or (n chips of (K, H, W))."""

    units: list[str]
    values: list[NDArray[Any]]
    classes: tuple[str, ...] | None
    roles: set[str]
    interval: NDArray[np.float64] | None = None
    chips: bool = False


def _plain(predictions: Any) -> _Plain:
    if isinstance(predictions, TablePredictions):
        values = predictions.probabilities if predictions.probabilities is not None else predictions.y
        units, roles = [str(unit) for unit in predictions.unit_id], {str(role) for role in predictions.role}
        return _Plain(units, list(np.asarray(values)), predictions.classes, roles, predictions.interval)
    if hasattr(predictions, "__iter__") and hasattr(predictions, "classes"):
        chips = [(str(unit), np.asarray(probabilities)) for unit, probabilities in predictions]
        return _Plain(
            [unit for unit, _ in chips], [values for _, values in chips], tuple(predictions.classes), {predictions.role}, chips=True
        )
    raise TypeError(f"predict returned {type(predictions).__name__}; a Predictions was expected (Predictions.of_classes, .of_values)")


def _valid(found: _Plain, data: Any, role: str) -> Iterator[Check]:
    wanted = [str(unit) for unit in data.unit_ids(role)]
    missing, extra = set(wanted) - set(found.units), set(found.units) - set(wanted)
    twice = len(found.units) - len(set(found.units))
    faults = [f"{len(missing)} missing, e.g. {sorted(missing)[0]!r}"] if missing else []
    faults += [f"{len(extra)} that are no units of the role"] if extra else []
    faults += [f"{twice} twice"] if twice else []
    faults += [f"under the role {sorted(found.roles)}"] if found.roles - {role} else []
    yield _verdict(f"{role}: every unit is predicted once", not faults, ", ".join(faults))
    if data.classes is None:
        finite = bool(np.isfinite(np.array(found.values, dtype=np.float64)).all()) if found.classes is None else False
        why = "class probabilities for a regression: use Predictions.of_values" if found.classes is not None else "some are not finite"
        yield _verdict(f"{role}: values are finite numbers", finite, why)
        if found.interval is not None:
            ordered = bool((found.interval[:, 0] <= found.interval[:, 1]).all() and np.isfinite(found.interval).all())
            yield _verdict(f"{role}: intervals are lower, upper", ordered, "some are turned round or not finite")
        return
    classes = tuple(map(str, data.classes))
    if found.classes is None:
        yield Check(f"{role}: probabilities are valid", "failed", "values for a classification: use Predictions.of_classes")
        return
    same = tuple(map(str, found.classes)) == classes
    yield _verdict(
        f"{role}: a column for every class of the task, in its order", same, f"found {list(found.classes)}, expected {list(classes)}"
    )
    yield _probabilities(found, len(classes), role)


def _probabilities(found: _Plain, classes: int, role: str) -> Check:
    what = f"{role}: probabilities lie in 0 to 1 and sum to 1"
    for unit, values in zip(found.units, found.values, strict=True):
        if values.shape[0] != classes:
            return Check(what, "failed", f"unit {unit!r} has {values.shape[0]} of {classes} probabilities")
        if not np.isfinite(values).all() or values.min() < -TOLERANCE or np.abs(values.sum(axis=0) - 1).max() > 1e-3:
            sums = values.sum(axis=0)
            return Check(what, "failed", f"unit {unit!r}: from {values.min():.3g} to {values.max():.3g}, summing to {sums.max():.3g}")
    return Check(what, "passed")


def _without_labels(model: Any, data: Any, predicted: dict[str, _Plain]) -> Check:
    what = "predicts without any label available"
    blind = Watched(data, labels=False)
    try:
        again = {role: _plain(model.predict(blind, role)) for role in predicted}
    except Exception as error:
        return Check(what, "failed", _said(error))
    return _verdict(what, _equal(again, predicted), "predictions differ when labels are hidden, or from one call to the next")


def _same(make: Make, data: Any, predicted: dict[str, _Plain]) -> Check:
    what = "one seed repeats"
    try:
        model = make(0)
        model.fit(Watched(data))
        again = {role: _plain(model.predict(data, role)) for role in predicted}
    except Exception as error:
        return Check(what, "failed", _said(error))
    return _verdict(what, _equal(again, predicted), "two fits with the same seed differ: derive every random choice from seed=")


def _equal(a: dict[str, _Plain], b: dict[str, _Plain]) -> bool:
    return all(
        a[role].units == b[role].units
        and all(
            x.shape == y.shape and np.allclose(x, y, rtol=1e-5, atol=TOLERANCE) for x, y in zip(a[role].values, b[role].values, strict=True)
        )
        for role in b
    )


def _before_fit(model: Any, data: Any) -> Check:
    what = "refuses to predict before it was fitted"
    role = next((role for role in TEST_ROLES if len(data.unit_ids(role))), None)
    if role is None:
        return Check(what, "skipped", "no test unit")
    try:
        list(_plain(model.predict(Watched(data), role)).units)
    except Exception:
        return Check(what, "passed")
    return Check(what, "failed", "it predicted something: raise a ProtocolError until fit has run")


def _card(model: Any) -> Check:
    what = "has a complete card before it is fitted"
    try:
        card = model.card
    except Exception as error:
        return Check(what, "failed", _said(error))
    if not isinstance(card, ModelCard):
        return Check(what, "failed", f"card is a {type(card).__name__}, not a rs05bench.protocol.ModelCard")
    faults = [f"{name} is empty" for name in ("name", "inputs", "learner", "licence") if not getattr(card, name)]
    if "/" not in card.name:
        faults.append(f"name {card.name!r} is not <inputs>/<learner>")
    if card.pretrained and not card.pretraining:
        faults.append("pretrained, and pretraining names no data set (rule 14)")
    if card.random_twin != card.name.endswith("@random"):
        faults.append("random_twin and a name that ends in @random belong together")
    return _verdict(what, not faults, "; ".join(faults))


def _card_after(model: Any) -> Check:
    what = "counts its parameters after the fit, or leaves them out"
    card = model.card
    total, trainable = card.parameters_total, card.parameters_trainable
    if total is None:
        return Check(what, "passed", "left out")
    good = total > 0 and trainable is not None and 0 <= trainable <= total
    return _verdict(what, good, f"found {trainable} trainable of {total}; unknown is None, never 0")


def _verdict(what: str, good: bool, why: str) -> Check:
    return Check(what, "passed" if good else "failed", "" if good else why)


def _said(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return text if isinstance(error, BenchError) else f"{type(error).__name__}: {text}"


BUDGETS = {"classification": ("3-per-class", "20-per-class"), "regression": ("4-units", "80-units")}
"""The smaller ones leave no validation label, which a model must survive."""


def check_by_name(name: str, options: dict[str, Any] | None = None) -> dict[str, list[Check]]:
    """Checks a model by name on the made-up task, for each kind of task it says it does.

    Args:
        name: A name of the registry, or `file.py:Name`.
        options: Options of the model.

    Returns:
        `<kind>, <budget>` -> checks. A kind the model refuses is skipped, unless it refuses both.
    """
    outcome: dict[str, list[Check]] = {}
    refused: dict[str, list[Check]] = {}
    for kind, budgets in BUDGETS.items():
        for budget in budgets:
            data = contract_data(kind, budget)  # type: ignore[arg-type]
            found = check_model(partial(_create, name, data.card, options or {}), data)
            unfit = next((check for check in found if check.what == "fits" and check.status == "failed"), None)
            refuses = unfit is not None and "another kind of task" in unfit.detail
            (refused if refuses else outcome)[f"{kind}, {budget}"] = found
    if not outcome:
        return refused
    for key, found in refused.items():
        why = next(check.detail for check in found if check.status == "failed").partition(" (for another kind")[0]
        outcome[key] = [Check(f"does {key.split(',', maxsplit=1)[0]}", "skipped", why)]
    return outcome


def _create(name: str, card: TaskCard, options: dict[str, Any], seed: int) -> Any:
    from rs05bench.models.registry import create

    return create(name, card=card, seed=seed, **options)


def failed(outcome: dict[str, list[Check]]) -> bool:
    """Whether any promise was broken."""
    return any(check.status == "failed" for checks in outcome.values() for check in checks)
