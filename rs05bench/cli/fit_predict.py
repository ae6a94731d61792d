"""``rs05bench fit-predict``: one cell, from labels to scored predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("fit-predict")(fit_predict)


def fit_predict(
    card: Annotated[str, typer.Argument(help="Task card (YAML), or the name of a task the package reads, e.g. hls-burn-scars.")],
    data: Annotated[Path, typer.Option(help="Folder of the data.")],
    model: Annotated[str, typer.Option(help="Model name; rs05bench models lists them.")],
    split: Annotated[str, typer.Option(help="Split, e.g. leave-state-out.")],
    out: Annotated[Path, typer.Option(help="Folder for result.json, predictions/, card.yaml and manifest/; must not hold them yet.")],
    fold: Annotated[str | None, typer.Option(help="Fold; default the first.")] = None,
    budget: Annotated[str, typer.Option(help="Label budget.")] = "full",
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    target: Annotated[str | None, typer.Option(help="Target; default the card's first.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Option of the model as key=value, e.g. rank=4; may be given often.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fit one model on one fold, budget and seed, predict the test units, score them, and keep both."""
    from rs05bench.cli._tasks import find_card
    from rs05bench.experiment.one_cell import fit_predict as run
    from rs05bench.experiment.one_cell import parse_options

    result = run(
        find_card(card, data),
        data,
        out,
        model=model,
        split=split,
        fold=fold,
        budget=budget,
        seed=seed,
        target=target,
        options=parse_options(option or []),
    )
    if as_json:
        typer.echo(result.model_dump_json(exclude_none=True, indent=2))
        return
    cell = result.cell
    typer.echo(f"{cell.model}, {cell.task}, {cell.split} / {cell.fold}, {cell.budget}, seed {cell.seed}")
    if result.simulated:
        typer.echo("SIMULATED data: says nothing about the Earth.")
    if result.model.random_twin:
        typer.echo("The encoder has random weights.")
    typer.echo(result.table().to_string(float_format="{:.3f}".format, na_rep="-"))
    cost = result.cost
    labels = f"{cost.labels_used} labels" + (f" ({cost.labels_inspected} inspected)" if cost.labels_inspected != cost.labels_used else "")
    typer.echo(f"{labels}, fit {cost.fit_s:.1f} s, predict {cost.predict_s:.1f} s. Kept in {out}")
