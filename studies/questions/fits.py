"""How the networks of a study were trained, and what every model costs besides its main score."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.protocol.comparison import drop_of
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.protocol.result import Result
from rs05bench.protocol.tiers import TIER_STYLES

from .page import two
from .record import ROLES

Cells = dict[Point, list[Result]]


def details(results: Sequence[Result], metrics: Sequence[str]) -> tuple[str, pd.DataFrame]:
    """A row for each point and role that was tested: further metrics of all its test units, the drop, and the cost.

    Args:
        results: The cells.
        metrics: Metrics beside the main one.
    """
    pool, rows = Pool.of(results), []
    for point, cells in by_point(results).items():
        drop = drop_of(pool, point)
        for role in ROLES:
            scores = [cell.scores[role] for cell in cells if role in cell.scores]
            if not scores:
                continue
            main = cells[0].main_metric
            trained = [cell.cost.parameters_trainable for cell in cells if cell.cost.parameters_trainable is not None]
            rows.append(
                {"split": point.split, "labels": point.budget, "model": point.model, "tested": ROLES[role]}
                | {"seeds": len({cell.cell.seed for cell in cells}), "folds": len({cell.cell.fold for cell in cells})}
                | {metric: two(float(np.mean([entry.get(metric, np.nan) for entry in scores]))) for metric in (main, *metrics)}
                | {"drop": "" if drop is None or role != "test_ood" else two(drop.drop.value)}
                | {
                    "fit, s": f"{np.mean([cell.cost.fit_s or 0.0 for cell in cells]):.1f}",
                    "predict, s per unit": f"{np.mean([(cell.cost.predict_s_per_1000 or 0.0) / 1000 for cell in cells]):.2f}",
                    "trained": f"{int(np.mean(trained)):,}" if trained else "",
                }
            )
    return "Every model: further metrics, drop and cost", pd.DataFrame(rows)


def schedule(results: Sequence[Result]) -> tuple[str, pd.DataFrame]:
    """A row for each point that was trained by steps: which rates were kept, when the best look came, and whether fits converged."""
    rows = []
    for point, cells in by_point(trained(results)).items():
        kept = Counter(f"{cell.training.learning_rate:g}" for cell in cells)
        rows.append(
            {
                "split": point.split,
                "labels": point.budget,
                "model": point.model,
                "fits": len(cells),
                "rates tried": ", ".join(cells[0].training.tried),
                "rate kept": ", ".join(f"{rate} ({count})" for rate, count in sorted(kept.items())),
                "best look at step (median)": f"{np.median([cell.training.best_step or 0 for cell in cells]):.0f}",
                "stopped early": sum(cell.training.stopped_early for cell in cells),
                "last look was the best": (
                    sum("had not converged" in cell.training.note for cell in cells)
                    if any(_looks(cell) for cell in cells)
                    else "no validation labels"
                ),
            }
        )
    return "Schedule: did the fits converge?", pd.DataFrame(rows)


def curves(results: Sequence[Result], path: Path) -> bool:
    """Draws validation loss over steps: a panel a budget, a line a model, of the rate that was kept, divided by the loss of its first look.

    Returns:
        Whether there was anything to draw.
    """
    from matplotlib.figure import Figure

    found = {point: cells for point, cells in by_point(trained(results)).items() if any(len(_looks(cell)) > 1 for cell in cells)}
    if not found:
        return False
    panels = list(dict.fromkeys((point.split, point.budget) for point in found))
    models = list(dict.fromkeys(point.model for point in found))
    figure = Figure(figsize=(11, 1.2 + 3.2 * -(-len(panels) // 3)), layout="constrained", dpi=110)
    axes = list(figure.subplots(-(-len(panels) // 3), 3, squeeze=False).flat)
    for axis, (split, budget) in zip(axes, panels, strict=False):
        for point, cells in found.items():
            if (point.split, point.budget) != (split, budget):
                continue
            style = TIER_STYLES[cells[0].model.tier]
            # Encoders of one tier share its colour; the dash tells them apart.
            dash = ("-", "--", ":", "-.")[models.index(point.model) % 4]
            for at, cell in enumerate(cells):
                curve = _looks(cell)
                steps, losses = [step for step, _ in curve], np.array([np.nan if loss is None else loss for _, loss in curve])
                if len(losses) > 1:
                    axis.plot(steps, losses, dash, color=style.colour, linewidth=1, label=None if at else point.model)
        axis.set_title(f"{split}, {budget}", fontsize=9)
        axis.set_xlabel("optimiser step")
        axis.set_ylabel("validation loss")
        axis.set_ylim(bottom=0)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    handles: dict[str, Any] = {}
    for axis in figure.axes:
        handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    figure.savefig(path)
    return True


def _looks(cell: Result) -> list[tuple[int, float | None]]:
    """Step and validation loss of each look under the rate that was kept."""
    return cell.training.curves.get(f"{cell.training.learning_rate:g}", [])


def trained(results: Sequence[Result]) -> list[Result]:
    """The cells that were fitted by optimiser steps."""
    return [result for result in results if result.training.learning_rate is not None]


def by_point(results: Sequence[Result]) -> Cells:
    """Cells that differ in fold and seed only, in the order of the grid."""
    found: Cells = defaultdict(list)
    for result in results:
        found[Point.of(result)].append(result)
    return found
