"""Is a card right, and what will it see? Everything `rs05bench card check` prints, as a record."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel

from rs05bench.datasets.chip_units import CHIP_READERS, chip_unit_table, layers_of, open_chip_dataset
from rs05bench.datasets.embedding_table import Derive, EmbeddingTable
from rs05bench.datasets.tables.block_size import block_words, fit_task
from rs05bench.datasets.tables.card_files import FILE_COLUMN, INDEX_COLUMN, ROW_COLUMN
from rs05bench.datasets.tables.design import DesignFlag, counts_below, design_flags
from rs05bench.errors import BenchError
from rs05bench.protocol import SplitManifest, TaskCard, UnitTable, draw_budget
from rs05bench.protocol.audit import warnings_of_table
from rs05bench.protocol.intake.tablefile import GEO_COLUMN
from rs05bench.protocol.manifest import draw_manifest
from rs05bench.protocol.splits import Split

FEW_OF_A_CLASS = 10


class SplitCheck(BaseModel):
    """One split of the card: how many folds, units a role in the first, and the reason where it is impossible."""

    split: str
    possible: bool
    reason: str = ""
    folds: int = 0
    first_fold: dict[str, int] = {}


class BudgetCheck(BaseModel):
    """One budget in the first fold of the first possible split (seed 0): labels it finds, and what it lacks."""

    budget: str
    possible: bool
    reason: str = ""
    train: int = 0
    val: int = 0


class CardReport(BaseModel):
    """What a card sees in its data.

    Attributes:
        task: Task name.
        kind: Its kind.
        units: How many.
        places: How many places they are at: fewer than units where one is seen in several years.
        located: How many have a position.
        bounds: West, south, east, north in degrees, or None.
        years: Units a year.
        target: First target.
        classes: Units a class, or None.
        quantiles: 0, 5, 50, 95, 100 % of the target, or None.
        groups: Column -> group -> units.
        features: Set -> columns.
        missing: Set -> units with a missing value in it.
        unused: Columns no field of the card names.
        dropped: Reason -> rows.
        splits: Each split of the card.
        budgets: Each budget of the card.
        flags: Designs under which scores say nothing: labels that follow from the place, the year or a group.
        blocks: Blocks and buffer of the card, and those that suit the area where they differ much.
        hints: What a careful person would look at.
    """

    task: str
    kind: str
    units: int
    places: int
    located: int
    bounds: tuple[float, float, float, float] | None
    years: dict[str, int]
    target: str
    classes: dict[str, int] | None
    quantiles: list[float] | None
    groups: dict[str, dict[str, int]]
    features: dict[str, list[str]]
    missing: dict[str, int]
    unused: list[str]
    dropped: dict[str, int]
    splits: list[SplitCheck]
    budgets: list[BudgetCheck]
    flags: list[DesignFlag]
    blocks: str
    hints: list[str]

    @property
    def right(self) -> bool:
        """Whether every split and budget of the card is possible."""
        return all(item.possible for item in self.splits) and all(item.possible for item in self.budgets)


def check_card(
    card: TaskCard, data_dir: str | Path, *, derive: Derive | None = None, on_step: Callable[[str], None] = lambda _: None
) -> CardReport:
    """Opens a card's data and tries every split and budget.

    Args:
        card: The task card.
        data_dir: Folder of its files.
        derive: Adds derived feature columns, where the card asks for them.
        on_step: Called with a few words on what is done next.

    Raises:
        DataError: The card and the data contradict each other.
    """
    if card.reader in CHIP_READERS:
        return _check_chips(card, data_dir)
    on_step("reading the files")
    table = EmbeddingTable(card, data_dir, derive=derive)
    units, labels = table.units().frame, table.labels()
    manifests: list[SplitManifest] = []
    splits = []
    for split in card.splits:
        on_step(f"{len(units):,} units: drawing {split}")
        splits.append(_try_split(card, table.units(), split, manifests))
    on_step(f"{len(units):,} units: looking at features and labels")
    label_of = labels.to_dict()
    main = next((item for item in manifests if Split(item.split).rule.may_be_main), manifests[0] if manifests else None)
    regression = card.kind == "regression"
    located = np.isfinite(units["lon"]) & np.isfinite(units["lat"])
    place = units.loc[located, ["lon", "lat"]]
    return CardReport(
        task=card.name,
        kind=card.kind,
        units=len(units),
        places=int(units["place"].nunique()),
        located=int(located.sum()),
        bounds=(*place.min().round(4), *place.max().round(4)) if len(place) else None,
        years={str(year): int(count) for year, count in units["year"].value_counts().sort_index().items()},
        target=card.targets[0],
        classes=None if regression else {value: int((labels == value).sum()) for value in table.classes or ()},
        quantiles=[float(value) for value in np.nanquantile(labels.astype(float), [0, 0.05, 0.5, 0.95, 1])] if regression else None,
        groups={name: {str(key): int(count) for key, count in units[name].value_counts().items()} for name in table.units().groups},
        features=table.feature_sets,
        missing={name: int(np.isnan(table.features(name)[1].reshape(len(units), -1)).any(axis=1).sum()) for name in table.feature_sets},
        unused=_unused(card, table),
        dropped={str(reason): int(count) for reason, count in table.dropped.groupby("reason", sort=False)["count"].sum().items()},
        splits=splits,
        budgets=[_try_budget(card, main, budget, label_of) for budget in card.budgets],
        flags=design_flags(units, labels, table.units().groups, card.kind),
        blocks=block_words(card, fit_task(card, table.units(), labels)),
        hints=[*warnings_of_table(table, main), *_hints(card, table, splits)],
    )


def _check_chips(card: TaskCard, data_dir: str | Path) -> CardReport:
    """The same for chips: classes are counted in labelled pixels."""
    root = Path(data_dir) / card.preprocessing.folder
    dataset = open_chip_dataset(card, root, layers_of(card, data_dir))
    frame = pd.DataFrame(dataset.units().drop(columns="geometry"))
    units = chip_unit_table(card, frame, source=str(root))
    masks = [dataset.read(unit_id).labels for unit_id in units.frame["unit_id"]]  # every pixel is read: a damaged file shows now
    labels: dict[str, object] = {
        unit: 1.0 if (mask >= 0).any() else np.nan for unit, mask in zip(units.frame["unit_id"], masks, strict=True)
    }
    manifests: list[SplitManifest] = []
    splits = [_try_split(card, units, split, manifests) for split in card.splits]
    main = next((item for item in manifests if Split(item.split).rule.may_be_main), manifests[0] if manifests else None)
    place = units.frame[["lon", "lat"]]
    hints = [f"{name} is empty" for name in ("licence", "citation", "overlap") if not getattr(card, name)]
    if not any(Split(item.split).rule.may_be_main and item.possible for item in splits):
        hints.append("no split that can be a main result is possible: a random split is a sanity check only")
    return CardReport(
        task=card.name,
        kind=card.kind,
        units=len(units.frame),
        places=int(units.frame["place"].nunique()),
        located=len(units.frame),
        bounds=(*place.min().round(4), *place.max().round(4)),
        years={str(year): int(count) for year, count in units.frame["year"].value_counts().sort_index().items()},
        target=card.targets[0],
        classes={name: int(sum((mask == index).sum() for mask in masks)) for index, name in enumerate(card.classes or dataset.classes)},
        quantiles=None,
        groups={name: {str(key): int(count) for key, count in units.frame[name].value_counts().items()} for name in units.groups},
        features={},
        missing={},
        unused=[],
        dropped={},
        flags=[],
        blocks="",
        splits=splits,
        budgets=[_try_budget(card, main, budget, labels) for budget in card.budgets],
        hints=hints,
    )


def _try_split(card: TaskCard, units: UnitTable, split: str, manifests: list[SplitManifest]) -> SplitCheck:
    try:
        manifest = draw_manifest(card, units, split)
    except BenchError as error:
        return SplitCheck(split=split, possible=False, reason=getattr(error, "problem", str(error)))
    manifests.append(manifest)
    counts = manifest.counts()
    return SplitCheck(split=split, possible=True, folds=len(counts), first_fold={str(k): int(v) for k, v in counts.iloc[0].items() if v})


def _try_budget(card: TaskCard, manifest: SplitManifest | None, budget: str, labels: dict[str, object]) -> BudgetCheck:
    if manifest is None:
        return BudgetCheck(budget=budget, possible=False, reason="no split is possible")
    try:
        drawn = draw_budget(card, manifest, manifest.folds[0], budget, 0, labels)
    except BenchError as error:
        return BudgetCheck(budget=budget, possible=False, reason=getattr(error, "problem", str(error)))
    return BudgetCheck(budget=budget, possible=True, reason="; ".join(drawn.shortages), train=len(drawn.train), val=len(drawn.val))


def _unused(card: TaskCard, table: EmbeddingTable) -> list[str]:
    used = {*card.targets, *card.unit, *card.place, *card.groups, *card.fairness_groups, card.year, card.time}
    used |= {column for columns in table.feature_sets.values() for column in columns}
    used |= {FILE_COLUMN, ROW_COLUMN, GEO_COLUMN, INDEX_COLUMN, "unit_id", "lon", "lat", "geometry"}
    if card.coordinates is not None:
        used |= {card.coordinates.x, card.coordinates.y}
    if card.official is not None:
        used.add(card.official.column)
    return [
        column
        for column in map(str, table.frame.columns)
        if column not in used and not any(fnmatch.fnmatchcase(column, pattern) for pattern in card.never_features)
    ]


def _hints(card: TaskCard, table: EmbeddingTable, splits: list[SplitCheck]) -> list[str]:
    hints = list(table.remarks)
    if (
        rare := counts_below({str(name): int(count) for name, count in table.labels().value_counts().items()}, FEW_OF_A_CLASS)
        if (card.kind == "classification")
        else {}
    ):
        hints.append(
            f"classes with fewer than {FEW_OF_A_CLASS} units: {', '.join(f'{name} ({count})' for name, count in rare.items())}; "
            "their scores are chance, and budgets per class cannot draw them"
        )
    if card.coordinates is None and {GEO_COLUMN, "geometry"} & set(table.frame.columns):
        hints.append("the files hold geometries and the card declares no coordinates: {geometry: true} would give distances and maps")
    if not any(Split(item.split).rule.may_be_main and item.possible for item in splits):
        hints.append("no split that can be a main result is possible: a random split is a sanity check only")
    if not card.features:
        hints.append("the card names no features: only baselines without imagery can run. `rs05bench extract` adds an embedding to a table")
    elif not any(name.startswith("hybrid") for name in card.features) and table.products:
        embedding = next(iter(table.products))
        others = [name for name in card.features if name != embedding]
        how = (
            f"e.g. hybrid: [{embedding}, {others[0]}]" if others else "of the embedding with bands, indices or layers (`rs05bench layers`)"
        )
        hints.append(f"no hybrid feature set: rule 7 asks for one, {how}")
    if (
        card.kind == "classification"
        and not card.class_names
        and (table.classes or ())
        and all(name.isdigit() for name in table.classes or ())
    ):
        shown = f"{', '.join((table.classes or ())[:6])}{', …' if len(table.classes or ()) > 6 else ''}"
        hints.append(f"classes are codes ({shown}): class_names gives them names, in this order, on pages and in advice")
    if card.classes is None and card.kind == "classification":
        hints.append("classes are taken from the data; name them in the card, so that a file without one class does not change the task")
    for field in ("licence", "citation", "overlap"):
        if not getattr(card, field):
            hints.append(
                f"{field} is empty" + (" (rule 14: say whether a feature's pretraining knows the labels)" if field == "overlap" else "")
            )
    unasked = table.dropped[~table.dropped["reason"].str.startswith("preprocessing.where")]
    dropped, rows = int(unasked["count"].sum()), len(table)
    if dropped > rows:
        hints.append(f"more rows were dropped ({dropped:,}) than became units ({rows:,})")
    return hints
