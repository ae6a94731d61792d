"""Chips of a published layout as units of a task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.units import UnitTable

if TYPE_CHECKING:
    from rs05bench.datasets.chips import ChipDataset

CHIP_READERS = ("burn-scars", "crop-chips", "chips")

Layers = Mapping[str, tuple[Any, str]]


def open_chip_dataset(card: TaskCard, root: str | Path, layers: Layers | None = None, **options: Any) -> ChipDataset:
    """The data set of the card's reader over `root`; `options` are its own.

    Raises:
        DataError: No such reader, or files that are not what it expects.
    """
    if card.reader == "burn-scars":
        from rs05bench.datasets.burn_scars import HLSBurnScars

        return HLSBurnScars(root, layers=layers, **options)
    if card.reader == "crop-chips":
        from rs05bench.datasets.cdl_crop import CDLCrop

        return CDLCrop(root, layers=layers, **options)
    if card.reader == "chips":
        from rs05bench.datasets.chip_folder import ChipFolder
        from rs05bench.datasets.chip_layout import ChipLayout

        return ChipFolder(root, ChipLayout.of(card), layers=layers, **options)
    raise DataError(f"reader {card.reader!r} reads no chips (those that do: {', '.join(CHIP_READERS)})", source=card.name)


def layers_of(card: TaskCard, root: str | Path) -> dict[str, tuple[Any, str]]:
    """Polygon layers that a card names under `preprocessing`, relative to the data directory: group -> (file, column)."""
    return {name: (Path(root) / file, column) for name, (file, column) in card.preprocessing.layers.items()}


def open_units(card: TaskCard, data_dir: str | Path) -> UnitTable:
    """The units of a chip card; `preprocessing` may name their `folder` and `layers`, relative to the data directory.

    Raises:
        DataError: The files are not what the reader expects, or a group of the card is not known for them.
    """
    root = Path(data_dir) / card.preprocessing.folder
    dataset = open_chip_dataset(card, root, layers_of(card, data_dir))
    return chip_unit_table(card, pd.DataFrame(dataset.units().drop(columns="geometry")), source=str(root))


def chip_unit_table(card: TaskCard, frame: pd.DataFrame, *, source: str) -> UnitTable:
    """Units of chips.

    Args:
        card: The task card.
        frame: What the data set's `units()` lists, without geometry; chips of one ground share its `place`.
        source: Where the chips lie, for messages.

    Raises:
        DataError: A group of the card is not known for these chips.
    """
    frame = frame.copy()
    missing = [name for name in card.groups if name not in frame.columns]
    if missing:
        raise DataError(
            f"groups {missing} are not known for these chips (columns: {list(frame.columns)})",
            source=source,
            remedy="Give a polygon layer: layers={'ecoregion': (FILE, COLUMN)}.",
        )
    # Chips outside every polygon of a layer belong to no group of it; together they are one, so that none is silently dropped.
    for name in card.groups:
        frame[name] = frame[name].fillna("outside").replace("", "outside")
    frame["time"] = frame["date"]
    if card.year is None:  # chips whose names tell no date
        frame = frame.drop(columns=["year", "date", "time"])
    official = card.official
    if official is not None and "official" in frame.columns:
        roles = {
            value: role for role, values in (("train", official.train), ("val", official.val), ("test", official.test)) for value in values
        }
        # Where the publisher made two parts only, what validates is what is tested.
        if not frame["official"].isin(official.test).any():
            roles |= dict.fromkeys(official.val, "test")
        frame["official"] = frame["official"].map(roles).fillna("")
    return UnitTable.build(frame, groups=card.groups, source=source)
