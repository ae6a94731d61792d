"""Which public embeddings the feature sets of a card hold, and in which columns of a table they are."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rs05bench.embeddings.products import EmbeddingProduct, of_columns, product, refuse_mixture
from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.feature_sets import FeatureSet


@dataclass(frozen=True)
class HeldProduct:
    """A product in the columns of a table.

    Attributes:
        product: The product.
        columns: Its components in order, as the table calls them.
    """

    product: EmbeddingProduct
    columns: list[str]


def card_with_columns(card: TaskCard, columns: Sequence[str], *, source: str) -> tuple[TaskCard, dict[str, HeldProduct]]:
    """A card whose product sets name their columns, and what is held by which set.

    A set that names a product takes that product's columns, found by name and count wherever they are. A set without a product whose
    columns are exactly those of one product holds that one.

    Args:
        card: The card.
        columns: The table's columns.
        source: For messages.

    Raises:
        DataError: The columns of a named product are not there, a pattern takes more than the product whose columns it names, or two
            variants of one product are on the card.
    """
    usable = [column for column in columns if not any(fnmatch.fnmatchcase(column, pattern) for pattern in card.never_features)]
    filled: dict[str, FeatureSet] = {}
    held: dict[str, HeldProduct] = {}
    for name, members in card.features.items():
        filled[name] = members
        if members.product is None:
            if found := _recognised(name, members, card, usable, source):
                held[name] = found
            continue
        record = product(members.product)
        bands = _listed(members, usable) or record.find_columns(usable)
        if not bands or (record.dimensions is not None and len(bands) != record.dimensions):
            wanted = ", ".join(f"{pattern.format(0)}.." for pattern in record.columns)
            count = "" if record.dimensions is None else f"{record.dimensions} "
            found_text = f"{len(bands)} columns are listed" if bands else "the table has none by these names"
            raise DataError(
                f"features.{name}: expected {count}columns of {record.name} ({wanted}), {found_text}",
                source=source,
                remedy="Name the product that the table holds, or list its columns.",
            )
        stats = members.pooling or ["mean"]
        taken = [column if stat == "mean" else f"{column}_{stat}" for stat in stats for column in bands]
        if absent := [column for column in taken if column not in set(usable)]:
            raise DataError(
                f"features.{name}: pooling {', '.join(stats)} needs the column {absent[0]!r} ({len(absent)} are missing)",
                source=source,
                remedy="Extract them: rs05bench extract --stat mean --stat std --stat min --stat max.",
            )
        filled[name] = members.model_copy(update={"columns": taken})
        held[name] = HeldProduct(record.sized(len(bands)), bands)
    refuse_mixture([(f"features.{name}", found.product) for name, found in held.items()], source=source)
    return card.model_copy(update={"features": filled}), held


def products_of(features: str, card: TaskCard | None) -> list[EmbeddingProduct]:
    """The products behind a feature set, directly or through other sets, as far as the card alone tells."""
    if card is None:
        return [product(part) for part in features.split("+") if part in _single_families()]
    found: dict[str, EmbeddingProduct] = {}
    for name in _reached(features, card, ()):
        members = card.features.get(name)
        if members is not None and members.product is not None:
            record = product(members.product)
            found[record.name] = record
        elif members is not None and (guess := _by_patterns(members.columns)) is not None:
            found[guess.name] = guess
        elif members is None and name in _single_families():
            record = product(name)
            found[record.name] = record
    return list(found.values())


def patterns_of(members: FeatureSet) -> list[str]:
    """Globs of the columns that reading a set may need."""
    if members.product is None or members.columns:
        return members.columns
    return [re.sub(r"\{.*?\}", "*", pattern) for pattern in product(members.product).columns]


def _single_families() -> set[str]:
    from rs05bench.embeddings.products import all_products

    families = [record.family for record in all_products().values()]
    return {family for family in families if families.count(family) == 1}


def _reached(features: str, card: TaskCard, seen: tuple[str, ...]) -> list[str]:
    """A set and the sets inside it; the parts of a union `a+b`."""
    if features in seen:
        return []
    members = card.features.get(features)
    if members is None:
        parts = features.split("+")
        return [name for part in parts for name in _reached(part, card, (*seen, features))] if len(parts) > 1 else [features]
    inside = [item for item in members.columns if item in card.features]
    return [features, *(name for item in inside for name in _reached(item, card, (*seen, features)))]


def _by_patterns(items: Sequence[str]) -> EmbeddingProduct | None:
    """The product whose usual column names a set's items stand for: all of them, and names of no others' components."""
    from rs05bench.embeddings.products import all_products

    for record in all_products().values():
        if record.dimensions is None:
            continue
        hits = [item for item in items if any(fnmatch.fnmatchcase(band, item) for band in (record.bands[0], record.bands[-1]))]
        if hits and all(any(fnmatch.fnmatchcase(band, item) for item in hits) for band in record.bands) and "*" not in hits:
            return record
    return None


def _listed(members: FeatureSet, columns: Sequence[str]) -> list[str]:
    """The columns that a set lists, numbered ones in the order of their numbers."""
    taken = [column for column in columns if any(fnmatch.fnmatchcase(column, item) for item in members.columns)]
    return sorted(taken, key=lambda column: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", column)])


def _recognised(name: str, members: FeatureSet, card: TaskCard, columns: Sequence[str], source: str) -> HeldProduct | None:
    """The product that a plain list of columns holds; a glob that takes more than its components is refused."""
    for item in members.columns:
        if item in card.features or item == "*":
            continue
        hits = [column for column in columns if fnmatch.fnmatchcase(column, item)]
        if (record := of_columns(hits)) is not None:
            return HeldProduct(record, list(record.bands))
        guess = _by_patterns([item])
        if guess is not None and set(guess.bands) < set(hits):
            more = sorted(set(hits) - set(guess.bands))
            raise DataError(
                f"features.{name}: {item!r} takes the {guess.size} columns of {guess.name} and also {', '.join(more[:4])}",
                source=source,
                remedy=f"Write {name}: {{product: {guess.name}}}.",
            )
    explicit = [item for item in members.columns if item in set(columns)]
    return HeldProduct(record, list(record.bands)) if (record := of_columns(explicit)) is not None else None


def names_components(item: str) -> bool:
    """Whether a column or glob stands for components of a product by their usual names, or for statistics of them (`A??_std`)."""
    from rs05bench.embeddings.products import all_products

    plain = re.sub(r"_(mean|std|min|max|\*)$", "", item)
    if plain == "*":
        return False
    for record in all_products().values():
        if record.dimensions is not None and any(fnmatch.fnmatchcase(band, plain) for band in record.bands):
            return True
    return False
