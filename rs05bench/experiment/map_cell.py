"""The cell behind a map: what a result's folder says of it, and whether data and options are still those it was scored with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rs05bench.errors import DataError
from rs05bench.models.options import RUN_NAMES
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.result import Cell, Result


@dataclass(frozen=True)
class KeptCell:
    """A cell with what its result rests on.

    Attributes:
        cell: The cell.
        card: Its task card.
        manifest: The manifest it was run under, which need not be the one its data would make today.
        data_digest: Digest of the data it was scored on.
        results: Where its result lies: the store's folder, or its own.
    """

    cell: Cell
    card: TaskCard
    manifest: SplitManifest
    data_digest: str
    results: Path

    def refuse_other_data(self, digest: str, source: str | Path) -> None:
        """Makes sure that data are those of the result.

        Args:
            digest: Digest of the data.
            source: Where they lie, for the message.

        Raises:
            DataError: They are not: a map of them would not be the map of this cell.
        """
        if digest != self.data_digest:
            raise DataError(
                f"holds other data (digest {digest[:12]}…) than the cell was scored on ({self.data_digest[:12]}…)",
                source=source,
                remedy="Give the folder the cell was run on; or run the cell again on these data and map that result.",
            )


def load_cell(path: str | Path) -> KeptCell:
    """The cell of a result's folder: of a store (`<store>/cells/<2 hex>/<digest>`), or one that `rs05bench fit-predict` wrote.

    Raises:
        DataError: It is no such folder, or card and manifest beside the result are not those it names.
    """
    folder = Path(path).resolve()
    if not (folder / "result.json").is_file():
        raise DataError(
            "neither a task card nor the folder of a result", source=path, remedy="Give a card (YAML), or a folder with result.json."
        )
    if folder.parent.parent.name == "cells":
        return _of_store(folder)
    if not (folder / "card.yaml").is_file():
        raise DataError(
            "keeps no task card (card.yaml) beside its result", source=path, remedy="Run the cell again with rs05bench fit-predict."
        )
    result = _read(folder / "result.json")
    return _checked(result, TaskCard.load(folder / "card.yaml"), SplitManifest.load(folder / "manifest"), folder)


def _of_store(folder: Path) -> KeptCell:
    from rs05bench.experiment.store import ResultStore

    store = ResultStore(folder.parents[2])
    result = store.read(folder.name)
    cards = store.cards()
    if result.cell.task not in cards:
        raise DataError(f"the store keeps no card of the task {result.cell.task!r}", source=store.root)
    return _checked(result, cards[result.cell.task], store.manifest(result.cell.task, result.cell.split), store.root)


def _read(path: Path) -> Result:
    try:
        return Result.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise DataError(f"is no result: {error}", source=path, remedy="Run the cell again.") from error


def _checked(result: Result, card: TaskCard, manifest: SplitManifest, results: Path) -> KeptCell:
    for what, found in (("card", card.digest), ("manifest", str(manifest.card["digest"]))):
        wanted = result.digests.get(what)
        if found != wanted:
            raise DataError(
                f"keeps another {what} (digest {found[:12]}…) than the result rests on ({str(wanted)[:12]}…)",
                source=results,
                remedy="It was changed after the cell was run: run the cell again.",
            )
    return KeptCell(result.cell, card, manifest, str(result.digests.get("data")), results)


def options_of(cell: Cell, model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the model that is mapped: the cell's own, beside options that say how it is run and not what it is.

    Args:
        cell: The cell.
        model: Model that is mapped; another than the cell's has no options but those given.
        given: Options for the map.

    Raises:
        DataError: An option would make another model of the cell's.
    """
    if model != cell.model:
        return dict(given)
    if not given:
        return dict(cell.options)
    runs = (*RUN_NAMES, "weights")
    if other := sorted(set(given) - set(runs)):
        raise DataError(
            f"the option {', '.join(other)} would make another model of the cell's",
            source=cell.model,
            remedy=f"With a cell, --option takes {', '.join(runs)}; give the card instead of the cell for other models.",
        )
    return {**cell.options, **given}
