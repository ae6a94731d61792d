"""Maps by deep tiers: a trained network slides over images of any size, or over AlphaEarth tiles.

The area of applicability is that of pixels: whether the network has seen such spectra, not whether it has seen such shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.errors import DataError
from rs05bench.experiment.map_files import MapWriter, gdal_limits, write_preview
from rs05bench.experiment.map_frame import tile_frame
from rs05bench.experiment.map_grid import grid_record
from rs05bench.experiment.map_network import context_of
from rs05bench.experiment.map_scene import ImageScene, Scene, TileScene
from rs05bench.experiment.mapping import MapResult, Progress, names_of
from rs05bench.models.applicability import Applicability

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from rs05bench.embeddings import TileIndex

BLOCK = 512
"""Side of the blocks that are predicted and written at once."""
PLANES = ("class", "confidence", "dissimilarity")


def draw_images(
    model: Any,
    data: Any,
    area: Applicability,
    images: Sequence[str | Path],
    out: str | Path,
    *,
    index: TileIndex | None = None,
    year: int | None = None,
    within: BaseGeometry | None = None,
    block: int = BLOCK,
    on_progress: Progress | None = None,
) -> MapResult:
    """Draws a trained network over images, a folder an image.

    Args:
        model: A fitted `DeepModel`.
        data: The data module it was trained on; says which bands an image has.
        area: From `pixel_area`.
        images: GeoTIFFs with the bands of the training chips, in their order (all dates of the first, then the next).
        out: Folder.
        index: AlphaEarth tiles, for models that read them.
        year: Year of the embedding; default the one in the image's name, shifted as the training's was.
        within: Which part of them, WGS84 degrees; None for all.
        block: Side of the blocks written.
        on_progress: Called with blocks done and blocks in all.

    Raises:
        DataError: An image has other bands, no CRS, lies off the area, or needs tiles that were not given.
    """
    names = [Path(image).stem for image in images]
    if len(set(names)) < len(names):
        raise DataError("two images have the same name", remedy="Maps are named after their images: rename one.")
    margin = context_of(model)
    scenes: list[ImageScene] = []
    try:
        for image in images:
            scenes.append(ImageScene(Path(image), model, data, index=index, year=year, area=within, margin=margin))
        files, counts = _draw_scenes(model, data, area, scenes, Path(out), block, on_progress)
    finally:
        for scene in scenes:
            scene.close()
    return MapResult(Path(out), files, {"years": counts, "grid": None, "tiles": None if index is None else index.description})


def draw_tiles(
    model: Any,
    data: Any,
    area: Applicability,
    index: TileIndex,
    within: BaseGeometry,
    years: Sequence[int],
    out: str | Path,
    *,
    block: int = BLOCK,
    on_progress: Progress | None = None,
) -> MapResult:
    """Draws a trained network that reads AlphaEarth alone over an area, a folder a year, at the pixel of its training chips.

    Args:
        model: A fitted `DeepModel`.
        data: The data module it was trained on.
        area: From `pixel_area`.
        index: AlphaEarth tiles.
        within: Where, WGS84 degrees.
        years: Years of the embedding.
        out: Folder.
        block: Side of the blocks written.
        on_progress: Called with blocks done and blocks in all.

    Raises:
        DataError: No tile meets the area in one of the years.
    """
    frame = tile_frame(index, within, years, metres=data.resolution_m, margin=context_of(model))
    scenes = [TileScene(index, frame, year) for year in years]
    files, counts = _draw_scenes(model, data, area, scenes, Path(out), block, on_progress)
    return MapResult(Path(out), files, {"years": counts, "grid": grid_record(frame.target), "tiles": index.description})


def _draw_scenes(
    model: Any, data: Any, area: Applicability, scenes: Sequence[Scene], out: Path, block: int, on_progress: Progress | None
) -> tuple[dict[str, dict[str, Path]], dict[str, dict[str, Any]]]:
    files: dict[str, dict[str, Path]] = {}
    counts: dict[str, dict[str, Any]] = {}
    blocks = sum(-(-scene.frame.grid.height // block) * -(-scene.frame.grid.width // block) for scene in scenes)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, blocks)

    for scene in scenes:
        with gdal_limits():
            files[scene.name], counts[scene.name] = _draw_one(model, data, area, scene, out / scene.name, block, step)
        scene.close()  # before the next: its blocks in memory serve no other
    return files, counts


def _draw_one(
    model: Any, data: Any, area: Applicability, scene: Scene, folder: Path, block: int, step: Callable[[], None]
) -> tuple[dict[str, Path], dict[str, Any]]:
    frame, classes = scene.frame, names_of(data)
    tags = {"TASK": data.card.name, "TARGET": data.target, "MODEL": model.card.name, **scene.tags, "SOFTWARE": "rs05bench"}
    tags |= {"SIMULATED": "yes"} if data.card.simulated else {}
    with MapWriter(folder, frame.target, PLANES, area, classes=classes, tags=tags) as writer:
        for window, probabilities in model.predict_scene(scene.read, frame.grid.height, frame.grid.width, block=block):
            step()
            here = frame.shared(window)
            if here is None:
                continue
            X = scene.predictors(here)
            # A pixel without any image is not predicted; one that lacks some dates is, and no distance can be given.
            seen = np.isfinite(X).any(axis=0) & frame.wanted(here)
            if not seen.any():
                continue
            top, left = here.row - window.row, here.column - window.column
            shown = probabilities[:, top : top + here.height, left : left + here.width]
            planes = {name: np.full(seen.shape, np.nan, dtype=np.float32) for name in PLANES}
            planes["class"][seen] = shown.argmax(axis=0)[seen]
            planes["confidence"][seen] = shown.max(axis=0)[seen]
            planes["dissimilarity"][seen] = area.dissimilarity(X[:, seen].T)
            writer.add(planes, here.row - frame.drawn.row, here.column - frame.drawn.column)
    files = dict(writer.files)
    files["preview"] = write_preview(
        folder / "preview.png",
        writer.files,
        title=f"{data.card.title or data.card.name}, {scene.name} ({model.card.name})",
        classes=classes,
        simulated=data.card.simulated,
    )
    return files, writer.counts()
