"""From pixels to parcels: majority vote."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError


@dataclass(frozen=True, eq=False)
class ParcelVotes:
    """Votes per parcel and class; add the votes of several chips when a parcel crosses their rim.

    Args:
        parcels: (P,) parcel ids, ascending.
        votes: (P, K) number of pixels (or the sum of their weights).
    """

    parcels: NDArray
    votes: NDArray[np.float64]

    def __add__(self, other: ParcelVotes) -> ParcelVotes:
        """Votes of both, parcels united."""
        ids, index = np.unique(np.concatenate([self.parcels, other.parcels]), return_inverse=True)
        votes = np.zeros((len(ids), self.votes.shape[1]))
        np.add.at(votes, index, np.concatenate([self.votes, other.votes]))
        return ParcelVotes(ids, votes)

    @property
    def majority(self) -> NDArray[np.intp]:
        """(P,) class with most votes, the first of equals; -1 for a parcel without a valid pixel."""
        return np.where(self.votes.sum(1) > 0, self.votes.argmax(1), -1)

    @property
    def agreement(self) -> NDArray[np.float64]:
        """(P,) share of the votes that the majority has; NaN without a vote."""
        total = self.votes.sum(1)
        return np.where(total > 0, self.votes.max(1, initial=0) / np.where(total > 0, total, 1), np.nan)


def count_votes(
    parcels: NDArray[np.integer], labels: NDArray[np.integer], n_classes: int, *, no_parcel: int | None = 0, ignore_index: int | None = -1
) -> ParcelVotes:
    """Count class pixels in each parcel.

    Args:
        parcels: Parcel id of each pixel, any shape; `no_parcel` where there is none.
        labels: Class of each pixel, same shape; `ignore_index` does not vote, but its parcel stays in the list.
        n_classes: K.
        no_parcel: Id that means no parcel.
        ignore_index: Label that means no vote.
    """
    ids, classes = np.asarray(parcels).ravel(), np.asarray(labels).ravel()
    if ids.shape != classes.shape:
        raise DataError(f"{ids.size} parcel pixels and {classes.size} labelled pixels; they must be as many")
    if no_parcel is not None:
        inside = ids != no_parcel
        ids, classes = ids[inside], classes[inside]
    names, index = np.unique(ids, return_inverse=True)
    voting = np.ones(len(classes), bool) if ignore_index is None else classes != ignore_index
    if voting.any() and (classes[voting].min() < 0 or classes[voting].max() >= n_classes):
        raise DataError(f"a label lies outside 0 to {n_classes - 1}")
    flat = index[voting] * n_classes + classes[voting].astype(np.intp)
    return ParcelVotes(names, np.bincount(flat, minlength=len(names) * n_classes).reshape(-1, n_classes).astype(np.float64))
