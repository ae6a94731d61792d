"""The frozen labels submissions are scored with, and the cards and manifests they belong to.

A folder in the layout of a result store: `cards/<task>.yaml`, `manifests/<task>/<split>@vN.parquet`, and under `labels/` label packs
(`rs05bench labels build`) or, for tables, the `*.parquet` a sweep leaves there (a column a target, and `unit_id`). Whoever has the
public data makes it; nothing in it is believed unless its digest is the one the board names. Manifests shipped with the package are
found without a folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from rs05bench.errors import BenchError, DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.labels import LabelPack
from rs05bench.protocol.manifest import SplitManifest, load_manifest
from rs05bench.protocol.rescoring import TableLabels, TaskLabels
from rs05bench.protocol.splits import Split
from rs05bench.protocol.submission.board import BoardTask, labels_digest
from rs05bench.protocol.submission.reading import ChipPlace, chip_place


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
    _packs: dict[str, LabelPack] = field(default_factory=dict, repr=False)
    _places: dict[tuple[str, str], ChipPlace] = field(default_factory=dict, repr=False)

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
        key = (task.task, Split(split).base)
        if key not in self._manifests:
            version = task.splits[split].version
            path = self.root / "manifests" / task.task / f"{key[1]}@v{version}.parquet"
            manifest = SplitManifest.load(path) if path.is_file() else load_manifest(f"{task.task}/{key[1]}@v{version}")
            if manifest.digest != task.splits[split].manifest:
                raise DataError("is another manifest than the board's", source=path, remedy="Make it again from the frozen data.")
            self._manifests[key] = manifest
        return self._manifests[key]

    def of(self, task: BoardTask, target: str) -> TaskLabels:
        """The labels of a target.

        Raises:
            DataError: None there has the digest the board names.
        """
        card = self.card(task)
        return replace(self.masks(task), card=card) if task.about.pixel_labels else TableLabels(card, self.labels(task, target).to_frame())

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
        wanted = _frozen(task, target)
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

    def masks(self, task: BoardTask) -> LabelPack:
        """The label pack of a task of chips; every mask was read and its digest compared.

        Raises:
            DataError: None there has the digest the board names.
        """
        if task.task not in self._packs:
            self._packs[task.task] = self._find_masks(task)
        return self._packs[task.task]

    def _find_masks(self, task: BoardTask) -> LabelPack:
        wanted = _frozen(task, task.targets[0])
        seen = []
        for path in sorted((self.root / "labels").glob("**/labels.json")):
            pack = LabelPack.load(path.parent)
            if pack.card.name != task.task or not pack.chips:
                continue
            if pack.record["digest"] == wanted:
                pack.verify()
                return pack
            seen.append(str(pack.record["digest"])[:12])
        raise DataError(
            f"no masks of {task.task} with the frozen digest {wanted[:12]}… (found {seen or 'no label pack of it'})",
            source=self.root / "labels",
            remedy=f"Build them from the frozen data: rs05bench labels build CARD --data DIR --out {self.root / 'labels' / task.task}",
        )

    def place(self, task: BoardTask, unit: str) -> ChipPlace:
        """Where the mask of a chip lies.

        Raises:
            DataError: It cannot be read.
        """
        key = (task.task, unit)
        if key not in self._places:
            import rasterio

            pack = self.masks(task)
            path = pack.directory / str(pack.table.loc[unit, "file"])
            try:
                with rasterio.open(path, driver="GTiff") as source:
                    self._places[key] = chip_place(source)
            except rasterio.errors.RasterioError as error:
                raise DataError(f"cannot be read: {error}", source=path) from error
        return self._places[key]


def _frozen(task: BoardTask, target: str) -> str:
    if target not in task.labels:
        raise DataError(f"the labels of {task.task}/{target} are not frozen yet (a sealed round)", source="tasks.yaml")
    return task.labels[target]


def available(truth: Truth | None, task: BoardTask, split: str) -> str | None:
    """Why a split cannot be rescored here; None where it can."""
    if truth is None:
        return "no frozen labels were given (--truth)"
    try:
        truth.card(task)
        truth.manifest(task, split)
        for target in task.targets:
            truth.of(task, target)
    except BenchError as error:
        return str(error)
    except Exception as error:  # whatever a library says of a damaged file of ours
        return f"the frozen labels cannot be read ({type(error).__name__}: {error})"
    return None
