"""Maps of units: points on a ground with borders, outlines of groups and a scale bar, a kilometre as long up as across."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.protocol.geodesy import metres_per_degree
from rs05bench.report.drawing import PANEL, Spec, records
from rs05bench.report.figures import POINT, SAID
from rs05bench.report.style import FAINT, INK, MUTED, RULE

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

SIDE = PANEL + 40
"""Outer height of a map: its title above a square."""
_TITLE, _EDGE = 40, 18
MOST_OUTLINES = 14
"""More groups than this are not outlined, and more outlines carry no names."""
MOST_POINTS = 1500
"""More points than this are thinned; pages stay small and dots apart."""
_OUTLINE_PLACES = 3

Pairs = NDArray[np.float64]
"""(n, 2) longitude and latitude, degrees."""


@dataclass(frozen=True)
class View:
    """The ground a map shows.

    Attributes:
        lon: Longitude of the middle, degrees.
        lat: Latitude of the middle, degrees.
        half: Half the width shown, kilometres.
    """

    lon: float
    lat: float
    half: float

    @classmethod
    def around(cls, lon: pd.Series, lat: pd.Series, half: float | None = None) -> View:
        """A view that shows some places with a little room, or `half` kilometres to each side of their middle."""
        middle = (float(lon.min()) + float(lon.max())) / 2, (float(lat.min()) + float(lat.max())) / 2
        return cls(*middle, half if half is not None else 1.08 * half_width(lon, lat))

    def km(self, lonlat: Pairs) -> Pairs:
        """Kilometres east and north of the middle, (n, 2)."""
        shift = np.asarray(lonlat, dtype=np.float64).reshape(-1, 2) - (self.lon, self.lat)
        return shift * np.array(metres_per_degree(self.lat)) / 1000

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east and north of a square a little larger than the view, degrees."""
        east, north = (1100 * self.half / max(float(length), 1.0) for length in metres_per_degree(self.lat))
        return self.lon - east, self.lat - north, self.lon + east, self.lat + north


def half_width(lon: pd.Series, lat: pd.Series) -> float:
    """Half the longer side of the ground that places cover, kilometres."""
    east, north = metres_per_degree(float(lat.mean()))
    return max(float(lon.max() - lon.min()) * float(east), float(lat.max() - lat.min()) * float(north), 100.0) / 2000


def thinned(points: pd.DataFrame, most: int = MOST_POINTS) -> pd.DataFrame:
    """At most so many rows, evenly taken from those ordered by place."""
    if len(points) <= most:
        return points
    ordered = points.sort_values(["lon", "lat"], kind="stable")
    return ordered.iloc[np.linspace(0, len(ordered) - 1, most).round().astype(int)]


def map_panel(
    points: pd.DataFrame,
    view: View,
    *,
    title: str,
    subtitle: str,
    channels: Spec,
    outlines: Mapping[str, Pairs] | None = None,
    size: int | None = None,
    height: int = SIDE,
) -> Spec:
    """A map.

    Args:
        points: `lon`, `lat`, `said` (what a point says) and the fields of `channels`; drawn in their order.
        view: The ground shown.
        title: Title.
        subtitle: Second line.
        channels: Colour, shape and order of the points.
        outlines: Name of a group -> its outline.
        size: Area of a point, square pixels; default by their number.
        height: Outer height of the panel, pixels.
    """
    up = view.half * (height - _TITLE) / (PANEL - _EDGE)
    x = {"field": "x", "type": "quantitative", "axis": None, "scale": {"domain": [-view.half, view.half], "nice": False}}
    y = {"field": "y", "type": "quantitative", "axis": None, "scale": {"domain": [-up, up], "nice": False}}
    place = {"x": x, "y": y}
    kilometres = view.km(points[["lon", "lat"]].to_numpy(dtype=np.float64)).round(3)
    drawn = points.assign(x=kilometres[:, 0], y=kilometres[:, 1])
    layers: list[Spec] = []
    if pieces := borders(*view.bounds):
        layers.append(_lines({str(n): view.km(piece) for n, piece in enumerate(pieces)}, place, {"color": MUTED, "strokeWidth": 0.9}))
    if outlines:
        moved = {name: view.km(ring) for name, ring in outlines.items()}
        layers.append(_lines(moved, place, {"color": RULE, "strokeWidth": 1.0, "strokeDash": [3, 3]}))
    count = len(drawn)
    area = size or (34 if count < 200 else 20 if count < 700 else 10)
    layers.append(
        {
            "data": {"values": records(drawn.drop(columns=["lon", "lat"]))},
            "mark": {**POINT, "size": area, "stroke": "#9aa2ac", "strokeWidth": 0.4},
            "encoding": {**place, **channels, **SAID},
        }
    )
    if outlines and len(outlines) <= MOST_OUTLINES:
        layers.append(_names(moved, view, up, place))
    layers += _scale_bar(view.half, up, place)
    return {"title": {"text": title, "subtitle": subtitle, "limit": PANEL - 20}, "view": {"stroke": FAINT}, "layer": layers}


