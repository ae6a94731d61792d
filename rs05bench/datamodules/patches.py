"""Patches of chips as PyTorch data sets, and the order in which batches of them come."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from rs05bench.datamodules.array_cache import KeptArrays, file_key
from rs05bench.datamodules.pixels import PixelStore
from rs05bench.datasets.chip_image import IGNORE, with_labels
from rs05bench.datasets.chips import ChipDataset
from rs05bench.embeddings.products import EmbeddingProduct
from rs05bench.errors import DataError
from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.hashing import hash_unit


@dataclass
class Shown:
    """Which rasters a batch holds next to the image.

    Attributes:
        embedding: Whether it holds `embedding`.
        extra: Whether it holds `extra`.
        year_offset: Added to an image's year to get that of its embedding.
        fill: What missing pixels of `image` become; they stay NaN where None.
    """

    embedding: bool = False
    extra: bool = False
    year_offset: int = 0
    fill: float | None = None


class Patches(Dataset[dict[str, Any]]):
    """Fixed patches of chips, or whole chips, without labels.

    Args:
        pixels: The chips it shows, and no others.
        units: Their ids, in order.
        patch: Side of a patch; None shows whole chips.
        shown: Which rasters.

    Attributes:
        items: Unit, rows and columns of each patch.
    """

    keep = False

    def __init__(self, pixels: PixelStore, units: Sequence[str], patch: int | None, shown: Shown) -> None:
        self.pixels = pixels.only(units)
        self.shown = shown
        self.items: list[tuple[str, slice, slice]] = []
        for unit in units:
            height, width = self.pixels.size(unit)
            self.items += [(unit, rows, columns) for rows in _cuts(height, patch) for columns in _cuts(width, patch)]

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One patch; see `ChipView` for what it holds."""
        unit, rows, columns = self.items[index]
        patch = torch.from_numpy(np.array(self.pixels.image(unit, keep=self.keep)[..., rows, columns]))
        if self.shown.fill is not None:
            patch = torch.nan_to_num(patch, nan=self.shown.fill)
        time = self.pixels.time(unit)
        held: dict[str, Any] = {
            "image": patch,
            "time": torch.from_numpy(time),
            "location": torch.from_numpy(self.pixels.location(unit)),
        }
        if self.shown.embedding:
            if np.isnan(time[-1, 0]):
                raise DataError(
                    f"chip {unit!r} has no date, so no year of an embedding belongs to it", remedy="Say preprocessing.chips.year."
                )
            year = int(time[-1, 0]) + self.shown.year_offset
            held["embedding"] = torch.from_numpy(np.array(self.pixels.embedding(unit, year)[:, rows, columns]))
        if self.shown.extra:
            held["extra"] = torch.from_numpy(np.array(self.pixels.extra(unit)[:, rows, columns]))
        return held | {"unit_id": unit}


