"""The commands of the leaderboard: leaderboard, submit, hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rs05bench.protocol.submission.verdict import Verdict

Board = Annotated[Path, typer.Option("--board", help="The leaderboard's folder.")]
Published = Annotated[
    Path | None,
    typer.Option("--board", help="The leaderboard's folder; default ./leaderboard, else what came with the package.", show_default=False),
]
FoundFlags = Annotated[list[str] | None, typer.Option("--flag", help='What a reviewer found about a flag: KEY="words"; repeat it.')]
DataOfTasks = Annotated[list[str] | None, typer.Option("--data", help="Data of a task: TASK=DIR; repeat it.")]
hub = typer.Typer(help="Manifests, label packs and results on the Hugging Face Hub.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    board = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Verify submissions, keep their standing, build the site.")
    for name, command in (
        ("verify", verify),
        ("add", add),
        ("standing", standing),
        ("reproduce", reproduce),
        ("sign-off", sign_off),
        ("seal", seal),
        ("freeze", freeze),
        ("truth", truth),
        ("build", build),
    ):
        board.command(name)(command)
    app.add_typer(board, name="leaderboard")
    submit = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Write and check a submission to the leaderboard.")
    submit.command("template")(template)
    submit.command("card")(model_card)
    submit.command("make")(make)
    submit.command("check")(check)
    submit.command("pin")(pin)
    app.add_typer(submit, name="submit")
    app.add_typer(hub, name="hub")


def verify(
    folder: Annotated[Path, typer.Argument(help="A submission's folder, or one on the board, whose predictions are fetched.")],
    board: Published = None,
    truth: Annotated[Path | None, typer.Option("--truth", help="Folder of the frozen labels (leaderboard truth).")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File for the verdict as JSON.")] = None,
    sealed: Annotated[Path | None, typer.Option("--round", help="Sealed round (YAML) that it must be registered in.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Verify a submission as hostile and score it again with the frozen labels. Exits 1 where it is refused."""
    from rs05bench.experiment.entries import check_code, opened_submission
    from rs05bench.protocol.atomic import write_text
    from rs05bench.protocol.submission import Round, check_sealed, verify_submission
    from rs05bench.protocol.submission.board import published_board

    place = published_board(board)
    check_code(place, folder / "submission.yaml")
    with opened_submission(folder) as (files, record):
        verdict = verify_submission(files, place, truth=truth, others=place / "submissions", record=None if files == folder else record)
    if sealed is not None:
        faults = check_sealed(Round.load(sealed), verdict)
        if faults:
            verdict = verdict.model_copy(update={"outcome": "refused", "faults": [*verdict.faults, *faults], "rankable": []})
    if out is not None:
        write_text(out, verdict.model_dump_json(exclude_none=True))
    show(verdict, as_json=as_json)
    if not verdict.ok:
        raise typer.Exit(1)


def add(
    submission: Annotated[Path, typer.Argument(help="A submission's folder, or one on the board, whose predictions are fetched.")],
    truth: Annotated[Path | None, typer.Option("--truth", help="Folder of the frozen labels.")] = None,
    board: Board = Path("leaderboard"),
) -> None:
    """Verify a submission and put record, verdict and standing into submissions/<slug>/."""
    from rs05bench.experiment.entries import check_code, opened_submission
    from rs05bench.protocol.submission.shelf import add_submission

    check_code(board, submission / "submission.yaml")
    with opened_submission(submission) as (files, record):
        folder, verdict, level = add_submission(files, board, truth, record=None if files == submission else record)
    show(verdict, as_json=False)
    if folder is None:
        raise typer.Exit(1)
    typer.echo(f"{folder}: {level}")


def standing(
    board: Board = Path("leaderboard"),
    track: Annotated[str, typer.Option("--track", help="open or deployment.")] = "deployment",
    as_json: Annotated[bool, typer.Option("--json", help="JSON, a record per submission, task, target and split.")] = False,
) -> None:
    """List submissions with their standing, and why one has no rank."""
    from rs05bench.protocol.submission.shelf import standings

    rows = standings(board, track)
    if as_json:
        import json

        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    for row in rows:
        typer.echo(f"{row['slug']:<34} {row['level']:<14} {row['family']:<52} {row['why'] or 'ranks'}")


