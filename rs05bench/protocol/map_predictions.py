"""Predictions of chips: one Cloud Optimized GeoTIFF a chip that opens in QGIS, and a small sample of full probabilities.

Two classes: one band, the probability of the second class. More classes: one band, the most probable class; the probabilities of all
classes are kept at 1,024 pixels a chip, drawn by a hash of the unit, so that calibration can be scored and a submission stays small.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_json
from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.cog import open_raster_file, write_cog
from rs05bench.protocol.documents import read_json
from rs05bench.protocol.hashing import array_digest, content_digest, hash_pixels
from rs05bench.protocol.metrics import BandTable, Calibration, ClassCalibration, Clusters, RegionalAreas, Tally, stack
from rs05bench.protocol.metrics.chip_sums import band_counts, fit_band_temperature, fit_sampled_temperature
from rs05bench.protocol.metrics.spatial import SpatialWeights
from rs05bench.protocol.pixel_grid import Grid
from rs05bench.protocol.predictions import PROBABILITY_PREFIX, RECORD, Predictions, missing_units
from rs05bench.protocol.safe_paths import inside
from rs05bench.protocol.scored_labels import MaskLabels, ScoredLabels

SCHEMA_VERSION = 1
SAMPLE_PIXELS = 1024
SAMPLE_SEED = 0
NODATA_CLASS = 255
MOST_VALIDATION_CHIPS = 32
"""Maps of so many validation chips are kept: they serve the temperature alone, and that needs few."""


def sample_pixels(unit_id: str, rows: int, columns: int) -> NDArray[np.int64]:
    """Flat indices of the pixels of a chip whose probabilities are kept, shape (min(1024, rows x columns),), in hash order."""
    hashes = hash_pixels(SAMPLE_SEED, unit_id, rows, columns).ravel()
    return np.argsort(hashes, kind="stable")[:SAMPLE_PIXELS]


@dataclass
class MapPredictionWriter:
    """Writes the predictions of chips one by one; use it as a context manager.

    Args:
        directory: Where to write; made where missing.
        classes: Class names, background first.
        info: Model card, cell, digests; written to `predictions.json`.
    """

    directory: Path
    classes: Sequence[str]
    info: dict[str, Any] = field(default_factory=dict)
    _rows: list[dict[str, Any]] = field(default_factory=list, repr=False)
    _samples: list[pd.DataFrame] = field(default_factory=list, repr=False)

    def __enter__(self) -> MapPredictionWriter:
        (Path(self.directory) / "chips").mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()

    def write(self, unit_id: str, role: str, probabilities: NDArray[Any], grid: Grid) -> None:
        """Writes one chip.

        Args:
            unit_id: The chip.
            role: The role it was predicted under.
            probabilities: Shape (K, H, W), summing to 1 over K.
            grid: Where the pixels of the chip are.

        Raises:
            DataError: The shape does not fit the classes, or values are not probabilities.
        """
        p = np.asarray(probabilities, dtype=np.float32)
        if p.ndim != 3 or p.shape[0] != len(self.classes):
            raise DataError(f"probabilities of chip {unit_id!r} have shape {p.shape}; expected ({len(self.classes)}, H, W)")
        if not np.isfinite(p).all() or p.min() < -1e-4 or p.max() > 1 + 1e-4:
            raise DataError(f"probabilities of chip {unit_id!r} are not all finite numbers from 0 to 1")
        name = f"{len(self._rows):06d}.tif"
        # Half precision keeps three digits and compresses to a third; QGIS reads float32, so it is stored as that.
        band = p[1].astype(np.float16).astype(np.float32) if len(self.classes) == 2 else p.argmax(0).astype(np.uint8)
        nodata = NODATA_CLASS if band.dtype == np.uint8 else None
        write_cog(Path(self.directory) / "chips" / name, band, grid, nodata=nodata)
        self._rows.append(
            {
                "unit_id": unit_id,
                "role": role,
                "file": f"chips/{name}",
                "digest": array_digest(band, "<f4" if len(self.classes) == 2 else "u1"),
            }
        )
        if len(self.classes) > 2:
            at = sample_pixels(unit_id, *band.shape)
            sample = pd.DataFrame({"unit_id": unit_id, "role": role, "pixel": at})
            for code, value in enumerate(self.classes):
                sample[f"{PROBABILITY_PREFIX}{value}"] = p[code].ravel()[at].astype(np.float16)
            self._samples.append(sample)

    def close(self) -> None:
        """Writes the tables and, last, `predictions.json`."""
        root = Path(self.directory)
        table = pd.DataFrame(self._rows, columns=["unit_id", "role", "file", "digest"])
        table.to_parquet(root / "units.parquet", index=False, compression="zstd")
        if self._samples:
            pd.concat(self._samples, ignore_index=True).to_parquet(root / "samples.parquet", index=False, compression="zstd")
        record = {
            "schema_version": SCHEMA_VERSION,
            "kind": "segmentation",
            "classes": list(self.classes),
            "digest": _digest(table),
            **self.info,
        }
        write_json(root / RECORD, record, indent=2)


@dataclass(frozen=True, slots=True)
class MapPredictions(Predictions):
    """Predictions of chips on disk; chips are read one at a time.

    Attributes:
        directory: Where they lie.
        classes: Class names.
        table: `unit_id`, `role`, `file`, `digest`.
        samples: `unit_id`, `role`, `pixel`, `p_<class>` at sampled pixels, or None for two classes.
        info: Model card, cell, digests.
    """

    directory: Path
    classes: tuple[str, ...]
    table: pd.DataFrame
    samples: pd.DataFrame | None
    info: dict[str, Any]

    @classmethod
    def read(cls, directory: str | Path) -> MapPredictions:
        """Reads the tables of predictions that anyone could have made.

        Raises:
            DataError: A file is missing or not what it should be, or a path leads outside the folder.
        """
        root = Path(directory)
        try:
            record = read_json(root / "predictions.json")
            table = pd.read_parquet(root / "units.parquet")
            samples = pd.read_parquet(root / "samples.parquet") if (root / "samples.parquet").exists() else None
        except FileNotFoundError as error:
            raise DataError(f"{Path(str(error.filename)).name} is missing", source=root) from error
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read: {error}", source=root) from error
        classes = record.get("classes") if isinstance(record, dict) else None
        if not isinstance(classes, list) or len(classes) < 2 or record.get("kind") != "segmentation":
            raise DataError("predictions.json does not say kind: segmentation and its classes", source=root)
        missing = [column for column in ("unit_id", "role", "file") if column not in table.columns]
        if missing:
            raise DataError(f"columns {missing} are missing", source=root / "units.parquet")
        for name in table["file"].astype(str):
            inside(root, name, source=root / "units.parquet")
        if table.duplicated(["unit_id", "role"]).any():
            raise DataError("a chip occurs twice in one role", source=root / "units.parquet")
        info = {key: value for key, value in record.items() if key not in ("schema_version", "kind", "classes", "digest")}
        return cls(root, tuple(map(str, classes)), table, samples, info)

    def __len__(self) -> int:
        return len(self.table)

    def unit_ids(self, role: str) -> NDArray[np.object_]:
        """Chips predicted under a role."""
        return self.table.loc[self.table["role"] == role, "unit_id"].to_numpy(dtype=object)

    def with_info(self, info: dict[str, Any]) -> MapPredictions:
        """See `Predictions.with_info`."""
        return replace(self, info=info)

    def write(self, directory: str | Path) -> Path:
        """Writes the predictions into a folder that does not exist yet."""
        target = Path(directory)
        shutil.copytree(self.directory, target, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns(RECORD))
        record = json.loads((self.directory / RECORD).read_text(encoding="utf-8"))
        write_json(target / RECORD, {**record, **self.info}, indent=2)
        return target

    def sums(self, role: str, labels: ScoredLabels, units: NDArray[np.object_], temperature: float | None = None) -> ChipSums:
        """See `Predictions.sums`; every chip is read once.

        Raises:
            DataError: Also where a chip is of another shape than its mask.
        """
        self._check(labels, MaskLabels, self.directory)
        assert isinstance(labels, MaskLabels)
        rules = labels.rules
        files = dict(self.table.loc[self.table["role"] == role, ["unit_id", "file"]].itertuples(index=False))
        missing = np.array([unit for unit in units if unit not in files], dtype=object)
        if len(missing):
            raise missing_units(self, role, missing, len(units), self.directory)
        tables = [BandTable(None), *([] if temperature is None else [BandTable(temperature)])]
        sampled = self._samples_of(role)
        maps: list[Tally] = []
        calibrations: list[list[Tally]] = [[] for _ in tables]
        areas: list[float] = []
        for unit in units:
            truth, pixel = labels.read(unit)
            band = self._band_like(unit, files[unit], truth.shape)
            predicted = (band > 0.5).astype(np.uint8) if len(self.classes) == 2 else band  # a tie goes to the first class
            maps.append(rules.chip(truth, predicted, pixel_size_m=pixel, name=unit))
            width, height = (pixel, pixel) if isinstance(pixel, int | float) else pixel
            areas.append(width * height / 1e4)
            for table, found in zip(tables, calibrations, strict=True):
                if len(self.classes) == 2:
                    found.append(rules.band(truth, band, table, name=unit))
                elif self.samples is not None:
                    at, p = self._sampled(sampled, unit, truth.size)
                    found.append(rules.sample(truth.ravel()[at], p, temperature=table.temperature, name=unit))
        plain, *scaled = [stack(found) if found else None for found in calibrations]
        each = stack(maps)
        if plain is not None and plain.units.any():
            each = Tally((*each.kinds, *plain.kinds))
        after = scaled[0].regroup(Clusters.one(len(units))) if scaled and scaled[0] is not None else None
        return ChipSums(each, np.array(areas), after)

    def temperature(self, labels: ScoredLabels, budget: LabelBudget | None) -> float | None:
        """See `Predictions.temperature`: of the pixels the budget shows of its validation chips."""
        held = set() if budget is None else {str(unit) for unit in budget.val}
        files = self.table.loc[(self.table["role"] == "val") & self.table["unit_id"].isin(held), ["unit_id", "file"]]
        if budget is None or files.empty or not isinstance(labels, MaskLabels):
            return None
        counts: NDArray[np.int64] | None = None
        chips: list[tuple[NDArray[Any], NDArray[Any]]] = []
        sampled = self._samples_of("val")
        for unit, file in files.sort_values("unit_id").itertuples(index=False):
            truth, _ = labels.read(unit)
            shown = budget.pixel_mask(unit, *truth.shape) & (truth >= 0)
            if len(self.classes) == 2:
                band = self._band_like(unit, file, truth.shape)
                found = band_counts(truth[shown], band[shown])
                counts = found if counts is None else counts + found
                continue
            pixel, p = self._sampled(sampled, unit, truth.size)
            seen = shown.ravel()[pixel]
            chips.append((truth.ravel()[pixel][seen], p[seen]))
        if counts is not None:
            return fit_band_temperature(counts) if counts.any() else None
        return fit_sampled_temperature(chips) if any(len(y) for y, _ in chips) else None

    def _samples_of(self, role: str) -> dict[str, pd.DataFrame]:
        """Sampled probabilities of a role's chips."""
        if self.samples is None:
            return {}
        return {str(unit): rows for unit, rows in self.samples[self.samples["role"] == role].groupby("unit_id", sort=False)}

    def _sampled(self, sampled: Mapping[str, pd.DataFrame], unit: str, size: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The sampled pixels of a chip (flat indices), and their probabilities (n, K)."""
        rows = sampled.get(unit)
        pixel = np.empty(0, np.int64) if rows is None else rows["pixel"].to_numpy(dtype=np.int64)
        if rows is None or len(pixel) == 0 or pixel.min() < 0 or pixel.max() >= size:
            raise DataError(f"chip {unit!r} has no sampled probabilities inside its map", source=self.directory)
        p = rows[[f"{PROBABILITY_PREFIX}{value}" for value in self.classes]].to_numpy(dtype=np.float64)
        return pixel, p / p.sum(axis=1, keepdims=True)

    def _band_like(self, unit: str, file: str, shape: tuple[int, ...]) -> NDArray[Any]:
        band = self.band(file)
        if band.shape != shape:
            raise DataError(f"chip {unit!r} is {band.shape}, and its mask {shape}", source=self.directory)
        return band

    def discard(self) -> None:
        """Removes the files."""
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def digest(self) -> str:
        """SHA-256 over units, roles and pixel values, recomputed from the files; the same for two copies."""
        kind = "<f4" if len(self.classes) == 2 else "u1"
        table = self.table.assign(digest=[array_digest(self.band(name), kind) for name in self.table["file"]])
        return _digest(table)

    def band(self, file: str) -> NDArray[Any]:
        """The one band of a chip's file, shape (H, W): float32 probability of the second class, or uint8 class.

        Raises:
            DataError: Unreadable, or values that are no probabilities or no classes.
        """
        import rasterio

        path = self.directory / file
        try:
            with open_raster_file(path) as source:
                if source.count != 1:
                    raise DataError(f"has {source.count} bands, expected 1", source=path)
                values = source.read(1)
        except rasterio.errors.RasterioError as error:
            raise DataError(f"cannot be read: {error}", source=path) from error
        if len(self.classes) == 2:
            if (
                not np.issubdtype(values.dtype, np.floating)
                or not np.isfinite(values).all()
                or values.min() < -1e-3
                or values.max() > 1.001
            ):
                raise DataError(
                    f"must hold probabilities from 0 to 1 as float (found {values.dtype}, {values.min()} to {values.max()})", source=path
                )
            return values.astype(np.float32)
        if not np.issubdtype(values.dtype, np.integer) or values.max() >= len(self.classes):
            raise DataError(f"must hold classes 0 to {len(self.classes) - 1} (found {values.dtype}, up to {values.max()})", source=path)
        return values.astype(np.uint8)

    def chips(self, roles: Sequence[str]) -> Iterator[tuple[str, str, NDArray[Any], NDArray[np.float32] | None]]:
        """Chips of some roles: unit, role, class map (H, W), and the probability of the second class (H, W) for two classes."""
        for unit, role, file in self.table.loc[self.table["role"].isin(roles), ["unit_id", "role", "file"]].itertuples(index=False):
            band = self.band(file)
            if len(self.classes) == 2:
                # A tie goes to the first class, as everywhere.
                yield str(unit), str(role), (band > 0.5).astype(np.uint8), band
            else:
                yield str(unit), str(role), band, None


@dataclass(frozen=True, eq=False)
class ChipSums:
    """Sums of chips, see `UnitSums`.

    Attributes:
        each: Sums of each chip, in order.
        pixel_ha: (n,) area of a pixel of each chip, hectares.
        scaled: Calibration of all chips after scaling.
    """

    each: Tally
    pixel_ha: NDArray[np.float64]
    scaled: Tally | None = None

    def sums(self, clusters: Clusters) -> Tally:
        """See `UnitSums.sums`; the calibration of every class is left out, as results keep none."""
        return Tally(tuple(kind for kind in self.each.kinds if not isinstance(kind, ClassCalibration))).regroup(clusters)

    def scores(self, task: str, regions: Clusters | None = None) -> dict[str, float]:
        """See `UnitSums.scores`."""
        found = self.each.scores(task)
        return found if regions is None else found | Tally((self._areas(regions),)).scores(task) | {"n": found["n"]}

    def _areas(self, regions: Clusters) -> RegionalAreas:
        counts = self.each.kinds[0]
        parts = counts.parts(counts.vectors)
        errors = np.zeros((len(regions.names), len(counts.classes)))
        np.add.at(errors, regions.code, (parts.predicted - parts.truth) * self.pixel_ha[:, None])
        return RegionalAreas.of(errors, counts.classes)

    def value(self, metric: str) -> float:
        """NaN: every score of maps follows from sums."""
        return float("nan")

    def take(self, rows: NDArray[np.intp]) -> ChipSums:
        """See `UnitSums.take`."""
        return ChipSums(self.each.take(rows), self.pixel_ha[rows])

    def curve(self) -> dict[str, list[float]] | None:
        """See `UnitSums.curve`."""
        found = self.each.find("ece")
        return found.curve().record() if isinstance(found, Calibration) else None

    def beside(self, neighbours: SpatialWeights | None) -> ChipSums:
        """The same: patterns of whole chips are not scored."""
        return self


def _digest(table: pd.DataFrame) -> str:
    ordered = table.sort_values(["role", "unit_id"], kind="stable")
    return content_digest(
        f"{role}\t{unit}\t{digest}" for role, unit, digest in ordered[["role", "unit_id", "digest"]].itertuples(index=False)
    )
