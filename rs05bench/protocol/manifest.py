"""Split manifests: the frozen table fold x unit -> role, shift, with a digest over its content."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.blocks import nearest_distance
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.hashing import content_digest
from rs05bench.protocol.names import parse_split
from rs05bench.protocol.splitters import ROLES, SHIFTS, draw_folds
from rs05bench.protocol.units import UnitTable

SCHEMA_VERSION = 1
COLUMNS = ("fold", "unit_id", "role", "shift", "region", "block")
_CATEGORIES = ("fold", "role", "shift", "region", "block")


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
    split: str
    table: pd.DataFrame
    units: pd.DataFrame
    card: dict[str, Any] = field(default_factory=dict)
    version: int = 1

    @property
    def folds(self) -> list[str]:
        """Names of the folds, in order."""
        return list(dict.fromkeys(self.table["fold"].astype(str)))

    @property
    def digest(self) -> str:
        """SHA-256 over the content, recomputed from the table and the positions."""
        return manifest_digest(self.table, self.units)

    @property
    def name(self) -> str:
        """`task/split@vN`."""
        return f"{self.task}/{self.split}@v{self.version}"

    def fold(self, name: str) -> pd.DataFrame:
        """The rows of one fold, sorted by `unit_id`.

        Raises:
            ProtocolError: No such fold.
        """
        rows = self.table[self.table["fold"].astype(str) == name]
        if rows.empty:
            raise ProtocolError(f"{self.name} has no fold {name!r} (folds: {', '.join(self.folds)})")
        return rows

    def grounds(self) -> pd.Series:
        """The ground every test unit stands on, indexed by `unit_id`: the name of the fold that holds it out.

        Empty for splits in which no unit is both held out in one fold and tested at home in another (`random`, `until-<year>`, …).
        """
        name, role = parse_split(self.split), self.table["role"].astype(str)
        if name.rule == "within":
            first = self.table[role.isin(["test_id", "test_ood"])].drop_duplicates("unit_id")
            return pd.Series(first["region"].astype(str).to_numpy(), index=first["unit_id"].to_numpy())
        shift = "both" if name.rule == "leave-group-year" else "year" if name.rule == "leave-year" else "region"
        if name.rule not in ("leave-group", "leave-year", "leave-group-year"):
            return pd.Series([], index=pd.Index([], dtype=object), dtype=object)
        held = self.table[(role == "test_ood") & (self.table["shift"].astype(str) == shift)]
        return pd.Series(held["fold"].astype(str).to_numpy(), index=held["unit_id"].to_numpy())

    def counts(self) -> pd.DataFrame:
        """Units per fold (rows) and role (columns)."""
        counted = pd.crosstab(self.table["fold"].astype(str), self.table["role"].astype(str))
        return counted.reindex(index=self.folds, columns=list(ROLES), fill_value=0)

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
        if parse_split(self.split).rule in ("random", "official"):
            return
        role = table["role"].astype(str)
        tested = set(table.loc[role.isin(["test_id", "test_ood"]), "unit_id"])
        used = table.loc[role.isin(["train", "val", "reserve"]), "unit_id"]
        both = used[used.isin(tested)]
        if len(both):
            raise ProtocolError(f"{self.name}: {both.nunique()} test units serve in training in another fold, e.g. {both.iloc[0]!r}")

    def save(self, directory: str | Path) -> Path:
        """Writes `<split>@v<N>.parquet`, `.units.parquet` and `.json` into a directory.

        Returns:
            Path of the main Parquet file.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        stem = directory / f"{self.split}@v{self.version}"
        main = stem.with_name(stem.name + ".parquet")
        self.table.to_parquet(main, index=False, compression="zstd")
        self.units.to_parquet(stem.with_name(stem.name + ".units.parquet"), index=False, compression="zstd")
        stem.with_name(stem.name + ".json").write_text(json.dumps(self.card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
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
            card = json.loads(stem.with_name(stem.name + ".json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DataError(
                f"no such file: {error.filename}", source=path, remedy="A manifest is .parquet, .units.parquet and .json together."
            ) from error
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read as a manifest: {error}", source=path) from error
        missing = [column for column in COLUMNS if column not in table.columns]
        if missing:
            raise DataError(f"is no manifest: columns {missing} are missing", source=path)
        manifest = cls(str(card.get("task")), str(card.get("split")), table, units, card, int(card.get("version", 1)))
        if verify:
            manifest.verify()
        return manifest


def manifest_digest(table: pd.DataFrame, units: pd.DataFrame) -> str:
    """SHA-256 over rows sorted by fold and unit, and over positions to 1e-7 degrees; independent of storage and row order."""
    ordered = table.assign(fold=table["fold"].astype(str)).sort_values(["fold", "unit_id"], kind="stable")
    rows = zip(*(ordered[column].astype(str) for column in COLUMNS), strict=True)
    placed = units.sort_values("unit_id", kind="stable")
    year = ["" if pd.isna(value) else str(int(value)) for value in placed["year"]]
    lon, lat = (["" if pd.isna(value) else f"{value:.7f}" for value in placed[axis]] for axis in ("lon", "lat"))
    where = zip(placed["unit_id"], lon, lat, placed["place"], year, strict=True)
    return content_digest(["\t".join(row) for row in rows] + ["\t".join(map(str, row)) for row in where])


def build_manifest(card: TaskCard, units: UnitTable, split: str, *, version: int = 1) -> SplitManifest:
    """Draws a split over the units of a task and freezes it.

    Args:
        card: The task.
        units: Its units.
        split: Split name; `+k` forms give the manifest of their base.
        version: Version to write into its name.

    Returns:
        The manifest; the same content for every order of rows, on every platform.

    Raises:
        DataError: The split is not possible on these units.
    """
    name = parse_split(split)
    ground, folds = draw_folds(card, units, name.base)
    ids = units.frame["unit_id"].to_numpy()
    parts = [
        pd.DataFrame(
            {"fold": fold.name, "unit_id": ids, "role": fold.role, "shift": fold.shift, "region": ground.region, "block": ground.block}
        )
        for fold in folds
    ]
    table = pd.concat(parts, ignore_index=True)
    for column in _CATEGORIES:
        table[column] = pd.Categorical(table[column], categories=list(dict.fromkeys(table[column])))
    keep = ["unit_id", "lon", "lat", "place", "year", "time", *units.groups]
    placed = units.frame[keep].copy()
    manifest = SplitManifest(card.name, name.base, table, placed, version=version)
    options = card.split_options
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "task": card.name,
        "split": name.base,
        "version": version,
        "rule": name.rule,
        "group": card.group_column(name.group) if name.group else None,
        "parameters": options.model_dump(mode="json"),
        "simulated": card.simulated,
        "source": card.source,
        "licence": card.licence,
        "citation": card.citation,
        "units": len(ids),
        "unlocated": int((~units.located).sum()),
        "units_digest": units.digest,
        "folds": {fold.name: {"held_out": list(fold.held_out), **_summary(fold.role, placed)} for fold in folds},
        "can_be_main": name.can_be_main,
        "digest": manifest.digest,
    }
    frozen = SplitManifest(card.name, name.base, table, placed, record, version)
    frozen.verify()
    if name.rule == "official":
        from rs05bench.protocol.audit import audit_manifest

        # A published split is kept for comparison with the literature; it is a main result only when it does not leak.
        report = audit_manifest(frozen)
        record |= {"audit": {"verdict": report.verdict}, "can_be_main": report.verdict == "clean"}
    return frozen


def load_manifest(name: str) -> SplitManifest:
    """A manifest shipped with the package, by name.

    Args:
        name: `task/split@vN`, e.g. `burn-scar/leave-biome-out@v1`; without `@vN` the newest.

    Raises:
        DataError: There is none of this name (the message lists those there are), or its digest differs.
    """
    there = shipped_manifests()
    chosen = name if name in there else next((known for known in sorted(there, reverse=True) if known.split("@")[0] == name), None)
    if chosen is None:
        raise DataError(f"no manifest {name!r}; there are: {', '.join(sorted(there)) or 'none'}", source="shipped manifests")
    return SplitManifest.load(there[chosen])


def shipped_manifests() -> dict[str, Path]:
    """Manifests shipped with the package: name -> path of the main Parquet file."""
    root = Path(__file__).parent / "manifests"
    found = sorted(path for path in root.glob("*/*@v*.parquet") if not path.name.endswith(".units.parquet"))
    return {f"{path.parent.name}/{path.name.removesuffix('.parquet')}": path for path in found}


def _summary(role: np.ndarray, placed: pd.DataFrame) -> dict[str, Any]:
    """Counts a role, and how far test lies from training, metres."""
    summary: dict[str, Any] = {"counts": {name: int((role == name).sum()) for name in ROLES}}
    lon, lat = placed["lon"].to_numpy(), placed["lat"].to_numpy()
    train = role == "train"
    for test in ("test_id", "test_ood"):
        here = role == test
        if not here.any():
            continue
        distance = nearest_distance(lon[here], lat[here], lon[train], lat[train])
        known = distance[np.isfinite(distance)]
        if len(known):
            summary[f"{test}_to_train_m"] = {"min": round(float(known.min()), 1), "median": round(float(np.median(known)), 1)}
    return summary
