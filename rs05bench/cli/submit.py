"""submit: make a submission bundle and check it before anyone waits for a review."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rs05bench.protocol.submission.verdict import Verdict

Board = Annotated[Path, typer.Option("--board", help="The leaderboard's folder, or its tasks.yaml.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this family."""
    family = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make and check a submission to the leaderboard.")
    family.command("card")(card)
    family.command("make")(make)
    family.command("check")(check)
    app.add_typer(family, name="submit")


def card(
    runs: Annotated[Path, typer.Argument(help="Folder of a sweep.")],
    model: Annotated[str, typer.Option("--model", help="Which model the submission is of.")],
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default standard output.")] = None,
) -> None:
    """Print a submission card to fill in, with what the results tell filled in already."""
    from rs05bench.errors import DataError
    from rs05bench.experiment.provenance import hardware_name
    from rs05bench.experiment.store import ResultStore
    from rs05bench.protocol.submission.make import card_template

    found = next((result for result in ResultStore(runs).results() if result.cell.model == model), None)
    if found is None:
        raise DataError(f"holds no result of {model!r}", source=runs)
    text = card_template(found, hardware_name())
    if out is None:
        typer.echo(text, nl=False)
        return
    if out.exists():
        raise DataError("exists already", source=out, remedy="Give another --out.")
    out.write_text(text, encoding="utf-8")
    typer.echo(f"{out}: fill it in, then rs05bench submit make {runs} --card {out} --model {model} --out bundle")


def make(
    runs: Annotated[Path, typer.Argument(help="Folder of a sweep.")],
    card: Annotated[Path, typer.Option("--card", help="Submission card (YAML); see `rs05bench submit card`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write, or a name that ends in .zip or .tar.gz.")] = Path("bundle"),
    model: Annotated[str | None, typer.Option("--model", help="Which model; needed where the sweep holds several.")] = None,
    tasks: Annotated[str | None, typer.Option("--tasks", help="Only these tasks, separated by commas.")] = None,
    board: Board = Path("leaderboard"),
    half: Annotated[bool, typer.Option("--half", help="Probabilities with three digits, numbers with seven: half the size.")] = False,
) -> None:
    """Write a submission bundle from the results of a sweep."""
    from rs05bench.errors import DataError
    from rs05bench.experiment.store import ResultStore
    from rs05bench.protocol.submission.board import Board as BoardRecord
    from rs05bench.protocol.submission.make import make_bundle, read_card

    if not (runs / "cells").is_dir():
        raise DataError("holds no results", source=runs, remedy="Make some: rs05bench sweep CARD --out FOLDER.")
    store = ResultStore(runs)
    wanted = {name.strip() for name in tasks.split(",")} if tasks else None
    cells = [
        (result, store.folder(result.digest) / "predictions")
        for result in store.results()
        if (model is None or result.cell.model == model) and (wanted is None or result.cell.task in wanted)
    ]
    written = make_bundle(cells, read_card(card), BoardRecord.load(board), out, costs=store.costs(), half=half)
    typer.echo(f"{written}: now check it: rs05bench submit check {written} --board {board}")


def check(
    bundle: Annotated[Path, typer.Argument(help="Bundle: folder, .zip or .tar.gz.")],
    board: Board = Path("leaderboard"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Tell every fault of a bundle at once; needs no labels. Exits 1 where there is one."""
    from rs05bench.protocol.submission import check_bundle

    verdict = check_bundle(bundle, board)
    show(verdict, as_json=as_json)
    if not verdict.ok:
        raise typer.Exit(1)


def show(verdict: Verdict, *, as_json: bool) -> None:
    """Prints a verdict."""
    if as_json:
        typer.echo(verdict.model_dump_json(exclude_none=True, indent=1))
        return
    said = {"refused": "refused", "complete": "no fault found (not rescored)", "accepted": "accepted and rescored"}[verdict.outcome]
    typer.echo(f"{verdict.slug or 'bundle'}: {said}, {len(verdict.cells)} cells, {verdict.seconds:.1f} s")
    typer.echo(f"digest  {verdict.bundle or 'not read'}")
    for head, lines in (("fault", verdict.faults), ("flag", [flag.sentence for flag in verdict.flags]), ("note", verdict.notes)):
        for line in lines:
            typer.echo(f"{head:<6}  {line}")
    if verdict.simulated:
        typer.echo("note    simulated results never rank")
