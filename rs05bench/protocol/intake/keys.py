"""Keys are text: ids, group names, classes and codes, as they are written; and two spellings of one key are found.

`as_keys` makes text of a column, whatever its type, and loses nothing: `06037`, `NA`, `None` and `010` stay what they are. `key_forms`
brings spellings of one key to one form, for comparing only: nothing is ever renamed by it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.errors import DataError

#: Words for a missing number. In a column of words they are words: NA is Namibia.
MISSING_WORDS = frozenset(
    ("NA", "N/A", "n/a", "na", "NaN", "nan", "NULL", "null", "None", "none", "<NA>", "#N/A", "-", "--", "nodata", "NoData")
)
_WHOLE = 2.0**53  # above it a float no longer holds every whole number
_APOSTROPHES = "\u2018\u2019\u02bc\u02b9`\u00b4"
_SPREADSHEET = r"[+-]?\d+([.,]\d+)?[eE]\+\d+"  # 3.60E+11: digits are gone


@dataclass(frozen=True, slots=True)
class Spellings:
    """One key in several spellings.

    Attributes:
        spelled: The spellings, in order of text.
        why: What they differ in, in words.
    """

    spelled: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        return f"{' and '.join(map(repr, self.spelled[:3]))} ({self.why})"


def as_keys(values: pd.Series[Any]) -> pd.Series[Any]:
    """A column as keys: text (objects) without blanks at its ends, None where blank.

    Whole floats are whole numbers, because a column of whole numbers becomes floats where one is missing. Text stays as it is, except that
    in a column of numbers the words for a missing number (`NA`, `None`) are blanks, and that `1.0` is `1` in a column of whole numbers
    with blanks (which is how pandas writes one).
    """
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        values = values.astype(object)
    elif pd.api.types.is_float_dtype(dtype):
        known = values.dropna()
        if bool((np.abs(known) < _WHOLE).all()) and bool((known % 1 == 0).all()):
            values = values.astype("Int64")
    blank = np.array(values.isna(), dtype=bool)
    if pd.api.types.is_object_dtype(values.dtype):
        # Spelled once a value, not once a row; `True` and `1` are equal, so only columns of nothing but text are looked up by value.
        plain = pd.api.types.infer_dtype(values, skipna=True) == "string"
        text = values.where(~blank, "") if plain else pd.Series([_spelled(value) for value in values], index=values.index, dtype=object)
    else:
        text = values.astype(str).astype(object)
    codes, distinct = pd.factorize(text)
    known_words = [str(word).strip() for word in distinct]
    blank |= np.array([word == "" for word in known_words], dtype=bool)[codes] if len(known_words) else False
    words = np.array(known_words, dtype=object)
    used = np.zeros(len(words), dtype=bool)
    used[codes[~blank]] = True
    here = set(words[used].tolist())
    missing = here & MISSING_WORDS
    numbers = here - missing if missing or blank.any() else ()
    if numbers and all(map(_is_number, numbers)):
        if missing:
            blank |= np.isin(words, list(missing))[codes]
        if blank.any() and all(word.endswith(".0") for word in numbers):
            words = np.array([word.removesuffix(".0") for word in words], dtype=object)
    out = words[codes] if len(words) else np.full(len(text), None, dtype=object)
    out[blank] = None
    return pd.Series(out, index=values.index, name=values.name, dtype=object)


def key_forms(values: pd.Series[Any], *, accents: bool = True) -> pd.Series[Any]:
    """Keys in the form they are compared in: one for all spellings of a key.

    Unicode forms, invisible characters, case, curly apostrophes, blanks and dashes or underscores between words, leading zeros, commas
    between thousands, `.0` of whole numbers and scientific notation are put aside; missing stays missing.

    Args:
        values: Keys.
        accents: Whether an accent makes another key. The audit says no: it warns, where a reader of tables would refuse.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_normalize(pa.array(values, type=pa.string(), from_pandas=True), form="NFKC" if accents else "NFKD")
    if not accents:
        text = pc.replace_substring_regex(text, r"\p{Mn}", "")
    text = pc.replace_substring_regex(pc.replace_substring_regex(text, r"\p{Cf}", ""), f"[{_APOSTROPHES}]", "'")
    text = pc.replace_substring(pc.utf8_lower(pc.utf8_trim_whitespace(text)), "\N{LATIN SMALL LETTER SHARP S}", "ss")
    thousands = pc.match_substring_regex(text, r"^[0-9]{1,3}(,[0-9]{3})+$")
    text = pc.if_else(thousands, pc.replace_substring(text, ",", ""), text)
    exact = pc.match_substring_regex(text, r"^[+-]?[0-9]+([.,][0-9]+)?e[+]?[0-9]+$")
    if bool(pc.any(exact).as_py()):
        told = [_plain_number(word) if flag else word for word, flag in zip(text.to_pylist(), exact.to_pylist(), strict=True)]
        text = pa.array(told, type=pa.string())
    text = pc.replace_substring_regex(text, r"^([+-]?[0-9]+)[.]0*$", r"\1")
    text = pc.replace_substring_regex(text, r"[\s_\-–]+", " ")
    # RE2, as Arrow uses it, knows no look-behind: the character before the zeros is captured instead.
    text = pc.replace_substring_regex(text, r"(^|[^0-9.,])0+([0-9])", r"\1\2")
    return pd.Series(text.to_pandas(), index=values.index, dtype="string")


