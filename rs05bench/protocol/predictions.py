"""Predictions: what a model says of the units, in files anyone could have made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_json
from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.documents import read_json
from rs05bench.protocol.hashing import content_digest
from rs05bench.protocol.metrics import ClassAnswers, UnitAnswers, UnitSums, ValueAnswers
from rs05bench.protocol.metrics.temperature import shrunk_temperature
from rs05bench.protocol.scored_labels import ScoredLabels, UnitLabels

SCHEMA_VERSION = 1
PROBABILITY_PREFIX = "p_"
RECORD, TABLE = "predictions.json", "units.parquet"


class Predictions(ABC):
    """What a model says of the units of a fold: of a table, or maps of chips.

    Attributes:
        classes: Class values; None for numbers.
        info: Model card, cell, digests, versions; written to `predictions.json`.
    """

    classes: tuple[str, ...] | None
    info: dict[str, Any]

    @staticmethod
    def of_classes(unit_id: NDArray[Any], role: str, probabilities: NDArray[Any], classes: Sequence[str]) -> TablePredictions:
        """Predictions of class probabilities (n, K) for one role."""
        ids = np.asarray(unit_id, dtype=object)
        roles = np.full(len(ids), role, dtype=object)
        return TablePredictions(ids, roles, None, np.asarray(probabilities, dtype=np.float32), tuple(classes))

    @staticmethod
    def of_values(unit_id: NDArray[Any], role: str, y: NDArray[Any], interval: NDArray[Any] | None = None) -> TablePredictions:
        """Predictions of numbers (n,) for one role, with their 90 % intervals (n, 2)."""
        ids = np.asarray(unit_id, dtype=object)
        bounds = None if interval is None else np.asarray(interval, dtype=np.float64)
        return TablePredictions(ids, np.full(len(ids), role, dtype=object), np.asarray(y, dtype=np.float64), None, None, bounds)

    @abstractmethod
    def __len__(self) -> int:
        """How many units are predicted, over all roles."""

    @abstractmethod
    def unit_ids(self, role: str) -> NDArray[np.object_]:
        """Units predicted under a role, in stored order."""

    @abstractmethod
    def sums(self, role: str, labels: ScoredLabels, units: NDArray[np.object_], temperature: float | None = None) -> UnitSums:
        """Sums of the predictions beside the truth.

        Args:
            role: The role the units have.
            labels: Their labels.
            units: (n,) unit ids; each must be predicted under the role.
            temperature: Scales the probabilities for the scores after scaling; None for none.

        Raises:
            DataError: Units are missing or predicted under another role; the classes differ; labels of another kind.
        """

    @abstractmethod
    def temperature(self, labels: ScoredLabels, budget: LabelBudget | None) -> float | None:
        """The temperature fitted on the labels the budget shows of its validation units, and on no other; None without any."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 over units, roles and values; the same for two copies."""

    @abstractmethod
    def write(self, directory: str | Path) -> Path:
        """Writes the predictions into a directory, `predictions.json` last."""

    @abstractmethod
    def with_info(self, info: dict[str, Any]) -> Predictions:
        """The same predictions with other info."""

    @abstractmethod
    def discard(self) -> None:
        """Removes files that were only there until the predictions were stored; nothing for predictions in memory."""

    def _check(self, labels: ScoredLabels, wanted: type[ScoredLabels], source: str | Path) -> None:
        """Refuses labels of another kind or over other classes."""
        if not isinstance(labels, wanted):
            held, given = ("a table", "masks of chips") if wanted is UnitLabels else ("maps of chips", "a value per unit")
            raise DataError(
                f"holds predictions of {held}, and the labels are {given}", source=source, remedy="Give those of the same task."
            )
        if labels.classes is not None and self.classes != labels.classes:
            raise DataError(f"predictions are over the classes {self.classes}, and the task has {labels.classes}", source=source)


def missing_units(predictions: Predictions, role: str, missing: NDArray[np.object_], n: int, source: str | Path) -> DataError:
    """The error for units that are not predicted under their role."""
    for other in ("test_id", "test_ood"):
        elsewhere = set(predictions.unit_ids(other)).intersection(missing) if other != role else set()
        if elsewhere:
            return DataError(f"unit {min(elsewhere)!r} is predicted as {other}, and its role here is {role}", source=source)
    return DataError(
        f"{len(missing)} of {n} units of role {role} have no prediction, e.g. {missing[0]!r}",
        source=source,
        remedy="Predict every unit of the roles test_id and test_ood.",
    )


