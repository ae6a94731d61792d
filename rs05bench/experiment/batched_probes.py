"""Linear probes of a batch of cells, fitted together: all budgets, seeds and regularisation values of ridge and logistic in one pass."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rs05bench.errors import BenchError
from rs05bench.protocol.cell_record import TrainingRecord
from rs05bench.protocol.predictions import TablePredictions
from rs05bench.protocol.result import Cell
from rs05bench.protocol.taskdata import TaskData, TaskView

if TYPE_CHECKING:
    from rs05bench.experiment.cell import Bench
    from rs05bench.models.shallow import ShallowModel

type Probe = tuple[str, Cell, ShallowModel]
PROBES = ("logistic", "ridge")
LEAST = 2
"""Fewer probes than this have nothing to share."""


class FittedProbe:
    """A probe that was fitted with others: to fit it again is to take it as it is.

    Attributes:
        card: The model's card.
        seconds: Its share of the time the fit of all took.
    """

    def __init__(self, model: ShallowModel, seconds: float) -> None:
        self._model, self.seconds, self.card = model, seconds, model.card

    @property
    def training_record(self) -> TrainingRecord:
        """What was tuned and how."""
        return self._model.training_record

    def fit(self, data: TaskView) -> FittedProbe:
        """Is fitted."""
        return self

    def predict(self, data: TaskView, role: str) -> TablePredictions:
        """Predictions of a role's units."""
        assert isinstance(data, TaskData)  # probes are fitted together on tables alone
        return self._model.predict(data, role)


def solve_together(
    bench: Bench, cells: Sequence[tuple[str, Cell]], started: Callable[[Sequence[str]], None] | None = None
) -> dict[str, FittedProbe]:
    """Fits the linear probes among some cells, those of one learner in one pass.

    A probe that cannot be fitted is left out; its cell then runs by itself and tells why.

    Args:
        bench: The task.
        cells: (digest, cell).
        started: Told the digests of the probes that are begun.

    Returns:
        Fitted models by digest, with the results they would have had alone.
    """
    groups: dict[str, list[Probe]] = defaultdict(list)
    for digest, cell in cells:
        learner = cell.model.rpartition("/")[2]
        if learner in PROBES and not cell.options and ".py:" not in cell.model and (model := _probe(bench, cell)) is not None:
            groups[learner].append((digest, cell, model))
    fitted: dict[str, FittedProbe] = {}
    for members in groups.values():
        if len(members) >= LEAST:
            if started:
                started([digest for digest, *_ in members])
            fitted |= _fit(bench, members)
    return fitted


def _probe(bench: Bench, cell: Cell) -> ShallowModel | None:
    """The model of a cell, where it is fitted on the columns of a table; of chips the same learners are fitted on pixels."""
    from rs05bench import models
    from rs05bench.models.shallow import ShallowModel

    try:
        model = models.create(cell.model, card=bench.card, seed=cell.seed)
    except BenchError:
        return None
    return model if isinstance(model, ShallowModel) else None


def _fit(bench: Bench, members: Sequence[Probe]) -> dict[str, FittedProbe]:
    from rs05bench.models.shallow import fit_together

    begin = time.perf_counter()
    ready: list[tuple[str, ShallowModel, Any]] = []
    for digest, cell, model in members:
        try:
            ready.append((digest, model, bench.data(cell)))
        except BenchError:
            continue
    done = fit_together([(model, data) for _, model, data in ready])
    share = (time.perf_counter() - begin) / max(len(ready), 1)
    return {digest: FittedProbe(model, share) for (digest, model, _), ok in zip(ready, done, strict=True) if ok}
