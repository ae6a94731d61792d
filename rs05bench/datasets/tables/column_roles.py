"""What columns are besides features: positions, splits somebody made, ids, and columns that tell the label."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from rs05bench.datasets.tables.leaks import named_after
from rs05bench.protocol.intake.keys import as_keys

LONGITUDE = ("longitude", "lon", "long", "lng", "centre_lon", "center_lon", "lon_centre", "lon_center", "point_x", "x")
LATITUDE = ("latitude", "lat", "centre_lat", "center_lat", "lat_centre", "lat_center", "point_y", "y")
EASTING = ("easting", "utm_e", "utm_x", "utm_easting", "x_utm", "east", "x_coord", "coord_x", "x")
NORTHING = ("northing", "utm_n", "utm_y", "utm_northing", "y_utm", "north", "y_coord", "coord_y", "y")

_POSITION = re.compile(
    r"(?i)((point|chip|tile|plot|parcel|field|site|sample|patch|pixel|cell)_|utm_?|coord_?|cent(re|er|roid)_?|gps_?)*(lon|lng|long|longitude|lat|latitude|x|y|easting|northing|utm_?zone)"
    r"(_?(deg|dd|m|utm|wgs84|coord|cent(re|er)))*"
)
_SPLIT = re.compile(
    r"(?i)(is_?|in_?)?(train(ing)?|test(ing)?|val|valid(ation)?|holdout)(_?(set|mask|flag|idx|split))?|(cv_?|k_?)?folds?(_?(id|\d+|idx))?|"
    r"(data_?|train_?)?(split|partition|subset)s?(_?(id|\d+|name))?"
)
_ID = re.compile(
    r"(?i)(.*[_\W])?(id|ids|fid|pid|gid|oid|uid|uuid|objectid|geoid|fips|index|idx|row|parcel|plot|parcel_?no|nr|no|system:index)\d*|.*id"
)
MOSTLY_EMPTY = 0.5
_PURE = 0.99
_CHANCE = 1e-6
_MOST_VALUES = 200


def is_position(column: str) -> bool:
    """Whether a column is named like a coordinate."""
    return _POSITION.fullmatch(column) is not None


def is_split(column: str) -> bool:
    """Whether a column is named like a split somebody made (`fold`, `is_test`, `split`)."""
    return _SPLIT.fullmatch(column) is not None


def is_id(column: str, values: pd.Series, year: pd.Series | None = None) -> bool:
    """Whether a column names rows: its name says so and it has a value a row or a place, or its whole numbers count the rows."""
    known = values.dropna()
    if not len(known) or pd.api.types.is_float_dtype(known.dtype):
        return False
    repeated = known.nunique() < len(known) and (year is None or pd.DataFrame({"v": values, "y": year}).dropna().duplicated().any())
    if _ID.fullmatch(column) and (not repeated or known.nunique() > len(known) / 20):
        return True
    if not pd.api.types.is_integer_dtype(known.dtype) or repeated or len(known) < 20:
        return False
    return int(known.max() - known.min()) + 1 == known.nunique()


def telling(frame: pd.DataFrame, columns: Sequence[str], target: str, kind: str) -> dict[str, str]:
    """Columns that tell the label or that the label tells, and why: codes and names of the classes, and columns filled for one class only.

    Only columns with few distinct values are compared: a measured quantity that separates classes is a feature.
    """
    labels = as_keys(frame[target])
    known = labels.notna().to_numpy()
    found: dict[str, str] = {}
    for column in columns:
        values = frame[column]
        if named_after(column, target):
            found[column] = "is named after the label"
            continue
        why = _missingness(values[known], labels[known]) if kind == "classification" else ""
        distinct = values[known].nunique()
        if not why and 2 <= distinct <= min(_MOST_VALUES, max(2, int(known.sum()) // 5)):
            why = determines(as_keys(values[known]), labels[known], kind)
        if why:
            found[column] = why
    return found


def determines(values: pd.Series, labels: pd.Series, kind: str) -> str:
    """Whether values tell labels or labels tell values (almost) always, in words; empty where neither."""
    both = values.notna() & labels.notna()
    values, labels = values[both], labels[both]
    if values.nunique() < 2 or labels.nunique() < 2 or len(values) < 10:
        return ""
    table = pd.crosstab(values, labels).to_numpy()
    by_value, by_label = table.max(axis=1).sum() / table.sum(), table.max(axis=0).sum() / table.sum()
    plain_label, plain_value = table.sum(axis=0).max() / table.sum(), table.sum(axis=1).max() / table.sum()
    # A column that is nearly constant, or labels that nearly are, agree by themselves.
    if by_value >= _PURE and plain_label < 1 - 2 * (1 - by_value) - 0.05:
        return "tells the label: each of its values has one" if kind == "classification" else "has one value of the label each"
    if kind == "classification" and by_label >= _PURE and plain_value < 1 - 2 * (1 - by_label) - 0.05:
        return "is told by the label: each class has one value of it"
    return ""


def _missingness(values: pd.Series, labels: pd.Series) -> str:
    """Whether a column is filled, or blank, in one class only, more often than chance could make it."""
    blank = values.isna().to_numpy()
    for rows, word in ((~blank, "filled"), (blank, "blank")):
        count = int(rows.sum())
        if not count or count == len(labels):
            continue
        inside = labels[rows]
        if (inside == inside.iloc[0]).all() and (labels == inside.iloc[0]).mean() ** count < _CHANCE:
            return f"is {word} for class {inside.iloc[0]!r} only"
    return ""


def constant(frame: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Columns with one value."""
    return [column for column in columns if (known := frame[column].dropna()).empty or (known == known.iloc[0]).all()]
