"""Does a task's answer hang on how its split was drawn, and how small a difference can its groups show?

One cheap model and a baseline without imagery are run again under other seeds of the split and other sizes of block (half, one and two
times the range over which labels are alike). How far the score moves between the draws is what a ranking on one draw hides. The difference
that the groups can show with 80 % power follows from how much differences vary from group to group; more groups help, more seeds do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rs05bench.datasets.tables.block_size import fit_task
from rs05bench.errors import DataError, ProtocolError
from rs05bench.experiment.advise_plan import linear_models, open_task, plain_floor
from rs05bench.experiment.cell import Bench, run_cell
from rs05bench.experiment.sensitivity_record import Power, Sensitivity, Variant
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.compared_sides import Side
from rs05bench.protocol.comparison import differences, score_of
from rs05bench.protocol.inference.power import detectable
from rs05bench.protocol.manifest import SplitManifest, build_manifest
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.protocol.result import Cell
from rs05bench.protocol.split_options import SplitOptions
from rs05bench.protocol.taskdata import TaskSource

FEATURE_SETS = 3
TIMES_THE_RANGE = (0.5, 1.0, 2.0)


def sensitivity(
    card: TaskCard,
    data: str | Path,
    *,
    target: str | None = None,
    split_seeds: int = 3,
    on_variant: Callable[[str], None] | None = None,
) -> Sensitivity:
    """Runs a linear model on the widest feature set under other draws of the split; takes seconds on a table of thousands.

    Args:
        card: The task card, of a table.
        data: Data directory.
        target: Target; default the card's first.
        split_seeds: How many further seeds of the split.
        on_variant: Told what is being run.

    Raises:
        DataError: The card is of chips or names no features, no split is possible, or the card's own draw cannot be run.
    """
    if not card.features:
        raise DataError("sensitivity runs a linear model on the columns of a table, and this card has none", source=card.name)
    target = target or card.targets[0]
    bench, split = open_task(card, data)
    source, options = bench.source, card.split_options
    if source.scored(target).known.empty:  # labels of pixels
        raise DataError("sensitivity runs a linear model on the columns of a table, and this card is of chips", source=card.name)
    fitted = fit_task(card, source.units(), source.labels(target))
    reach = None if fitted is None else fitted.range_m
    models, floor = linear_models(source, card, FEATURE_SETS), plain_floor(card)
    drawn = [("as on the card", options)]
    drawn += [(f"split seed {options.seed + k}", options.model_copy(update={"seed": options.seed + k})) for k in range(1, split_seeds + 1)]
    if reach and options.block_by is None:
        drawn += [
            (f"blocks of {times:g} x the range", options.model_copy(update={"block_size_m": times * reach})) for times in TIMES_THE_RANGE
        ]
    variants: list[Variant] = []
    power: list[Power] = []
    role = ""
    for number, (what, changed) in enumerate(drawn):
        if on_variant is not None:
            on_variant(what)
        entry = Variant(what=what, seed=changed.seed, block_m=None if changed.block_by else changed.block_size_m)
        try:
            manifest = bench.manifest(split) if number == 0 else _drawn(card, source, split, changed)
            pool = _run(source, manifest, target, [floor, *(models if number == 0 else models[:1])])
        except (DataError, ProtocolError) as error:
            if number == 0:
                raise
            variants.append(entry.model_copy(update={"reason": error.problem}))
            continue
        points = {point.model: point for point in pool.points}
        role = role or ("test_ood" if score_of(pool, points[models[0]], "test_ood") else "test_id")
        variants.append(_scored(entry, pool, points[models[0]], points[floor], role))
        if number == 0:
            power = _power(pool, [points[name] for name in [*models, floor]], role)
    return Sensitivity(
        task=card.name,
        target=target,
        split=split,
        role=role,
        metric=card.main_metric,
        model=models[0],
        floor=floor,
        range_m=reach,
        variants=variants,
        power=power,
        simulated=card.simulated,
    )


def _drawn(card: TaskCard, source: TaskSource, split: str, options: SplitOptions) -> SplitManifest:
    return build_manifest(card.model_copy(update={"split_options": options}), source.units(), split)


def _run(source: TaskSource, manifest: SplitManifest, target: str, models: Sequence[str]) -> Pool:
    """All labels, every fold."""
    bench = Bench(source, {manifest.split: manifest})
    cells = [
        Cell(task=bench.card.name, target=target, split=manifest.split, fold=fold, model=model, budget="full", seed=0)
        for model in models
        for fold in manifest.folds
    ]
    return Pool.of(run_cell(bench, cell)[0] for cell in cells)


def _scored(entry: Variant, pool: Pool, model: Point, floor: Point, role: str) -> Variant:
    found = score_of(pool, model, role)
    if found is None:
        return entry.model_copy(update={"reason": "no group could be scored"})
    estimate = found.estimate
    (gain,) = differences(pool, [(Side.score(model, role), Side.score(floor, role))])
    return entry.model_copy(
        update={
            "groups": estimate.n_groups,
            "score": _known(estimate.value),
            "low": _known(estimate.low),
            "high": _known(estimate.high),
            "over_floor": None if gain is None else _known(gain.effect.value),
        }
    )


def _power(pool: Pool, points: Sequence[Point], role: str) -> list[Power]:
    pairs = [(one, other) for number, one in enumerate(points) for other in points[number + 1 :]]
    made = differences(pool, [(Side.score(one, role), Side.score(other, role)) for one, other in pairs])
    return [
        Power(
            first=one.model,
            second=other.model,
            difference=entry.effect.value,
            detectable=_known(detectable(entry.effect)),
            groups=entry.effect.n_groups,
        )
        for (one, other), entry in zip(pairs, made, strict=True)
        if entry is not None and np.isfinite(entry.effect.value)
    ]


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def lines(found: Sensitivity) -> list[str]:
    """The record in words, a line a draw."""
    where = "held out" if found.role == "test_ood" else "in-domain"
    said = [f"{found.task}, {found.target}, {found.split}: {found.metric} {where}, {found.model}, all labels, mean over groups"]
    said += ["SIMULATED data: this says nothing about the Earth."] if found.simulated else []
    for row in rows(found):
        said.append(f"  {row[0]:<26} {row[1]:>10}  {row[2]:>3} groups  {row[3]:<22} over {found.floor} {row[4]}")
    if found.spread is not None:
        said.append(f"Between draws of the split the score differs by up to {found.spread:.2f}.")
    said += [sentence for entry in found.power if (sentence := power_words(entry))]
    return said


def rows(found: Sensitivity) -> list[list[str]]:
    """What, side of a block, groups, score with interval, and gain over the baseline of every draw."""
    table = []
    for entry in found.variants:
        block = "" if entry.block_m is None else km(entry.block_m)
        ends = "" if entry.low is None or entry.high is None else f" [{entry.low:.2f}, {entry.high:.2f}]"
        score = entry.reason or ("" if entry.score is None else f"{entry.score:.2f}{ends}")
        table.append([entry.what, block, str(entry.groups), score, "" if entry.over_floor is None else f"{entry.over_floor:+.2f}"])
    return table


def km(metres: float) -> str:
    """A distance for people."""
    return f"{metres / 1000:,.0f} km" if metres >= 100_000 else f"{metres / 1000:.3g} km"


def power_words(entry: Power) -> str:
    """What the groups can show of a difference."""
    if entry.detectable is None:
        return ""
    return f"{entry.first} against {entry.second}: {entry.groups} groups show a difference of {entry.detectable:.2f} with 80 % probability."
