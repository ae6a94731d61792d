"""The commands of the protocol: splits, audit, budgets, labels, score, rules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rs05bench.cli._options import AsJson

label_packs = typer.Typer(help="Label packs: labels in files pinned by a digest.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    app.command("splits")(splits)
    app.command("audit")(audit)
    app.command("budgets")(budgets)
    app.add_typer(label_packs, name="labels")
    app.command("score")(score)
    app.command("rules")(rules)


def splits(
    card: Annotated[Path | None, typer.Option("--card", help="Say which splits of this card are possible on its data.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Data directory; default the card's folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the forms of splits; with a card, its splits and whether its data allow them."""
    from rs05bench.cli._terminal import print_rows

    if card is None:
        from rs05bench.datasets.task_list import split_forms

        print_rows(split_forms(), ["split", "moves", "main_result", "meaning"], as_json=as_json)
        return
    from rs05bench.datasets.card_check import check_card
    from rs05bench.models.features import derive
    from rs05bench.protocol import TaskCard

    report = check_card(TaskCard.load(card), data or card.parent, derive=derive)
    print_rows(
        [item.model_dump(mode="json") for item in report.splits], ["split", "possible", "folds", "first_fold", "reason"], as_json=as_json
    )


def audit(
    manifest: Annotated[
        str | None, typer.Argument(help="A manifest: its Parquet file or folder, or a name such as burn-scar/leave-biome-out@v1.")
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            help="Training list: CSV, Parquet, GeoJSON, GeoPackage or JSON; FILE#PART names a list in a JSON file or the id column."
        ),
    ] = None,
    test: Annotated[str | None, typer.Option(help="Test list, read like --train.")] = None,
    units: Annotated[
        list[str] | None, typer.Option(help="Table with coordinates, footprints or groups for the ids; FILE#COLUMN names its id column.")
    ] = None,
    id_column: Annotated[str | None, typer.Option("--id", metavar="COL", help="Column with the id; kept as text.")] = None,
    id_format: Annotated[str, typer.Option(help="How an id of the lists is written in --units, for example chip_{}.")] = "{}",
    lat: Annotated[str | None, typer.Option(metavar="COL", help="Column with the latitude (WGS84 degrees).")] = None,
    lon: Annotated[str | None, typer.Option(metavar="COL", help="Column with the longitude (WGS84 degrees).")] = None,
    group: Annotated[
        list[str] | None, typer.Option(metavar="COL", help="Group that may not be on both sides (tile, site, fire, state); repeatable.")
    ] = None,
    place: Annotated[
        list[str] | None, typer.Option(metavar="COL", help="Column naming the place; by default coordinates to a metre.")
    ] = None,
    time: Annotated[
        list[str] | None,
        typer.Option(metavar="COL", help="Column with the date or year (the whole of it); twice: first and last day of a window."),
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="COL", help="Column with the label, for its autocorrelation range.")] = None,
    features: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Feature columns, for near-duplicates and their range, e.g. 'A??'.")
    ] = None,
    content: Annotated[
        str | None, typer.Option(metavar="COL", help="Column with a content hash, or with the path of each unit's file.")
    ] = None,
    shift: Annotated[str, typer.Option(help="What the split declares to change: none, region, year or both.")] = "none",
    min_km: Annotated[
        float | None, typer.Option(help="Closer than this to training leaks; 0 = off.  [default: 1, or the manifest's buffer]")
    ] = None,
    thresholds_file: Annotated[
        Path | None,
        typer.Option("--thresholds", metavar="FILE", help="YAML with other thresholds: touch_m, gap_days, cosine, buffer_km, cases, .."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    map_file: Annotated[
        Path | None, typer.Option("--map", metavar="FILE", help="Draw the worst cases on a map: FILE.html or FILE.png.")
    ] = None,
) -> None:
    """Look for everything that lets a model know a test unit from training; exits 1 when the split leaks.

    Give a manifest, or two lists with --train and --test.
    """
    from pydantic import ValidationError

    from rs05bench.errors import DataError
    from rs05bench.protocol.audit import AuditColumns, AuditReport, ManifestReport, Thresholds, audit_lists, audit_named
    from rs05bench.protocol.audit.chart import draw_map
    from rs05bench.protocol.audit.text import render
    from rs05bench.protocol.documents import read_yaml_mapping

    given = {} if thresholds_file is None else read_yaml_mapping(thresholds_file, remedy="For instance: gap_days: 30")
    asked = {} if min_km is None else {"min_km": min_km}
    window = list(time or [])
    if len(window) > 2:
        raise DataError(f"--time names {len(window)} columns", remedy="Name one, or two: the first and the last day of a window.")
    try:
        thresholds = Thresholds.model_validate(given | asked)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        name = "--min-km" if field in asked else field
        raise DataError(f"{name} {first['input']}: {first['msg']}", source=None if field in asked else thresholds_file) from error
    report: AuditReport | ManifestReport
    if manifest is not None:
        if train or test:
            raise DataError("a manifest and two lists at once", remedy="Give either the manifest, or --train and --test.")
        report = audit_named(manifest, thresholds=thresholds, own_buffer="min_km" not in thresholds.model_fields_set)
    elif train and test:
        columns = AuditColumns(
            id=id_column,
            lon=lon,
            lat=lat,
            groups=group or [],
            place=place or [],
            time=window[0] if window else None,
            time_end=window[1] if len(window) > 1 else None,
            label=label,
            features=features or [],
            content=content,
        )
        report = audit_lists(train, test, units=units or [], columns=columns, id_format=id_format, shift=shift, thresholds=thresholds)
    else:
        raise DataError("nothing to audit", remedy="Give a manifest, or both --train and --test.")
    if map_file is not None:
        draw_map(report, map_file)
    typer.echo(report.to_json() if as_json else render(report))
    if map_file is not None:
        typer.echo(f"map: {map_file}", err=True)
    if report.verdict == "leaks":
        raise typer.Exit(1)


def budgets(
    card: Annotated[str, typer.Argument(help="Task card (YAML), or the name of a task.")],
    out: Annotated[Path, typer.Option("--out", help="File to write: .csv or .parquet.")],
    data: Annotated[Path | None, typer.Option("--data", help="The task's data; default the card's folder.")] = None,
    splits: Annotated[str | None, typer.Option("--splits", help="Splits, separated by commas; default the card's.")] = None,
    names: Annotated[str | None, typer.Option("--budgets", help="Budgets, separated by commas; default the card's.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds 0 to this, without it.")] = 5,
) -> None:
    """Write the label sets of every split, fold, budget and seed: columns task, target, split, fold, budget, seed, unit_id, role."""
    from rs05bench.cli._options import find_card
    from rs05bench.experiment.entries import write_budgets

    found = find_card(card, data or Path(card).parent)
    rows = write_budgets(
        found,
        data or Path(card).parent,
        out,
        splits=splits.split(",") if splits else found.splits,
        budgets=names.split(",") if names else found.budgets,
        seeds=seeds,
    )
    typer.echo(f"{out}: {rows:,} rows")


@label_packs.command("build")
def build_labels(
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

    from rs05bench.cli._options import find_card
    from rs05bench.experiment.entries import write_pack

    pack = write_pack(find_card(task, data), data, out, redistributable=redistributable)
    if as_json:
        typer.echo(json.dumps(pack.record, indent=2, ensure_ascii=False))
        return
    _show_pack(pack.record, out)


@label_packs.command("verify")
def verify_labels(
    pack: Annotated[Path, typer.Argument(help="Folder of the pack.")],
    digest: Annotated[str | None, typer.Option(help="The digest it must have, for example one that was published.")] = None,
) -> None:
    """Recompute a pack's digest from its files."""
    from rs05bench.errors import DataError
    from rs05bench.protocol.labels import LabelPack

    found = LabelPack.load(pack, verify=True)
    if digest is not None and not (len(digest) >= 12 and str(found.record["digest"]).startswith(digest)):
        raise DataError(
            f"its digest is {found.record['digest']}, expected {digest}",
            source=pack,
            remedy="These are other label_packs, or another version.",
        )
    _show_pack(found.record, pack)


def _show_pack(record: dict[str, object], where: Path) -> None:
    passed = "may be passed on" if record["redistributable"] else "may not be passed on (rebuild it from the data, and compare the digest)"
    typer.echo(f"{record['task']}: labels of {record['units']} units in {where}" + ("  SIMULATED" if record["simulated"] else ""))
    typer.echo(f"digest   {record['digest']}")
    typer.echo(f"licence  {record['licence'] or 'not stated'}; {passed}")


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


def rules(
    runs: Annotated[Path, typer.Argument(help="The folder of a sweep.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
    breaches: Annotated[bool, typer.Option("--all", help="Print every breach, not only the first few.")] = False,
) -> None:
    """Check every rule of the fair protocol over a sweep's results; exits 1 when one is broken."""
    import json

    from rs05bench.experiment.check import check_store

    verdicts = check_store(runs)
    if as_json:
        typer.echo(json.dumps([verdict.model_dump() for verdict in verdicts], indent=2, ensure_ascii=False))
    else:
        for verdict in verdicts:
            typer.echo(f"{verdict.rule:>2}  {verdict.verdict:<14}  {verdict.sentence}")
            for line in verdict.breaches if breaches and verdict.breaches else [verdict.reason]:
                typer.echo(f"                    {line}")
    if any(verdict.verdict == "fail" for verdict in verdicts):
        raise typer.Exit(1)
