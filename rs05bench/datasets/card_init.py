"""A task card from a look at a table: what the columns tell is filled in, what they cannot tell is asked.

`look` reads the table once, `questions` says what is still open (with a suggestion where there is one), `propose` makes the card from the
answers, and `settle` tries it on the table and leaves out what these data do not allow, so that the next command never refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.datasets.card_check import check_card
from rs05bench.datasets.table_facts import (
    MOST_CLASSES,
    TableFacts,
    is_group,
    looks_like_classes,
    names_a_group,
    refuse_spellings,
    unique_key,
    years_of,
)
from rs05bench.datasets.tables.block_size import BlockSize, fit_blocks
from rs05bench.datasets.tables.column_roles import (
    MOSTLY_EMPTY,
    constant,
    determines,
    telling,
)
from rs05bench.datasets.tables.design import meaningless_splits
from rs05bench.datasets.tables.leaks import class_probabilities, refuse_leaks
from rs05bench.datasets.tables.numbered_columns import embedding_sets
from rs05bench.datasets.tables.zones import candidate_crs, to_degrees, zone_of_tiles
from rs05bench.errors import DataError
from rs05bench.protocol import TaskCard
from rs05bench.protocol.intake.keys import as_keys
from rs05bench.protocol.intake.sentinels import sentinels
from rs05bench.protocol.intake.tablefile import GEO_COLUMN
from rs05bench.protocol.names import group_word

_TARGET = ("label", "class", "target", "landcover", "land_cover", "lulc", "crop", "crop_type", "cls", "class_name", "category", "y")


_PER_CLASS, _UNITS = (5, 20), (20, 50, 100, 200)


_ROWS_LOST = 0.2
"""Share of rows that missing features may cost before they are kept and imputed instead."""


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


def questions(facts: TableFacts, answers: Mapping[str, Any]) -> list[Question]:
    """What is still open, in the order to ask; later ones depend on earlier answers, so call it again after each."""
    frame = facts.frame
    candidates = [name for name in dict.fromkeys((*facts.names, *facts.numbers)) if name not in facts.aside]
    if "target" not in answers:
        likely = [name for name in candidates if name.lower() in _TARGET or re.search(r"(?i)(^|_)(label|class|target)$", name)]
        if not likely and not facts.families and facts.geometry:
            likely = [name for name, count in facts.names.items() if name not in facts.aside and 2 <= count <= MOST_CLASSES]
        words = [name for name in likely if not pd.api.types.is_numeric_dtype(frame[name].dtype)]
        likely = words if len(likely) > 1 and len(words) == 1 else likely
        if not likely:
            likely = _only_candidate(facts, candidates)
        return [Question("target", "Which column is predicted?", likely[0] if len(likely) == 1 else None, tuple(candidates))]
    target = str(answers["target"])
    if target not in frame.columns:
        raise DataError(
            f"there is no column {target!r}", source=", ".join(facts.files), remedy=f"The table has {', '.join(candidates[:20])}."
        )
    if "kind" not in answers:
        kind = "classification" if looks_like_classes(frame[target]) else "regression"
        return [Question("kind", f"Is {target!r} a class or a quantity?", kind, ("classification", "regression"))]
    kind = str(answers["kind"])
    if "class_names" not in answers and kind == "classification" and _codes(frame[target]) and not _names_of_codes(facts, target):
        values = _class_values(frame[target])
        text = f"What do the codes {', '.join(values[:12])} mean? (as many names; nothing keeps the codes)"
        return [Question("class_names", text, "", several=True)]
    told = telling(frame, [name for name in (*facts.names, *facts.numbers) if name != target], target, kind)
    rest = {name: count for name, count in facts.names.items() if name != target and name not in told}
    if "groups" not in answers:
        # A region that holds one class only stays a group: the design is flagged by it, and no split holds it out.
        named = {name: count for name, count in facts.names.items() if name in told and names_a_group(name) and name != target}
        free = {name: count for name, count in (rest | named).items() if name not in facts.aside}
        likely = [name for name, count in free.items() if 2 <= count <= len(frame) // 5 and is_group(name, frame[name])]
        text = "Which columns group the units (region, state, site, ..), the one to hold out first?"
        return [Question("groups", text, ",".join(likely), tuple(free), several=True)]
    if "unit" not in answers:
        text = "Which columns together name a unit? (nothing: file name and row number)"
        return [Question("unit", text, ",".join(unique_key(frame, rest, facts.year)), tuple(rest), several=True)]
    if "crs" not in answers and facts.projected:
        found = candidate_crs(frame[facts.x], frame[facts.y])
        text = f"{facts.x}, {facts.y} are metres: of which CRS? (a UTM zone such as 33N, or an EPSG code)"
        told_zone = zone_of_tiles(frame, [str(name) for name in frame.columns if name not in facts.bands])
        return [Question("crs", text, told_zone or (found[0] if len(found) == 1 else None), tuple(found))]
    if "product" not in answers and (unknown := [family for family in facts.families if family.in_doubt]):
        text = f"Which embedding are the {len(unknown[0].columns)} columns {unknown[0].label}?"
        return [Question("product", text, unknown[0].product or "embedding", (*unknown[0].records_that_fit, "embedding"))]
    if "features" not in answers:
        columns = set(map(str, frame.columns))
        used = {target, *_listed(answers["groups"], columns), *_listed(answers["unit"], columns)}
        sparse = [name for name in facts.numbers if frame[name].isna().mean() > MOSTLY_EMPTY]
        still = set(constant(frame, facts.numbers))
        left = [name for name in facts.numbers if name not in {*used, *told, *sparse, *still}]
        if kind == "classification":
            left = [name for name in left if name not in class_probabilities(frame, left, target)]
        text = "Which further columns may be features? Leave out whatever was made from the label."
        return [Question("features", text, ",".join(left), tuple(left), several=True)] if left else []
    return []


def propose(facts: TableFacts, answers: Mapping[str, Any], *, name: str) -> tuple[TaskCard, dict[str, str]]:
    """The card the answers make, and a comment for each field that deserves one.

    Args:
        facts: From `look`.
        answers: `target`, `kind`, `groups`, `unit`, `features`, and where they were asked `crs`, `product`, `class_names`; lists as lists
            or separated by commas.
        name: Task name.

    Raises:
        DataError: An answer that is no column, or a card that would be faulty.
    """
    target, kind = str(answers["target"]), str(answers["kind"])
    frame, source = facts.frame, ", ".join(facts.files)
    groups, unit, further = (_listed(answers.get(field), set(map(str, frame.columns))) for field in ("groups", "unit", "features"))
    for field, columns in (("groups", groups), ("unit", unit), ("features", further)):
        if missing := [column for column in columns if column not in frame.columns]:
            raise DataError(f"{field}: there is no column {missing[0]!r}", source=source)
    refuse_spellings(frame, [*groups, *([target] if kind == "classification" else [])], source)
    columns = list(map(str, frame.columns))
    features, tiers = embedding_sets(facts.families, str(answers.get("product") or "embedding"), columns, wide=bool(facts.wide_years))
    safe, never = _without_leaks(facts, further, target, kind)
    if safe:
        features["raw"] = safe
    if features.keys() - {"raw"} and safe:
        features["hybrid"] = [next(iter(features)), "raw"]
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
        "tiers": tiers,
        "never_features": list(never),
    }
    crs = str(answers.get("crs") or "EPSG:4326")
    if facts.x and facts.y:
        data["coordinates"] = {"x": facts.x, "y": facts.y, "crs": crs}
    elif facts.geometry:
        data["coordinates"] = {"geometry": True}
    if year:
        data["year"] = year
    if facts.time:
        data["time"] = facts.time
    years = facts.wide_years or years_of(frame, facts.year)
    meaningless = [group for group in groups if determines(as_keys(frame[group]), as_keys(frame[target]), kind)]
    data["splits"] = _splits([group for group in groups if group not in meaningless], "coordinates" in data, len(years))
    size = _blocks(facts, crs, frame[target], groups[0] if groups else None, kind) if "coordinates" in data else None
    if size is not None:
        data["split_options"] = {"block_size_m": size.block_m, "buffer_m": size.buffer_m}
    data["budgets"] = _budgets(frame[target], kind, located="coordinates" in data)
    if kind == "classification":
        data["classes"] = _class_values(frame[target])
        if _codes(frame[target]):
            codes = sentinels(pd.Series(list(map(float, data["classes"]))))
            data["classes"] = [value for value in data["classes"] if float(value) not in codes]
        names = _listed(answers.get("class_names")) or _names_of_codes(facts, target)
        if len(names) == len(data["classes"]):
            data["class_names"] = names
    if _rows_lost(facts, safe) > _ROWS_LOST:
        data["missing"] = "keep"
    card = TaskCard.parse({key: value for key, value in data.items() if value not in ([], {}, None)}, source=name)
    return card, _comments(frame, never, years, size, meaningless)


def settle(card: TaskCard, folder: Path) -> tuple[TaskCard, list[str]]:
    """The card without the splits and budgets that these data do not allow, and what a careful person would look at.

    Raises:
        DataError: The card and the table contradict each other in a way that no answer was asked for.
    """
    report = check_card(card, folder)
    why = {item.split: item.reason for item in report.splits if not item.possible} | meaningless_splits(card, report.flags)
    said = [f"left out: {split} ({reason})" for split, reason in why.items()]
    said += [f"left out: {item.budget} labels ({item.reason})" for item in report.budgets if not item.possible]
    splits = [split for split in card.splits if split not in why] or card.splits
    budgets = [item.budget for item in report.budgets if item.possible] or card.budgets
    settled = TaskCard.parse(
        {**card.model_dump(mode="json", exclude_defaults=True), "splits": splits, "budgets": budgets}, source=card.name
    )
    rows = report.units + sum(report.dropped.values())
    lost = [f"{count:,} of {rows:,} rows are left out: {reason}" for reason, count in report.dropped.items()]
    if card.missing == "keep":
        lacking = ", ".join(f"{count:,} lack a value of {name}" for name, count in report.missing.items() if count)
        lost.append(f"of {report.units:,} units {lacking}: they stay and models fill the gap (`missing: keep`; `drop` leaves them out)")
    return settled, [*(flag.sentence for flag in report.flags), *lost, *said]


def next_steps(facts: TableFacts, table: Path) -> str:
    """What to do with labels that come without any feature; empty where there are features."""
    if facts.families or facts.numbers or not (facts.geometry or (facts.x and facts.y)):
        return ""
    out = table.with_name(f"{table.stem}_embeddings.parquet")
    years = "" if facts.year else " --years 2024"
    return (
        f"The table has labels and no features. Next: rs05bench extract {table} --from mirror{years} --out {out}, "
        f"then rs05bench card init {out} and rs05bench advise {out.with_suffix('.yaml')}"
    )


def _only_candidate(facts: TableFacts, candidates: Sequence[str]) -> list[str]:
    """The one column that can be a label, where there is one: few values, or the only number; codes of classes give way to their names."""
    frame = facts.frame
    free = [name for name in candidates if not names_a_group(name)]
    classes = [name for name in free if 2 <= frame[name].nunique() <= MOST_CLASSES and looks_like_classes(frame[name])]
    words = [name for name in classes if not pd.api.types.is_numeric_dtype(frame[name].dtype)]
    codes = [name for name in classes if name not in words]
    codes = [name for name in codes if not any(determines(as_keys(frame[word]), as_keys(frame[name]), "classification") for word in words)]
    return next((found for found in ([*words, *codes], free) if len(found) == 1), [])


def _without_leaks(facts: TableFacts, further: Sequence[str], target: str, kind: str) -> tuple[list[str], dict[str, str]]:
    """The further features that may be features, and the columns that never may, with the reason."""
    behind = class_probabilities(facts.frame, facts.numbers, target) if kind == "classification" else []
    never = {name: "the probabilities the label was read from" for name in behind if name not in further}
    never |= telling(facts.frame, [name for name in (*facts.names, *facts.numbers) if name != target], target, kind)
    never |= {name: "mostly empty" for name in facts.numbers if facts.frame[name].isna().mean() > MOSTLY_EMPTY and name != target}
    never |= {name: why for name, why in facts.aside.items() if pd.api.types.is_numeric_dtype(facts.frame[name].dtype)}
    never.pop(target, None)
    frame = facts.frame.assign(unit_id=[str(row) for row in range(len(facts.frame))])
    if kind == "regression":
        frame[target] = pd.to_numeric(frame[target], errors="coerce")
    safe: list[str] = []
    for column in further:
        if column in never:
            continue
        try:
            refuse_leaks({"raw": [column]}, frame, target, kind, source="")
        except DataError as error:
            never[column] = error.problem.partition(" of features.raw ")[2] or "gives the label away"
        else:
            safe.append(column)
    return safe, never


def _rows_lost(facts: TableFacts, further: Sequence[str]) -> float:
    """Share of rows that lack a feature."""
    named = [column for column in (*facts.bands, *further) if column in facts.frame.columns]
    return float(facts.frame[named].isna().any(axis=1).mean()) if named else 0.0


def _positions(facts: TableFacts, crs: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude of the rows, from columns or from the middles of geometries; NaN where a row has none."""
    import shapely

    frame = facts.frame
    if facts.x and facts.y:
        return to_degrees(frame[facts.x], frame[facts.y], crs)
    if "geometry" in frame:
        shapes = frame["geometry"].to_numpy(dtype=object)
    else:
        texts = [value if isinstance(value, str) else None for value in frame[GEO_COLUMN]]
        shapes = shapely.from_geojson(np.array(texts, dtype=object), on_invalid="ignore")
    middles = shapely.centroid(shapes)
    return shapely.get_x(middles), shapely.get_y(middles)


