"""Parcels and tracts: polygons and tiles of an embedding become a table once, and the table is everything a `TableDataModule` needs."""

from __future__ import annotations

import abc
import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Unpack, cast

import pandas as pd

from rs05bench.datamodules.data_module import Opened
from rs05bench.datamodules.table_datamodule import TableDataModule, TableReading
from rs05bench.datasets.files import refuse_unknown
from rs05bench.datasets.urban_schema import METROS
from rs05bench.embeddings.products import DEFAULT, EmbeddingProduct
from rs05bench.embeddings.products import product as product_of
from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_json, writing
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.documents import read_json_mapping
from rs05bench.protocol.hashing import file_digest, text_digest
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.safe_paths import cache_folder
from rs05bench.protocol.splits import Split
from rs05bench.protocol.taskdata import TaskData, TaskSource

if TYPE_CHECKING:
    import geopandas as gpd

RECIPE = 1
"""Raised when the same polygons and tiles would give other numbers."""

Progress = Callable[[int, int], None]


class PolygonReading(TableReading, total=False):
    """How polygons become a table, and what its batches hold: keywords of the modules below, described there."""

    embeddings: str | Path | None
    product: str | Path | EmbeddingProduct
    card: TaskCard | str | Path | None
    cache: str | Path | None
    on_progress: Progress | None


class ParcelReading(PolygonReading, total=False):
    """Keywords of `CropParcelDataModule`."""

    label: str
    parcel: str
    year: str


class TractReading(PolygonReading, total=False):
    """Keywords of `UrbanDataModule`."""

    metros: Sequence[str] | None


class PolygonDataModule(TableDataModule):
    """Polygons with labels under the protocol; its subclasses say where they come from."""

    name: ClassVar[str]
    file: ClassVar[str]

    def __init__(
        self,
        root: str | Path,
        split: str,
        fold: str | None = None,
        budget: str = "full",
        seed: int = 0,
        *,
        manifest: SplitManifest | None = None,
        **reading: Unpack[PolygonReading],
    ) -> None:
        refuse_unknown(reading, PolygonReading)
        self._polygons, card = reading, reading.get("card")
        base = card if isinstance(card, TaskCard) else TaskCard.load(card or Path(__file__).parent / "cards" / f"{self.name}.yaml")
        self._product = product_of(reading.get("product", DEFAULT))
        self._base = _of_product(base, self._product)
        batches = TableReading(
            features=reading.get("features"),
            target=reading.get("target"),
            batch_size=reading.get("batch_size"),
            num_workers=reading.get("num_workers", 0),
        )
        super().__init__(self._base, root, split, fold, budget, seed, manifest=manifest, **batches)
        self.root = Path(root)

    @abc.abstractmethod
    def _units(self, path: Path) -> gpd.GeoDataFrame:
        """Columns of the units (ids, groups, year, labels) and their geometry in WGS84."""

    def _how_units_are_read(self) -> dict[str, str]:
        """What else the table depends on, for its digest: what is not as usual."""
        return {}

    def prepare_data(self) -> None:
        """Makes the table of units with the embedding over their polygons, where it is missing or its sources changed."""
        _ = self.table

    @functools.cached_property
    def table(self) -> Path:
        """The table everything is read from; its card is next to it."""
        path = find_polygons(self.root, self.file)
        tiles = _find_tiles(path, self._polygons.get("embeddings"), self._product)
        made = embedding_table(
            path,
            tiles,
            Path(cache) if (cache := self._polygons.get("cache")) else _cache_beside(path),
            self._base.name,
            self._product,
            lambda: self._units(path),
            self._how_units_are_read(),
            self._polygons.get("on_progress"),
        )
        fit_card(self._base, made, simulated=is_simulated(path, tiles)).save(made.with_suffix(".yaml"))
        return made

    def _open(self) -> Opened[TaskData, TaskSource]:
        self._given_card, self.data_dir = self.table.with_suffix(".yaml"), self.table.parent
        return super()._open()


