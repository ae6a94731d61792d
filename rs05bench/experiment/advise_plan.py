"""What a quick sweep runs, most telling first, and running it until the time is up."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rs05bench.datasets.tables.block_size import fit_task
from rs05bench.datasets.tables.design import design_flags, meaningless_splits
from rs05bench.errors import DataError
from rs05bench.experiment.advice import SEEDS
from rs05bench.experiment.cell import Bench, make_bench
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.sweep import sweep
from rs05bench.experiment.workers import Outcome
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.splits import Split
from rs05bench.protocol.splitters import possible_splits
from rs05bench.protocol.taskdata import TaskSource

DEFAULT_LABELS = 100
LEAST_LABELS = 10
SPARE = 1.3
"""A stage is begun only when this many times its expected duration is left."""
MOST_FEATURE_SETS = 4
VISITS = 5
"""Places that are visited where labels are not drawn at random."""


@dataclass(frozen=True)
class AdvicePlan:
    """What is to be run, most telling first.

    Attributes:
        split: The split.
        plus: Its forms with labels of the group held out: at random, and in a few visited places; none where it holds no group out.
        budgets: The labels asked about, half of them, more at random, and as many in a few visited places.
        models: Models.
        labels: Labels asked about.
        more: How many further ones.
        visits: Places that are visited.
    """

    split: str
    plus: tuple[str, ...]
    budgets: tuple[str, ...]
    models: tuple[str, ...]
    labels: int
    more: int
    visits: int = 5

    def stages(self) -> list[tuple[tuple[str, ...], str, tuple[str, ...], int]]:
        """(models, split, budgets, seed) in the order they are run."""
        simple = tuple(name for name in self.models if not name.endswith("/rf"))
        forests = tuple(name for name in self.models if name.endswith("/rf"))
        first, others = self.budgets[:1], self.budgets[1:]
        found: list[tuple[tuple[str, ...], str, tuple[str, ...], int]] = []
        for seed in range(SEEDS):
            found += [(models, self.split, first, seed) for models in (simple, forests)]
            # Forests take most of the time: what more labels buy them is asked a round later.
            for models, at in ((simple, seed), (forests, seed - 1)):
                found += [(models, plus, first, at) for plus in self.plus]
                if others:
                    found.append((models, self.split, others, at))
        return [stage for stage in found if stage[0] and stage[3] >= 0]


def with_fitted_blocks(card: TaskCard, data: str | Path) -> TaskCard:
    """The card with blocks and buffer that suit the area, where it does not set them itself."""
    from rs05bench.datamodules.open_data import open_source

    options = card.split_options
    if {"block_size_m", "buffer_m", "block_by"} & options.model_fields_set:
        return card
    source = open_source(card, data)
    fitted = fit_task(card, source.units(), source.labels(card.targets[0]))
    if fitted is None:
        return card
    setting = {"block_size_m": fitted.block_m, "buffer_m": fitted.buffer_m}
    return card.model_copy(update={"split_options": options.model_copy(update=setting)})


def open_task(card: TaskCard, data: str | Path) -> tuple[Bench, str]:
    """Opens a task under the most telling split that its data allow.

    Raises:
        DataError: No split is possible.
    """
    from rs05bench.datamodules.open_data import open_source

    source = open_source(card, data)
    verdicts = possible_splits(card, source.units())
    possible = [split for split, reason in verdicts.items() if not reason and not Split(split).extra]
    # Where the label is a function of the group, holding the group out tests nothing: another split is asked where there is one.
    units, labels = source.units(), source.labels(card.targets[0])
    empty = meaningless_splits(card, design_flags(units.frame, labels, units.groups, card.kind))
    possible = [split for split in possible if split not in empty] or possible
    if not possible:
        raise DataError(f"no split is possible on these data: {next(iter(verdicts.values()), '')}", source=card.name)
    split = min(possible, key=lambda name: Split(name).rule.rank)
    return make_bench(card, data, [split], source), split


def make_plan(bench: Bench, card: TaskCard, split: str, target: str, labels: int | None, more: int) -> AdvicePlan:
    """What to run for so many labels.

    Raises:
        DataError: Too few labels for any advice.
    """
    counts = bench.manifest(split).counts()
    known = bench.source.labels(target).notna().mean()
    there = int((counts["train"] + counts["val"]).min() * known)
    wanted = min(labels or min(DEFAULT_LABELS, there), there)
    if wanted < LEAST_LABELS:
        raise DataError(f"{wanted} labels are too few for any advice: at least {LEAST_LABELS} are needed", source=card.name)
    sizes = [wanted]
    if wanted >= 2 * LEAST_LABELS:
        sizes.append(wanted // 2)
    if wanted + more <= there:
        sizes.append(wanted + more)
    budgets = [f"{size}-units" for size in sizes]
    if wanted + more <= there:
        budgets.append(f"{wanted + more}-units-in-{VISITS}-blocks")
    plus: tuple[str, ...] = ()
    if Split(split).rule.name == "leave-group":
        plus = (f"{split}+{more}-units", f"{split}+{more}-units-in-{VISITS}-blocks")
    return AdvicePlan(split, plus, tuple(budgets), tuple(_models(bench, card)), wanted, more, VISITS)


def _models(bench: Bench, card: TaskCard) -> list[str]:
    """The floors, and a linear model and a forest on each feature set: cheap, and between them hard to beat with few labels."""
    models = [plain_floor(card)]
    if np.isfinite(bench.source.units().frame["lon"]).any():
        models.append("floor/nearest")
    linear = linear_models(bench.source, card, MOST_FEATURE_SETS)
    return [*models, *linear, *(f"{name.partition('/')[0]}/rf" for name in linear)]


def plain_floor(card: TaskCard) -> str:
    """The baseline that looks at nothing: majority, or mean."""
    return "floor/majority" if card.kind == "classification" else "floor/mean"


def linear_models(source: TaskSource, card: TaskCard, most: int) -> list[str]:
    """A linear model on each feature set, the widest first: a set inside another is left out when there are many."""
    learner = "logistic" if card.kind == "classification" else "ridge"
    sets = sorted(card.features, key=lambda name: -len(source.features(name)[0]))[:most]
    return [f"{name}/{learner}" for name in sets]


def run_stages(
    plan: AdvicePlan,
    card_path: str | Path,
    data: str | Path,
    out: Path,
    target: str,
    deadline: float,
    jobs: int | None,
    on_stage: Callable[[str], None] | None,
) -> str:
    """Runs stages until the time is up; returns what was left out."""
    pace: dict[str, list[float]] = defaultdict(list)
    for number, (models, split, budgets, seed) in enumerate(plan.stages()):
        left = deadline - time.perf_counter()
        expected = _expected(models, len(budgets), pace)
        if number and (left <= 0 or (expected is not None and SPARE * expected > left)):
            return f"seed {seed}, {split}, {', '.join(budgets)}" if number else ""
        if on_stage:
            on_stage(
                f"seed {seed}: {len(models)} models, {split}, {' and '.join(budget.replace('-units', '') for budget in budgets)} labels"
            )
        started = time.perf_counter()

        def watch(outcomes: Iterable[Outcome], first: bool = number == 0) -> None:
            # The sweep's own way to stop: unfinished cells are left for the next run.
            if not first and time.perf_counter() > deadline:
                raise KeyboardInterrupt

        choice = GridChoice(models=list(models), splits=[split], budgets=list(budgets), seeds=[seed], targets=[target])
        summary = sweep(GridFile.over(card_path, data, choice, costs=False), out, jobs=jobs, on_progress=watch)
        if summary.stopped:
            if time.perf_counter() < deadline:
                raise KeyboardInterrupt
            return f"seed {seed}, {split}, {', '.join(budgets)}"
        if summary.done:
            for name in models:
                pace[name].append((time.perf_counter() - started) / len(models) / len(budgets))
    return ""


def _expected(models: Sequence[str], budgets: int, pace: dict[str, list[float]]) -> float | None:
    known = [float(np.mean(pace[name])) for name in models if pace.get(name)]
    return None if not known else float(np.mean(known)) * len(models) * budgets


def task_classes(bench: Bench, card: TaskCard, target: str) -> tuple[str, ...] | None:
    """Classes of a target; None for a regression."""
    from rs05bench.protocol.classes import class_values

    return class_values(card, bench.source.labels(target))
