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

    if not (runs / "cells").is_dir():
        raise DataError("holds no results", source=runs, remedy="Make some: rs05bench sweep CARD --out FOLDER.")
    verdicts = judge_hypotheses(ResultStore(runs).results())
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
            interval = f"[{effect.low:+.3f}, {effect.high:+.3f}]" if effect.low == effect.low else "(no interval: too few blocks)"
            p = f"p {entry.p_holm:.3g} after Holm" if entry.p_holm == entry.p_holm else "no test"
            ranks = (
                f"Wilcoxon over {entry.folds} folds p {entry.wilcoxon_p:.2g}" if entry.wilcoxon_p == entry.wilcoxon_p else "no fold differs"
            )
            beside = "" if entry.in_scope else ", beside the claim"
            typer.echo(
                f"        {entry.metric} {effect.value:+.3f} {interval}, {p}; {ranks}; {entry.verdict}{beside}; {len(entry.digests)} cells"
            )
            if entry.note:
                typer.echo(f"        {entry.note}")
