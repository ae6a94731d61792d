"""``rs05bench score``: scores from files anyone could have made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("score")(score)


def score(
    predictions: Annotated[Path, typer.Argument(help="Folder with predictions.json and units.parquet (and chips/, for maps).")],
    manifest: Annotated[str, typer.Option(help="The frozen split: its Parquet file or folder, or a name such as crop/leave-state-out@v1.")],
    labels: Annotated[Path, typer.Option(help="Label pack: the folder that `rs05bench labels build` made.")],
    fold: Annotated[str | None, typer.Option(help="Fold; default the one the predictions name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every score as JSON.")] = False,
) -> None:
    """Score predictions against a frozen manifest and a label pack; needs no torch."""
    import json

    from rs05bench.protocol import rescoring
    from rs05bench.protocol.labels import LabelPack
    from rs05bench.protocol.manifest import open_manifest

    split, pack = open_manifest(manifest), LabelPack.load(labels, verify=True)
    scored = rescoring.score(predictions, split, pack, fold=fold)
    chosen = scored.fold
    if as_json:
        record = {
            "task": pack.card.name,
            "manifest": split.name,
            "manifest_digest": split.digest,
            "labels_digest": pack.record["digest"],
            "fold": chosen,
            "simulated": pack.card.simulated,
            "main": bool(split.card.get("can_be_main", False)),
            "main_metric": pack.card.main_metric,
            "scores": scored.scores,
            "strata": [stratum.model_dump() for stratum in scored.strata],
            "per_group": scored.per_group,
            "calibration": scored.calibration,
        }
        typer.echo(json.dumps(record, indent=2, ensure_ascii=False))
        return
    typer.echo(f"{pack.card.name}, {split.name}, fold {chosen}" + ("  SIMULATED" if pack.card.simulated else ""))
    if not split.card.get("can_be_main", False):
        typer.echo("This split can never be a main result.")
    roles = list(scored.scores)
    names = list(dict.fromkeys(name for role in roles for name in scored.scores[role]))
    names.sort(key=lambda name: name != pack.card.main_metric)
    width = max(len(name) for name in names)
    typer.echo("  ".join([" " * width, *(f"{role:>14}" for role in roles)]))
    for name in names:
        values = (scored.scores[role].get(name) for role in roles)
        typer.echo("  ".join([f"{name:<{width}}", *(f"{'' if value is None else format(value, '.4f'):>14}" for value in values)]))
