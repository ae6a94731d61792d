"""models check: does a model keep the contract?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds `check` to the `models` group, which `listing` makes."""
    group = next((entry.typer_instance for entry in app.registered_groups if entry.name == "models"), None)
    if group is None:
        group = typer.Typer(help="Models.")
        app.add_typer(group, name="models")
    group.command("check")(check)


def check(
    name: Annotated[str, typer.Argument(help="Model name, or path/to/file.py:Name.")],
    card: Annotated[Path | None, typer.Option("--card", help="Check on this task instead of a small made-up one.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Its data directory; default the card's folder.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Split; default the card's first that can be a main result.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Budget; default the card's first.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False,
) -> None:
    """Check that a model keeps the contract; exits with 1 where it does not."""
    from rs05bench.models import contract

    if card is None:
        outcome = contract.check_by_name(name)
    else:
        from rs05bench import models
        from rs05bench.experiment.cell import make_bench
        from rs05bench.protocol.card import TaskCard
        from rs05bench.protocol.result import Cell
        from rs05bench.protocol.splits import Split

        task = TaskCard.load(card)
        chosen = split or next((item for item in task.splits if Split(item).rule.may_be_main), task.splits[0])
        bench = make_bench(task, data or card.parent, [chosen])
        cell = Cell(
            task=task.name,
            target=task.targets[0],
            split=chosen,
            fold=bench.manifest(chosen).folds[0],
            model=name,
            budget=budget or (task.budgets or ["full"])[0],
            seed=0,
        )
        view = bench.data(cell)
        found = contract.check_model(lambda seed: models.create(name, card=task, seed=seed), view)
        outcome = {f"{task.name}, {chosen}, {cell.budget}": found}
    broken = contract.failed(outcome)
    if as_json:
        import json
        from dataclasses import asdict

        shown = {key: [asdict(item) for item in checks] for key, checks in outcome.items()}
        typer.echo(json.dumps({"model": name, "keeps_the_contract": not broken, "checks": shown}, indent=2, ensure_ascii=False))
    else:
        for key, checks in outcome.items():
            typer.echo(key)
            for item in checks:
                detail = f": {item.detail}" if item.detail else ""
                typer.echo(f"  {item.status.upper() if item.status == 'failed' else item.status:<8} {item.what}{detail}")
        typer.echo(f"{name} {'BREAKS' if broken else 'keeps'} the contract.")
    if broken:
        raise typer.Exit(1)
