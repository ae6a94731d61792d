"""budgets: which labels each budget shows, for any tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the command of this family."""
    app.command("budgets")(budgets)


def budgets(
    card: Annotated[str, typer.Argument(help="Task card (YAML), or the name of a task.")],
    out: Annotated[Path, typer.Option("--out", help="File to write: .csv or .parquet.")],
    data: Annotated[Path | None, typer.Option("--data", help="The task's data; default the card's folder.")] = None,
    splits: Annotated[str | None, typer.Option("--splits", help="Splits, separated by commas; default the card's.")] = None,
    names: Annotated[str | None, typer.Option("--budgets", help="Budgets, separated by commas; default the card's.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds 0 to this, without it.")] = 5,
) -> None:
    """Write the label sets of every split, fold, budget and seed: columns task, target, split, fold, budget, seed, unit_id, role."""
    from rs05bench.cli._tasks import find_card
    from rs05bench.experiment.entries import write_budgets

    found = find_card(card, data or Path(card).parent)
    rows = write_budgets(
        found,
        data or Path(card).parent,
        out,
        splits=splits.split(",") if splits else found.splits,
        budgets=names.split(",") if names else found.budgets,
        seeds=seeds,
    )
    typer.echo(f"{out}: {rows:,} rows")
