"""How settings are chosen with the labels of a budget: on its validation labels, or over blocks of all of them.

Validation labels that are few, or hold few of the classes, choose for themselves and not for the task: on a validation part of 27 units,
22 of them water, tuning makes a model worse. Only labels that the budget counts are looked at here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.protocol.hashing import hash_unit

Ids = NDArray[np.object_]

MOST_FITS = 5
"""Fits of a cross-validation over blocks."""
LEAST_SHARE = 0.1
"""Validation labels that are a smaller share of the budget than this, half of the fifth they should be, do not choose."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How settings are chosen.

    Attributes:
        how: `held-out`: on the validation labels. `blocks`: by cross-validation over blocks of all labels of the budget. `none`: not at
            all, for they hold one block or one class.
        checks: Of `blocks`: the units that judge each fit; together they are the budget, each unit once.
        why: Why it is not on the validation labels; empty where it is.
    """

    how: Literal["held-out", "blocks", "none"] = "held-out"
    checks: tuple[Ids, ...] = ()
    why: str = ""


def tuning_of(train: Ids, val: Ids, labels: Mapping[str, object], blocks: Mapping[str, str], kind: str, seed: int) -> Tuning:
    """How settings are chosen with these labels.

    Args:
        train: Training units, (n,).
        val: Validation units, (m,).
        labels: Label of every one of them.
        blocks: Block of every one of them.
        kind: Kind of the task.
        seed: Of the order of blocks.
    """
    everything = np.concatenate([train, val])
    why = _lacks(val, everything, labels, kind)
    if not why:
        return Tuning()
    if kind == "classification" and len({str(labels[unit]) for unit in everything}) < 2:
        return Tuning("none", (), f"{why}, and the budget has one class")
    codes, names = pd.factorize(np.array([blocks[unit] for unit in everything], dtype=object))
    if len(names) < 2:
        return Tuning("none", (), f"{why}, and the budget is in one block")
    sizes = np.bincount(codes)
    order = sorted(range(len(names)), key=lambda code: (-int(sizes[code]), hash_unit(seed, "tuning", names[code]), str(names[code])))
    fits = min(MOST_FITS, len(names))
    load, part = [0] * fits, np.empty(len(names), dtype=np.int64)
    for code in order:
        lightest = min(range(fits), key=lambda index: (load[index], index))
        part[code] = lightest
        load[lightest] += int(sizes[code])
    return Tuning("blocks", tuple(everything[part[codes] == index] for index in range(fits)), why)


def _lacks(val: Ids, everything: Ids, labels: Mapping[str, object], kind: str) -> str:
    """What the validation labels lack; empty where they may choose, or where a budget is too small to have any."""
    if len(everything) < 2 * MOST_FITS:
        few = kind == "classification" and len(val) > 0 and len({str(labels[unit]) for unit in val}) < 2
        return "the validation labels hold one class" if few else ""
    if len(val) < LEAST_SHARE * len(everything):
        return f"{len(val)} of {len(everything)} labels validate"
    if kind == "classification":
        judged, known = ({str(labels[unit]) for unit in units} for units in (val, everything))
        if 2 * len(judged) <= len(known) or len(judged) < 2:
            return f"the validation labels hold {len(judged)} of {len(known)} classes"
    return ""
