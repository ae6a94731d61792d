"""Label budgets: how many labels may be used in all, validation included (rule 1).

A budget of 10 holds 8 training and 2 validation labels: everything a method learns from, tunes on, stops on or calibrates on
is counted. Budgets of one kind are nested for one seed: the 5 labels are among the 10.

A draw looks at no label that it does not count. `n-units` draws units at random, `n-units-in-b-blocks` in a few visited blocks, by hashes
of their ids alone. `n-per-class` cannot: to have n labels of every class somebody has to look at units until every class is full. How many
that are in the draw's own random order is `labels_inspected`, next to the labels used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError, NotApplicable
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.cell_record import BudgetRecord
from rs05bench.protocol.hashing import content_digest, hash_order, hash_pixels, hash_unit
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.names import BudgetName, parse_budget
from rs05bench.protocol.splits import Split
from rs05bench.protocol.tuning_blocks import Tuning, tuning_of

VALIDATION_SHARE = 5
"""One label in this many is a validation label."""
NEARLY_ALL = 0.9
"""A budget that takes this share of the labelled training units states it."""

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
        shortages: One sentence for every class or group that has fewer labels than the budget asks for, for blocks that are too few, and
            for a budget that takes nearly every labelled unit there is.
        pixel_fraction: Share of pixels of each chip whose label is shown; 1 except for pixel budgets.
        inspected: Units somebody had to look at to have the used ones; 0 means those used.
        pool: Labelled units the fold offers for training and validation.
        tuning: How settings are chosen with these labels.
    """

    name: str
    seed: int
    train: Ids
    val: Ids
    extra: Ids
    shortages: tuple[str, ...] = ()
    pixel_fraction: float = 1.0
    inspected: int = 0
    pool: int = 0
    tuning: Tuning = field(default_factory=Tuning)

    @property
    def labels_used(self) -> int:
        """Units whose label is used, training and validation together."""
        return len(self.train) + len(self.val)

    @property
    def labels_inspected(self) -> int:
        """Units whose label somebody had to look at; at least those used."""
        return max(self.inspected, self.labels_used)

    @property
    def digest(self) -> str:
        """SHA-256 over the rule and the chosen units."""
        lines = [f"{self.name}\t{self.seed}\t{self.pixel_fraction!r}"]
        lines += [f"train\t{unit}" for unit in sorted(self.train)] + [f"val\t{unit}" for unit in sorted(self.val)]
        return content_digest(lines)

    def record(self) -> BudgetRecord:
        """What a result states of its labels."""
        return BudgetRecord(
            labels_used=self.labels_used,
            labels_inspected=self.labels_inspected,
            pool=self.pool,
            train=len(self.train),
            val=len(self.val),
            extra=len(self.extra),
            pixel_fraction=self.pixel_fraction,
            shortages=list(self.shortages),
            tuning=self.tuning.how,
            digest=self.digest,
        )

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
        budget: Budget name, e.g. `50-units`.
        seed: Seed of the draw.
        labels: Label of every unit in the roles train, val and reserve (class value or number), NaN or None where a unit has
            none. Needed but for whole chips. Nothing of a test unit is looked at; of the others only whether there is a label, except by
            `n-per-class` and a plain `+k` of a classification.
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
    train, val = (_Pool.of(members.in_hash_order(name, seed), labels) for name in ("train", "val"))
    if not len(train.ids):
        raise NotApplicable(f"{manifest.name}, fold {fold!r}: no labelled training unit")
    draw = _Draw(card, spec, seed, manifest, members.block_of)
    taken = draw.take(train, val)
    extra = _Taken.nothing()
    name = Split(split) if split else None
    if name is not None and name.extra:
        extra = draw.extra(_Pool.of(members.in_hash_order("reserve", seed), labels), name)
    short = [*taken.short, *extra.short]
    if spec.kind not in ("full", "pixels") and len(taken.train) >= NEARLY_ALL * len(train.ids):
        short.append(f"takes {len(taken.train)} of the {len(train.ids)} labelled training units of the fold: it is full in all but name")
    chosen = np.concatenate([taken.train, extra.train])
    return LabelBudget(
        name=budget,
        seed=seed,
        train=chosen,
        val=taken.val,
        extra=extra.train,
        shortages=tuple(short),
        pixel_fraction=spec.amount / 100 if spec.kind == "pixels" else 1.0,
        inspected=taken.looked_at + extra.looked_at,
        pool=len(train.ids) + len(val.ids),
        tuning=Tuning()
        if labels is None or card.about.pixel_labels
        else tuning_of(chosen, taken.val, labels, members.block_of, card.kind, seed),
    )


