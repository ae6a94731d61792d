"""The frozen labels submissions are scored with, and the cards and manifests they belong to.

A folder in the layout of a result store: `cards/<task>.yaml`, `manifests/<task>/<split>@vN.parquet`, `labels/*.parquet` (a column a
target, and `unit_id`), and for segmentation `masks/<task>/<unit_id>.tif`. Whoever has the public data makes it with a sweep; nothing in
it is believed unless its digest is the one the board names. Manifests shipped with the package are found without a folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import BenchError, DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import SplitManifest, load_manifest
from rs05bench.protocol.names import parse_split
from rs05bench.protocol.submission.board import BoardTask, labels_digest

MASK_MISSING = -1


@dataclass(slots=True)
class Truth:
    """Where labels, cards and manifests lie.

    Attributes:
        root: The folder.
    """

    root: Path
    _cards: dict[str, TaskCard] = field(default_factory=dict, repr=False)
    _labels: dict[tuple[str, str], pd.Series] = field(default_factory=dict, repr=False)
    _manifests: dict[tuple[str, str], SplitManifest] = field(default_factory=dict, repr=False)

    def card(self, task: BoardTask) -> TaskCard:
        """The task's card.

        Raises:
            DataError: It is missing, or another one than the board's.
        """
        if task.task in self._cards:
            return self._cards[task.task]
        path = self.root / "cards" / f"{task.task}.yaml"
        card = TaskCard.load(path)
        if card.digest != task.card:
            raise DataError(f"is another card than the board's (digest {card.digest[:12]}…, expected {task.card[:12]}…)", source=path)
        self._cards[task.task] = card
        return card

    def manifest(self, task: BoardTask, split: str) -> SplitManifest:
        """A manifest, from the folder or from those shipped with the package.

        Raises:
            DataError: It is missing, or another one than the board's.
        """
        key = (task.task, parse_split(split).base)
        if key not in self._manifests:
            version = task.splits[split].version
            path = self.root / "manifests" / task.task / f"{key[1]}@v{version}.parquet"
            manifest = SplitManifest.load(path) if path.is_file() else load_manifest(f"{task.task}/{key[1]}@v{version}")
            if manifest.digest != task.splits[split].manifest:
                raise DataError("is another manifest than the board's", source=path, remedy="Make it again from the frozen data.")
            self._manifests[key] = manifest
        return self._manifests[key]

    def labels(self, task: BoardTask, target: str) -> pd.Series:
        """Labels of a target by unit, as the card's kind has them: text or numbers.

        Raises:
            DataError: None there has the digest the board names.
        """
        key = (task.task, target)
        if key not in self._labels:
            self._labels[key] = self._find_labels(task, target)
        return self._labels[key]

    def _find_labels(self, task: BoardTask, target: str) -> pd.Series:
        wanted = task.labels.get(target)
        if wanted is None:
            raise DataError(f"the labels of {task.task}/{target} are not frozen yet (a sealed round)", source="tasks.yaml")
        seen = 0
        for path in sorted((self.root / "labels").glob("**/*.parquet")):
            frame = pd.read_parquet(path)
            if "unit_id" not in frame or target not in frame:
                continue
            seen += 1
            found = frame.set_index("unit_id")[target]
            found = found.where(found.isna(), found.astype(str)) if task.kind == "classification" else found.astype(float)
            if labels_digest(found) == wanted:
                return found
        raise DataError(
            f"no labels of {task.task}/{target} with the frozen digest {wanted[:12]}… ({seen} files hold that column)",
            source=self.root / "labels",
            remedy="Give the folder of a sweep over the frozen data (--truth RUNS), or fetch the label pack.",
        )

    def mask(self, task: str, unit: str) -> tuple[NDArray[np.int16], float]:
        """The mask of a chip, shape (H, W) with -1 for what is not scored, and the size of its pixel in metres."""
        import rasterio

        path = self.root / "masks" / task / f"{unit}.tif"
        if not path.is_file():
            raise DataError("the mask is missing", source=path)
        with rasterio.open(path, driver="GTiff") as source:
            values = source.read(1).astype(np.int16)
            nodata, size = source.nodata, abs(source.transform.a)
            if source.crs is not None and source.crs.is_geographic:
                size *= 111_320.0
        if nodata is not None:
            values[values == np.int16(nodata)] = MASK_MISSING
        return values, float(size)


def available(truth: Truth | None, task: BoardTask, split: str) -> str | None:
    """Why a split cannot be rescored here; None where it can."""
    if truth is None:
        return "no frozen labels were given (--truth)"
    try:
        truth.card(task)
        truth.manifest(task, split)
        for target in task.targets if task.kind != "segmentation" else ():
            truth.labels(task, target)
    except BenchError as error:
        return str(error)
    return None
