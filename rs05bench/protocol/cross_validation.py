"""A frozen manifest as a scikit-learn splitter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.splits import ROLES


class ManifestCV:
    """The folds of a manifest, for `cross_val_score`, `GridSearchCV` and everything else that takes a scikit-learn splitter.

    Rows are found by their unit ids: those of `units`, else of `groups`, else of the index of `X`. Rows of one unit (its pixels) share its
    role. Units of the manifest that have no row are left out.

    >>> from rs05bench import load_manifest
    >>> from rs05bench.protocol import ManifestCV
    >>> manifest = load_manifest("crop/spatial-block@v1")
    >>> cv = ManifestCV(manifest)
    >>> cv.get_n_splits()
    1
    >>> ids = manifest.units["unit_id"]
    >>> [(len(train), len(test)) for train, test in cv.split(ids, groups=ids)]
    [(1970, 1380)]

    Args:
        manifest: The split.
        train: Roles that train. Validation trains too by default; leave it out to tune on it: `train=["train"], test="val"`.
        test: The role that is tested; by default `test_ood` in a fold that holds something out, else `test_id`.
        units: Unit id of every row of `X`, shape (n,), where neither the index of `X` nor `groups` has them.

    Raises:
        ProtocolError: A role that does not exist, or one that both trains and is tested.
    """

    def __init__(
        self,
        manifest: SplitManifest,
        *,
        train: Sequence[str] = ("train", "val"),
        test: str | None = None,
        units: Iterable[object] | None = None,
    ) -> None:
        unknown = sorted({*train, *([test] if test else [])} - set(ROLES))
        if unknown:
            raise ProtocolError(f"no role {unknown[0]!r} (there are {', '.join(ROLES)})")
        if test in train:
            raise ProtocolError(f"role {test!r} is both trained on and tested", remedy="Leave it out of train.")
        self.manifest = manifest
        self.train = tuple(train)
        self.test = test
        self.units = units

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """How many folds the manifest has."""
        return len(self.manifest.folds)

    def split(self, X: Any, y: object = None, groups: Any = None) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Positions of training and test rows, fold by fold, in the manifest's order.

        Args:
            X: The rows; a DataFrame's index gives the unit ids where nothing else does.
            y: Not looked at.
            groups: Unit id of every row, shape (n,), where `units` was not given.

        Yields:
            Positions of the training rows and of the test rows, both int64 and ascending.

        Raises:
            DataError: The ids are not given, do not fit the rows, or are not the manifest's.
            ProtocolError: No row of a fold trains, or none is tested.
        """
        ids = self._ids(X, groups)
        known = pd.Index(self.manifest.units["unit_id"].astype(str), dtype=object)
        lost = ~np.isin(ids, known.to_numpy())
        if lost.any():
            raise DataError(
                f"{int(lost.sum())} of {len(ids)} rows are of units that {self.manifest.name} does not know, "
                f"e.g. {ids[lost][0]!r} (its units are named like {known[0]!r})",
                source="ManifestCV",
                remedy="Give the unit ids of the rows, as text: ManifestCV(manifest, units=...), groups=..., or the index of X.",
            )
        for fold in self.manifest.folds:
            members = self.manifest.members(fold)
            role = members.role[pd.Index(members.unit_id, dtype=object).get_indexer(pd.Index(ids, dtype=object))]
            test = self.test or ("test_ood" if (members.role == "test_ood").any() else "test_id")
            learnt, tested = np.flatnonzero(np.isin(role, self.train)), np.flatnonzero(role == test)
            for rows, wanted in ((learnt, " or ".join(self.train)), (tested, test)):
                if len(rows) == 0:
                    raise ProtocolError(f"{self.manifest.name}, fold {fold!r}: no row has the role {wanted}")
            yield learnt, tested

    def __repr__(self) -> str:
        return f"ManifestCV({self.manifest.name}, {self.get_n_splits()} folds)"

    def _ids(self, X: Any, groups: Any) -> NDArray[np.object_]:
        given = next((found for found in (self.units, groups) if found is not None), None)
        if given is None and isinstance(X, pd.DataFrame | pd.Series) and not isinstance(X.index, pd.RangeIndex):
            given = X.index
        if given is None:
            raise DataError(
                "nothing names the units of the rows",
                source="ManifestCV",
                remedy="Give the unit ids: ManifestCV(manifest, units=...), groups=..., or a DataFrame X with them as its index.",
            )
        ids = np.array([str(value) for value in given], dtype=object)
        rows = X.shape[0] if hasattr(X, "shape") else len(X)
        if len(ids) != rows:
            raise DataError(f"{len(ids)} unit ids were given for {rows} rows", source="ManifestCV", remedy="Give one id per row of X.")
        return ids
