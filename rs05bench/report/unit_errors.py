"""Errors of single units of a table: how often each model is wrong there, how sure it was, and whether fits and models agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.classes import class_values, encode_labels
from rs05bench.protocol.predictions import TablePredictions
from rs05bench.protocol.result import Result
from rs05bench.report.failures import offset
from rs05bench.report.loading import Section
from rs05bench.report.thumbnails import Picture

SURE = 0.8
"""A wrong answer of a higher confidence was wrong and sure of it."""


@dataclass(frozen=True)
class UnitErrors:
    """Errors of units, of tables and of chips alike.

    Attributes:
        table: A row a unit and model: `unit_id, model, lon, lat`, the group columns, `error` (share of fits or pixels that are wrong, or
            mean absolute error), `confidence` (mean probability of the answer, or half the width of the interval), `seeds_disagree`
            (share of fits that answer otherwise, or their standard deviation), `failure` (in words).
        counts: (U, K * K) confusion counts of the rows of the best model, in their order; None for a regression.
        classes: Names of the classes; empty for a regression.
        files: Files written, relative to the folder.
        pictures: Unit -> its small pictures, of chips.
        notes: What a reader has to know.
    """

    table: pd.DataFrame
    counts: Any = None
    classes: tuple[str, ...] = ()
    files: list[str] = field(default_factory=list)
    pictures: dict[str, list[Picture]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def labels_of(section: Section, data: str | Path | None) -> pd.Series:
    """Labels of a table's units, indexed by `unit_id`: those kept with the results, or those of the data.

    Raises:
        DataError: They are not kept and no data are given, or the data are others.
    """
    digest = section.results[0].digests.get("data", "")
    kept = section.store.labels(digest)
    if kept is not None and section.target in kept.columns:
        return kept[section.target]
    if data is None:
        raise DataError(
            f"{section.card.name}: the labels behind these results are not kept with them",
            source=section.store.root,
            remedy="Give the data: --data DIR.",
        )
    from rs05bench.datamodules.open_data import open_source

    source = open_source(section.card, data)
    if source.digest != digest:
        raise DataError(
            f"{section.card.name}: these data are not those of the results (digest {source.digest[:12]}…, not {digest[:12]}…)", source=data
        )
    return source.labels(section.target)


def errors_of_table(section: Section, cells: Sequence[Result], role: str, best: str, data: str | Path | None) -> UnitErrors:
    """Errors of every unit and model of a table.

    Args:
        section: Results with their manifests.
        cells: Cells of one split and budget.
        role: Test role.
        best: The model whose confusions are counted.
        data: Data directory, where the labels are not kept with the results.

    Returns:
        The table also has `year`, `truth`, `predicted` (the answer most fits give, or their mean), `bias` (regression), `models_disagree`
        (as `seeds_disagree`, over models), `sure_and_wrong` (share of fits that are wrong with a confidence above .8), `fits`.
    """
    known = labels_of(section, data).dropna()
    known.index = pd.Index(known.index, dtype=object)
    classes = class_values(section.card, known)
    frames = []
    for cell in cells:
        predictions = TablePredictions.read(section.store.folder(cell.digest) / "predictions").of_role(role)
        predictions = predictions.take(np.flatnonzero(known.index.get_indexer(pd.Index(predictions.unit_id, dtype=object)) >= 0))
        frames.append(_answers(predictions, known, classes, section.card.name).assign(model=cell.cell.model))
    answers = pd.concat(frames, ignore_index=True)
    table = _summed(answers, classes)
    of_models = table.groupby("unit_id")["value"]
    names = tuple(str(name) for name in section.card.class_names or classes or ())
    if classes is None:
        table["models_disagree"] = of_models.transform(lambda values: values.std(ddof=0)).to_numpy()
        table["failure"] = [offset(bias) for bias in table["bias"]]
    else:
        usual = of_models.transform(lambda values: values.mode().iloc[0])
        table["models_disagree"] = (table["value"] != usual).groupby(table["unit_id"]).transform("mean").to_numpy()
        named = np.asarray(names, dtype=object)
        table["truth"] = named[table["truth"].to_numpy(dtype=np.intp)]
        table["predicted"] = named[table["value"].to_numpy(dtype=np.intp)]
        wrong = table["truth"] != table["predicted"]
        table["failure"] = (table["truth"] + " taken for " + table["predicted"]).where(wrong, "")
    placed = place_units(section, cells[0].cell.split, table["unit_id"])
    table = pd.concat([table.drop(columns="value"), placed], axis=1).sort_values(["model", "unit_id"], kind="stable").reset_index(drop=True)
    notes = ["Errors are means over seeds, and over folds where several test a unit."]
    return UnitErrors(table, None if classes is None else _counts(answers, table, best, len(classes)), names, notes=notes)


def place_units(section: Section, split: str, unit_id: pd.Series) -> pd.DataFrame:
    """Position, year and groups of units, a row each: `lon`, `lat`, `year` and the card's group columns."""
    manifest = section.manifest(split)
    columns = list(dict.fromkeys(["lon", "lat", "year", *section.card.fairness_groups, *section.card.groups]))
    if manifest is None:
        return pd.DataFrame(np.nan, index=unit_id.index, columns=columns)
    return manifest.units.set_index("unit_id").reindex(unit_id).reindex(columns=columns).set_axis(unit_id.index)


