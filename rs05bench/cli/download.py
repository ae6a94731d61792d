"""download: fetch a dataset with its checksum, or say what there is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Adds the command of this family."""
    app.command("download")(download)


def download(
    name: Annotated[str | None, typer.Argument(help="Name of the dataset; --list shows all.")] = None,
    root: Annotated[Path | None, typer.Option("--root", help="Folder to put it in; default data/NAME.")] = None,
    mirror: Annotated[
        list[str] | None, typer.Option(help="A URL to try first: a folder, or with {path} in it. May be given again.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Fetch only this file. May be given again.")] = None,
    no_unpack: Annotated[bool, typer.Option("--no-unpack", help="Leave archives packed.")] = False,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Keep archives after unpacking.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Fetch again what differs, replace what is in the way.")] = False,
    retries: Annotated[int, typer.Option(min=1, help="Tries without a new byte before the next mirror is asked.")] = 5,
    listing: Annotated[bool, typer.Option("--list", help="List the datasets and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False,
) -> None:
    """Fetch a dataset: resumed after a cut, checked by its checksum, unpacked safely, pinned to a revision."""
    from rs05bench.datasets.download import download as run
    from rs05bench.errors import DataError

    if listing:
        _list(as_json)
        return
    if name is None:
        raise DataError("which dataset?", remedy="`rs05bench download --list` shows them.")
    with _Bars() as bars:
        report = run(
            name,
            root or Path("data") / name,
            mirrors=mirror or [],
            only=only or [],
            unpacking=not no_unpack,
            keep_archives=keep_archives,
            force=force,
            watch=bars.show,
            retries=retries,
        )
    if as_json:
        import json

        shown = {"name": report.name, "root": str(report.root), "fetched": report.fetched, "kept": report.kept, "unpacked": report.unpacked}
        typer.echo(json.dumps({**shown, "resumed": report.resumed, "first_use": report.on_first_use}))
        return
    typer.echo(
        f"{report.name} is in {report.root}: {len(report.fetched)} fetched, {len(report.kept)} already there, "
        f"{report.unpacked} files unpacked."
    )
    if report.on_first_use:
        typer.echo(
            f"Nobody states a checksum for {', '.join(report.on_first_use)}: what came was recorded in the receipt, "
            "and is what later downloads are compared with."
        )


def _list(as_json: bool) -> None:
    from rs05bench.datasets.sources import load_catalogue

    sources = load_catalogue()
    if as_json:
        import json

        typer.echo(json.dumps({name: source.model_dump(mode="json") for name, source in sources.items()}))
        return
    for name, source in sources.items():
        known = sum(file.size or 0 for file in source.files)
        size = f"{known / 1e9:.1f} GB" if known else "size not stated"
        if known and any(file.size is None for file in source.files):
            size = f"more than {size}"
        typer.echo(f"{name:<22} {source.title}\n{'':<22} {size}; {source.licence}; revision {source.revision[:12]}; {source.homepage}")


class _Bars:
    """One bar a file on a terminal; nothing when piped."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._progress: Any = None
        self._tasks: dict[tuple[str, str], Any] = {}

    def __enter__(self) -> _Bars:
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=Console(file=sys.__stderr__))
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, file: str, step: str, done: int, total: int | None) -> None:
        """Called with every chunk fetched and every file unpacked."""
        if self._progress is None:
            return
        if step == "unpack":
            if done % 100 == 1:
                self._progress.console.print(f"unpacking {file}: {done} files")
            return
        if (file, step) not in self._tasks:
            self._tasks[file, step] = self._progress.add_task(file, total=total)
        self._progress.update(self._tasks[file, step], completed=done, total=total)
