"""Chips with masks as the source of a task: units, labels for the scorer, pixels and embeddings for models."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.datamodules.pixels import PixelSources, PixelStore
from rs05bench.datasets.chip_units import Layers, chip_unit_table, layers_of, open_chip_dataset
from rs05bench.embeddings.products import DEFAULT, DEFAULT_FAMILY, EmbeddingProduct, product
from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.geodesy import pixel_metres
from rs05bench.protocol.pixel_grid import Grid
from rs05bench.protocol.preprocessing import LayerFolder
from rs05bench.protocol.scored_labels import MaskLabels
from rs05bench.protocol.splits import Split
from rs05bench.protocol.units import UnitTable

READERS = {"burn-scars": "burn-scar.yaml", "crop-chips": "crop.yaml"}


def chip_card(reader: str, root: str | Path, layers: Collection[str] | None = None) -> TaskCard:
    """The card shipped for a chip data set, with the groups that layers add and whether the files are simulated.

    Args:
        reader: `burn-scars` or `crop-chips`.
        root: Where the files lie.
        layers: Names of the group columns that polygon layers add.
    """
    card = TaskCard.load(Path(__file__).parent / "cards" / READERS[reader])
    added = [name for name in layers or () if name not in card.groups]
    here = Path(root)
    simulated = any((folder / "SIMULATED.json").is_file() for folder in (here, here.parent))
    return card.model_copy(
        update={
            "groups": [*card.groups, *added],
            "splits": [*card.splits, *(f"leave-{name.replace('_', '-')}-out" for name in added)],
            "simulated": simulated,
            "source": "rs05bench.datasets.simulated" if simulated else card.source,
        }
    )


def open_chips(card: TaskCard, data_dir: str | Path) -> ChipSource:
    """Opens chips as a card says: `preprocessing` may name their `folder`, `layers` and `embeddings`, relative to the data directory.

    `layers: {biome: [regions/regions.gpkg, biome]}` is name -> file and column; `extra: layers` is a folder of layers for hybrid models
    (`rs05bench layers`), or `extra: {folder: layers, only: [dem, road]}`.
    """
    root = Path(data_dir)
    said = card.preprocessing
    embeddings = root / said.embeddings if said.embeddings else None
    extra = _extra_folder(root, said.extra)
    return ChipSource(root / said.folder, card, layers=layers_of(card, root), embeddings=embeddings, extra=extra)


def _extra_folder(root: Path, said: str | LayerFolder | None) -> tuple[Path, tuple[str, ...] | None] | None:
    if not said:
        return None
    if isinstance(said, LayerFolder):
        return root / said.folder, tuple(said.only) or None
    return root / said, None


def layers_beside(root: str | Path, reader: str, split: str) -> dict[str, tuple[Path, str]]:
    """The polygon layer that a split's group needs, where a file `regions.gpkg` lies in the data's folder, or in `regions/` beside it.

    Args:
        root: Where the chips lie.
        reader: `burn-scars` or `crop-chips`.
        split: Split name; its group is the column's name.

    Returns:
        name -> (file, column); empty where the shipped card knows the group, or there is no such file or column.
    """
    group = Split(split).group
    if group is None or chip_card(reader, root).group_column(group) is not None:
        return {}
    column, here = group.replace("-", "_"), Path(root)
    for file in (here / "regions.gpkg", here.parent / "regions" / "regions.gpkg"):
        if file.is_file():
            import pyogrio

            if column in pyogrio.read_info(file)["fields"]:
                return {column: (file, column)}
    return {}


def simulated_chip_cards(root: str | Path) -> dict[str, TaskCard]:
    """Cards over the chips that `rs05bench simulate` wrote, by name; small schedules, so that they run on two cores.

    Args:
        root: The folder given to `simulate`; use it as the cards' data directory.
    """
    layers = {name: ["regions/regions.gpkg", name] for name in ("ecoregion", "biome")}
    cards = {}
    for reader, folder, extra in (("burn-scars", "hls_burn_scars", layers), ("crop-chips", "crop_chips", {})):
        card = chip_card(reader, Path(root) / folder, extra)
        card = card.with_preprocessing(folder=folder, layers=extra, embeddings=DEFAULT_FAMILY, patch_size=128)
        training = card.training.model_copy(update={"steps": 40, "val_every": 10})
        cards[card.name] = card.model_copy(update={"training": training})
    return cards


def embedding_of(card: TaskCard) -> EmbeddingProduct:
    """The embedding product of a chip task: `preprocessing: {embedding_product: NAME}` of its card, else the default one."""
    return product(card.preprocessing.embedding_product or DEFAULT)


class ChipSource:
    """A chip data set under a task card.

    Args:
        root: Where the files lie.
        card: The task card; its `reader` says which data set.
        layers: Further group columns: name -> (polygon layer, column).
        embeddings: Tiles of an embedding (a folder, files, addresses, a store or a published index); None where models need none. Which
            product they hold is `preprocessing: {embedding_product: ..}` of the card, by default the default product.
        extra: A folder of layers for hybrid models, and which of them (None takes all).

    Attributes:
        dataset: Images and masks of all chips.
        pixels: The same chips without their masks: images, embeddings, layers.

    Raises:
        DataError: The files are not what the reader expects.
    """

    def __init__(
        self,
        root: str | Path,
        card: TaskCard,
        *,
        layers: Layers | None = None,
        embeddings: Any | None = None,
        extra: tuple[Path, tuple[str, ...] | None] | None = None,
    ) -> None:
        self.card, self.root = card, Path(root)
        self.layers = dict(layers or {})
        self.dataset = open_chip_dataset(card, self.root, self.layers, fill=float("nan"))
        images = {unit_id: self.dataset.image(unit_id) for unit_id in self.dataset.unit_ids}
        sources = PixelSources(card.name, self.root, self.dataset.native_resolution, embeddings, extra, embedding_of(card))
        self.pixels = PixelStore(images, self.dataset.format, sources)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of mask values."""
        return tuple(self.card.classes or self.dataset.classes)

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The data set's own table of units, with what the protocol does not need (burn fraction, dates)."""
        return pd.DataFrame(self.dataset.units().drop(columns="geometry"))

    def units(self) -> UnitTable:
        """The chips as units."""
        return self._units

    @functools.cached_property
    def _units(self) -> UnitTable:
        return chip_unit_table(self.card, self.frame, source=str(self.root))

    def labels(self, target: str) -> pd.Series:
        """Share of labelled pixels of each chip, indexed by `unit_id`; a chip without any counts as unlabelled.

        What a budget counts is chips, fires or pixels, so this only says whether there is a label at all.
        """
        if target not in self.card.targets:
            raise DataError(f"no target {target!r} (there is {self.card.targets})", source=self.card.name)
        shares = self.frame.set_index("unit_id")
        if "labelled_fraction" not in shares.columns:
            return pd.Series(1.0, index=shares.index)
        return shares["labelled_fraction"].where(shares["labelled_fraction"] > 0)

    def scored(self, target: str) -> MaskLabels:
        """What predicted maps are scored with."""
        return MaskLabels.of(self.card, self.classes, self.read_labels)

    def features(self, name: str) -> tuple[list[str], NDArray[np.float32]]:
        """Not for chips: models read them through the data module.

        Raises:
            ProtocolError: Always.
        """
        raise ProtocolError(
            f"{self.card.name} holds chips, not a table: no feature set {name!r}", remedy="Use a model for chips, e.g. raw/unet."
        )

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over ids, the bytes of every mask, and the size of every image."""
        return self.dataset.digest

    def read_labels(self, unit_id: str) -> tuple[NDArray[np.int16], tuple[float, float]]:
        """What is scored of a chip: labels (H, W) with -1 elsewhere, and the size of a pixel in metres."""
        labels = self.dataset.read(unit_id).labels
        grid = self.place(unit_id)
        return labels, pixel_metres(grid.crs, grid.affine, len(labels))

    def place(self, unit_id: str) -> Grid:
        """Where the pixels of a chip are."""
        return self.pixels.place(unit_id)
