"""The commands that show results: results, report, demo, errors, hypotheses, advise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rs05bench.report import Report


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    app.command("results")(results)
    app.command("report")(report)
    app.command("demo")(demo)
    app.command("errors")(errors)
    app.command("hypotheses")(hypotheses)
    app.command("advise")(advise)


def results(
    runs: Annotated[Path, typer.Argument(help="Folder of results.")],
    where: Annotated[
        str | None, typer.Option("--where", help="Only rows for which this holds, e.g. \"tier = 'raw' and seed < 3\".")
    ] = None,
    columns: Annotated[str | None, typer.Option("--columns", help="Columns, or SQL such as model,avg(macro_f1_ood) as ood.")] = None,
    order: Annotated[str | None, typer.Option("--order", help="What to order by, e.g. 'ood desc'.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Write to this .csv or .parquet file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, a record a cell.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV, a row a cell.")] = False,
) -> None:
    """Print the mean scores of every model at every budget: in-domain, out-of-domain and their drop.

    With --columns or --order, or written as CSV, JSON or a file, a row a cell with every score and cost.
    """
    from rs05bench.cli._terminal import print_cells, print_means
    from rs05bench.errors import DataError
    from rs05bench.experiment import query
    from rs05bench.experiment.means import means_of
    from rs05bench.experiment.store import ResultStore

    if not (runs / "cells").is_dir():
        raise DataError("holds no results", source=runs, remedy="Make some: rs05bench sweep CARD --out FOLDER.")
    store, chosen = ResultStore(runs), _expressions(columns)
    sql = where is not None or order is not None or any(not name.isidentifier() for name in chosen or [])
    table = query.select(store, where, chosen, order) if sql else query.read_index(store, chosen)
    if to is not None:
        typer.echo(f"{len(table)} rows: {query.export(table, to)}")
    elif as_json:
        typer.echo(table.to_json(orient="records", double_precision=10))
    elif as_csv:
        typer.echo(query.without_formulas(table).to_csv(index=False), nl=False)
    elif chosen or order:
        print_cells(table)
    else:
        print_means(means_of(table))


def _expressions(text: str | None) -> list[str] | None:
    """Parts between commas that stand outside brackets."""
    if not text:
        return None
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def report(
    runs: Annotated[Path, typer.Argument(help="Folder of results.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write index.html and figures/.")],
    images: Annotated[bool, typer.Option("--images/--no-images", help="Write PNG and SVG of each figure too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print path, verdicts and broken rules as JSON.")] = False,
) -> None:
    """Write results as one page that opens anywhere: curves, drop, cost, maps, calibration, groups, tables."""
    from rs05bench.report import write_report

    written = write_report(runs, out, images=images)
    if as_json:
        import json

        said = {"page": str(written.page), "verdicts": written.verdicts, "broken_rules": written.broken_rules, "cells": written.cells}
        typer.echo(json.dumps(said, indent=2, ensure_ascii=False))
        return
    _tell(written)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for data, results and report; may hold an earlier demo.")] = Path(
        "demo-report"
    ),
    jobs: Annotated[int | None, typer.Option("--jobs", help="Worker processes; default all cores.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also train networks on simulated chips; much longer.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Run the embedded benchmark on simulated data, every task of tables, and write its report; three minutes, no network."""
    from rs05bench.cli._progress import SweepProgress
    from rs05bench.experiment import demo as embedded
    from rs05bench.report import write_report

    typer.echo(f"Simulated tasks: {', '.join(task.name for task in embedded.TASKS)}. Results: {out / 'runs'}", err=True)
    progress = SweepProgress(quiet=quiet)
    with progress:
        summary = embedded.run_demo(out, tasks=embedded.TASKS, deep=deep, jobs=jobs, on_start=progress.start, on_progress=progress.advance)
    if summary.stopped:
        typer.echo("Stopped. The same command takes it up where it stopped.", err=True)
        raise typer.Exit(130)
    typer.echo(f"{summary.cells:,} cells, {summary.reused:,} of them there already, {len(summary.failed)} failed.")
    for outcome in summary.failed[:5]:
        typer.echo(f"  {outcome.model}: {outcome.error.splitlines()[0] if outcome.error else 'failed'}", err=True)
    _tell(write_report(summary.store, out))
    if summary.failed:
        raise typer.Exit(1)


def _tell(written: Report) -> None:
    for key, sentences in written.verdicts.items():
        typer.echo(f"\n{key}: {' '.join(sentences)}")
    if written.broken_rules:
        told = ", ".join(map(str, written.broken_rules))
        typer.echo(f"\nRules of the protocol that are broken: {told} (the page says why).")
    typer.echo(f"\nThe report: {written.page}")


