"""Pictures of the model and task pages as inline SVG: readable without a script, coloured by the page's theme.

Only classes and presentation attributes are used, so that a page's policy may forbid inline styles. All text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from markupsafe import Markup

from rs05bench.report.site.records import Place, Point
from rs05bench.report.style import MARKER_PATHS, number

Pair = tuple[float, float]


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values between two ends."""
    if not high > low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass
class Frame:
    """Axes of a picture.

    Attributes:
        x: Ends of the horizontal axis.
        y: Ends of the vertical axis.
        width: Width, pixels.
        height: Height, pixels.
        logarithmic: Whether the horizontal axis is.
    """

    x: Pair
    y: Pair
    width: float = 420
    height: float = 250
    logarithmic: bool = False
    parts: list[str] = field(default_factory=list)
    left: float = 46
    right: float = 16
    top: float = 12
    bottom: float = 42

    def px(self, value: float) -> float:
        """Horizontal position."""
        low, high, at = (math.log10(v) for v in (*self.x, value)) if self.logarithmic else (*self.x, value)
        share = (at - low) / (high - low) if high > low else 0.5
        return round(self.left + share * (self.width - self.left - self.right), 1)

    def py(self, value: float) -> float:
        """Vertical position, kept inside the frame."""
        share = (value - self.y[0]) / (self.y[1] - self.y[0]) if self.y[1] > self.y[0] else 0.5
        return round(self.height - self.bottom - min(max(share, 0), 1) * (self.height - self.top - self.bottom), 1)

    def axes(self, x_title: str, y_title: str, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[float]) -> None:
        """Grid, ticks and titles."""
        for value in y_ticks:
            y = self.py(value)
            self.parts.append(f'<path class="grid" d="M{self.left},{y}H{self.width - self.right}"/>')
            self.text(self.left - 7, y + 4, number(value, 1 if abs(value * 10 - round(value * 10)) < 1e-9 else 2), "end")
        for value, label in x_ticks:
            self.parts.append(f'<path class="axis" d="M{self.px(value)},{self.height - self.bottom}v5"/>')
            self.text(self.px(value), self.height - self.bottom + 18, label, "middle")
        self.parts.append(f'<path class="axis" d="M{self.left},{self.height - self.bottom}H{self.width - self.right}"/>')
        self.text((self.left + self.width - self.right) / 2, self.height - 6, x_title, "middle", "title")
        mid = (self.top + self.height - self.bottom) / 2
        self.parts.append(
            f'<text class="title" text-anchor="middle" transform="translate(12 {mid:.1f}) rotate(-90)">{escape(y_title)}</text>'
        )

    def text(self, x: float, y: float, words: str, anchor: str = "start", kind: str = "tick") -> None:
        """Words at a place."""
        self.parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>')

    def line(self, points: Sequence[Pair], kind: str) -> None:
        """A line through points."""
        if points:
            path = "L".join(f"{self.px(x)},{self.py(y)}" for x, y in points)
            self.parts.append(f'<path class="{kind}" d="M{path}"/>')

    def bars(self, points: Sequence[tuple[float, float | None, float | None]], kind: str) -> None:
        """Vertical intervals."""
        for x, low, high in points:
            if low is not None and high is not None:
                self.parts.append(f'<path class="{kind}" d="M{self.px(x)},{self.py(low)}V{self.py(high)}"/>')

    def dots(self, points: Sequence[Pair], kind: str, marker: str, size: float = 4.5) -> None:
        """A marker at every point."""
        for x, y in points:
            place = f"translate({self.px(x)} {self.py(y)}) scale({size})"
            self.parts.append(f'<path class="{kind}" d="{MARKER_PATHS[marker]}" transform="{place}"/>')

    def svg(self, says: str) -> Markup:
        """The picture.

        Args:
            says: What it shows, for those who cannot see it.
        """
        return picture(self.parts, self.width, self.height, says)


def picture(parts: Sequence[str], width: float, height: float, says: str) -> Markup:
    """An SVG element of its own size that shrinks on a narrow screen."""
    size = f'width="{width:g}" viewBox="0 0 {width:g} {height:g}"'
    return Markup(f'<svg class="plot" {size} role="img" aria-label="{escape(says, quote=True)}">{"".join(parts)}</svg>')


def curve(points: Sequence[Point], tier: str, marker: str, y_title: str, says: str) -> Markup:
    """Score against labels, at home solid and held out dashed, with intervals."""
    known = [point for point in points if point.labels and point.ood]
    values = [v for p in known for s in (p.ood, p.home) if s for v in (s.value, s.low, s.high) if v is not None]
    if not known or not values:
        return Markup("")
    low, high = max(min(values), min(p.ood.value for p in known if p.ood) - 1), max(values)
    room = max(0.05 * (high - low), 0.01)
    labels = [p.labels or 1.0 for p in known]
    frame = Frame((min(labels) / 1.25, max(labels) * 1.25), (low - room, high + room), logarithmic=True)
    frame.axes("labels used", y_title, [(p.labels or 1.0, f"{p.labels:,.0f}") for p in known], ticks(low - room, high + room, 5))
    for which, kind, shift in (("home", "home", 0.985), ("ood", "ood", 1.015)):
        found = [(p.labels or 1.0, spread) for p in known if (spread := getattr(p, which)) is not None]
        frame.bars([(x * shift, s.low, s.high) for x, s in found], f"whisker tier-{tier}")
        frame.line([(x, s.value) for x, s in found], f"line {kind} tier-{tier}")
        frame.dots([(x, s.value) for x, s in found], f"dot {kind} tier-{tier}", marker)
    return frame.svg(says)