def _comments(
    frame: pd.DataFrame, never: Mapping[str, str], years: Sequence[Any], size: BlockSize | None, meaningless: Sequence[str]
) -> dict[str, str]:
    comments = {
        "unit": "Columns that together name a unit. Without them the id is file name and row.",
        "groups": "Columns a split may hold out. Say `leave-<group>-out` or `within-<group>` under splits.",
        "coordinates": "x is longitude or easting, y latitude or northing. Check the CRS: nothing in a CSV says it.",
        "features": "Named sets of columns; * and ? are wild. Nothing that was made from the label, or measured after it, belongs here.",
        "splits": "A random split is a sanity check only and can never be a main result.",
        "split_options": f"{size.sentence}." if size else "",
        "budgets": "Labels in all, validation included.",
        "missing": "Many rows lack a feature: they stay, and models fill the gap. `drop` leaves them out.",
        "": "Fill in before you publish: licence, citation, source, overlap (does a feature's pretraining know the labels?), notes.",
    }
    if never:
        comments["never_features"] = "\n".join(
            ["These columns are no features:", *(f"  {name}: {why}" for name, why in list(never.items())[:12])]
        )
    if len(years) == 1:
        comments["year"] = f"One year only ({years[0]}): no year can be held out."
    if meaningless:
        comments["splits"] += f"\nThe label is a function of {', '.join(meaningless)}: holding it out tests nothing, so no split does."
    return {field: text for field, text in comments.items() if text}


