"""``rs05bench hub``: manifests, label packs and results to and from the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

hub = typer.Typer(help="Manifests, label packs and results on the Hugging Face Hub.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(hub, name="hub")


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
