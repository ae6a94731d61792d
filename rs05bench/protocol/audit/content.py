"""Checks by content: identical hashes or files, identical feature vectors, and vectors that are almost the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.audit.audit_pair import AuditCheck
from rs05bench.protocol.audit.audit_report import Case, Finding, Thresholds
from rs05bench.protocol.audit.audit_side import Units
from rs05bench.protocol.audit.copies import FEWEST_DIMENSIONS, near_copies
from rs05bench.protocol.audit.values import members
from rs05bench.protocol.hashing import file_digest

BLOCK = 2_048


def same_content(train: Units, test: Units, thresholds: Thresholds) -> Finding:
    """Test units whose content hash (or file) is a training unit's; every unit is compared."""
    if train.content is None or test.content is None:
        return Finding(check="content_hash", level="not_checked", sentence="content hashes: not checked, no column given (--content)")
    theirs, ours = _hashes(train.content), _hashes(test.content)
    known = ours.notna().to_numpy(dtype=bool)
    hit = members(theirs, ours)
    count, of = int(hit.sum()), int(known.sum())
    if not count:
        return Finding(check="content_hash", level="pass" if of else "not_checked", sentence="content hashes: none shared", count=0, of=of)
    first = pd.Series(np.arange(len(theirs)), index=theirs.to_numpy())
    first = first[~first.index.duplicated()]
    cases = [_case(train, test, int(i), int(first[ours.iloc[i]]), "the same content hash") for i in np.flatnonzero(hit)[: thresholds.cases]]
    sentence = f"content hashes: {count:,} of {of:,} test units hold the content of a training unit"
    return Finding(check="content_hash", level="leak", sentence=sentence, count=count, of=of, cases=cases)


def near_duplicates(train: Units, test: Units, thresholds: Thresholds) -> Finding:
    """Test units whose feature vector equals a training vector (all compared) or nearly does (cosine, on a stated subsample)."""
    if train.features is None or test.features is None:
        return Finding(
            check="near_duplicates", level="not_checked", sentence="near-duplicate content: not checked, no features given (--features)"
        )
    usable_train, usable_test = _usable(train.features), _usable(test.features)
    of = len(usable_test)
    if of == 0 or len(usable_train) == 0:
        return Finding(
            check="near_duplicates", level="not_checked", sentence="near-duplicate content: no complete feature vector", count=0, of=of
        )
    pairs = _identical(train.features, test.features, usable_train, usable_test)
    exact = len(pairs)
    dimensions = test.features.shape[1]
    if dimensions >= FEWEST_DIMENSIONS:
        rng = np.random.default_rng(thresholds.seed)
        some_test = _subsample(usable_test, thresholds.content_sample[0], rng)
        some_train = _subsample(usable_train, thresholds.content_sample[1], rng)
        best, at = _best_cosine(train.features[some_train], test.features[some_test])
        for k in np.flatnonzero(best >= thresholds.cosine):
            pairs.setdefault(int(some_test[k]), (float(min(best[k], 1.0)), int(some_train[at[k]])))
        largest = float(best.max())
        compared = f"cosine of {len(some_test):,} x {len(some_train):,} vectors"
        if len(some_test) < of or len(some_train) < len(usable_train):
            compared += f", a subsample of {of:,} x {len(usable_train):,}"
        compared += f", largest {largest:.5f}"
    else:
        largest, compared = float("nan"), f"only exact equality: {dimensions} features are too few for a cosine"
    alike = near_copies(train.features, usable_train, test.features, usable_test, _group(train)[usable_train], seed=thresholds.seed)
    if alike is not None:
        for row, twin in zip(usable_test[alike.test], usable_train[alike.train], strict=True):
            pairs.setdefault(int(row), (_cosine(test.features[row], train.features[twin]), int(twin)))
        compared += f"; copies are {alike.threshold:.2f} times as near as a unit's nearest neighbour, learnt from training"
    count = len(pairs)
    numbers: dict[str, Any] = {"identical": exact, "largest_cosine": None if np.isnan(largest) else largest, "threshold": thresholds.cosine}
    if not count:
        sentence = f"near-duplicate content: none ({compared}; threshold {thresholds.cosine:g})"
        return Finding(check="near_duplicates", level="pass", sentence=sentence, count=0, of=of, numbers=numbers)
    worst = sorted(pairs.items(), key=lambda item: (-item[1][0], item[0]))[: thresholds.cases]
    cases = [_case(train, test, i, j, "identical features" if cosine == 2.0 else f"cosine {cosine:.6f}") for i, (cosine, j) in worst]
    sentence = (
        f"near-duplicate content: {count:,} of {of:,} test units have the features of a training unit "
        f"({exact:,} identical, {count - exact:,} with a cosine of {thresholds.cosine:g} or more, or far nearer than other groups are; "
        f"{compared})"
    )
    return Finding(check="near_duplicates", level="leak", sentence=sentence, count=count, of=of, numbers=numbers, cases=cases)


