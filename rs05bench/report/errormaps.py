"""Error maps of a run folder: where each model fails, how sure it was, and whether models and seeds agree; for QGIS and for a browser.

Units become a GeoPackage (a layer a model), chips become Cloud Optimized GeoTIFFs, and one page that opens offline shows both. Errors are
those of held-out units wherever the split holds any out: a map of a place the model was trained beside would flatter it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.metrics import METRICS, find_metric
from rs05bench.protocol.predictions import Predictions
from rs05bench.protocol.result import Result
from rs05bench.protocol.taskdata import class_values, encode_labels
from rs05bench.report.chip_maps import failures_of_chips, write_chip_maps
from rs05bench.report.loading import Section, read_runs
from rs05bench.report.style import layer_name
from rs05bench.report.thumbnails import Picture

LEAST_UNITS = 10
"""A group of fewer units is not listed among the typical failures."""
MOST_GROUPS = 12
"""Group columns of more values are left out of the typical failures of chips."""


@dataclass(frozen=True)
class ErrorMap:
    """The error maps of one task and target.

    Attributes:
        key: Name of its files.
        title: Task, target, split and budget, for people.
        role: `test_ood` or `test_id`.
        split: Split the errors are of.
        budget: Budget.
        best: The model with the best score under that role.
        units: A row a unit and model: see `unit_errors`; empty for chips.
        failures: Typical failures by group: see `typical_failures`.
        files: Files written, relative to the folder.
        chips: A row a chip, worst first: see `ChipMaps`, and the group columns; empty for tables.
        pictures: Chip -> its small pictures.
        classes: Names of the classes, for the colours of chips.
        simulated: Whether the data are simulated.
        notes: What a reader has to know.
        columns: Group columns.
    """

    key: str
    title: str
    role: str
    split: str
    budget: str
    best: str
    units: pd.DataFrame
    failures: pd.DataFrame
    files: list[str] = field(default_factory=list)
    chips: pd.DataFrame = field(default_factory=pd.DataFrame)
    pictures: dict[str, list[Picture]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    simulated: bool = False
    notes: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)


def write_error_maps(
    runs: str | Path, out: str | Path, *, data: str | Path | None = None, split: str | None = None, budget: str | None = None
) -> list[ErrorMap]:
    """Writes the error maps of every task in a run folder, and their page `index.html`.

    Args:
        runs: A sweep's folder.
        out: Folder to write; made where missing.
        data: Data directory; needed for chips, whose masks are not kept with results.
        split: Split; default the first that holds groups out.
        budget: Budget; default the largest.

    Raises:
        DataError: No results; a split or budget that is not there; chips without `data`.
    """
    from rs05bench.report.errorpage import write_page

    root = Path(out)
    root.mkdir(parents=True, exist_ok=True)
    found = [_section(section, root, data, split, budget) for section in read_runs(runs, data=data).sections]
    write_page(found, root / "index.html")
    return found


def _section(section: Section, root: Path, data: str | Path | None, split: str | None, budget: str | None) -> ErrorMap:
    chosen = split or section.lead_split or (section.splits[0] if section.splits else "")
    cells = [result for result in section.results if result.cell.split == chosen]
    if not cells:
        raise DataError(
            f"{section.card.name} has no results of the split {chosen!r} (there are {section.splits})", source=section.store.root
        )
    budgets = section.budgets[chosen]
    size = budget or budgets[-1]
    cells = [result for result in cells if result.cell.budget == size]
    if not cells:
        raise DataError(
            f"{section.card.name}, {chosen}: no results of the budget {size!r} (there are {budgets})", source=section.store.root
        )
    role = "test_ood" if any("test_ood" in result.scores for result in cells) else "test_id"
    title = f"{section.card.title or section.card.name}: {section.target}, {chosen}, {size}"
    best = _best(cells, role, section.card.main_metric)
    base = {"key": section.key, "title": title, "role": role, "split": chosen, "budget": size, "best": best, "simulated": section.simulated}
    if section.card.kind == "segmentation":
        return ErrorMap(**base, units=pd.DataFrame(), **_chips(section, cells, role, best, root, data))  # type: ignore[arg-type]
    units = unit_errors(section, cells, role)
    notes = ["Errors are means over seeds, and over folds where several test a unit."]
    files = [_write_table(units, root / f"{section.key}.csv")]
    if np.isfinite(units["lon"]).any():
        files.insert(0, _write_geopackage(units, root / f"{section.key}.gpkg"))
    else:
        notes.append("The units have no positions: there is a table and no map.")
    columns = list(dict.fromkeys([*section.card.fairness_groups, *section.card.groups]))
    failures = typical_failures(units[units["model"] == best], columns)
    return ErrorMap(**base, units=units, failures=failures, files=files, notes=notes, columns=columns)  # type: ignore[arg-type]


def _best(cells: Sequence[Result], role: str, metric: str) -> str:
    goodness = find_metric(metric, METRICS).goodness
    scores: dict[str, list[float]] = {}
    for cell in cells:
        if metric in cell.scores.get(role, {}):
            scores.setdefault(cell.cell.model, []).append(goodness(cell.scores[role][metric]))
    if not scores:
        raise DataError(f"no cell has the score {metric} on {role}", source=cells[0].cell.task)
    return max(sorted(scores), key=lambda name: float(np.mean(scores[name])))


def unit_errors(section: Section, cells: Sequence[Result], role: str) -> pd.DataFrame:
    """Errors of every unit and model.

    Args:
        section: Results with labels and manifests.
        cells: Cells of one split and budget.
        role: Test role.

    Returns:
        `unit_id, model, lon, lat, year` and the group columns; `truth`, `predicted` (the answer most fits give, or their mean),
        `error` (share of fits that are wrong, or mean absolute error), `bias` (regression), `confidence` (mean probability of the
        predicted class, or half the width of the interval), `seeds_disagree` (share of fits that do not give `predicted`, or their
        standard deviation), `models_disagree` (the same over models), `fits`.
    """
    assert section.labels is not None
    known = section.labels.dropna()
    known.index = pd.Index(known.index, dtype=object)
    classes = None if section.card.kind == "regression" else class_values(section.card, known)
    frames = []
    for cell in cells:
        predictions = section.store.predictions(cell.digest).of_role(role)
        predictions = predictions.take(np.flatnonzero(known.index.get_indexer(pd.Index(predictions.unit_id, dtype=object)) >= 0))
        frames.append(_answers(predictions, known, classes, section.card.name).assign(model=cell.cell.model))
    answers = pd.concat(frames, ignore_index=True)
    table = _summed(answers, classes)
    of_models = table.groupby("unit_id")["value"]
    if classes is None:
        table["models_disagree"] = of_models.transform(lambda values: values.std(ddof=0)).to_numpy()
    else:
        usual = of_models.transform(lambda values: values.mode().iloc[0])
        table["models_disagree"] = (table["value"] != usual).groupby(table["unit_id"]).transform("mean").to_numpy()
        names = np.asarray(section.card.class_names or classes, dtype=object)
        table["truth"] = names[table["truth"].to_numpy(dtype=np.intp)]
        table["predicted"] = names[table["value"].to_numpy(dtype=np.intp)]
    manifest = section.manifest(cells[0].cell.split)
    assert manifest is not None
    placed = manifest.units.set_index("unit_id").reindex(table["unit_id"])
    for column in dict.fromkeys(["lon", "lat", "year", *section.card.groups]):
        table[column] = placed[column].to_numpy()
    return table.drop(columns="value").sort_values(["model", "unit_id"], kind="stable").reset_index(drop=True)


def _answers(predictions: Predictions, known: pd.Series, classes: tuple[str, ...] | None, source: str) -> pd.DataFrame:
    truth = encode_labels(known.reindex(predictions.unit_id), classes, source)
    if classes is None:
        y = np.asarray(predictions.y, dtype=np.float64)
        half = np.full(len(y), np.nan) if predictions.interval is None else (predictions.interval[:, 1] - predictions.interval[:, 0]) / 2
        return pd.DataFrame({"unit_id": predictions.unit_id, "truth": truth, "value": y, "error": np.abs(y - truth), "confidence": half})
    p = np.asarray(predictions.probabilities, dtype=np.float64)
    picked = p.argmax(1)
    wrong = (picked != truth).astype(float)
    return pd.DataFrame({"unit_id": predictions.unit_id, "truth": truth, "value": picked, "error": wrong, "confidence": p.max(1)})


def _summed(answers: pd.DataFrame, classes: tuple[str, ...] | None) -> pd.DataFrame:
    by = answers.groupby(["model", "unit_id"], sort=True)
    table = by.agg(
        truth=("truth", "first"), error=("error", "mean"), confidence=("confidence", "mean"), fits=("error", "size")
    ).reset_index()
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


def typical_failures(units: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """What goes wrong in each group for one model.

    Args:
        units: Rows of `unit_errors` of one model.
        groups: Group columns.

    Returns:
        `column, group, units, error, sure_and_wrong, failure`, the worst groups of each column first. `sure_and_wrong` is the share
        of units that are wrong with a confidence above .8 (classification).
    """
    rows = []
    for column in groups:
        for name, part in units.groupby(column, sort=True):
            if len(part) < LEAST_UNITS:
                continue
            sure = float(((part["error"] > 0.5) & (part["confidence"] > 0.8)).mean()) if "bias" not in part else np.nan
            rows.append((column, str(name), len(part), float(part["error"].mean()), sure, _failure(part)))
    table = pd.DataFrame(rows, columns=["column", "group", "units", "error", "sure_and_wrong", "failure"])
    return table.sort_values(["column", "error"], ascending=[True, False], kind="stable").reset_index(drop=True)


def _failure(part: pd.DataFrame) -> str:
    if "bias" in part:
        bias = float(part["bias"].mean())
        worst = part.loc[part["error"].idxmax()]
        said = f"{'too much' if bias > 0 else 'too little'} by {abs(bias):.3g} on average"
        return f"predicts {said}; worst {worst['predicted']:.3g} for {worst['truth']:.3g}"
    wrong = part[part["predicted"] != part["truth"]]
    if wrong.empty:
        return "none"
    pairs = wrong.groupby(["truth", "predicted"]).size().sort_values(ascending=False, kind="stable")
    return "; ".join(
        f"{truth} taken for {said} ({count} of {(part['truth'] == truth).sum()})" for (truth, said), count in pairs.head(2).items()
    )


def _write_table(units: pd.DataFrame, path: Path) -> str:
    units.to_csv(path, index=False)
    return path.name


def _write_geopackage(units: pd.DataFrame, path: Path) -> str:
    """A layer a model, points in WGS84."""
    import geopandas

    path.unlink(missing_ok=True)
    placed = units[np.isfinite(units["lon"]) & np.isfinite(units["lat"])]
    for model, rows in placed.groupby("model", sort=True):
        table = rows.drop(columns=["lon", "lat"]).assign(year=pd.to_numeric(rows["year"], errors="coerce").astype("float64"))
        geometry = geopandas.points_from_xy(rows["lon"], rows["lat"])
        geopandas.GeoDataFrame(table, geometry=geometry, crs="EPSG:4326").to_file(path, layer=layer_name(str(model)), driver="GPKG")
    return path.name


def _chips(section: Section, cells: Sequence[Result], role: str, best: str, root: Path, data: str | Path | None) -> dict[str, Any]:
    """The fields of an error map that are of chips."""
    from rs05bench.datamodules.sources import open_source
    from rs05bench.protocol.rasters import RasterPredictions

    if data is None:
        raise DataError(
            f"{section.card.name}: the masks of chips are not kept with results",
            source=section.store.root,
            remedy="Say where the data are with --data.",
        )
    source: Any = open_source(section.card, data)
    digests = {result.digests.get("data", source.digest) for result in cells}
    if digests != {source.digest}:
        raise DataError(f"{section.card.name}: these chips are not those the results rest on", source=data)
    fits = [RasterPredictions.load(section.store.folder(cell.digest) / "predictions") for cell in cells if cell.cell.model == best]
    manifest = section.manifest(cells[0].cell.split)
    columns = list(dict.fromkeys([*section.card.fairness_groups, *section.card.groups]))
    groups = pd.DataFrame() if manifest is None else manifest.units.set_index("unit_id")[columns].astype(str)
    names = tuple(section.card.class_names or fits[0].classes)
    maps = write_chip_maps(
        fits, source.read_labels, role, root / section.key, names=names, groups=groups, read_image=lambda unit: _seen(source, unit)
    )
    # A column in which every chip is a group of its own tells nothing that the chips do not.
    telling = [name for name in columns if 2 <= groups[name].reindex(maps.table["unit_id"]).nunique() <= MOST_GROUPS]
    return {
        "chips": maps.table.join(groups, on="unit_id"),
        "failures": failures_of_chips(maps.table, maps.counts, groups, telling, names),
        "files": maps.files,
        "pictures": maps.pictures,
        "classes": names,
        "columns": telling,
        "notes": [
            "The answer of several fits is that of their mean probability."
            if len(names) == 2
            else "The answer of several fits is the one that most of them give."
        ],
    }


def _seen(source: Any, unit: str) -> NDArray[np.floating] | None:
    """A picture of what the model saw: burnt ground stands out in SWIR 2, NIR and red; of several dates the middle one is shown."""
    from rs05bench.datasets.plotting import composite

    image = np.asarray(source.chip(unit)["image"])
    image = image if image.ndim == 3 else image[len(image) // 2]
    bands = list(source.dataset.bands)
    wanted = ("B12", "B8A", "B04") if source.card.reader == "burn-scars" else ("B04", "B03", "B02")
    valid = np.isfinite(image).all(axis=0)
    if not set(wanted) <= set(bands) or not valid.any():
        return None
    return composite(image, bands, wanted, valid)
