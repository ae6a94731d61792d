"""Chips with masks as the source of a task: units, labels for the scorer, pixels and embeddings for models."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.datasets.chip_units import Layers, chip_unit_table, layers_of, open_chip_dataset
from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.checked_arrays import CheckedArrays
from rs05bench.protocol.geodesy import pixel_metres
from rs05bench.protocol.splits import Split
from rs05bench.protocol.units import UnitTable

if TYPE_CHECKING:
    from torch import Tensor


READERS = {"burn-scars": "burn-scar.yaml", "crop-chips": "crop.yaml"}
EMBEDDING_BANDS = 64
MASKED = -128
KEPT_BYTES = 1 << 30
"""Chips that train or validate are kept in memory up to this much, bytes, and beyond it as memory maps on disk: a patch of a compressed
file costs as much as the whole chip, and is asked for at every pass."""


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
    embeddings = root / said["embeddings"] if said.get("embeddings") else None
    extra = _extra_folder(root, said.get("extra"))
    return ChipSource(root / said.get("folder", ""), card, layers=layers_of(card, root), embeddings=embeddings, extra=extra)


def _extra_folder(root: Path, said: Any) -> tuple[Path, tuple[str, ...] | None] | None:
    if not said:
        return None
    if isinstance(said, dict):
        return root / str(said["folder"]), tuple(said["only"]) if said.get("only") else None
    return root / str(said), None


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
        said = {**card.preprocessing, "folder": folder, "layers": extra, "embeddings": "alphaearth"}
        said["patch_size"] = 128
        training = card.training.model_copy(update={"steps": 40, "val_every": 10})
        cards[card.name] = card.model_copy(update={"preprocessing": said, "training": training})
    return cards


class ChipSource:
    """A chip data set under a task card.

    Args:
        root: Where the files lie.
        card: The task card; its `reader` says which data set.
        layers: Further group columns: name -> (polygon layer, column).
        embeddings: AlphaEarth tiles (a folder, files, addresses or the published index); None where models need none.
        extra: A folder of layers for hybrid models, and which of them (None takes all).

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
        if card.reader not in READERS:
            raise DataError(f"reader {card.reader!r} reads no chips (those that do: {', '.join(READERS)})", source=card.name)
        self.card, self.root, self.embeddings, self._extra = card, Path(root), embeddings, extra
        self.layers = dict(layers or {})
        self.dataset = open_chip_dataset(card, self.root, self.layers, fill=float("nan"))
        self._tiles: dict[str, Any] = {}
        self._kept: dict[str, dict[str, Tensor]] = {}
        self._kept_bytes = 0

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
        digest = hashlib.sha256()
        for unit_id, chip in sorted(self.dataset._chips.items()):
            digest.update(f"{unit_id}\t{Path(chip.image.path).stat().st_size}\t".encode())
            digest.update(hashlib.sha256(Path(chip.mask.path).read_bytes()).digest())
        return digest.hexdigest()

    def read_labels(self, unit_id: str) -> tuple[NDArray[np.int16], tuple[float, float]]:
        """What is scored of a chip: labels (H, W) with -1 elsewhere, and the size of a pixel in metres."""
        chip = self.dataset._chips[unit_id]
        labels = self.dataset.read(chip).labels
        return labels, pixel_metres(chip.image.crs, chip.image.transform, len(labels))

    def chip(self, unit_id: str, *, keep: bool = False) -> dict[str, Tensor]:
        """A chip: `image` (NaN where missing), `mask` int16, `time` (dates, 2) year and day of year, `location` latitude and longitude.

        Args:
            unit_id: The chip.
            keep: Whether it is likely to be asked for again: then it is decoded once, and kept in memory or, where that is full, as a
                memory map in the cache folder that all processes share.
        """
        import torch

        if unit_id in self._kept:
            return self._kept[unit_id]
        if not keep:
            return self._decoded(unit_id)
        image = self.dataset._chips[unit_id].image
        size = image.height * image.width * (4 * len(self.dataset.bands) * self.dataset.dates + 2)
        # Workers of a loader share the maps; memory of their own would be as many copies.
        if self._kept_bytes + size <= KEPT_BYTES and torch.utils.data.get_worker_info() is None:
            self._kept_bytes += size
            self._kept[unit_id] = self._decoded(unit_id)
            return self._kept[unit_id]
        return self._mapped(unit_id)

    def _decoded(self, unit_id: str) -> dict[str, Tensor]:
        sample = self.dataset.chip(unit_id)
        return self._facts(unit_id) | {"image": sample["image"], "mask": sample["mask"].short()}

    def _mapped(self, unit_id: str) -> dict[str, Tensor]:
        """A chip whose pixels stay on disk, decoded; read into memory where the cache cannot be written."""
        import torch

        chip = self.dataset._chips[unit_id]
        key = type(self.dataset).__name__
        for path in (Path(chip.image.path), Path(chip.mask.path)):
            key += f"|{path}|{path.stat().st_size}|{path.stat().st_mtime_ns}"
        stem = _cache_folder() / "pixels" / hashlib.sha256(key.encode()).hexdigest()
        paths = {name: stem.with_suffix(f".{name}.npy") for name in ("image", "mask")}
        kept = {name: self._cached(path, "c") for name, path in paths.items()}
        pixels = {name: torch.from_numpy(array) for name, array in kept.items() if array is not None}
        if len(pixels) < len(paths):
            decoded = self._decoded(unit_id)
            for name, path in paths.items():
                self._keep(path, decoded[name].numpy())
            return decoded
        self._kept[unit_id] = self._facts(unit_id) | pixels
        return self._kept[unit_id]

    def size(self, unit_id: str) -> tuple[int, int]:
        """Rows and columns of a chip; reads no pixel."""
        image = self.dataset._chips[unit_id].image
        return image.height, image.width

    def _facts(self, unit_id: str) -> dict[str, Tensor]:
        """When and where a chip was taken; reads no pixel."""
        import torch

        dates, lonlat = self.dataset.when_and_where(unit_id)
        dates = dates if len(dates) == self.dataset.dates else [dates[0]] * self.dataset.dates
        return {
            "time": torch.tensor([[date.year, date.day_of_year] for date in dates], dtype=torch.float32),
            "location": torch.tensor(lonlat[::-1], dtype=torch.float64).float(),
        }

    def place(self, unit_id: str) -> tuple[str, Any]:
        """CRS and affine transform of a chip."""
        chip = self.dataset._chips[unit_id]
        return chip.crs, chip.image.transform

    def embedding(self, unit_id: str, year: int) -> NDArray[np.int8]:
        """The AlphaEarth embedding on a chip's own grid, int8 (64, H, W), -128 where there is none.

        Computed once a chip and year, ever: kept as a memory map under `RS05BENCH_CACHE` (default `~/.cache/rs05bench`), named by the
        tiles, the grid and the year.
        """
        chip = self.dataset._chips[unit_id]
        key = f"{self._tiles_digest}|{chip.crs}|{tuple(chip.image.transform)}|{chip.image.height}x{chip.image.width}|{year}"
        path = _cache_folder() / "chips" / f"{hashlib.sha256(key.encode()).hexdigest()}.npy"
        kept = self._cached(path)
        if kept is not None:
            return kept
        values = self._read_embedding(unit_id, year)
        self._keep(path, values)
        return values

    @functools.cached_property
    def _arrays(self) -> CheckedArrays:
        return CheckedArrays()

    def _cached(self, path: Path, mode: Literal["r", "c"] = "r") -> NDArray[Any] | None:
        """What the cache holds; None where that is nothing, damaged, or cannot be read: it is then computed."""
        with suppress(OSError):
            return self._arrays.load(path, mode)
        return None

    def _keep(self, path: Path, values: NDArray[Any]) -> None:
        """A cache that cannot be written costs time, not the result."""
        with suppress(OSError):
            self._arrays.save(path, values)

    @functools.cached_property
    def extra_layers(self) -> dict[str, Any]:
        """The layers that hybrid models see beside bands and embedding; none where the card names none."""
        if self._extra is None:
            return {}
        from rs05bench.datasets.layers import open_layers

        return dict(open_layers(*self._extra))

    @property
    def extra_columns(self) -> list[str]:
        """What the channels of `extra` are."""
        return [column for layer in self.extra_layers.values() for column in layer.window_columns()]

    def extra(self, unit_id: str) -> NDArray[np.float32]:
        """The layers on a chip's own grid, float32 (channels, H, W), NaN where missing; computed once a chip and kept as `embedding` is."""
        chip = self.dataset._chips[unit_id]
        shape = (chip.image.height, chip.image.width)
        key = f"{self._extra_digest}|{chip.crs}|{tuple(chip.image.transform)}|{shape}"
        path = _cache_folder() / "chips" / f"{hashlib.sha256(key.encode()).hexdigest()}.npy"
        kept = self._cached(path)
        if kept is not None:
            return kept
        windows = [layer.on_window(chip.crs, chip.image.transform, shape) for layer in self.extra_layers.values()]
        values = np.concatenate(windows).astype(np.float32)
        self._keep(path, values)
        return values

    @functools.cached_property
    def _extra_digest(self) -> str:
        """Identity of the layers: their columns, and name, size and time of change of their files."""
        assert self._extra is not None
        digest = hashlib.sha256("|".join(self.extra_columns).encode())
        for path in sorted(path for path in self._extra[0].rglob("*") if path.is_file()):
            there = path.stat()
            digest.update(f"{path}\t{there.st_size}\t{there.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def _read_embedding(self, unit_id: str, year: int) -> NDArray[np.int8]:
        chip = self.dataset._chips[unit_id]
        height, width = chip.image.height, chip.image.width
        transform = chip.image.transform
        tiles = self._tiles_in(chip.crs)
        north, west = transform.f, transform.c
        south, east = north + transform.e * height, west + transform.a * width
        when = slice(pd.Timestamp(year, 1, 1), pd.Timestamp(year, 12, 31))
        try:
            values = tiles[west : east : transform.a, south : north : -transform.e, when]["image"].numpy()
        except IndexError:
            return np.full((EMBEDDING_BANDS, height, width), MASKED, dtype=np.int8)
        if values.dtype == np.int8:
            return np.asarray(values)
        from rs05bench.embeddings import encode

        return np.asarray(encode(values))

    @functools.cached_property
    def _tiles_digest(self) -> str:
        """Identity of the tiles: their paths, and size and time of change of local ones."""
        if self.embeddings is None:
            raise self._no_tiles()
        from rs05bench.datasets import AlphaEarthEmbedding

        digest = hashlib.sha256()
        for path in sorted(str(path) for path in AlphaEarthEmbedding(self.embeddings).tiles["path"]):
            there = Path(path).stat() if Path(path).exists() else None
            digest.update(f"{path}\t{there.st_size if there else ''}\t{there.st_mtime_ns if there else ''}\n".encode())
        return digest.hexdigest()

    def _no_tiles(self) -> DataError:
        return DataError(
            f"{self.card.name} was opened without AlphaEarth tiles, and this model needs them",
            source=self.root,
            remedy="Give embeddings=FOLDER (rs05bench extract fetches them, rs05bench simulate makes some).",
        )

    def _tiles_in(self, crs: str) -> Any:
        if self.embeddings is None:
            raise self._no_tiles()
        if crs not in self._tiles:
            from rs05bench.datasets import AlphaEarthEmbedding

            self._tiles[crs] = AlphaEarthEmbedding(self.embeddings, crs=crs, res=self.dataset.native_resolution, decoded=False)
        return self._tiles[crs]


def _cache_folder() -> Path:
    return Path(os.environ.get("RS05BENCH_CACHE") or Path.home() / ".cache" / "rs05bench")
