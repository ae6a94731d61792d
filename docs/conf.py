"""Sphinx configuration: MyST pages, tutorials that run while the documentation is built, an API reference from docstrings.

The build fetches nothing: no intersphinx, no web fonts.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import typer

import rs05bench.cli

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tutorials call the command that belongs to this environment, whether or not it was activated.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"

project = "rs05bench"
author = "The rs05bench authors"
copyright = "2026, The rs05bench authors"
release = importlib.metadata.version("rs05bench")
version = ".".join(release.split(".")[:2])

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "auto_examples", "**/.ipynb_checkpoints"]
templates_path = ["_templates"]

# Tutorials are run by every build, and one that fails, fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has the types; here they would be raw annotations
nitpicky = False
default_role = "code"  # docstrings write `name` as Markdown does

html_theme = "pydata_sphinx_theme"
html_title = "rs05bench"
html_static_path = ["_static"]
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "navbar_align": "left",
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def _spare_bars(app, what, name, obj, options, lines) -> None:
    """In reStructuredText |x| asks for a substitution; in our docstrings it is an absolute value."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith(("|", "+")):
            spans = re.split(r"(`[^`]*`)", line)
            lines[number] = "".join(span if span.startswith("`") else span.replace("|", r"\|") for span in spans)


def _helps(command, name: str) -> Iterator[tuple[str, str]]:
    """Name and help of every command, families taken apart."""
    if nested := getattr(command, "commands", None):
        for short, inner in sorted(nested.items()):
            yield from _helps(inner, f"{name} {short}")
    else:
        context = command.context_class(command, info_name=name, terminal_width=100, max_content_width=100)
        yield name, command.get_help(context)


def _list_commands(app, page: str, source: list[str]) -> None:
    """The page of commands shows what `--help` prints."""
    if page == "reference/commands":
        rs05bench.cli._register()  # families register when the command runs
        command = typer.main.get_command(rs05bench.cli.app)
        source[0] += "".join(f"\n## {name}\n\n```text\n{text}\n```\n" for name, text in _helps(command, "rs05bench"))


def _list_products(app, page: str, source: list[str]) -> None:
    """The page of products shows what the records hold."""
    if page == "embedding_products":
        from rs05bench.embeddings.product_page import products_table

        source[0] = source[0].replace("<!-- products -->", products_table())


def _list_options(app, page: str, source: list[str]) -> None:
    """Pages show the records of deep models' options and of derived columns."""
    if page == "models":
        from rs05bench.models.options import options_table

        source[0] = source[0].replace("<!-- options -->", options_table())
    if page == "datasets":
        from rs05bench.models.options import derived_table

        source[0] = source[0].replace("<!-- derived -->", derived_table())


def _write_recipe_pages(app) -> None:
    """One page a recipe, from the record that the command prints too."""
    from rs05bench.datasets.recipes import all_recipes
    from rs05bench.datasets.recipes.recipe_page import page

    folder = Path(app.srcdir) / "reference" / "recipes"
    folder.mkdir(exist_ok=True)
    wanted = {f"{name}.md": page(recipe) for name, recipe in all_recipes().items()}
    for stale in {path.name for path in folder.glob("*.md")} - set(wanted):
        (folder / stale).unlink()
    for name, text in wanted.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:  # an unchanged page is not built again
            path.write_text(text, encoding="utf-8")


def setup(app) -> None:
    app.connect("builder-inited", _write_recipe_pages)
    app.connect("autodoc-process-docstring", _spare_bars)
    app.connect("source-read", _list_commands)
    app.connect("source-read", _list_products)
    app.connect("source-read", _list_options)
