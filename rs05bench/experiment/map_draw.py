"""Drawing a map: scenes go through a predictor block by block into the files. Memory does not grow with the area."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rs05bench.experiment.map_files import MapWriter, gdal_limits, write_preview

if TYPE_CHECKING:
    from rs05bench.datamodules.chip_view import ChipView
    from rs05bench.experiment.map_predictor import Predictor
    from rs05bench.experiment.map_scene import Scene
    from rs05bench.protocol.pixel_grid import Grid
    from rs05bench.protocol.taskdata import TaskData

type Progress = Callable[[int, int], None]


@dataclass
class MapResult:
    """What was written, and what it says.

    Attributes:
        out: The folder.
        files: Year (or image) -> name -> file.
        record: Everything the report says, as plain data (`map.json`).
    """

    out: Path
    files: dict[str, dict[str, Path]]
    record: dict[str, Any] = field(default_factory=dict)


def draw(predictor: Predictor, scenes: Sequence[Scene], out: str | Path, *, on_progress: Progress | None = None) -> MapResult:
    """Draws a fitted model over scenes, a folder each.

    Args:
        predictor: The model.
        scenes: What it is drawn over.
        out: Folder.
        on_progress: Called with blocks done and blocks in all.
    """
    card, target, classes, folder = predictor.data.card, predictor.data.target, class_names(predictor.data), Path(out)
    common = {"TASK": card.name, "TARGET": target, "MODEL": predictor.card.name, "SOFTWARE": "rs05bench"}
    common |= {"SIMULATED": "yes"} if card.simulated else {}
    files: dict[str, dict[str, Path]] = {}
    counts: dict[str, dict[str, Any]] = {}
    total, done = sum(predictor.count_blocks(scene) for scene in scenes), 0
    for scene in scenes:
        with (
            gdal_limits(),
            MapWriter(
                folder / scene.name, scene.frame.target, predictor.planes, predictor.area, classes=classes, tags=common | scene.tags
            ) as writer,
        ):
            for window, planes in predictor.blocks(scene):
                if planes is not None:
                    writer.add(planes, window.row, window.column)
                done += 1
                if on_progress is not None:
                    on_progress(done, total)
        scene.close()  # before the next: its blocks in memory serve no other
        counts[scene.name] = writer.counts()
        title = f"{card.title or card.name}, {scene.name} ({predictor.card.name})"
        preview = write_preview(
            folder / scene.name / "preview.png", writer.files, title=title, classes=classes, unit=target, simulated=card.simulated
        )
        files[scene.name] = {**writer.files, "preview": preview}
    grids = [scene.frame.target for scene in scenes]
    listed = {key: {name: str(path.relative_to(folder)) for name, path in named.items()} for key, named in files.items()}
    tiles = "; ".join(dict.fromkeys(source.description for scene in scenes for source in scene.sources))
    grid = None if len(set(grids)) > 1 else _grid_record(grids[0])
    return MapResult(
        folder, files, {"grid": grid, "years": counts, "tiles": tiles or None, "metres": _in_metres(grids[0]), "files": listed}
    )


def class_names(data: TaskData | ChipView) -> list[str] | None:
    """Names of the classes as people read them, None for numbers."""
    if data.classes is None:
        return None
    names = data.card.class_names
    return [str(value) for value in (names if names and len(names) == len(data.classes) else data.classes)]


def _grid_record(target: Grid) -> dict[str, Any]:
    return {"crs": target.crs, "height": target.height, "width": target.width, "pixel": [target.xres, target.yres]}


def _in_metres(target: Grid) -> bool:
    from rs05bench.protocol.pixel_grid import crs_of

    crs = crs_of(target.crs)
    return crs.is_projected and all(axis.unit_name == "metre" for axis in crs.axis_info[:2])