@dataclass(frozen=True, slots=True)
class TablePredictions(Predictions):
    """Predictions for units of a table, one row per unit.

    Attributes:
        unit_id: Shape (n,), text.
        role: Shape (n,), the role each was predicted under.
        y: Regression: shape (n,), float64, in the target's unit.
        probabilities: Classification: shape (n, K), float32, rows summing to 1.
        classes: The K class values.
        interval: Regression, optional: 90 % interval, shape (n, 2).
        info: Model card, cell, digests, versions; written to `predictions.json`.
    """

    unit_id: NDArray[np.object_]
    role: NDArray[np.object_]
    y: NDArray[np.float64] | None = None
    probabilities: NDArray[np.float32] | None = None
    classes: tuple[str, ...] | None = None
    interval: NDArray[np.float64] | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.unit_id)

    def unit_ids(self, role: str) -> NDArray[np.object_]:
        """Units predicted under a role."""
        return self.unit_id[self.role == role]

    def sums(self, role: str, labels: ScoredLabels, units: NDArray[np.object_], temperature: float | None = None) -> UnitAnswers:
        """See `Predictions.sums`."""
        source = self.info.get("source", "predictions")
        self._check(labels, UnitLabels, source)
        assert isinstance(labels, UnitLabels)
        if labels.classes is None and self.y is None:
            raise DataError("the task is a regression, and the predictions hold no column 'y'", source=source)
        mine = np.flatnonzero(self.role == role)
        found = pd.Index(self.unit_id[mine], dtype=object).get_indexer(pd.Index(units, dtype=object))
        if (found < 0).any():
            raise missing_units(self, role, units[found < 0], len(units), source)
        rows, truth = mine[found], labels.encoded[labels.at(units)]
        if labels.classes is None:
            interval = None if self.interval is None else self.interval[rows]
            return ValueAnswers.of(truth, np.asarray(self.y)[rows], interval, origin=labels.origin)
        answers = ClassAnswers.of(truth, np.asarray(self.probabilities)[rows], labels.classes, ignore_index=None)
        return answers if temperature is None else answers.scaled_by(temperature)

    def temperature(self, labels: ScoredLabels, budget: LabelBudget | None) -> float | None:
        """See `Predictions.temperature`."""
        if budget is None or not len(budget.val) or labels.classes is None or not isinstance(labels, UnitLabels):
            return None
        held = {str(unit) for unit in budget.val}
        mine = np.flatnonzero(self.role == "val")
        mine = mine[[unit in held for unit in self.unit_id[mine]]]
        at = labels.at(self.unit_id[mine])
        mine, at = mine[at >= 0], at[at >= 0]
        return shrunk_temperature(labels.encoded[at], np.asarray(self.probabilities)[mine]) if len(mine) else None

    def with_info(self, info: dict[str, Any]) -> TablePredictions:
        """See `Predictions.with_info`."""
        return replace(self, info=info)

    def discard(self) -> None:
        """Nothing: they are in memory."""

    def of_role(self, role: str) -> TablePredictions:
        """The part predicted under one role."""
        return self.take(np.flatnonzero(self.role == role))

    def take(self, rows: NDArray[Any]) -> TablePredictions:
        """The predictions at some rows."""

        def pick(values: Any) -> Any:
            return None if values is None else values[rows]

        return TablePredictions(
            self.unit_id[rows], self.role[rows], pick(self.y), pick(self.probabilities), self.classes, pick(self.interval), self.info
        )

    @staticmethod
    def concat(parts: Sequence[TablePredictions]) -> TablePredictions:
        """Joins predictions of several roles."""
        first = parts[0]

        def join(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            return None if any(value is None for value in values) else np.concatenate(values)

        return TablePredictions(
            join("unit_id"), join("role"), join("y"), join("probabilities"), first.classes, join("interval"), first.info
        )

    def frame(self) -> pd.DataFrame:
        """The table as it is written: `unit_id`, `role`, then `y` (with `lower`, `upper`) or `p_<class>` columns."""
        return pd.DataFrame({"unit_id": self.unit_id, "role": self.role} | self._numbers())

    def _numbers(self) -> dict[str, NDArray[Any]]:
        if self.probabilities is not None:
            return {f"{PROBABILITY_PREFIX}{value}": self.probabilities[:, code] for code, value in enumerate(self.classes or ())}
        found = {"y": np.asarray(self.y)}
        return found if self.interval is None else found | {"lower": self.interval[:, 0], "upper": self.interval[:, 1]}

    @property
    def digest(self) -> str:
        """SHA-256 over the rows sorted by role and unit, numbers as float32 bits; the same for two copies in any row order."""
        values = self.probabilities if self.probabilities is not None else np.asarray(self.y).reshape(-1, 1)
        bits = np.ascontiguousarray(values, dtype="<f4")
        text, width = bits.tobytes().hex(), 8 * bits.shape[1]
        rows = sorted(zip(self.role.astype(str).tolist(), self.unit_id.astype(str).tolist(), range(len(bits)), strict=True))
        head = ",".join(self.classes or ("y",))
        return content_digest([head, *(f"{role}\t{unit}\t{text[at * width : (at + 1) * width]}" for role, unit, at in rows)])

    def write(self, directory: str | Path) -> Path:
        """Writes `predictions.json` and `units.parquet` into a directory (made where missing)."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        columns = {"unit_id": self.unit_id.astype(str), "role": self.role.astype(str)} | self._numbers()
        # Past pandas, whose own copy of the text costs more than the file.
        pq.write_table(pa.table(columns), directory / "units.parquet", compression="zstd")
        kind = "classification" if self.probabilities is not None else "regression"
        record = {
            "schema_version": SCHEMA_VERSION,
            "kind": kind,
            "classes": list(self.classes) if self.classes else None,
            "digest": self.digest,
            **self.info,
        }
        write_json(directory / RECORD, record, indent=2)
        return directory

    @classmethod
    def read(cls, directory: str | Path) -> TablePredictions:
        """Reads predictions that anyone could have made, and checks them.

        Raises:
            DataError: A file is missing or not what it should be; non-finite values; probabilities outside 0 to 1 or not summing to 1;
                a unit twice in a role; a digest that differs from the one written.
        """
        directory = Path(directory)
        table_path, card_path = directory / "units.parquet", directory / "predictions.json"
        try:
            record = read_json(card_path)
            frame = pd.read_parquet(table_path)
        except FileNotFoundError as error:
            raise DataError(
                f"{Path(str(error.filename)).name} is missing",
                source=directory,
                remedy="Predictions are predictions.json and units.parquet.",
            ) from error
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read: {error}", source=directory) from error
        if not isinstance(record, dict):
            raise DataError("predictions.json holds no mapping", source=card_path)
        predictions = cls.from_frame(frame, record.get("classes"), source=table_path)
        info = {key: value for key, value in record.items() if key not in ("schema_version", "kind", "classes", "digest")}
        predictions = cls(
            predictions.unit_id, predictions.role, predictions.y, predictions.probabilities, predictions.classes, predictions.interval, info
        )
        said = record.get("digest")
        if said is not None and said != predictions.digest:
            raise DataError(f"content digest is {predictions.digest[:16]}…, and predictions.json says {str(said)[:16]}…", source=directory)
        return predictions

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, classes: Sequence[str] | None, *, source: str | Path) -> TablePredictions:
        """Checks a table of predictions.

        Raises:
            DataError: As `read`.
        """
        missing = [column for column in ("unit_id", "role") if column not in frame.columns]
        columns = [f"{PROBABILITY_PREFIX}{value}" for value in classes] if classes else ["y"]
        missing += [column for column in columns if column not in frame.columns]
        if missing:
            raise DataError(f"columns {missing} are missing (found {list(frame.columns)[:12]})", source=source)
        ids, role = frame["unit_id"].astype(str).to_numpy(dtype=object), frame["role"].astype(str).to_numpy(dtype=object)
        if frame.duplicated(["unit_id", "role"]).any():
            twice = frame.loc[frame.duplicated(["unit_id", "role"]), "unit_id"].iloc[0]
            raise DataError(f"unit {twice!r} occurs twice in one role", source=source)
        try:
            values = frame[columns].to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"columns {columns[:3]} are not numbers: {error}", source=source) from error
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            raise DataError(f"{int(bad.sum())} predictions are not finite, first unit {ids[bad][0]!r}", source=source)
        if classes is None:
            interval = frame[["lower", "upper"]].to_numpy(dtype=np.float64) if {"lower", "upper"} <= set(frame.columns) else None
            return cls(ids, role, values[:, 0], None, None, interval)
        if values.size and (values.min() < -1e-6 or values.max() > 1 + 1e-6 or np.abs(values.sum(axis=1) - 1).max() > 1e-3):
            raise DataError(
                f"probabilities must lie in 0 to 1 and sum to 1 (found {values.min():.4g} to {values.max():.4g}, "
                f"sums {values.sum(axis=1).min():.4g} to {values.sum(axis=1).max():.4g})",
                source=source,
            )
        return cls(ids, role, None, values.astype(np.float32), tuple(map(str, classes)))


type RolePredictions = TablePredictions | Iterable[tuple[str, NDArray[np.float32]]]
"""What a model predicts of a role: rows of a table, or (unit, probabilities (K, H, W)) chip by chip."""
