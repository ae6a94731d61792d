"""hypotheses: what a store of results says about H1, H2 and H3."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("hypotheses")(hypotheses)


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
            interval = f"[{effect.low:+.3f}, {effect.high:+.3f}]" if effect.has_interval else "(no interval)"
            p = f"p {effect.p_holm:.3g} after Holm" if effect.p_holm is not None else "no test"
            over = f"{effect.n_groups} groups" if effect.over == "groups" else f"{effect.n_blocks} blocks of one group"
            counts = "" if entry.in_scope else ", does not count"
            typer.echo(f"        {entry.metric} {effect.value:+.3f} {interval} over {over}, {p}; {entry.verdict}{counts}")
            if entry.verdict == "undecided" and (size := detectable(effect)) == size:
                typer.echo(f"        no significant difference; these groups show one of {size:.3f} with 80 % power")
            typer.echo(f"        from {entry.left:.3f} and {entry.right:.3f}; {len(entry.digests)} cells")
            if entry.note:
                typer.echo(f"        {entry.note}")
