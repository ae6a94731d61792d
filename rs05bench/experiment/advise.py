"""Advice for a person's own data: a quick sweep within a time limit, and what can honestly be read from it.

Nothing here is a rule of thumb. Every number comes from fits on the person's own table under the fair protocol, and where the intervals
do not tell two answers apart, that is the answer.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rs05bench.errors import DataError
from rs05bench.experiment.advice import Advice
from rs05bench.experiment.advise_plan import make_plan, open_task, run_stages, with_fitted_blocks
from rs05bench.experiment.advise_reading import Run, read_results
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.protocol.result import Result

MORE = 30


@dataclass(frozen=True)
class AdviceAsked:
    """What is asked about a person's data.

    Attributes:
        labels: How many labels will be used in all; default 100, or as many as there are.
        more: How many further labels are asked about.
        target: Target; default the card's first.
    """

    labels: int | None = None
    more: int = MORE
    target: str | None = None


def advise(
    card_path: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    question: AdviceAsked | None = None,
    minutes: float = 5.0,
    jobs: int | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Advice:
    """Runs a quick sweep on a person's data and reads it.

    Args:
        card_path: Task card.
        data: Data directory.
        out: Where results are kept; a second run with more time takes them up.
        question: What is asked; default as `AdviceAsked`.
        minutes: Time limit. The first round of simple models is always run.
        jobs: Worker processes; default all cores.
        on_stage: Told in a few words what is being run.

    Returns:
        The advice.

    Raises:
        DataError: The card is of chips or names no features; no split is possible; nothing could be run.
    """
    begin = time.perf_counter()
    card = TaskCard.load(card_path)
    if card.about.pixel_labels:
        raise DataError(
            f"advice is for tables, and this card is a {card.kind}",
            source=card_path,
            remedy="Sweep the models of chips: rs05bench sweep CARD --out RUNS, then rs05bench report RUNS --out REPORT.",
        )
    if not card.features:
        raise DataError(
            "names no features: only baselines without imagery can run",
            source=card_path,
            remedy="Add an embedding with rs05bench extract TABLE --from .. --out NEW, then card init NEW and advise its card.",
        )
    asked = question or AdviceAsked()
    target = asked.target or card.targets[0]
    card = with_fitted_blocks(card, data)
    Path(out).mkdir(parents=True, exist_ok=True)
    card_path = card.save(Path(out) / "advised-card.yaml")
    bench, split = open_task(card, data)
    plan = make_plan(bench, card, split, target, asked.labels, asked.more)
    stopped = run_stages(plan, card_path, data, Path(out), target, begin + 60 * minutes, jobs, on_stage)
    manifest = str(bench.manifest(split).card["digest"])
    results = [
        result
        for result in ResultStore(out).results()
        if result.cell.task == card.name
        and result.cell.target == target
        and result.digests.get("manifest") == manifest
        and result.digests.get("data") == bench.source.digest
    ]
    complete = _complete(results, len(bench.manifest(split).folds))
    if not complete:
        raise DataError(
            "no model could be run on every fold",
            source=card_path,
            remedy="Give more time with --minutes, or look at the failures in --out.",
        )
    return read_results(bench, card, plan, Pool.of(complete), Run(stopped, time.perf_counter() - begin, str(out)), target)


def _complete(results: Iterable[Result], folds: int) -> list[Result]:
    """Cells of seeds that have every fold: others stand on less ground and cannot be set beside them."""
    by_fit: dict[tuple[Point, int], list[Result]] = defaultdict(list)
    for result in results:
        by_fit[Point.of(result), result.cell.seed].append(result)
    return [result for cells in by_fit.values() if len(cells) == folds for result in cells]