def errors(
    runs: Annotated[Path, typer.Argument(help="Folder of results.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    data: Annotated[Path | None, typer.Option("--data", help="Data directory; for chips, and results that keep no labels.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Split; default the first that holds groups out.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Budget; default the largest.")] = None,
) -> None:
    """Write maps of error, confidence and disagreement (GeoPackage, COG), typical failures by group, and a page that opens offline."""
    from rs05bench.report.errormaps import write_error_maps

    for entry in write_error_maps(runs, out, data=data, split=split, budget=budget):
        typer.echo(f"{entry.title}: {entry.best} is best on {entry.role}; {len(entry.errors.files)} files")
        for row in entry.failures.groupby("column", sort=False).head(1).itertuples(index=False) if len(entry.failures) else ():
            typer.echo(f"    worst {row.column} {row.group} ({row.units} units, mean error {row.error:.2f}): {row.failure}")
    typer.echo(f"Open {out / 'index.html'}")


def hypotheses(
    runs: Annotated[Path, typer.Argument(help="Folder of results.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON, with intervals, tests and the cells each contrast rests on.")] = False,
) -> None:
    """Verdicts on the benchmark's three hypotheses, with effects, intervals and corrected p-values."""
    import json

    from rs05bench.errors import DataError
    from rs05bench.experiment.store import ResultStore
    from rs05bench.protocol.hypotheses import judge_hypotheses
    from rs05bench.protocol.inference.power import detectable

    if not (runs / "cells").is_dir():
        raise DataError("holds no results", source=runs, remedy="Make some: rs05bench sweep CARD --out FOLDER.")
    store = ResultStore(runs)
    verdicts = judge_hypotheses(store.results(), store.cards().values())
    if as_json:
        typer.echo(json.dumps([verdict.to_dict() for verdict in verdicts], indent=2, ensure_ascii=False))
        return
    for verdict in verdicts:
        mark = "  [SIMULATED DATA]" if verdict.simulated else ""
        typer.echo(f"{verdict.hypothesis}  {verdict.verdict.upper()}{mark}  {verdict.claim}")
        typer.echo(f"    {verdict.reason}")
        for entry in verdict.comparisons:
            effect = entry.effect
            typer.echo(f"    {entry.task} ({entry.target}), {entry.split}, {entry.budget}, {entry.where}: {entry.contrast}")
            ends = effect.bounds
            interval = f"[{ends.low:+.3f}, {ends.high:+.3f}]" if ends else "(no interval)"
            if ends and ends.of == "median":
                interval = f"(median {ends.value:+.3f} {interval})"
            p = f"p {effect.p_holm:.3g} after Holm" if effect.p_holm is not None else "no test"
            over = f"{effect.n_groups} groups" if effect.over == "groups" else f"{effect.n_blocks} blocks of one group"
            counts = "" if entry.in_scope else ", does not count"
            typer.echo(f"        {entry.metric} {effect.value:+.3f} {interval} over {over}, {p}; {entry.verdict}{counts}")
            if not effect.significant and (size := detectable(effect)) == size:
                typer.echo(f"        no significant difference; these groups show one of {size:.3f} with 80 % power")
            typer.echo(f"        from {entry.left:.3f} and {entry.right:.3f}; {len(entry.digests)} cells")
            if entry.note:
                typer.echo(f"        {entry.note}")


def advise(
    card: Annotated[Path, typer.Argument(help="Task card (YAML).")],
    data: Annotated[Path | None, typer.Option("--data", help="Data directory; default the card's folder.")] = None,
    labels: Annotated[int | None, typer.Option("--labels", help="Labels you will have in all; default 100, or all there are.")] = None,
    minutes: Annotated[float, typer.Option("--minutes", help="Time limit; the first round of simple models is always run.")] = 5.0,
    more: Annotated[int, typer.Option("--more", help="How many further labels to ask about.")] = 30,
    target: Annotated[str | None, typer.Option("--target", help="Target; default the card's first.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Keep the results here; a second run takes them up.")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", help="Worker processes; default all cores.")] = None,
    everything: Annotated[
        bool, typer.Option("--full", help="Also every budget, costs, each class's score and what is taken for what.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything behind the advice, as JSON.")] = False,
) -> None:
    """Run a quick sweep on your own table and say which method to use, what to expect, and what more labels would buy."""
    import json
    import sys
    import tempfile

    from rs05bench.experiment.advice import to_dict
    from rs05bench.experiment.advice_text import full, lines
    from rs05bench.experiment.advise import AdviceAsked
    from rs05bench.experiment.advise import advise as ask

    def tell(stage: str) -> None:
        if sys.stderr.isatty():
            typer.echo(f"\r\x1b[K  {stage}", err=True, nl=False)

    with tempfile.TemporaryDirectory(prefix="rs05bench-advise-") as temporary:
        try:
            found = ask(
                card,
                data or card.parent,
                out or temporary,
                question=AdviceAsked(labels, more, target),
                minutes=minutes,
                jobs=jobs,
                on_stage=tell,
            )
        except KeyboardInterrupt:
            kept = f" The same command with --out {out} takes it up where it stopped." if out else ""
            typer.echo(f"\nStopped.{kept}", err=True)
            raise typer.Exit(130) from None
        finally:
            if sys.stderr.isatty():
                typer.echo("\r\x1b[K", err=True, nl=False)
    if as_json:
        typer.echo(json.dumps(to_dict(found), indent=2, ensure_ascii=False))
        return
    for line in [*lines(found), *(full(found) if everything else [])]:
        kept_nowhere = out is None and line.endswith(found.store)
        typer.echo(f"  {line.removesuffix(f' Results: {found.store}') if kept_nowhere else line}")
