"""The page of error maps: plain HTML and SVG in one file that opens offline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rs05bench.report.style import FAINT, FONT, INK, MUTED, PAPER, number
from rs05bench.report.thumbnails import CONFUSED, GOOD, HIT, MISSED, TOO_MUCH, UNKNOWN, class_colours

if TYPE_CHECKING:
    from rs05bench.report.errormaps import ErrorMap

WIDTH, MOST_DRAWN, MOST_ROWS, MOST_PANELS, MOST_PICTURES, MOST_FILES = 640, 6000, 30, 8, 12, 7
# From pale to dark: the map reads in grey.
RAMP = ("#f3e7cf", "#efc27b", "#e69f00", "#b45f06", "#5b2a00")

_STYLE = f"""
html {{ color-scheme: light; }}
body {{ font: 16px/1.5 {FONT}; color: {INK}; background: {PAPER}; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.25rem; margin-top: 2.5rem; }} h3 {{ font-size: 1rem; }}
p, li {{ max-width: 44rem; }} .muted {{ color: {MUTED}; }}
table {{ border-collapse: collapse; width: 100%; font-size: .9rem; }}
th, td {{ text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid {FAINT}; vertical-align: top; }}
td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums; }}
svg {{ max-width: 100%; height: auto; border: 1px solid {FAINT}; }}
.scroll {{ overflow-x: auto; }}
.chip {{ margin: 1.2rem 0; break-inside: avoid; }} .chip h4 {{ margin: 0; font-size: .9rem; overflow-wrap: anywhere; }}
.chip p {{ margin: 0 0 .4rem; font-size: .85rem; }}
.strip {{ display: flex; flex-wrap: wrap; gap: 8px; }}
.small {{ margin: 0; }} .small img {{ display: block; border: 1px solid {FAINT}; image-rendering: pixelated; }}
.small figcaption {{ font-size: .78rem; color: {MUTED}; }}
.key {{ list-style: none; padding: 0; margin: .3rem 0; display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: .84rem; max-width: none; }}
.key li {{ display: flex; align-items: center; gap: 6px; }} .key i {{ width: 14px; height: 14px; border: 1px solid #8a929c; }}
.ribbon {{ background: #ffe9b3; color: #4a3500; border-bottom: 2px solid #e0a92b; padding: .3rem .8rem; font-weight: 600; }}
@media print {{ body {{ max-width: none; }} }}
"""


def write_page(maps: Sequence[ErrorMap], path: str | Path) -> Path:
    """Writes the page.

    Args:
        maps: Error maps, one a task and target.
        path: File to write.
    """
    ribbon = (
        '<aside class="ribbon" aria-label="Simulated data">SIMULATED data: nothing here says anything about the Earth.</aside>'
        if any(entry.simulated for entry in maps)
        else ""
    )
    body = "".join(_section(entry) for entry in maps)
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Error maps</title><style>{_STYLE}</style></head><body>{ribbon}<main><h1>Where it fails</h1>{body}</main></body></html>\n"
    )
    target = Path(path)
    target.write_text(text, encoding="utf-8")
    return target


def _section(entry: ErrorMap) -> str:
    where = "units whose group was held out" if entry.role == "test_ood" else "test units of groups that were in training"
    parts = [
        f"<section><h2>{escape(entry.title)}</h2>",
        f"<p>Errors of <strong>{escape(entry.best)}</strong>, the best there, on {where}.</p>",
    ]
    regression = "bias" in entry.units.columns
    if len(entry.units):
        rows = entry.units[entry.units["model"] == entry.best]
        if np.isfinite(rows["lon"]).any():
            unit = "mean absolute error" if regression else "share of fits that are wrong"
            parts += [f"<h3>Error of each unit ({unit})</h3>", _maps(rows, "error", f"Map of {unit} of {entry.best}", entry.columns)]
            # Where a model answers differently with every draw of labels, its answer there is luck.
            parts += [
                "<h3>Disagreement between seeds</h3>",
                _maps(rows, "seeds_disagree", f"Map of disagreement between seeds of {entry.best}", entry.columns),
            ]
        parts += [_failures(entry.failures, regression), _worst(rows, regression), _models(entry.units, regression)]
    if len(entry.chips):
        parts += [_pictures(entry), _failures(entry.failures, regression, "chips"), _worst_of_groups(entry), _chips(entry.chips)]
    parts += [f'<p class="muted">{escape(note)}</p>' for note in entry.notes]
    shown = entry.files[:MOST_FILES]
    left = f" and {len(entry.files) - len(shown)} more in the folder" if len(entry.files) > len(shown) else ""
    parts.append(
        "<h3>Files for QGIS</h3><p>"
        + ", ".join(f'<a href="{escape(name)}">{escape(name)}</a>' for name in shown)
        + f"{left}.</p></section>"
    )
    return "".join(parts)


def _maps(rows: pd.DataFrame, column: str, label: str, groups: Sequence[str]) -> str:
    """One map; or one a region where regions lie so far apart that one map would show four dots. All share their colours."""
    placed = rows[np.isfinite(rows["lon"]) & np.isfinite(rows["lat"])]
    values = placed[column].astype(float)
    largest = float(values.max()) if len(values) else 0.0
    # A few extreme units must not bleach all others.
    top = min(largest, float(values.quantile(0.98))) or largest or 1.0
    parts = next((found for name in groups if (found := _apart(placed, name))), {"": placed})
    side = WIDTH if len(parts) == 1 else WIDTH // 2 - 10
    drawn = "".join(
        f'<figure style="display:inline-block;margin:0 8px 8px 0;vertical-align:top"><figcaption class="muted">{escape(name)}</figcaption>'
        f"{_map(part, column, top, f'{label} {name}'.strip(), side)}</figure>"
        for name, part in parts.items()
    )
    legend = "".join(f'<rect x="{i * 40}" y="0" width="40" height="10" fill="{colour}"/>' for i, colour in enumerate(RAMP))
    ends = f"0 to {number(top)}{' and more' if largest > top else ''}"
    return f'{drawn}<p class="muted"><svg width="200" height="10" style="border:0" aria-hidden="true">{legend}</svg> {ends}</p>'


def _apart(placed: pd.DataFrame, column: str) -> dict[str, pd.DataFrame] | None:
    """The units by group, where few groups fill little of the ground between them."""
    parts = {str(name): part for name, part in placed.groupby(column, sort=True)}
    if not 2 <= len(parts) <= MOST_PANELS:
        return None
    filled = sum(float(np.ptp(part["lon"]) * np.ptp(part["lat"])) for part in parts.values())
    return parts if filled < 0.1 * float(np.ptp(placed["lon"]) * np.ptp(placed["lat"])) else None


def _map(rows: pd.DataFrame, column: str, top: float, label: str, side: int) -> str:
    """Units as dots, the worst drawn last; longitudes are squeezed by the cosine of the latitude."""
    drawn = rows.assign(_value=rows[column].astype(float)).sort_values("_value", kind="stable").tail(MOST_DRAWN)
    x = drawn["lon"].to_numpy() * math.cos(math.radians(float(drawn["lat"].mean())))
    y = -drawn["lat"].to_numpy()
    scale = (side - 24) / max(float(np.ptp(x)), float(np.ptp(y)) * 1.2, 1e-6)
    wide, tall = float(np.ptp(x)) * scale + 24, float(np.ptp(y)) * scale + 24
    dots = "".join(
        f'<circle cx="{(a - x.min()) * scale + 12:.1f}" cy="{(b - y.min()) * scale + 12:.1f}" r="3" fill="{_colour(value / top)}">'
        f"<title>{escape(str(name))}: {number(value)}</title></circle>"
        for a, b, value, name in zip(x, y, drawn["_value"], drawn["unit_id"], strict=True)
    )
    size = f'width="{wide:.0f}" height="{tall:.0f}" viewBox="0 0 {wide:.0f} {tall:.0f}"'
    return f'<svg {size} role="img" aria-label="{escape(label)}">{dots}</svg>'


def _colour(share: float) -> str:
    return RAMP[min(int(max(share, 0.0) * len(RAMP)), len(RAMP) - 1)]


def _table(label: str, head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return (
            "<tr>" + "".join(f"<{tag}{' class=n' if i in numbers else ''}>{escape(cell)}</{tag}>" for i, cell in enumerate(cells)) + "</tr>"
        )

    body = "".join(line(row, "td") for row in rows)
    table = f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{table}</div>'


def _failures(table: pd.DataFrame, regression: bool, counted: str = "units") -> str:
    if table.empty:
        return ""
    rows = [
        [row.column, row.group, str(row.units), number(row.error), number(row.sure_and_wrong), row.failure]
        for row in table.groupby("column", sort=False).head(8).itertuples(index=False)
    ]
    error = "share wrong" if counted == "chips" else "mean error"
    head = ["column", "group", counted, error, "sure and wrong", "typical failure"]
    if regression:
        rows, head = [row[:4] + row[5:] for row in rows], head[:4] + head[5:]
    return "<h3>Typical failures by group, worst first</h3>" + _table(
        "Typical failures by group", head, rows, (2, 3) if regression else (2, 3, 4)
    )


def _worst(rows: pd.DataFrame, regression: bool) -> str:
    order = rows.sort_values(["error", "confidence"], ascending=[False, regression], kind="stable").head(10)
    head = ["unit", "truth", "predicted", "error", "half-width" if regression else "confidence"]
    show = (lambda value: number(float(value))) if regression else str
    body = [
        [str(r.unit_id), show(r.truth), show(r.predicted), number(r.error), number(r.confidence)] for r in order.itertuples(index=False)
    ]
    words = "The largest errors" if regression else "Wrong and most sure of it"
    return f"<h3>{words}</h3>" + _table(words, head, body, (1, 2, 3, 4) if regression else (3, 4))


def _models(units: pd.DataFrame, regression: bool) -> str:
    means = units.groupby("model")[["error", "confidence", "seeds_disagree"]].mean().sort_values("error")
    head = ["model", "mean error", "half-width" if regression else "confidence", "seeds disagree"]
    body = [[str(name), number(row["error"]), number(row["confidence"]), number(row["seeds_disagree"])] for name, row in means.iterrows()]
    return "<h3>All models on these units</h3>" + _table("All models", head, body, (1, 2, 3))


def _chips(chips: pd.DataFrame) -> str:
    body = [
        [str(row.unit_id), number(row.error), number(row.confidence), number(row.disagreement), row.failure]
        for row in chips.head(MOST_ROWS).itertuples(index=False)
    ]
    left = f" (the first {MOST_ROWS} of {len(chips):,}; the GeoPackage has all)" if len(chips) > MOST_ROWS else ""
    return f"<h3>All chips, worst first{left}</h3>" + _table(
        "All chips", ["chip", "share wrong", "confidence", "fits disagree", "typical failure"], body, (1, 2, 3)
    )


def _pictures(entry: ErrorMap) -> str:
    """The worst chips side by side with what was wrong in them, and what the colours mean."""
    worst = [row for row in entry.chips.itertuples(index=False) if row.unit_id in entry.pictures][:MOST_PICTURES]
    drawn = "".join(_strip(entry, row) for row in worst)
    return f"<h3>The worst chips</h3>{_key(entry)}{drawn}"


def _strip(entry: ErrorMap, row: Any, lead: str = "") -> str:
    """One chip: a caption and its pictures in a row."""
    where = ", ".join(str(getattr(row, column)) for column in entry.columns)
    sure = f", {number(row.confidence)} sure on average" if row.confidence == row.confidence else ""
    shown = "".join(
        f'<figure class="small"><img src="{picture.uri}" width="{picture.width}" height="{picture.height}" '
        f'alt="{escape(f"{row.unit_id}: {picture.title}")}"><figcaption>{escape(picture.title)}</figcaption></figure>'
        for picture in entry.pictures[row.unit_id]
    )
    said = f"{number(100 * row.error, 0)} % wrong{sure}; {row.failure}"
    return (
        f'<section class="chip"><h4>{escape(lead)}{escape(str(row.unit_id))}</h4>'
        f'<p class="muted">{escape(where)}{". " if where else ""}{escape(said)}.</p><div class="strip">{shown}</div></section>'
    )


def _key(entry: ErrorMap) -> str:
    """What the colours mean, in words beside each."""
    names = list(entry.classes)
    of_classes = [*zip(class_colours(len(names)), names, strict=True), (UNKNOWN, "nothing known")]
    of_errors = [(GOOD, "right"), (CONFUSED, "wrong")]
    if len(names) == 2:
        of_errors = [(HIT, f"{names[1]} found"), (MISSED, f"{names[1]} missed"), (TOO_MUCH, f"{names[1]} where there is none")]

    def patches(said: str, marks: Sequence[tuple[str, str]]) -> str:
        drawn = "".join(f'<li><i style="background:{colour}"></i>{escape(name)}</li>' for colour, name in marks)
        return f'<ul class="key"><li><b>{said}</b></li>{drawn}</ul>'

    doubt = '<ul class="key"><li><b>how sure, fits disagree</b></li><li>dark is doubt</li></ul>'
    return patches("truth, answer", of_classes) + patches("error", of_errors) + doubt


def _worst_of_groups(entry: ErrorMap) -> str:
    """The worst chip of each group of the first column that tells groups apart, where it is not shown above."""
    if entry.failures.empty:
        return ""
    column = str(entry.failures["column"].iloc[0])
    above = set([unit for unit in entry.chips["unit_id"] if unit in entry.pictures][:MOST_PICTURES])
    rows = {row.unit_id: row for row in entry.chips.itertuples(index=False)}
    drawn = "".join(
        _strip(entry, rows[group.worst], f"{group.group}: ")
        for group in entry.failures[entry.failures["column"] == column].itertuples(index=False)
        if group.worst in entry.pictures and group.worst not in above
    )
    return f"<h3>The worst chip of each {escape(column)}, where it is not above</h3>{drawn}" if drawn else ""
