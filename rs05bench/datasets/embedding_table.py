"""A table of sampled embeddings, as Earth Engine exports them, under a task card.

What a card cannot mean is refused with the file, the column and the way to fix it; what is dropped is counted and named
(`EmbeddingTable.dropped`), never silently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.datasets.tables.card_files import FILE_COLUMN, ROW_COLUMN, read_files
from rs05bench.datasets.tables.label_columns import with_targets, without_unknown_classes
from rs05bench.datasets.tables.leaks import refuse_leaks
from rs05bench.datasets.tables.missing_vectors import mark_missing
from rs05bench.datasets.tables.positions import refuse_swapped, representative_points
from rs05bench.datasets.tables.reshaping import join, melt_years
from rs05bench.datasets.tables.wording import did_you_mean, some_columns
from rs05bench.embeddings.card_products import HeldProduct, card_with_columns, patterns_of
from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol import TaskCard, UnitTable
from rs05bench.protocol.classes import class_values
from rs05bench.protocol.feature_sets import set_of
from rs05bench.protocol.intake.keys import as_keys, find_keys, refuse_two_spellings, two_spellings
from rs05bench.protocol.scored_labels import UnitLabels

READERS = ("table", "presto")

Derive = Callable[[pd.DataFrame, TaskCard], pd.DataFrame]


class EmbeddingTable:
    """Units, features and labels of a table task.

    Reads CSV (with Earth Engine's `.geo` and `system:index`), Parquet, GeoParquet, GeoPackage, Shapefile and GeoJSON, several files at
    once, wide columns with a year (`A00_2018`) as one row a year, and joins further files by key. Unit ids are the card's `unit` columns
    joined by `_`, or file name and row; ids keep their leading zeros.

    Filters and derived columns are part of the card's pinned preprocessing: `preprocessing: {where: {year: [2018]}, derive: [..]}`.

    Args:
        card: The task card.
        data_dir: Folder that holds the card's files (or the one file itself).
        derive: Adds derived feature columns to the table (`rs05bench.models.features.derive`); needed where the card asks for them.

    Attributes:
        frame: One row a unit, sorted by `unit_id`: every column of the files, `unit_id`, `lon`, `lat` (WGS84).
        dropped: Rows that did not become units: `reason`, `count`, `example`.
        remarks: What was taken for granted in reading the files (an encoding, decimal commas), and what looks odd in them.

    Raises:
        DataError: Anything in the files that contradicts the card.
    """

    def __init__(self, card: TaskCard, data_dir: str | Path, *, derive: Derive | None = None, unlabelled: bool = False) -> None:
        self.card, self.root, self.source = card, Path(data_dir), f"{card.name} ({data_dir})"
        self._unlabelled = unlabelled
        self._drops: list[dict[str, Any]] = []
        self.remarks: list[str] = []
        self._sets: dict[str, list[str]] | None = None
        self._shown, self.products = card, dict[str, HeldProduct]()
        self._arrays: dict[str, NDArray[np.float32]] = {}
        self._digest: str | None = None
        frame = self._read()
        frame = self._filter(frame)
        if card.preprocessing.derive:
            if derive is None:
                raise ProtocolError(
                    f"{card.name}: the card derives features, and no function that derives them was given",
                    remedy="Pass derive=rs05bench.models.features.derive.",
                )
            frame = derive(frame, card)
        self._require(frame)
        frame = self._numbers(frame)
        self._resolve(frame)  # faults of the feature patterns are about columns, so they come before those about rows
        frame = self._name_units(frame)
        frame = self._label(frame)
        frame = self._place(frame)
        self.frame = self._complete(frame).sort_values("unit_id", kind="stable").reset_index(drop=True)
        if self.frame.empty:
            raise DataError(f"no unit is left; dropped were: {self._drop_text()}", source=self.source)
        self._units = self._build_units()
        refuse_leaks(self.feature_sets, self.frame, card.targets[0], card.kind, source=self.source)
        self._refuse_one_class()

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return f"EmbeddingTable({self.card.name!r}, {len(self)} units, features {', '.join(self.feature_sets) or 'none'})"

    @property
    def dropped(self) -> pd.DataFrame:
        """Rows that did not become units: reason, count, an example."""
        return pd.DataFrame(self._drops, columns=["reason", "count", "example"])

    @property
    def feature_sets(self) -> dict[str, list[str]]:
        """Columns of every feature set of the card, in the table's order."""
        if self._sets is None:
            self._sets = self._resolve(self.frame)
        return self._sets

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class values in order: the card's, or those found (whole numbers in number order); None for a regression."""
        return class_values(self.card, self.labels())

    @property
    def digest(self) -> str:
        """SHA-256 over units, labels and features as read, the same for any order of rows and files."""
        if self._digest is None:
            hashed = hashlib.sha256(self._units.digest.encode())
            for target in self.card.targets:
                values = self.frame[target]
                text = values.to_numpy(dtype="<f8").tobytes() if self.card.kind == "regression" else "\n".join(map(str, values)).encode()
                hashed.update(f"\n{target}\n".encode() + text)
            for name in self.feature_sets:
                columns, array = self.features(name)
                hashed.update(f"\n{name}\n{columns}\n".encode() + np.ascontiguousarray(array, dtype="<f4").tobytes())
                if self.card.features[name].product is not None:  # an alias on a card is one version today and another tomorrow
                    hashed.update(f"\n{self.products[name].product.name}\n".encode())
            self._digest = hashed.hexdigest()
        return self._digest

    def units(self) -> UnitTable:
        """The units, without their labels."""
        return self._units

    def features(self, name: str) -> tuple[list[str], NDArray[np.float32]]:
        """Columns and values (n, d) of a feature set, a row a unit in the order of `units()`; NaN where missing.

        Presto's scaled channels are a sequence: (n, months, channels).

        Raises:
            DataError: No such set.
        """
        columns = self.feature_sets.get(name)
        if columns is None:  # a union of sets
            if set_of(name, self.card.features) is None:
                raise DataError(f"no feature set {name!r} (there are {sorted(self.feature_sets)})", source=self.source)
            columns = self._shown.feature_columns(name, [str(column) for column in self.frame.columns], source=self.source)
        if name not in self._arrays:
            values = self.frame[columns].to_numpy(dtype=np.float32, na_value=np.nan)
            if self.card.reader == "presto":
                from rs05bench.datasets.tables.presto_arrays import as_sequence

                values = as_sequence(values, columns)
            self._arrays[name] = values
        return columns, self._arrays[name]

    def labels(self, target: str | None = None) -> pd.Series:
        """Labels by `unit_id` in the order of `units()`: class values (text, as in `classes`) or float64.

        Args:
            target: One of the card's targets; the first by default.
        """
        target = target or self.card.targets[0]
        if target not in self.card.targets:
            raise DataError(f"no target {target!r} (there are {self.card.targets})", source=self.source)
        return pd.Series(self.frame[target].to_numpy(), index=pd.Index(self.frame["unit_id"], name="unit_id"), name=target)

    def scored(self, target: str | None = None) -> UnitLabels:
        """What predictions of a target (default the first) are scored with."""
        return UnitLabels.of(self.card, self.labels(target))

    # Reading ---------------------------------------------------------------------------------------------------------------------------

    def _read(self) -> pd.DataFrame:
        card = self.card
        if card.reader == "presto":
            from rs05bench.datasets.tables.presto_arrays import read_presto

            return read_presto(self.root)
        if card.reader != "table":
            raise DataError(f"reader {card.reader!r} is not one of {', '.join(READERS)}", source=self.source)
        text = {*card.unit, *card.place, *card.groups, *card.fairness_groups}
        text |= {key for other in card.joins for key in ([other.on] if isinstance(other.on, str) else other.on.values())}
        text |= self.where.keys() - {name for name in self._needed() if name not in text}  # a number that is filtered by stays one
        if card.kind != "regression":
            text |= set(card.targets)
        if card.official is not None:
            text.add(card.official.column)
        text.discard(card.year or "")
        frame, self.remarks = read_files(self.root, card.files, text=text, needed=self._needed(), source=self.source)
        frame = melt_years(frame, card)
        frame = self._filter(frame, only_present=True)  # before the joins, so that what they drop is counted among the wanted rows
        for other in card.joins:
            before = len(frame)
            frame, alone = join(frame, other, card, self.root, text=text, source=self.source)
            if alone and other.how == "inner":
                self._note(f"no partner in {other.file}", alone)
            if frame.empty:
                raise DataError(f"none of {before} rows has a partner in {other.file}", source=self.source)
        return frame

    @property
    def where(self) -> dict[str, list[Any]]:
        """The card's filters: column -> the values that stay."""
        return {column: wanted if isinstance(wanted, list) else [wanted] for column, wanted in self.card.preprocessing.where.items()}

    def _needed(self) -> list[str]:
        card, where = self.card, self.card.coordinates
        named = [
            card.year,
            card.time,
            card.official.column if card.official else None,
            where.x if where else None,
            where.y if where else None,
        ]
        patterns = [item for members in card.features.values() for item in patterns_of(members) if item not in card.features]
        return [*card.targets, *card.unit, *card.place, *card.groups, *card.fairness_groups, *filter(None, named), *patterns]

    def _filter(self, frame: pd.DataFrame, *, only_present: bool = False) -> pd.DataFrame:
        for column, wanted in self.where.items():
            if column not in frame.columns:
                if only_present:
                    continue
                raise DataError(f"preprocessing.where: there is no column {column!r}", source=self.source)
            keep = find_keys(wanted, frame[column], f"preprocessing.where: column {column!r}", source=self.source)
            self._note(f"preprocessing.where keeps only {column} {', '.join(sorted(map(str, wanted)))}", int((~keep).sum()))
            frame = frame[keep].reset_index(drop=True)
        return frame

    def _numbers(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Feature columns of numbers that were kept as text (`01` to `12`) as numbers."""
        columns = {column for members in self._columns_of(frame).values() for column in members}
        text = [name for name in columns if pd.api.types.is_object_dtype(frame[name].dtype)]
        numbers = {name: pd.to_numeric(frame[name], errors="coerce") for name in text}
        whole = {
            name: values for name, values in numbers.items() if values.notna().any() and not (frame[name].notna() & values.isna()).any()
        }
        return frame.assign(**whole) if whole else frame

    def _require(self, frame: pd.DataFrame) -> None:
        card = self.card
        wanted: dict[str, list[str]] = {
            "targets": card.targets, "unit": card.unit, "place": card.place, "groups": card.groups, "fairness_groups": card.fairness_groups,
            "year": [card.year] if card.year else [], "time": [card.time] if card.time else [],
            "official.column": [card.official.column] if card.official else [],
        }  # fmt: skip
        if card.coordinates is not None and not card.coordinates.geometry:
            wanted["coordinates"] = [name for name in (card.coordinates.x, card.coordinates.y) if name]
        for field, names in wanted.items():
            for name in names:
                if name not in frame.columns:
                    raise DataError(
                        f"column {name!r} (card field {field}) is missing; the table has {some_columns(frame)}",
                        source=self.source,
                        remedy=did_you_mean(name, frame),
                    )

    def _columns_of(self, frame: pd.DataFrame) -> dict[str, list[str]]:
        own = {FILE_COLUMN, ROW_COLUMN, "unit_id", "geometry"}
        columns = [name for name in map(str, frame.columns) if name not in own]
        self._shown, self.products = card_with_columns(self.card, columns, source=self.source)
        return {name: self._shown.feature_columns(name, columns, source=self.source) for name in self._shown.features}

    def _resolve(self, frame: pd.DataFrame) -> dict[str, list[str]]:
        sets = self._columns_of(frame)
        for name, members in sets.items():
            if not members:
                raise DataError(f"features.{name} holds no column that may be a feature", source=self.source)
            for column in members:
                if not (pd.api.types.is_numeric_dtype(frame[column]) or pd.api.types.is_bool_dtype(frame[column])):
                    raise DataError(
                        f"column {column!r} of features.{name} holds text, e.g. {frame[column].dropna().iloc[:1].tolist()}",
                        source=self.source,
                        remedy="Features are numbers: encode it (one 0/1 column a value), or take it out of the set.",
                    )
        return sets

    # Rows ------------------------------------------------------------------------------------------------------------------------------

    def _name_units(self, frame: pd.DataFrame) -> pd.DataFrame:
        parts = self.card.unit or [FILE_COLUMN, ROW_COLUMN]
        keys = {part: as_keys(frame[part]) for part in parts}
        blank = pd.DataFrame(keys).isna().any(axis=1).to_numpy()
        if blank.any():
            raise DataError(
                f"the unit id ({' + '.join(parts)}) is blank in {int(blank.sum())} rows, first row {int(np.flatnonzero(blank)[0])}",
                source=self.source,
                remedy="Fill it, or leave `unit` empty so that file name and row are the id.",
            )
        return frame.assign(unit_id=_joined(list(keys.values())))

    def _label(self, frame: pd.DataFrame) -> pd.DataFrame:
        frame = self._labelled(with_targets(frame, self.card, self.remarks, source=self.source))
        return without_unknown_classes(frame, self.card, source=self.source, note=self._note)

    def _labelled(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows with a label of any target; all rows where those without one were asked for."""
        if self._unlabelled:
            return frame
        return self._drop(frame, frame[self.card.targets].isna().all(axis=1).to_numpy(), "no label")

    def _place(self, frame: pd.DataFrame) -> pd.DataFrame:
        where = self.card.coordinates
        if where is None:
            return frame.assign(lon=np.nan, lat=np.nan) if not {"lon", "lat"} & set(frame.columns) else frame
        if where.geometry:
            lon, lat = representative_points(frame, source=self.source)
            return self._drop(frame.assign(lon=lon, lat=lat), np.isnan(lon), "no geometry")
        frame = self._drop(frame, frame[[where.x, where.y]].isna().any(axis=1).to_numpy(), f"no position ({where.x}, {where.y})")
        refuse_swapped(frame, where, source=self.source)
        return frame

    def _complete(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Infinite features count as missing; the card says whether their units are dropped or kept."""
        columns = list(dict.fromkeys(column for members in self._resolve(frame).values() for column in members))
        if not columns:
            return frame
        values = np.array(frame[columns].to_numpy(dtype=np.float64, na_value=np.nan))
        self.remarks += mark_missing(values, columns, self._resolve(frame), self.products, source=self.source)
        infinite = np.isinf(values)
        if infinite.any():
            frame = frame.assign(
                **{columns[c]: np.where(infinite[:, c], np.nan, values[:, c]) for c in np.flatnonzero(infinite.any(axis=0))}
            )
        missing = ~np.isfinite(values)
        empty = [columns[c] for c in np.flatnonzero(missing.all(axis=0))] if len(frame) else []
        if empty:
            raise DataError(
                f"feature column {empty[0]!r} has no value at all",
                source=self.source,
                remedy="Export it again, or list it under never_features.",
            )
        if self.card.missing == "keep":
            return frame
        worst = [columns[c] for c in np.argsort(-missing.sum(axis=0), kind="stable") if missing[:, c].any()][:3]
        return self._drop(frame, missing.any(axis=1), f"missing feature ({', '.join(worst)}{', …' if len(worst) == 3 else ''})")

    def _drop(self, frame: pd.DataFrame, rows: NDArray[np.bool_], reason: str) -> pd.DataFrame:
        if not rows.any():
            return frame
        self._note(reason, int(rows.sum()), str(frame["unit_id"].iloc[int(np.flatnonzero(rows)[0])]))
        return frame[~rows].reset_index(drop=True)

    def _note(self, reason: str, count: int, example: str = "") -> None:
        if count:
            self._drops.append({"reason": reason, "count": count, "example": example})

    def _drop_text(self) -> str:
        return "; ".join(f"{item['reason']}: {item['count']}" for item in self._drops) or "none"

    # Units -----------------------------------------------------------------------------------------------------------------------------

    def _build_units(self) -> UnitTable:
        card, frame = self.card, self.frame
        data: dict[str, Any] = {"unit_id": frame["unit_id"]}
        crs = "EPSG:4326"
        if card.coordinates is not None:
            geometry = card.coordinates.geometry
            crs = crs if geometry else card.coordinates.crs
            data["lon"] = frame["lon" if geometry else card.coordinates.x]
            data["lat"] = frame["lat" if geometry else card.coordinates.y]
            if crs == "EPSG:4326" and not geometry and "lon" in str(card.coordinates.x).lower():
                data["lon"] = self._half_turned(data["lon"])
        if place := card.place or [name for name in card.unit if name != card.year]:
            data["place"] = _joined([as_keys(frame[name]).fillna("") for name in place])
        if card.year:
            data["year"] = frame[card.year]
        if card.time:
            data["time"] = frame[card.time]
        if card.official:
            data["official"] = self._official(frame[card.official.column])
        groups = list(dict.fromkeys([*card.groups, *card.fairness_groups]))
        for name in groups:
            values = as_keys(frame[name])
            refuse_two_spellings(values, f"group column {name!r}", source=self.source)
            # A group no split moves may be unknown; one that a split moves may not, and UnitTable refuses it.
            data[name] = values.where(values.notna(), "unknown") if name in card.fairness_groups and not self._moved(name) else values
        counts = list(dict.fromkeys(name for held in self.products.values() for name in held.product.observation_counts if name in frame))
        data |= {name: frame[name] for name in counts}
        units = UnitTable.build(pd.DataFrame(data), groups=groups, crs=crs, source=self.source, observations=counts)
        # Derived columns were added one by one; a copy puts them side by side.
        self.frame = frame.copy()
        self.frame["lon"], self.frame["lat"] = units.frame["lon"].to_numpy(), units.frame["lat"].to_numpy()
        return units

    def _half_turned(self, longitude: pd.Series) -> pd.Series:
        """Longitudes of 0 to 360 degrees as those of -180 to 180."""
        degrees = pd.to_numeric(longitude, errors="coerce")
        east = (degrees > 180) & (degrees <= 360)
        if not east.any() or (degrees < 0).any():
            return longitude
        self.remarks.append("longitudes of 0 to 360 degrees: those beyond 180 were read as west of Greenwich")
        return degrees.where(~east, degrees - 360)

    def _moved(self, column: str) -> bool:
        from rs05bench.protocol.names import parse_budget
        from rs05bench.protocol.splits import Split

        words = [Split(split).group for split in self.card.splits] + [parse_budget(budget).group for budget in self.card.budgets]
        return column == self.card.split_options.region or any(self.card.group_column(word) == column for word in words)

    def _official(self, values: pd.Series) -> pd.Series:
        official = self.card.official
        assert official is not None
        roles = {
            value: role for role, named in (("train", official.train), ("val", official.val), ("test", official.test)) for value in named
        }
        keys = as_keys(values)
        others = sorted(set(keys.dropna()) - roles.keys())
        if again := [found for found in two_spellings(others, roles) if set(found.spelled) & roles.keys()]:
            raise DataError(
                f"official: column {official.column!r} holds one role in two spellings: {again[0]}",
                source=self.source,
                remedy="List both under `official`, or write it one way in the file.",
            )
        if others:
            count, named = int(keys.isin(others).sum()), ", ".join(others[:4])
            self.remarks.append(f"official: {count:,} units have {official.column} {named}, which has no role in the card")
        return keys.map(roles).fillna("")

    def _refuse_one_class(self) -> None:
        target = self.card.targets[0]
        found = self.frame[target].dropna().unique()
        if len(found) == 1:
            what = "class" if self.card.kind != "regression" else "value"
            raise DataError(
                f"target {target!r} has one {what} only ({found[0]!r} in all {len(self)} units); dropped were: {self._drop_text()}",
                source=self.source,
                remedy="There is nothing to learn: check the filters and the label column.",
            )


def _joined(keys: list[pd.Series]) -> NDArray[np.object_]:
    """Keys of several columns as one text a row, with `_` between them."""
    text = keys[0]
    for more in keys[1:]:
        text = text + "_" + more
    return text.to_numpy(dtype=object)
