"""A frozen encoder is run once a unit, ever.

Features are filed under the digest of the encoder (its weights, bands, scale, layers) and the digest of the pixels that went in, so
whatever changes a feature changes its address: nothing has to be invalidated, and augmented pixels never meet features of others. Folds,
budgets, seeds and heads share one folder. Entries are written whole, so that any number of processes may write at once; their files carry
checksums and are read as memory maps.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from rs05bench.errors import DataError
from rs05bench.models.networks import EncoderNetwork
from rs05bench.models.plan import Resumable
from rs05bench.protocol.atomic import remove_folder, writing
from rs05bench.protocol.checked_arrays import CheckedArrays

Maps = list[NDArray[np.float32]]
_CACHED_KEYS = ("image",)
KEPT_BYTES = 2 << 30
"""What a loader may keep of labels and other rasters beside the features, and a cache without a folder of features, in bytes."""


class FeatureCache:
    """Feature maps on disk, by encoder and content.

    Args:
        folder: Where; shared by everything that wants to share. None keeps features for the life of this object, in memory up to
            `KEPT_BYTES` and beyond it in a temporary folder.

    Attributes:
        hits: Units found.
        misses: Units that had to be encoded.
        dropped: Entries that were damaged; they were removed, and are encoded again.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder).expanduser()
        self.memory: dict[tuple[str, str], Maps] = {}
        self.hits = 0
        self.misses = 0
        self.dropped = 0
        self._arrays = CheckedArrays()
        self._free = KEPT_BYTES
        self._overflow: tempfile.TemporaryDirectory[str] | None = None

    def get(self, encoder: str, unit: str) -> Maps | None:
        """Feature maps of a unit, one array a layer, read-only; None when it was never encoded, or its file is damaged.

        Each array that is not in memory holds a file open for as long as it lives.

        Raises:
            OSError: A file cannot be read (no right to, too many open), which says nothing against its content.
        """
        if self.folder is None and ((encoder, unit) in self.memory or self._overflow is None):
            return self.memory.get((encoder, unit))
        entry = self._entry(encoder, unit)
        try:
            names = [name for name in os.listdir(entry) if name.endswith(".npy")]
            layers = sorted((int(name[:-4].split("-")[0]), int(name[:-4].split("-")[1]), name) for name in names)
            before = self._arrays.dropped
            maps = [array for *_, name in layers if (array := self._arrays.load(entry / name)) is not None]
            if len(maps) < len(layers) and self._arrays.dropped == before:  # removed by another reader in between
                return None
            if not maps or len(maps) != layers[0][1]:
                raise ValueError("layers are missing or damaged")
        except FileNotFoundError:
            return None
        except (ValueError, IndexError):
            self.dropped += 1
            remove_folder(entry)
            return None
        return maps

    def put(self, encoder: str, unit: str, maps: Maps) -> None:
        """File a unit's feature maps. Another writer that was first wins; the content is the same."""
        size = sum(array.nbytes for array in maps)
        if self.folder is None and size <= self._free:
            self._free -= size
            self.memory[encoder, unit] = maps
            return
        if self.folder is None and self._overflow is None:
            self._overflow = tempfile.TemporaryDirectory(prefix="rs05bench-features-")
        entry = self._entry(encoder, unit)
        with writing(entry, existing="keep") as draft:
            for index, array in enumerate(maps):
                # The name says which layer of how many.
                self._arrays.save(draft / f"{index}-{len(maps)}.npy", array)

    def _entry(self, encoder: str, unit: str) -> Path:
        folder = self.folder or Path(cast("tempfile.TemporaryDirectory[str]", self._overflow).name)
        return folder / encoder[:32] / unit[:2] / unit


def opened(cache: object) -> FeatureCache | None:
    """The cache of an option: a folder, or one that is open already; None for none."""
    return cache if cache is None or isinstance(cache, FeatureCache) else FeatureCache(cast("str | Path", cache))


