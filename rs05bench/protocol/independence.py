"""Are the groups, or test blocks, that an interval takes as independent so on the map?

An interval over groups is right where the score of one group says nothing of its neighbour's: Moran's I of the groups' scores (Cliff & Ord
1981). An interval over the blocks of one group is right where errors are alike over less than the distance between blocks: the range of the
blocks' mean errors (variogram of Matheron, exponential model; Cressie 1993, section 2.4). Where it is not right, the interval is too short.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.protocol.audit.autocorrelation import variogram
from rs05bench.protocol.geodesy import chord_to_metres, sphere_tree, unit_vectors
from rs05bench.protocol.inference.estimate import Over
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.metrics.spatial import knn_weights, morans_i
from rs05bench.protocol.pooling import Point, Pool

FEWEST = 8
"""With fewer groups no permutation of them can show that neighbours are alike."""
NEIGHBOURS = 4
ALIKE = 0.01
FEWEST_BLOCKS = 20
SHARE = 0.1
"""From this share of test blocks with another one within the range of errors on, an interval over blocks is called too short."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Independence:
    """Whether what an interval resamples errs by itself.

    Attributes:
        over: What the interval is over, `groups` or `blocks`.
        n: How many of them have a position and a score.
        checked: Whether there are enough to tell.
        moran: Of groups: Moran's I of their scores; NaN for blocks.
        p: Of groups: one-sided permutation p-value of it; NaN for blocks.
        range_km: Of blocks: distance over which mean errors are alike; None where near blocks are no more alike than distant ones.
        share: Of blocks: share that has another block within the range.
        apart_km: Median distance to the nearest other one.
    """

    over: Over
    n: int
    checked: bool
    moran: float
    p: float
    range_km: float | None
    share: float
    apart_km: float

    @property
    def too_short(self) -> bool:
        """Whether intervals are too short."""
        alike = self.moran > 0 and self.p <= ALIKE if self.over == "groups" else self.range_km is not None and self.share >= SHARE
        return self.checked and bool(alike)

    @property
    def sentence(self) -> str:
        """For people; empty where nothing is wrong."""
        if not self.checked:
            return f"{self.n} {self.over} are too few to tell whether near ones are alike; where they are, intervals are too short."
        if not self.too_short:
            return ""
        if self.over == "groups":
            return f"Neighbouring groups score alike (Moran's I {self.moran:.2f}, p {self.p:.2g}), so intervals over groups are too short."
        return (
            f"Errors are alike up to {self.range_km:,.0f} km, and {self.share:.0%} of the test blocks have another within that, "
            "so intervals over blocks are too short."
        )


def independence(pool: Pool, point: Point, role: str, manifest: SplitManifest, metric: str | None = None) -> Independence | None:
    """Checks the interval of a point's score.

    Args:
        pool: The cells.
        point: Which model, split and budget.
        role: `test_id` or `test_ood`.
        manifest: The split's manifest, which holds positions.
        metric: Metric; default the task's main metric.

    Returns:
        None where nothing is tested in this role, or fewer than three groups or blocks have a position.
    """
    scores = pool.inside(point, role, metric or pool.metric(point))
    tested = manifest.table[manifest.table["role"].astype(str) == role].drop_duplicates("unit_id")
    located = tested.assign(**_lonlat(manifest, tested)).dropna(subset=["lon", "lat"])
    if len(scores.groups) > 1:
        means = pd.DataFrame(scores.values, index=list(scores.groups)).mean(axis=1).rename("value")
        frame = _centres(located, "region").join(means, how="inner").dropna()
        return _of_groups(frame) if len(frame) > 2 else None
    frame = _centres(located, "block").join(_mean_errors(pool, point, role), how="inner")
    return _of_blocks(frame) if len(frame) > 2 else None


def _of_groups(frame: pd.DataFrame) -> Independence:
    lonlat = frame[["lon", "lat"]].to_numpy(np.float64)
    apart = float(np.median(_nearest_km(lonlat)))
    if len(frame) < FEWEST:
        return Independence("groups", len(frame), False, np.nan, np.nan, None, 0.0, apart)
    found = morans_i(frame["value"].to_numpy(np.float64), knn_weights(lonlat, NEIGHBOURS), rng=np.random.default_rng(0))
    return Independence("groups", len(frame), bool(np.isfinite(found.value)), found.value, found.p, None, 0.0, apart)


def _of_blocks(frame: pd.DataFrame) -> Independence:
    lonlat = frame[["lon", "lat"]].to_numpy(np.float64)
    apart = _nearest_km(lonlat)
    near = float(np.median(apart))
    if len(frame) < FEWEST_BLOCKS:
        return Independence("blocks", len(frame), False, np.nan, np.nan, None, 0.0, near)
    reach = variogram(frame["value"].to_numpy(np.float64), *lonlat.T).range_km
    share = 0.0 if reach is None else float((apart <= reach).mean())
    return Independence("blocks", len(frame), True, np.nan, np.nan, reach, share, near)


def _mean_errors(pool: Pool, point: Point, role: str) -> pd.Series:
    """Mean error of each block, the mean over seeds: prediction minus truth, or share of right answers."""
    metric = pool.points[point][0].about.right
    found = [pd.Series(dtype=float)]
    for fit in pool.fits(point, metric, role).values():
        values = np.atleast_1d(fit.evaluate(metric, np.asarray(fit.vectors, dtype=np.float64)))
        found.append(pd.Series(values, index=[name.split("\t", 1)[1] for name in fit.clusters]))
    every = pd.concat(found[1:] or found).dropna()
    return every.groupby(level=0).mean().rename("value")


def _lonlat(manifest: SplitManifest, tested: pd.DataFrame) -> dict[str, Floats]:
    units = manifest.units.set_index("unit_id").reindex(tested["unit_id"])
    return {name: units[name].to_numpy(np.float64) for name in ("lon", "lat")}


def _centres(located: pd.DataFrame, column: str) -> pd.DataFrame:
    """Middle of the units of each group or block: the mean of unit vectors, so that one across the antimeridian is where it is."""
    names = located[column].astype(str).to_numpy(dtype=object)
    vectors = pd.DataFrame(unit_vectors(located["lon"].to_numpy(), located["lat"].to_numpy())).groupby(names).mean()
    x, y, z = vectors.to_numpy().T
    return pd.DataFrame({"lon": np.degrees(np.arctan2(y, x)), "lat": np.degrees(np.arctan2(z, np.hypot(x, y)))}, index=vectors.index)


def _nearest_km(lonlat: Floats) -> Floats:
    chord = sphere_tree(*lonlat.T).query(unit_vectors(*lonlat.T), k=2)[0][:, 1]
    return np.asarray(chord_to_metres(chord) / 1000)
