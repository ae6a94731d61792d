"""Where chips fail: error, confidence and disagreement as rasters and outlines for QGIS, and small pictures of the worst."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.cog import CogLayout, open_raster_file, write_cog
from rs05bench.protocol.map_predictions import MapPredictions
from rs05bench.protocol.pixel_grid import Grid
from rs05bench.protocol.result import Result
from rs05bench.report.failures import mistakes
from rs05bench.report.loading import Section
from rs05bench.report.style import layer_name
from rs05bench.report.thumbnails import Picture, chip_pictures
from rs05bench.report.unit_errors import SURE, UnitErrors, place_units

RIGHT, IGNORED = 0, 255
MOST_PICTURES = 12
ReadLabels = Callable[[str], tuple[NDArray[np.integer], Any]]
ReadImage = Callable[[str], NDArray[np.floating] | None]
"""Unit id -> a picture of what the model saw, (H, W, 3) from 0 to 1; None where there is none."""


def errors_of_chips(section: Section, cells: Sequence[Result], role: str, best: str, root: Path, data: str | Path | None) -> UnitErrors:
    """Errors of the chips of one model, with their rasters, outlines and pictures written.

    Raises:
        DataError: No data are given, or they are not those of the results.
    """
    from scipy.sparse import csr_matrix

    from rs05bench.datamodules.open_data import open_source

    if data is None:
        raise DataError(
            f"{section.card.name}: the masks of chips are not kept with results",
            source=section.store.root,
            remedy="Give the data: --data DIR.",
        )
    source: Any = open_source(section.card, data)
    if {result.digests.get("data", source.digest) for result in cells} != {source.digest}:
        raise DataError(f"{section.card.name}: these chips are not those of the results", source=data)
    fits = [MapPredictions.read(section.store.folder(cell.digest) / "predictions") for cell in cells if cell.cell.model == best]
    names = tuple(section.card.class_names or fits[0].classes)
    units = pd.Series(sorted({str(unit) for fit in fits for unit in fit.table.loc[fit.table["role"] == role, "unit_id"]}))
    placed = place_units(section, cells[0].cell.split, units).set_axis(pd.Index(units))
    groups = placed.drop(columns=["lon", "lat", "year"])
    maps = write_chip_maps(
        fits, source.read_labels, role, root / section.key, names=names, groups=groups, read_image=lambda unit: _seen(source, unit)
    )
    table = maps.table.rename(columns={"disagreement": "seeds_disagree"}).assign(model=best).join(placed, on="unit_id")
    counts = csr_matrix(np.stack([maps.counts[unit].ravel() for unit in table["unit_id"]]))
    how = "that of their mean probability" if len(names) == 2 else "the one that most of them give"
    return UnitErrors(table, counts, names, maps.files, maps.pictures, [f"The answer of several fits is {how}."])


@dataclass(frozen=True)
class ChipMaps:
    """What was written of the chips of one model.

    Attributes:
        table: A row a chip, worst first: `unit_id, error, confidence, disagreement, sure_and_wrong, failure, file`.
        counts: Unit id -> confusion counts (K, K) of the answer of all fits: of two classes that of their mean probability, of more the
            one that most give.
        files: Files written, relative to the folder's parent.
        pictures: Unit id -> its small pictures, of the chips shown.
    """

    table: pd.DataFrame
    counts: dict[str, NDArray[np.int64]]
    files: list[str]
    pictures: dict[str, list[Picture]]


@dataclass(frozen=True)
class _Chip:
    """One chip under all fits that tested it."""

    truth: NDArray[np.integer]
    said: NDArray[np.uint8]
    error: NDArray[np.uint8]
    disagreement: NDArray[np.float32]
    confidence: NDArray[np.float32] | None
    like: Path


def write_chip_maps(
    fits: Sequence[MapPredictions],
    read_labels: ReadLabels,
    role: str,
    folder: str | Path,
    *,
    names: Sequence[str] | None = None,
    groups: pd.DataFrame | None = None,
    read_image: ReadImage | None = None,
) -> ChipMaps:
    """Error, confidence and disagreement of chips as Cloud Optimized GeoTIFFs, their outlines as a GeoPackage, and pictures of some.

    Args:
        fits: Predictions of one model, one a fold and seed.
        read_labels: Unit id -> mask (H, W) with -1 for what is not scored, and the pixel size.
        role: Test role.
        folder: Where to write; made where missing.
        names: Names of the classes for people; default those of the predictions.
        groups: Group columns of each chip, indexed by unit id; written beside the outlines.
        read_image: What the model saw, for the pictures.

    Returns:
        What was written. `<chip>_error.tif` holds 0 where right, the predicted class + 1 where wrong, 255 where nothing is scored;
        `_confidence.tif` the mean probability of the predicted class (two classes only: of more, only a sample of probabilities is kept);
        `_disagreement.tif` the share of fits that answer otherwise. Pictures are of the worst chips, and of the worst of each group.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    where: dict[str, list[tuple[MapPredictions, str]]] = {}
    for fit in fits:
        for unit, file in fit.table.loc[fit.table["role"] == role, ["unit_id", "file"]].itertuples(index=False):
            where.setdefault(str(unit), []).append((fit, str(file)))
    classes = tuple(names or fits[0].classes)
    rows: list[dict[str, Any]] = []
    counts: dict[str, NDArray[np.int64]] = {}
    files: list[str] = []
    for unit in sorted(where):
        chip = _read(unit, where[unit], read_labels)
        stem = layer_name(unit)
        layers: dict[str, NDArray[Any] | None] = {"error": chip.error, "disagreement": chip.disagreement, "confidence": chip.confidence}
        for name, band in layers.items():
            if band is not None:
                _write_like(root / f"{stem}_{name}.tif", band, chip.like)
                files.append(f"{root.name}/{stem}_{name}.tif")
        counts[unit] = _confusion(chip, len(classes))
        rows.append(
            {
                "unit_id": unit,
                **_summary(chip),
                "failure": mistakes(counts[unit].astype(np.float64), classes, most=2),
                "file": f"{root.name}/{stem}_error.tif",
            }
        )
    columns = ["unit_id", "error", "confidence", "disagreement", "sure_and_wrong", "failure", "file"]
    table = pd.DataFrame(rows, columns=columns).sort_values("error", ascending=False, kind="stable").reset_index(drop=True)
    if len(table):
        likes = {unit: where[unit][0][0].directory / where[unit][0][1] for unit in where}
        files.insert(0, _write_outlines(table, likes, groups, root.parent / f"{root.name}.gpkg"))
    pictures: dict[str, list[Picture]] = {}
    for unit in _shown(table, groups):
        chip = _read(unit, where[unit], read_labels)
        image = None if read_image is None else read_image(unit)
        pictures[unit] = chip_pictures(
            image, chip.truth, chip.said, chip.confidence, chip.disagreement, len(classes), fits=len(where[unit])
        )
    return ChipMaps(table, counts, files, pictures)


