"""build: public source files become a task card with its data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Adds the command of this family."""
    app.command("build")(build)


def build(
    name: Annotated[str | None, typer.Argument(help="Name of the recipe; --list shows all.")] = None,
    root: Annotated[Path | None, typer.Option("--root", help="Folder that holds the source files.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to make; default NAME in the current folder.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="An option of the recipe; repeatable.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of an earlier build.")] = False,
    about: Annotated[bool, typer.Option("--about", help="Print the recipe's page: sources, what leaks, splits, options.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the recipes and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False,
) -> None:
    """Build a task from public source files: card.yaml, the data, and build.json with what was read, counted and dropped."""
    import json

    from rs05bench.cli._progress import Bar
    from rs05bench.datasets.recipes import all_recipes, find_recipe
    from rs05bench.datasets.recipes import build as run
    from rs05bench.errors import DataError

    if listing:
        _list(as_json)
        return
    if name is None:
        raise DataError("which recipe?", remedy=f"There are: {', '.join(all_recipes())}. `rs05bench build --list` says more.")
    if about:
        from rs05bench.datasets.recipes.recipe_page import page

        recipe = find_recipe(name)
        typer.echo(json.dumps(recipe.described().model_dump(mode="json")) if as_json else page(recipe))
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

    from rs05bench.datasets.recipes import all_recipes

    recipes = all_recipes()
    if as_json:
        typer.echo(json.dumps({name: recipe.described().model_dump(mode="json") for name, recipe in recipes.items()}))
        return
    width = max(map(len, recipes), default=0)
    for name, recipe in recipes.items():
        typer.echo(f"{name:<{width}}  {recipe.title}")
        needed = ", ".join(source.name + ("" if source.required else " (optional)") for source in recipe.sources)
        typer.echo(f"{'':<{width}}  needs {needed}; main split {recipe.main_split}")
    typer.echo("`rs05bench build NAME --about` says where to get the sources, what leaks in them and which splits are possible.")
