"""A first look at a card's own data: units by class or value, the blocks that test, and the folds, on maps with borders and a scale bar."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.manifest import SplitManifest, draw_manifest
from rs05bench.protocol.splits import Split
from rs05bench.protocol.taskdata import TaskSource
from rs05bench.report import setting
from rs05bench.report.drawing import Figure, Spec
from rs05bench.report.figures import ERROR_RAMP
from rs05bench.report.foldmap import MOST_FOLDS, fold_legend, fold_panel, positions
from rs05bench.report.maps import SIDE, View, group_outlines, map_panel, thinned
from rs05bench.report.style import number
from rs05bench.report.text_tables import Table

# Okabe-Ito, the pale yellow last; further classes share one grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5c5c5c", "#c9b700")
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-left", "triangle-right")
_REST, _NO_LABEL = "other classes", "no label"
MOST_BLOCKS = 400
"""More blocks than this are not outlined."""


def draw_card_map(source: TaskSource, path: str | Path, *, split: str | None = None) -> Path:
    """Draws the units of a task, its test blocks, and the folds of a split.

    Args:
        source: The opened task.
        path: Ends in `.html`: one page, no network.
        split: The split; default the first of the card that can be a main result, else its first.

    Raises:
        DataError: Another suffix, no unit has a position, or the split is not possible.
    """
    target, card = Path(path), source.card
    if target.suffix.lower() != ".html":
        raise DataError(f"the map is a page, not {target.suffix or 'without suffix'!r}", source=target, remedy="Write --out units.html.")
    units = source.units().frame
    placed = units[np.isfinite(units["lon"].to_numpy()) & np.isfinite(units["lat"].to_numpy())]
    if placed.empty:
        raise DataError("nothing to map: no unit has a position", source=card.name, remedy="Declare `coordinates` in the card.")
    chosen = split or next((name for name in card.splits if Split(name).rule.may_be_main), card.splits[0])
    manifest = draw_manifest(card, source.units(), chosen)
    view = View.around(placed["lon"], placed["lat"])
    colour, legend, shown = _values(source, placed)
    groups = [name for name in source.units().groups if name in placed.columns]
    outlines = group_outlines(placed, groups[0]) if groups else None
    said = f"{len(placed):,} of {len(units):,} units" if len(placed) < len(units) else f"{len(units):,} units"
    drawn = thinned(shown)
    labels = map_panel(drawn, view, title=card.targets[0], subtitle=said, channels=colour, outlines=outlines)
    blocks, roles = _blocks(manifest, view)
    # One fold is drawn already, with its blocks; a second line under every title keeps the maps of a row at one height.
    each = positions(manifest)[0] if len(manifest.folds) > 1 else {}
    folds = [fold_panel(rows, fold, "one fold", view) for fold, rows in each.items()]
    caption = (
        f"{said}; {chosen}, {len(manifest.folds)} folds. Solid lines are borders (Natural Earth), dashed ones outline "
        f"{groups[0] if groups else 'groups'} and, on the second map, blocks. At most {len(drawn):,} units are drawn on the first map."
    )
    every = [*legend, *fold_legend(roles)]
    figure = Figure(
        "units", f"{card.name}: units, test blocks, folds", caption, [labels, blocks, *folds], shown, height=SIDE, legend=every, fixed=True
    )
    counts = manifest.counts()
    rows = [[str(fold), *(f"{int(n):,}" for n in row)] for fold, row in zip(counts.index, counts.to_numpy(), strict=True)]
    table = Table("counts", f"Units per fold and role of {chosen}", ["fold", *(f"#{role}" for role in counts.columns)], rows)
    options = card.split_options
    about = [("task", card.title or card.name), ("kind", card.kind), ("split", chosen)]
    about += [("blocks", f"{options.block_size_m:,.0f} m with a buffer of {options.buffer_m:,.0f} m")] if options.block_by is None else []
    if len(manifest.folds) > MOST_FOLDS:
        about.append(("folds drawn", f"the first {MOST_FOLDS}"))
    return setting.write_page(target, setting.page("folds.html.j2", figure=figure, table=table, about=about, name=card.name))


def _values(source: TaskSource, placed: pd.DataFrame) -> tuple[Spec, Sequence[tuple[str, str]], pd.DataFrame]:
    """Channels, legend and rows (`lon`, `lat`, `value`, `said`) of the target; of chips, whose labels are pixels, of the first group."""
    card = source.card
    ids = placed["unit_id"].astype(str)
    rows = placed[["lon", "lat"]].reset_index(drop=True)
    known = source.scored(card.targets[0]).known
    if known.empty:
        values = placed[source.units().groups[0]].astype(str) if source.units().groups else pd.Series("chip", index=placed.index)
    else:
        values = known.reindex(placed["unit_id"])
    if card.kind == "regression":
        known = values.astype(float).to_numpy()
        low, high = (float(end) for end in np.nanquantile(known, [0.02, 0.98]))
        steps = np.linspace(low, high, len(ERROR_RAMP))
        rows["value"], rows["said"] = known, [f"{unit}: {number(value)}" for unit, value in zip(ids, known, strict=True)]
        scale = {"domain": [low, high], "range": ERROR_RAMP, "clamp": True}
        channels: Spec = {"color": {"field": "value", "type": "quantitative", "legend": None, "scale": scale}}
        return channels, [(number(float(step)), colour) for step, colour in zip(steps, ERROR_RAMP, strict=True)], rows
    names = dict(zip(card.classes or [], card.class_names or card.classes or [], strict=False))
    words = pd.Series([_NO_LABEL if pd.isna(value) else names.get(str(value), str(value)) for value in values], dtype=object)
    common = [name for name in words.value_counts().index if name != _NO_LABEL]
    domain = common[: len(COLOURS)] if len(common) <= len(COLOURS) else [*common[: len(COLOURS) - 1], _REST]
    rows["said"] = [f"{unit}: {word}" for unit, word in zip(ids, words, strict=True)]
    rows["value"] = [word if word in domain or word == _NO_LABEL else _REST for word in words]
    colours, shapes = [*COLOURS[: len(domain)]], [*SHAPES[: len(domain)]]
    if (rows["value"] == _NO_LABEL).any():
        domain, colours, shapes = [*domain, _NO_LABEL], [*colours, "#d0d0d0"], [*shapes, "cross"]
    channels = {
        "color": {"field": "value", "legend": None, "scale": {"domain": domain, "range": colours}},
        "shape": {"field": "value", "legend": None, "scale": {"domain": domain, "range": shapes}},
    }
    return channels, list(zip(domain, colours, strict=True)), rows


def _blocks(manifest: SplitManifest, view: View) -> tuple[Spec, list[str]]:
    """The blocks of the first fold with their borders, coloured by what they do; and the roles of all folds that are drawn."""
    panels, _ = positions(manifest)
    first = manifest.folds[0]
    block = manifest.fold(first).set_index("unit_id")["block"].astype(str)
    rows = panels[first].assign(block=panels[first]["unit_id"].map(block))
    outlines = group_outlines(rows, "block", most=MOST_BLOCKS)
    roles = sorted({str(role) for panel in panels.values() for role in panel["role"]})
    title = f"{rows['block'].nunique():,} blocks"
    return fold_panel(rows, title, f"fold {first}", view, outlines), roles
