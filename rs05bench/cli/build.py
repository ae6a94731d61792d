"""build: public source files become a task card with its data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Adds the command of this family."""
    app.command("build")(build)


def build(
    name: Annotated[str | None, typer.Argument(help="Name of the builder; --list shows all.")] = None,
    root: Annotated[Path | None, typer.Option("--root", help="Folder that holds the source files.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to make; default NAME in the current folder.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="An option of the builder; repeatable.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of an earlier build.")] = False,
    about: Annotated[bool, typer.Option("--about", help="Print the builder's page: sources, what leaks, splits, options.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the builders and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False,
) -> None:
    """Build a task from public source files: card.yaml, the data, and build.json with what was read, counted and dropped."""
    import json

    from rs05bench.cli._progress import Bar
    from rs05bench.datasets.builders import all_builders, find_builder
    from rs05bench.datasets.builders import build as run
    from rs05bench.errors import DataError

    if listing:
        _list(as_json)
        return
    if name is None:
        raise DataError("which builder?", remedy=f"There are: {', '.join(all_builders())}. `rs05bench build --list` says more.")
    if about:
        from rs05bench.datasets.builders.page import page

        builder = find_builder(name)
        typer.echo(json.dumps(builder.record()) if as_json else page(builder))
        return
    if root is None:
        raise DataError(
            "where are the source files?", remedy=f"Give --root DIR; `rs05bench build {name} --about` says what must lie there."
        )
    with Bar(quiet=as_json) as bar:
        made = run(name, root, out, replace=replace, progress=bar.show, options=_options(settings or []))
    if as_json:
        shown: dict[str, Any] = {"name": made.card.name, "folder": str(made.folder), "files": list(made.files), "counts": made.counts}
        shown |= {"dropped": made.dropped, "splits": made.card.splits, "splits_left_out": made.splits_left_out, "notes": list(made.notes)}
        typer.echo(json.dumps(shown))
        return
    typer.echo(made.report)
    if made.card.simulated:
        typer.echo("Simulated: for trying things out, never for a leaderboard.")
    typer.echo(f"Next: rs05bench sweep {made.folder / 'card.yaml'} --data {made.folder} --out runs")


def _options(settings: list[str]) -> dict[str, str]:
    from rs05bench.errors import DataError

    pairs = [setting.partition("=") for setting in settings]
    for key, sign, _ in pairs:
        if not (key and sign):
            raise DataError(f"--set takes OPTION=VALUE, found {key!r}")
    return {key: value for key, _, value in pairs}


def _list(as_json: bool) -> None:
    import json

    from rs05bench.datasets.builders import all_builders

    builders = all_builders()
    if as_json:
        typer.echo(json.dumps({name: builder.record() for name, builder in builders.items()}))
        return
    width = max(map(len, builders), default=0)
    for name, builder in builders.items():
        typer.echo(f"{name:<{width}}  {builder.title}")
        needed = ", ".join(source.name + ("" if source.required else " (optional)") for source in builder.sources)
        typer.echo(f"{'':<{width}}  needs {needed}; main split {builder.main_split}")
    typer.echo("`rs05bench build NAME --about` says where to get the sources, what leaks in them and which splits are possible.")
