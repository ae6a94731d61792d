"""Split manifests: the frozen table fold x unit -> role, shift, with a digest over its content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.atomic import write_json, writing
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.documents import read_json_mapping
from rs05bench.protocol.ground import Ground
from rs05bench.protocol.hashing import content_digest, hash_order
from rs05bench.protocol.manifest_card import describe
from rs05bench.protocol.safe_paths import inside
from rs05bench.protocol.shipped import shipped_path
from rs05bench.protocol.splits import ROLES, SHIFTS, Fold, Split
from rs05bench.protocol.splitters import draw_folds
from rs05bench.protocol.units import UnitTable

COLUMNS = ("fold", "unit_id", "role", "shift", "region", "block")


MOST_KEPT = 8
"""Folds whose members a manifest keeps as arrays, and orders of labels that a fold keeps."""


class FoldMembers:
    """The units of a fold as arrays, made once and shared by every cell of the fold.

    Attributes:
        unit_id: (n,) text, sorted.
        role: (n,) text.
        region: (n,) text.
        block: (n,) text.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        self.unit_id: NDArray[np.object_] = rows["unit_id"].to_numpy(dtype=object)
        self.role, self.region, self.block = (np.asarray(_text(rows[name]), dtype=object) for name in ("role", "region", "block"))
        self._seen: tuple[pd.DataFrame, NDArray[np.int64]] | None = None
        self._ordered: dict[tuple[str, int], NDArray[np.object_]] = {}

    def of_role(self, role: str) -> NDArray[np.object_]:
        """The units of a role."""
        return self.unit_id[self.role == role]

    def in_hash_order(self, role: str, seed: int) -> NDArray[np.object_]:
        """The units of a role in the order in which the labels of a seed are drawn; a prefix of it is a nested draw."""
        key = role, seed
        if key not in self._ordered:
            while len(self._ordered) >= MOST_KEPT:
                self._ordered.pop(next(iter(self._ordered)))
            ids = self.of_role(role)
            self._ordered[key] = ids[hash_order(ids, seed, "label")]
        return self._ordered[key]

    @cached_property
    def block_of(self) -> dict[str, str]:
        """Block of every unit."""
        return dict(zip(self.unit_id, self.block, strict=True))

    def rows_in(self, units: pd.DataFrame) -> NDArray[np.int64]:
        """(n,) row of each unit in a table with a column `unit_id`; -1 where it is not there."""
        if self._seen is None or self._seen[0] is not units:
            known = pd.Index(units["unit_id"].to_numpy(dtype=object), dtype=object)
            self._seen = units, known.get_indexer(pd.Index(self.unit_id, dtype=object)).astype(np.int64)
        return self._seen[1]


