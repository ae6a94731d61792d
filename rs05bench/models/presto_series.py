"""Pixel time series of a table as Presto wants them.

The feature set ``presto`` of a task holds a series a unit, shape (n, T, C) or flattened with dates outermost:

- C = 18, raw units, in this order: VV VH (dB) | B2 B3 B4 B5 B6 B7 B8 B8A B9 B11 B12 (reflectance x 10,000) | 2 m temperature (K) |
  precipitation (m) | elevation (m) | slope (degrees) | NDVI. B9 is dropped and NDVI computed, as Presto was pretrained.
- C = 17, already as Presto wants it.
- or named columns ``<band>_<date>``, for instance ``B8A_0``, in raw units and any order; bands that are absent are masked.

Feature sets ``dynamic_world`` (n, T; 9 = missing) and ``month`` (n, T or n; 0-11) go with it. Missing values (NaN) are masked.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.models.backbones.bands import ScaleWarning

RAW_CHANNELS = ("VV", "VH", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12", "t2m", "tp", "elevation", "slope", "NDVI")
PRESTO_CHANNELS = tuple(name for name in RAW_CHANNELS if name != "B9")
MISSING_COVER = 9


def presto_series(
    values: NDArray[np.float32], columns: list[str]
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """A feature set as Presto wants it.

    Args:
        values: (n, T, C), or (n, d) flattened with dates outermost, or (n, d) with columns named ``<band>_<date>``.
        columns: Names of the columns.

    Returns:
        Scaled series (n, T, 17) with missing values 0, its mask (1 = missing), and what else was found among named columns (month,
        dynamic_world).

    Raises:
        DataError: The shape and the names fit none of these.
    """
    found: dict[str, NDArray[np.float32]] = {}
    named = _named(values, columns) if values.ndim == 2 else None
    if named is not None:
        raw, found = named
    elif values.ndim == 3:
        raw = values
    else:
        channels = next((count for count in (18, 17) if values.shape[1] % count == 0), None)
        if channels is None:
            problem = f"presto has {values.shape[1]} columns, neither named <band>_<date> nor a multiple of 18 (raw) or 17 (scaled)"
            raise DataError(problem, remedy=f"Name the columns by band and date, of {', '.join(RAW_CHANNELS)}; for instance B8A_0.")
        raw = values.reshape(len(values), -1, channels)
    if raw.shape[2] == len(RAW_CHANNELS):
        scaled = scale_presto(raw)
    elif raw.shape[2] == len(PRESTO_CHANNELS):
        scaled = raw.astype(np.float32)
    else:
        raise DataError(
            f"the feature set presto has {raw.shape[2]} channels; 18 raw or 17 scaled were expected",
            remedy="See rs05bench.models.presto_series.",
        )
    missing = ~np.isfinite(scaled)
    _check_scaled(scaled)
    return np.where(missing, 0.0, scaled).astype(np.float32), missing.astype(np.float32), found


def scale_presto(raw: NDArray[Any]) -> NDArray[np.float32]:
    """Raw units (n, T, 18) to Presto's inputs (n, T, 17).

    DB + 25 over 25, reflectance, (K - 272.15) / 35, m / 0.03, m / 2000, degrees / 50, NDVI of B8 and B4.
    """
    channel = {name: raw[..., index].astype(np.float64) for index, name in enumerate(RAW_CHANNELS)}
    out = np.empty((*raw.shape[:2], len(PRESTO_CHANNELS)), dtype=np.float32)
    for index, name in enumerate(PRESTO_CHANNELS):
        value = channel[name]
        if name in ("VV", "VH"):
            out[..., index] = (value + 25) / 25
        elif name.startswith("B"):
            out[..., index] = value / 10_000
        elif name == "t2m":
            out[..., index] = (value - 272.15) / 35
        elif name == "tp":
            out[..., index] = value / 0.03
        elif name == "elevation":
            out[..., index] = value / 2000
        elif name == "slope":
            out[..., index] = value / 50
        else:
            total = channel["B8"] + channel["B4"]
            out[..., index] = np.where(np.abs(total) > 0, (channel["B8"] - channel["B4"]) / np.where(total == 0, 1, total), 0.0)
            out[..., index] = np.where(np.isfinite(total), out[..., index], np.nan)
    return out


def _named(values: NDArray[np.float32], columns: list[str]) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]] | None:
    """Columns ``<band>_<date>`` as (n, T, 18); None when the names are no such thing."""
    spelled = {name.lower(): name for name in (*RAW_CHANNELS, "month", "dynamic_world")}
    places: dict[tuple[str, int], int] = {}
    for index, column in enumerate(columns):
        match = re.fullmatch(r"(.+)_t?(\d+)", column)
        name = spelled.get(re.sub(r"^b0(\d)", r"b\1", match[1].lower())) if match else None
        if match is None or name is None:
            return None
        places[name, int(match[2])] = index
    if not places:
        return None
    dates = sorted({date for _, date in places})
    raw = np.full((len(values), len(dates), len(RAW_CHANNELS)), np.nan, dtype=np.float32)
    found: dict[str, NDArray[np.float32]] = {}
    for (name, date), index in places.items():
        if name in RAW_CHANNELS:
            raw[:, dates.index(date), RAW_CHANNELS.index(name)] = values[:, index]
        else:
            found.setdefault(name, np.full((len(values), len(dates)), np.nan, dtype=np.float32))[:, dates.index(date)] = values[:, index]
    return raw, found


def aligned(values: NDArray[Any], dates: int, name: str) -> NDArray[np.float32]:
    """A feature set as (n, dates); one column of months is the first of consecutive ones."""
    flat = values.reshape(len(values), -1)
    if flat.shape[1] == 1 and dates > 1 and name == "month":
        flat = (flat + np.arange(dates)) % 12
    if flat.shape[1] != dates:
        raise DataError(f"feature set {name!r} has {flat.shape[1]} dates and presto {dates}", remedy="Give both for the same dates.")
    return flat.astype(np.float32)


def whole_numbers(values: NDArray[np.float32] | None, count: int, dates: int, *, missing: int, top: int, name: str) -> NDArray[np.int64]:
    """Values as whole numbers between 0 and `top`, `missing` where there is none."""
    if values is None:
        return np.full((count, dates), missing, dtype=np.int64)
    whole = np.where(np.isfinite(values), values, missing).astype(np.int64)
    if whole.size and (whole.min() < 0 or whole.max() > top):
        raise DataError(f"{name} lies between {whole.min()} and {whole.max()}; 0 to {top} was expected", remedy="Months count from 0.")
    return whole


def _check_scaled(scaled: NDArray[np.float32]) -> None:
    bands = [index for index, name in enumerate(PRESTO_CHANNELS) if name.startswith("B")]
    finite = scaled[..., bands][np.isfinite(scaled[..., bands])]
    if finite.size and finite.any() and not 0.005 <= (high := float(np.percentile(np.abs(finite), 95))) <= 2:
        warnings.warn(
            f"presto: the 95th percentile of reflectance is {high:.3g}; expected 0-1 after scaling (18 raw channels take x 10,000)",
            ScaleWarning,
            stacklevel=3,
        )
