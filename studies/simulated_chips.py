"""Simulated burn-scar and crop chips under every deep tier: what runs, whether labels help, and what it costs.

    python studies/simulated_chips.py --out FOLDER > docs/studies/simulated_chips.md

From scratch, AlphaEarth, and Prithvi-tiny frozen, with a decoder, an adapter, LoRA and fully trained, under leave-region-out and three
label budgets. Data are simulated and encoders have random weights, so which tier is best says nothing, and no page says it: real chips
are the study `real-chips`.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

ENCODER = "prithvi-tiny"
TIERS = tuple(f"{ENCODER}/{tier}@random" for tier in ("frozen", "decoder", "adapter", "lora", "full"))
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Matrix:
    """One grid: a task, what it is split by, and what is run on it.

    Args:
        name: Folder of data and results.
        models: Models.
        split: Leave-region-out split of the task.
        folds: Folds that are run.
        budgets: Label budgets, rising.
    """

    name: str
    models: tuple[str, ...]
    split: str
    folds: tuple[str, ...]
    budgets: tuple[str, ...]


BURN = Matrix(
    "burn",
    ("raw/unet", "alphaearth/conv1x1", *TIERS),
    "leave-biome-out",
    ("forest", "shrubland"),
    ("2-fires", "5-fires", "full"),
)
CROP = Matrix("crop", ("raw/unet", "alphaearth/conv1x1", *TIERS), "leave-state-out", ("fold-02",), ("1pct-pixels", "10pct-pixels", "full"))


def main() -> None:
    """Runs both grids in a folder and prints the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="Folder of data and results; default a temporary one. Taken up where it was left.")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        print(study(arguments.out or Path(temporary), arguments.jobs))


def study(root: Path, jobs: int) -> str:
    """The page, as Markdown."""
    from rs05bench.experiment.provenance import hardware_name

    for matrix, write in ((BURN, write_burn), (CROP, write_crop)):
        if not (root / matrix.name / "card.yaml").exists():
            write(root / matrix.name)
    burn, crop = (run(matrix, root, jobs) for matrix in (BURN, CROP))
    return f"""# Simulated chips, every deep tier

**Simulated data, random-weight encoders (`@random`).** A simulation can show that every tier runs through the same two calls, that more
labels help, and what a tier costs. It cannot show which tier is best: that is the question of [real chips](real-chips.md). Made by
`python studies/simulated_chips.py` on {hardware_name()}.

{findings(burn, BURN)}
{findings(crop, CROP)}

Burn scars: 28 chips of 128 x 128 pixels, {BURN.split} (folds {" and ".join(BURN.folds)}), {schedule(root, BURN)}. Crops: 12 chips of
224 x 224 pixels at three dates, {CROP.split} (fold {", ".join(CROP.folds)}), {schedule(root, CROP)}. {len(SEEDS)} seeds.

## Cost
The largest budget, one cell a model, measured alone in a fresh process of one thread where *fit* says so, else as it ran.

{costs(burn, BURN, "burn scars")}
{costs(crop, CROP, "crops")}
"""


def run(matrix: Matrix, root: Path, jobs: int) -> pd.DataFrame:
    """One grid, then the cost of one cell a model; a row a cell."""
    from rs05bench.experiment.gridfile import GridChoice, GridFile
    from rs05bench.experiment.query import read_index
    from rs05bench.experiment.store import ResultStore
    from rs05bench.experiment.sweep import sweep

    card, out = root / matrix.name / "card.yaml", root / f"runs-{matrix.name}"
    grid = {"models": matrix.models, "splits": (matrix.split,), "folds": matrix.folds}
    done = sweep(GridFile.over(card, card.parent, GridChoice(**grid, budgets=matrix.budgets, seeds=SEEDS), costs=False), out, jobs=jobs)
    if done.failed:
        raise SystemExit("\n".join(f"{outcome.model}: {outcome.error}" for outcome in done.failed))
    grid["folds"] = matrix.folds[:1]
    sweep(GridFile.over(card, card.parent, GridChoice(**grid, budgets=matrix.budgets[-1:], seeds=SEEDS[:1]), costs=True), out, jobs=1)
    return read_index(ResultStore(out))