@dataclass(frozen=True, slots=True)
class SplitManifest:
    """A split of a task, frozen.

    Attributes:
        task: Task name.
        split: Split name, without `+k` (the budget draws those).
        version: Version of the manifest; a change is a new version.
        table: Columns `fold, unit_id, role, shift, region, block`, sorted by fold and unit.
        units: `unit_id, lon, lat, place, year, time` and the group columns, sorted by `unit_id`.
        card: Rule, parameters, seed, source, counts, distances, digests, licence, citation.
    """

    task: str
    split: Split
    table: pd.DataFrame
    units: pd.DataFrame
    card: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    _members: dict[str, FoldMembers] = field(default_factory=dict, init=False, repr=False, compare=False)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from rs05bench.protocol.notebook import manifest_html

        return manifest_html(self)

    @property
    def folds(self) -> list[str]:
        """Names of the folds, in order."""
        return [str(name) for name in self.table["fold"].unique()]

    @property
    def digest(self) -> str:
        """SHA-256 over the content, recomputed from the table and the positions."""
        return manifest_digest(self.table, self.units)

    @property
    def name(self) -> str:
        """`task/split@vN`, after `simulated/` where it is over simulated units."""
        return f"{'simulated/' if self.card.get('simulated') else ''}{self.task}/{self.split}@v{self.version}"

    def fold(self, name: str) -> pd.DataFrame:
        """The rows of one fold, sorted by `unit_id`.

        Raises:
            ProtocolError: No such fold.
        """
        column = self.table["fold"]
        if isinstance(column.dtype, pd.CategoricalDtype):
            names = [str(value) for value in column.cat.categories]
            inside = column.cat.codes.to_numpy() == (names.index(name) if name in names else -2)
        else:
            inside = (column.astype(str) == name).to_numpy()
        rows = self.table[inside]
        if rows.empty:
            raise ProtocolError(f"{self.name} has no fold {name!r} (folds: {', '.join(self.folds)})")
        return rows

    def members(self, fold: str) -> FoldMembers:
        """The units of one fold as arrays; those of the last few folds asked for are kept.

        Raises:
            ProtocolError: No such fold.
        """
        if fold not in self._members:
            found = FoldMembers(self.fold(fold))
            while len(self._members) >= MOST_KEPT:
                self._members.pop(next(iter(self._members)))
            self._members[fold] = found
        return self._members[fold]

    def grounds(self) -> pd.Series:
        """The ground every test unit stands on, indexed by `unit_id`: the name of the fold that holds it out.

        Empty for splits in which no unit is both held out in one fold and tested at home in another (`random`, `until-<year>`, …).
        """
        rule, role = self.split.rule, self.table["role"].astype(str)
        if rule.same_units is None:
            return pd.Series([], index=pd.Index([], dtype=object), dtype=object)
        if rule.same_units == "region":
            first = self.table[role.isin(["test_id", "test_ood"])].drop_duplicates("unit_id")
            return pd.Series(first["region"].astype(str).to_numpy(), index=first["unit_id"].to_numpy())
        held = self.table[(role == "test_ood") & (self.table["shift"].astype(str) == rule.shift)]
        return pd.Series(held["fold"].astype(str).to_numpy(), index=held["unit_id"].to_numpy())

    def counts(self) -> pd.DataFrame:
        """Units per fold (rows) and role (columns)."""
        counted = pd.crosstab(self.table["fold"], self.table["role"])
        counted.index, counted.columns = counted.index.astype(str), counted.columns.astype(str)
        return counted.reindex(index=self.folds, columns=list(ROLES), fill_value=0).rename_axis(index="fold", columns="role")

    def verify(self) -> None:
        """Checks the digest and the rules every manifest keeps.

        Raises:
            DataError: The digest differs from the card's, or the table is not a manifest.
            ProtocolError: A unit twice in a fold, or test blocks that differ between folds or serve in training.
        """
        said = self.card.get("digest")
        if said is not None and said != self.digest:
            raise DataError(
                f"content digest is {self.digest[:16]}…, and its card says {str(said)[:16]}…",
                source=self.name,
                remedy="The manifest was changed after it was frozen. Fetch it again, or build a new version.",
            )
        table = self.table
        for column, allowed in (("role", ROLES), ("shift", SHIFTS)):
            unknown = sorted(set(table[column].astype(str)) - set(allowed))
            if unknown:
                raise DataError(f"column {column!r} holds {unknown}; allowed are {list(allowed)}", source=self.name)
        if table.duplicated(["fold", "unit_id"]).any():
            twice = table[table.duplicated(["fold", "unit_id"])].iloc[0]
            raise ProtocolError(f"{self.name}: unit {twice['unit_id']!r} has two roles in fold {twice['fold']!r}")
        if not self.split.rule.fixed_tests:
            return
        role = table["role"].astype(str)
        tested = set(table.loc[role.isin(["test_id", "test_ood"]), "unit_id"])
        used = table.loc[role.isin(["train", "val", "reserve"]), "unit_id"]
        both = used[used.isin(tested)]
        if len(both):
            raise ProtocolError(f"{self.name}: {both.nunique()} test units serve in training in another fold, e.g. {both.iloc[0]!r}")

    def save(self, directory: str | Path, *, compression_level: int = 3) -> Path:
        """Writes `<split>@v<N>.parquet`, `.units.parquet` and `.json` into a directory.

        Args:
            directory: Made where missing.
            compression_level: Of Zstandard, 1 to 22; what is shipped takes its time.

        Returns:
            Path of the main Parquet file.

        Raises:
            DataError: The split's name leads outside the directory.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        stem = inside(directory, f"{self.split}@v{self.version}")
        main = stem.with_name(stem.name + ".parquet")
        with writing(main) as part:
            self.table.to_parquet(part, index=False, compression="zstd", compression_level=compression_level)
        with writing(stem.with_name(stem.name + ".units.parquet")) as part:
            self.units.to_parquet(part, index=False, compression="zstd", compression_level=compression_level)
        write_json(stem.with_name(stem.name + ".json"), self.card, indent=2)  # last: a manifest without its card is unfinished
        return main

    @classmethod
    def load(cls, path: str | Path, *, verify: bool = True) -> SplitManifest:
        """Reads a manifest from its Parquet file (its card and units lie beside it).

        Args:
            path: The `.parquet` file, or a directory that holds exactly one manifest.
            verify: Whether to check digest and rules.

        Raises:
            DataError: A file is missing, unreadable or not a manifest.
        """
        path = Path(path)
        if path.is_dir():
            found = sorted(item for item in path.glob("*.parquet") if not item.name.endswith(".units.parquet"))
            if len(found) != 1:
                raise DataError(f"expected one manifest in this directory, found {len(found)}", source=path, remedy="Name the file.")
            path = found[0]
        stem = path.with_suffix("")
        try:
            table = pd.read_parquet(path)
            units = pd.read_parquet(stem.with_name(stem.name + ".units.parquet"))
            card = read_json_mapping(stem.with_name(stem.name + ".json"))
        except FileNotFoundError as error:
            raise DataError(
                f"no such file: {error.filename}", source=path, remedy="A manifest is .parquet, .units.parquet and .json together."
            ) from error
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read as a manifest: {error}", source=path) from error
        missing = [column for column in COLUMNS if column not in table.columns]
        if missing:
            raise DataError(f"not a manifest: columns {missing} are missing", source=path)
        try:
            split = Split(str(card.get("split")))
        except ValueError as error:
            raise DataError(f"not a manifest: {error}", source=path) from error
        manifest = cls(str(card.get("task")), split, table, units, card, int(card.get("version", 1)))
        if verify:
            manifest.verify()
        return manifest


def manifest_digest(table: pd.DataFrame, units: pd.DataFrame) -> str:
    """SHA-256 over rows sorted by fold and unit, and over positions to 1e-7 degrees; independent of storage and row order."""
    ordered = table.assign(fold=table["fold"].astype(str)).sort_values(["fold", "unit_id"], kind="stable")
    rows = map("\t".join, zip(*(_text(ordered[column]) for column in COLUMNS), strict=True))
    placed = units.sort_values("unit_id", kind="stable")
    year = ["" if pd.isna(value) else str(int(value)) for value in placed["year"]]
    lon, lat = (["" if pd.isna(value) else f"{value:.7f}" for value in placed[axis]] for axis in ("lon", "lat"))
    where = map("\t".join, zip(_text(placed["unit_id"]), lon, lat, _text(placed["place"]), year, strict=True))
    return content_digest(chain(rows, where))


def _text(values: pd.Series) -> list[str]:
    """Values as text; a category is spelled once, not once a row."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return list(values.cat.categories.astype(str).to_numpy(dtype=object)[values.cat.codes.to_numpy()])
    return list(values.astype(str).to_numpy(dtype=object))


