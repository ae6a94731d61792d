"""leaderboard: verify submissions, keep their standing, run baselines again, seal rounds, build the site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Board = Annotated[Path, typer.Option("--board", help="The leaderboard's folder.")]
FoundFlags = Annotated[list[str] | None, typer.Option("--flag", help='What a reviewer found about a flag: KEY="words"; repeat it.')]
DataOfTasks = Annotated[list[str] | None, typer.Option("--data", help="Data of a task: TASK=DIR; repeat it.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this family."""
    family = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Verify submissions, keep their standing, build the site.")
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
        family.command(name)(command)
    app.add_typer(family, name="leaderboard")


def verify(
    folder: Annotated[Path, typer.Argument(help="A submission's folder, or one on the board, whose predictions are fetched.")],
    board: Board = Path("leaderboard"),
    truth: Annotated[Path | None, typer.Option("--truth", help="Folder of the frozen labels (leaderboard truth).")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File for the verdict as JSON.")] = None,
    sealed: Annotated[Path | None, typer.Option("--round", help="Sealed round (YAML) that it must be registered in.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Verify a submission as hostile and score it again with the frozen labels. Exits 1 where it is refused."""
    from rs05bench.cli.submit import show
    from rs05bench.experiment.entries import opened_submission
    from rs05bench.protocol.atomic import write_text
    from rs05bench.protocol.submission import Round, check_sealed, verify_submission

    others = board / "submissions" if board.is_dir() else None
    with opened_submission(folder) as (files, record):
        verdict = verify_submission(files, board, truth=truth, others=others, record=None if files == folder else record)
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
    from rs05bench.cli.submit import show
    from rs05bench.experiment.entries import opened_submission
    from rs05bench.protocol.submission.shelf import add_submission

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
    board: Board = Path("leaderboard"),
) -> None:
    """Write the frozen labels of a task, its card and manifests, for --truth; no sweep is needed."""
    from rs05bench.experiment.entries import write_truth

    typer.echo(f"{write_truth(board, task, data, out)}: for --truth")


def build(
    out: Annotated[Path, typer.Option("--out", help="Folder for the site.")] = Path("leaderboard/site"),
    board: Board = Path("leaderboard"),
) -> None:
    """Build the static site from the submissions on the board."""
    from rs05bench.report.site import build_site

    typer.echo(f"{build_site(board, out)}")
