"""The labels of a table in the card's words: numbers, or class values that are spelled one way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol import TaskCard
from rs05bench.protocol.intake.keys import as_keys, two_spellings
from rs05bench.protocol.intake.sentinels import sentinels

type Note = Callable[[str, int, str], None]


def with_targets(frame: pd.DataFrame, card: TaskCard, remarks: list[str], *, source: str) -> pd.DataFrame:
    """Targets as float64 (codes for missing values are missing), or as class values of the card.

    Args:
        frame: Rows with `unit_id`.
        card: The card.
        remarks: A sentence is added for every code that is counted as missing.
        source: For messages.

    Raises:
        DataError: A target is not a number, or one class is spelled in two ways.
    """
    if card.kind == "regression":
        return frame.assign(**{target: _numbers(frame, target, source, remarks) for target in card.targets})
    return frame.assign(**{target: _in_the_cards_words(as_keys(frame[target]), target, card, source) for target in card.targets})


def without_unknown_classes(frame: pd.DataFrame, card: TaskCard, *, source: str, note: Note) -> pd.DataFrame:
    """The rows whose labels are among the card's classes, where it lists them.

    Raises:
        DataError: None is.
    """
    if card.kind == "regression" or card.classes is None:
        return frame
    for target in card.targets:
        unknown = frame[target].notna() & ~frame[target].isin(card.classes)
        if unknown.all():
            found = ", ".join(map(repr, sorted(set(frame[target].dropna()))[:8]))
            raise DataError(
                f"no label of {target!r} is one of the card's classes {card.classes} (found: {found})",
                source=source,
                remedy="`classes` holds the values in the table; what to call them goes into `class_names`.",
            )
        for value, count in Counter(frame.loc[unknown, target]).items():
            note(f"label {value!r} is not one of the card's classes", count, str(frame.loc[frame[target] == value, "unit_id"].iloc[0]))
        frame = frame[~unknown].reset_index(drop=True)
    return frame


def _numbers(frame: pd.DataFrame, target: str, source: str, remarks: list[str]) -> pd.Series:
    numbers = pd.to_numeric(frame[target], errors="coerce")
    wrong = frame[target].notna() & numbers.isna()
    if wrong.any():
        raise DataError(
            f"target {target!r} is not a number in {int(wrong.sum())} rows, e.g. {frame[target][wrong].iloc[0]!r}",
            source=source,
            remedy="Correct or blank those values, or make the task a classification.",
        )
    numbers = numbers.astype(np.float64).replace([np.inf, -np.inf], np.nan)
    for code, count in sentinels(numbers).items():
        remarks.append(f"{target} is {code:.10g} in {count:,} rows: a code for a missing value, counted as no label")
        numbers = numbers.mask(numbers == code)
    return numbers


def _in_the_cards_words(labels: pd.Series, target: str, card: TaskCard, source: str) -> pd.Series:
    """Class codes as the card writes them where they are the same numbers (`1.0` is `1`); any other second spelling is refused."""
    classes = card.classes or []
    found = [str(value) for value in labels.dropna().unique()]
    strange = [value for value in found if value not in classes] if classes else []
    numbers = {value.removesuffix(".0"): value for value in strange if value.endswith(".0")}
    renamed = {numbers[name]: name for name in classes if name in numbers}
    labels = labels.replace(renamed) if renamed else labels
    again = two_spellings([value for value in strange if value not in renamed], classes) if classes else two_spellings(found)
    again = [item for item in again if set(item.spelled) - set(classes)]
    if again:
        raise DataError(
            f"target {target!r} holds one class in two spellings: {again[0]}",
            source=source,
            remedy="Write it one way in the file and in `classes`; list both under `classes` if they are two.",
        )
    return labels