def two_spellings(values: Iterable[str | None], others: Iterable[str | None] = (), *, accents: bool = True) -> list[Spellings]:
    """Keys that occur in more than one spelling, in a column or in two columns together.

    Args:
        values: Keys, as `as_keys` gives them; missing ones are left out.
        others: Keys of another column, to be compared with them.
        accents: Whether an accent makes another key.
    """
    distinct = pd.Series(sorted({str(value) for value in (*values, *others) if value is not None and value == value}), dtype=object)
    if len(distinct) < 2:
        return []
    forms = key_forms(distinct, accents=accents)
    again = forms.duplicated(keep=False)
    groups = distinct[again].groupby(forms[again], sort=True)
    return [Spellings(tuple(group), _difference(group.iloc[0], group.iloc[1])) for _, group in groups]


def refuse_two_spellings(values: pd.Series[Any], what: str, *, source: object) -> None:
    """Refuses keys that occur in two spellings, or that a spreadsheet wrote in scientific notation.

    Raises:
        DataError: Names the column and the spellings.
    """
    refuse_lost_digits(values, what, source=source)
    if found := two_spellings(pd.unique(values)):
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise DataError(
            f"{what} holds one key in two spellings: {found[0]}{more}",
            source=str(source),
            remedy="Write it one way in the files: as two keys, one could train while the other is held out.",
        )


def refuse_lost_digits(values: pd.Series[Any], what: str, *, source: object) -> None:
    """Refuses keys in a spreadsheet's scientific notation (`3.60E+11`): different keys have become one.

    Raises:
        DataError: Names the column and a value.
    """
    distinct = pd.Series(pd.unique(values.dropna()), dtype=object)
    lost = distinct[distinct.astype(str).str.fullmatch(_SPREADSHEET)] if len(distinct) else distinct
    if len(lost):
        raise DataError(
            f"{what} holds keys in scientific notation, e.g. {lost.iloc[0]!r}: their digits are lost",
            source=str(source),
            remedy="A spreadsheet wrote them so. Export the column again as text.",
        )


def find_keys(wanted: Collection[Any], values: pd.Series[Any], what: str, *, source: object) -> np.ndarray:
    """Which rows hold one of the wanted keys (n,), compared as text.

    A number that is not whole is compared as a number, `true` and `false` whatever their case.

    Raises:
        DataError: A wanted key that no row holds; names the spelling that the column has.
    """
    keys = as_keys(values)
    keep = np.zeros(len(keys), dtype=bool)
    for item in wanted:
        if isinstance(item, bool):
            rows = keys.str.lower().eq(str(item).lower())
        elif isinstance(item, float) and not item.is_integer():
            rows = pd.to_numeric(keys, errors="coerce").eq(item)
        else:
            rows = keys.eq(_spelled(item))
        hit = rows.fillna(False).to_numpy(dtype=bool)
        if not hit.any():
            seen = sorted(set(keys.dropna()))
            alike = [spelled for found in two_spellings(seen, [_spelled(item)]) for spelled in found.spelled if spelled in seen]
            alike = [word for word in alike if two_spellings([word], [_spelled(item)])]
            raise DataError(
                f"{what}: no row has {_spelled(item)!r} (the column holds {', '.join(seen[:8])}{', …' if len(seen) > 8 else ''})",
                source=str(source),
                remedy=f"Write it as the column does, in quotes: {alike[0]!r}." if alike else "Correct the value, or leave it out.",
            )
        keep |= hit
    return keep


def _spelled(value: Any) -> str:
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(float(value)) < _WHOLE:
        return str(int(value))
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _is_number(word: str) -> bool:
    try:
        float(word.replace(",", "."))
    except ValueError:
        return False
    return True


def _plain_number(word: str) -> str:
    return format(Decimal(word.replace(",", ".")), "f")


def _bare(word: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKD", word) if not unicodedata.combining(letter)).casefold()


def _visible(word: str) -> str:
    return "".join(letter for letter in word if unicodedata.category(letter) != "Cf")


def _plain_apostrophes(word: str) -> str:
    return word.translate(dict.fromkeys(map(ord, _APOSTROPHES), "'"))


def _difference(one: str, other: str) -> str:
    """What two spellings of one key differ in."""
    if one.strip() == other.strip():
        return "blanks at their ends"
    if _visible(one) == _visible(other):
        return "characters that cannot be seen"
    if unicodedata.normalize("NFKC", one) == unicodedata.normalize("NFKC", other):
        return "the same letters in two Unicode forms"
    if _plain_apostrophes(one) == _plain_apostrophes(other):
        return "straight and curly apostrophes"
    if one.casefold() == other.casefold():
        return "case"
    if _bare(one) == _bare(other):
        return "accents"
    if any("e+" in word.lower() or (word.lower().count("e") == 1 and _is_number(word)) for word in (one, other)):
        return "scientific notation"
    if one.replace(",", "") == other.replace(",", ""):
        return "commas between thousands"
    if _is_number(one) and _is_number(other):
        return "a whole number and .0" if one.lstrip("0") != other.lstrip("0") else "leading zeros"
    if one.replace("0", "") == other.replace("0", ""):
        return "leading zeros"
    return "case, blanks, dashes or leading zeros"
