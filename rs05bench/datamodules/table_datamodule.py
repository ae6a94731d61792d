"""A Lightning data module over a table of units."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from torch.utils.data import DataLoader, Dataset

from rs05bench.datamodules.data_module import Opened, ProtocolDataModule
from rs05bench.datasets.files import refuse_unknown
from rs05bench.errors import DataError
from rs05bench.protocol.audit import with_published_verdict
from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import SplitManifest, build_manifest
from rs05bench.protocol.taskdata import TaskData, TaskSource


class TableReading(TypedDict, total=False):
    """What batches of a table hold, and how they are made: keywords of `TableDataModule`, described there."""

    features: str | None
    target: str | None
    batch_size: int | None
    num_workers: int


class TableDataModule(ProtocolDataModule[TaskData, TaskSource]):
    """Shows a fold of a table task under a label budget.

    Batches are dicts: `features` float32 (batch, d), `unit_id` list of text, and for fitting also `label` (batch,), int64 class index or
    float32. Labels of test units are not in it.

    Args:
        card: Task card, or the path of one.
        data_dir: Where its files lie.
        split: Split name.
        fold: Fold name; default the first.
        budget: Budget name.
        seed: Seed of the budget's draw and of the order of batches.
        manifest: A frozen manifest; default it is built from the data.
        **reading: `features`, the feature set of the batches, default the card's first; `target`, default the card's first; `batch_size`,
            units a batch, default the card's; `num_workers` of the loaders.

    Raises:
        DataError: The data contradict the card, or the manifest is over other units.
        ProtocolError: No such fold, or nothing to train on.
    """

    def __init__(
        self,
        card: TaskCard | str | Path,
        data_dir: str | Path,
        split: str,
        fold: str | None = None,
        budget: str = "full",
        seed: int = 0,
        *,
        manifest: SplitManifest | None = None,
        **reading: Unpack[TableReading],
    ) -> None:
        refuse_unknown(reading, TableReading)
        self._reading = reading
        super().__init__(split, fold, budget, seed, card=card, data_dir=data_dir, **reading)
        self._given_card, self.data_dir, self._manifest = card, Path(data_dir), manifest
        self.num_workers = reading.get("num_workers", 0)

    def _open(self) -> Opened[TaskData, TaskSource]:
        from rs05bench.datamodules.open_data import open_source

        card = self._given_card if isinstance(self._given_card, TaskCard) else TaskCard.load(self._given_card)
        if not card.features:
            raise DataError("declares no feature set", source=card.name, remedy="Add one under `features`.")
        source = open_source(card, self.data_dir)
        manifest = self._manifest or with_published_verdict(build_manifest(card, source.units(), self.split))
        fold = self._fold or manifest.folds[0]
        view = TaskData.build(source, manifest, fold, self._budget, self.seed, split=self.split, target=self._reading.get("target"))
        return Opened(source, manifest, view)

    @property
    def features(self) -> str:
        """Feature set of the batches."""
        return self._reading.get("features") or next(iter(self.card.features))

    @property
    def target(self) -> str:
        """The target."""
        return self.view.target

    @property
    def batch_size(self) -> int:
        """Units a batch."""
        return self._reading.get("batch_size") or self.card.training.batch_size

    @property
    def budget(self) -> LabelBudget:
        """The labels in use."""
        return self.view.budget

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class values in order, or None for a regression."""
        return self.view.classes

    def train_dataloader(self) -> DataLoader[Any]:
        """Labelled training units, shuffled by the seed."""
        order = torch.Generator().manual_seed(self.seed)
        return self._loader(_Rows(self.view, "train", self.features, labels=True), shuffle=True, generator=order)

    def val_dataloader(self) -> DataLoader[Any]:
        """Labelled validation units."""
        return self._loader(_Rows(self.view, "val", self.features, labels=True))

    def predict_dataloader(self, role: str | None = None) -> Any:
        """Units of a role without labels; without a role a loader for `test_id` and one for `test_ood`."""
        if role is None:
            return [self.predict_dataloader(name) for name in ("test_id", "test_ood")]
        return self._loader(_Rows(self.view, role, self.features, labels=False))

    def _loader(self, rows: _Rows, **options: Any) -> DataLoader[Any]:
        return DataLoader(rows, batch_size=self.batch_size, num_workers=self.num_workers, collate_fn=_collate, **options)


class _Rows(Dataset[dict[str, Any]]):
    def __init__(self, view: TaskData, role: str, features: str, *, labels: bool) -> None:
        self.ids = [str(unit) for unit in view.unit_ids(role)]
        self.values = torch.tensor(view.X(role, features))
        self.labels = torch.tensor(view.y(role)) if labels else None
        if self.labels is not None and self.labels.is_floating_point():
            self.labels = self.labels.float()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = {"unit_id": self.ids[index], "features": self.values[index]}
        if self.labels is not None:
            row["label"] = self.labels[index]
        return row


def _collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    batch: dict[str, Any] = {"unit_id": [row["unit_id"] for row in rows], "features": torch.stack([row["features"] for row in rows])}
    if "label" in rows[0]:
        batch["label"] = torch.stack([row["label"] for row in rows])
    return batch