class LabelledPatches(Patches):
    """Patches with `mask`: class indices, -1 where a pixel has no label or the budget does not show it.

    Args:
        pixels: The chips' pixels.
        units: Ids of chips of the budget.
        patch: Side of a patch; None shows whole chips.
        shown: Which rasters.
        dataset: Masks of the budget's chips, and no others.
        budget: The budget.
    """

    keep = True

    def __init__(
        self, pixels: PixelStore, units: Sequence[str], patch: int | None, shown: Shown, dataset: ChipDataset, budget: LabelBudget
    ) -> None:
        super().__init__(pixels, units, patch, shown)
        self.dataset, self.budget = dataset.only(units), budget
        self._masks = KeptArrays()

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One patch with its labels."""
        held = super().__getitem__(index)
        unit, rows, columns = self.items[index]
        held["mask"] = torch.from_numpy(np.array(self._mask(unit)[rows, columns])).long()
        return held

    def _mask(self, unit: str) -> NDArray[np.int16]:
        height, width = self.pixels.size(unit)

        def read() -> NDArray[np.int16]:
            return with_labels(self.pixels.image(unit, keep=True), self.dataset.read_labels(unit)).labels

        files = f"{file_key(*self.pixels.chip(unit).header.paths)}|{file_key(self.dataset.mask_path(unit))}"
        key = f"mask|{type(self.dataset).__name__}|{self.dataset.label_rule}|{self.pixels.format}|{files}"
        mask = self._masks.get(key, 2 * height * width, read)
        if self.budget.pixel_fraction >= 1.0:
            return mask
        # Of this budget alone: what a loader's workers keep lies on the disk, where every other budget finds it too.
        shown = f"hidden|{self.budget.digest}|{unit}|{height}x{width}"
        hidden = self._masks.get(shown, height * width, lambda: ~self.budget.pixel_mask(unit, height, width))
        return np.where(hidden, np.int16(IGNORE), mask)


class Batches(Dataset[dict[str, Any]]):
    """Patches by lists of their positions: a batch is what the sampler says it is."""

    def __init__(self, patches: Patches) -> None:
        self.patches = patches

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.patches)

    def __getitem__(self, positions: list[int]) -> dict[str, Any]:
        """One batch."""
        return collate([self.patches[position] for position in positions])


class BatchOrder(DistributedSampler[list[int]]):
    """Batches of patches in an order that follows from the seed and the number of the pass alone.

    Without groups a batch is `batch_size` patches drawn at random; with groups (the fires of a fire budget) it is one whole group,
    whatever its size. Among several processes each patch of a pass goes to one of them, and all have as many batches: groups that are left
    over are divided among the processes, which repeats a patch only where they have fewer patches than there are processes.

    Lightning leaves a loader alone whose sampler is a `DistributedSampler`, and tells it the number of each pass.

    Args:
        patches: The patches.
        seed: Of the order.
        batch_size: Patches in a batch where there are no groups.
        groups: Group of each patch, or None.
        replicas: Number of processes; default those of the running process group.
        rank: Which of them this is.

    Attributes:
        whole: Whether batches are groups, which readers that keep what they saw must not mix.
    """

    def __init__(
        self,
        patches: Patches,
        seed: int,
        batch_size: int,
        groups: Sequence[str] | None = None,
        *,
        replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        there = torch.distributed.is_available() and torch.distributed.is_initialized()
        super().__init__(
            patches,
            num_replicas=replicas if replicas is not None else (torch.distributed.get_world_size() if there else 1),
            rank=rank if rank is not None else (torch.distributed.get_rank() if there else 0),
            seed=seed,
        )
        self.batch_size = batch_size
        self.count = len(patches)
        self.by_group: dict[str, list[int]] | None = None
        if groups is not None:
            self.by_group = {group: [] for group in sorted(set(groups))}
            for position, group in enumerate(groups):
                self.by_group[group].append(position)
        self._skip = 0

    @property
    def whole(self) -> bool:
        """Whether batches are groups."""
        return self.by_group is not None

    def __len__(self) -> int:
        """Batches of this process in a pass."""
        if self.by_group is not None:
            return math.ceil(len(self.by_group) / self.num_replicas)
        return math.ceil(math.ceil(self.count / self.num_replicas) / self.batch_size)

    def begin(self, batches: int) -> None:
        """Go on where a training of so many batches stopped."""
        self.epoch, self._skip = divmod(batches, len(self))

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of one pass."""
        epoch, skip = self.epoch, self._skip
        self.epoch, self._skip = epoch + 1, 0
        generator = np.random.default_rng([hash_unit("order", self.seed) % 2**31, epoch])
        batches = self._groups(generator) if self.by_group is not None else self._shuffled(generator)
        yield from batches[skip:]

    def _groups(self, generator: np.random.Generator) -> list[list[int]]:
        assert self.by_group is not None
        names = list(self.by_group)
        order = [self.by_group[names[int(position)]] for position in generator.permutation(len(names))]
        rounds, left = divmod(len(order), self.num_replicas)
        own = order[self.rank : rounds * self.num_replicas : self.num_replicas]
        if not left:
            return own
        rest = [position for group in order[rounds * self.num_replicas :] for position in group]
        return [*own, rest[self.rank :: self.num_replicas] or rest[:1]]

    def _shuffled(self, generator: np.random.Generator) -> list[list[int]]:
        own = _share([int(position) for position in generator.permutation(self.count)], self.rank, self.num_replicas)
        return [own[start : start + self.batch_size] for start in range(0, len(own), self.batch_size)]


def _share(positions: list[int], rank: int, replicas: int) -> list[int]:
    """One process's share; from the start again where there are too few to go round, for all must have as many batches."""
    missing = -len(positions) % replicas
    filled = positions + (positions * replicas)[:missing]
    return filled[rank::replicas]


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Patches as one batch: tensors stacked, ids as a list."""
    return {name: [row[name] for row in rows] if name == "unit_id" else torch.stack([row[name] for row in rows]) for name in rows[0]}


def raster_of(patch: dict[str, Any], part: str, fill: Sequence[float] | None, product: EmbeddingProduct) -> NDArray[np.float32]:
    """A raster of a patch as float32 (channels, H, W).

    Args:
        patch: From `LabelledPatches`.
        part: `image` (dates after one another), `embedding` (decoded), `extra`, `time` or `location` (the same in every pixel).
        fill: What missing pixels of `image` become, a number a band; NaN where None.
        product: What `embedding` is of.
    """
    values: Tensor = patch[part]
    if part == "embedding":
        return product.codec.decode(values.numpy())
    if part in ("time", "location"):
        return np.broadcast_to(values.reshape(-1, 1, 1).numpy(), (values.numel(), *patch["mask"].shape))
    if part == "image" and fill is not None:
        values = torch.where(values.isnan(), torch.tensor(fill, dtype=values.dtype).view(-1, 1, 1), values)
    return values.flatten(0, -3).numpy().astype(np.float32)


def _cuts(length: int, patch: int | None) -> list[slice]:
    """Slices that cover a side in patches of one size; the last is moved back where the side is no multiple."""
    if patch is None or length <= patch:
        return [slice(0, length)]
    starts = [*range(0, length - patch, patch), length - patch]
    return [slice(start, start + patch) for start in starts]