def _read(unit: str, fits: Sequence[tuple[MapPredictions, str]], read_labels: ReadLabels) -> _Chip:
    truth, _ = read_labels(unit)
    classes = fits[0][0].classes
    bands = [fit.band(file) for fit, file in fits]
    two = len(classes) == 2
    votes = np.stack([(band > 0.5).astype(np.uint8) if two else band for band in bands])
    counts = np.stack([(votes == code).sum(0) for code in range(len(classes))])
    # Of two classes the mean probability answers, so that fits that disagree in pairs do not all fall to the first class.
    said = (np.mean(bands, axis=0) > 0.5).astype(np.uint8) if two else counts.argmax(0).astype(np.uint8)
    if truth.shape != said.shape:
        raise DataError(f"chip {unit!r} is {said.shape}, and its mask {truth.shape}", source=fits[0][0].directory)
    error = np.where(truth >= 0, np.where(said == truth, RIGHT, said + 1), IGNORED).astype(np.uint8)
    confidence = None
    if two:
        second = np.mean(bands, axis=0)
        confidence = np.where(said == 1, second, 1 - second).astype(np.float32)
    disagreement = (1 - counts.max(0) / len(bands)).astype(np.float32)
    return _Chip(truth, said, error, disagreement, confidence, fits[0][0].directory / fits[0][1])


