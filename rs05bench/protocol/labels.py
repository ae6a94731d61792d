"""Label packs: the labels of a task in files that are pinned by a digest, for the scorer and the leaderboard. Needs no torch.

A pack is a folder: `labels.json` (digest, task, source, licence, whether it may be passed on), `card.yaml` (the task card), and either
`labels.parquet` (`unit_id` and a column a target) or, for chips, `masks.parquet` (`unit_id`, `file`, `pixel_m_x`, `pixel_m_y`,
`digest`, `labelled`) with one Cloud Optimized GeoTIFF a chip under `masks/` (class index, 255 where nothing is scored).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_text, writing
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.cog import open_raster_file, write_cog
from rs05bench.protocol.documents import read_json
from rs05bench.protocol.geodesy import pixel_metres
from rs05bench.protocol.hashing import array_digest, content_digest
from rs05bench.protocol.pixel_grid import Grid
from rs05bench.protocol.safe_paths import inside
from rs05bench.protocol.scored_labels import MaskLabels, ScoredLabels, UnitLabels

SCHEMA_VERSION = 1
NOT_SCORED = 255
OPEN_LICENCES = (
    "CC0-1.0",
    "CC-BY-4.0",
    "CC-BY-3.0",
    "CC-BY-SA-4.0",
    "MIT",
    "Apache-2.0",
    "BSD-3-Clause",
    "ODbL-1.0",
    "ODC-BY-1.0",
    "PDDL-1.0",
)

Chip = tuple[str, NDArray[np.integer], Grid]
"""Unit id, mask (H, W) with class indices and -1 where nothing is scored, CRS, affine transform."""


@dataclass(frozen=True, slots=True)
class LabelPack:
    """The labels of a task.

    Attributes:
        directory: Where they lie.
        card: The task card.
        record: What `labels.json` says.
        table: Tables: a column a target, indexed by `unit_id`. Chips: `file`, `pixel_m_x`, `pixel_m_y`, `digest`, `labelled`
            (share of labelled pixels), indexed by `unit_id`.
    """

    directory: Path
    card: TaskCard
    record: dict[str, Any]
    table: pd.DataFrame = field(repr=False)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names in order; None for a regression, or where the card leaves them to the labels."""
        return tuple(self.card.classes) if self.card.classes else None

    @property
    def chips(self) -> bool:
        """Whether labels are masks."""
        return self.card.about.pixel_labels

    @property
    def digest(self) -> str:
        """SHA-256 over the labels, recomputed from the files; the same for every order of rows and on every platform."""
        if not self.chips:
            return _table_digest(self.table)
        return _chips_digest((unit, _mask_digest(self.read(unit)[0])) for unit in self.table.index)

    def series(self, target: str | None = None) -> pd.Series:
        """Labels of a target by `unit_id`: class values as text, or float64; missing where there is none.

        Raises:
            DataError: No such target, or the labels are masks.
        """
        if self.chips:
            raise DataError("holds masks of chips, not a column of labels", source=self.directory, remedy="Use read(unit_id).")
        name = target or self.card.targets[0]
        if name not in self.table.columns:
            raise DataError(f"no target {name!r} (there are {list(self.table.columns)})", source=self.directory)
        return self.table[name]

    def read(self, unit_id: str) -> tuple[NDArray[np.int16], tuple[float, float]]:
        """What is scored of a chip: class indices (H, W), -1 elsewhere, and the size of a pixel in metres (x, y).

        Raises:
            DataError: No such chip, an unreadable file, or the labels are a table.
        """
        if not self.chips or unit_id not in self.table.index:
            raise DataError(f"no mask of chip {unit_id!r}" if self.chips else "holds a table, no masks", source=self.directory)
        import rasterio

        row = self.table.loc[unit_id]
        path = self.directory / str(row["file"])
        try:
            with open_raster_file(path) as source:
                values = source.read(1)
        except rasterio.errors.RasterioError as error:
            raise DataError(f"cannot be read: {error}", source=path) from error
        mask = values.astype(np.int16)
        mask[values == NOT_SCORED] = -1
        if mask.max(initial=-1) >= len(self.card.classes or ()):
            raise DataError(f"holds class {int(mask.max())}, and the task has {len(self.card.classes or ())}", source=path)
        return mask, (float(row["pixel_m_x"]), float(row["pixel_m_y"]))

    def scored(self, target: str | None = None) -> ScoredLabels:
        """What predictions of a target (default the first) are scored with."""
        if self.chips:
            return MaskLabels.of(self.card, tuple(self.card.classes or ()), self.read)
        return UnitLabels.of(self.card, self.series(target))

    def visible(self, target: str | None = None) -> pd.Series:
        """What a budget is drawn from: the labels of a target; of chips the share of labelled pixels, missing where none is."""
        if not self.chips:
            return self.series(target)
        if "labelled" in self.table:
            shares = self.table["labelled"].astype(float)
        else:  # packs of earlier versions
            shares = pd.Series([float((self.read(unit)[0] >= 0).mean()) for unit in self.table.index], index=self.table.index)
        return shares.where(shares > 0)

    def verify(self) -> None:
        """Recomputes the digest from the files.

        Raises:
            DataError: It is not the one the pack was pinned to.
        """
        found, said = self.digest, str(self.record.get("digest"))
        if found != said:
            raise DataError(
                f"content digest is {found[:16]}…, and labels.json says {said[:16]}…",
                source=self.directory,
                remedy="A label was changed after the pack was built. Build it again from the data, or fetch it again.",
            )

    @classmethod
    def load(cls, directory: str | Path, *, verify: bool = False) -> LabelPack:
        """Opens a pack.

        Args:
            directory: The folder.
            verify: Whether to recompute the digest (reads every mask).

        Raises:
            DataError: A file is missing, unreadable or not what it should be.
        """
        root = Path(directory)
        try:
            record = read_json(root / "labels.json")
        except FileNotFoundError as error:
            raise DataError(
                "holds no labels.json", source=root, remedy="Build one: rs05bench labels build TASK --data DIR --out DIR."
            ) from error
        except (OSError, ValueError) as error:
            raise DataError(f"labels.json cannot be read: {error}", source=root) from error
        if not isinstance(record, dict) or "digest" not in record:
            raise DataError("labels.json holds no digest", source=root)
        card = TaskCard.load(root / "card.yaml")
        name = "masks.parquet" if card.about.pixel_labels else "labels.parquet"
        try:
            table = pd.read_parquet(root / name)
        except FileNotFoundError as error:
            raise DataError(f"{name} is missing", source=root) from error
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read: {error}", source=root / name) from error
        wanted = ["unit_id", *(("file", "pixel_m_x", "pixel_m_y") if card.about.pixel_labels else card.targets)]
        if missing := [column for column in wanted if column not in table.columns]:
            raise DataError(f"columns {missing} are missing (found {list(table.columns)})", source=root / name)
        if table["unit_id"].duplicated().any():
            raise DataError(f"unit {table.loc[table['unit_id'].duplicated(), 'unit_id'].iloc[0]!r} occurs twice", source=root / name)
        if card.about.pixel_labels:
            for file in table["file"].astype(str):
                inside(root, file, source=root / name)
        pack = cls(root, card, record, table.set_index("unit_id"))
        if verify:
            pack.verify()
        return pack


