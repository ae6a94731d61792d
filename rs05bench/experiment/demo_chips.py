"""The deep part of the demo: simulated burn-scar chips small enough for two cores, with every kind of deep tier on them.

Everything here is simulated, and encoders have random weights, which their names say (`@random`): it shows that the tiers run, are costed
and compared by the same two calls. It says nothing about the Earth, nor about any pretrained model.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from rs05bench.embeddings.products import DEFAULT_FAMILY
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.sweep import Progress, SweepSummary, sweep
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.result import Cell

CHIPS = 28
SIDE = 128
"""Side of a chip, pixels; the published ones have 512, whose maps alone would take longer than the rest of the demo."""
MODELS = (
    "floor/majority",
    "raw/logistic",
    "raw/unet",
    f"{DEFAULT_FAMILY}/conv1x1",
    "prithvi-tiny/frozen@random",
    "prithvi-tiny/lora@random",
)
SPLIT = "leave-biome-out"
FOLDS = ("forest", "shrubland")
BUDGETS = ("2-fires", "8-fires")
SEEDS = (0, 1)
STEPS = 60


def deep_part(
    out: str | Path,
    *,
    jobs: int | None = None,
    on_start: Callable[[list[Cell], int], None] | None = None,
    on_progress: Progress | None = None,
) -> list[SweepSummary]:
    """Writes the chips where they are missing and runs every cell of the deep part that has no result yet.

    Args:
        out: The demo's folder: chips under `data/hls-burn-scars/`, results under `runs/`.
        jobs: Worker processes; default all cores.
        on_start: Called with the cells and how many already exist.
        on_progress: Called with outcomes as they come.

    Returns:
        What was run: the grid, then the costs of its larger budget, each measured alone.
    """
    root = Path(out)
    card = demo_card(root / "data" / "hls-burn-scars")
    choice = GridChoice(models=list(MODELS), splits=[SPLIT], folds=list(FOLDS), budgets=list(BUDGETS), seeds=list(SEEDS))
    runs = [
        sweep(GridFile.over(card, card.parent, choice, costs=False), root / "runs", jobs=jobs, on_start=on_start, on_progress=on_progress)
    ]
    if not runs[0].stopped:
        one = choice.model_copy(update={"folds": [FOLDS[0]], "budgets": [BUDGETS[-1]], "seeds": [SEEDS[0]]})
        sweep(GridFile.over(card, card.parent, one, costs=True), root / "runs", jobs=1)
    return runs


def demo_card(folder: Path) -> Path:
    """The deep part's task card beside its chips, both written where they are missing."""
    path = folder / "card.yaml"
    if not path.is_file():
        write_small_chips(folder)
        chips_card(folder).save(path)
    return path


def chips_card(folder: str | Path, *, steps: int = STEPS, patch_size: int = 64) -> TaskCard:
    """A card over chips that `write_small_chips` wrote, with a schedule for two cores."""
    from rs05bench.datamodules.chipsource import simulated_chip_cards

    card = simulated_chip_cards(folder)["hls-burn-scars"]
    training = card.training.model_copy(update={"steps": steps, "val_every": max(steps // 2, 1), "class_weights": "balanced"})
    card = card.with_preprocessing(patch_size=patch_size)
    return card.model_copy(update={"training": training, "budgets": [*BUDGETS, "full"]})


def write_small_chips(out: str | Path, *, count: int = CHIPS, side: int = SIDE, seed: int = 0) -> Path:
    """Writes burn-scar chips around single fires, with their embeddings and regions, in the formats of the published files.

    Args:
        out: Folder to write to.
        count: Chips.
        side: Their side, pixels, a multiple of 4.
        seed: Seed of the simulated world.

    Returns:
        The folder.
    """
    from rs05bench.datasets.simulated import chip_files, embedding_tiles, simulate, vector_files

    root, world = Path(out), simulate("small", seed)
    chips = chip_files.burn_chips(world.wildlands, count)
    tiles: dict[str, embedding_tiles.WrittenTile] = {}
    (root / DEFAULT_FAMILY).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as whole:
        chip_files.write_burn_chips(Path(whole), chips)
        written = {path.name: path for path in Path(whole).rglob("*.tif")}
        for chip in chips:
            row, column = _corner(chip.fire.rows, chip.wild.grid.height, side), _corner(chip.fire.cols, chip.wild.grid.width, side)
            for name in (f"{chip.name}_merged.tif", f"{chip.name}.mask.tif"):
                source = written[name]
                target = root / "hls_burn_scars" / source.parent.name / name.replace("512x512", f"{side}x{side}")
                _cut(source, target, row, column, side)
            window = (row, row + side, column, column + side)
            for tile in embedding_tiles.write_landscape(root / DEFAULT_FAMILY, chip.wild, chip.fire.year, window):
                tiles[tile.path] = tile
    embedding_tiles.write_index(root / DEFAULT_FAMILY, list(tiles.values()))
    vector_files.write_regions(root / "regions" / "regions.gpkg", world)
    record = {"simulated": True, "seed": seed, "burn_chips": len(chips), "side": side}
    (root / "SIMULATED.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return root


def _corner(reach: tuple[int, int], length: int, side: int) -> int:
    """First row (or column) of a window around a fire that stays inside the landscape, on its grid of 60 m cells."""
    return min(max((reach[0] + reach[1] - side) // 2, 0), length - side) // 2 * 2


def _cut(source: Path, target: Path, row: int, column: int, side: int) -> None:
    import rasterio
    from rasterio.windows import Window

    target.parent.mkdir(parents=True, exist_ok=True)
    window = Window(column, row, side, side)
    part = target.with_suffix(".part")
    with rasterio.open(source, driver="GTiff") as whole:
        profile = {**whole.profile, "height": side, "width": side, "transform": whole.window_transform(window)}
        for tiling in ("blockxsize", "blockysize", "tiled"):
            profile.pop(tiling, None)
        with rasterio.open(part, "w", **profile) as cut:
            cut.write(whole.read(window=window))
            cut.update_tags(SIMULATED="YES")
    shutil.move(part, target)
