"""``rs05bench export-terratorch``: a deep cell for TerraTorch's own command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export-terratorch")(export_terratorch)


def export_terratorch(
    card: Annotated[str, typer.Argument(help="Task card (YAML), or the name of a task the package reads, e.g. hls-burn-scars.")],
    data: Annotated[Path, typer.Option(help="Folder of the data.")],
    model: Annotated[str, typer.Option(help="Name of a deep model, e.g. prithvi-300/lora.")],
    split: Annotated[str, typer.Option(help="Split, e.g. leave-state-out.")],
    out: Annotated[Path, typer.Option(help="New folder for cell.yaml, train/ and val/.")],
    fold: Annotated[str | None, typer.Option(help="Fold; default the first.")] = None,
    budget: Annotated[str, typer.Option(help="Label budget.")] = "full",
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the model as key=value, e.g. weights=FILE; may be given often.")
    ] = None,
) -> None:
    """Write the budget's patches and a configuration that trains the same network on them with `terratorch fit`."""
    from rs05bench.cli._tasks import find_card
    from rs05bench.experiment.one_cell import export_cell, parse_options

    path = export_cell(
        find_card(card, data),
        data,
        out,
        model=model,
        split=split,
        fold=fold,
        budget=budget,
        seed=seed,
        options=parse_options(option or []),
    )
    typer.echo(f"terratorch fit --config {path}")
