"""The folds of a manifest on a map: who trains, who tests, who is used by nobody. A picture, or a page that opens offline."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.hashing import hash_order
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.splits import ROLES
from rs05bench.report import setting
from rs05bench.report.drawing import Figure, Spec
from rs05bench.report.maps import SIDE, Pairs, View, map_panel
from rs05bench.report.text_tables import Table

# Okabe-Ito; the shape repeats what the colour says. What is used by nobody is drawn first and pale.
STYLE: dict[str, tuple[str, str]] = {
    "buffer": ("#d0d0d0", "square"),
    "reserve": ("#999999", "square"),
    "train": ("#56B4E9", "circle"),
    "val": ("#009E73", "diamond"),
    "test_id": ("#E69F00", "triangle-up"),
    "test_ood": ("#D55E00", "triangle-down"),
}
MEANING = {
    "train": "trains",
    "val": "validates",
    "test_id": "tested, its region trains",
    "test_ood": "tested, held out",
    "reserve": "held out, not tested",
    "buffer": "used by nobody",
}
MOST_FOLDS = 12
MOST_POINTS = 3_000
"""More positions than this are thinned in hash order, and the map says so."""


def draw_folds_map(manifest: SplitManifest, path: str | Path) -> Path:
    """Draws the folds of a manifest, one panel each.

    Args:
        manifest: The split.
        path: Ends in `.png` or `.html` (one page, no network).

    Raises:
        DataError: Another suffix, or no unit has a position.
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".png"):
        raise DataError(
            f"a map is .png or .html, not {target.suffix or 'without suffix'!r}", source=target, remedy="Write --map folds.html."
        )
    panels, count = positions(manifest)
    every = pd.concat(panels.values())
    view = View.around(every["lon"], every["lat"])
    counts = manifest.counts()
    drawn = [fold_panel(rows, _held(manifest, fold), "", view) for fold, rows in panels.items()]
    caption, present = _caption(manifest, count), fold_legend(every["role"].unique())
    figure = Figure("folds", manifest.name, f"{caption}.", drawn, every, height=SIDE, legend=present, fixed=True)
    if target.suffix.lower() == ".png":
        figure.write_png(target, caption)
        return target
    rows = [[str(fold), *(f"{int(n):,}" for n in row)] for fold, row in zip(counts.index, counts.to_numpy(), strict=True)]
    table = Table("counts", "Units per fold and role", ["fold", *(f"#{role}" for role in counts.columns)], rows)
    said = [("rule", manifest.card.get("rule")), ("source", manifest.card.get("source")), ("licence", manifest.card.get("licence"))]
    about = [(name, str(value)) for name, value in [*said, ("digest", manifest.digest)] if value]
    return setting.write_page(target, setting.page("folds.html.j2", figure=figure, table=table, about=about, name=manifest.name))


def fold_legend(roles: Collection[str]) -> list[tuple[str, str]]:
    """Words and colours of the roles that are drawn."""
    return [(f"{role}: {MEANING[role]}", STYLE[role][0]) for role in ROLES if role in roles]


def fold_panel(rows: pd.DataFrame, title: str, subtitle: str, view: View, outlines: Mapping[str, Pairs] | None = None) -> Spec:
    """A fold: `lon`, `lat`, `role` of its units; what is used by nobody is drawn first and pale."""
    order = {role: place for place, role in enumerate(STYLE)}
    drawn = rows.assign(said=[MEANING.get(str(role), str(role)) for role in rows["role"]], _order=rows["role"].map(order))
    drawn = drawn.sort_values("_order", kind="stable").drop(columns="_order")
    domain = list(STYLE)
    channels: Spec = {
        "color": {"field": "role", "legend": None, "scale": {"domain": domain, "range": [STYLE[role][0] for role in domain]}},
        "shape": {"field": "role", "legend": None, "scale": {"domain": domain, "range": [STYLE[role][1] for role in domain]}},
    }
    return map_panel(drawn[["lon", "lat", "role", "said"]], view, title=title, subtitle=subtitle, channels=channels, outlines=outlines)


def positions(manifest: SplitManifest) -> tuple[dict[str, pd.DataFrame], int]:
    """Fold -> a row a position (`unit_id`, `lon`, `lat`, `role`), the role that matters most of units that share it; and their number."""
    units = manifest.units[np.isfinite(manifest.units["lon"].to_numpy())]
    if units.empty:
        raise DataError("nothing to map: no unit has a position", source=manifest.name)
    spots = units.groupby(["lon", "lat"], sort=True)["unit_id"].min()
    kept = set(spots.to_numpy()[hash_order([str(unit) for unit in spots], "map")[:MOST_POINTS]])
    shown = {tuple(spot) for spot, unit in spots.items() if unit in kept}
    rank = {role: order for order, role in enumerate(("test_ood", "test_id", "val", "train", "reserve", "buffer"))}
    panels: dict[str, pd.DataFrame] = {}
    for fold in manifest.folds[:MOST_FOLDS]:
        rows = manifest.fold(fold)[["unit_id", "role"]].merge(units[["unit_id", "lon", "lat"]], on="unit_id")
        rows["role"] = rows["role"].astype(str)
        rows = rows.iloc[np.argsort(rows["role"].map(rank).to_numpy(), kind="stable")].drop_duplicates(["lon", "lat"])
        panels[fold] = rows[[spot in shown for spot in zip(rows["lon"], rows["lat"], strict=True)]]
    return panels, len(spots)


def _caption(manifest: SplitManifest, positions: int) -> str:
    words = [f"{len(manifest.units):,} units, {len(manifest.folds)} fold{'s' if len(manifest.folds) != 1 else ''}"]
    if len(manifest.folds) > MOST_FOLDS:
        words.append(f"the first {MOST_FOLDS} are drawn")
    if positions > MOST_POINTS:
        words.append(f"{MOST_POINTS:,} of {positions:,} positions are drawn")
    if lost := int(manifest.units["lon"].isna().sum()):
        words.append(f"{lost:,} units have no position and are not on the map")
    if manifest.card.get("simulated"):
        words.append("SIMULATED")
    return "; ".join(words)


def _held(manifest: SplitManifest, fold: str) -> str:
    held = manifest.card.get("folds", {}).get(fold, {}).get("held_out", [])
    text = ", ".join(held[:6]) + (f" and {len(held) - 6} more" if len(held) > 6 else "")
    return f"{fold}" + (f": {text}" if held and held != [fold] else "")
