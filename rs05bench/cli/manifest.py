"""``rs05bench manifest``: build, show, verify and compare frozen splits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

manifest = typer.Typer(help="Frozen splits: build, show, verify, compare.", no_args_is_help=True, rich_markup_mode=None)

Named = Annotated[str, typer.Argument(help="A manifest: its Parquet file or folder, or a name such as burn-scar/leave-biome-out@v1.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(manifest, name="manifest")


@manifest.command("build")
def build(
    card: Annotated[
        str,
        typer.Argument(
            help="Task card (YAML); hls-burn-scars or crop-chips over your copy of the chips; or a published set: "
            "burn-scar, crop, counties, fuel-moisture."
        ),
    ],
    data: Annotated[Path, typer.Option(help="Where the data lie.")],
    splits: Annotated[str | None, typer.Option(help="Splits, separated by commas; default those of the card.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write them to OUT/<task>/; without it only their digests are printed.")] = None,
    version: Annotated[
        int | None, typer.Option(help="Version to write into their names; default that of the shipped one they equal, else the next.")
    ] = None,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Keep units without a label: a sealed round's test units.")] = False,
) -> None:
    """Draw the splits of a task, audit and freeze them, and print their digests.

    A digest that equals a shipped manifest's is marked so.
    """
    from rs05bench.errors import DataError
    from rs05bench.protocol.shipped import newest_version, shipped_index

    shipped = shipped_index()
    wanted = list(dict.fromkeys(part.strip().partition("+")[0] for part in splits.split(",") if part.strip())) if splits else None
    failed = 0
    for split, made in _built(card, data, wanted, unlabelled=unlabelled):
        if isinstance(made, DataError):
            failed += 1
            typer.echo(f"{split}: not possible on these data: {made.problem}", err=True)
            continue
        note, number = "", 1
        newest = newest_version(made.name.rpartition("@v")[0], shipped)
        if newest is not None:
            same = shipped[newest].digest == made.card["digest"]
            note = f"  equals the shipped {newest}" if same else f"  DIFFERS from the shipped {newest}"
            number = int(newest.rpartition("@v")[2]) + (not same)
        number = version or number
        made = replace(made, version=number, card=made.card | {"version": number})
        typer.echo(f"{made.card['digest']}  {made.card['audit']['verdict']:9}  {made.name}{note}")
        if out is not None:
            made.save(out / made.task)
    if failed and (wanted is None or failed < len(wanted)):
        typer.echo(f"{failed} splits of the card are not possible on these data.", err=True)
    if wanted is not None and failed:
        raise typer.Exit(1)


@manifest.command("show")
def show(
    name: Named,
    map_file: Annotated[Path | None, typer.Option("--map", metavar="FILE", help="Draw the folds on a map: FILE.png or FILE.html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Print a manifest: units a fold and role, what is held out, distances, verdict, digest, source; and draw its map."""
    import json

    from rs05bench.protocol.manifest import open_manifest

    found = open_manifest(name)
    if map_file is not None:
        from rs05bench.report.foldmap import draw_folds_map

        draw_folds_map(found, map_file)
    if as_json:
        typer.echo(json.dumps(found.card, indent=2, ensure_ascii=False))
    else:
        _show(found)
    if map_file is not None:
        typer.echo(f"map: {map_file}", err=True)


@manifest.command("list")
def list_shipped() -> None:
    """List the manifests of the package, and which of them are fetched from the Hub when they are first used."""
    from rs05bench.protocol.shipped import shipped_index, shipped_manifests

    here = shipped_manifests()
    for name, known in shipped_index().items():
        notes = [] if known.can_be_main else ["never a main result"]
        if name not in here:
            notes.append(f"to fetch: {sum(file.size for file in known.files.values()) / 1e3:,.0f} kB")
        size = f"{known.units:>6,} units  {known.folds:>2} folds"
        typer.echo(f"{name:<46} {size}  {known.verdict:9}  {'; '.join(notes)}".rstrip())


@manifest.command("pull")
def pull(
    names: Annotated[list[str] | None, typer.Argument(help="Names such as burn-scar/leave-biome-out@v1; --all for every one.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every manifest of the package.")] = False,
) -> None:
    """Fetch manifests of the package from the Hub, each compared with the digests the package holds."""
    from rs05bench.errors import ProtocolError
    from rs05bench.protocol.shipped import shipped_index, shipped_path

    wanted = list(shipped_index()) if every else names or []
    if not wanted:
        raise ProtocolError("no manifest named", remedy="Name some of `rs05bench manifest list`, or --all.")
    for name in wanted:
        typer.echo(f"{name}  {shipped_path(name)}")


@manifest.command("verify")
def verify(name: Named) -> None:
    """Check digest, rules and leakage of a manifest; exits 1 when it leaks."""
    from rs05bench.protocol.audit import audit_manifest
    from rs05bench.protocol.audit.text import summary
    from rs05bench.protocol.manifest import open_manifest

    found = open_manifest(name)
    said = found.card.get("digest")
    typer.echo(f"digest   {said or found.digest}" + ("  as its card says" if said else "  (its card names none)"))
    drawn = found.card.get("rule") not in ("official", "random")
    typer.echo("rules    each unit has one role a fold" + ("; test blocks are in nobody's training" if drawn else ""))
    report = audit_manifest(found)
    typer.echo(f"audit    {summary(report)}")
    said = (found.card.get("audit") or {}).get("verdict")
    if said is not None and said != report.verdict:
        typer.echo(f"         its card says {said}")
    if report.verdict == "leaks":
        raise typer.Exit(1)


