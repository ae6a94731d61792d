"""From stored predictions to sums per test block, from which every score, difference and interval of a report is computed.

Of chips the sums are those that results keep: counting them again would mean reading every raster.

Each test unit weighs the same at home and elsewhere: where several folds test it at home, each counts for its share, so both sides
stand on the same ground.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.kept import Stats, scaled
from rs05bench.protocol.metrics import ClusterConfusion, ClusterMoments
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.protocol.predictions import PROBABILITY_PREFIX
from rs05bench.protocol.result import Result
from rs05bench.protocol.taskdata import class_values, encode_labels
from rs05bench.report.loading import Section

HOME, ELSEWHERE = "test_id", "test_ood"
SAME = 1e-6  # a stored score and its recomputation may differ by the rounding of float32 predictions


@dataclass(frozen=True, slots=True)
class Key:
    """A curve's point: one model under one split with one budget."""

    split: str
    model: str
    budget: str


@dataclass(frozen=True)
class Evidence:
    """Sums per cluster of every fit.

    Attributes:
        stats: Key and role -> seed -> sums over all folds of that seed.
        groups: Split -> cluster -> region, for the intervals.
        cells: Key -> the results it rests on.
        pool: The kept sums of chips; empty for tables.
    """

    stats: Mapping[tuple[Key, str], Mapping[int, Stats]]
    groups: Mapping[str, Mapping[str, str]]
    cells: Mapping[Key, list[Result]] = field(default_factory=dict)
    pool: Pool = field(default_factory=lambda: Pool({}), repr=False)

    def fits(self, key: Key, role: str) -> list[Stats]:
        """The sums of one curve point, a fit each, in order of seeds; empty where there are none."""
        return [stats for _, stats in sorted(self.stats.get((key, role), {}).items())]

    def fits_where(self, key: Key, metric: str, role: str, where: tuple[str, str] | None = None) -> list[Stats]:
        """The kept sums of chips for any metric, only of rows with a value in a group column; a fit each, in order of seeds."""
        found = next((point for point in self.pool.points if _key(point) == key), None)
        return [] if found is None else list(self.pool.fits(found, metric, role, where=where).values())

    def keys(self, split: str) -> list[Key]:
        """Curve points of a split."""
        return [key for key in self.cells if key.split == split]


def gather(section: Section) -> Evidence:
    """Reads every stored prediction of a section once; of chips the kept sums.

    Raises:
        DataError: A prediction file is missing or does not give the score stored beside it, or kept sums do not.
    """
    families: dict[tuple[Key, int], list[Result]] = defaultdict(list)
    cells: dict[Key, list[Result]] = defaultdict(list)
    for result in section.results:
        cell = result.cell
        key = Key(cell.split, cell.model, cell.budget)
        families[key, cell.seed].append(result)
        cells[key].append(result)
    stats: dict[tuple[Key, str], dict[int, Stats]] = defaultdict(dict)
    groups: dict[str, dict[str, str]] = {}
    if section.labels is not None:
        truth = Truth.of(section)
        for (key, seed), results in families.items():
            for role, sums in _sums(section, truth, results).items():
                stats[key, role][seed] = sums
        for split in section.splits:
            places = truth.places(section, split)
            groups[split] = dict(zip(places["cluster"], places["region"], strict=True))
        return Evidence(dict(stats), groups, dict(cells))
    pool = _kept_sums(section, cells)
    for point in pool.points:
        for role in (HOME, ELSEWHERE):
            if fits := pool.fits(point, section.metric, role):
                stats[_key(point), role] = dict(fits)
        groups.setdefault(point.split, {}).update(pool.regions(point))
    return Evidence(dict(stats), groups, dict(cells), pool)


def _kept_sums(section: Section, cells: Mapping[Key, list[Result]]) -> Pool:
    """Points whose every cell keeps sums; those of earlier versions do not."""
    pool = Pool(
        {
            Point(section.card.name, section.target, key.split, key.model, key.budget): results
            for key, results in cells.items()
            if all(result.sums for result in results)
        }
    )
    for results in pool.points.values():
        for result in results:
            for role in (HOME, ELSEWHERE):
                kept, said = pool.kept(result, role), result.scores.get(role, {}).get(section.metric)
                if kept is None or said is None or not kept.gives(section.metric):
                    continue
                sums = kept.of(section.metric)
                found = float(sums.evaluate(section.metric, sums.vectors.sum(0)))
                if not abs(found - said) <= SAME * max(1.0, abs(said)):
                    raise DataError(
                        f"the kept sums give {section.metric} {found:.6f} on {role}, and the result says {said:.6f}",
                        source=section.store.folder(result.digest),
                        remedy="Delete the cell's folder and run the sweep again.",
                    )
    return pool