class CropParcelDataModule(PolygonDataModule):
    """Crops of parcels from an embedding over their polygons.

    The first use reads the tiles and keeps mean, maximum and standard deviation of every parcel, and the change since the year before
    where there are tiles of it, in `.rs05bench/crop-parcels.parquet` beside the polygons; later uses read that table, and make it again
    when polygons or tiles change. `crop-parcels.yaml` beside it is the card: `rs05bench sweep` and `rs05bench map` take both as they are.

    Args:
        root: Folder with `parcels.gpkg` (also in a folder `parcels`), or any polygon file with a class and a year.
        split: Split name.
        fold: Fold name; default the first.
        budget: Budget name.
        seed: Seed of the budget's draw.
        manifest: A frozen manifest.
        **reading: `embeddings`, tiles: a folder, or a name of `open_source`, default the folder of the product's family in or next to
            `root`; `product`, what the tiles hold: a card's feature sets of the default product become those of this one; `card` of your
            own; `cache`, where the table is kept; `on_progress`, called with polygons read and in all; `label`,
            `parcel` and `year`, names of
            those columns in the file (default `crop`, `parcel_id`, `year`); and the keywords of `TableDataModule`.

    Raises:
        DataError: Polygons or tiles are missing or not what they should be, or no polygon is covered.
    """

    name = "crop-parcels"
    file = "parcels.gpkg"

    def __init__(
        self,
        root: str | Path,
        split: str,
        fold: str | None = None,
        budget: str = "full",
        seed: int = 0,
        *,
        manifest: SplitManifest | None = None,
        **reading: Unpack[ParcelReading],
    ) -> None:
        self.columns = (reading.pop("label", "crop"), reading.pop("parcel", "parcel_id"), reading.pop("year", "year"))
        super().__init__(root, split, fold, budget, seed, manifest=manifest, **cast("PolygonReading", reading))

    def _how_units_are_read(self) -> dict[str, str]:
        named = {"label": "crop", "parcel": "parcel_id", "year": "year"}
        return {name: column for (name, usual), column in zip(named.items(), self.columns, strict=True) if column != usual}

    def _units(self, path: Path) -> gpd.GeoDataFrame:
        from rs05bench.datasets.geography import read_polygons
        from rs05bench.datasets.parcels import Parcels

        (label, parcel, year), card = self.columns, self._base
        parcels = Parcels(path, label=label, unit=[parcel, year], year=year)
        units = parcels.units()
        own = read_polygons(path)
        own.index = pd.Index(own[[parcel, year]].astype(str).agg("-".join, axis=1))
        own = own.loc[units["unit_id"]]
        units["parcel_id"] = own[parcel].astype(str).to_numpy(dtype=object)
        units[card.targets[0]] = parcels.labels().loc[units["unit_id"]].to_numpy(dtype=object)
        # What the file says of itself wins over what a layer says of its place.
        for column in [*card.groups, *card.fairness_groups]:
            if column in own.columns:
                units[column] = own[column].to_numpy(dtype=object)
        return units.drop(columns=["unit_id", "date"])


class UrbanDataModule(PolygonDataModule):
    """Urban indicators of tracts from an embedding over their polygons; arguments as `CropParcelDataModule`.

    `root` holds `tracts.gpkg` (also in a folder `urban`) in the schema of `rs05bench.datasets.urban_schema`; `target` chooses the
    indicator, `metros` which may occur (as `UrbanIndicators` takes them).
    """

    name = "urban-tracts"
    file = "tracts.gpkg"

    def __init__(
        self,
        root: str | Path,
        split: str,
        fold: str | None = None,
        budget: str = "full",
        seed: int = 0,
        *,
        manifest: SplitManifest | None = None,
        **reading: Unpack[TractReading],
    ) -> None:
        self.metros = reading.pop("metros", METROS)
        super().__init__(root, split, fold, budget, seed, manifest=manifest, **cast("PolygonReading", reading))

    def _how_units_are_read(self) -> dict[str, str]:
        return {} if self.metros == METROS else {"metros": str(self.metros)}

    def _units(self, path: Path) -> gpd.GeoDataFrame:
        from rs05bench.datasets.chips import WGS84
        from rs05bench.datasets.urban import UrbanIndicators

        units = UrbanIndicators(path, metros=self.metros).table()
        geod = WGS84.get_geod()
        assert geod is not None
        units["area_ha"] = [abs(geod.geometry_area_perimeter(shape)[0]) / 10_000 for shape in units.geometry]
        return units.drop(columns=["unit_id", "date", "place"])


def find_polygons(root: Path, name: str) -> Path:
    """The polygon file: `root` itself, or `name` in it or in one of its folders.

    Raises:
        DataError: None, or several.
    """
    if root.is_file():
        return root
    found = sorted({*root.glob(name), *root.glob(f"*/{name}")})
    if len(found) != 1:
        what = f"holds {len(found)} files {name}" if found else f"holds no {name}"
        raise DataError(what, source=root, remedy="Name the polygon file itself, or a folder that holds one.")
    return found[0]


def is_simulated(*paths: Path | str) -> bool:
    """Whether `SIMULATED.json` lies beside one of these or up to two folders above it."""
    folders = [folder for path in map(Path, paths) for folder in (path, path.parent, path.parent.parent)]
    return any((folder / "SIMULATED.json").is_file() for folder in folders)


