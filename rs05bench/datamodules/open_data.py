"""Opening the data of a task card."""

from __future__ import annotations

from pathlib import Path

from rs05bench.datasets.chip_units import CHIP_READERS
from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.result import Cell
from rs05bench.protocol.taskdata import TaskData, TaskSource, TaskView


def open_source(card: TaskCard, data_dir: str | Path, *, unlabelled: bool = False) -> TaskSource:
    """Opens the units, features and labels of a task.

    Args:
        card: The task card.
        data_dir: Where its files lie.
        unlabelled: Keep the rows of a table that have no label yet, as a sealed round does.

    Raises:
        DataError: A file is missing or not what the card says, or units without a label were asked of chips.
    """
    if card.reader in CHIP_READERS:
        if unlabelled:
            raise DataError(f"{card.name} is of chips, and units without a label are read from tables only", source=data_dir)
        from rs05bench.datamodules.chipsource import open_chips

        return open_chips(card, data_dir)
    from rs05bench.datasets.embedding_table import EmbeddingTable
    from rs05bench.models.features import derive

    return EmbeddingTable(card, data_dir, derive=derive, unlabelled=unlabelled)


def open_view(source: TaskSource, manifest: SplitManifest, cell: Cell) -> TaskView:
    """What the model of a cell may see: a `TaskData`, or for chips a `ChipView`.

    Raises:
        ProtocolError: The cell breaks a rule, e.g. nothing to train on.
    """
    if source.card.reader in CHIP_READERS:
        from rs05bench.datamodules.chip_datamodule import ChipDataModule
        from rs05bench.datamodules.chipsource import ChipSource

        assert isinstance(source, ChipSource)
        return ChipDataModule(source, cell.split, cell.fold, cell.budget, cell.seed, manifest=manifest).view
    return TaskData.build(source, manifest, cell.fold, cell.budget, cell.seed, split=cell.split, target=cell.target)