def _splits(groups: Sequence[str], located: bool, n_years: int) -> list[str]:
    words = [word for group in groups if (word := group_word(group))]
    splits = [f"leave-{words[0]}-out", f"within-{words[0]}"] if words else []
    if located:
        splits.append("spatial-block")
    if n_years > 1:
        splits.append("leave-year-out")
    return [*splits, "random"]


def _blocks(facts: TableFacts, crs: str, target: pd.Series, group: str | None, kind: str) -> BlockSize | None:
    lon, lat = _positions(facts, crs)
    labels = as_keys(target) if kind == "classification" else pd.to_numeric(target, errors="coerce")
    return fit_blocks(lon, lat, labels, None if group is None else facts.frame[group], kind)


def _budgets(target: pd.Series, kind: str, *, located: bool) -> list[str]:
    """Random draws of units first: they look at no label. Rare classes set only what is drawn per class."""
    units = [f"{n}-units" for n in _UNITS if n <= target.notna().sum() // 3] or [f"{max(int(target.notna().sum()) // 3, 5)}-units"]
    units += ["50-units-in-5-blocks"] if located and "50-units" in units else []
    if kind != "classification":
        return units
    smallest = int(target.value_counts().min())
    return [*units, *(f"{n}-per-class" for n in _PER_CLASS if n <= smallest // 3)]


def _class_values(target: pd.Series) -> list[str]:
    values = sorted(set(as_keys(target).dropna()))
    numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce")
    return [values[row] for row in np.argsort(numbers.to_numpy(), kind="stable")] if numbers.notna().all() else values


def _codes(target: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(target.dtype) and not pd.api.types.is_bool_dtype(target.dtype)


def _names_of_codes(facts: TableFacts, target: str) -> list[str]:
    """Names of integer classes from a column of words that goes with them one to one."""
    if not _codes(facts.frame[target]):
        return []
    codes = as_keys(facts.frame[target])
    for column in facts.names:
        if column == target or pd.api.types.is_numeric_dtype(facts.frame[column].dtype):
            continue
        pairs = pd.DataFrame({"code": codes, "name": as_keys(facts.frame[column])}).dropna().drop_duplicates()
        if len(pairs) == codes.nunique() and pairs["name"].is_unique and pairs["code"].is_unique:
            names = dict(zip(pairs["code"], pairs["name"], strict=True))
            return [names[code] for code in _class_values(facts.frame[target])]
    return []


def _listed(answer: Any, columns: Collection[str] = ()) -> list[str]:
    """An answer as a list; a comma inside a column's own name separates nothing."""
    parts = [part for part in (answer.split(",") if isinstance(answer, str) else (answer or [])) if part.strip()]
    found: list[str] = []
    while parts:
        ends = (end for end in range(len(parts), 1, -1) if ",".join(parts[:end]).strip() in columns)
        end = next(ends, 1)
        found.append(",".join(parts[:end]).strip())
        parts = parts[end:]
    return found
