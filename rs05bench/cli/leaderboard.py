"""leaderboard: verify submissions, keep their standing, seal rounds, build the site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Board = Annotated[Path, typer.Option("--board", help="The leaderboard's folder.")]
FoundFlags = Annotated[list[str] | None, typer.Option("--flag", help='What a reviewer found about a flag: KEY="words"; repeat it.')]


def register(app: typer.Typer) -> None:
    """Adds the commands of this family."""
    family = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Verify submissions, keep their standing, build the site.")
    for name, command in (("verify", verify), ("add", add), ("standing", standing), ("reproduce", reproduce), ("sign-off", sign_off),
                          ("seal", seal), ("freeze", freeze), ("build", build)):  # fmt: skip
        family.command(name)(command)
    app.add_typer(family, name="leaderboard")


def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle: folder, .zip or .tar.gz.")],
    board: Board = Path("leaderboard"),
    truth: Annotated[Path | None, typer.Option("--truth", help="Folder of the frozen labels, e.g. that of a sweep over the data.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for verdict.json and verdict.html.")] = None,
    sealed: Annotated[Path | None, typer.Option("--round", help="Sealed round (YAML) the bundle must be registered in.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Verify a bundle as hostile and score it anew with the frozen labels. Exits 1 where it is refused."""
    from rs05bench.cli.submit import show
    from rs05bench.protocol.submission import Round, check_sealed, verdict_page, verify_bundle

    verdict = verify_bundle(bundle, board, truth=truth, others=board / "submissions" if board.is_dir() else None)
    if sealed is not None:
        faults = check_sealed(Round.load(sealed), verdict)
        if faults:
            verdict = verdict.model_copy(update={"outcome": "refused", "faults": [*verdict.faults, *faults], "rankable": []})
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "verdict.json").write_text(verdict.model_dump_json(exclude_none=True), encoding="utf-8")
        (out / "verdict.html").write_text(verdict_page(verdict), encoding="utf-8")
    show(verdict, as_json=as_json)
    if out is not None and not as_json:
        typer.echo(f"page    {out / 'verdict.html'}")
    if not verdict.ok:
        raise typer.Exit(1)


def add(
    bundle: Annotated[Path, typer.Argument(help="Bundle: folder, .zip or .tar.gz; or the bundle/ of a submission that is there already.")],
    truth: Annotated[Path | None, typer.Option("--truth", help="Folder of the frozen labels.")] = None,
    board: Board = Path("leaderboard"),
) -> None:
    """Verify a bundle and put it on the board: bundle/, verdict.json and standing.json in submissions/<slug>/."""
    from rs05bench.cli.submit import show
    from rs05bench.protocol.submission.shelf import add_submission

    folder, verdict, level = add_submission(bundle, board, truth)
    show(verdict, as_json=False)
    if folder is None:
        raise typer.Exit(1)
    typer.echo(f"{folder}: {level}")


def standing(
    board: Board = Path("leaderboard"),
    track: Annotated[str, typer.Option("--track", help="open or deployment.")] = "deployment",
    as_json: Annotated[bool, typer.Option("--json", help="JSON, a record a submission, task, target and split.")] = False,
) -> None:
    """List submissions with their standing, and say why one has no headline rank."""
    from rs05bench.protocol.submission.shelf import standings

    rows = standings(board, track)
    if as_json:
        import json

        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    for row in rows:
        typer.echo(f"{row['slug']:<34} {row['level']:<14} {row['family']:<52} {row['why'] or 'ranks'}")