@manifest.command("diff")
def diff(
    a: Named,
    b: Named,
    as_json: Annotated[bool, typer.Option("--json", help="Print the difference as JSON.")] = False,
    limit: Annotated[int, typer.Option(help="Rows named of each kind.")] = 10,
) -> None:
    """Compare two manifests unit by unit; exits 1 when they differ."""
    import json

    from rs05bench.protocol.manifest import open_manifest
    from rs05bench.protocol.manifest_diff import diff_manifests

    found = diff_manifests(open_manifest(a), open_manifest(b))
    parts = {"added": found.added, "removed": found.removed, "changed": found.changed}
    if as_json:
        record: dict[str, Any] = {"same_digest": found.same_digest, **{name: part.to_dict("records") for name, part in parts.items()}}
        typer.echo(json.dumps(record | {"moved": found.moved, "card": found.card}, indent=2, ensure_ascii=False))
    else:
        typer.echo("same digest" if found.same_digest else "the digests differ")
        for name, part in parts.items():
            typer.echo(f"{name}: {part['unit_id'].nunique():,} units in {len(part):,} rows")
            for row in part.head(limit).to_dict("records"):
                roles = row.get("role") or f"{row['role_a']} ({row['shift_a']}) -> {row['role_b']} ({row['shift_b']})"
                typer.echo(f"  {row['fold']}  {row['unit_id']}: {roles}")
        typer.echo(f"moved (position, place or year): {len(found.moved):,} units" + "".join(f"\n  {unit}" for unit in found.moved[:limit]))
        for name, (one, other) in found.card.items():
            typer.echo(f"card, {name}: {one} -> {other}")
    if not found.same_digest:
        raise typer.Exit(1)


def _built(card: str, data: Path, wanted: list[str] | None, *, unlabelled: bool) -> Any:
    """Split, and its manifest or the reason there is none."""
    from rs05bench.cli._options import find_card
    from rs05bench.datasets.published import PUBLISHED
    from rs05bench.errors import DataError
    from rs05bench.protocol.audit import with_verdict
    from rs05bench.protocol.manifest import build_manifest

    if card in PUBLISHED:
        known = PUBLISHED[card]
        for split in wanted or known.task.splits:
            # A missing file is no property of a split: it stops the command.
            yield split, known.build(data, split)
        return
    from rs05bench.datamodules.open_data import open_source

    task = find_card(card, data)
    source = open_source(task, data, unlabelled=unlabelled)
    units = source.units()
    labels = {target: source.labels(target) for target in task.targets} if task.kind == "classification" else None
    for split in wanted or dict.fromkeys(split.partition("+")[0] for split in task.splits):
        try:
            yield split, with_verdict(build_manifest(task, units, split, labels=labels))
        except DataError as error:
            yield split, error


def _show(found: Any) -> None:
    card = found.card
    typer.echo(f"{found.name}" + ("  SIMULATED" if card.get("simulated") else ""))
    rule = f"{card.get('rule')}" + (f" over {card['group']}" if card.get("group") else "")
    typer.echo(f"rule      {rule}; seed {card.get('seed', card.get('parameters', {}).get('seed'))}")
    changed = {name: value for name, value in card.get("parameters", {}).items() if value is not None and name != "seed"}
    typer.echo(
        "with      " + ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in changed.items())
    )
    typer.echo(f"units     {card.get('units'):,}" + (f", {card['unlocated']:,} without a position" if card.get("unlocated") else ""))
    counts = found.counts()
    width = max(4, *(len(str(fold)) for fold in counts.index))
    typer.echo("\n" + "  ".join([f"{'fold':<{width}}", *(f"{role:>8}" for role in counts.columns), "nearest to training (km)", "held out"]))
    for fold, row in zip(counts.index, counts.to_numpy(), strict=True):
        about = card.get("folds", {}).get(str(fold), {})
        near = [
            f"{role} {about[f'{role}_to_train_m']['min'] / 1000:,.1f}, median {about[f'{role}_to_train_m']['median'] / 1000:,.1f}"
            for role in ("test_id", "test_ood")
            if f"{role}_to_train_m" in about
        ]
        held = about.get("held_out", [])
        shown = ", ".join(held[:8]) + (f" and {len(held) - 8} more" if len(held) > 8 else "")
        typer.echo(
            "  ".join([f"{fold!s:<{width}}", *(f"{int(n):>8,}" for n in row), f"{'; '.join(near) or 'unknown':<24}", shown]).rstrip()
        )
    for target, classes in (card.get("classes") or {}).items():
        if isinstance(classes, dict):
            typer.echo(f"\n{target}: " + ", ".join(f"{value} {count:,}" for value, count in classes.items()))
    for column, values in (card.get("groups") or {}).items():
        if isinstance(values, dict):
            text = ", ".join(f"{value} {count:,}" for value, count in list(values.items())[:12])
            typer.echo(f"{column} ({len(values)}): {text}{', …' if len(values) > 12 else ''}")
        else:
            typer.echo(f"{column}: {values:,} values")
    verdict = (card.get("audit") or {}).get("verdict")
    typer.echo("\n" + (f"audit     {verdict}" if verdict else "audit     not recorded; rs05bench manifest verify") + _main(card))
    revision = f" (revision {card['source_revision']})" if card.get("source_revision") else ""
    for label, value in (
        ("source", f"{card.get('source', '')}{revision}"),
        ("licence", card.get("licence")),
        ("cite", card.get("citation")),
    ):
        typer.echo(f"{label:<9} {value or 'not stated'}")
    typer.echo(f"digest    {found.card.get('digest') or found.digest}")


def _main(card: dict[str, Any]) -> str:
    return "" if card.get("can_be_main") else "; can never be a main result"