def unit_digest(image: Tensor, *context: Tensor | None) -> str:
    """Digest of a unit's pixels (and of its time and location, where the encoder uses them)."""
    digest = hashlib.sha256()
    for part in (image, *context):
        if part is None:
            digest.update(b"none|")
            continue
        array = part.detach().cpu().contiguous().numpy()
        digest.update(f"{array.shape}|{array.dtype}|".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


class EncodedLoader:
    """A loader whose batches carry cached features instead of images.

    The first pass goes through the images (encoding what the cache lacks); later passes shuffle what was seen, open its features batch by
    batch, and touch neither images nor encoder, which is why it may only wrap loaders that give the same units every time. Where labels
    take more than `KEPT_BYTES`, every pass goes through the loader.

    Args:
        loader: The data module's loader.
        network: A network with a frozen encoder.
        cache: Where features live.
        shuffle: Whether later passes are shuffled (training) or not (validation, prediction).
        seed: Of that shuffle.
    """

    def __init__(
        self, loader: Iterable[Mapping[str, Any]], network: EncoderNetwork, cache: FeatureCache, *, shuffle: bool, seed: int = 0
    ) -> None:
        self.loader = loader
        self.network = network
        self.cache = cache
        self.shuffle = shuffle
        self.seed = seed
        self.encoder_digest = network.backbone.digest()
        self.samples: list[dict[str, Any]] | None = None
        self.sizes: list[int] = []
        self.passes = 0
        self._skip = 0

    def begin(self, batches: int) -> None:
        """Go on where a training of so many batches stopped: what later passes draw from is gathered again, from the cache."""
        if batches >= len(self):
            for _ in self._first_pass():
                pass
        self.passes, self._skip = divmod(batches, len(self))
        if self.samples is None and isinstance(self.loader, DataLoader) and isinstance(self.loader.sampler, Resumable):
            self.loader.sampler.begin(batches)
            self._skip = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Batches with ``features`` (a list of maps) and ``size``."""
        self.passes += 1
        skip, self._skip = self._skip, 0
        if self.samples is None:
            yield from islice(self._first_pass(), skip, None)
            return
        for rows in self._batches(len(self.samples))[skip:]:
            samples = [self.samples[row] for row in rows]
            yield collate([sample | {"features": self._features(sample["key"])} for sample in samples])

    def __len__(self) -> int:
        """Batches a pass (the data module's number)."""
        return len(self.loader)  # type: ignore[arg-type]

    def _first_pass(self) -> Iterator[dict[str, Any]]:
        samples: list[dict[str, Any]] = []
        sizes: list[int] = []
        # A loader without an end never comes round again: its units are looked up as they pass.
        expected = len(self) if hasattr(self.loader, "__len__") else None
        free = KEPT_BYTES if expected else 0
        for batch in self.loader:
            encoded = self.encode(batch)
            sizes.append(len(encoded))
            free -= sum(value.nbytes for sample in encoded for value in sample.values() if isinstance(value, Tensor))
            if free > 0:
                # Without their features: each would hold a file open.
                samples.extend({name: value for name, value in sample.items() if name != "features"} for sample in encoded)
            # Before the last batch is given away: a reader that counts batches never comes back for the end.
            if len(sizes) == expected and free > 0:
                self.samples, self.sizes = samples, sizes
            yield collate(encoded)

    def _features(self, key: str) -> Maps:
        """Features of a unit that was seen before; where its entry went away since, all that went are made again."""
        maps = self.cache.get(self.encoder_digest, key)
        if maps is None:
            for batch in self.loader:
                self.encode(batch)
            maps = self.cache.get(self.encoder_digest, key)
        if maps is None:
            raise DataError(
                "features went away while they were used", source=self.cache.folder, remedy="Run it again; they are made again."
            )
        return maps

    def _batches(self, count: int) -> list[NDArray[np.intp]]:
        """Rows of each batch of a later pass.

        Batches of one size are drawn again; batches of many sizes, or of a sampler that says so (`whole`), are groups the data module made
        (no batch mixes fires), so they stay whole and only their order changes.
        """
        rows = np.arange(count)
        generator = np.random.default_rng([self.seed, self.passes])
        grouped = len(set(self.sizes[:-1])) > 1 or getattr(getattr(self.loader, "sampler", None), "whole", False)
        if self.shuffle and not grouped:
            generator.shuffle(rows)
        batches = np.split(rows, np.cumsum(self.sizes)[:-1])
        if self.shuffle and grouped:
            batches = [batches[index] for index in generator.permutation(len(batches))]
        return batches

    def encode(self, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The units of a batch with their features and the key these are filed under, encoding together those the cache lacks."""
        image: Tensor = batch["image"]
        backbone = self.network.backbone
        backbone.look_at(image)
        context = (batch.get("time"), batch.get("location")) if backbone.family.coordinates else (None, None)
        keys = [unit_digest(image[row], *(None if part is None else part[row] for part in context)) for row in range(image.shape[0])]
        found = [self.cache.get(self.encoder_digest, key) for key in keys]
        absent = [row for row, maps in enumerate(found) if maps is None]
        self.cache.hits += len(keys) - len(absent)
        self.cache.misses += len(absent)
        if absent:
            chosen = {name: value[absent] if isinstance(value, Tensor) else value for name, value in batch.items()}
            device = next(self.network.parameters()).device
            moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in chosen.items()}
            # Only the encoder: the head may be in the middle of a training step.
            self.network.backbone.eval()
            with torch.no_grad():
                features = [feature.float().cpu().numpy() for feature in self.network.encode(moved)]
            for position, row in enumerate(absent):
                maps = [np.ascontiguousarray(feature[position]) for feature in features]
                self.cache.put(self.encoder_digest, keys[row], maps)
                # Another reader of a damaged entry may have removed what was just put there.
                found[row] = self.cache.get(self.encoder_digest, keys[row]) or maps
        rest = {name: value for name, value in batch.items() if name not in _CACHED_KEYS}
        size = (int(image.shape[-2]), int(image.shape[-1]))
        return [
            {
                "features": found[row],
                "key": keys[row],
                "size": size,
                **{name: value[row] for name, value in rest.items() if len(value) == len(keys)},
            }
            for row in range(len(keys))
        ]


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Samples of `EncodedLoader.encode` as one batch."""
    layers = range(len(samples[0]["features"]))
    batch: dict[str, Any] = {
        "features": [torch.from_numpy(np.stack([sample["features"][layer] for sample in samples])) for layer in layers],
        "size": samples[0]["size"],
    }
    for name, value in samples[0].items():
        if name in ("features", "key", "size"):
            continue
        column = [sample[name] for sample in samples]
        batch[name] = torch.stack(column) if isinstance(value, Tensor) else column
    return batch
