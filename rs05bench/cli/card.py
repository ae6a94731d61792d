"""card init, card check, card sensitivity: write a task card from a table, and see what it will do and can show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rs05bench.cli._options import AsJson

if TYPE_CHECKING:
    from rs05bench.datasets.card_check import CardReport
    from rs05bench.datasets.card_init import Question
    from rs05bench.datasets.table_facts import TableFacts
    from rs05bench.errors import BenchError
    from rs05bench.protocol import TaskCard

_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Adds the commands of this family."""
    family = typer.Typer(help="Write and check task cards.", no_args_is_help=True, rich_markup_mode=None)
    family.command("init")(init)
    family.command("check")(check)
    family.command("sensitivity")(sensitivity)
    family.command("show")(show)
    app.add_typer(family, name="card")


def init(
    table: Annotated[Path, typer.Argument(help="A table file (CSV, Parquet, GeoPackage, ..), or a folder of CSV files.")],
    out: Annotated[Path | None, typer.Option("--out", help="Card to write; default the table's name with .yaml, beside it.")] = None,
    target: Annotated[str | None, typer.Option(help="Column to predict.")] = None,
    kind: Annotated[str | None, typer.Option(help="classification or regression.")] = None,
    groups: Annotated[str | None, typer.Option(help="Group columns, separated by commas, the one to hold out first.")] = None,
    unit: Annotated[str | None, typer.Option(help="Columns that together name a unit; empty for file name and row.")] = None,
    features: Annotated[str | None, typer.Option(help="Further feature columns beside the embedding; empty for none.")] = None,
    crs: Annotated[str | None, typer.Option(help="CRS of the coordinate columns: EPSG:32633, 33N; default EPSG:4326.")] = None,
    product: Annotated[str | None, typer.Option(help="What numbered columns are: alphaearth-v1, tessera-v1, .., or any name.")] = None,
    class_names: Annotated[str | None, typer.Option("--class-names", help="Names of integer classes in order, by commas.")] = None,
    name: Annotated[str | None, typer.Option(help="Task name; default from the table's name.")] = None,
    bands: Annotated[str | None, typer.Option(help="Of chips: band names of one date, in file order, separated by commas.")] = None,
    scale: Annotated[str | None, typer.Option(help="Of chips: number that stands for a reflectance of 1, or none.")] = None,
    classes: Annotated[str | None, typer.Option(help="Of chips: class of each mask value, e.g. '1=forest,2=not forest'.")] = None,
    year: Annotated[str | None, typer.Option(help="Of chips whose names hold no date: their year.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take what the columns suggest.")] = False,
) -> None:
    """Look at a table's columns, or at a folder of chips, ask about what they cannot tell, and write a task card.

    Groups of chips: longitude:DEGREES, latitude:DEGREES, TABLE.csv:ID:COLUMN or LAYER.gpkg:COLUMN.
    """
    import re

    from rs05bench.datasets.card_init import next_steps, propose, settle
    from rs05bench.datasets.card_writing import write_commented
    from rs05bench.datasets.table_facts import look
    from rs05bench.datasets.tables.numbered_columns import embedding_remarks
    from rs05bench.datasets.tables.zones import named_crs
    from rs05bench.errors import DataError

    is_folder = table.is_dir()
    out = out or (
        table / f"{table.resolve().name}.yaml" if is_folder else table.with_name(f"{table.name.partition('#')[0]}").with_suffix(".yaml")
    )
    if out.exists():
        raise DataError("already exists", source=out, remedy="Give another name with --out, or remove it.")
    if is_folder and _holds_chips(table):
        named = {"bands": bands, "scale": scale, "classes": classes, "groups": groups, "year": year}
        _init_chips(table, out, {field: value for field, value in named.items() if value is not None}, name=name, yes=yes)
        return
    given = {
        "target": target, "kind": kind, "groups": groups, "unit": unit, "features": features, "product": product,
        "class_names": class_names, "crs": named_crs(crs) if crs else None,
    }  # fmt: skip
    answers: dict[str, str] = {field: value for field, value in given.items() if value is not None}
    facts = look(table)
    typer.echo(_seen(facts))
    for remark in facts.remarks:
        typer.echo(f"  {remark}")
    _ask(facts, answers, table, yes=yes)
    task = name or re.sub(r"[^a-z0-9.-]+", "-", (table.resolve().name if is_folder else table.stem).lower()).strip("-.") or "task"
    card, comments = propose(facts, answers, name=task)
    folder = table if is_folder else table.parent
    card, said = settle(card, folder)
    for line in (*embedding_remarks(facts.families, answers.get("product") or "embedding"), *said):
        typer.echo(f"  {line}")
    write_commented(card, comments, out)
    if steps := next_steps(facts, table):
        typer.echo(f"Wrote {out}.\n{steps}")
        return
    typer.echo(f"Wrote {out}. Next: rs05bench card check {out}" + ("" if folder.resolve() == out.parent.resolve() else f" --data {folder}"))


