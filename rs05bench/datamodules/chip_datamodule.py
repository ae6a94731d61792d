"""Lightning data modules over chips with masks: burn scars, crops, and a folder of yours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, TypedDict, Unpack

from torch.utils.data import DataLoader

from rs05bench.datamodules.chip_view import ChipView, DrawnFold, Loading
from rs05bench.datamodules.chipsource import ChipSource, Layers, chip_card, layers_beside, open_chips
from rs05bench.datamodules.data_module import Opened, ProtocolDataModule
from rs05bench.datasets.files import refuse_unknown
from rs05bench.errors import DataError
from rs05bench.protocol.audit import with_published_verdict
from rs05bench.protocol.budget import LabelBudget, draw_budget
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import SplitManifest, build_manifest, open_manifest
from rs05bench.protocol.splits import Split


class ChipReading(TypedDict, total=False):
    """What is read with chips, and how batches are made: keywords of `ChipDataModule`, described there."""

    card: TaskCard | str | Path | None
    layers: Layers | None
    embeddings: Any | None
    extra: str | Path | None
    batch_size: int | None
    num_workers: int


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
        **reading: `card` of your own, or its file, default the one shipped; `layers`, further group columns: name -> (polygon layer,
            column), default what `layers_beside` finds for the split; `embeddings`, tiles of one for models that read them, see
            `ChipSource`; `extra`, a folder of layers (`rs05bench layers`) for hybrid models; `batch_size`, patches a
            batch, default the card's;
            `num_workers` of the loaders.

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
        **reading: Unpack[ChipReading],
    ) -> None:
        refuse_unknown(reading, ChipReading)
        self.reading = reading
        self.root = root.root if isinstance(root, ChipSource) else Path(root)
        super().__init__(split, fold, budget, seed, root=self.root, manifest=manifest, fill=fill, **reading)
        self._open_source, self._manifest = root if isinstance(root, ChipSource) else None, manifest
        self.num_workers, self.fill = reading.get("num_workers", 0), fill

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
            loading=Loading(self.reading.get("batch_size") or card.training.batch_size, self.num_workers, self.fill),
        )
        return Opened(source, manifest, view)

    def _read(self) -> ChipSource:
        card, layers, extra = (self.reading.get("card"), self.reading.get("layers"), self.reading.get("extra"))
        given = TaskCard.load(card) if isinstance(card, str | Path) else card
        if given is not None and given.reader == "chips":  # everything else stands in the card
            return open_chips(given, self.root)
        if given is None and layers is None:
            layers = layers_beside(self.root, self.reader, self.split)
        folder = None if extra is None else (Path(extra), None)
        own = given or chip_card(self.reader, self.root, layers)
        return ChipSource(self.root, own, layers=layers, embeddings=self.reading.get("embeddings"), extra=folder)

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
    def digest(self) -> str:
        """SHA-256 of what a fit sees: card, manifest, fold, split, budget and labelled units."""
        return self.view.digest

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
