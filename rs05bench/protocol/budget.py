"""Label budgets: how many labels may be used in all, validation included (rule 1).

A budget of 10 holds 8 training and 2 validation labels: everything a method learns from, tunes on, stops on or calibrates on
is counted. Budgets of one kind are nested for one seed: the 5 labels are among the 10.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.hashing import content_digest, hash_many, hash_pixels
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.names import BudgetName, parse_budget
from rs05bench.protocol.splits import Split

VALIDATION_SHARE = 5
"""One label in this many is a validation label."""
STRATA = 5
"""Quantile bins a regression budget is spread over."""

Ids = NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class LabelBudget:
    """Which labels a cell may use.

    Attributes:
        name: Budget name.
        seed: Seed of the draw.
        train: Training units in hash order, shape (n_train,).
        val: Validation units, shape (n_val,); never more than training.
        extra: Units among `train` that come from the held-out region's reserve (`+k`).
        shortages: One sentence for every class or group that has fewer labels than the budget asks for.
        pixel_fraction: Share of pixels of each chip whose label is shown; 1 except for pixel budgets.
    """

    name: str
    seed: int
    train: Ids
    val: Ids
    extra: Ids
    shortages: tuple[str, ...] = ()
    pixel_fraction: float = 1.0

    @property
    def labels_used(self) -> int:
        """Units whose label is used, training and validation together."""
        return len(self.train) + len(self.val)

    @property
    def digest(self) -> str:
        """SHA-256 over the rule and the chosen units."""
        lines = [f"{self.name}\t{self.seed}\t{self.pixel_fraction!r}"]
        lines += [f"train\t{unit}" for unit in sorted(self.train)] + [f"val\t{unit}" for unit in sorted(self.val)]
        return content_digest(lines)

    def pixel_mask(self, unit_id: str, rows: int, columns: int) -> NDArray[np.bool_]:
        """Which pixels of a chip show their label, shape (rows, columns): the same for every model, nested in the fraction."""
        if self.pixel_fraction >= 1.0:
            return np.ones((rows, columns), dtype=bool)
        return hash_pixels(self.seed, unit_id, rows, columns) < np.uint64(int(self.pixel_fraction * (2**64 - 1)))


def draw_budget(
    card: TaskCard,
    manifest: SplitManifest,
    fold: str,
    budget: str,
    seed: int,
    labels: Mapping[str, object] | None = None,
    *,
    split: str | None = None,
) -> LabelBudget:
    """Draws a budget in one fold.

    Args:
        card: The task.
        manifest: Its frozen split.
        fold: A fold's name.
        budget: Budget name, e.g. `10-per-class`.
        seed: Seed of the draw.
        labels: Label of every unit in the roles train, val and reserve (class value or number), NaN or None where a unit has
            none. Needed but for whole chips. Nothing of a test unit is looked at.
        split: Full split name, where it carries `+k`.

    Returns:
        The chosen units.

    Raises:
        ProtocolError: The fold has no labelled training unit, so nothing can be learned.
        DataError: The budget's name or kind does not fit the task.
    """
    try:
        spec = parse_budget(budget)
    except ValueError as error:
        raise DataError(str(error), source=card.name) from error
    members = manifest.members(fold)
    pools = {name: _labelled(members.of_role(name), labels) for name in ("train", "val", "reserve")}
    if len(pools["train"]) == 0:
        raise ProtocolError(f"{manifest.name}, fold {fold!r}: no labelled training unit")
    draw = _Draw(card, spec, seed, labels, manifest)
    train, val, shortages = draw.take(pools["train"], pools["val"])
    extra = np.array([], dtype=object)
    k = Split(split).extra if split else 0
    if k:
        extra, missing = draw.extra(pools["reserve"], k)
        train = np.concatenate([train, extra])
        shortages += missing
    return LabelBudget(budget, seed, train, val, extra, tuple(shortages), spec.amount / 100 if spec.kind == "pixels" else 1.0)


@dataclass(frozen=True, slots=True)
class _Draw:
    card: TaskCard
    spec: BudgetName
    seed: int
    labels: Mapping[str, object] | None
    manifest: SplitManifest

    def take(self, train: Ids, val: Ids) -> tuple[Ids, Ids, list[str]]:
        kind, amount = self.spec.kind, self.spec.amount
        if kind in ("full", "pixels"):
            return self.ordered(train), self.ordered(val)[: len(train)], []
        if kind == "percent":
            wanted = max(1, round(amount / 100 * (len(train) + len(val))))
            n_train, n_val = _parts(wanted, len(train), len(val))
            return self.ordered(train)[:n_train], self.ordered(val)[:n_val], []
        if kind == "units":
            n_train, n_val = _parts(int(amount), len(train), len(val))
            short = [f"{n_train + n_val} labelled units instead of {int(amount)}"] if n_train + n_val < amount else []
            return self.spread(train)[:n_train], self.spread(val)[:n_val], short
        if kind == "groups":
            return self.whole_groups(train, val)
        return self.per_class(train, val)

    def per_class(self, train: Ids, val: Ids) -> tuple[Ids, Ids, list[str]]:
        classes = self.card.classes or sorted({str(self.label(unit)) for unit in train} | {str(self.label(unit)) for unit in val})
        parts_train, parts_val, short = [], [], []
        for value in classes:
            here, there = self.of_class(train, value), self.of_class(val, value)
            n_train, n_val = _parts(int(self.spec.amount), len(here), len(there))
            parts_train.append(here[:n_train])
            parts_val.append(there[:n_val])
            if n_train + n_val < self.spec.amount:
                short.append(f"class {value!r}: {n_train + n_val} labels instead of {int(self.spec.amount)}")
        return np.concatenate(parts_train), np.concatenate(parts_val), short

    def whole_groups(self, train: Ids, val: Ids) -> tuple[Ids, Ids, list[str]]:
        column = self.card.group_column(self.spec.group)
        if column is None:
            raise DataError(f"budget {self.spec.text!r} counts a group the card does not declare", source=self.card.name)
        group = dict(zip(self.manifest.units["unit_id"], self.manifest.units[column], strict=True))
        names_train = self.ordered(_unique(group[unit] for unit in train))
        # A group is counted once: one that reaches into both roles belongs to training.
        names_val = self.ordered(_unique({group[unit] for unit in val} - set(names_train)))
        n_train, n_val = _parts(int(self.spec.amount), len(names_train), len(names_val))
        chosen_train, chosen_val = set(names_train[:n_train]), set(names_val[:n_val])
        short = [f"{n_train + n_val} {self.spec.group} instead of {int(self.spec.amount)}"] if n_train + n_val < self.spec.amount else []
        keep_train = self.ordered(np.array([unit for unit in train if group[unit] in chosen_train], dtype=object))
        keep_val = self.ordered(np.array([unit for unit in val if group[unit] in chosen_val], dtype=object))
        return keep_train, keep_val, short

    def extra(self, reserve: Ids, k: int) -> tuple[Ids, list[str]]:
        if self.card.kind == "classification":
            classes = self.card.classes or sorted({str(self.label(unit)) for unit in reserve})
            parts, short = [], []
            for value in classes:
                here = self.of_class(reserve, value)[:k]
                parts.append(here)
                if len(here) < k:
                    short.append(f"class {value!r}: {len(here)} labels from the held-out region instead of {k}")
            return (np.concatenate(parts) if parts else np.array([], dtype=object)), short
        chosen = self.spread(reserve)[:k]
        return chosen, [f"{len(chosen)} labels from the held-out region instead of {k}"] if len(chosen) < k else []

    def of_class(self, ids: Ids, value: str) -> Ids:
        return self.ordered(np.array([unit for unit in ids if str(self.label(unit)) == value], dtype=object))

    def label(self, unit: object) -> object:
        if self.labels is None:
            raise DataError(f"budget {self.spec.text!r} needs the labels of the training units", source=self.card.name)
        return self.labels[str(unit)]

    def ordered(self, ids: Ids) -> Ids:
        """Hash order: a prefix of it is the nested draw."""
        if len(ids) == 0:
            return ids
        hashes = hash_many((str(unit) for unit in ids), self.seed, "label")
        return ids[np.lexsort((ids.astype(str), hashes))]

    def spread(self, ids: Ids) -> Ids:
        """Hash order for classes; for numbers, hash order within quantile bins dealt in turn, so that any prefix covers the range."""
        ids = self.ordered(ids)
        if self.card.kind != "regression" or len(ids) == 0:
            return ids
        values = np.array([float(self.label(unit)) for unit in ids])  # type: ignore[arg-type]
        rank = np.argsort(np.lexsort((ids.astype(str), values)))
        stratum = rank * STRATA // len(ids)
        turn = pd.Series(stratum).groupby(stratum).cumcount().to_numpy()
        deal = np.array([2, 0, 4, 1, 3])[stratum]  # the middle first, then the ends
        return ids[np.lexsort((deal, turn))]


def _labelled(ids: Ids, labels: Mapping[str, object] | None) -> Ids:
    if labels is None:
        return ids
    return np.array([unit for unit in ids if (label := labels.get(unit)) is not None and label == label], dtype=object)


def _parts(wanted: int, available_train: int, available_val: int) -> tuple[int, int]:
    """Training and validation labels of a budget; both grow with the budget, and validation never exceeds training."""
    n_val = min(wanted // VALIDATION_SHARE, available_val)
    n_train = min(wanted - n_val, available_train)
    return n_train, min(n_val, n_train)


def _unique(values: Iterable[str]) -> Ids:
    return np.array(sorted(set(values)), dtype=object)
