"""Lightning data modules over chips with masks: burn scars and crops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from rs05bench.datamodules.chipsource import ChipSource, Layers, chip_card, layers_beside
from rs05bench.errors import ProtocolError
from rs05bench.protocol.audit import with_published_verdict
from rs05bench.protocol.budget import LabelBudget, draw_budget
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.hashing import hash_unit
from rs05bench.protocol.manifest import SplitManifest, build_manifest
from rs05bench.protocol.taskdata import PREDICT_ROLES

IGNORE = -1


class ChipDataModule(lightning.LightningDataModule):
    """Shows a fold of a chip task under a label budget.

    Batches are dicts: `image` float32 (batch, bands, H, W), or (batch, dates, bands, H, W) with several dates, NaN where missing, in the
    files' units; `mask` int64 (batch, H, W), -1 where a pixel has no label or the budget does not show it; `unit_id`; `time` float32
    (batch, dates, 2) year and day of year; `location` float32 (batch, 2) latitude and longitude; `embedding` int8 (batch, 64, H, W) where
    AlphaEarth tiles were given; `extra` float32 (batch, channels, H, W) where a folder of layers was. Training shows fixed patches of the
    card's `preprocessing.patch_size`, the same for every model; prediction
    shows whole chips without masks.

    Args:
        root: Where the files lie.
        split: Split name.
        fold: Fold name; default the first.
        budget: Budget name.
        seed: Seed of the budget's draw and of the order of batches.
        card: A card of your own; default the one shipped.
        manifest: A frozen manifest; default it is built from the files.
        layers: Further group columns: name -> (polygon layer, column); default what `layers_beside` finds for the split.
        embeddings: AlphaEarth tiles for models that read them.
        extra: Folder of layers (`rs05bench layers`) for hybrid models.
        batch_size: Patches a batch; default the card's.
        num_workers: Loader workers.
        fill: What missing pixels of `image` become; NaN, which our models read as missing, or a number for models of others.
        source: Files already open (the arguments above that open them are then not used).

    Attributes:
        kind: `segmentation`.
        classes: Class names.
        bands: Band names, in channel order.
        scale: The number that stands for a reflectance of 1.
        num_frames: Dates of `image`.
        steps: Optimiser steps of every trained tier (rule 4).
        view: What a model is shown: this data module.
        show_embedding: Whether batches hold `embedding`; switch it off for models that do not read it.
        show_extra: The same for `extra`.
    """

    reader: ClassVar[str]
    kind = "segmentation"
    ignore_index = IGNORE

    def __init__(
        self,
        root: str | Path,
        split: str,
        fold: str | None = None,
        budget: str = "full",
        seed: int = 0,
        *,
        card: TaskCard | str | Path | None = None,
        manifest: SplitManifest | None = None,
        layers: Layers | None = None,
        embeddings: Any | None = None,
        extra: str | Path | None = None,
        batch_size: int | None = None,
        num_workers: int = 0,
        fill: float = float("nan"),
        source: ChipSource | None = None,
    ) -> None:
        super().__init__()
        if source is None:
            given = TaskCard.load(card) if isinstance(card, (str, Path)) else card
            if given is None and layers is None:
                layers = layers_beside(root, self.reader, split)
            folder = None if extra is None else (Path(extra), None)
            own = given or chip_card(self.reader, root, layers)
            source = ChipSource(root, own, layers=layers, embeddings=embeddings, extra=folder)
        self.source = source
        self.card = source.card
        self.manifest = manifest or with_published_verdict(build_manifest(self.card, source.units(), split))
        self.split, self.seed = split, seed
        self.fold = fold or self.manifest.folds[0]
        self.target = self.card.targets[0]
        self.budget: LabelBudget = draw_budget(
            self.card, self.manifest, self.fold, budget, seed, dict(source.labels(self.target)), split=split
        )
        self.classes = source.classes
        self.bands = list(source.dataset.bands)
        self.scale = 1.0 / source.dataset.scale
        self.num_frames = source.dataset.dates
        self.resolution_m = source.dataset.native_resolution
        self.steps = self.card.training.steps
        self.batch_size = batch_size or self.card.training.batch_size
        self.num_workers, self.fill = num_workers, fill
        self.show_embedding = source.embeddings is not None
        self.show_extra = bool(source.extra_layers)
        self.patch_size = int(self.card.preprocessing.get("patch_size", 0)) or None

    @property
    def view(self) -> ChipDataModule:
        """What a model is shown."""
        return self

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
        patches = _Patches(self, self.unit_ids("train"), self.patch_size, labels=True)
        if self.budget.name.endswith("-fires") and "fire" in self.card.groups:
            fire = dict(zip(self.manifest.units["unit_id"], self.manifest.units["fire"].astype(str), strict=True))
            batches = _FireBatches([fire[unit] for unit, *_ in patches.items], self.seed)
            return DataLoader(patches, batch_sampler=batches, **self._workers())
        order = torch.Generator().manual_seed(hash_unit("order", self.seed) % 2**31)
        return DataLoader(patches, batch_size=self.batch_size, shuffle=True, generator=order, **self._workers())

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Patches of the budget's validation chips; empty where the budget leaves none."""
        units = self.unit_ids("val")
        if not units:
            return []
        patches = _Patches(self, units, self.patch_size, labels=True)
        return DataLoader(patches, batch_size=self.batch_size, **self._workers())

    def _workers(self) -> dict[str, Any]:
        """How batches are made; workers live on between passes, with the chips they have open."""
        return {"num_workers": self.num_workers, "persistent_workers": self.num_workers > 0, "collate_fn": _collate}

    def labelled_pixels(self) -> dict[str, int]:
        """Labelled pixels that the budget shows, in training and in validation chips."""
        counted = {}
        for role in ("train", "val"):
            loader = DataLoader(_Patches(self, self.unit_ids(role), None, labels=True), None)
            counted[role] = sum(int((chip["mask"] != IGNORE).sum()) for chip in loader)
        return counted

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
        from rasterio.windows import Window
        from rasterio.windows import transform as transform_of

        folder.mkdir(parents=True, exist_ok=True)
        patches = _Patches(self, self.unit_ids(role), self.patch_size, labels=True)
        written = []
        for number, (unit, rows, columns) in enumerate(patches.items):
            patch = patches[number]
            mask = patch["mask"].numpy().astype(np.int16)[None]
            if (mask == IGNORE).all():
                continue
            pixels = np.concatenate([_raster(patch, part, fill) for part in parts])
            crs, place = self.source.place(unit)
            profile = {"driver": "GTiff", "height": pixels.shape[1], "width": pixels.shape[2], "crs": crs, "compress": "deflate"}
            window = Window(columns.start, rows.start, pixels.shape[2], pixels.shape[1])
            stem = folder / f"{unit}_{number:05d}"
            for path, bands in ((f"{stem}_merged.tif", pixels), (f"{stem}.mask.tif", mask)):
                with rasterio.open(
                    path, "w", count=len(bands), dtype=bands.dtype, transform=transform_of(window, place), **profile
                ) as target:
                    target.write(bands)
                written.append(Path(path))
        return written

    def test_dataloader(self) -> DataLoader[Any]:
        """Not there: labels of test chips are never shown.

        Raises:
            ProtocolError: Always.
        """
        raise ProtocolError(
            "a data module has no test labels",
            remedy="Predict with predict_dataloader, then: rs05bench score PREDICTIONS --manifest M --labels DIR.",
        )

    def predict_dataloader(self, role: str | None = None) -> Any:
        """Whole chips of a role without masks, one a batch; without a role a loader for `test_id` and one for `test_ood`."""
        if role is None:
            return [self.predict_dataloader(name) for name in ("test_id", "test_ood")]
        chips = _Patches(self, self.unit_ids(role), None, labels=False)
        return DataLoader(chips, batch_size=1, num_workers=self.num_workers, collate_fn=_collate)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augments training batches on their device, as the card declares: image, embedding and mask turn together.

        Tiers that leave their encoder alone (`encoder_frozen` of the LightningModule) are shown the pixels as they are.
        """
        trainer = self.trainer
        if not isinstance(batch, dict) or "mask" not in batch or trainer is None or not trainer.training:
            return batch
        if getattr(trainer.lightning_module, "encoder_frozen", False):
            return batch
        return augment(batch, self.card.training.augmentation)


class BurnScarDataModule(ChipDataModule):
    """Burn scars on HLS chips; see `ChipDataModule`."""

    reader = "burn-scars"


class CropDataModule(ChipDataModule):
    """Crops on multi-temporal HLS chips; see `ChipDataModule`."""

    reader = "crop-chips"


def augment(batch: dict[str, Any], operations: list[str]) -> dict[str, Any]:
    """Random flips and quarter turns of a batch with kornia, the same for all its rasters.

    Args:
        batch: A training batch.
        operations: Among `hflip`, `vflip`, `rot90`.

    Raises:
        ProtocolError: An operation the package does not know.
    """
    known = {"hflip", "vflip", "rot90"}
    if unknown := sorted(set(operations) - known):
        raise ProtocolError(f"augmentation {unknown} is unknown (known: {sorted(known)})")
    if not operations:
        return batch
    from kornia import augmentation as kornia

    steps = {
        "hflip": kornia.RandomHorizontalFlip(p=0.5),
        "vflip": kornia.RandomVerticalFlip(p=0.5),
        # Nearest and whole quarter turns move pixels and change none: NaN and -1 arrive as they were.
        "rot90": kornia.RandomRotation90((0, 3), resample="nearest", p=1.0),
    }
    rasters = [name for name in ("image", "embedding", "extra", "mask") if name in batch]
    planes = [_planes(batch[name]) for name in rasters]
    turned = torch.cat(planes, dim=1)
    if turned.shape[-1] != turned.shape[-2]:
        operations = [name for name in operations if name != "rot90"]
    for name in operations:
        turned = steps[name](turned)
    out = dict(batch)
    for name, plane in zip(rasters, turned.split([plane.shape[1] for plane in planes], dim=1), strict=True):
        out[name] = plane.reshape(*batch[name].shape[:-2], *plane.shape[-2:]).to(batch[name].dtype)
    return out


def _raster(patch: dict[str, Any], part: str, fill: Sequence[float] | None) -> NDArray[np.float32]:
    """A raster of a patch as float32 (channels, H, W)."""
    values = patch[part]
    if part == "embedding":
        from rs05bench.embeddings import decode

        return np.asarray(decode(values.numpy()), dtype=np.float32)
    if part in ("time", "location"):
        return np.broadcast_to(values.reshape(-1, 1, 1).numpy(), (values.numel(), *patch["mask"].shape))
    if part == "image" and fill is not None:
        values = torch.where(values.isnan(), torch.tensor(fill, dtype=values.dtype).view(-1, 1, 1), values)
    return values.flatten(0, -3).numpy().astype(np.float32)


def _planes(values: Tensor) -> Tensor:
    return values.reshape(values.shape[0], -1, *values.shape[-2:]).float()


class _Patches(Dataset[dict[str, Any]]):
    """Fixed patches of chips, or whole chips."""

    def __init__(self, module: ChipDataModule, units: list[str], patch: int | None, *, labels: bool) -> None:
        self.source, self.budget, self.labels, self.fill = module.source, module.budget, labels, module.fill
        self.show_embedding, self.show_extra = module.show_embedding, module.show_extra
        self.year_offset = int(module.card.preprocessing.get("embedding_year_offset", 0))
        self._hidden: dict[str, Tensor] = {}
        self.items: list[tuple[str, slice, slice]] = []
        for unit in units:
            height, width = self.source.size(unit)
            self.items += [(unit, rows, columns) for rows in _cuts(height, patch) for columns in _cuts(width, patch)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        unit, rows, columns = self.items[index]
        chip = self.source.chip(unit, keep=self.labels)
        image = chip["image"][..., rows, columns]
        shown: dict[str, Any] = {
            "image": image if np.isnan(self.fill) else torch.nan_to_num(image, nan=self.fill),
            "time": chip["time"],
            "location": chip["location"],
        }
        if self.show_embedding:
            year = int(chip["time"][-1, 0]) + self.year_offset
            shown["embedding"] = torch.from_numpy(np.array(self.source.embedding(unit, year)[:, rows, columns]))
        if self.show_extra:
            shown["extra"] = torch.from_numpy(np.array(self.source.extra(unit)[:, rows, columns]))
        if self.labels:
            shown["mask"] = self._mask(unit, chip["mask"], rows, columns)
        return shown | {"unit_id": unit}

    def _mask(self, unit: str, mask: Tensor, rows: slice, columns: slice) -> Tensor:
        cut = mask[rows, columns].long()
        if self.budget.pixel_fraction < 1.0:
            if unit not in self._hidden:
                self._hidden[unit] = torch.from_numpy(~self.budget.pixel_mask(unit, *mask.shape))
            cut[self._hidden[unit][rows, columns]] = IGNORE
        return cut


class _FireBatches(Sampler[list[int]]):
    """All patches of a fire as one batch, fires in a new order each pass.

    Models take a batch larger than `batch_size` in parts, in one step of the optimiser. `whole` tells readers that keep what they saw not
    to mix them later.
    """

    whole = True

    def __init__(self, fires: list[str], seed: int) -> None:
        self.by_fire: dict[str, list[int]] = {}
        for index, fire in enumerate(fires):
            self.by_fire.setdefault(fire, []).append(index)
        self.seed, self.passes = seed, 0

    def __len__(self) -> int:
        return len(self.by_fire)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.passes])
        self.passes += 1
        fires = sorted(self.by_fire)
        for position in rng.permutation(len(fires)):
            yield self.by_fire[fires[int(position)]]


def _cuts(length: int, patch: int | None) -> list[slice]:
    """Slices that cover a side in patches of one size; the last is moved back where the side is no multiple."""
    if patch is None or length <= patch:
        return [slice(0, length)]
    starts = [*range(0, length - patch, patch), length - patch]
    return [slice(start, start + patch) for start in starts]


def _collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: [row[name] for row in rows] if name == "unit_id" else torch.stack([row[name] for row in rows]) for name in rows[0]}
