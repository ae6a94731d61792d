"""Small chips in memory, under a data module that records what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from rs05bench.embeddings.products import product

HLS6 = ["B02", "B03", "B04", "B8A", "B11", "B12"]


class Loader:
    """Batches of chosen chips; calls ``seen`` with every unit it hands out."""

    def __init__(self, samples: list[dict[str, Any]], batch: int, seen: Callable[[str], None], *, shuffle: bool) -> None:
        self.samples, self.batch, self.seen, self.shuffle = samples, batch, seen, shuffle

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        order = torch.randperm(len(self.samples)).tolist() if self.shuffle else list(range(len(self.samples)))
        for start in range(0, len(order), self.batch):
            chosen = [self.samples[index] for index in order[start : start + self.batch]]
            for sample in chosen:
                self.seen(sample["unit_id"])
            yield {
                key: torch.stack([sample[key] for sample in chosen]) if isinstance(value, Tensor) else [sample[key] for sample in chosen]
                for key, value in chosen[0].items()
            }


class Chips:
    """A data module of random chips whose label is a bright near-infrared; 4 to train on, 2 to validate, 2 to test."""

    ignore_index = -1
    card = batch_size = resolution_m = None
    digest = "random chips"

    def __init__(
        self,
        *,
        kind: str = "segmentation",
        size: int = 32,
        frames: int = 1,
        scale: float = 1.0,
        steps: int = 6,
        bands: list[str] | None = None,
    ) -> None:
        self.view = self
        self.kind, self.steps, self.num_frames, self.scale = kind, steps, frames, scale
        self.bands = bands or HLS6
        self.embedding_product = product()
        self.classes = None if kind == "regression" else ("unburnt", "burnt")
        self.asked: list[str] = []
        self.val = True
        generator = torch.Generator().manual_seed(7)
        shape = (frames, len(self.bands), size, size) if frames > 1 else (len(self.bands), size, size)
        self.samples = []
        for unit in range(8):
            image = torch.rand(shape, generator=generator) * 0.4
            nir = image[..., 3, :, :] if frames == 1 else image[0, 3]
            mask = (nir > 0.2).long()
            embedding = torch.nn.functional.normalize(torch.randn(64, size, size, generator=generator), dim=0)
            embedding[0] = mask.float()
            sample = {"image": image * scale, "embedding": embedding, "unit_id": f"u{unit}", "mask": mask}
            sample["label"] = torch.tensor(unit % 2) if kind == "classification" else nir.mean() * 100 + unit
            self.samples.append(sample)

    def _loader(self, rows: range, *, labels: bool, shuffle: bool = False) -> Loader:
        hidden = () if labels else ("mask", "label")
        kept = ("mask",) if self.kind != "segmentation" else ("label",)
        samples = [{key: value for key, value in self.samples[row].items() if key not in (*hidden, *kept)} for row in rows]
        return Loader(samples, 2, self.asked.append, shuffle=shuffle)

    def train_dataloader(self) -> Loader:
        return self._loader(range(4), labels=True, shuffle=True)

    def val_dataloader(self) -> Loader | None:
        return self._loader(range(4, 6), labels=True) if self.val else None

    def predict_dataloader(self, role: str) -> Loader:
        assert role == "test_id"
        return self._loader(range(6, 8), labels=False)


@pytest.fixture
def chips() -> Callable[..., Chips]:
    return Chips
