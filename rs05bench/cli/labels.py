"""``rs05bench labels``: digest-pinned labels for the scorer and the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

labels = typer.Typer(help="Label packs: labels in files pinned by a digest.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(labels, name="labels")


@labels.command("build")
def build(
    task: Annotated[str, typer.Argument(help="Task card (YAML), or hls-burn-scars, crop-chips, fuel-moisture.")],
    data: Annotated[Path, typer.Option(help="Where the data lie.")],
    out: Annotated[Path, typer.Option(help="Folder of the pack; must not hold one yet.")],
    redistributable: Annotated[
        bool | None,
        typer.Option("--redistributable/--not-redistributable", help="Whether the labels may be passed on.  [default: by the licence]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the pack's record as JSON.")] = False,
) -> None:
    """Write the labels of a task as a pack, and print its digest."""
    import json

    from rs05bench.cli._tasks import find_card
    from rs05bench.datamodules.open_data import open_source
    from rs05bench.protocol.labels import write_labels, write_masks

    card = find_card(task, data)
    source = open_source(card, data)
    if card.kind == "segmentation":
        chips = ((unit, source.read_labels(unit)[0], *source.place(unit)) for unit in source.units().frame["unit_id"])  # type: ignore[attr-defined]
        pack = write_masks(out, card, chips, data_digest=source.digest, redistributable=redistributable)
    else:
        found = {target: source.labels(target) for target in card.targets}
        pack = write_labels(out, card, found, data_digest=source.digest, redistributable=redistributable)
    if as_json:
        typer.echo(json.dumps(pack.record, indent=2, ensure_ascii=False))
        return
    _show(pack.record, out)


@labels.command("verify")
def verify(
    pack: Annotated[Path, typer.Argument(help="Folder of the pack.")],
    digest: Annotated[str | None, typer.Option(help="The digest it must have, for example one that was published.")] = None,
) -> None:
    """Recompute a pack's digest from its files."""
    from rs05bench.errors import DataError
    from rs05bench.protocol.labels import LabelPack

    found = LabelPack.load(pack, verify=True)
    if digest is not None and not (len(digest) >= 12 and str(found.record["digest"]).startswith(digest)):
        raise DataError(
            f"its digest is {found.record['digest']}, expected {digest}", source=pack, remedy="These are other labels, or another version."
        )
    _show(found.record, pack)


def _show(record: dict[str, object], where: Path) -> None:
    passed = "may be passed on" if record["redistributable"] else "may not be passed on (rebuild it from the data, and compare the digest)"
    typer.echo(f"{record['task']}: labels of {record['units']} units in {where}" + ("  SIMULATED" if record["simulated"] else ""))
    typer.echo(f"digest   {record['digest']}")
    typer.echo(f"licence  {record['licence'] or 'not stated'}; {passed}")