def _holds_chips(folder: Path) -> bool:
    from rs05bench.datasets.chip_pairs import holds_chips  # brings torch, which a table does without

    return holds_chips(folder)


def _ask(facts: TableFacts, answers: dict[str, str], table: Path, *, yes: bool) -> None:
    """Asks what is open, or takes what the columns suggest; Enter always goes on."""
    from rs05bench.datasets.card_init import questions
    from rs05bench.datasets.tables.zones import named_crs

    while open_questions := questions(facts, answers):
        for question in open_questions:
            if yes and question.suggestion is None:
                raise _untold(question, table)
            if yes:
                answers[question.field] = question.suggestion or ""
                continue
            if question.choices:
                typer.echo(f"  {_choices(question)}")
            hint = " (separate with commas, '-' for none)" if question.several else ""
            # An empty default is an answer too: without it, Enter would ask again for ever.
            answer = str(typer.prompt(f"{question.text}{hint}", default=question.suggestion or "", show_default=bool(question.suggestion)))
            if not answer.strip() and question.suggestion is None:
                raise _untold(question, table)
            answer = "" if answer.strip() == "-" else answer
            answers[question.field] = named_crs(answer) if question.field == "crs" else answer


def _untold(question: Question, table: Path) -> BenchError:
    from rs05bench.errors import DataError

    return DataError(
        f"cannot tell: {question.text}" + (f" (fit: {_choices(question)})" if question.choices else ""),
        source=table,
        remedy=f"Give it with --{question.field.replace('_', '-')}.",
    )


def _choices(question: Question) -> str:
    more = len(question.choices) - _SHOWN
    return ", ".join(question.choices[:_SHOWN]) + (f", and {more} more" if more > 0 else "")


def _init_chips(folder: Path, out: Path, answers: dict[str, str], *, name: str | None, yes: bool) -> None:
    import re

    from rs05bench.datasets.card_init import settle
    from rs05bench.datasets.card_writing import write_commented
    from rs05bench.datasets.chip_init import look_at_chips, propose_chips, questions_of_chips
    from rs05bench.errors import DataError

    facts = look_at_chips(folder)
    typer.echo(f"{len(facts.images)} images of {facts.bands} bands with masks; mask values {', '.join(map(str, facts.values))}.")
    for remark in facts.remarks:
        typer.echo(f"  {remark}")
    for field, text, suggestion in questions_of_chips(facts, answers):
        if yes and suggestion is None:
            raise DataError(f"cannot tell: {text}", source=folder, remedy=f"Say it with --{field}.")
        answers[field] = suggestion or "" if yes else str(typer.prompt(text, default=suggestion))
        if yes:
            guess = " (the usual order; the files name no bands)" if field == "bands" and not facts.names else ""
            typer.echo(f"  taken: --{field} {suggestion}{guess}")
    task = name or re.sub(r"[^a-z0-9.-]+", "-", folder.resolve().name.lower()).strip("-.") or "task"
    card, comments = propose_chips(facts, answers, name=task)
    card, said = settle(card, folder)
    for line in said:
        typer.echo(f"  {line}")
    write_commented(card, comments, out)
    typer.echo(f"Wrote {out}. Next: rs05bench card check {out}" + ("" if folder.resolve() == out.parent.resolve() else f" --data {folder}"))