def _summary(chip: _Chip) -> dict[str, float]:
    scored = chip.truth >= 0
    if not scored.any():
        return {"error": 0.0, "confidence": np.nan, "disagreement": np.nan, "sure_and_wrong": np.nan}
    wrong = (chip.error != RIGHT)[scored]
    sure = np.nan if chip.confidence is None else float((wrong & (chip.confidence[scored] > SURE)).mean())
    return {
        "error": float(wrong.mean()),
        "confidence": np.nan if chip.confidence is None else float(chip.confidence[scored].mean()),
        "disagreement": float(chip.disagreement[scored].mean()),
        "sure_and_wrong": sure,
    }


def _confusion(chip: _Chip, k: int) -> NDArray[np.int64]:
    scored = chip.truth >= 0
    joint = chip.truth[scored].astype(np.intp) * k + chip.said[scored]
    return np.bincount(joint, minlength=k * k).reshape(k, k)


def _shown(table: pd.DataFrame, groups: pd.DataFrame | None) -> list[str]:
    """The worst chips, and the worst of each value of the first group column of few values."""
    units = [str(unit) for unit in table["unit_id"].head(MOST_PICTURES)]
    if groups is not None:
        for column in groups.columns:
            values = groups[column].reindex(table["unit_id"]).astype(str).to_numpy()
            if 2 <= len(set(values)) <= MOST_PICTURES:
                firsts = pd.Series(table["unit_id"].astype(str).to_numpy()).groupby(values).first()
                units += [unit for unit in firsts if unit not in units]
    return units


def _write_outlines(table: pd.DataFrame, likes: Mapping[str, Path], groups: pd.DataFrame | None, path: Path) -> str:
    """A polygon a chip in WGS84, with its numbers and groups."""
    import geopandas
    from rasterio.warp import transform_geom
    from shapely.geometry import box, mapping, shape

    outlines = []
    for unit in table["unit_id"]:
        with open_raster_file(likes[unit]) as source:
            outlines.append(shape(transform_geom(source.crs, "EPSG:4326", mapping(box(*source.bounds)))))
    said = table if groups is None else table.join(groups.astype(str), on="unit_id")
    path.unlink(missing_ok=True)
    geopandas.GeoDataFrame(said, geometry=outlines, crs="EPSG:4326").to_file(path, layer="chips", driver="GPKG")
    return path.name


def _write_like(path: Path, band: NDArray[Any], like: Path) -> None:

    with open_raster_file(like) as source:
        grid = Grid.of(source)
    nodata = IGNORED if band.dtype == np.uint8 else None
    write_cog(path, band, grid, nodata=nodata, layout=CogLayout("DEFLATE", overviews="nearest"))


def _seen(source: Any, unit: str) -> NDArray[np.floating] | None:
    """A picture of what the model saw: burnt ground stands out in SWIR 2, NIR and red; of several dates the middle one is shown."""
    from rs05bench.datasets.plotting import composite

    image = source.pixels.image(unit)
    image = image if image.ndim == 3 else image[len(image) // 2]
    bands = list(source.dataset.bands)
    wanted = ("B12", "B8A", "B04") if source.card.reader == "burn-scars" else ("B04", "B03", "B02")
    valid = np.isfinite(image).all(axis=0)
    if not set(wanted) <= set(bands) or not valid.any():
        return None
    return composite(image, bands, wanted, valid)
