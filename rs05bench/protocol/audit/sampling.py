"""A sampling design that predicts the label: a class that was sampled in one year, one group or one half of the area only.

A model then rules the class out, or in, by when and where a unit is, and a split that moves the year or the group tests nothing. Nature
confines classes as well (a crop of one valley), so this warns and refuses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.protocol.audit.audit_report import Finding

LEAST_EXPECTED = 30
"""Units of a class that its share of all units would give where it was not sampled at all."""
LEAST_SIDE = 0.25
"""Share of the units that have to be on the empty side of a line."""
EXPLAINED = 0.9
"""Share of a number's variance that years or groups explain, from which on they tell it."""
CHANGED = 0.1
"""Difference of two years in the share of units that a sensor never saw, from which on a year is partly another sensor."""


def sampling_design(units: pd.DataFrame, labels: pd.Series, groups: Sequence[str], kind: str) -> list[Finding]:
    """Looks for labels that the year, a group or a line across the area tells.

    Args:
        units: `lon`, `lat`, `year` and the group columns, a row a unit.
        labels: Their labels, in order; missing ones are left out.
        groups: Group columns.
        kind: Kind of the task.

    Returns:
        A finding for every column looked at, and one for the position.
    """
    known = labels.notna().to_numpy()
    units, labels = units[known].reset_index(drop=True), labels[known].reset_index(drop=True)
    columns = [name for name in ("year", *groups) if name in units and 1 < units[name].nunique() <= len(units) / 3]
    if kind == "regression":
        return [_explained(name, units[name], labels.astype(float)) for name in columns]
    found = [_confined(name, units[name].astype(str), labels.astype(str)) for name in columns]
    return [*found, _behind_a_line(units, labels.astype(str))]


def sensor_changes(units: pd.DataFrame, counts: Sequence[str]) -> list[Finding]:
    """Looks for sensors that saw the units of one year and not of another: the drop to that year is then partly a change of sensor.

    Args:
        units: `year` and the counts of observations, a row a unit.
        counts: Columns `<sensor>_...` that say how many observations went into a unit's embedding.

    Returns:
        A finding for every sensor.
    """
    if units["year"].nunique() < 2:
        return []
    found = []
    for sensor in dict.fromkeys(name.partition("_")[0] for name in counts):
        of_sensor = [name for name in counts if name.partition("_")[0] == sensor]
        unseen = (units[of_sensor].sum(axis=1) == 0).groupby(units["year"]).mean()
        most, least = unseen.idxmax(), unseen.idxmin()
        changed = unseen[most] - unseen[least] >= CHANGED
        sentence = f"{sensor}: the embeddings of every year hold about as many of its observations"
        if changed:
            sentence = (
                f"{sensor}: {unseen[most]:.0%} of the embeddings of {most} hold no observation of it ({', '.join(of_sensor)}), "
                f"{unseen[least]:.0%} of those of {least}: the drop from year to year is partly a change of sensor"
            )
        found.append(
            Finding(check=f"sensor_changes:{sensor}", level="warning" if changed else "pass", sentence=sentence, count=int(changed))
        )
    return found


def _confined(name: str, values: pd.Series, labels: pd.Series) -> Finding:
    """Classes that one value of a column holds alone."""
    check = f"sampling_design:{name}"
    table = pd.crosstab(labels, values)
    where = table > 0
    expected = table.sum(axis=1) / len(labels) * (len(labels) - table.sum(axis=0).reindex(where.idxmax(axis=1)).to_numpy())
    alone = where.index[(where.sum(axis=1) == 1) & (expected >= LEAST_EXPECTED)]
    if not len(alone):
        return Finding(check=check, level="pass", sentence=f"{name}: every common class is found in several", count=0, of=len(table))
    only = alone[0]
    more = f" (and {len(alone) - 1} more classes like it)" if len(alone) > 1 else ""
    sentence = (
        f"all {int(table.loc[only].sum()):,} units of class {only!r} are of {name} {where.loc[only].idxmax()!r}{more}: "
        f"was it sampled there only? The {name} then tells the class, and a split that holds it out tests nothing"
    )
    return Finding(check=check, level="warning", sentence=sentence, count=len(alone), of=len(table))


def _explained(name: str, values: pd.Series, y: pd.Series) -> Finding:
    """Share of a number's variance that lies between the values of a column (adjusted eta squared)."""
    check = f"sampling_design:{name}"
    inside = float(((y - y.groupby(values).transform("mean")) ** 2).sum())
    total = float(((y - y.mean()) ** 2).sum())
    share = 1 - (inside / max(len(y) - values.nunique(), 1)) / (total / (len(y) - 1)) if total > 0 else 0.0
    if share < EXPLAINED:
        return Finding(check=check, level="pass", sentence=f"{name}: {max(share, 0):.0%} of the variance is between its values", count=0)
    sentence = f"{share:.0%} of the target's variance is between values of {name}: the {name} tells the number without any image"
    return Finding(check=check, level="warning", sentence=sentence, count=1)


def _behind_a_line(units: pd.DataFrame, labels: pd.Series) -> Finding:
    """Classes of which a large part of the area, cut off by a meridian or a parallel, holds none."""
    check = "sampling_design:place"
    lon, lat = (units[name].to_numpy(np.float64) for name in ("lon", "lat"))
    located = np.isfinite(lon) & np.isfinite(lat)
    if located.sum() < 2 * LEAST_EXPECTED:
        return Finding(check=check, level="not_checked", sentence="sampling by place: not checked, too few located units")
    said = []
    for name in sorted(set(labels[located])):
        here = located & (labels == name).to_numpy()
        for values, (below, above) in ((lat, ("south", "north")), (lon, ("west", "east"))):
            for side, edge, empty in (
                (above, values[here].min(), values[located] < values[here].min()),
                (below, values[here].max(), values[located] > values[here].max()),
            ):
                if _many(empty, int(here.sum())):
                    said.append(f"class {name!r} only {side} of {_degrees(edge, values is lat)}, with {int(empty.sum()):,} units beyond")
    if not said:
        return Finding(check=check, level="pass", sentence="sampling by place: no common class ends at a line", count=0)
    more = f", and {len(said) - 1} more like it" if len(said) > 1 else ""
    sentence = f"{said[0]}{more}: was it sampled there only? The place then tells the class"
    return Finding(check=check, level="warning", sentence=sentence, count=len(said))


def _many(empty: NDArray[np.bool_], size: int) -> bool:
    return bool(empty.mean() >= LEAST_SIDE and size / len(empty) * empty.sum() >= LEAST_EXPECTED)


def _degrees(value: float, is_lat: bool) -> str:
    letter = ("N" if value >= 0 else "S") if is_lat else ("E" if value >= 0 else "W")
    return f"{abs(value):.2f} {letter}"
