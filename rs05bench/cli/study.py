"""study, paper: a question answered by a grid of cells; the paper's figures and tables from stored results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the commands of this family."""
    app.command("study")(study)
    app.command("paper")(paper)


def study(
    name: Annotated[str, typer.Argument(help="Name of the study, or `all`.")] = "",
    listed: Annotated[bool, typer.Option("--list", help="List the studies and stop.")] = False,
    data: Annotated[
        Path | None,
        typer.Option("--data", envvar="RS05BENCH_REAL", help="Real data; what is missing is simulated or refused."),
    ] = None,
    store: Annotated[Path | None, typer.Option("--store", help="Folder of results, taken up where it stopped; default OUT/runs.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write the page; default studies/NAME.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Worker processes.")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="The fewest cells that go through every step; its numbers answer nothing.")
    ] = False,
    take_from: Annotated[
        list[Path] | None, typer.Option("--from", help="Other folders of results; a cell that is there is not run.")
    ] = None,
    no_run: Annotated[bool, typer.Option("--no-run", help="Run nothing: write the page from what is there.")] = False,
    docs: Annotated[
        Path | None, typer.Option("--docs", help="Also write page, pictures and cells into this folder (docs/studies).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the sentences with their numbers and cells as JSON.")] = False,
) -> None:
    """Run a study and write its page: an answer in words that follow its intervals, figures, tables, the cells behind each sentence."""
    import json

    from rs05bench.errors import DataError
    from rs05bench.studies import NAMES, find_study, list_studies, run_study
    from rs05bench.studies.page import record
    from rs05bench.studies.setting import Setting

    if listed:
        for known in list_studies():
            typer.echo(f"{known.name:<18} {known.minutes:>4g} min  {known.question}")
            typer.echo(f"{'':<28}{'real data: ' + ', '.join(known.needs) if known.needs else 'simulated data'}")
        return
    if not name:
        raise DataError("no study was named", remedy=f"Name one of {', '.join(NAMES)}, or `all`; --list says what each asks.")
    if data is not None and not data.is_dir():
        raise DataError("no such folder of real data", source=data, remedy="Give the folder that holds aef_landcover/ and others.")
    told = []
    for one in NAMES if name == "all" else (name,):
        known = find_study(one)
        to = (out or Path("studies")) / known.name if name == "all" or out is None else out
        runs = store or to / "runs"
        setting = Setting(
            runs if store is None or name != "all" else runs / known.name,
            real=None if data is None else data.resolve(),
            sources=tuple(take_from or ()),
            jobs=jobs,
            quick=quick,
            run_missing=not no_run,
            tell=lambda line: typer.echo(line, err=True),
        )
        typer.echo(f"{known.name}: {known.question}", err=True)
        try:
            page = run_study(known, setting, to, docs=docs)
        except DataError as error:
            if name != "all":
                raise
            typer.echo(f"{known.name} is left out: {error}", err=True)  # one that lacks its data does not keep the others from running
            continue
        if as_json:
            told.append(record(page))
            continue
        for claim in page.claims:
            typer.echo(f"{'[SIMULATED] ' if 'simulated' in page.mark(claim.digests) else ''}{claim.text}")
        typer.echo(f"\nThe page: {to / 'index.html'}")
    if as_json:
        typer.echo(json.dumps(told if name == "all" else told[0], indent=2, ensure_ascii=False))


def paper(
    stores: Annotated[list[Path], typer.Option("--stores", help="Folders of results; give it once a folder.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write index.html, figures/ and cells.csv.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts and what is missing as JSON.")] = False,
) -> None:
    """Every figure and table of "Do public geospatial embeddings replace local fine-tuning?" from stored results, and what is missing."""
    import json

    from rs05bench.studies.paper import write_paper

    written = write_paper(stores, out)
    if as_json:
        told = {"page": str(written.page), "verdicts": written.verdicts, "missing": written.missing, "figures": written.figures}
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    for hypothesis, verdict in written.verdicts.items():
        typer.echo(f"{hypothesis}  {verdict}")
    typer.echo(f"{len(written.figures)} figures; missing: {len(written.missing)}")
    for line in written.missing:
        typer.echo(f"  {line}")
    typer.echo(f"\nThe page: {written.page}")
