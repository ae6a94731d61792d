"""Which chips show the same fire.

The published set names no fire. A large burn scar is cut into several chips, over tiles that overlap, on neighbouring dates; if some of
them train
and others test, the test measures memory. The rule here: **two chips show the same fire when they are at most `distance` metres and at most
`days` days apart; and so do chips linked through others.** The same ground burnt in another year is another fire (its chips still share
a tile:
group by both). The rule errs towards joining neighbours, which costs a few groups and never leaks.
"""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rs05bench.protocol.geodesy import degrees_around


def fire_ids(units: gpd.GeoDataFrame, *, days: int = 90, distance: float = 5_000.0) -> pd.Series:
    """Label the connected groups of chips.

    Args:
        units: WGS84 footprints with `unit_id` and `date`.
        days: Largest difference in days.
        distance: Largest gap between footprints in metres (0: they must touch).

    Returns:
        The unit id of the group's first chip (by date, then id), after `fire-`.
    """
    shapes = units.geometry.to_numpy()
    dates = units["date"].to_numpy(dtype="datetime64[D]").astype(np.int64)
    boxes = shapely.bounds(shapes)
    margin_x, margin_y = degrees_around(distance, np.abs(boxes[:, [1, 3]]).max(axis=1))
    # The margins are those at the chip's own latitude, so that the box is never too small.
    grown = shapely.box(boxes[:, 0] - margin_x, boxes[:, 1] - margin_y, boxes[:, 2] + margin_x, boxes[:, 3] + margin_y)
    first, second = shapely.STRtree(shapes).query(grown, predicate="intersects")
    near = np.abs(dates[first] - dates[second]) <= days
    links = coo_array((np.ones(int(near.sum())), (first[near], second[near])), shape=(len(units), len(units)))
    _, group = connected_components(links, directed=False)
    order = units.assign(_group=group, _day=dates).sort_values(["_day", "unit_id"])
    leader = order.groupby("_group")["unit_id"].first()
    return pd.Series("fire-" + leader.loc[group].to_numpy(dtype=object), index=units.index, dtype=object, name="fire")