def reliability(curves: Mapping[str, Mapping[str, Sequence[float]]], tier: str, marker: str, says: str) -> Markup:
    """Accuracy against confidence; on the line, a probability means what it says."""
    if not any(found.get("confidence") for found in curves.values()):
        return Markup("")
    frame = Frame((0, 1), (0, 1), width=300, height=280)
    frame.axes("confidence", "accuracy", [(v, number(v, 1)) for v in (0, 0.5, 1)], [0, 0.25, 0.5, 0.75, 1])
    frame.line([(0, 0), (1, 1)], "axis")
    for role, kind in (("test_id", "home"), ("test_ood", "ood")):
        if role in curves:
            pairs = list(zip(curves[role]["confidence"], curves[role]["accuracy"], strict=True))
            frame.line(pairs, f"line {kind} tier-{tier}")
            frame.dots(pairs, f"dot {kind} tier-{tier}", marker, 3.5)
    return frame.svg(says)


@dataclass(frozen=True)
class Projection:
    """Longitude and latitude on a picture, a kilometre as long up as across at the middle latitude."""

    west: float
    north: float
    scale: float
    squeeze: float
    width: float
    height: float

    @classmethod
    def around(cls, points: Sequence[Pair], width: float) -> Projection:
        """A projection that shows all points."""
        lons, lats = [p[0] for p in points], [p[1] for p in points]
        squeeze = max(0.2, math.cos(math.radians((min(lats) + max(lats)) / 2)))
        across = max((max(lons) - min(lons)) * squeeze, 1e-6)
        up = max(max(lats) - min(lats), 1e-6)
        scale = min((width - 24) / across, 0.8 * width / up)
        return cls(min(lons), max(lats), scale, squeeze, width, max(90.0, round(up * scale + 24)))

    def xy(self, point: Pair) -> Pair:
        """Position in pixels."""
        return (
            round(12 + (point[0] - self.west) * self.squeeze * self.scale, 1),
            round(12 + (self.north - point[1]) * self.scale, 1),
        )

    def scatter(self, points: Sequence[Pair], kind: str) -> str:
        """Many points as one path of round caps."""
        path = "".join(f"M{x},{y}h0" for x, y in sorted({self.xy(point) for point in points}))
        return f'<path class="spots {kind}" d="{path}"/>' if path else ""


@dataclass(frozen=True)
class Ground:
    """What every error map of a split has in common: where its units are. Drawn once, whatever the number of submissions."""

    places: Mapping[str, Place]
    projection: Projection | None
    drawn: str

    @classmethod
    def of(cls, places: Mapping[str, Place]) -> Ground:
        """The ground under some places."""
        every = sorted({point for place in places.values() for points in place.points.values() for point in points})
        if not every:
            return cls(places, None, "")
        projection = Projection.around(every, 560)
        return cls(places, projection, projection.scatter(every, "ground"))


def error_map(ground: Ground, goodness: Mapping[str, float], labels: Mapping[str, str], says: str) -> Markup:
    """Held-out regions where they are: the darker and larger, the worse; the three worst are named."""
    there = {fold: place for fold, place in ground.places.items() if place.centre is not None and fold in goodness}
    projection = ground.projection
    if len(there) < 2 or projection is None:
        return Markup("")
    worst_first = sorted(there, key=lambda fold: goodness[fold])
    low, high = goodness[worst_first[0]], goodness[worst_first[-1]]
    parts = [ground.drawn]
    for fold in reversed(worst_first):
        centre = there[fold].centre
        assert centre is not None
        x, y = projection.xy(centre)
        bad = (high - goodness[fold]) / (high - low) if high > low else 0.0
        parts.append(f'<circle class="worse-{round(bad * 4)}" cx="{x}" cy="{y}" r="{5 + 6 * bad:.1f}"/>')
    taken: list[Pair] = []
    for fold in worst_first[:3]:
        centre = there[fold].centre
        assert centre is not None
        x, y = projection.xy(centre)
        anchor = "end" if x > projection.width * 0.62 else "start"
        while any(abs(y - other) < 13 and abs(x - beside) < 200 for beside, other in taken):
            y += 13
        taken.append((x, y))
        place = f'x="{x + (-15 if anchor == "end" else 15)}" y="{y + 4}" text-anchor="{anchor}"'
        parts.append(f'<text class="name" {place}>{escape(fold)} {escape(labels[fold])}</text>')
    return picture(parts, projection.width, projection.height, says)


def fold_map(place: Place, says: str) -> Markup:
    """Who trains and who tests in one fold."""
    every = [point for points in place.points.values() for point in points]
    if not every:
        return Markup("")
    projection = Projection.around(every, 300)
    order = ("buffer", "reserve", "train", "val", "test_id", "test_ood")
    return picture([projection.scatter(place.points.get(role, ()), role) for role in order], projection.width, projection.height, says)
