"""Codes for missing values among the features of a table: embeddings that hold no vector, and single columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.embeddings.card_products import HeldProduct
from rs05bench.embeddings.products import no_vector
from rs05bench.errors import DataError
from rs05bench.protocol.intake.sentinels import sentinels

_NUMBERED = re.compile(r"(?:.*\D)?\d{1,4}(?:_(?:mean|min|max|std))?")  # a component of an embedding: emb_17, tessera_3_mean
_FEWEST_BANDS = 8


def mark_missing(
    values: NDArray[np.float64],
    columns: Sequence[str],
    sets: Mapping[str, Sequence[str]],
    products: Mapping[str, HeldProduct],
    *,
    source: str,
) -> list[str]:
    """Set what stands for a missing value to infinity, which counts as missing.

    Args:
        values: Features (rows, columns); changed in place.
        columns: Their names.
        sets: Columns of every feature set.
        products: What is held by which set.
        source: For messages.

    Returns:
        A sentence for every kind of what was found.

    Raises:
        DataError: No row of a set holds a vector of its product.
    """
    place = {column: position for position, column in enumerate(columns)}
    remarks = _mark_vectors(values, place, sets, products, source)
    cells: dict[float, dict[str, int]] = {}
    for column, at_column in place.items():
        for code, count in sentinels(pd.Series(values[:, at_column])).items():
            values[values[:, at_column] == code, at_column] = np.inf
            cells.setdefault(code, {})[column] = count
    for code, found in cells.items():
        names = ", ".join(list(found)[:4]) + (", …" if len(found) > 4 else "")
        remarks.append(f"{code:.10g} stands in {sum(found.values()):,} cells of {names}: a code for a missing value, counted as missing")
    return remarks


def _mark_vectors(
    values: NDArray[np.float64],
    place: dict[str, int],
    sets: Mapping[str, Sequence[str]],
    products: Mapping[str, HeldProduct],
    source: str,
) -> list[str]:
    """Embeddings without a vector, whole: those of a product by its record, others where all components are one number."""
    remarks: list[str] = []
    embedded: set[str] = set()
    for name, members in sets.items():
        held = products.get(name)
        group = held.columns if held is not None else [column for column in members if _NUMBERED.fullmatch(column)]
        group = [column for column in group if column in place]
        if held is None:  # other columns of a union are no components of the embedding in it
            group = [column for column in group if column not in embedded]
            if len(group) < _FEWEST_BANDS:
                continue
        if set(group) <= embedded:
            continue
        embedded |= set(group)
        vectors = values[:, [place[column] for column in group]]
        none = held.product.missing(vectors) if held is not None else no_vector(vectors)
        none &= ~np.isnan(vectors).any(axis=1)  # those are counted as missing anyway
        if not none.any():
            continue
        row = int(np.flatnonzero(none)[0])
        if none.all() and held is not None:
            norms = np.linalg.norm(vectors, axis=1)
            raise DataError(
                f"none of the {len(values):,} rows of {name!r} holds a vector of {held.product.name}: their norms are "
                f"{norms.min():.3g} to {norms.max():.3g} (first value {vectors[row, 0]:g} in {group[0]!r}), "
                "outside what the product's record allows",
                source=source,
                remedy="Export the vectors as they are, without scaling; other columns go into a feature set without a product.",
            )
        of = [column for column in members if column in set(group) or column.rpartition("_")[0] in set(group)]
        values[np.ix_(none, [place[column] for column in of])] = np.inf
        what = f"a vector of {held.product.name}" if held is not None else "a vector"
        remarks.append(
            f"{int(none.sum()):,} of {len(values):,} rows of {name!r} do not hold {what} (fill, all zero or out of range; "
            f"first {vectors[row, 0]:g}): counted as missing"
        )
    return remarks