def write_labels(
    directory: str | Path, card: TaskCard, labels: Mapping[str, pd.Series], *, data_digest: str = "", redistributable: bool | None = None
) -> LabelPack:
    """Writes the label pack of a table.

    Args:
        directory: Made where missing.
        card: The task card.
        labels: Target -> labels indexed by `unit_id`.
        data_digest: Digest of the data they were read from.
        redistributable: Whether the labels may be passed on; default by the card's licence.
    """
    root = _prepared(directory, card)
    table = pd.DataFrame({target: labels[target] for target in card.targets}).rename_axis("unit_id").sort_index(kind="stable")
    if card.kind == "regression":
        table = table.astype(np.float64)
    else:
        blank = table.isna()
        table = table.astype(str).astype(object).mask(blank, None)
    with writing(root / "labels.parquet") as part:
        table.reset_index().to_parquet(part, index=False, compression="zstd")
    _write_record(root, card, _table_digest(table), len(table), data_digest, redistributable)
    return LabelPack.load(root, verify=True)


def write_masks(
    directory: str | Path, card: TaskCard, chips: Iterable[Chip], *, data_digest: str = "", redistributable: bool | None = None
) -> LabelPack:
    """Writes the label pack of chips, one at a time; arguments as `write_labels`."""
    root = _prepared(directory, card)
    (root / "masks").mkdir(exist_ok=True)
    rows: list[dict[str, Any]] = []
    for unit, mask, grid in chips:
        values = np.asarray(mask)
        if values.max(initial=0) >= NOT_SCORED:
            raise DataError(f"chip {unit!r} has class {int(values.max())}; a mask holds 0 to {NOT_SCORED - 1}", source=root)
        file = f"masks/{len(rows):06d}.tif"
        scored = np.where(values < 0, NOT_SCORED, values).astype(np.uint8)
        write_cog(root / file, scored, grid, nodata=NOT_SCORED)
        x, y = pixel_metres(grid.crs, grid.affine, len(values))
        row = {"unit_id": unit, "file": file, "pixel_m_x": x, "pixel_m_y": y, "digest": _mask_digest(values.astype(np.int16))}
        rows.append({**row, "labelled": float((values >= 0).mean())})
    table = pd.DataFrame(rows, columns=["unit_id", "file", "pixel_m_x", "pixel_m_y", "digest", "labelled"])
    with writing(root / "masks.parquet") as part:
        table.to_parquet(part, index=False, compression="zstd")
    digest = _chips_digest(zip(table["unit_id"], table["digest"], strict=True))
    _write_record(root, card, digest, len(table), data_digest, redistributable)
    return LabelPack.load(root, verify=True)


