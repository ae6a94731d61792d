"""Lightning data modules over chips with masks: burn scars, crops, and a folder of yours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch.utils.data import DataLoader

from rs05bench.datamodules.chip_view import ChipView, DrawnFold, Loading
from rs05bench.datamodules.chipsource import ChipSource, Layers, chip_card, layers_beside, open_chips
from rs05bench.datamodules.data_module import Opened, ProtocolDataModule
from rs05bench.errors import DataError
from rs05bench.protocol.audit import with_published_verdict
from rs05bench.protocol.budget import LabelBudget, draw_budget
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import SplitManifest, build_manifest, open_manifest
from rs05bench.protocol.splits import Split


@dataclass(frozen=True)
class ChipReading:
    """What is read with chips, and how batches are made.

    Attributes:
        card: A card of your own, or its file; default the one shipped.
        layers: Further group columns: name -> (polygon layer, column); default what `layers_beside` finds for the split.
        embeddings: Tiles of an embedding for models that read them, see `ChipSource`.
        extra: Folder of layers (`rs05bench layers`) for hybrid models.
        batch_size: Patches a batch; default the card's.
        num_workers: Loader workers.
    """

    card: TaskCard | str | Path | None = None
    layers: Layers | None = None
    embeddings: Any | None = None
    extra: str | Path | None = None
    batch_size: int | None = None
    num_workers: int = 0


class ChipDataModule(ProtocolDataModule[ChipView, ChipSource]):
    """Shows a fold of a chip task under a label budget.

    `ChipView` says what batches hold and what a model is handed (`dm.view`).

    Args:
        root: Where the files are, or files that are open already.
        split: Split name.
        fold: Fold name; default the first.
        budget: Budget name.
        seed: Seed of the budget's draw and of the order of batches.
        manifest: A frozen manifest over the same chips, its file, or the name of a shipped one; default it is built from the files.
        fill: What missing pixels of `image` become. Default: NaN for our models, which read it as missing, and 0 for any other module.
        reading: What is read with the chips, and how batches are made.

    Raises:
        DataError: The manifest is of another task or split, or over other chips.
    """

    reader: ClassVar[str]
    kind: ClassVar[Literal["segmentation"]] = "segmentation"

    def __init__(
        self,
        root: str | Path | ChipSource,
        split: str,
        fold: str | None = None,
        budget: str = "full",
        seed: int = 0,
        *,
        manifest: SplitManifest | str | Path | None = None,
        fill: float | None = None,
        reading: ChipReading | None = None,
    ) -> None:
        self.reading = reading or ChipReading()
        self.root = root.root if isinstance(root, ChipSource) else Path(root)
        super().__init__(split, fold, budget, seed, root=self.root, manifest=manifest, fill=fill, **vars(self.reading))
        self._open_source, self._manifest = root if isinstance(root, ChipSource) else None, manifest
        self.num_workers, self.fill = self.reading.num_workers, fill

    def _open(self) -> Opened[ChipView, ChipSource]:
        source = self._open_source or self._read()
        card = source.card
        if self._manifest is None:
            manifest = with_published_verdict(build_manifest(card, source.units(), self.split))
        else:
            manifest = _frozen(self._manifest, source, self.split)
        fold = self._fold or manifest.folds[0]
        labels = dict(source.labels(card.targets[0]))
        budget = draw_budget(card, manifest, fold, self._budget, self.seed, labels, split=self.split)
        view = ChipView(
            card,
            DrawnFold(manifest, self.split, fold, budget, self.seed),
            pixels=source.pixels,
            dataset=source.dataset,
            classes=source.classes,
            loading=Loading(self.reading.batch_size or card.training.batch_size, self.num_workers, self.fill),
        )
        return Opened(source, manifest, view)

    def _read(self) -> ChipSource:
        how = self.reading
        given = TaskCard.load(how.card) if isinstance(how.card, str | Path) else how.card
        if given is not None and given.reader == "chips":  # everything else stands in the card
            return open_chips(given, self.root)
        layers = layers_beside(self.root, self.reader, self.split) if given is None and how.layers is None else how.layers
        folder = None if how.extra is None else (Path(how.extra), None)
        own = given or chip_card(self.reader, self.root, layers)
        return ChipSource(self.root, own, layers=layers, embeddings=how.embeddings, extra=folder)

    @property
    def budget(self) -> LabelBudget:
        """The labels in use."""
        return self.view.budget

    @property
    def steps(self) -> int:
        """Optimiser steps of every trained tier (rule 4): the card's, unless set otherwise."""
        return self.view.steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self.view.steps = steps

    @property
    def target(self) -> str:
        """The target."""
        return self.view.target

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of mask values."""
        return self.view.classes

    @property
    def bands(self) -> list[str]:
        """Band names, in channel order."""
        return self.view.bands

    @property
    def scale(self) -> float:
        """The number that stands for a reflectance of 1."""
        return self.view.scale

    @property
    def num_frames(self) -> int:
        """Dates of `image`."""
        return self.view.num_frames

    @property
    def patch_size(self) -> int | None:
        """Side of a training patch in pixels; None where chips are shown whole."""
        return self.view.patch_size

    @property
    def resolution_m(self) -> float:
        """Pixel size in metres."""
        return self.view.resolution_m

    @property
    def batch_size(self) -> int:
        """Patches a batch."""
        return self.view.batch_size

    def unit_ids(self, role: str) -> list[str]:
        """Chips of a role; of `train` and `val` those of the budget."""
        return self.view.unit_ids(role)

    def train_dataloader(self) -> DataLoader[Any]:
        """See `ChipView.train_dataloader`."""
        return self.view.train_dataloader()

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """See `ChipView.val_dataloader`."""
        return self.view.val_dataloader()

    def predict_dataloader(self, role: str | None = None) -> Any:
        """See `ChipView.predict_dataloader`."""
        return self.view.predict_dataloader(role)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """See `ChipView.on_after_batch_transfer`."""
        self.view.trainer = self.trainer
        return self.view.on_after_batch_transfer(batch, dataloader_idx)

    def plot(self, sample: dict[str, Any], show_titles: bool = True, suptitle: str | None = None) -> Any:
        """Draws a sample of a batch as the data set draws chips; TorchGeo's tasks call it for their logger.

        Args:
            sample: `image` and `mask`, and perhaps `prediction`, of one patch.
            show_titles: Titles over the panels.
            suptitle: Title over all.

        Returns:
            A matplotlib Figure.
        """
        return self.source.dataset.plot(sample, show_titles, suptitle)


def _frozen(given: SplitManifest | str | Path, source: ChipSource, split: str) -> SplitManifest:
    """A manifest that was given, once it is known to be one of this split over these chips."""
    manifest = given if isinstance(given, SplitManifest) else open_manifest(given)
    if manifest.task != source.card.name:
        raise DataError(f"is of the task {manifest.task!r}", source=manifest.name, remedy=f"Give a manifest of {source.card.name!r}.")
    if manifest.split != Split(split).base:
        raise DataError(f"is of the split {manifest.split!r}, and {split!r} was asked for", source=manifest.name)
    known, there = set(manifest.units["unit_id"]), set(source.dataset.unit_ids)
    if known != there:
        example = min(known ^ there)
        raise DataError(
            f"is over other chips: of its {len(known)} chips {len(known & there)} are in {source.root}, which holds {len(there)}; "
            f"{example!r} is in one of them alone",
            source=manifest.name,
            remedy="Complete the copy of the data, or leave the manifest out: the split is then built from the chips that are there.",
        )
    return manifest


class BurnScarDataModule(ChipDataModule):
    """Burn scars on HLS chips; see `ChipDataModule`."""

    reader = "burn-scars"


class CropDataModule(ChipDataModule):
    """Crops on multi-temporal HLS chips; see `ChipDataModule`."""

    reader = "crop-chips"