def write_burn(folder: Path) -> None:
    """Simulated chips around single fires, and their card with a small schedule."""
    from rs05bench.experiment.demo_chips import chips_card, write_small_chips

    write_small_chips(folder, count=28)
    card = chips_card(folder, steps=40)
    training = card.training.model_copy(update={"val_every": 10})
    card.model_copy(update={"training": training, "budgets": list(BURN.budgets)}).save(folder / "card.yaml")


def write_crop(folder: Path) -> None:
    """The simulated crop chips of the small world with embeddings of their year, and their card with a small schedule."""
    from rs05bench.datamodules.chipsource import simulated_chip_cards
    from rs05bench.datasets.simulated import embedding_tiles, simulate
    from rs05bench.datasets.simulated.chip_files import CROP_CHIP_YEAR, write_crop_chips

    farms = list(simulate("small", 0).farmlands)
    for name in ("crop_chips", "alphaearth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_crop_chips(folder / "crop_chips", farms)
    tiles = [tile for farm in farms for tile in embedding_tiles.write_landscape(folder / "alphaearth", farm, CROP_CHIP_YEAR)]
    embedding_tiles.write_index(folder / "alphaearth", tiles)
    (folder / "SIMULATED.json").write_text('{"simulated": true}\n', encoding="utf-8")
    card = simulated_chip_cards(folder)["crop-chips"]
    training = card.training.model_copy(update={"steps": 40, "val_every": 10, "class_weights": "balanced"})
    card = card.with_preprocessing(patch_size=112)
    card.model_copy(update={"training": training, "budgets": list(CROP.budgets)}).save(folder / "card.yaml")


def schedule(root: Path, matrix: Matrix) -> str:
    """How every model was trained, from the card."""
    from rs05bench.protocol import TaskCard

    card = TaskCard.load(root / matrix.name / "card.yaml")
    training, patch = card.training, card.preprocessing.patch_size
    rates = ", ".join(f"{rate:g}" for rate in training.learning_rates)
    return f"{training.steps} steps, patches of {patch} pixels, learning rate {rates}, {training.class_weights} classes"


def findings(rows: pd.DataFrame, matrix: Matrix) -> str:
    """What the numbers say, counted."""
    wide = rows.pivot_table(index=["model", "fold", "seed"], columns="budget", values="miou_ood")
    gains = (wide[matrix.budgets[-1]] - wide[matrix.budgets[0]]).dropna()
    rises = f"{int((gains > 0).sum())} of {len(gains)} fits, by {gains.mean():.3f} on average"
    models = f"{rows['model'].nunique()} models ran, {len(rows)} cells"
    return f"- {matrix.name}: {models}. From {matrix.budgets[0]} to {matrix.budgets[-1]} mIoU in the held-out region rises in {rises}."


def costs(rows: pd.DataFrame, matrix: Matrix, title: str) -> str:
    """Parameters, time and memory of the largest budget."""
    lines = [
        f"| {title} | parameters | trained | fit, s | GFLOPs a chip | peak memory, MiB |",
        "|---|---|---|---|---|---|",
    ]
    chosen = rows[(rows["budget"] == matrix.budgets[-1]) & (rows["fold"] == matrix.folds[0]) & (rows["seed"] == SEEDS[0])]
    for model in matrix.models:
        row = chosen[chosen["model"] == model].iloc[0]
        how = " (alone)" if row["alone"] else ""
        memory, flops = (number(row.get(name), digits) for name, digits in (("peak_memory_mb", 0), ("gflops_per_unit", 2)))
        counts = f"{int(row['parameters_total']):,} | {int(row['parameters_trainable']):,}"
        lines.append(f"| {model} | {counts} | {row['fit_s']:.1f}{how} | {flops} | {memory} |")
    return "\n".join(lines) + "\n"


def number(value: float | None, digits: int) -> str:
    """A number, or nothing where it was not measured."""
    return "" if value is None or pd.isna(value) else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
