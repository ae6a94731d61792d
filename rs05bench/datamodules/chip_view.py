"""What a model is shown of chips under a split and a budget."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader

from rs05bench.datamodules.augment import augment
from rs05bench.datamodules.patches import Batches, BatchOrder, LabelledPatches, Patches, Shown, collate, raster_of
from rs05bench.datamodules.pixels import PixelStore
from rs05bench.datasets.chip_image import IGNORE, ImageFormat
from rs05bench.datasets.chips import ChipDataset
from rs05bench.embeddings.products import EmbeddingProduct
from rs05bench.errors import ProtocolError
from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.hashing import text_digest
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.map_predictions import MOST_VALIDATION_CHIPS, MapPredictions, MapPredictionWriter
from rs05bench.protocol.predictions import RolePredictions, TablePredictions
from rs05bench.protocol.taskdata import PREDICT_ROLES

NO_TEST_LABELS = "a data module has no test labels"
SCORE = "Predict with predict_dataloader, then: rs05bench score PREDICTIONS --manifest M --labels DIR."


@dataclass(frozen=True)
class Loading:
    """How batches are made.

    Attributes:
        batch_size: Patches in a batch.
        num_workers: Loader workers.
        fill: What missing pixels of `image` become. None: they stay NaN for modules that read NaN, and become 0 for any other.
    """

    batch_size: int
    num_workers: int = 0
    fill: float | None = None


@dataclass(frozen=True)
class DrawnFold:
    """A fold under a label budget.

    Attributes:
        manifest: The split.
        split: Its full name.
        fold: The fold.
        budget: The labels in use.
        seed: Seed of the order of batches.
    """

    manifest: SplitManifest
    split: str
    fold: str
    budget: LabelBudget
    seed: int


class ChipView(lightning.LightningDataModule):
    """A fold of a chip task under a label budget: what a model is handed.

    Nothing of it or of its loaders' data sets leads to a label outside the budget: prediction is over images that know no mask, and
    training over a data set of the budget's chips alone. Public data lie on the disk all the same.

    Batches are dicts: `image` float32 (batch, bands, H, W), or (batch, dates, bands, H, W) with several dates, NaN where missing, in the
    files' units; `mask` int64 (batch, H, W), -1 where a pixel has no label or the budget does not show it; `unit_id`; `time` float32
    (batch, dates, 2) year and day of year; `location` float32 (batch, 2) latitude and longitude; `embedding` (batch, dimensions, H, W) as
    the product's codec holds it where tiles of one were given; `extra` float32 (batch, channels, H, W) where a folder of layers was.
    Training shows fixed patches of the card's `preprocessing.patch_size`, the same for every model; prediction shows whole chips without
    masks.

    Args:
        card: The task card.
        drawn: The fold and the labels in use.
        pixels: Pixels of the chips, without masks.
        dataset: Masks; only those of the budget's chips are kept.
        classes: Class names.
        loading: How batches are made.

    Attributes:
        kind: `segmentation`.
        bands: Band names, in channel order.
        scale: The number that stands for a reflectance of 1.
        num_frames: Dates of `image`.
        resolution_m: Pixel size in metres.
        steps: Optimiser steps of every trained tier (rule 4).
        shown: Which rasters a batch holds; switch `embedding` or `extra` off for models that do not read them.
    """

    kind = "segmentation"
    reusable = False
    ignore_index = IGNORE

    def __init__(
        self,
        card: TaskCard,
        drawn: DrawnFold,
        *,
        pixels: PixelStore,
        dataset: ChipDataset,
        classes: tuple[str, ...],
        loading: Loading,
    ) -> None:
        super().__init__()
        self.card, self.manifest, self.fold, self.budget = card, drawn.manifest, drawn.fold, drawn.budget
        self.split, self.seed, self.target, self.classes, self.loading = drawn.split, drawn.seed, card.targets[0], classes, loading
        self._pixels = pixels
        self.labelled = dataset.only([str(unit) for unit in (*drawn.budget.train, *drawn.budget.val)])
        self.bands, self.num_frames = list(pixels.format.bands), pixels.format.dates
        self.scale = 1.0 / pixels.format.scale
        self.resolution_m = pixels.sources.resolution_m
        self.steps, self.batch_size = card.training.steps, loading.batch_size
        self.patch_size = card.preprocessing.patch_size or None
        fill = None if loading.fill is None or np.isnan(loading.fill) else loading.fill
        offset = card.preprocessing.embedding_year_offset
        self.shown = Shown(self.has_embedding, bool(self.layers), offset, fill)

    @property
    def view(self) -> ChipView:
        """Itself."""
        return self

    @property
    def absent(self) -> dict[str, int]:
        """Empty: every chip of the manifest is there."""
        return {}

    def gather(self, predict: Callable[[str], RolePredictions], roles: Sequence[str]) -> MapPredictions:
        """The predicted maps of some roles, written to a temporary folder one by one.

        Args:
            predict: Gives (unit, probabilities) of the chips of a role.
            roles: The roles. Of `val` few chips are kept: they serve the temperature alone.
        """
        folder = Path(tempfile.mkdtemp(prefix="rs05bench-"))
        with MapPredictionWriter(folder, self.classes) as writer:
            for role in roles:
                chips = predict(role)
                if isinstance(chips, TablePredictions):
                    raise ProtocolError(f"{self.card.name} is of chips, and the model predicted rows", remedy="Use a model of chips.")
                for unit, probabilities in islice(chips, MOST_VALIDATION_CHIPS if role == "val" else None):
                    writer.write(unit, role, probabilities, self._pixels.place(unit))
        return MapPredictions.read(folder)

    @property
    def has_embedding(self) -> bool:
        """Whether tiles of an embedding were given."""
        return self._pixels.has_embedding

    @property
    def embedding_product(self) -> EmbeddingProduct:
        """What `embedding` in a batch is of."""
        return self._pixels.sources.product

    @property
    def layers(self) -> list[Any]:
        """Layers for hybrid models, in the order of the channels of `extra`; none where none were given."""
        return list(self._pixels.extra_layers.values())

    @property
    def format(self) -> ImageFormat:
        """How images of this task are read."""
        return self._pixels.format

    def show_what_is_read(self, tier: str) -> None:
        """Leave out of batches what models of a tier do not read: reading an embedding would be part of their cost."""
        self.shown.embedding = self.has_embedding and tier in ("embedding", "hybrid")
        self.shown.extra = bool(self.layers) and tier == "hybrid"

    @property
    def digest(self) -> str:
        """SHA-256 of what a fit sees: the masks of the budget's chips and their images' sizes, under card, manifest and budget."""
        parts = (self.card.digest, self.manifest.digest, self.fold, self.split, self.budget.digest, self.labelled.digest)
        return text_digest("|".join(parts))

    @property
    def folder(self) -> Path:
        """Where the task's files lie, for weights that a card keeps with its data."""
        return self._pixels.sources.root

    def unit_ids(self, role: str) -> list[str]:
        """Chips of a role; of `train` and `val` those of the budget."""
        if role in ("train", "val"):
            return [str(unit) for unit in (self.budget.train if role == "train" else self.budget.val)]
        if role not in PREDICT_ROLES:
            raise ProtocolError(f"no role {role!r}; there are train, {', '.join(PREDICT_ROLES)}")
        rows = self.manifest.fold(self.fold)
        return [str(unit) for unit in rows.loc[rows["role"].astype(str) == role, "unit_id"]]

    def train_dataloader(self) -> DataLoader[Any]:
        """Patches of the budget's training chips, shuffled by the seed; with a fire budget, a batch is one fire, whatever its size."""
        patches = self._labelled("train", self.patch_size)
        groups = None
        if self.budget.name.endswith("-fires") and "fire" in self.card.groups:
            fire = dict(zip(self.manifest.units["unit_id"], self.manifest.units["fire"].astype(str), strict=True))
            groups = [fire[unit] for unit, *_ in patches.items]
        order = BatchOrder(patches, self.seed, self.batch_size, groups)
        return DataLoader(Batches(patches), batch_size=None, sampler=order, **self._workers())

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Patches of the budget's validation chips; empty where the budget leaves none."""
        if not len(self.budget.val):
            return []
        return DataLoader(self._labelled("val", self.patch_size), self.batch_size, collate_fn=collate, **self._workers())

    def predict_dataloader(self, role: str | None = None) -> Any:
        """Whole chips of a role without masks, one a batch; without a role a loader for `test_id` and one for `test_ood`."""
        if role is None:
            return [self.predict_dataloader(name) for name in ("test_id", "test_ood")]
        chips = Patches(self._pixels, self.unit_ids(role), None, self.shown)
        return DataLoader(chips, batch_size=1, num_workers=self.loading.num_workers, collate_fn=collate, generator=torch.Generator())

    def test_dataloader(self) -> DataLoader[Any]:
        """Not there: labels of test chips are never shown.

        Raises:
            ProtocolError: Always.
        """
        raise ProtocolError(NO_TEST_LABELS, remedy=SCORE)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """What a batch goes through on its device.

        Missing pixels become 0 for modules that do not say that they read NaN (`reads_missing`). Training batches are augmented as the
        card declares: image, embedding and mask turn together; tiers that leave their encoder alone (`encoder_frozen`) are shown the
        pixels as they are.
        """
        trainer = self.trainer
        if not isinstance(batch, dict) or "image" not in batch or trainer is None:
            return batch
        batch = self._filled(batch, trainer.lightning_module)
        if "mask" not in batch or not trainer.training:
            return batch
        if not len(self.budget.val):
            _expect_no_validation(trainer)
        if getattr(trainer.lightning_module, "encoder_frozen", False):
            return batch
        return augment(batch, self.card.training.augmentation)

    def labelled_pixels(self) -> dict[str, int]:
        """Labelled pixels that the budget shows, in training and in validation chips."""
        roles = {role: self._labelled(role, None) for role in ("train", "val")}
        return {role: sum(int((chips[at]["mask"] != IGNORE).sum()) for at in range(len(chips))) for role, chips in roles.items()}

    def write_patches(
        self, role: str, folder: Path, *, parts: Sequence[str] = ("image",), fill: Sequence[float] | None = None
    ) -> list[Path]:
        """Writes the patches of a training role as pairs of GeoTIFFs, for programs that read no data module.

        `<unit>_<number>_merged.tif` holds rasters of a batch one after another in float32: `image` (dates after one another), `embedding`
        decoded, `extra`, and `time` and `location` the same in every pixel. `<unit>_<number>.mask.tif` holds the labels that the budget
        shows, -1 elsewhere. A patch without a label is left out: nothing is learnt from it, and a mean over its labels is no number.

        Args:
            role: `train` or `val`.
            folder: Where to; made where missing.
            parts: Which rasters, in this order.
            fill: What missing pixels of `image` become, a number a band; they stay NaN where None.

        Returns:
            The files, an image and its mask after one another; none where the role shows no label.
        """
        import rasterio

        folder.mkdir(parents=True, exist_ok=True)
        patches = self._labelled(role, self.patch_size)
        written = []
        for number, (unit, rows, columns) in enumerate(patches.items):
            patch = patches[number]
            mask = patch["mask"].numpy().astype(np.int16)[None]
            if (mask == IGNORE).all():
                continue
            pixels = np.concatenate([raster_of(patch, part, fill, self.embedding_product) for part in parts])
            grid = self._pixels.place(unit).part(rows.start, columns.start, *pixels.shape[1:])
            profile = {"driver": "GTiff", "height": pixels.shape[1], "width": pixels.shape[2], "crs": grid.crs, "compress": "deflate"}
            stem = folder / f"{unit}_{number:05d}"
            for path, bands in ((f"{stem}_merged.tif", pixels), (f"{stem}.mask.tif", mask)):
                with rasterio.open(path, "w", count=len(bands), dtype=bands.dtype, transform=grid.affine, **profile) as target:
                    target.write(bands)
                written.append(Path(path))
        return written

    def _labelled(self, role: str, patch: int | None) -> LabelledPatches:
        return LabelledPatches(self._pixels, self.unit_ids(role), patch, self.shown, self.labelled, self.budget)

    def _workers(self) -> dict[str, Any]:
        """How batches are made; workers live on between passes, with the chips they have open.

        A generator of its own keeps the loader from drawing on torch's global one, on which dropout and augmentation depend.
        """
        workers = self.loading.num_workers
        return {"num_workers": workers, "persistent_workers": workers > 0, "generator": torch.Generator()}

    def _filled(self, batch: dict[str, Any], module: Any) -> dict[str, Any]:
        if getattr(module, "reads_missing", False) or not torch.isnan(batch["image"]).any():
            return batch
        name = type(module).__name__
        if self.loading.fill is not None:  # NaN was asked for
            warnings.warn(
                f"fill=nan: batches hold missing pixels (NaN), and {name} does not say that it reads them (reads_missing = True); "
                "its loss will be NaN unless it does",
                stacklevel=2,
            )
            return batch
        warnings.warn(
            f"missing pixels (NaN) are 0 in what {name} is shown; set reads_missing = True on a module that reads NaN, or give fill=",
            stacklevel=2,
        )
        return {**batch, "image": torch.nan_to_num(batch["image"], nan=0.0)}


def _expect_no_validation(trainer: lightning.Trainer) -> None:
    """Schedulers that wait for a validation loss keep their rate where a budget has no validation unit; Lightning would stop the fit."""
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau and config.strict:
            config.strict = False
            warnings.warn(
                f"the budget has no validation unit, so the scheduler that waits for {config.monitor!r} keeps its learning rate",
                stacklevel=2,
            )
