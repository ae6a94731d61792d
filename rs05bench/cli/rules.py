"""``rs05bench rules``: do runs keep the fair protocol?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rules")(rules)


def rules(
    runs: Annotated[Path, typer.Argument(help="The folder of a sweep.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
    breaches: Annotated[bool, typer.Option("--all", help="Print every breach, not only the first few.")] = False,
) -> None:
    """Check every rule of the fair protocol over a sweep's results; exits 1 when one is broken."""
    import json

    from rs05bench.experiment.check import check_store

    verdicts = check_store(runs)
    if as_json:
        typer.echo(json.dumps([verdict.model_dump() for verdict in verdicts], indent=2, ensure_ascii=False))
    else:
        for verdict in verdicts:
            typer.echo(f"{verdict.rule:>2}  {verdict.verdict:<14}  {verdict.sentence}")
            for line in verdict.breaches if breaches and verdict.breaches else [verdict.reason]:
                typer.echo(f"                    {line}")
    if any(verdict.verdict == "fail" for verdict in verdicts):
        raise typer.Exit(1)