@dataclass(frozen=True, slots=True)
class _Pool:
    """Labelled units of a role in hash order, of which any prefix is a nested draw.

    Attributes:
        ids: (n,).
        labels: (n,), or None where nothing is known of them.
    """

    ids: Ids
    labels: Ids | None

    @classmethod
    def of(cls, ids: Ids, labels: Mapping[str, object] | None) -> _Pool:
        if labels is None:
            return cls(ids, None)
        found = np.empty(len(ids), dtype=object)
        found[:] = [labels.get(unit) for unit in ids]
        there = ~np.asarray(pd.isna(found), dtype=bool)
        return cls(ids[there], found[there])

    def text(self, card: TaskCard, budget: str) -> Ids:
        if self.labels is None:
            raise DataError(f"budget {budget!r} needs the labels of the training units", source=card.name)
        return np.array([str(label) for label in self.labels], dtype=object)


@dataclass(frozen=True, slots=True)
class _Taken:
    train: Ids
    val: Ids
    short: tuple[str, ...] = ()
    inspected: int = 0

    @property
    def looked_at(self) -> int:
        """Units somebody looked at to have these: at least these."""
        return max(self.inspected, len(self.train) + len(self.val))

    @classmethod
    def nothing(cls) -> _Taken:
        none = np.array([], dtype=object)
        return cls(none, none)


