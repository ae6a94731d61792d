"""The folds of a manifest on a map: who trains, who tests, who is used by nobody. A picture, or a page that opens offline."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.hashing import hash_order
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.splits import ROLES

# Okabe-Ito; the shape repeats what the colour says. What is used by nobody is drawn first and pale.
STYLE: dict[str, tuple[str, str]] = {
    "buffer": ("#d0d0d0", "s"),
    "reserve": ("#999999", "s"),
    "train": ("#56B4E9", "o"),
    "val": ("#009E73", "D"),
    "test_id": ("#E69F00", "^"),
    "test_ood": ("#D55E00", "v"),
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
WIDTH = 420.0


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
    panels, thinned = _panels(manifest)
    if target.suffix.lower() == ".png":
        _png(manifest, panels, thinned, target)
    else:
        target.write_text(_page(manifest, panels, thinned), encoding="utf-8")
    return target


def _panels(manifest: SplitManifest) -> tuple[dict[str, pd.DataFrame], int]:
    """Fold -> a row a position (`lon`, `lat`, `role`), the role that matters most where several units share it; and how many there are."""
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


def _png(manifest: SplitManifest, panels: dict[str, pd.DataFrame], positions: int, target: Path) -> None:
    from matplotlib.figure import Figure

    across = min(len(panels), 4)
    down = -(-len(panels) // across)
    every = pd.concat(panels.values())
    ratio = _squeeze(every)
    height = 3.0 if across > 1 else 5.0
    figure = Figure(figsize=(max(across * 3.6, 7.0), down * height + 0.8), layout="constrained")
    axes = np.atleast_1d(figure.subplots(down, across, squeeze=False)).ravel()
    for ax, (fold, rows) in zip(axes, panels.items(), strict=False):
        for role, (colour, marker) in STYLE.items():
            here = rows[rows["role"] == role]
            ax.scatter(
                here["lon"], here["lat"], s=5 if role in ("buffer", "reserve", "train") else 9, c=colour, marker=marker, linewidths=0
            )
        ax.set_title(_held(manifest, fold), fontsize=8, loc="left", wrap=True)
        ax.set_aspect(1 / ratio)
        ax.tick_params(labelsize=6)
        ax.set_xlabel("longitude (degrees)", fontsize=6)
        ax.set_ylabel("latitude (degrees)", fontsize=6)
    for ax in axes[len(panels) :]:
        ax.axis("off")
    present = [role for role in ROLES if (every["role"] == role).any()]
    marks = [axes[0].scatter([], [], c=STYLE[role][0], marker=STYLE[role][1], label=f"{role}: {MEANING[role]}") for role in present]
    figure.legend(handles=marks, loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    figure.suptitle(f"{manifest.name}\n{_caption(manifest, positions)}", fontsize=9)
    figure.savefig(target, dpi=140)


def _squeeze(rows: pd.DataFrame) -> float:
    """How much shorter a degree of longitude is than one of latitude, in the middle of the map."""
    return max(float(np.cos(np.radians(rows["lat"].mean()))), 0.1)


def _page(manifest: SplitManifest, panels: dict[str, pd.DataFrame], positions: int) -> str:
    every = pd.concat(panels.values())
    figures = "".join(
        f"<figure>{_svg(rows, every, _held(manifest, fold))}<figcaption>{html.escape(_held(manifest, fold))}</figcaption></figure>"
        for fold, rows in panels.items()
    )
    legend = "".join(
        f'<li><svg viewBox="-6 -6 12 12" width="14" height="14" aria-hidden="true">'
        f'<path d="{_mark(role, 0, 0, 4)}" fill="{STYLE[role][0]}"/></svg> '
        f"<strong>{role}</strong> {MEANING[role]}</li>"
        for role in ROLES
        if (every["role"] == role).any()
    )
    counts = manifest.counts()
    head = "".join(f'<th scope="col">{role}</th>' for role in counts.columns)
    body = "".join(
        f'<tr><th scope="row">{html.escape(str(fold))}</th>{"".join(f"<td>{int(n):,}</td>" for n in row)}</tr>'
        for fold, row in zip(counts.index, counts.to_numpy(), strict=True)
    )
    card: dict[str, Any] = manifest.card
    said = [("rule", card.get("rule")), ("source", card.get("source")), ("licence", card.get("licence")), ("digest", manifest.digest)]
    about = "".join(f"<dt>{name}</dt><dd>{html.escape(str(value))}</dd>" for name, value in said if value)
    name = html.escape(manifest.name)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Folds of {name}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 84rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff }}
h1 {{ font-size: 1.5rem }}
.maps {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem }}
figure {{ margin: 0 }} figcaption {{ font-size: .9rem }} figure svg {{ width: 100%; height: auto; border: 1px solid #ccc }}
ul {{ list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.5rem }}
.wide {{ overflow-x: auto }} table {{ border-collapse: collapse }}
th, td {{ padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right }}
th[scope=row] {{ text-align: left }} dt {{ font-weight: 600 }} dd {{ margin: 0 0 .4rem; overflow-wrap: anywhere }}
</style></head><body><main>
<h1>Folds of {name}</h1>
<p>{html.escape(_caption(manifest, positions))}.</p>
<ul>{legend}</ul>
<div class="maps">{figures}</div>
<h2>Units a fold and role</h2>
<div class="wide" tabindex="0" role="region" aria-label="Units a fold and role">
<table><thead><tr><th scope="col">fold</th>{head}</tr></thead><tbody>{body}</tbody></table></div>
<h2>About it</h2><dl>{about}</dl>
</main></body></html>
"""


def _svg(rows: pd.DataFrame, every: pd.DataFrame, title: str) -> str:
    squeeze = _squeeze(every)
    west, east = float(every["lon"].min()), float(every["lon"].max())
    south, north = float(every["lat"].min()), float(every["lat"].max())
    pad = max((east - west) * 0.03, (north - south) * 0.03, 0.01)
    scale = WIDTH / ((east - west + 2 * pad) * squeeze)
    scale = min(scale, 1.2 * WIDTH / (north - south + 2 * pad))
    width, height = (east - west + 2 * pad) * squeeze * scale, (north - south + 2 * pad) * scale
    parts = []
    for role, (colour, _) in STYLE.items():
        here = rows[rows["role"] == role]
        size = 1.6 if role in ("buffer", "reserve", "train") else 2.6
        x = ((here["lon"] - west + pad) * squeeze * scale).round(1)
        y = ((north - here["lat"] + pad) * scale).round(1)
        # Thousands of marks in one path: the page stays small and draws at once.
        marks = "".join(_mark(role, a, b, size) for a, b in zip(x, y, strict=True))
        if marks:
            parts.append(f'<path d="{marks}" fill="{colour}"><title>{role}</title></path>')
    label = html.escape(f"Map of fold {title}", quote=True)
    return f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _mark(role: str, x: float, y: float, r: float) -> str:
    shape = STYLE[role][1]
    if shape == "^":
        return f"M{x:g} {y - r:g}l{r:g} {2 * r:g}h-{2 * r:g}z"
    if shape == "v":
        return f"M{x:g} {y + r:g}l{r:g}-{2 * r:g}h-{2 * r:g}z"
    if shape == "D":
        return f"M{x:g} {y - r:g}l{r:g} {r:g}l-{r:g} {r:g}l-{r:g}-{r:g}z"
    if shape == "o":
        return f"M{x - r:g} {y:g}a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0-{2 * r:g} 0"
    return f"M{x - r:g} {y - r:g}h{2 * r:g}v{2 * r:g}h-{2 * r:g}z"
