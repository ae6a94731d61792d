"""Feature builders: spectral indices, aggregates of pixels, change between years, angle and dot product of embeddings.

Each is a function on arrays; `derive` applies those a task card asks for under `preprocessing.derive`, so that derived features are pinned
by the card's preprocessing hash:

```yaml
preprocessing:
  derive:
    - {builder: aggregate, by: [parcel, year], features: ["A??"], statistics: [mean, max, std]}   # A00_mean, A00_max, ..
    - {builder: indices, names: [NDVI, NBR], bands: {N: b5, R: b4, S2: b7}}                        # NDVI, NBR
    - {builder: difference, features: ["A??"], place: [GEOID]}                                     # A00_diff, ..
    - {builder: angle, features: ["A??"], place: [GEOID]}                                          # embedding_angle, radians
    - {builder: dot, features: ["A??"], place: [GEOID]}                                            # embedding_dot
```
"""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rs05bench.embeddings.change import angle_of_units
from rs05bench.errors import DataError
from rs05bench.protocol.derived_columns import Aggregate, Indices, Similarity, Statistic, YearDifference

if TYPE_CHECKING:
    from rs05bench.protocol import TaskCard


def spectral_indices(bands: Mapping[str, ArrayLike], names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Spectral indices by their names in the spyndex catalogue (Montero et al. 2023, https://doi.org/10.1038/s41597-023-02096-0).

    Args:
        bands: Reflectance 0-1 of each band under spyndex's letters (`N`, `R`, `G`, `B`, `S1`, `S2`, ..), any common shape.
        names: Indices, e.g. `NDVI`, `NBR`, `NDWI`, `NDBI`.

    Returns:
        One array an index, in the bands' shape; NaN where its denominator is 0. Constants (EVI's g, C1, C2, L) take the catalogue's values.
        A normalised difference beyond -1 to 1, which negative reflectance makes, is NaN too, under a warning with the number of them.

    Raises:
        DataError: Unknown index, a band it needs is not given, or an index with additive constants and bands that are no reflectance.
    """
    import spyndex

    given = {letter: np.asarray(values, dtype=np.float64) for letter, values in bands.items()}
    out: dict[str, NDArray[np.float64]] = {}
    for name in names:
        if name not in spyndex.indices:
            raise DataError(f"no spectral index {name!r} in the spyndex catalogue", remedy="For instance NDVI, NBR, NDWI, NDBI, EVI.")
        needed = list(spyndex.indices[name].bands)
        constants = {letter: spyndex.constants[letter].default for letter in needed if letter in spyndex.constants and letter not in given}
        missing = [letter for letter in needed if letter not in given and constants.get(letter) is None]
        if missing:
            meaning = ", ".join(
                f"{letter} ({spyndex.bands[letter].long_name})" if letter in spyndex.bands else letter for letter in missing
            )
            raise DataError(
                f"{name} needs the band {meaning}", remedy=f"Given are {', '.join(given) or 'none'}; name the column of each band."
            )
        parameters = {letter: given.get(letter, constants.get(letter)) for letter in needed}
        own = [letter for letter in needed if letter in given]
        if not _takes_any_scale(name, own, constants):
            _refuse_scaled(name, {letter: given[letter] for letter in own})
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.asarray(spyndex.computeIndex(name, parameters), dtype=np.float64)
        normalised = _NORMALISED.fullmatch(spyndex.indices[name].formula.replace(" ", ""))
        beyond = np.abs(values) > 1 + 1e-9 if normalised else np.zeros(values.shape, dtype=bool)
        if count := int(np.count_nonzero(beyond & np.isfinite(values))):
            warnings.warn(
                f"{name}: {count} of {values.size} values lie beyond -1 to 1, which negative reflectance makes; they are taken as missing",
                stacklevel=2,
            )
        out[name] = np.where(np.isfinite(values) & ~beyond, values, np.nan)
    return out


_NORMALISED = re.compile(r"\((\w+)-(\w+)\)/\((?:\1\+\2|\2\+\1)\)")
_BRIGHTEST = 2.0
"""Reflectance above this in the middle of a band is a scale: snow and cloud reach about 1."""


def _takes_any_scale(name: str, bands: Sequence[str], constants: Mapping[str, Any]) -> bool:
    """Whether bands times a number give the index times one number, whatever the bands: so it is unless constants are added to bands."""
    import spyndex

    some = {letter: np.random.default_rng(place).uniform(0.05, 0.6, 16) for place, letter in enumerate(bands)}
    with np.errstate(divide="ignore", invalid="ignore"):
        one, double = (
            np.asarray(spyndex.computeIndex(name, {**constants, **{letter: by * some[letter] for letter in bands}}), dtype=np.float64)
            for by in (1, 2)
        )
        ratio = double / one
    return bool(np.allclose(ratio, ratio.flat[0]))


def _refuse_scaled(name: str, bands: Mapping[str, NDArray[np.float64]]) -> None:
    for letter, values in bands.items():
        known = values[np.isfinite(values)]
        if known.size and (middle := float(np.median(known))) > _BRIGHTEST:
            raise DataError(
                f"{name} has constants for reflectance of 0 to 1, and half of band {letter} lies above {middle:.5g}",
                remedy="Divide the bands by their scale first (often 10,000), or use an index that no scale changes, e.g. NDVI.",
            )


def aggregates(
    values: NDArray[Any], owners: Sequence[Any] | NDArray[Any], statistics: Sequence[Statistic] = get_args(Statistic)
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Statistics of the pixels (rows) of each unit.

    Args:
        values: Pixels by features, (n, d); NaN is left out.
        owners: Unit of each pixel, (n,).
        statistics: Of `mean`, `max`, `std` (population).

    Returns:
        The units in sorted order, (m,), and their statistics side by side, (m, d x len(statistics)): all means, then all maxima, and so on.
    """
    grouped = pd.DataFrame(np.asarray(values, dtype=np.float64)).groupby(np.asarray(owners), sort=True)
    parts = [grouped.std(ddof=0) if name == "std" else grouped.agg(name) for name in statistics]
    return parts[0].index.to_numpy(), np.hstack([part.to_numpy() for part in parts])


def previous_year(places: ArrayLike, years: ArrayLike, lag: int = 1) -> NDArray[np.int64]:
    """Row of the same place `lag` years before, (n,); -1 where there is none."""
    place, year = pd.factorize(np.asarray(places, dtype=object))[0], np.asarray(years, dtype=np.int64)
    rows = pd.Series(np.arange(len(place)), index=pd.MultiIndex.from_arrays([place, year]))
    return rows.reindex(pd.MultiIndex.from_arrays([place, year - lag])).fillna(-1).to_numpy(dtype=np.int64)


def dot_product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Dot product of two embeddings brought to unit norm, over the last axis, -1 to 1; NaN for a zero vector.

    Means of unit vectors (a county, a parcel) are shorter than 1, hence the norms.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    length = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    product = (a * b).sum(axis=-1)
    cosine = np.divide(product, length, out=np.full(np.shape(product), np.nan), where=length > 0)
    return np.clip(cosine, -1.0, 1.0)  # rounding may leave the interval, and arccos would answer NaN


def angle(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Angle of two embeddings of any length in radians, 0 to pi, over the last axis; see `angle_of_units`."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    norm_a, norm_b = np.linalg.norm(a, axis=-1, keepdims=True), np.linalg.norm(b, axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return angle_of_units(a / norm_a, b / norm_b)


def derive(frame: pd.DataFrame, card: TaskCard) -> pd.DataFrame:
    """The table with the columns that `preprocessing.derive` of a card asks for, in its order.

    Args:
        frame: The table as read.
        card: The task card.

    Returns:
        A new frame; an `aggregate` step has one row a unit instead of one a pixel.

    Raises:
        DataError: Columns that are not there.
    """
    for number, step in enumerate(card.preprocessing.derive):
        source = f"{card.name}, preprocessing.derive[{number}]"
        if isinstance(step, Aggregate):
            frame = _aggregate(frame, card, step, source)
            continue
        new = _indices(frame, step, source) if isinstance(step, Indices) else _change(frame, card, step, source)
        frame = _with_columns(frame, pd.DataFrame(new, index=frame.index), source)
    return frame


def _indices(frame: pd.DataFrame, step: Indices, source: str) -> Mapping[str, NDArray[np.float64]]:
    columns = _columns(frame, list(step.bands.values()), source)
    return spectral_indices({letter: frame[column] for letter, column in zip(step.bands, columns, strict=True)}, step.names)


def _change(frame: pd.DataFrame, card: TaskCard, step: YearDifference | Similarity, source: str) -> Mapping[str, NDArray[np.float64]]:
    columns, before = _changing(frame, card, step, source)
    x = frame[columns].to_numpy(dtype=np.float64)
    if isinstance(step, Similarity):
        compare = angle if step.builder == "angle" else dot_product
        return {step.name or f"embedding_{step.builder}": np.where(before >= 0, compare(x, x[before]), np.nan)}
    change = np.where((before >= 0)[:, None], x - x[before], np.nan)
    return {f"{column}_diff": change[:, at] for at, column in enumerate(columns)}


def _aggregate(frame: pd.DataFrame, card: TaskCard, step: Aggregate, source: str) -> pd.DataFrame:
    by = _columns(frame, step.by or card.unit, source)
    if not by:
        raise DataError("`by` names no column", source=source, remedy="Name the columns that make a unit, e.g. by: [parcel, year].")
    columns, statistics = _columns(frame, step.features, source), step.statistics
    owner = frame.groupby(by, sort=True, dropna=False).ngroup().to_numpy()
    _, values = aggregates(frame[columns].to_numpy(dtype=np.float64), owner, statistics)
    names = [f"{column}_{statistic}" for statistic in statistics for column in columns]
    fixed = [*card.targets, *card.groups, *([card.year] if card.year else [])]
    for column in fixed:
        if column in frame.columns and column not in by:
            differing = frame.groupby(owner)[column].nunique(dropna=False).gt(1)
            if differing.any():
                where = frame[by].iloc[int(np.flatnonzero(owner == differing.idxmax())[0])].tolist()
                raise DataError(
                    f"column {column!r} differs within the unit {where}",
                    source=source,
                    remedy="Pixels of one unit share label, groups and year: name further columns under `by`, or fix the table.",
                )
    rest = [column for column in frame.columns if column not in columns]
    out = frame[rest].groupby(owner).first()
    if card.coordinates is not None and card.coordinates.x is not None and card.coordinates.y is not None:
        centre = frame.groupby(owner)[[card.coordinates.x, card.coordinates.y]].mean()
        out[centre.columns] = centre
    return _with_columns(out.reset_index(drop=True), pd.DataFrame(values, columns=names), source)


def _changing(frame: pd.DataFrame, card: TaskCard, step: YearDifference | Similarity, source: str) -> tuple[list[str], NDArray[np.int64]]:
    if card.year is None or card.year not in frame.columns:
        raise DataError("change between years needs a year column, and the card declares none (field: year)", source=source)
    place = _columns(frame, step.place or card.place or [name for name in card.unit if name != card.year], source)
    if not place:
        raise DataError(
            "`place` names no column", source=source, remedy="Name the columns that stay the same from year to year, e.g. place: [GEOID]."
        )
    owner = frame.groupby(place, dropna=False).ngroup().to_numpy()
    years = pd.to_numeric(frame[card.year], errors="coerce")
    if years.isna().any():
        raise DataError(f"the year column {card.year!r} is blank in {int(years.isna().sum())} rows", source=source)
    doubled = pd.DataFrame({"place": owner, "year": years.to_numpy()}).duplicated()
    if doubled.any():
        where = frame[place].iloc[int(np.flatnonzero(doubled.to_numpy())[0])].tolist()
        raise DataError(
            f"the place {where} has a year twice", source=source, remedy="Name further columns under `place`, or aggregate first."
        )
    return _columns(frame, step.features, source), previous_year(owner, years, step.lag)


def _columns(frame: pd.DataFrame, patterns: Sequence[str], source: str) -> list[str]:
    found: dict[str, None] = {}
    for pattern in patterns:
        hits = [column for column in map(str, frame.columns) if fnmatch.fnmatchcase(column, pattern)]
        if not hits:
            raise DataError(f"{pattern!r} matches no column", source=source)
        found.update(dict.fromkeys(hits))
    return list(found)


def _with_columns(frame: pd.DataFrame, new: pd.DataFrame, source: str) -> pd.DataFrame:
    if clash := [column for column in new.columns if column in frame.columns]:
        raise DataError(f"the table already has a column {clash[0]!r}", source=source, remedy="Rename it, or drop this builder.")
    return pd.concat([frame, new], axis=1)
