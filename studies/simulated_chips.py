"""Simulated burn-scar and crop chips under every kind of deep tier: does the machinery say something sensible?

    python studies/simulated_chips.py > docs/studies/simulated_chips.md

Data are simulated and encoders have random weights: nothing here is about the Earth, nor about any pretrained model. What can be learnt
is whether a model that can see the signal finds it, whether more labels help, and what each tier costs on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd

BURN = (
    "raw/unet",
    "alphaearth/conv1x1",
    "hybrid/unet",
    "prithvi-tiny/frozen@random",
    "prithvi-tiny/lora@random",
    "prithvi-tiny/full@random",
)
CROP = ("raw/unet", "prithvi-tiny/frozen@random")


def main() -> None:
    """Runs both grids in a folder and prints the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="Folder of data and results; default a temporary one. Taken up where it was left.")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        print(study(arguments.out or Path(temporary), arguments.jobs))


def study(root: Path, jobs: int) -> str:
    """The page, as Markdown."""
    from rs05bench.experiment.demo_chips import chips_card, write_small_chips
    from rs05bench.experiment.provenance import hardware_name

    burn = root / "burn"
    if not (burn / "card.yaml").exists():
        write_small_chips(burn, count=28)
        chips_card(burn, steps=60).save(burn / "card.yaml")
    first = run(burn / "card.yaml", root / "runs-burn", BURN, "leave-biome-out", ("2-fires", "8-fires"), ("forest", "shrubland"), jobs)
    crop = root / "crop"
    if not (crop / "card.yaml").exists():
        write_crop(crop)
    second = run(crop / "card.yaml", root / "runs-crop", CROP, "leave-state-out", ("10pct-pixels", "full"), ("fold-01", "fold-02"), jobs)
    return f"""# Simulated chips, every deep tier

**Simulated data, random-weight encoders (`@random`).** Nothing here is about the Earth or about a pretrained model. Made by
`python studies/simulated_chips.py` on {hardware_name()}, with other work beside it: times are rough.

## Burn scars
28 simulated HLS chips of 128 x 128 pixels around one fire each, leave-biome-out (folds forest and shrubland), 2 seeds,
60 steps of 4 patches of 64 pixels, learning rate 0.001, balanced classes, AlphaEarth-like embeddings of the fire's
year. mIoU, mean over folds and seeds.

{table(first)}

## Crops
12 simulated chips of 224 x 224 pixels at three dates, 13 classes, leave-state-out (2 of its 5 folds), 2 seeds, 40 steps of
4 patches of 112 pixels. mIoU, mean over folds and seeds.

{table(second)}
"""


def run(card: Path, out: Path, models: tuple[str, ...], split: str, budgets: tuple[str, ...], folds: tuple[str, ...], jobs: int) -> Path:
    """One grid, with costs."""
    from rs05bench.experiment.sweep import sweep

    done = sweep(card, card.parent, out, models=models, splits=(split,), budgets=budgets, folds=folds, seeds=(0, 1), jobs=jobs, costs=False)
    if done.failed:
        raise SystemExit("\n".join(f"{outcome.model}: {outcome.error}" for outcome in done.failed))
    sweep(card, card.parent, out, models=models, splits=(split,), budgets=budgets[-1:], folds=folds[:1], seeds=(0,), jobs=1, costs=True)
    return out


def write_crop(folder: Path) -> None:
    """The simulated crop chips of the small world, and their card with a small schedule."""
    from rs05bench.datamodules.chipsource import simulated_chip_cards
    from rs05bench.datasets.simulated import simulate
    from rs05bench.datasets.simulated.chip_files import write_crop_chips

    (folder / "crop_chips").mkdir(parents=True)
    write_crop_chips(folder / "crop_chips", list(simulate("small", 0).farmlands))
    (folder / "SIMULATED.json").write_text('{"simulated": true}\n', encoding="utf-8")
    card = simulated_chip_cards(folder)["crop-chips"]
    training = card.training.model_copy(update={"steps": 40, "val_every": 20})
    said = {**card.preprocessing, "patch_size": 112, "embeddings": ""}
    card.model_copy(update={"training": training, "preprocessing": said}).save(folder / "card.yaml")


def table(store: Path) -> str:
    """Scores by model and budget beside the cost of the larger budget, measured alone."""
    from rs05bench.experiment.store import ResultStore

    kept = ResultStore(store)
    rows = [
        {"model": result.cell.model, "budget": result.cell.budget, "labels": result.cost.labels_used}
        | {role: result.scores[role]["miou"] for role in ("test_id", "test_ood") if role in result.scores}
        for result in kept.results()
    ]
    frame = pd.DataFrame(rows).groupby(["model", "budget"], sort=False).mean().reset_index().sort_values(["model", "labels"])
    costs = {kept.read(digest).cell.model: cost for digest, cost in kept.costs().items()}
    lines = [
        "| model | budget | chips | here | elsewhere | trainable parameters | fit, s | GFLOPs a chip | memory, MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in frame.itertuples():
        cost = costs.get(row.model)
        spent = ["", "", "", ""]
        if cost is not None and row.budget == frame.loc[frame["model"] == row.model, "budget"].iloc[-1]:
            spent = [f"{cost.parameters_trainable:,}", f"{cost.fit_s:.1f}", f"{cost.gflops_per_unit:.2f}", f"{cost.peak_memory_mb:.0f}"]
        lines.append(f"| {row.model} | {row.budget} | {row.labels:.0f} | {row.test_id:.3f} | {row.test_ood:.3f} | {' | '.join(spent)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
