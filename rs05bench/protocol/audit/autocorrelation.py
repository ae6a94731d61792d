"""How far apart two units must be before knowing one says nothing of the other: the range of an empirical variogram.

Matheron's estimator (Cressie, *Statistics for Spatial Data*, 1993, section 2.4) with an exponential model fitted by weighted least
squares; the reported range is the practical one, where 95 % of the sill is reached. For a class label the squared difference is the
indicator of a different class (indicator variogram, summed over classes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rs05bench.protocol.audit.audit_pair import AuditCheck
from rs05bench.protocol.audit.audit_report import Finding, Thresholds
from rs05bench.protocol.audit.audit_side import Units
from rs05bench.protocol.audit.values import are_numbers
from rs05bench.protocol.geodesy import great_circle_m, sphere_tree, unit_vectors

Floats = npt.NDArray[np.float64]

BINS = 15
NEIGHBOURS = 8
FEATURE_COMPONENTS = 3
PERMUTATIONS = 99
# Standard deviations below the permuted mean from which nearby units count as alike; 4 keeps false alarms under one in ten thousand.
ALIKE_Z = 4.0


@dataclass(frozen=True)
class Variogram:
    """An empirical variogram and its fit.

    Attributes:
        lag_km: Mean distance of each bin.
        gamma: Semivariance of each bin over the variance of the sample (1 = unrelated).
        pairs: Pairs in each bin.
        range_km: Practical range; None where nearby units are no more alike than distant ones.
        nugget: Share of the sill that is already there at distance zero.
        bounded: Whether the sill is reached inside the distances looked at; if not, the range is at least the one given.
        n: Units in the subsample.
    """

    lag_km: Floats
    gamma: Floats
    pairs: npt.NDArray[np.int64]
    range_km: float | None
    nugget: float | None
    bounded: bool
    n: int


def variogram(values: Floats, lon: Floats, lat: Floats, *, categorical: bool = False, sample: int = 1_500, seed: int = 0) -> Variogram:
    """Empirical variogram on a seeded subsample, with a fitted range.

    Args:
        values: One number a unit (class codes where ``categorical``); finite.
        lon: Degrees; finite.
        lat: Degrees; finite.
        categorical: Whether two values are either equal or not.
        sample: Most units whose pairs are formed; as many again bring their nearest neighbours, so that short distances are seen too.
        seed: Seed of the subsample and of the permutations.

    Returns:
        Bins, fit and the range in km.
    """
    rng = np.random.default_rng(seed)
    first, second = _pairs(lon, lat, sample, rng)
    km = great_circle_m(lon[first], lat[first], lon[second], lat[second]) / 1000
    apart = km > 0
    first, second, km = first[apart], second[apart], km[apart]
    n = len(np.unique(np.concatenate([first, second])))
    empty = Variogram(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64), None, None, True, n)
    if len(km) < 10 * BINS:
        return empty
    half = km.max() / 2  # the usual rule: beyond half the extent few places carry all pairs
    low = max(np.quantile(km, 0.002), half / 1000)
    edges = np.concatenate([[0.0], np.geomspace(low, half, BINS)])
    inside = km <= half
    first, second, km = first[inside], second[inside], km[inside]
    which = np.clip(np.searchsorted(edges, km, side="left") - 1, 0, BINS - 1)
    pairs = np.bincount(which, minlength=BINS)
    used = np.unique(np.concatenate([first, second]))
    level = _spread(values[used], categorical)
    if level == 0:
        return empty
    squared = _half_squares(values, first, second, categorical) / level
    enough = pairs >= 30
    lag = np.bincount(which, km, BINS)[enough] / pairs[enough]
    gamma = np.bincount(which, squared, BINS)[enough] / pairs[enough]
    counts = pairs[enough]
    if len(lag) < 4 or not _alike_nearby(values, first, second, which, np.flatnonzero(enough), used, categorical, rng):
        return Variogram(lag, gamma, counts, None, None, True, n)
    reach, nugget, bounded = _fit(lag, gamma, counts)
    return Variogram(lag, gamma, counts, reach, nugget, bounded, n)


def autocorrelation(train: Units, test: Units, km: Floats, thresholds: Thresholds) -> list[Finding]:
    """Range of the label and of the features' leading components, against the buffer between training and test.

    Without a declared buffer the distance of the median test unit to its nearest training unit stands for it. A longer range is a
    warning: such test units are partly predictable from their neighbours alone (a leak if ``range_leaks``).
    """
    fields = _fields(train, test)
    if not fields:
        text = "autocorrelation: not checked, no label or features given (--label, --features)"
        return [Finding(check="autocorrelation", level="not_checked", sentence=text)]
    lon, lat = np.concatenate([train.lon, test.lon]), np.concatenate([train.lat, test.lat])
    return [_judge(name, values, categorical, lon, lat, km, thresholds) for name, values, categorical in fields]


def _judge(name: str, values: Floats, categorical: bool, lon: Floats, lat: Floats, km: Floats, thresholds: Thresholds) -> Finding:
    check = f"autocorrelation:{name}"
    good = np.isfinite(values) & np.isfinite(lon) & np.isfinite(lat)
    known = km[np.isfinite(km)]
    if int(good.sum()) < 50 or len(known) == 0:
        return Finding(check=check, level="not_checked", sentence=f"autocorrelation: {name}: fewer than 50 located values, or no distances")
    result = variogram(
        values[good], lon[good], lat[good], categorical=categorical, sample=thresholds.variogram_sample, seed=thresholds.seed
    )
    of_all = int(good.sum())
    on = f"{result.n:,} of {of_all:,} units" if result.n < of_all else f"all {of_all:,} units"
    numbers: dict[str, Any] = {
        "range_km": result.range_km,
        "bounded": result.bounded,
        "nugget": result.nugget,
        "sample": result.n,
        "lag_km": [round(float(v), 4) for v in result.lag_km],
        "gamma": [round(float(v), 5) for v in result.gamma],
        "pairs": [int(v) for v in result.pairs],
    }
    if result.range_km is None:
        text = f"autocorrelation: {name}: near units are no more alike than far ones ({on})"
        return Finding(check=check, level="pass", sentence=text, count=0, of=len(known), numbers=numbers)
    inside = int((known < result.range_km).sum())
    limit = thresholds.buffer_km or float(np.median(known))
    kind = "the declared buffer" if thresholds.buffer_km else "the median distance to training"
    numbers["buffer_km"] = limit
    reach = f"{'' if result.bounded else 'at least '}{result.range_km:,.3g} km"
    text = f"autocorrelation: {name}: range {reach} ({on}), {kind} {limit:,.3g} km"
    if result.range_km <= limit:
        return Finding(check=check, level="pass", sentence=text, count=inside, of=len(known), numbers=numbers)
    level = "leak" if thresholds.range_leaks else "warning"
    text += f": {inside:,} of {len(known):,} test units lie within the range of a training unit"
    return Finding.model_validate({"check": check, "level": level, "sentence": text, "count": inside, "of": len(known), "numbers": numbers})


def _fields(train: Units, test: Units) -> list[tuple[str, Floats, bool]]:
    """Label, then the leading principal components of the standardised features: name, values, whether a class."""
    fields: list[tuple[str, Floats, bool]] = []
    if train.label is not None and test.label is not None:
        both = pd.concat([train.label, test.label], ignore_index=True)
        if are_numbers(both):
            fields.append(("label", both.to_numpy(dtype=np.float64, na_value=np.nan), False))
        else:
            codes = pd.factorize(both)[0].astype(np.float64)
            codes[codes < 0] = np.nan
            fields.append(("label", codes, True))
    if train.features is not None and test.features is not None:
        fields += [
            (f"features PC{k + 1}", scores, False) for k, scores in enumerate(_components(np.concatenate([train.features, test.features])))
        ]
    return fields


def _components(features: npt.NDArray[np.float32]) -> list[Floats]:
    complete = np.isfinite(features).all(axis=1)
    rows = features[complete].astype(np.float64)
    if len(rows) < 50:
        return []
    spread = rows.std(axis=0)
    rows = (rows - rows.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    if rows.shape[1] == 0:
        return []
    _, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    scores = rows @ vectors[:, ::-1][:, :FEATURE_COMPONENTS]
    out = []
    for k in range(scores.shape[1]):
        values = np.full(len(features), np.nan)
        values[complete] = scores[:, k]
        out.append(values)
    return out


def _pairs(lon: Floats, lat: Floats, sample: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """All pairs of a random subsample, and the nearest neighbours (among all units) of another."""
    total = len(lon)
    chosen = np.arange(total) if total <= sample else np.sort(rng.choice(total, sample, replace=False))
    upper = np.triu_indices(len(chosen), k=1)
    first, second = chosen[upper[0]], chosen[upper[1]]
    if total <= sample:
        return first, second
    centres = np.sort(rng.choice(total, sample, replace=False))
    near = min(NEIGHBOURS + 1, total)
    found = sphere_tree(lon, lat).query(unit_vectors(lon[centres], lat[centres]), k=near)[1]
    a, b = np.repeat(centres, near), found.ravel()
    distinct = a != b
    return np.concatenate([first, a[distinct]]), np.concatenate([second, b[distinct]])


def _half_squares(values: Floats, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], categorical: bool) -> Floats:
    if categorical:
        return 0.5 * (values[first] != values[second])
    return 0.5 * (values[first] - values[second]) ** 2


def _spread(values: Floats, categorical: bool) -> float:
    """Semivariance of unrelated units: the variance, or half the chance that two units differ in class."""
    if not categorical:
        return float(values.var(ddof=1)) if len(values) > 1 else 0.0
    share = np.unique(values, return_counts=True)[1] / len(values)
    return float(0.5 * (1 - (share**2).sum()))


def _alike_nearby(
    values: Floats,
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    which: npt.NDArray[np.int64],
    enough: npt.NDArray[np.int64],
    used: npt.NDArray[np.int64],
    categorical: bool,
    rng: np.random.Generator,
) -> bool:
    """Permutation test over the shorter third of the bins: are near units more alike than values dealt out at random would be?"""
    short = which <= enough[max(1, len(enough) // 3) - 1]
    a, b = np.searchsorted(used, first[short]), np.searchsorted(used, second[short])
    if len(a) > 40_000:
        some = rng.choice(len(a), 40_000, replace=False)
        a, b = a[some], b[some]
    here = values[used]
    observed = _half_squares(here, a, b, categorical).mean()
    dealt = np.array([_half_squares(rng.permutation(here), a, b, categorical).mean() for _ in range(PERMUTATIONS)])
    return bool(observed < dealt.mean() - ALIKE_Z * dealt.std(ddof=1))


def _fit(lag: Floats, gamma: Floats, pairs: npt.NDArray[np.int64]) -> tuple[float, float, bool]:
    """Exponential model ``nugget + sill (1 - exp(-3 h / range))`` by a grid over the range and non-negative least squares for the rest."""
    from scipy.optimize import nnls

    weight = np.sqrt(np.minimum(pairs, np.quantile(pairs, 0.75)).astype(np.float64))
    grid = np.geomspace(lag.min(), lag.max() * 1.5, 120)
    best = (np.inf, grid[0], 0.0, 0.0)
    for reach in grid:
        design = np.column_stack([np.ones_like(lag), 1 - np.exp(-3 * lag / reach)]) * weight[:, None]
        (nugget, sill), residual = nnls(design, gamma * weight)
        if residual < best[0]:
            best = (residual, float(reach), float(nugget), float(sill))
    _, reach, nugget, sill = best
    total = nugget + sill
    # The permutation test found likeness nearby, so a sill that fits as zero only means a range below the first bin.
    return reach, nugget / total if total > 0 else 1.0, reach <= lag.max()


CHECKS = (
    AuditCheck(
        "autocorrelation",
        100,
        lambda pair: autocorrelation(pair.train, pair.test, pair.km, pair.thresholds),
    ),
)