def reproduce(
    slug: Annotated[str | None, typer.Argument(help="Submission.")] = None,
    rerun: Annotated[Path | None, typer.Option("--rerun", help="Your own rerun, as a submission's folder.")] = None,
    baselines: Annotated[bool, typer.Option("--all-baselines", help="Run every submission of a model of this package again.")] = False,
    data: DataOfTasks = None,
    runs: Annotated[Path, typer.Option("--runs", help="Folder for the results of a rerun.")] = Path("build/reproduce"),
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Worker processes.")] = 1,
    truth: Annotated[Path | None, typer.Option("--truth", help="Folder of the frozen labels, for --rerun.")] = None,
    by: Annotated[str, typer.Option("--by", help="Who ran it, for --rerun.")] = "",
    hardware: Annotated[str, typer.Option("--hardware", help="On what, for --rerun.")] = "",
    code: Annotated[str, typer.Option("--code", help="Commit or address of the code, for --rerun.")] = "",
    deterministic: Annotated[bool, typer.Option("--deterministic", help="The model gives the same predictions to the last bit.")] = False,
    flag: FoundFlags = None,
    tolerance: Annotated[float, typer.Option("--tolerance", help="Largest difference of mean scores that is ever allowed.")] = 0.02,
    board: Board = Path("leaderboard"),
) -> None:
    """Run a submission of this package's models again, or compare your own rerun of another. Exits 1 where it differs."""
    from rs05bench.errors import DataError
    from rs05bench.experiment.entries import baselines_of, rerun_baseline, tasks_of
    from rs05bench.protocol.submission import Ran
    from rs05bench.protocol.submission.shelf import record_rerun

    if (slug is None) != baselines:
        raise DataError("nothing to reproduce", remedy="Name a submission, or give --all-baselines.")
    folders = {name: Path(folder) for name, _, folder in (item.partition("=") for item in data or ())}
    same = True
    for name in baselines_of(board) if slug is None else [slug]:
        if slug is None and (lacking := sorted(tasks_of(board, name) - folders.keys())):
            typer.echo(f"NOT RUN  {name}: the data of {', '.join(lacking)} were not given (--data TASK=DIR)")
            continue
        if rerun is not None:
            if truth is None or not (by and hardware and code):
                raise DataError("a rerun of your own needs --truth, --by, --hardware and --code", source=rerun)
            found = dict(item.partition("=")[::2] for item in flag or ())
            ran = Ran(by=by, hardware=hardware, code=code, deterministic=deterministic)
            changed = record_rerun(board, name, rerun, truth, ran, tolerance=tolerance, reviewed_flags=found)
        else:
            changed = rerun_baseline(board, name, folders, runs / name, jobs=jobs)
        assert changed.rerun is not None
        for item in changed.rerun.compared:
            mark = "same" if item.same else "DIFFERS"
            typer.echo(f"{mark:<8} {item.family:<60} {item.metric} {item.submitted:.4f} / {item.rerun:.4f} (allowed {item.allowed:.4f})")
        typer.echo(f"{name}: {changed.level}, identical in {changed.rerun.identical} of {changed.rerun.cells} cells")
        same &= changed.rerun.same
    if not same:
        raise typer.Exit(1)


def sign_off(
    slug: Annotated[str, typer.Argument(help="Submission.")],
    by: Annotated[str, typer.Option("--by", help="Author, by name or account as in the submission.")],
    record: Annotated[str, typer.Option("--record", help="Where the author stated it: a comment or a signed commit.")],
    statement: Annotated[str, typer.Option("--statement", help="What the author signs.")] = "What the board shows is ours and right.",
    board: Board = Path("leaderboard"),
) -> None:
    """Record the authors' sign-off on a reproduced submission."""
    from rs05bench.protocol.submission.shelf import record_sign_off

    changed = record_sign_off(board, slug, by=by, record=record, statement=statement)
    typer.echo(f"{slug}: {changed.level}")