def _key(point: Point) -> Key:
    return Key(point.split, point.model, point.budget)


@dataclass(frozen=True)
class Layout:
    """The test units of a fold in the order of a prediction file; models of a fold share it.

    Attributes:
        file_units: Units as in the file.
        file_roles: Their roles as in the file.
        keep: Rows of the file that are tested and have a label; the other fields are over these.
        unit_id: Units.
        role: Roles.
        truth: Labels as numbers.
        region: Regions.
        cluster: Test blocks.
    """

    file_units: NDArray[Any]
    file_roles: NDArray[Any]
    keep: NDArray[np.bool_]
    unit_id: NDArray[Any]
    role: NDArray[Any]
    truth: NDArray[np.float64]
    region: NDArray[Any]
    cluster: NDArray[Any]


@dataclass(frozen=True)
class Truth:
    """What predictions are compared with.

    Attributes:
        values: Label of each unit: class index or number; NaN where there is none.
        classes: Class values, None for regression.
    """

    values: pd.Series
    classes: tuple[str, ...] | None
    _places: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)
    _layouts: dict[tuple[str, str], Layout] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, section: Section) -> Truth:
        """The truth of a section."""
        assert section.labels is not None
        labels = section.labels.dropna()
        classes = None if section.card.kind == "regression" else class_values(section.card, labels)
        coded = encode_labels(labels, classes, section.card.name)
        return cls(pd.Series(np.asarray(coded, dtype=np.float64), index=labels.index), classes)

    def places(self, section: Section, split: str) -> pd.DataFrame:
        """`region` and `cluster` (its test block) of every unit of a split, indexed by `unit_id`."""
        if split not in self._places:
            manifest = section.manifest(split)
            if manifest is None:
                raise DataError(f"the manifest {section.card.name}/{split} is missing", source=section.store.root)
            first = manifest.table.drop_duplicates("unit_id")
            region = first["region"].astype(str).to_numpy()
            block = first["block"].astype(str).to_numpy()
            cluster = [f"{here}\t{there}" for here, there in zip(region, block, strict=True)]
            self._places[split] = pd.DataFrame({"region": region, "cluster": cluster}, index=first["unit_id"].to_numpy())
        return self._places[split]

    def layout(self, section: Section, result: Result, table: Any) -> Layout:
        """Where the rows of a prediction file belong."""
        units = table.column("unit_id").to_numpy(zero_copy_only=False)
        roles = table.column("role").to_numpy(zero_copy_only=False)
        key = result.cell.split, result.cell.fold
        known = self._layouts.get(key)
        if known is not None and np.array_equal(known.file_units, units) and np.array_equal(known.file_roles, roles):
            return known
        labels = self.values.reindex(units).to_numpy()
        keep = np.isin(roles, (HOME, ELSEWHERE)) & np.isfinite(labels)
        places = self.places(section, result.cell.split).reindex(units[keep])
        made = Layout(
            units,
            roles,
            keep,
            units[keep],
            roles[keep],
            labels[keep],
            places["region"].to_numpy(object),
            places["cluster"].to_numpy(object),
        )
        self._layouts[key] = made
        return made


