"""advise: which method for one's own data, what to expect of it, and what more labels would buy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("advise")(advise)


def advise(
    card: Annotated[Path, typer.Argument(help="Task card (YAML).")],
    data: Annotated[Path | None, typer.Option("--data", help="Data directory; default the card's folder.")] = None,
    labels: Annotated[int | None, typer.Option("--labels", help="Labels you will have in all; default 100, or all there are.")] = None,
    minutes: Annotated[float, typer.Option("--minutes", help="Time limit; the first round of simple models is always run.")] = 5.0,
    more: Annotated[int, typer.Option("--more", help="How many further labels to ask about.")] = 30,
    target: Annotated[str | None, typer.Option("--target", help="Target; default the card's first.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Keep the results here; a second run takes them up.")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", help="Worker processes; default all cores.")] = None,
    everything: Annotated[
        bool, typer.Option("--full", help="Also every budget, costs, each class's score and what is taken for what.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything behind the advice, as JSON.")] = False,
) -> None:
    """Run a quick sweep on your own table and say which method to use, what to expect, and what more labels would buy."""
    import json
    import sys
    import tempfile

    from rs05bench.experiment.advice import to_dict
    from rs05bench.experiment.advice_text import full, lines
    from rs05bench.experiment.advise import advise as ask

    def tell(stage: str) -> None:
        if sys.stderr.isatty():
            typer.echo(f"\r\x1b[K  {stage}", err=True, nl=False)

    with tempfile.TemporaryDirectory(prefix="rs05bench-advise-") as temporary:
        try:
            found = ask(
                card,
                data or card.parent,
                out or temporary,
                labels=labels,
                minutes=minutes,
                more=more,
                target=target,
                jobs=jobs,
                on_stage=tell,
            )
        except KeyboardInterrupt:
            kept = f" The same command with --out {out} takes it up where it stopped." if out else ""
            typer.echo(f"\nStopped.{kept}", err=True)
            raise typer.Exit(130) from None
        finally:
            if sys.stderr.isatty():
                typer.echo("\r\x1b[K", err=True, nl=False)
    if as_json:
        typer.echo(json.dumps(to_dict(found), indent=2, ensure_ascii=False))
        return
    for line in [*lines(found), *(full(found) if everything else [])]:
        kept_nowhere = out is None and line.endswith(found.store)
        typer.echo(f"  {line.removesuffix(f' Results: {found.store}') if kept_nowhere else line}")
