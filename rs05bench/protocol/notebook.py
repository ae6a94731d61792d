"""What a notebook shows of a record: a heading, a table and a picture, as HTML. Drawing libraries are imported when something is drawn."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rs05bench.protocol.metrics import find_metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rs05bench.protocol.comparison import Comparison
    from rs05bench.protocol.manifest import SplitManifest

MOST_ROWS = 40
"""Rows of a table shown; the record itself holds all."""
MOST_POINTS = 2_000
_ROLES = {
    "buffer": "#d0d0d0",
    "reserve": "#999999",
    "train": "#56B4E9",
    "val": "#009E73",
    "test_id": "#E69F00",
    "test_ood": "#D55E00",
}


def html(title: str, table: pd.DataFrame, figure: Any = None, note: str = "") -> str:
    """A heading, a table and a picture.

    Args:
        title: The heading.
        table: Shown without its index.
        figure: A matplotlib figure; None for no picture.
        note: A line under the table.
    """
    more = f"The first {MOST_ROWS} of {len(table):,} rows." if len(table) > MOST_ROWS else ""
    rows = table.head(MOST_ROWS).to_html(index=False, border=0, na_rep="–", float_format=lambda value: f"{value:.3g}")
    lines = "".join(f"<p><small>{escape(text)}</small></p>" for text in (note, more) if text)
    return f"<div><b>{escape(title)}</b>{rows}{lines}{'' if figure is None else _image(figure, title)}</div>"


def _image(figure: Any, title: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
    uri = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img src="data:image/png;base64,{uri}" alt="{escape(title, quote=True)}" style="max-width:100%">'


def drawn(draw: Callable[[Axes], None], width: float, height: float) -> Any:
    """A matplotlib figure of one panel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    draw(figure.subplots())
    return figure


def comparison_html(found: Comparison) -> str:
    """Scores with intervals, and the held-out ones as a forest plot."""
    from rs05bench.protocol.tiers import TIER_STYLES

    rows = [
        {
            **{name: value for name, value in score.point._asdict().items() if name not in ("task", "target", "options")},
            "role": score.role,
            "score": score.estimate.value,
            "low": ends.low if (ends := score.estimate.bounds) else float("nan"),
            "high": ends.high if ends else float("nan"),
            "pooled": score.pooled,
            "groups": score.estimate.n_groups,
        }
        for score in found.scores
    ]
    held = [score for score in found.scores if score.role == "test_ood"] or list(found.scores)
    held = held[:MOST_ROWS]

    def forest(axes: Axes) -> None:
        for place, score in enumerate(held):
            colour = TIER_STYLES[score.tier].colour
            if (ends := score.estimate.bounds) is not None:
                axes.plot([ends.low, ends.high], [place, place], color=colour, linewidth=2, alpha=0.6)
            axes.plot(score.estimate.value, place, marker="o", color=colour)
        axes.set_yticks(range(len(held)), [f"{score.point.model}, {score.point.budget}" for score in held], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel(f"{held[0].metric}, held out" if held[0].role == "test_ood" else held[0].metric)

    figure = drawn(forest, 6, 1 + 0.26 * len(held)) if held else None
    return html(f"Comparison by {found.by}", pd.DataFrame(rows), figure, _intervals(held[0].metric if held else None))


def _intervals(metric: str | None) -> str:
    if metric is None or find_metric(metric).over_groups == "mean":
        return "Mean over groups of the score inside each, with its 95 % interval."
    return "Mean over groups of the score inside each; the 95 % interval is for the median over groups."


def manifest_html(manifest: SplitManifest) -> str:
    """Units per fold and role, and the first fold on a map."""
    counts = manifest.counts().reset_index()
    fold = manifest.folds[0]
    placed = manifest.fold(fold)[["unit_id", "role"]].merge(manifest.units[["unit_id", "lon", "lat"]], on="unit_id").dropna()
    placed = placed.iloc[np.linspace(0, len(placed) - 1, min(len(placed), MOST_POINTS)).astype(int)] if len(placed) else placed

    def folds(axes: Axes) -> None:
        for role, colour in _ROLES.items():
            here = placed[placed["role"].astype(str) == role]
            if len(here):
                axes.scatter(here["lon"], here["lat"], s=8, c=colour, label=role, linewidths=0)
        axes.set_aspect(1 / max(float(np.cos(np.radians(placed["lat"].mean()))), 0.1))
        axes.set_xlabel("longitude (degrees)")
        axes.set_ylabel("latitude (degrees)")
        axes.set_title(f"fold {fold}", fontsize=9, loc="left")
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))

    return html(
        manifest.name, counts, drawn(folds, 6, 4) if len(placed) else None, f"{len(manifest.units):,} units. {manifest.digest[:16]}…"
    )


def bars(names: Sequence[str], values: Sequence[float], colours: Sequence[str] | str, title: str) -> Any:
    """A picture of horizontal bars with their values."""

    def draw(axes: Axes) -> None:
        axes.bar_label(axes.barh(list(names), list(values), color=colours), fmt="%.3g", padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_title(title, fontsize=9, loc="left")

    return drawn(draw, 6, 0.8 + 0.3 * len(names))