def read_units(section: Section, truth: Truth, results: Sequence[Result]) -> pd.DataFrame:
    """Predictions of some cells of one split beside their truth: a row a test unit and cell.

    Returns:
        Columns `unit_id, role, fold, seed, truth, region, cluster`, and `predicted, confidence, p_truth` (classification; `predicted`
        is a class index) or `predicted, lower, upper` (regression). Units without a label are left out.

    Raises:
        DataError: A file is missing or unreadable, or does not give the score stored beside it.
    """
    parts: dict[str, list[Any]] = defaultdict(list)
    for result in results:
        path = section.store.folder(result.digest) / "predictions" / "units.parquet"
        try:
            table = pq.ParquetFile(path).read()
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read: {error}", source=path, remedy="Delete the cell's folder and run the sweep again.") from error
        layout = truth.layout(section, result, table)
        part = {"unit_id": layout.unit_id, "role": layout.role, "truth": layout.truth, "region": layout.region, "cluster": layout.cluster}
        part |= _predicted(table, layout, truth.classes, path)
        _same_score(result, section.metric, part, truth.classes, path)
        rows = len(layout.unit_id)
        part |= {"fold": np.full(rows, result.cell.fold, dtype=object), "seed": np.full(rows, result.cell.seed)}
        for name, values in part.items():
            parts[name].append(values)
    return pd.DataFrame({name: np.concatenate(values) for name, values in parts.items()})


def _predicted(table: Any, layout: Layout, classes: tuple[str, ...] | None, path: Any) -> dict[str, Any]:
    names = set(table.schema.names)
    wanted = [f"{PROBABILITY_PREFIX}{value}" for value in classes] if classes else ["y"]
    if missing := [name for name in wanted if name not in names]:
        raise DataError(f"columns {missing} are missing", source=path)

    def column(name: str) -> NDArray[np.float64]:
        return np.asarray(table.column(name).to_numpy(zero_copy_only=False)[layout.keep], dtype=np.float64)

    if classes is None:
        ends = {name: column(name) if name in names else np.full(len(layout.unit_id), np.nan) for name in _ENDS}
        return {"predicted": column("y"), **ends}
    values = np.stack([column(name) for name in wanted], axis=1)
    picked = values.argmax(1)
    rows = np.arange(len(values))
    return {"predicted": picked, "confidence": values[rows, picked], "p_truth": values[rows, layout.truth.astype(np.intp)]}


_ENDS = ("lower", "upper")


def _same_score(result: Result, metric: str, part: dict[str, Any], classes: tuple[str, ...] | None, path: Any) -> None:
    """A wrong file must not give a wrong picture: the stored score has to follow from the stored predictions."""
    for role in (HOME, ELSEWHERE):
        said = result.scores.get(role, {}).get(metric)
        here = part["role"] == role
        if said is None or not here.any():
            continue
        one = np.zeros(int(here.sum()), dtype=np.int8)
        sums = _count(one, {name: part[name][here] for name in ("truth", "predicted", *_ENDS) if name in part}, classes)
        found = float(sums.evaluate(metric, sums.vectors.sum(0)))
        if not abs(found - said) <= SAME * max(1.0, abs(said)):
            raise DataError(
                f"the predictions give {metric} {found:.6f} on {role}, and the result says {said:.6f}",
                source=path,
                remedy="Delete the cell's folder and run the sweep again.",
            )


def _sums(section: Section, truth: Truth, results: list[Result]) -> dict[str, Stats]:
    units = read_units(section, truth, results)
    return {str(role): stats_of(here, truth.classes) for role, here in units.groupby("role", sort=True)}


def stats_of(units: pd.DataFrame, classes: tuple[str, ...] | None) -> Stats:
    """Sums per cluster of one fit's units; a unit that several folds test counts for its share in each."""
    codes = pd.factorize(units["unit_id"])[0]
    times = np.bincount(codes)[codes]
    columns = {name: units[name].to_numpy() for name in ("truth", "predicted", *_ENDS) if name in units}
    clusters = units["cluster"].to_numpy()
    total: Stats | None = None
    for count in np.unique(times):
        here = times == count
        sums = scaled(_count(clusters[here], {name: values[here] for name, values in columns.items()}, classes), 1.0 / count)
        total = sums if total is None else total + sums  # type: ignore[operator]
    assert total is not None
    return total


def _count(clusters: Any, columns: Mapping[str, Any], classes: tuple[str, ...] | None) -> Stats:
    if classes is not None:
        return ClusterConfusion.from_labels(clusters, columns["truth"].astype(np.intp), columns["predicted"].astype(np.intp), classes)
    interval = np.stack([columns[name] for name in _ENDS], axis=1)
    return ClusterMoments.from_values(clusters, columns["truth"], columns["predicted"], interval if np.isfinite(interval).all() else None)
