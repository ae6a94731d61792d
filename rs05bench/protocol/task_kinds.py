"""What follows from the kind of a task, declared once: scores, budgets, and what one label is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rs05bench.protocol.feature_sets import Content

Kind = Literal["classification", "regression", "segmentation"]


@dataclass(frozen=True, slots=True)
class TaskKind:
    """What follows from the kind of a task.

    Attributes:
        main_metric: The metric its tables are ordered by, where the card names none.
        budgets: Label budgets, where the card names none.
        shown: Scores of a row of results.
        strata: Scores of every ground, next to the main metric.
        group_metric: The second score of every group, after the main metric.
        right: The score that says of a single block how right it is.
        calibration: Scores that every cell needs (rule 13); the first is the one that is drawn.
        calibration_title: Head of its column.
        counted: What a budget counts.
        pixel_labels: Whether a unit has a label in each pixel instead of one.
        least_units: A group of fewer test units has no score of its own.
        content: What inputs are that neither the model nor the columns of a card tell.
        refused_budgets: Kind of budget -> why it cannot be.
    """

    main_metric: str
    budgets: tuple[str, ...]
    shown: tuple[str, ...]
    strata: tuple[str, ...]
    group_metric: str
    right: str = "overall_accuracy"
    calibration: tuple[str, ...] = ("ece", "brier")
    calibration_title: str = "ECE"
    counted: str = "labels"
    pixel_labels: bool = False
    least_units: int = 10
    content: frozenset[Content] = frozenset()
    refused_budgets: Mapping[str, str] = field(default_factory=dict)


TASK_KINDS: dict[str, TaskKind] = {
    "classification": TaskKind(
        main_metric="macro_f1",
        budgets=("50-units", "100-units", "200-units", "50-units-in-5-blocks"),
        shown=("macro_f1", "balanced_accuracy", "overall_accuracy", "ece", "ece_debiased", "brier", "nll"),
        strata=("macro_f1", "balanced_accuracy", "overall_accuracy", "ece", "brier"),
        group_metric="overall_accuracy",
        refused_budgets={"pixels": "counts pixels, and the task is a classification"},
    ),
    "regression": TaskKind(
        main_metric="r2",
        budgets=("20-units", "50-units", "100-units", "50-units-in-5-blocks"),
        shown=("r2", "mae", "rmse", "spearman", "coverage90"),
        strata=("r2", "mae", "rmse", "spearman", "coverage90"),
        group_metric="mae",
        right="bias",
        calibration=("coverage90",),
        calibration_title="Coverage of 90 % intervals",
        refused_budgets={
            "per-class": "counts per class, and the task is a regression: use N-units or Npct",
            "pixels": "counts pixels, and the task is a regression",
        },
    ),
    "segmentation": TaskKind(
        main_metric="miou",
        budgets=("1pct", "5pct", "10pct"),
        shown=("miou", "macro_f1", "boundary_f1", "area_error", "ece", "ece_debiased", "brier"),
        strata=("miou", "macro_f1", "boundary_f1", "area_error", "ece", "brier"),
        group_metric="boundary_f1",
        counted="labelled chips",
        pixel_labels=True,
        least_units=1,
        content=frozenset({"optical"}),
    ),
}
"""Every kind of task by its name."""