def check(
    card: Annotated[Path, typer.Argument(help="Task card (YAML).")],
    data: Annotated[Path | None, typer.Option("--data", help="Data directory; default the card's folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a card is right and what it will see; status 1 where a split or budget of it is not possible."""
    from rs05bench.cli._progress import Bar
    from rs05bench.datasets.card_check import check_card
    from rs05bench.models.features import derive
    from rs05bench.protocol import TaskCard

    task = TaskCard.load(card)
    with Bar(quiet=as_json) as bar:
        report = check_card(task, data or card.parent, derive=derive, on_step=lambda step: bar.show(step, 0, None))
    if as_json:
        import json

        tiers = _tiers(task)
        typer.echo(json.dumps({**report.model_dump(mode="json"), "tiers": tiers, "right": report.right}, indent=2, ensure_ascii=False))
    else:
        _print(task, report)
    if not report.right:
        raise typer.Exit(1)


def sensitivity(
    card: Annotated[Path, typer.Argument(help="Task card (YAML) of a table.")],
    data: Annotated[Path | None, typer.Option("--data", help="Data directory; default the card's folder.")] = None,
    target: Annotated[str | None, typer.Option(help="Target; default the card's first.")] = None,
    split_seeds: Annotated[int, typer.Option("--split-seeds", min=0, help="Further seeds of the split to draw.")] = 3,
    out: Annotated[Path | None, typer.Option("--out", help="Results folder to keep it in: its report shows it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw the split again, with other seeds and blocks, and say how far the score moves and how small a difference the groups can show."""
    from rs05bench.experiment.sensitivity import lines
    from rs05bench.experiment.sensitivity import sensitivity as compute
    from rs05bench.experiment.store import ResultStore
    from rs05bench.protocol import TaskCard

    found = compute(
        TaskCard.load(card), data or card.parent, target=target, split_seeds=split_seeds, on_variant=lambda what: typer.echo(what, err=True)
    )
    if out is not None:
        ResultStore(out).put_sensitivity(found)
    typer.echo(found.model_dump_json(indent=2) if as_json else "\n".join(lines(found)))


def show(
    card: Annotated[Path, typer.Argument(help="Task card (YAML).")],
    data: Annotated[Path | None, typer.Option("--data", help="Data directory; default the card's folder.")] = None,
    map_too: Annotated[bool, typer.Option("--map", help="Draw units, test blocks and folds on a page.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="The map's page, FILE.html; default CARD.map.html.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Whose folds are drawn; default the card's first main split.")] = None,
) -> None:
    """Print what a card holds: units, classes, groups, features, splits; and draw a map of it."""
    from rs05bench.datamodules.open_data import open_source
    from rs05bench.protocol import TaskCard

    task = TaskCard.load(card)
    source = open_source(task, data or card.parent)
    units = source.units()
    typer.echo(f"{task.name}  {task.title}")
    typer.echo(f"  {len(units):,} units, {int(units.located.sum()):,} with a position; {task.kind} of {', '.join(task.targets)}")
    if task.kind == "classification":
        names = dict(zip(task.classes or [], task.class_names or task.classes or [], strict=False))
        counts = {str(value): int(count) for value, count in source.labels(task.targets[0]).value_counts().items()}
        typer.echo(f"  classes: {_counts({names.get(value, value): count for value, count in counts.items()}, 12)}")
    for name in units.groups:
        typer.echo(f"  {name}: {_counts({str(key): int(count) for key, count in units.frame[name].value_counts().items()})}")
    typer.echo(f"  features: {', '.join(task.features) or 'none'}; splits: {', '.join(task.splits)}; budgets: {', '.join(task.budgets)}")
    if map_too or out is not None:
        from rs05bench.report.cardmap import draw_card_map

        typer.echo(f"Map: {draw_card_map(source, out or card.with_suffix('.map.html'), split=split)}")


def _tiers(card: TaskCard) -> dict[str, str]:
    from rs05bench.models.input_tiers import tier_of

    return {name: tier_of(name, card) for name in card.features}


def _seen(facts: TableFacts) -> str:
    where = f"position in {facts.x}, {facts.y}" if facts.x and facts.y else "geometries" if facts.geometry else "no position"
    when = f"year in {facts.year}" if facts.year else "no year"
    found = [f"{len(family.columns)} columns of {family.product or 'an embedding'} ({family.label})" for family in facts.families]
    return f"{len(facts.frame):,} rows, {', '.join(found) or 'no embedding'}, {where}, {when}."


def _print(card: TaskCard, report: CardReport) -> None:
    from rich.table import Table

    from rs05bench.cli._terminal import console as plain_console

    console = plain_console()  # brackets in a card are lists, not colours

    def rows(title: str, lines: Sequence[tuple[str, ...]]) -> None:
        if not lines:
            return
        console.print(title, style="bold")
        grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for line in lines:
            grid.add_row(*line)
        console.print(grid, "")

    where = f"{report.located:,} located" + (
        f", {report.bounds[0]} to {report.bounds[2]} E, {report.bounds[1]} to {report.bounds[3]} N" if report.bounds else ""
    )
    years = ", ".join(f"{year}: {count:,}" for year, count in report.years.items())
    console.print(report.task, style="bold", end="  ")
    console.print(card.title)
    for flag in report.flags:
        console.print(f"DESIGN FAULT: {flag.sentence}.", style="bold red")
    several = f"; {report.places:,} places, a place is on one side of every split but random" if report.places < report.units else ""
    facts: list[tuple[str, ...]] = [("units", f"{report.units:,}{several}"), ("position", where), *([("years", years)] if years else [])]
    if report.classes is not None:
        names = dict(zip(card.classes or [], card.class_names or card.classes or [], strict=False))
        facts.append((report.target, ", ".join(f"{names.get(value, value)} {count:,}" for value, count in report.classes.items())))
    elif report.quantiles:
        facts.append((report.target, "min {:.4g}, 5 % {:.4g}, median {:.4g}, 95 % {:.4g}, max {:.4g}".format(*report.quantiles)))
    facts += [(name, _counts(values)) for name, values in report.groups.items()]
    rows("Units", facts)
    rows("Dropped", [(f"{count:,}", reason) for reason, count in report.dropped.items()])
    tiers = _tiers(card)
    sets = [
        (
            name,
            tiers[name],
            f"{len(columns)} columns",
            _short(columns) + (f"; {report.missing[name]:,} units lack a value" if report.missing[name] else ""),
        )
        for name, columns in report.features.items()
    ]
    rows("Features", sets)
    rows("Columns not used", [(_short(report.unused, 12),)] if report.unused else [])
    good = [
        (item.split, f"{item.folds} folds", ", ".join(f"{role} {count:,}" for role, count in item.first_fold.items())) if item.possible
        else (item.split, "not possible", item.reason)
        for item in report.splits
    ]  # fmt: skip
    rows("Splits (units of the first fold)", good)
    budgets = [
        (item.budget, f"train {item.train}, val {item.val}" if item.possible else "not possible", item.reason) for item in report.budgets
    ]
    if report.blocks:
        rows("Blocks", [(report.blocks,)])
    rows("Budgets (first fold, seed 0)", budgets)
    rows("Look at", [(hint,) for hint in report.hints])
    look_at = len(report.hints) + len(report.flags)
    things = f"{look_at} thing{'' if look_at == 1 else 's'} to look at" if look_at else "nothing to look at"
    console.print(f"Readable; {things}." if report.right else f"Readable, but not everything it asks for is possible; {things}.")


def _counts(values: dict[str, int], limit: int = 8) -> str:
    shown = ", ".join(f"{name} {count:,}" for name, count in list(values.items())[:limit])
    return shown + (f", … ({len(values)} groups)" if len(values) > limit else "")


def _short(columns: list[str], limit: int = 6) -> str:
    return ", ".join(columns) if len(columns) <= limit else f"{', '.join(columns[: limit - 1])}, … {columns[-1]}"