def seal(
    folder: Annotated[Path, typer.Argument(help="A submission's folder.")],
    sealed: Annotated[Path, typer.Option("--round", help="Sealed round (YAML).")],
    board: Board = Path("leaderboard"),
) -> None:
    """Register a submission in a sealed round by its digest and today's date; its files stay with its authors."""
    import datetime

    from rs05bench.errors import SubmissionError
    from rs05bench.protocol.submission import Round, check_submission, register

    verdict = check_submission(folder, board)
    if not verdict.ok:
        raise SubmissionError(verdict.faults, source=folder)
    changed = register(Round.load(sealed), verdict.slug, verdict.digest, datetime.datetime.now(datetime.UTC).date())
    changed.save(sealed)
    typer.echo(f"{verdict.slug} {verdict.digest} registered in {sealed}. Commit that file, and keep the folder as it is.")


def freeze(
    runs: Annotated[Path, typer.Argument(help="Folder of a sweep: its card, manifests and labels are frozen.")],
    task: Annotated[str, typer.Option("--task", help="Task.")],
    splits: Annotated[str, typer.Option("--splits", help="Splits that count.")],
    budgets: Annotated[str, typer.Option("--budgets", help="Budgets every submission must hold.")],
    card_file: Annotated[str, typer.Option("--card-file", help="Where the card is in the repository.")] = "",
    sealed: Annotated[bool, typer.Option("--sealed", help="The labels do not exist yet.")] = False,
    masks: Annotated[Path | None, typer.Option("--masks", help="For chips: their label pack (rs05bench labels build).")] = None,
    board: Board = Path("leaderboard"),
) -> None:
    """Put a task on the board: digests of its card, manifests and labels, and its folds (maintainers)."""
    from rs05bench.protocol.submission.shelf import freeze_runs

    written = freeze_runs(board, runs, task, splits.split(","), budgets.split(","), card_file, sealed=sealed, masks=masks)
    typer.echo(f"{written}: {task} frozen")


def truth(
    task: Annotated[str, typer.Argument(help="Task on the board.")],
    data: Annotated[Path, typer.Option("--data", help="The task's data.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of frozen labels; several tasks may share it.")],
    board: Published = None,
) -> None:
    """Write the frozen labels of a task, its card and manifests, for --truth; no sweep is needed."""
    from rs05bench.experiment.entries import write_truth
    from rs05bench.protocol.submission.board import published_board

    typer.echo(f"{write_truth(published_board(board), task, data, out)}: for --truth")


def build(
    out: Annotated[Path, typer.Option("--out", help="Folder for the site.")] = Path("leaderboard/site"),
    board: Board = Path("leaderboard"),
) -> None:
    """Build the static site from the submissions on the board."""
    from rs05bench.report.site import build_site

    typer.echo(f"{build_site(board, out)}")


