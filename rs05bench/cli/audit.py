"""``rs05bench audit``: does a split leak?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit")(audit)


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
    year: Annotated[str | None, typer.Option(metavar="COL", help="Column with the year; by default that of --time.")] = None,
    time: Annotated[
        str | None,
        typer.Option(metavar="COL", help="Column with the date, or the first day of the window (a bare year is the whole year)."),
    ] = None,
    time_end: Annotated[str | None, typer.Option(metavar="COL", help="Column with the last day of the window.")] = None,
    label: Annotated[str | None, typer.Option(metavar="COL", help="Column with the label, for its autocorrelation range.")] = None,
    features: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Feature columns, for near-duplicates and their range, e.g. 'A??'.")
    ] = None,
    content: Annotated[
        str | None, typer.Option(metavar="COL", help="Column with a content hash, or with the path of each unit's file.")
    ] = None,
    shift: Annotated[str, typer.Option(help="What the split declares to change: none, region, year or both.")] = "none",
    buffer_km: Annotated[float | None, typer.Option(help="The buffer the split claims, to set the autocorrelation range against.")] = None,
    min_km: Annotated[
        float | None, typer.Option(help="Closer than this to training leaks; 0 = off.  [default: 1, or the manifest's buffer]")
    ] = None,
    thresholds_file: Annotated[
        Path | None,
        typer.Option("--thresholds", metavar="FILE", help="YAML with other thresholds: touch_m, gap_days, cosine, range_leaks, seed."),
    ] = None,
    cases: Annotated[int | None, typer.Option(help="Worst cases named for each finding.  [default: 5]")] = None,
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
    asked = {name: value for name, value in (("min_km", min_km), ("cases", cases)) if value is not None}
    try:
        thresholds = Thresholds.model_validate(given | asked)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        name = f"--{field.replace('_', '-')}" if field in asked else field
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
            year=year,
            time=time,
            time_end=time_end,
            label=label,
            features=features or [],
            content=content,
        )
        report = audit_lists(
            train, test, units=units or [], columns=columns, id_format=id_format, shift=shift, thresholds=thresholds, buffer_km=buffer_km
        )
    else:
        raise DataError("nothing to audit", remedy="Give a manifest, or both --train and --test.")
    if map_file is not None:
        draw_map(report, map_file)
    typer.echo(report.to_json() if as_json else render(report))
    if map_file is not None:
        typer.echo(f"map: {map_file}", err=True)
    if report.verdict == "leaks":
        raise typer.Exit(1)
