"""One cell by itself, outside any sweep: run, kept in a folder, or handed to TerraTorch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rs05bench.errors import DataError, ProtocolError
from rs05bench.experiment.cell import make_bench, run_cell
from rs05bench.protocol.atomic import clear_leftovers, hidden_sibling, write_text
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.option_values import OptionValue
from rs05bench.protocol.result import Cell, Result
from rs05bench.protocol.splits import Split


@dataclass(frozen=True)
class OneCell:
    """Which cell of a card is meant.

    Attributes:
        model: Model name.
        split: Split name.
        fold: Fold; default the first.
        budget: Label budget.
        seed: Seed.
        target: Target; default the card's first.
        options: Options of the model.
    """

    model: str
    split: str
    fold: str | None = None
    budget: str = "full"
    seed: int = 0
    target: str | None = None
    options: Mapping[str, OptionValue] = field(default_factory=dict)

    def over(self, card: TaskCard, manifest: SplitManifest) -> Cell:
        """The cell over a card and the manifest of its split.

        Raises:
            DataError: There is no such fold.
        """
        if self.fold is not None and self.fold not in manifest.folds:
            raise DataError(f"no fold {self.fold!r} in {self.split}", source=card.name, remedy=f"There are {', '.join(manifest.folds)}.")
        return Cell(
            task=card.name,
            target=self.target or card.targets[0],
            split=self.split,
            fold=self.fold or manifest.folds[0],
            model=self.model,
            budget=self.budget,
            seed=self.seed,
            options=dict(self.options),
        )


_PIECES = ("result.json", "predictions", "card.yaml", "manifest")


def fit_predict(card: TaskCard, data: str | Path, out: str | Path, asked: OneCell) -> Result:
    """Runs one cell and keeps `result.json`, `predictions/`, and the card and manifest they rest on (`card.yaml`, `manifest/`).

    Args:
        card: The task card.
        data: Folder of the data.
        out: Folder to write to; made where missing.
        asked: The cell.

    Raises:
        DataError: The folder holds a result already, or there is no such fold.
    """
    folder = Path(out)
    clear_leftovers(folder)
    for name in _PIECES:
        if (folder / name).exists():
            raise DataError(f"holds {name} already", source=folder, remedy="Give another folder: results are never overwritten.")
    bench = make_bench(card, data, [asked.split])
    manifest = bench.manifests[Split(asked.split).base]
    cell = asked.over(card, manifest)
    result, predictions = run_cell(bench, cell)
    work = hidden_sibling(folder / "result.json")
    try:
        work.mkdir(parents=True)
        predictions.write(work / "predictions")
        predictions.discard()
        manifest.save(work / "manifest")
        card.save(work / "card.yaml")
        write_text(work / "result.json", result.model_dump_json(exclude_none=True, indent=2) + "\n")
        # All are whole before the first gets its name; the result is last, as in a store.
        for name in reversed(_PIECES):
            (work / name).rename(folder / name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return result


def parse_options(pairs: Iterable[str]) -> dict[str, OptionValue]:
    """`key=value` pairs as a model's options; values are read as JSON where they are, else as text.

    Examples:
        >>> parse_options(["rank=4", "decoder=fpn", "blocks=top4", "learning_rates=[0.001, 0.0001]"])
        {'rank': 4, 'decoder': 'fpn', 'blocks': 'top4', 'learning_rates': [0.001, 0.0001]}

    Raises:
        DataError: Not of that form.
    """
    options: dict[str, OptionValue] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise DataError(f"option {pair!r} is not of the form key=value", remedy="For instance --option rank=4.")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options


def export_cell(card: TaskCard, data: str | Path, out: str | Path, asked: OneCell) -> Path:
    """Writes a chip cell for TerraTorch's own command: the budget's patches as GeoTIFFs, and the configuration that trains on them.

    Pixels that the budget does not show are -1 in the masks, so TerraTorch sees the labels of the cell and no others. What it does
    otherwise than `rs05bench run` stands in the first lines of the configuration.

    Args:
        card: The task card.
        data: Folder of the data.
        out: Folder to write `cell.yaml`, `train/` and `val/` to; must not exist yet.
        asked: The cell, of a deep model.

    Returns:
        The configuration, for `terratorch fit --config`.

    Raises:
        ProtocolError: The cell is no deep cell on chips, or has no validation chip or no label to train or validate on.
        DataError: The folder already exists.
    """
    from rs05bench.datamodules.chip_view import ChipView
    from rs05bench.models import deep
    from rs05bench.models.chip_model import DeepModel
    from rs05bench.models.terratorch_export import export_terratorch, patch_contents

    spec = deep.find(asked.model)
    if spec is None or spec.data != "chips":
        raise ProtocolError(f"{asked.model} on {card.name} is no deep cell on chips, so TerraTorch cannot train it")
    # TerraTorch may be run from anywhere.
    folder = Path(out).absolute()
    if folder.exists():
        raise DataError("already exists", source=folder, remedy="Give a new folder.")
    bench = make_bench(card, data, [asked.split])
    cell = asked.over(card, bench.manifests[Split(asked.split).base])
    made, module = bench.model(cell), bench.data(cell)
    if not (isinstance(module, ChipView) and isinstance(made, DeepModel)):
        raise ProtocolError(f"{asked.model} on {card.name} is no deep cell on chips, so TerraTorch cannot train it")
    module.show_what_is_read(made.card.tier)
    if not module.unit_ids("val"):
        raise ProtocolError(
            f"{cell.split}, fold {cell.fold!r}, {cell.budget}: no validation chip, and TerraTorch's data module needs some",
            remedy="Use a larger budget.",
        )
    names = {"train": folder / "train", "val": folder / "val"}
    text = export_terratorch(made, module, train=names["train"], val=names["val"])
    contents = patch_contents(made, module)
    for role, target in names.items():
        if not module.write_patches(role, target, **contents):
            raise ProtocolError(
                f"{cell.split}, fold {cell.fold!r}, {cell.budget}: no {role} patch shows a label", remedy="Use a larger budget."
            )
    path = folder / "cell.yaml"
    write_text(path, text)
    return path