def template(
    task: Annotated[str, typer.Argument(help="Task on the board.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    board: Published = None,
    data: Annotated[Path | None, typer.Option("--data", help="The task's data; needed for budgets drawn by label (per-class).")] = None,
) -> None:
    """Write an empty submission: what to fill in, every row to predict, and the labels each budget shows."""
    from rs05bench.experiment.entries import frozen_task, labels_of
    from rs05bench.protocol.submission.board import Board as BoardRecord
    from rs05bench.protocol.submission.board import published_board
    from rs05bench.protocol.submission.make import template as write

    place = published_board(board)
    opened = frozen_task(place, task)
    labels = None if data is None else labels_of(opened.card, data)
    seeds = BoardRecord.load(place).least_seeds
    write(opened.task, opened.card, opened.manifests, out, seeds=seeds, labels=labels)
    typer.echo(f"{out}: fill in submission.yaml and predictions.parquet; labels.parquet holds what each budget shows")
    typer.echo(f"Next: rs05bench submit check {out}{_named(board)}")


def model_card(
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
    board: Published = None,
) -> None:
    """Write a submission from the results of a sweep."""
    from rs05bench.errors import DataError
    from rs05bench.experiment.store import ResultStore
    from rs05bench.protocol.submission.board import Board as BoardRecord
    from rs05bench.protocol.submission.board import published_board
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
    written = make_submission(cells, read_card(card), BoardRecord.load(published_board(board)), out, costs=store.costs())
    typer.echo(f"{written}: now check it: rs05bench submit check {written}{_named(board)}")


def check(
    folder: Annotated[Path, typer.Argument(help="Folder with submission.yaml and predictions.parquet.")],
    board: Published = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """List every fault of a submission at once; needs no labels. Exits 1 where there is one."""
    from rs05bench.experiment.entries import code_faults
    from rs05bench.protocol.submission import check_submission
    from rs05bench.protocol.submission.board import published_board

    place = published_board(board)
    verdict = check_submission(folder, place)
    # Of a record that can be read.
    if verdict.ok and (faults := code_faults(place, folder / "submission.yaml")):
        verdict = verdict.model_copy(update={"outcome": "refused", "faults": faults})
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


def _named(board: Path | None) -> str:
    return f" --board {board}" if board is not None else ""


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
    for family in verdict.families:
        parts = [f"{words} {_mean(family.groups[role].scores)}" for role, words in _ROLES.items() if role in family.groups]
        if parts:
            typer.echo(
                f"score   {'/'.join(family.key)}: {', '.join(parts)} (mean of {len(next(iter(family.groups.values())).groups)} groups)"
            )
    if verdict.simulated:
        typer.echo("note    simulated results never rank")


_ROLES = {"test_ood": "held out", "test_id": "in-domain"}


def _mean(by_group: list[list[float | None]]) -> str:
    """Mean over groups of the mean over seeds, as the board shows it."""
    inside = [[value for value in seeds if value is not None] for seeds in by_group]
    means = [sum(seeds) / len(seeds) for seeds in inside if seeds]
    return f"{sum(means) / len(means):.3f}" if means else "not defined"


@hub.command("push")
def push(
    repo: Annotated[str, typer.Argument(help="Dataset repository, owner/name; made where missing.")],
    manifests: Annotated[list[str] | None, typer.Option("--manifest", help="A manifest: file, folder or name; repeatable.")] = None,
    labels: Annotated[list[Path] | None, typer.Option("--labels", help="A label pack that may be passed on; repeatable.")] = None,
    runs: Annotated[Path | None, typer.Option(help="Folder of a sweep; all its results are pushed.")] = None,
    predictions: Annotated[bool, typer.Option("--predictions", help="Push the predictions beside the results.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    message: Annotated[str, typer.Option(help="Message of the commit.")] = "Add manifests and results",
    dry_run: Annotated[Path | None, typer.Option("--stage", metavar="DIR", help="Only lay out there what would be pushed.")] = None,
) -> None:
    """Push to the Hub; the token is read from HF_TOKEN in the environment."""
    from rs05bench import hub as room
    from rs05bench.errors import DataError
    from rs05bench.protocol.labels import LabelPack
    from rs05bench.protocol.manifest import open_manifest

    cells = sorted(path.parent for path in (runs / "cells").glob("*/*/result.json")) if runs is not None else []
    if runs is not None and not cells:
        raise DataError("holds no results", source=runs)
    splits, packs = [open_manifest(name) for name in manifests or []], [LabelPack.load(path) for path in labels or []]
    if dry_run is not None:
        items = room.stage(dry_run, repo, manifests=splits, labels=packs, results=cells, predictions=predictions)
        typer.echo(f"{len(items)} items laid out in {dry_run}")
        return
    commit = room.push(repo, manifests=splits, labels=packs, results=cells, predictions=predictions, private=private, message=message)
    typer.echo(f"{repo} at {commit}")


@hub.command("pull")
def pull(
    repo: Annotated[str, typer.Argument(help="Dataset repository, owner/name.")],
    out: Annotated[Path, typer.Option(help="Where to put what is pulled.")],
    revision: Annotated[str, typer.Option(help="Branch, tag or commit; pin the commit that is printed.")] = "main",
    names: Annotated[
        list[str] | None, typer.Option("--name", help="An item, such as crop/leave-state-out@v1; repeatable; default all.")
    ] = None,
    digest: Annotated[str | None, typer.Option(help="The digest the one named item must have.")] = None,
) -> None:
    """Pull from the Hub; what does not have the digest it should have is refused."""
    from rs05bench import hub as room

    commit, placed = room.pull(repo, out, revision=revision, names=names or [], digest=digest)
    typer.echo(f"{repo} at {commit}")
    for item, path in placed:
        typer.echo(f"{item['digest'][:16]}  {item['kind']:<8}  {path}")
