"""The out-of-domain drop on the same ground (rule 9).

For the units one fold holds out: their score in the folds that train on their region, minus their score with it held out. Both are over
the same units, so a hard region does not pass for a bad transfer. The raw difference of `test_id` and `test_ood` is kept beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rs05bench.protocol.metrics import METRICS, find_metric
from rs05bench.protocol.result import Result


@dataclass(frozen=True, slots=True)
class GroundDrop:
    """The drop on one ground for one cell.

    Attributes:
        ground: Name of the ground.
        shift: What changed.
        units: Test units on it.
        at_home: Mean score over the folds that train on the ground's region.
        held_out: Score with it held out.
        drop: How much worse, positive for worse, in the metric's unit.
        folds_at_home: How many folds `at_home` is the mean of.
    """

    ground: str
    shift: str
    units: int
    at_home: float
    held_out: float
    drop: float
    folds_at_home: int


def matched_drops(results: Sequence[Result], metric: str | None = None) -> dict[str, list[GroundDrop]]:
    """Drops of every cell, keyed by the result's digest.

    Args:
        results: Results of any cells; cells are matched when all but the fold is equal.
        metric: Metric; default each task's main metric.

    Returns:
        One entry a result; the list is empty where no other fold tests the same ground at home.
    """
    families: dict[tuple[object, ...], list[Result]] = defaultdict(list)
    for result in results:
        cell = result.cell
        key = (cell.task, cell.target, cell.split, cell.model, cell.budget, cell.seed, str(sorted(cell.options.items())))
        families[key].append(result)
    drops: dict[str, list[GroundDrop]] = {}
    for family in families.values():
        name = metric or family[0].main_metric
        turned = find_metric(name, METRICS)
        home: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for result in family:
            for stratum in result.strata:
                if stratum.role == "test_id" and stratum.ground and name in stratum.scores:
                    home[stratum.ground].append((stratum.scores[name], stratum.units))
        for result in family:
            found: list[GroundDrop] = []
            for stratum in result.strata:
                if stratum.role != "test_ood" or name not in stratum.scores:
                    continue
                # Only folds that test the whole ground at home: the same units on both sides.
                scores = [value for value, units in home.get(stratum.ground, ()) if units == stratum.units]
                if not scores:
                    continue
                at_home = sum(scores) / len(scores)
                held = stratum.scores[name]
                found.append(
                    GroundDrop(stratum.ground, stratum.shift, stratum.units, at_home, held, turned.drop(at_home, held), len(scores))
                )
            drops[result.digest] = found
    return drops


def mean_drop(drops: Iterable[GroundDrop], shift: str | None = None) -> float | None:
    """Mean over grounds, each weighted by its units; None where there is none."""
    kept = [drop for drop in drops if shift is None or drop.shift == shift]
    units = sum(drop.units for drop in kept)
    return sum(drop.drop * drop.units for drop in kept) / units if units else None


def raw_drop(result: Result, metric: str | None = None) -> float | None:
    """Score on `test_id` minus score on `test_ood`, other units on each side (positive for worse); None where one is missing."""
    name = metric or result.main_metric
    at_home, held = result.scores.get("test_id", {}).get(name), result.scores.get("test_ood", {}).get(name)
    if at_home is None or held is None:
        return None
    return find_metric(name, METRICS).drop(at_home, held)
