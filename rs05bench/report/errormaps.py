"""Error maps of a run folder: where each model fails, how sure it was, and whether models and seeds agree; for QGIS and for a browser.

Units become a GeoPackage (a layer a model), chips become Cloud Optimized GeoTIFFs and outlines, and one page that opens offline shows
both. Errors are those of held-out units wherever the split holds any out: a map of a place the model was trained beside would flatter it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.experiment.query import without_formulas
from rs05bench.protocol.atomic import writing
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.result import Result
from rs05bench.report import setting
from rs05bench.report.failures import mistakes, offset
from rs05bench.report.loading import Section, read_runs
from rs05bench.report.style import layer_name
from rs05bench.report.unit_errors import UnitErrors, errors_of_table

MOST_GROUPS = 40
"""Group columns of more values are left out of the typical failures."""

LEAST_UNITS, LEAST_SHARE = 2, 0.01
"""A group of fewer units, or of a smaller share of all, is not listed among the typical failures."""


MARK = ".rs05bench-errors"


@dataclass(frozen=True)
class ErrorMap:
    """The error maps of one task and target.

    Attributes:
        key: Name of its files.
        title: Task and target, for people.
        role: `test_ood` or `test_id`.
        split: Split the errors are of.
        budget: Budget.
        best: The model with the best score under that role.
        errors: Errors of every unit.
        failures: Typical failures by group: see `typical_failures`.
        simulated: Whether the data are simulated.
        columns: Group columns.
    """

    key: str
    title: str
    role: str
    split: str
    budget: str
    best: str
    errors: UnitErrors
    failures: pd.DataFrame
    simulated: bool
    columns: list[str]

    @property
    def units(self) -> pd.DataFrame:
        """Units of the best model, worst first."""
        mine = self.errors.table[self.errors.table["model"] == self.best]
        return mine.sort_values(["error", "confidence"], ascending=[False, self.regression], kind="stable")

    @property
    def regression(self) -> bool:
        """Whether numbers are predicted."""
        return not self.errors.classes


def write_error_maps(
    runs: str | Path, out: str | Path, *, data: str | Path | None = None, split: str | None = None, budget: str | None = None
) -> list[ErrorMap]:
    """Writes the error maps of every task in a run folder, and their page `index.html`.

    Args:
        runs: A sweep's folder.
        out: Folder to write; made where missing.
        data: Data directory; needed for chips, whose masks are not kept with results, and for tables whose labels are not.
        split: Split; default the first that holds groups out.
        budget: Budget; default the largest.

    Raises:
        DataError: No results; a split or budget that is not there; labels or masks unknown.
    """
    from rs05bench.report.errorpage import write_error_page

    root = Path(out)
    root.mkdir(parents=True, exist_ok=True)
    found = [_error_map(section, root, data, split, budget) for section in read_runs(runs).sections]
    setting.make_room(root, MARK, ["index.html"])
    write_error_page(found, root / "index.html")
    return found


def _error_map(section: Section, root: Path, data: str | Path | None, split: str | None, budget: str | None) -> ErrorMap:
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
    best = _best(cells, role, section.card.main_metric)
    if section.card.about.pixel_labels:
        from rs05bench.report.chip_maps import errors_of_chips

        errors = errors_of_chips(section, cells, role, best, root, data)
    else:
        errors = errors_of_table(section, cells, role, best, data)
        errors.files.extend(_write_units(errors.table, root / section.key))
    if not np.isfinite(errors.table["lon"].astype(float)).any():
        errors.notes.append("The units have no positions: there is a table and no map.")
    mine = errors.table[errors.table["model"] == best]
    groups = list(dict.fromkeys([*section.card.fairness_groups, *section.card.groups]))
    # A column in which nearly every unit is a group of its own tells nothing that the units do not.
    columns = [name for name in groups if 2 <= mine[name].nunique() <= min(MOST_GROUPS, len(mine) / 2)]
    failures = typical_failures(mine, columns, errors)
    return ErrorMap(section.key, section.title, role, chosen, size, best, errors, failures, section.simulated, columns)


def _best(cells: Sequence[Result], role: str, metric: str) -> str:
    goodness = find_metric(metric).goodness
    scores: dict[str, list[float]] = {}
    for cell in cells:
        if metric in cell.scores.get(role, {}):
            scores.setdefault(cell.cell.model, []).append(goodness(cell.scores[role][metric]))
    if not scores:
        raise DataError(f"no cell has the score {metric} on {role}", source=cells[0].cell.task)
    return max(sorted(scores), key=lambda name: float(np.mean(scores[name])))


def typical_failures(units: pd.DataFrame, columns: Sequence[str], errors: UnitErrors) -> pd.DataFrame:
    """What goes wrong in each group for one model.

    Args:
        units: Rows of `errors.table` of the model whose confusions are counted, in their order.
        columns: Group columns.
        errors: The errors they are of.

    Returns:
        `column, group, units, error, sure_and_wrong, failure, worst`, the worst groups of each column first. `sure_and_wrong` is the
        share of answers (or pixels) that are wrong with a confidence above .8; `worst` is the unit with the largest error.
    """
    rows = []
    classes = len(errors.classes)
    units = units.reset_index(drop=True)
    for column in columns:
        for name, part in units.groupby(column, sort=True):
            if len(part) < max(LEAST_UNITS, LEAST_SHARE * len(units)):
                continue
            if classes:
                each = errors.counts[part.index.to_numpy()]
                weights = np.maximum(np.asarray(each.sum(axis=1)).ravel(), 1)
                total = np.asarray(each.sum(axis=0)).reshape(classes, classes)
                error = 1 - float(np.trace(total)) / max(float(total.sum()), 1.0)
                sure, words = float(np.average(part["sure_and_wrong"], weights=weights)), mistakes(total, errors.classes, most=2)
            else:
                error, sure, words = float(part["error"].mean()), np.nan, offset(float(part["bias"].mean()))
            rows.append((column, str(name), len(part), error, sure, words, str(part.loc[part["error"].idxmax(), "unit_id"])))
    table = pd.DataFrame(rows, columns=["column", "group", "units", "error", "sure_and_wrong", "failure", "worst"])
    return table.sort_values(["column", "error"], ascending=[True, False], kind="stable").reset_index(drop=True)


def _write_units(units: pd.DataFrame, stem: Path) -> list[str]:
    """A CSV, and where units have positions a GeoPackage with a layer a model, points in WGS84."""
    import geopandas

    table, places = stem.with_name(f"{stem.name}.csv"), stem.with_name(f"{stem.name}.gpkg")
    with writing(table) as part:
        without_formulas(units).to_csv(part, index=False)
    placed = units[np.isfinite(units["lon"]) & np.isfinite(units["lat"])]
    if placed.empty:
        return [table.name]
    with writing(places) as part:
        for model, rows in placed.groupby("model", sort=True):
            frame = rows.drop(columns=["lon", "lat"]).assign(year=pd.to_numeric(rows["year"], errors="coerce").astype("float64"))
            geometry = geopandas.points_from_xy(rows["lon"], rows["lat"])
            geopandas.GeoDataFrame(frame, geometry=geometry, crs="EPSG:4326").to_file(part, layer=layer_name(str(model)), driver="GPKG")
    return [places.name, table.name]