def build_manifest(
    card: TaskCard,
    units: UnitTable,
    split: str,
    *,
    version: int = 1,
    labels: Mapping[str, pd.Series] | None = None,
) -> SplitManifest:
    """Draws a split over the units of a task and freezes it.

    Args:
        card: The task.
        units: Its units.
        split: Split name; `+k` forms give the manifest of their base.
        version: Version to write into its name.
        labels: Class labels by target, indexed by `unit_id`: counted on the card, where they are available. They move no unit.

    Returns:
        The manifest; the same content for every order of rows, on every platform.

    Raises:
        DataError: The split is not possible on these units.
    """
    ground, folds = draw_folds(card, units, split)
    bare = _manifest_of(card, units, Split(split).base, ground, folds, version)
    record = describe(card, bare.split, folds, bare, ground.region, units.digest, labels)
    return replace(bare, card=record)


def draw_manifest(card: TaskCard, units: UnitTable, split: str) -> SplitManifest:
    """A split to look at: the roles of `build_manifest` without its card, whose counts, distances and digests cost more than the draw.

    Raises:
        DataError: The split is not possible on these units.
    """
    ground, folds = draw_folds(card, units, split)
    return _manifest_of(card, units, Split(split).base, ground, folds, 1)


def _manifest_of(card: TaskCard, units: UnitTable, name: Split, ground: Ground, folds: Sequence[Fold], version: int) -> SplitManifest:
    def repeated(values: NDArray[Any]) -> pd.Categorical:
        # The same in every fold, so spelled once; categories in the order of their first rows.
        codes, names = pd.factorize(values)
        return pd.Categorical.from_codes(np.tile(codes, len(folds)), categories=names)

    def by_fold(parts: list[NDArray[Any]]) -> pd.Categorical:
        codes, names = pd.factorize(np.concatenate(parts).astype(object))
        return pd.Categorical.from_codes(codes, categories=names)

    ids = units.frame["unit_id"].to_numpy(dtype=object)
    table = pd.DataFrame(
        {
            "fold": pd.Categorical.from_codes(np.repeat(np.arange(len(folds)), len(ids)), categories=[fold.name for fold in folds]),
            "unit_id": np.tile(ids, len(folds)),
            "role": by_fold([fold.role for fold in folds]),
            "shift": by_fold([np.broadcast_to(fold.shift, len(ids)) for fold in folds]),
            "region": repeated(ground.region),
            "block": repeated(ground.block),
        }
    )
    placed = units.frame[["unit_id", "lon", "lat", "place", "year", "time", *units.groups]].copy()
    return SplitManifest(card.name, name, table, placed, version=version)


def load_manifest(name: str) -> SplitManifest:
    """A manifest of the package, by name: from its own files, from those fetched before, or from the Hub by its digest.

    Args:
        name: `task/split@vN`, e.g. `burn-scar/leave-biome-out@v1`; without `@vN` the newest.

    Raises:
        DataError: There is none of this name (the message lists those there are), its digest differs, or it is not on this machine and
            cannot be fetched.
    """
    return SplitManifest.load(shipped_path(name))


def open_manifest(name_or_path: str | Path) -> SplitManifest:
    """A manifest by its file or folder, or a shipped one by its name.

    Raises:
        DataError: There is neither, or it is not what it should be.
    """
    if Path(name_or_path).exists():
        return SplitManifest.load(name_or_path)
    if str(name_or_path).endswith(".parquet"):
        raise DataError("no such file", source=name_or_path)
    return load_manifest(str(name_or_path))
