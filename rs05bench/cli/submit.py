"""submit: write a submission and check it before anyone waits for a review."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rs05bench.protocol.submission.verdict import Verdict

Board = Annotated[Path, typer.Option("--board", help="The leaderboard's folder.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this family."""
    family = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Write and check a submission to the leaderboard.")
    for command in (template, card, make, check, pin):
        family.command(command.__name__)(command)
    app.add_typer(family, name="submit")


def template(
    task: Annotated[str, typer.Argument(help="Task on the board.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    board: Board = Path("leaderboard"),
    data: Annotated[Path | None, typer.Option("--data", help="The task's data; needed for budgets drawn by label (per-class).")] = None,
) -> None:
    """Write an empty submission: what to fill in, every row to predict, and the labels each budget shows."""
    from rs05bench.experiment.entries import frozen_task, labels_of
    from rs05bench.protocol.submission.board import Board as BoardRecord
    from rs05bench.protocol.submission.make import template as write

    opened = frozen_task(board, task)
    labels = None if data is None else labels_of(opened.card, data)
    seeds = BoardRecord.load(board).least_seeds
    write(opened.task, opened.card, opened.manifests, out, seeds=seeds, labels=labels)
    typer.echo(f"{out}: fill in submission.yaml and predictions.parquet; labels.parquet holds what each budget shows")
    typer.echo(f"Next: rs05bench submit check {out} --board {board}")


def card(
    runs: Annotated[Path, typer.Argument(help="Folder of a sweep.")],
    model: Annotated[str, typer.Option("--model", help="Which model the submission is of.")],
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default standard output.")] = None,
) -> None:
    """Print the fields of submission.yaml that results cannot know, to fill in."""
    from rs05bench.errors import DataError
    from rs05bench.experiment.provenance import hardware_name
    from rs05bench.experiment.store import ResultStore
    from rs05bench.protocol.atomic import write_text
    from rs05bench.protocol.submission.make import card_template

    found = next((result for result in ResultStore(runs).results() if model in (result.cell.model, result.model.name)), None)
    if found is None:
        raise DataError(f"holds no result of {model!r}", source=runs)
    text = card_template(found, hardware_name())
    if out is None:
        typer.echo(text, nl=False)
        return
    if out.exists():
        raise DataError("already exists", source=out, remedy="Give another --out.")
    write_text(out, text)
    typer.echo(f"{out}: fill it in, then rs05bench submit make {runs} --card {out} --model {model} --out submission")


def make(
    runs: Annotated[Path, typer.Argument(help="Folder of a sweep.")],
    card: Annotated[Path, typer.Option("--card", help="Fields of submission.yaml; see `rs05bench submit card`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")] = Path("submission"),
    model: Annotated[str | None, typer.Option("--model", help="Which model; needed where the sweep holds several.")] = None,
    tasks: Annotated[str | None, typer.Option("--tasks", help="Only these tasks, separated by commas.")] = None,
    board: Board = Path("leaderboard"),
) -> None:
    """Write a submission from the results of a sweep."""
    from rs05bench.errors import DataError
    from rs05bench.experiment.store import ResultStore
    from rs05bench.protocol.submission.board import Board as BoardRecord
    from rs05bench.protocol.submission.make import make_submission, read_card

    if not (runs / "cells").is_dir():
        raise DataError("holds no results", source=runs, remedy="Make some: rs05bench sweep CARD --out FOLDER.")
    store = ResultStore(runs)
    wanted = {name.strip() for name in tasks.split(",")} if tasks else None
    cells = [
        (result, store.folder(result.digest) / "predictions")
        for result in store.results()
        if (model is None or model in (result.cell.model, result.model.name)) and (wanted is None or result.cell.task in wanted)
    ]
    written = make_submission(cells, read_card(card), BoardRecord.load(board), out, costs=store.costs())
    typer.echo(f"{written}: now check it: rs05bench submit check {written} --board {board}")


def check(
    folder: Annotated[Path, typer.Argument(help="Folder with submission.yaml and predictions.parquet.")],
    board: Board = Path("leaderboard"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """List every fault of a submission at once; needs no labels. Exits 1 where there is one."""
    from rs05bench.protocol.submission import check_submission

    verdict = check_submission(folder, board)
    show(verdict, as_json=as_json)
    if not verdict.ok:
        raise typer.Exit(1)


def pin(
    folder: Annotated[Path, typer.Argument(help="Folder with submission.yaml and predictions.parquet.")],
    address: Annotated[str, typer.Option("--address", help="https:// address of predictions.parquet, or hf://datasets/OWNER/NAME.")],
    revision: Annotated[str | None, typer.Option("--revision", help="Commit of the Hugging Face repository.")] = None,
) -> None:
    """Write into submission.yaml where the predictions are published, with their digests."""
    from rs05bench.protocol.submission.make import pin as write

    made = write(folder, address, revision)
    typer.echo(f"{folder / 'submission.yaml'}: {made.address} {made.revision or ''} sha256 {made.sha256}")


def show(verdict: Verdict, *, as_json: bool) -> None:
    """Prints a verdict."""
    if as_json:
        typer.echo(verdict.model_dump_json(exclude_none=True, indent=1))
        return
    outcome = {"refused": "refused", "complete": "no fault found (not rescored)", "accepted": "accepted and rescored"}[verdict.outcome]
    typer.echo(f"{verdict.slug or 'submission'}: {outcome}, {len(verdict.cells)} cells, {verdict.seconds:.1f} s")
    typer.echo(f"digest  {verdict.digest or 'not read'}")
    for head, lines in (("fault", verdict.faults), ("flag", [flag.sentence for flag in verdict.flags]), ("note", verdict.notes)):
        for line in lines:
            typer.echo(f"{head:<6}  {line}")
    if verdict.simulated:
        typer.echo("note    simulated results never rank")
