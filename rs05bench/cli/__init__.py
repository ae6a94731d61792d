"""The `rs05bench` command: parses, calls one function, prints.

One file a family of commands. A family imports nothing but typer until one of its commands runs, so `--help` answers at once.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import warnings
from pathlib import Path

import typer

from rs05bench.cli._groups import FIRST, Grouped, add_examples

app = typer.Typer(
    name="rs05bench",
    help="Public Earth embeddings or local fine-tuning? Data, frozen splits, one fair protocol, one scorer.",
    cls=Grouped,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    context: typer.Context,
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", help="Print the version and stop.", is_eager=True),
) -> None:
    if version:
        from rs05bench import __version__

        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(FIRST, nl=False)


def _register() -> None:
    if app.registered_commands:  # a second group of one name would hide what other files added to the first
        return
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        importlib.import_module(f"{__name__}.{path.stem}").register(app)
    add_examples(app)


def main() -> None:
    """Runs the command; an error of ours or of the machine becomes one message on standard error and exit status 2."""
    from rs05bench.cli._terminal import show_names_as_they_are
    from rs05bench.errors import BenchError, machine_error
    from rs05bench.extras import missing_extra

    show_names_as_they_are()
    warnings.showwarning = lambda message, *_: typer.echo(f"Warning: {message}", err=True)  # without our file and line
    if hasattr(signal, "SIGTERM"):  # leave by the way that cleans up
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    _register()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _close_output()
        sys.exit(0)
    except Exception as error:
        told = error if isinstance(error, BenchError) else missing_extra(error) or machine_error(error)
        if told is None or "--debug" in sys.argv:
            raise
        _close_output()
        typer.echo(f"{type(told).__name__}: {told}", err=True)
        sys.exit(2)


def _close_output() -> None:
    """Has Python not try again, at its end, to write what standard output did not take."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
