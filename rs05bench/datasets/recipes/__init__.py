"""Recipes: public source files -> a task card with its data, that `rs05bench sweep` runs on.

A recipe is a YAML record in this package and a function that it names. Reading the records costs nothing: what a recipe needs is imported
when it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rs05bench.datasets.recipes.recipe_record import Option, Recipe, SourceFiles
from rs05bench.errors import DataError

if TYPE_CHECKING:
    from rs05bench.datasets.recipes.job import BuiltTask, Progress

__all__ = ["Option", "Recipe", "SourceFiles", "all_recipes", "build", "find_recipe"]

_SHARED = "shared"


def all_recipes() -> dict[str, Recipe]:
    """Every recipe of the package by its name, in the order of the names."""
    return {path.stem: Recipe.load(path) for path in sorted(Path(__file__).parent.glob("*.yaml")) if path.stem != _SHARED}


def find_recipe(name: str | Path) -> Recipe:
    """A recipe by its name, or one of your own by its file (`my_recipe.yaml`, with the function's file next to it).

    Raises:
        DataError: There is none; lists what there is.
    """
    if str(name).endswith((".yaml", ".yml")):
        return Recipe.load(name)
    known = all_recipes()
    if str(name) not in known:
        raise DataError(f"no recipe {str(name)!r}; there are: {', '.join(known)}", remedy="`rs05bench build --list` describes them.")
    return known[str(name)]


def build(
    name: str | Path,
    root: str | Path,
    out: str | Path | None = None,
    *,
    replace: bool = False,
    progress: Progress | None = None,
    options: Mapping[str, Any] | None = None,
) -> BuiltTask:
    """Builds a task from source files; see `rs05bench.datasets.recipes.job.run_recipe`.

    Args:
        name: Name of a recipe, or the file of one of your own.
        root: Folder that holds its source files.
        out: Folder to make; default one of the recipe's name in the current folder.
        replace: Take the place of an earlier build.
        progress: Called with what is being done, how much is done and how much there is.
        options: Options of the recipe.

    Raises:
        DataError: No such recipe, or its sources are missing, partial or another product.
    """
    from rs05bench.datasets.recipes.job import run_recipe

    recipe = find_recipe(name)
    return run_recipe(recipe, root, Path(recipe.name) if out is None else out, options, replace=replace, progress=progress)
