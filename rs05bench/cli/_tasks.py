"""Task cards as commands name them: a YAML file, or the name of a task the package knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rs05bench.errors import DataError


def find_card(name: str, data: Path) -> Any:
    """The card of a file, of chips the package reads, or of a published table.

    Args:
        name: Path of a card, or `hls-burn-scars`, `crop-chips`, `fuel-moisture`.
        data: Where the files lie; chips that were simulated are called so.
    """
    from rs05bench.protocol.card import TaskCard

    if Path(name).suffix in (".yaml", ".yml") or Path(name).exists():
        return TaskCard.load(name)
    from rs05bench.datamodules.chipsource import READERS, chip_card

    cards = {card.name: card for card in (chip_card(reader, data) for reader in READERS)}
    if name in cards:
        return cards[name]
    from rs05bench.datasets.published import PUBLISHED

    tables = {known.name: known for known in PUBLISHED.values() if known.task.reader == "presto"}
    if name in tables:
        return tables[name].task
    raise DataError(
        f"no task {name!r} whose data the package reads (there are: {', '.join([*cards, *tables])})", remedy="Give the path of a card."
    )
