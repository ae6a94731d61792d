"""A task card from a look at a table: what the columns tell is filled in, what they cannot tell is asked.

`look` reads the table once, `questions` says what is still open (with a suggestion where there is one), `propose` makes the card from the
answers, and `write_commented` writes it so that a person can go on by hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from rs05bench.datasets.tables.leaks import named_after, refuse_leaks
from rs05bench.datasets.tables.reading import FILE_COLUMN, INDEX_COLUMN, ROW_COLUMN, read_files
from rs05bench.errors import DataError
from rs05bench.protocol import TaskCard
from rs05bench.protocol.atomic import writing
from rs05bench.protocol.geodesy import DEGREE_M
from rs05bench.protocol.intake.tablefile import GEO_COLUMN
from rs05bench.protocol.intake.times import parse_times

_BAND = re.compile(r"A[0-6]\d")
_WIDE_BAND = re.compile(r"(A[0-6]\d)_((?:19|20)\d{2})")
_LONGITUDE, _LATITUDE = ("longitude", "lon", "long", "lng", "x"), ("latitude", "lat", "y")
_TARGET = ("label", "class", "target", "landcover", "crop", "crop_type", "y")
_GROUP = ("region", "state", "county", "city", "site", "fire", "biome", "ecoregion", "tile", "country", "province", "district")
_MOST_CLASSES = 50
_PER_CLASS, _UNITS = (5, 20), (20, 50, 100, 200)


@dataclass(frozen=True)
class TableFacts:
    """What a table shows of itself.

    Attributes:
        frame: The table.
        files: Globs that find it.
        bands: Columns of AlphaEarth's bands.
        wide_years: Years of wide columns (`A00_2018`).
        x: Column of longitude or easting.
        y: Column of latitude or northing.
        geometry: Whether the file has geometries.
        year: Column of the year.
        time: Column of the date.
        names: Columns that hold text, or whole numbers with few values, by how many values they have.
        numbers: Columns that hold numbers and are none of the above.
        remarks: What was taken for granted in reading the files.
    """

    frame: pd.DataFrame
    files: list[str]
    bands: list[str]
    wide_years: list[int]
    x: str | None
    y: str | None
    geometry: bool
    year: str | None
    time: str | None
    names: dict[str, int]
    numbers: list[str]
    remarks: list[str]


@dataclass(frozen=True)
class Question:
    """Something the columns cannot tell.

    Attributes:
        field: Key of the answer.
        text: The question.
        suggestion: What is taken when the person just agrees; None where an answer is needed.
        choices: Sensible answers, for showing.
        several: Whether the answer is a list.
    """

    field: str
    text: str
    suggestion: str | None
    choices: tuple[str, ...] = ()
    several: bool = False


def look(table: str | Path) -> TableFacts:
    """Reads a table (a file, or a folder of CSV files) and sorts its columns.

    Raises:
        DataError: It cannot be read.
    """
    path = Path(table)
    files = [path.name] if path.is_file() else ["*.csv"]
    frame, remarks = read_files(path, files, text=(), source=str(path))
    columns = [name for name in map(str, frame.columns) if name not in (FILE_COLUMN, ROW_COLUMN, INDEX_COLUMN, GEO_COLUMN, "geometry")]
    wide = [match for name in columns if (match := _WIDE_BAND.fullmatch(name))]
    bands = [name for name in columns if _BAND.fullmatch(name)] or [match.string for match in wide]
    x, y = _named(columns, _LONGITUDE), _named(columns, _LATITUDE)
    year = next((name for name in columns if re.fullmatch(r"(?i)year|.*_year", name) and _holds_years(frame[name])), None)
    time = next(
        (name for name in columns if re.fullmatch(r"(?i)date|time|timestamp|datetime|.*_date", name) and _holds_dates(frame[name])), None
    )
    taken = {*bands, x, y, year, time}
    names = {name: int(frame[name].nunique()) for name in columns if name not in taken and _names_things(frame[name])}
    numbers = [name for name in columns if name not in taken and pd.api.types.is_numeric_dtype(frame[name])]
    has_geometry = GEO_COLUMN in frame or "geometry" in frame
    wide_years = sorted({int(match[2]) for match in wide})
    return TableFacts(frame, files, bands, wide_years, x, y, has_geometry, year, time, names, numbers, remarks)


def questions(facts: TableFacts, answers: Mapping[str, Any]) -> list[Question]:
    """What is still open, in the order to ask; later ones depend on earlier answers, so call it again after each."""
    frame = facts.frame
    candidates = [name for name in (*facts.names, *facts.numbers) if name not in (facts.x, facts.y)]
    candidates = list(dict.fromkeys(candidates))
    if "target" not in answers:
        likely = [name for name in candidates if name.lower() in _TARGET or re.search(r"(?i)(^|_)(label|class|target)$", name)]
        return [Question("target", "Which column is predicted?", likely[0] if len(likely) == 1 else None, tuple(candidates))]
    target = str(answers["target"])
    if target not in frame.columns:
        raise DataError(
            f"there is no column {target!r}", source=", ".join(facts.files), remedy=f"The table has {', '.join(candidates[:20])}."
        )
    if "kind" not in answers:
        kind = "classification" if _looks_like_classes(frame[target]) else "regression"
        return [Question("kind", f"Is {target!r} a class or a quantity?", kind, ("classification", "regression"))]
    rest = {name: count for name, count in facts.names.items() if name != target and not named_after(name, target)}
    if "groups" not in answers:
        likely = [name for name, count in rest.items() if 2 <= count <= len(frame) // 5 and _is_group(name, frame[name])]
        text = "Which columns group the units (region, state, site, ..), the one to hold out first?"
        return [Question("groups", text, ",".join(likely), tuple(rest), several=True)]
    if "unit" not in answers:
        text = "Which columns together name a unit? (nothing: file name and row number)"
        return [Question("unit", text, ",".join(_unique_key(frame, rest, facts.year)), tuple(rest), several=True)]
    if "features" not in answers:
        used = {target, *_listed(answers["groups"]), *_listed(answers["unit"])}
        free = [name for name in facts.numbers if name not in used and not named_after(name, target)]
        if str(answers["kind"]) == "classification":
            free = [name for name in free if name not in class_probabilities(frame, free, target)]
        text = "Which further columns may be features? Leave out whatever was made from the label."
        return [Question("features", text, ",".join(free), tuple(free), several=True)] if free else []
    return []


def propose(facts: TableFacts, answers: Mapping[str, Any], *, name: str) -> tuple[TaskCard, dict[str, str]]:
    """The card the answers make, and a comment for each field that deserves one.

    Args:
        facts: From `look`.
        answers: `target`, `kind`, `groups`, `unit`, `features`; lists as lists or separated by commas. Also, optionally, `crs`.
        name: Task name.

    Raises:
        DataError: An answer that is no column, or a card that would be faulty.
    """
    target, kind = str(answers["target"]), str(answers["kind"])
    groups, unit, further = (_listed(answers.get(field)) for field in ("groups", "unit", "features"))
    frame = facts.frame
    for field, columns in (("groups", groups), ("unit", unit), ("features", further)):
        if missing := [column for column in columns if column not in frame.columns]:
            raise DataError(f"{field}: there is no column {missing[0]!r}", source=", ".join(facts.files))
    features = {"alphaearth": ["A??"]} if facts.bands else {}
    safe, leaking = _without_leaks(facts, further, target, kind)
    if safe:
        features["raw"] = safe
    if len(features) == 2:
        features["hybrid"] = ["alphaearth", "raw"]
    year = facts.year or ("year" if facts.wide_years else None)
    data: dict[str, Any] = {
        "kind": kind,
        "name": name,
        "title": f"{target} from {' and '.join(part for part in features if part != 'hybrid') or 'no features'}",
        "targets": [target],
        "unit": unit,
        "groups": groups,
        "files": facts.files,
        "features": features,
        "never_features": leaking,
    }
    if facts.x and facts.y:
        data["coordinates"] = {"x": facts.x, "y": facts.y, "crs": answers.get("crs") or "EPSG:4326"}
    elif facts.geometry:
        data["coordinates"] = {"geometry": True}
    if year:
        data["year"] = year
    if facts.time:
        data["time"] = facts.time
    years = facts.wide_years or ([] if facts.year is None else sorted(frame[facts.year].dropna().unique().tolist()))
    data["splits"] = _splits(groups, "coordinates" in data, len(years))
    if "coordinates" in data and groups and facts.x and facts.y and not answers.get("crs"):
        data["split_options"] = _block_size(frame, facts.x, facts.y, groups[0])
    data["budgets"] = _budgets(frame[target], kind)
    if kind == "classification":
        data["classes"] = _class_values(frame[target])
    card = TaskCard.parse({key: value for key, value in data.items() if value not in ([], None)}, source=name)
    return card, _comments(facts, leaking, years)


def class_probabilities(frame: pd.DataFrame, columns: Sequence[str], target: str) -> list[str]:
    """Columns that look like a classifier's probabilities behind the label (Dynamic World exports them beside it).

    Columns within 0 to 1, at least as many as there are classes, where the largest one tells the label in nine rows of ten; or, where they
    sum to 1 in every row, half-way between chance and always (annual means of probabilities need not peak at the annual label).
    """
    within = [name for name in columns if bool(frame[name].between(0, 1).all()) and frame[name].nunique() > 2]
    labels = pd.factorize(frame[target].astype(str))[0]
    if len(within) < max(2, labels.max() + 1):
        return []
    largest = frame[within].to_numpy().argmax(axis=1)
    told = pd.crosstab(largest, labels).max(axis=1).sum()
    chance = np.bincount(labels).max() / len(labels)
    sums_to_one = bool(np.allclose(frame[within].sum(axis=1), 1.0, atol=0.01))
    return within if told >= ((1 + chance) / 2 if sums_to_one else 0.9) * len(labels) else []


def write_commented(card: TaskCard, comments: Mapping[str, str], path: str | Path) -> Path:
    """Writes a card with a comment before each field that has one; refuses to overwrite.

    Raises:
        DataError: The file exists.
    """
    path = Path(path)
    if path.exists():
        raise DataError("exists already", source=path, remedy="Give another name with --out, or remove it.")
    data = {"schema_version": card.schema_version, **card.model_dump(mode="json", exclude_defaults=True)}
    lines = [
        "# A task card of rs05bench: what is predicted, from what, and how it is split. Check it with: rs05bench card check " + path.name
    ]
    for key, value in data.items():
        lines += [f"# {line}" for line in comments.get(key, "").splitlines()]
        lines.append(_field(key, value))
    lines += [f"# {line}" for line in comments.get("", "").splitlines()]
    with writing(path) as draft:
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
        TaskCard.load(draft)  # what is kept is what a sweep can read
    return path


def _field(key: str, value: Any) -> str:
    """One field as YAML: lists on a line, a mapping of lists a line an entry."""
    if isinstance(value, dict) and any(isinstance(item, (list, dict)) for item in value.values()):
        return "\n".join([f"{key}:", *(f"  {name}: {_flow(item)}" for name, item in value.items())])
    return f"{key}: {_flow(value)}"


def _flow(value: Any) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**6)
        .removesuffix("\n")
        .removesuffix("\n...")
    )


def _comments(facts: TableFacts, leaking: Sequence[str], years: Sequence[Any]) -> dict[str, str]:
    comments = {
        "unit": "Columns that together name a unit. Without them the id is file name and row.",
        "groups": "Columns a split may hold out. Say `leave-<group>-out` or `within-<group>` under splits.",
        "coordinates": "x is longitude or easting, y latitude or northing. Check the CRS: nothing in a CSV says it.",
        "features": "Named sets of columns; * and ? are wild. Nothing that was made from the label, or measured after it, belongs here.",
        "splits": "A random split is a sanity check only and can never be a main result.",
        "split_options": "Test and validation are blocks of this size (metres); units nearer than the buffer to a test unit are unused.",
        "budgets": "Labels in all, validation included.",
        "": "Fill in before you publish: licence, citation, source, overlap (does a feature's pretraining know the labels?), notes.",
    }
    if leaking:
        comments["never_features"] = "These give the label away: named after it, a copy of it, or the probabilities it was read from."
    if len(years) == 1:
        comments["year"] = f"One year only ({years[0]}): no year can be held out."
    return comments


def _without_leaks(facts: TableFacts, further: Sequence[str], target: str, kind: str) -> tuple[list[str], list[str]]:
    safe: list[str] = []
    behind = class_probabilities(facts.frame, facts.numbers, target) if kind == "classification" else []
    leaking = [name for name in behind if name not in further] + [
        name for name in facts.numbers if name != target and named_after(name, target) and name not in further
    ]
    frame = facts.frame.assign(unit_id=[str(row) for row in range(len(facts.frame))])
    if kind == "regression":
        frame[target] = pd.to_numeric(frame[target], errors="coerce")
    for column in further:
        try:
            refuse_leaks({"raw": [column]}, frame, target, kind, source="")
        except DataError:
            leaking.append(column)
        else:
            safe.append(column)
    return safe, leaking


def _splits(groups: Sequence[str], located: bool, n_years: int) -> list[str]:
    splits = [f"leave-{groups[0]}-out", f"within-{groups[0]}"] if groups else []
    if located:
        splits.append("spatial-block")
    if n_years > 1:
        splits.append("leave-year-out")
    return [*splits, "random"]


def _block_size(frame: pd.DataFrame, x: str, y: str, group: str) -> dict[str, float]:
    """About a tenth of the extent of a middling region, rounded to 1, 2 or 5; the buffer a tenth of that."""
    place = frame[[x, y]].apply(pd.to_numeric, errors="coerce")
    spread = place.groupby(frame[group]).agg(lambda v: v.max() - v.min())
    metres = np.hypot(spread[x] * np.cos(np.radians(place[y].groupby(frame[group]).mean())), spread[y]) * DEGREE_M
    tenth = float(np.nanmedian(metres)) / 10.0
    if not np.isfinite(tenth) or tenth < 20.0:
        return {}
    power = 10.0 ** np.floor(np.log10(tenth))
    size = float(max(step * power for step in (1, 2, 5) if step * power <= tenth))
    return {"block_size_m": size, "buffer_m": size / 10.0}


def _budgets(target: pd.Series, kind: str) -> list[str]:
    random = [f"{n}-units" for n in _UNITS if n <= target.notna().sum() // 3] or ["20-units"]
    clustered = ["50-units-in-5-blocks"] if "50-units" in random else []
    if kind != "classification":
        return [*random, *clustered]
    smallest = int(target.value_counts().min())
    return [*random, *clustered, *(f"{n}-per-class" for n in _PER_CLASS if n <= smallest // 3)]


def _class_values(target: pd.Series) -> list[str]:
    values = target.dropna()
    if pd.api.types.is_float_dtype(values) and bool((values % 1 == 0).all()):
        values = values.astype(int)
    return [str(value) for value in sorted(values.unique().tolist())]


def _unique_key(frame: pd.DataFrame, rest: Mapping[str, int], year: str | None) -> list[str]:
    ids = [name for name in rest if re.search(r"(?i)(^|_)(id|geoid|fid|code|name)$|id$", name)]
    for name in ids:
        if frame[name].notna().all() and frame[name].is_unique:
            return [name]
    for name in ids:
        if year and not frame.duplicated([name, year]).any():
            return [name, year]
    return []


def _is_group(name: str, values: pd.Series) -> bool:
    return any(word in name.lower() for word in _GROUP) or not pd.api.types.is_numeric_dtype(values)


def _names_things(values: pd.Series) -> bool:
    if pd.api.types.is_bool_dtype(values):
        return False
    if not pd.api.types.is_numeric_dtype(values):
        return True
    return pd.api.types.is_integer_dtype(values)


def _looks_like_classes(values: pd.Series) -> bool:
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return True
    known = values.dropna()
    return bool((known % 1 == 0).all()) and known.nunique() <= _MOST_CLASSES


def _holds_years(values: pd.Series) -> bool:
    numbers = pd.to_numeric(values, errors="coerce").dropna()
    return len(numbers) > 0 and bool(((numbers >= 1970) & (numbers <= 2100) & (numbers % 1 == 0)).all())


def _holds_dates(values: pd.Series) -> bool:
    some = values.dropna().head(50)
    times, unread = parse_times(some)
    return len(some) > 0 and not unread.any() and times.first.notna().any()


def _named(columns: Sequence[str], words: Sequence[str]) -> str | None:
    return next((name for word in words for name in columns if name.lower() == word), None)


def _listed(answer: Any) -> list[str]:
    parts = answer.split(",") if isinstance(answer, str) else (answer or [])
    return [part.strip() for part in parts if part.strip()]