def is_open(licence: str) -> bool:
    """Whether a licence is one that lets anybody pass the labels on: an SPDX name this package knows, and nothing else beside it."""
    return licence.strip().lower() in {name.lower() for name in OPEN_LICENCES}


def _prepared(directory: str | Path, card: TaskCard) -> Path:
    root = Path(directory)
    if (root / "labels.json").exists():
        raise DataError("holds a label pack already", source=root, remedy="Give a new folder; a pack is never edited in place.")
    root.mkdir(parents=True, exist_ok=True)
    card.save(root / "card.yaml")
    return root


def _write_record(root: Path, card: TaskCard, digest: str, units: int, data_digest: str, redistributable: bool | None) -> None:
    record = {
        "schema_version": SCHEMA_VERSION,
        "task": card.name,
        "kind": card.kind,
        "targets": card.targets,
        "units": units,
        "digest": digest,
        "card_digest": card.digest,
        "data_digest": data_digest,
        "simulated": card.simulated,
        "source": card.source,
        "licence": card.licence,
        "citation": card.citation,
        "redistributable": is_open(card.licence) if redistributable is None else redistributable,
    }
    write_text(root / "labels.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def _table_digest(table: pd.DataFrame) -> str:
    ordered = table.sort_index(kind="stable")
    lines = ["\t".join(["unit_id", *map(str, ordered.columns)])]
    columns = [[_spelled(value) for value in ordered[name]] for name in ordered.columns]
    return content_digest([*lines, *("\t".join([str(unit), *row]) for unit, *row in zip(ordered.index, *columns, strict=True))])


def _spelled(value: Any) -> str:
    if value is None or value != value:
        return ""
    return float(value).hex() if isinstance(value, (float, np.floating)) else str(value)


def _mask_digest(mask: NDArray[np.integer]) -> str:
    return array_digest(mask, "<i2")


def _chips_digest(digests: Iterable[tuple[str, str]]) -> str:
    return content_digest(f"{unit}\t{digest}" for unit, digest in sorted(digests))