def _group(train: Units) -> npt.NDArray[Any]:
    """What training units may be copied across: their first group, else cells of a tenth of a degree."""
    if train.groups:
        return next(iter(train.groups.values())).fillna("").astype(str).to_numpy(dtype=object)
    cells = [np.floor(np.where(np.isfinite(axis), axis, 0.0) * 10).astype(np.int64) for axis in (train.lon, train.lat)]
    return cells[0] * 10_000 + cells[1]


def _cosine(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _case(train: Units, test: Units, i: int, j: int, detail: str) -> Case:
    return Case(test=test.name(i), train=train.name(j), detail=detail, test_lonlat=test.lonlat(i), train_lonlat=train.lonlat(j))


def _hashes(values: pd.Series[Any]) -> pd.Series[Any]:
    """The column itself, or the SHA-256 of the files it names.

    Raises:
        DataError: Some of the files are there and one is not.
    """
    present = values.dropna()
    if len(present) == 0 or not Path(str(present.iloc[0])).is_file():
        return values
    return values.map(_file_hash, na_action="ignore")


def _file_hash(name: str) -> str:
    path = Path(name)
    if not path.is_file():
        raise DataError("the content column names this file, and it is not there", source=path)
    return file_digest(path)


def _usable(features: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Rows without gaps and not all zero: empty vectors are alike without being duplicates."""
    return np.flatnonzero(np.isfinite(features).all(axis=1) & (features != 0).any(axis=1))


def _identical(
    train: npt.NDArray[np.float32], test: npt.NDArray[np.float32], rows_train: npt.NDArray[np.int64], rows_test: npt.NDArray[np.int64]
) -> dict[int, tuple[float, int]]:
    """Test row -> (2.0, training row) for equal vectors; 2 sorts them before every cosine."""
    keys_train, keys_test = _row_keys(train[rows_train]), _row_keys(test[rows_test])
    unique, first = np.unique(keys_train, return_index=True)
    at = np.minimum(np.searchsorted(unique, keys_test), len(unique) - 1)
    pairs: dict[int, tuple[float, int]] = {}
    for k in np.flatnonzero(unique[at] == keys_test):
        i, j = int(rows_test[k]), int(rows_train[first[at[k]]])
        # A 64-bit key can collide; the vectors decide.
        if np.array_equal(test[i], train[j]):
            pairs[i] = (2.0, j)
    return pairs


def _row_keys(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """A 64-bit FNV-1a style key for every row of floats (Fowler, Noll, Vo; IETF draft-eastlake-fnv), column by column."""
    bits = np.ascontiguousarray(rows + np.float32(0.0)).view(np.uint32)  # + 0 turns -0.0 into 0.0
    key = np.full(len(rows), 0xCBF29CE484222325, dtype=np.uint64)
    for column in range(bits.shape[1]):
        key = (key ^ bits[:, column].astype(np.uint64)) * np.uint64(0x100000001B3)
        key ^= key >> np.uint64(29)
    return key


def _subsample(rows: npt.NDArray[np.int64], most: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, size=most, replace=False))


def _best_cosine(train: npt.NDArray[np.float32], test: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Largest cosine of every test vector to any training vector, and where; blockwise, so memory stays at a few tens of MB."""
    train = train / np.linalg.norm(train, axis=1, keepdims=True)
    test = test / np.linalg.norm(test, axis=1, keepdims=True)
    best, at = np.full(len(test), -2, dtype=np.float32), np.zeros(len(test), dtype=np.int64)
    for top in range(0, len(test), BLOCK):
        rows = slice(top, top + BLOCK)
        for left in range(0, len(train), BLOCK):
            cosine = test[rows] @ train[left : left + BLOCK].T
            column = cosine.argmax(axis=1)
            value = cosine[np.arange(len(column)), column]
            better = value > best[rows]
            best[rows] = np.where(better, value, best[rows])
            at[rows] = np.where(better, column + left, at[rows])
    return best, at


CHECKS = (
    AuditCheck("content hashes", 80, lambda pair: [same_content(pair.train, pair.test, pair.thresholds)]),
    AuditCheck("near duplicates", 90, lambda pair: [near_duplicates(pair.train, pair.test, pair.thresholds)]),
)
