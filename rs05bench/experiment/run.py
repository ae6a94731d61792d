"""`rs05bench.run`: one data module, one model, one result."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rs05bench.experiment.cell import Bench, run_cell
from rs05bench.protocol.option_values import OptionValue
from rs05bench.protocol.result import Cell, Model, Result
from rs05bench.protocol.splits import Split
from rs05bench.protocol.taskdata import TaskSource, TaskView

if TYPE_CHECKING:
    from rs05bench.datamodules.data_module import ProtocolDataModule


def run[View: TaskView, Source: TaskSource](
    data: ProtocolDataModule[View, Source], model: Model[View] | str, **options: OptionValue
) -> Result:
    """Fits a model on what a data module shows, predicts its test roles, and scores the predictions.

    Args:
        data: A data module of `rs05bench.datamodules`.
        model: A model from `rs05bench.models.create`, or its name.
        **options: Options of the model, where it is given by name.

    Returns:
        The result; `result.table()` and `result.plot()` show it.

    Raises:
        ProtocolError: A rule would be broken.
    """
    named = model if isinstance(model, str) else model.card.name
    given = options if isinstance(model, str) else dict(model.card.options)
    cell = Cell(
        task=data.card.name,
        target=data.target,
        split=data.split,
        fold=data.fold,
        model=named,
        budget=data.budget.name,
        seed=data.seed,
        options=given,
    )
    bench = Bench(data.source, {Split(data.split).base: data.manifest})
    made = None if isinstance(model, str) else cast("Model[TaskView]", model)  # it reads this very view
    result, predictions = run_cell(bench, cell, model=made, data=data.view)
    predictions.discard()
    return result