def _counts(answers: pd.DataFrame, table: pd.DataFrame, best: str, classes: int) -> Any:
    """Confusion counts of the best model's units, in the order of its rows: true class by answer of each fit."""
    from scipy.sparse import csr_matrix

    mine = answers[answers["model"] == best]
    units = pd.Index(table.loc[table["model"] == best, "unit_id"])
    row = units.get_indexer(mine["unit_id"])
    column = mine["truth"].to_numpy(dtype=np.intp) * classes + mine["value"].to_numpy(dtype=np.intp)
    return csr_matrix((np.ones(len(mine)), (row, column)), shape=(len(units), classes**2))


def _answers(predictions: TablePredictions, known: pd.Series, classes: tuple[str, ...] | None, source: str) -> pd.DataFrame:
    truth = encode_labels(known.reindex(predictions.unit_id), classes, source)
    if classes is None:
        y = np.asarray(predictions.y, dtype=np.float64)
        half = np.full(len(y), np.nan) if predictions.interval is None else (predictions.interval[:, 1] - predictions.interval[:, 0]) / 2
        return pd.DataFrame({"unit_id": predictions.unit_id, "truth": truth, "value": y, "error": np.abs(y - truth), "confidence": half})
    p = np.asarray(predictions.probabilities, dtype=np.float64)
    picked = p.argmax(1)
    wrong = (picked != truth).astype(float)
    answers = {"unit_id": predictions.unit_id, "truth": truth, "value": picked, "error": wrong, "confidence": p.max(1)}
    return pd.DataFrame(answers | {"sure_and_wrong": wrong * (p.max(1) > SURE)})


def _summed(answers: pd.DataFrame, classes: tuple[str, ...] | None) -> pd.DataFrame:
    by = answers.groupby(["model", "unit_id"], sort=True)
    table = by.agg(
        truth=("truth", "first"), error=("error", "mean"), confidence=("confidence", "mean"), fits=("error", "size")
    ).reset_index()
    if classes is not None:
        table["sure_and_wrong"] = by["sure_and_wrong"].mean().to_numpy()
    if classes is None:
        table["value"] = by["value"].mean().to_numpy()
        table["predicted"] = table["value"]
        table["bias"] = table["predicted"] - table["truth"]
        table["seeds_disagree"] = by["value"].std(ddof=0).to_numpy()
        return table
    counts = answers.groupby(["model", "unit_id", "value"], sort=True).size().rename("votes").reset_index()
    # The most frequent answer; the first class of equals, as everywhere.
    first = counts.sort_values(["model", "unit_id", "votes", "value"], ascending=[True, True, False, True]).drop_duplicates(
        ["model", "unit_id"]
    )
    table["value"] = first["value"].to_numpy()
    table["seeds_disagree"] = 1 - first["votes"].to_numpy() / table["fits"].to_numpy()
    return table
