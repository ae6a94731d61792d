"""tasks, models, splits: what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

JSON = Annotated[bool, typer.Option("--json", help="JSON for machines.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this family."""
    app.command("tasks")(tasks)
    # A group, so that `models check NAME` stands beside the plain listing.
    group = typer.Typer(invoke_without_command=True, help="List models with their tier and where they come from, or check one.")
    group.callback()(models)
    app.add_typer(group, name="models")
    app.command("splits")(splits)


def tasks(
    cards: Annotated[list[Path] | None, typer.Argument(help="Cards, or folders of cards, to list beside the built-in ones.")] = None,
    as_json: JSON = False,
) -> None:
    """List tasks: the simulated benchmark's three, those over published data, and those of your cards."""
    from rs05bench.datasets import task_list

    found = [item.model_dump(mode="json") for item in task_list.tasks(cards or [])]
    _show(found, ["name", "load", "kind", "source", "title"], as_json)


def models(
    context: typer.Context,
    card: Annotated[Path | None, typer.Option("--card", help="Only what can run on this card.")] = None,
    tier: Annotated[str | None, typer.Option(help="Only this tier.")] = None,
    options: Annotated[bool, typer.Option("--options", help="Options of deep models: values, defaults, meaning.")] = False,
    as_json: JSON = False,
) -> None:
    """List models with their tier and where they come from; `models check NAME` checks one."""
    if context.invoked_subcommand is not None:
        return
    if options:
        from rs05bench.models.options import option_rows

        _show(option_rows(), ["option", "of", "values", "default", "meaning"], as_json)
        return
    from rs05bench.models import list_models
    from rs05bench.protocol import TaskCard

    found = list_models(None if card is None else TaskCard.load(card))
    rows = [
        {**item.card.model_dump(mode="json"), "kinds": list(item.kinds), "source": item.source}
        for item in found
        if tier is None or item.card.tier == tier
    ]
    _show(rows, ["name", "tier", "open_weights", "source", "kinds"], as_json)


def splits(
    card: Annotated[Path | None, typer.Option("--card", help="Say which splits of this card are possible on its data.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Data directory; default the card's folder.")] = None,
    as_json: JSON = False,
) -> None:
    """List the forms of splits; with a card, its splits and whether its data allow them."""
    if card is None:
        from rs05bench.datasets.task_list import split_forms

        _show(split_forms(), ["split", "moves", "main_result", "meaning"], as_json)
        return
    from rs05bench.datasets.card_check import check_card
    from rs05bench.models.features import derive
    from rs05bench.protocol import TaskCard

    report = check_card(TaskCard.load(card), data or card.parent, derive=derive)
    _show([item.model_dump(mode="json") for item in report.splits], ["split", "possible", "folds", "first_fold", "reason"], as_json)


def _show(rows: list[dict[str, Any]], columns: list[str], as_json: bool) -> None:
    if as_json:
        import json

        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.table import Table

    from rs05bench.cli._output import console

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column.replace("_", " "), no_wrap=column in ("name", "split", "tier"))
    for row in rows:
        grid.add_row(*(_text(row[column]) for column in columns))
    console().print(grid)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