def reproduce(
    slug: Annotated[str, typer.Argument(help="Submission.")],
    rerun: Annotated[Path, typer.Argument(help="Bundle of the maintainer's own rerun.")],
    truth: Annotated[Path, typer.Option("--truth", help="Folder of the frozen labels.")],
    by: Annotated[str, typer.Option("--by", help="Who ran it.")],
    hardware: Annotated[str, typer.Option("--hardware", help="On what.")],
    code: Annotated[str, typer.Option("--code", help="Commit or address of the code that was run.")],
    flag: FoundFlags = None,
    tolerance: Annotated[float, typer.Option("--tolerance", help="Largest difference of mean scores that is ever allowed.")] = 0.02,
    board: Board = Path("leaderboard"),
) -> None:
    """Compare a maintainer's rerun with a submission; where its scores agree everywhere, it is reproduced. Exits 1 where it is not."""
    from rs05bench.protocol.submission.shelf import record_rerun

    found = dict(item.partition("=")[::2] for item in flag or ())
    changed = record_rerun(board, slug, rerun, truth, by=by, hardware=hardware, code=code, tolerance=tolerance, reviewed_flags=found)
    assert changed.rerun is not None
    for item in changed.rerun.compared:
        mark = "same" if item.same else "DIFFERS"
        typer.echo(f"{mark:<8} {item.family:<60} {item.metric} {item.submitted:.4f} / {item.rerun:.4f} (allowed {item.allowed:.4f})")
    typer.echo(f"{slug}: {changed.level}")
    if not changed.rerun.same:
        raise typer.Exit(1)


def sign_off(
    slug: Annotated[str, typer.Argument(help="Submission.")],
    by: Annotated[str, typer.Option("--by", help="Author, by name or account as in the submission.")],
    record: Annotated[str, typer.Option("--record", help="Where the author said so: a comment or a signed commit.")],
    statement: Annotated[str, typer.Option("--statement", help="What the author signs.")] = "What the board shows is ours and right.",
    board: Board = Path("leaderboard"),
) -> None:
    """Record the authors' sign-off on a reproduced submission."""
    from rs05bench.protocol.submission.shelf import record_sign_off

    changed = record_sign_off(board, slug, by=by, record=record, statement=statement)
    typer.echo(f"{slug}: {changed.level}")


def seal(
    bundle: Annotated[Path, typer.Argument(help="Bundle: folder, .zip or .tar.gz.")],
    sealed: Annotated[Path, typer.Option("--round", help="Sealed round (YAML).")],
    board: Board = Path("leaderboard"),
) -> None:
    """Register a bundle in a sealed round by its digest and today's date; the bundle itself stays with its authors."""
    import datetime

    from rs05bench.errors import SubmissionError
    from rs05bench.protocol.submission import Round, check_bundle, register

    verdict = check_bundle(bundle, board)
    if not verdict.ok:
        raise SubmissionError(verdict.faults, source=bundle)
    changed = register(Round.load(sealed), verdict.slug, verdict.bundle, datetime.datetime.now(datetime.UTC).date())
    changed.save(sealed)
    typer.echo(f"{verdict.slug} {verdict.bundle} registered in {sealed}. Commit that file, and keep the bundle as it is.")


def freeze(
    runs: Annotated[Path, typer.Argument(help="Folder of a sweep: its card, manifests and labels are frozen.")],
    task: Annotated[str, typer.Option("--task", help="Task.")],
    splits: Annotated[str, typer.Option("--splits", help="Splits that count.")],
    budgets: Annotated[str, typer.Option("--budgets", help="Budgets every submission must hold.")],
    card_file: Annotated[str, typer.Option("--card-file", help="Where the card lies in the repository.")] = "",
    sealed: Annotated[bool, typer.Option("--sealed", help="The labels do not exist yet.")] = False,
    masks: Annotated[Path | None, typer.Option("--masks", help="For chips: their label pack (rs05bench labels build).")] = None,
    board: Board = Path("leaderboard"),
) -> None:
    """Put a task on the board: digests of its card, manifests and labels, and its folds (maintainers)."""
    from rs05bench.protocol.submission.shelf import freeze_runs

    written = freeze_runs(board, runs, task, splits.split(","), budgets.split(","), card_file, sealed=sealed, masks=masks)
    typer.echo(f"{written}: {task} frozen")


def build(
    out: Annotated[Path, typer.Option("--out", help="Folder for the site.")] = Path("leaderboard/site"),
    board: Board = Path("leaderboard"),
) -> None:
    """Build the static site from the submissions on the board."""
    from rs05bench.report.site import build_site

    typer.echo(f"{build_site(board, out)}")