def embedding_table(
    polygons: Path,
    tiles: Path | str,
    cache: Path,
    name: str,
    of: EmbeddingProduct,
    units: Callable[[], gpd.GeoDataFrame],
    options: Mapping[str, str],
    on_progress: Progress | None = None,
) -> Path:
    """The table of units with the embedding over their polygons, made where it is missing or its sources changed.

    Args:
        polygons: The polygon file.
        tiles: Where the tiles are.
        cache: Folder of the table.
        name: Name of the table.
        of: What the tiles hold.
        units: Reads the units: a column `year`, and geometry.
        options: How they are read; part of the table's identity.
        on_progress: Called with polygons read and polygons in all.

    Returns:
        `<cache>/<name>.parquet`; `<name>.json` beside it holds the digest of its sources and what was left out.

    Raises:
        DataError: No tile covers any polygon in its year.
    """
    from rs05bench.embeddings.unit_table import polygon_table

    digest = _sources_digest(polygons, tiles, {**options} | ({} if of.name == DEFAULT else {"product": of.name}))
    path, record = cache / f"{name}.parquet", cache / f"{name}.json"
    if path.is_file() and record.is_file():
        with suppress(DataError):
            there = read_json_mapping(record)
            if there.get("digest") == digest and there.get("sha256") == file_digest(path):
                return path
    frame, left_out = polygon_table(units(), tiles, on_progress, of=of)
    # The record goes first and comes back last: a table without it is never taken for a finished one.
    record.unlink(missing_ok=True)
    with writing(path) as part:
        frame.to_parquet(part, index=False, compression="zstd")
    kept = {
        "schema_version": 1,
        "digest": digest,
        "sha256": file_digest(path),
        "units": len(frame),
        "left_out": left_out,
        "polygons": polygons.name,
        "tiles": str(tiles),
    }
    write_json(record, kept)
    return path


def fit_card(card: TaskCard, table: Path, *, simulated: bool) -> TaskCard:
    """A card over a table: groups, splits and feature sets that the table cannot give are taken away.

    Raises:
        DataError: Nothing of a needed kind is left.
    """
    frame = pd.read_parquet(table)
    groups = [name for name in card.groups if name in frame.columns and frame[name].notna().all()]
    shown = card.model_copy(update={"groups": groups})
    # Change needs the year before: without any the set would have no value at all.
    changes = "change_dot" in frame.columns and bool(frame["change_dot"].notna().any())
    features = {name: members for name, members in card.features.items() if changes or "change_dot" not in members.columns}
    years = frame["year"].nunique()

    def possible(split: str) -> bool:
        parsed = Split(split)
        if parsed.group and shown.group_column(parsed.group) is None:
            return False
        return years > 1 or not parsed.rule.needs_year

    region = card.split_options.region
    return card.model_copy(
        update={
            "groups": groups,
            "fairness_groups": [name for name in card.fairness_groups if name in groups],
            "features": features,
            "tiers": {name: tier for name, tier in card.tiers.items() if name in features},
            "splits": [split for split in card.splits if possible(split)],
            "split_options": card.split_options.model_copy(update={"region": region if region in groups else None}),
            "files": [table.name],
            "simulated": simulated or card.simulated,
            "source": "rs05bench.datasets.simulated" if simulated else card.source,
        }
    )


def _of_product(card: TaskCard, record: EmbeddingProduct) -> TaskCard:
    """The card with its feature sets of the default product as those of another one."""
    default = product_of(DEFAULT)
    if record.name == default.name:
        return card

    def other(text: str) -> str:
        return text.replace(default.family, record.family).replace(default.glob, record.glob)

    features = {
        other(name): members.model_copy(update={"columns": [other(item) for item in members.columns]})
        for name, members in card.features.items()
    }
    return card.model_copy(update={"features": features, "tiers": {other(name): tier for name, tier in card.tiers.items()}})


def _find_tiles(polygons: Path, embeddings: str | Path | None, record: EmbeddingProduct) -> Path | str:
    if embeddings is not None:
        return embeddings
    for folder in (polygons.parent / record.family, polygons.parent.parent / record.family):
        if folder.is_dir():
            return folder
    raise DataError(
        f"no tiles of {record.name} in or next to this folder (looked for `{record.family}`)",
        source=polygons.parent,
        remedy="Give embeddings=FOLDER, or a source by name: embeddings='mirror'.",
    )


def _cache_beside(polygons: Path) -> Path:
    if os.access(polygons.parent, os.W_OK):
        return polygons.parent / ".rs05bench"
    home = cache_folder("polygons")
    return home / text_digest(str(polygons.resolve()))[:12]


def _sources_digest(polygons: Path, tiles: Path | str, options: Mapping[str, str]) -> str:
    """SHA-256 over the polygons' bytes and the tiles' names, sizes and times (published tiles: their address), and how they are read."""
    from rs05bench.embeddings.unit_table import STATISTICS

    digest = hashlib.sha256(f"{RECIPE}|{sorted((key, str(value)) for key, value in options.items())}|{STATISTICS}".encode())
    digest.update(hashlib.sha256(polygons.read_bytes()).digest())
    folder = Path(tiles)
    if folder.exists():
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.suffix.lower() in (".tif", ".tiff", ".parquet"):
                status = path.stat()
                digest.update(
                    f"\n{path.relative_to(folder) if path != folder else path.name}|{status.st_size}|{status.st_mtime_ns}".encode()
                )
    else:
        digest.update(str(tiles).encode())
    return digest.hexdigest()