@dataclass(frozen=True, slots=True)
class _Draw:
    card: TaskCard
    spec: BudgetName
    seed: int
    manifest: SplitManifest
    blocks: Mapping[str, str]

    def take(self, train: _Pool, val: _Pool) -> _Taken:
        kind, amount = self.spec.kind, self.spec.amount
        if kind in ("full", "pixels"):
            return _Taken(train.ids, val.ids[: len(train.ids)])
        if kind == "groups":
            return self.whole_groups(train.ids, val.ids)
        if kind == "per-class":
            return self.per_class(train, val, int(amount), int(amount) // VALIDATION_SHARE)
        short: list[str] = []
        wanted = max(1, round(amount / 100 * (len(train.ids) + len(val.ids)))) if kind == "percent" else int(amount)
        train_ids, val_ids = train.ids, val.ids
        if self.spec.blocks is not None:
            visited = max(1, self.spec.blocks // VALIDATION_SHARE) if self.spec.blocks > 1 else 0
            train_ids, there = self.visited(train_ids, self.spec.blocks - visited)
            val_ids, others = self.visited(val_ids, visited)
            if there + others < self.spec.blocks:
                short.append(f"{there + others} blocks visited instead of {self.spec.blocks}")
        n_train, n_val = _parts(wanted, len(train_ids), len(val_ids))
        if n_train + n_val < wanted and kind != "percent":
            short.append(f"{n_train + n_val} labelled units instead of {wanted}")
        return _Taken(train_ids[:n_train], val_ids[:n_val], tuple(short))

    def visited(self, ids: Ids, count: int) -> tuple[Ids, int]:
        """Units of a few blocks, dealt over the blocks in turn, and how many blocks they are.

        Blocks are drawn without replacement in proportion to their units (Efraimidis & Spirakis 2006, Information Processing Letters 97,
        https://doi.org/10.1016/j.ipl.2005.11.003), so that a visit finds something to label; more blocks hold the fewer.
        """
        if count == 0 or len(ids) == 0:
            return ids[:0], 0
        block = np.array([self.blocks[unit] for unit in ids], dtype=object)
        codes, names = pd.factorize(block)
        sizes = np.bincount(codes, minlength=len(names))
        chance = [math.log((hash_unit(self.seed, "visit", name) + 1) / 2.0**64) / size for name, size in zip(names, sizes, strict=True)]
        rank = np.empty(len(names), dtype=np.int64)
        rank[np.lexsort((np.asarray(names, dtype=str), -np.asarray(chance)))] = np.arange(len(names))
        inside = rank[codes] < count
        turn = pd.Series(codes).groupby(codes).cumcount().to_numpy()
        order = np.lexsort((rank[codes], turn))
        return ids[order[inside[order]]], min(count, len(names))

    def per_class(self, train: _Pool, val: _Pool, wanted: int, checks: int) -> _Taken:
        learnt, judged = train.text(self.card, self.spec.text), val.text(self.card, self.spec.text)
        classes = self.card.classes or sorted(set(learnt) | set(judged))
        here, there = _by_class(learnt), _by_class(judged)
        none = np.array([], dtype=np.int64)
        rows_train, rows_val, short = [none], [none], []
        full_train = full_val = True
        for value in classes:
            own, other = here.get(value, none), there.get(value, none)
            n_val = min(checks, len(other))
            n_train = min(wanted - n_val, len(own))
            n_val = min(n_val, n_train)
            rows_train.append(own[:n_train])
            rows_val.append(other[:n_val])
            full_train, full_val = full_train and n_train == wanted - n_val, full_val and len(other) >= checks
            if n_train + n_val < wanted:
                short.append(f"class {value!r}: {n_train + n_val} labels instead of {wanted}")
        taken, kept = np.concatenate(rows_train), np.concatenate(rows_val)
        looked = _looked_at(taken, len(learnt), full_train) + (_looked_at(kept, len(judged), full_val) if checks else 0)
        return _Taken(train.ids[taken], val.ids[kept], tuple(short), looked)

    def whole_groups(self, train: Ids, val: Ids) -> _Taken:
        column = self.card.group_column(self.spec.group)
        if column is None:
            raise DataError(f"budget {self.spec.text!r} counts a group the card does not declare", source=self.card.name)
        group = dict(zip(self.manifest.units["unit_id"], self.manifest.units[column], strict=True))
        names_train = self.ordered(group[unit] for unit in train)
        # A group is counted once: one that reaches into both roles belongs to training.
        names_val = self.ordered({group[unit] for unit in val} - set(names_train))
        n_train, n_val = _parts(int(self.spec.amount), len(names_train), len(names_val))
        chosen_train, chosen_val = set(names_train[:n_train]), set(names_val[:n_val])
        short = [f"{n_train + n_val} {self.spec.group} instead of {int(self.spec.amount)}"] if n_train + n_val < self.spec.amount else []
        keep_train = np.array([group[unit] in chosen_train for unit in train], dtype=bool)
        keep_val = np.array([group[unit] in chosen_val for unit in val], dtype=bool)
        return _Taken(train[keep_train], val[keep_val], tuple(short))

    def extra(self, reserve: _Pool, split: Split) -> _Taken:
        """Labels of the held-out region's reserve: `train` are the units."""
        if split.extra_budget is None and self.card.kind == "classification":
            found = self.per_class(reserve, _Pool(reserve.ids[:0], reserve.ids[:0]), split.extra, 0)
            there = tuple(text.replace(" labels instead", " labels from the held-out region instead") for text in found.short)
            return _Taken(found.train, found.val, there, found.inspected)
        ids = reserve.ids
        short: list[str] = []
        if split.extra_budget is not None and split.extra_budget.blocks is not None:
            ids, visited = self.visited(ids, split.extra_budget.blocks)
            if visited < split.extra_budget.blocks:
                short.append(f"{visited} blocks of the held-out region visited instead of {split.extra_budget.blocks}")
        chosen = ids[: split.extra]
        if len(chosen) < split.extra:
            short.append(f"{len(chosen)} labels from the held-out region instead of {split.extra}")
        return _Taken(chosen, chosen[:0], tuple(short), len(chosen))

    def ordered(self, names: Iterable[str]) -> Ids:
        found = np.array(sorted(set(names)), dtype=object)
        return found[hash_order(found, self.seed, "label")]


def _by_class(values: Ids) -> dict[str, NDArray[np.int64]]:
    """Positions of each class, ascending."""
    return {str(value): np.sort(rows) for value, rows in pd.Series(values, dtype=object).groupby(values, sort=False).indices.items()}


def _looked_at(taken: NDArray[np.int64], pool: int, full: bool) -> int:
    """Units looked at in the random order until every class was full; all of them where one never was."""
    return int(taken.max(initial=-1)) + 1 if full else pool


def _parts(wanted: int, available_train: int, available_val: int) -> tuple[int, int]:
    """Training and validation labels of a budget; both grow with the budget, and validation never exceeds training."""
    n_val = min(wanted // VALIDATION_SHARE, available_val)
    n_train = min(wanted - n_val, available_train)
    return n_train, min(n_val, n_train)
