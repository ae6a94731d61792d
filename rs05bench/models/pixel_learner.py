"""A shallow learner on labelled pixels of chips: which pixels it learns from, and which entry of its grid is taken.

What the pixels show (bands, statistics of their image, their place, a frozen encoder's features) makes no difference here, so that no
source of features is tuned harder than another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rs05bench.errors import ProtocolError
from rs05bench.models.learners import LEARNERS, Fitted, Floats, Kind
from rs05bench.models.plan import IGNORE
from rs05bench.models.shallow import Coding
from rs05bench.models.tuning import Choice
from rs05bench.protocol.cell_record import TrainingRecord
from rs05bench.protocol.hashing import hash_unit

MOST_PIXELS, MOST_ROWS = 256, 20_000
"""Labelled pixels a patch, and in all, that a learner is fitted on."""

Rows = tuple[Floats, NDArray[Any]]
Found = dict[tuple[str, ...], Rows]


@dataclass(frozen=True)
class Learnt:
    """A fitted learner.

    Attributes:
        name: Its key in `LEARNERS`.
        coding: How features are scaled and outputs put back.
        fitted: The fit that was taken.
        choice: Which entry of the grid, and why.
    """

    name: str
    coding: Coding
    fitted: Fitted
    choice: Choice

    def predict(self, features: Floats) -> Floats:
        """Probabilities of all classes (n, k), or values (n,), of features (n, d)."""
        return self.coding.decode(self.fitted.predict(self.coding.scale(features)))

    def record(self) -> TrainingRecord:
        """What was tuned and how, for the result."""
        return self.choice.record(LEARNERS[self.name].grid)


def learn(model: str, learner: str, kind: Kind, classes: int, *, train: Rows, val: Rows, seed: int, impute: bool) -> Learnt:
    """Fits every entry of a learner's grid and keeps the one that validation labels prefer.

    Args:
        model: Name of the model, for messages.
        learner: A key of `LEARNERS`.
        kind: Classification or regression.
        classes: How many classes the task has.
        train: Features (n, d) and labels (n,) to fit on.
        val: Those to judge by.
        seed: Seed of the learner.
        impute: Whether a missing feature becomes the training median, for a learner that cannot read NaN.

    Raises:
        ProtocolError: The learner cannot do this kind of task, or no label is there to learn from.
    """
    known = LEARNERS[learner]
    if kind not in known.kinds:
        raise ProtocolError(f"{model} does {known.kinds[0]} only, and this task is a {kind}")
    (X, y), (X_val, y_val) = train, val
    if len(y) == 0:
        raise ProtocolError(f"{model}: no label to learn from in this budget", remedy="Use a larger budget.")
    coding = Coding(X, y, kind, classes, impute=impute and not known.reads_missing)
    grid, trivial = known.grid, coding.trivial()
    fits = [trivial] * len(grid) if trivial else known.path(coding.Z, coding.codes, grid, kind, seed)
    if len(y_val) == 0 or (kind == "classification" and len(np.unique(y_val)) < 2):
        why = "the validation labels hold no two classes: the first entry of the grid was taken"
        return Learnt(learner, coding, fits[0], Choice(0, dict(grid[0]), [], why))
    losses = [coding.loss(fit, X_val, y_val) for fit in fits]
    best = int(np.argmin(losses))
    why = f"least validation loss of {len(grid)} entries over {len(y_val)} labels"
    return Learnt(learner, coding, fits[best], Choice(best, dict(grid[best]), losses, why))


def pixel_rows(
    loader: Iterable[Mapping[str, Any]],
    maps_of: Callable[[Mapping[str, Any]], Tensor],
    seed: int,
    padded: Callable[[tuple[int, int]], tuple[int, int]] | None = None,
) -> Rows:
    """Features (n, d) and labels (n,) of labelled pixels of one pass.

    Args:
        loader: Batches with `mask` and `unit_id`.
        maps_of: Gives the feature maps (B, d, h, w) of a batch; a map may be coarser than the image, down to one value for all of it.
        seed: Of the draw of pixels.
        padded: Size of the image that a map covers, where that is larger than the mask.
    """
    found: Found = {}
    with torch.no_grad():
        for batch in loader:
            every = maps_of(batch).cpu().numpy()
            for unit, maps, mask in zip(batch["unit_id"], every, np.asarray(batch["mask"]), strict=True):
                rng = np.random.default_rng(hash_unit(seed, "pixels of a learner", str(unit)))
                covered = padded(mask.shape) if padded is not None else mask.shape
                found[str(unit), array_key(maps), array_key(mask)] = _labelled(maps, mask, covered, rng)
    return drawn(found, seed)


def drawn(found: Found, seed: int) -> Rows:
    """Rows by unit and patch, in whatever order a loader shuffled them, and of very many a sample."""
    if not found:
        return np.empty((0, 1)), np.empty(0, dtype=np.int64)
    X, y = (np.concatenate([found[patch][part] for patch in sorted(found)]) for part in (0, 1))
    some = np.random.default_rng(seed).choice(len(y), min(MOST_ROWS, len(y)), replace=False)
    keep = np.sort(some)
    return X[keep].astype(np.float64), y[keep]


def array_key(values: NDArray[Any]) -> str:
    """A short digest of an array, which orders patches that have no name of their own."""
    return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=8).hexdigest()


def _labelled(maps: NDArray[np.float32], mask: NDArray[np.integer], covered: tuple[int, int], rng: np.random.Generator) -> Rows:
    """Some labelled pixels of a patch: the features of the cell of the map each is in, and its label."""
    rows, columns = np.nonzero(mask != IGNORE)
    if len(rows) > MOST_PIXELS:
        some = np.sort(rng.choice(len(rows), MOST_PIXELS, replace=False))
        rows, columns = rows[some], columns[some]
    height, width = maps.shape[-2:]
    cells = maps[:, rows * height // covered[0], columns * width // covered[1]]
    return cells.T, mask[rows, columns].astype(np.int64)