def _lines(pieces: Mapping[str, Pairs], place: Spec, look: Spec) -> Spec:
    rows = [
        {"piece": name, "n": n, "x": float(x), "y": float(y)} for name, line in pieces.items() for n, (x, y) in enumerate(line.round(2))
    ]
    return {
        "data": {"values": rows},
        "mark": {"type": "line", "clip": True, **look},
        "encoding": {**place, "detail": {"field": "piece"}, "order": {"field": "n"}},
    }


def _names(outlines: Mapping[str, Pairs], view: View, up: float, place: Spec) -> Spec:
    """Names of the groups at the top of their outlines, where they do not touch another."""
    taken: list[tuple[float, float, float]] = []
    rows = []
    per_pixel = 2 * view.half / (PANEL - _EDGE)
    for name, ring in sorted(outlines.items(), key=lambda item: -float(np.ptp(item[1][:, 0]))):
        text = name if len(name) <= 18 else name[:17] + "…"
        x, y, reach = float(ring[:, 0].mean()), float(ring[:, 1].max()) + 7 * per_pixel, 3.6 * len(text) * per_pixel
        inside = abs(x) + reach < view.half and abs(y) + 8 * per_pixel < up
        if inside and all(abs(y - other) > 15 * per_pixel or abs(x - beside) > reach + wide for beside, other, wide in taken):
            taken.append((x, y, reach))
            rows.append({"x": x, "y": y, "name": text})
    mark = {"type": "text", "fontSize": 10.5, "color": INK, "fontWeight": 600}
    return {"data": {"values": rows}, "mark": mark, "encoding": {**place, "text": {"field": "name"}}}


def scale_bar(most_km: float) -> tuple[float, str]:
    """The longest round length (1, 2 or 5 times a power of ten) of at most `most_km` kilometres, and how it is written."""
    length = next(step * 10.0**power for power in range(5, -4, -1) for step in (5, 2, 1) if step * 10.0**power <= most_km)
    return length, f"{length:,.0f} km" if length >= 1 else f"{1000 * length:,.0f} m"


def _scale_bar(half: float, up: float, place: Spec) -> list[Spec]:
    """A bar of a round length, about a quarter of the width, at the lower left."""
    length, words = scale_bar(0.62 * half)
    left, bottom = -0.95 * half, -up + 0.07 * half
    bar = [{"x": left, "y": bottom}, {"x": left + length, "y": bottom}]
    return [
        {"data": {"values": bar}, "mark": {"type": "line", "color": INK, "strokeWidth": 3}, "encoding": place},
        {
            "data": {"values": [{"x": left, "y": bottom, "words": words}]},
            "mark": {"type": "text", "align": "left", "dy": -9, "fontSize": 10.5, "color": INK},
            "encoding": {**place, "text": {"field": "words"}},
        },
    ]


def group_outlines(points: pd.DataFrame, column: str, *, most: int = MOST_OUTLINES) -> dict[str, Pairs]:
    """The convex hull of each group's places, slightly widened; empty where there are more groups than `most`."""
    import shapely

    found: dict[str, Pairs] = {}
    groups = points.dropna(subset=["lon", "lat"]).groupby(column, sort=True)
    if not 2 <= groups.ngroups <= most:
        return found
    for name, rows in groups:
        places = rows[["lon", "lat"]].drop_duplicates().to_numpy(dtype=np.float64)
        if len(places) < _OUTLINE_PLACES:
            continue
        hull = shapely.convex_hull(shapely.multipoints(places))
        wide = 0.03 * max(hull.bounds[2] - hull.bounds[0], hull.bounds[3] - hull.bounds[1])
        ring = shapely.simplify(shapely.buffer(hull, wide, quad_segs=2), wide / 4)
        found[str(name)] = shapely.get_coordinates(ring.exterior)
    return found


def borders(west: float, south: float, east: float, north: float) -> Sequence[Pairs]:
    """Lines of coasts and countries within a box (Natural Earth at 1:110 million, public domain)."""
    import shapely

    cut = shapely.intersection(_countries(), shapely.box(west, south, east, north))
    parts = [part for part in shapely.get_parts(cut) if part.geom_type == "LineString"]
    return [shapely.get_coordinates(part) for part in parts]


@functools.cache
def _countries() -> BaseGeometry:
    import shapely

    return shapely.from_geojson(gzip.decompress(Path(__file__).with_name("borders.geojson.gz").read_bytes()))
