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
    touch_m: Annotated[float, typer.Option(help="Footprints nearer than this touch.")] = 0.01,
    gap_days: Annotated[float, typer.Option(help="Days that must lie between training and test windows where the year shifts.")] = 0.0,
    cosine: Annotated[float, typer.Option(help="Feature vectors with at least this cosine are the same content.")] = 0.9999,
    content_sample: Annotated[
        tuple[int, int], typer.Option(metavar="TEST TRAIN", help="Most test and training vectors compared by cosine.")
    ] = (10_000, 50_000),
    variogram_sample: Annotated[int, typer.Option(help="Most units whose pairs enter the variogram.")] = 1_500,
    range_leaks: Annotated[
        bool, typer.Option("--range-leaks", help="An autocorrelation range beyond the buffer is a leak, not a warning.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the subsamples.")] = 0,
    cases: Annotated[int, typer.Option(help="Worst cases named for each finding.")] = 5,
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

    limits = {
        "touch_m": touch_m,
        "gap_days": gap_days,
        "cosine": cosine,
        "content_sample": content_sample,
        "variogram_sample": variogram_sample,
        "range_leaks": range_leaks,
        "seed": seed,
        "cases": cases,
    }
    try:
        thresholds = Thresholds.model_validate(limits | ({} if min_km is None else {"min_km": min_km}))
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"--{str(first['loc'][0]).replace('_', '-')} {first['input']}: {first['msg']}") from error
    report: AuditReport | ManifestReport
    if manifest is not None:
        if train or test:
            raise DataError("a manifest and two lists at once", remedy="Give either the manifest, or --train and --test.")
        report = audit_named(manifest, thresholds=thresholds, own_buffer=min_km is None)
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
