"""A small task made up for checking models, of either kind."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import ProtocolError
from rs05bench.protocol import SplitManifest, TaskCard, TaskData, UnitTable, build_manifest
from rs05bench.protocol.scored_labels import UnitLabels


class ContractTable:
    """A made-up table of three regions: 64 embedding bands, six spectral bands, two surroundings.

    Args:
        kind: `classification` (four classes, one of them rare) or `regression`.
    """

    def __init__(self, kind: Literal["classification", "regression"] = "classification") -> None:
        generator = np.random.default_rng(0)
        count, classes = 240, ["a", "b", "c", "d"]
        which = generator.choice(4, count, p=[0.4, 0.3, 0.25, 0.05])
        embedding = generator.standard_normal((4, 64))[which] + 0.8 * generator.standard_normal((count, 64))
        bands = np.abs(generator.normal(0.2, 0.05, (4, 6))[which] + generator.normal(0, 0.03, (count, 6)))
        self._columns = {
            "alphaearth": [f"A{band:02d}" for band in range(64)],
            "raw": ["B02", "B03", "B04", "B8A", "B11", "B12"],
            "surroundings": ["elevation_m", "road_m"],
        }
        self._values = {
            "alphaearth": (embedding / np.linalg.norm(embedding, axis=1, keepdims=True)).astype(np.float32),
            "raw": bands.astype(np.float32),
            "surroundings": generator.normal(100, 30, (count, 2)).astype(np.float32),
        }
        self._columns["hybrid"] = [name for columns in list(self._columns.values()) for name in columns]
        self._values["hybrid"] = np.hstack(list(self._values.values()))
        region = np.array(["north", "middle", "south"])[np.arange(count) % 3]
        frame = pd.DataFrame(
            {
                "unit_id": [f"u{row:03d}" for row in range(count)],
                "lon": -120 + generator.uniform(0, 0.5, count),
                "lat": np.array([45.0, 40.0, 35.0])[np.arange(count) % 3] + generator.uniform(0, 0.5, count),
                "place": [f"u{row:03d}" for row in range(count)],
                "region": region,
            }
        )
        self.card = TaskCard.parse(
            {
                "kind": kind,
                "name": f"contract-{kind}",
                "targets": ["label"],
                "classes": classes if kind == "classification" else None,
                "groups": ["region"],
                "coordinates": {"x": "lon", "y": "lat"},
                "features": {name: list(columns) for name, columns in self._columns.items()},
                "splits": ["leave-region-out"],
                "split_options": {"block_size_m": 10_000, "buffer_m": 500},
                "simulated": True,
            }
        )
        self._units = UnitTable.build(frame, groups=["region"], source="contract")
        numbers = which * 3.0 + generator.normal(0, 0.5, count)
        values = [classes[code] for code in which] if kind == "classification" else numbers
        self._labels = pd.Series(values, index=pd.Index(frame["unit_id"], name="unit_id"), name="label")

    def units(self) -> UnitTable:
        """The units."""
        return self._units

    def features(self, name: str) -> tuple[list[str], NDArray[np.float32]]:
        """Columns and values of a feature set."""
        if name not in self._columns:
            raise ProtocolError(
                f"the made-up task has no feature set {name!r} (there are {', '.join(self._columns)})", remedy="Give --card and --data."
            )
        return self._columns[name], self._values[name]

    def labels(self, target: str) -> pd.Series:
        """The labels."""
        return self._labels

    def scored(self, target: str) -> UnitLabels:
        """What predictions are scored with."""
        return UnitLabels.of(self.card, self._labels)

    @property
    def digest(self) -> str:
        """A name, for it never changes."""
        return f"{self.card.name}-1"


def contract_data(kind: Literal["classification", "regression"], budget: str) -> TaskData:
    """A fold of the made-up task."""
    source = ContractTable(kind)
    manifest: SplitManifest = build_manifest(source.card, source.units(), "leave-region-out")
    return TaskData.build(source, manifest, manifest.folds[0], budget, 0)
