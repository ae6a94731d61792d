"""Shallow learners on the features of a frozen encoder of chips: `prithvi-300/frozen-logistic`, `clay/frozen-rf`.

A segmentation is learnt on pixels: each takes the features of the token it is in (of a pyramid, those of all stages), and the
probabilities of tokens are interpolated to the image as the linear head's logits are. A chip with one label takes the mean over its
tokens. The learners, their grid and their scaling are those of every other feature source; the settings are judged on the validation
pixels or chips of the budget.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rs05bench.errors import ProtocolError
from rs05bench.models.chip_model import DeepModel
from rs05bench.models.devices import device_of
from rs05bench.models.heads import pixel_features
from rs05bench.models.learners import Floats
from rs05bench.models.networks import EncoderNetwork
from rs05bench.models.pixel_learner import Found, Learnt, array_key, drawn, learn, pixel_rows
from rs05bench.models.plan import ChipData
from rs05bench.models.training import seeded
from rs05bench.protocol import ModelCard
from rs05bench.protocol.cell_record import TrainingRecord

_SMALLEST = 1e-6


class LearnerHead(nn.Module):
    """A fitted learner in the place of a head; its outputs are logarithms of probabilities, or values."""

    def __init__(self, kind: str, learnt: Learnt) -> None:
        super().__init__()
        self.kind, self.learnt = kind, learnt

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Feature maps to (B, K, H, W) of the padded image, or (B, K)."""
        deepest = pixel_features(features).float()
        rows = rows_of(deepest, self.kind)
        out = self.learnt.predict(rows.cpu().numpy())
        if self.kind == "regression":
            return torch.from_numpy(np.asarray(out, dtype=np.float32))[:, None].to(deepest.device)
        logits = torch.from_numpy(np.log(np.clip(out, _SMALLEST, 1.0)).astype(np.float32)).to(deepest.device)
        if self.kind != "segmentation":
            return logits
        maps = logits.reshape(len(deepest), *deepest.shape[-2:], -1).permute(0, 3, 1, 2)
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


class FrozenChips(DeepModel):
    """A shallow learner on a frozen encoder of chips.

    Attributes:
        learnt_: The learner, and the tuning entry taken and why.
    """

    can_be_saved = False

    def fit(self, data: ChipData) -> FrozenChips:
        """Fits every entry of the learner's grid on labelled pixels (or chips) and keeps the one that validation labels prefer.

        Raises:
            ProtocolError: The learner cannot do this kind of task, or no label is there to learn from.
        """
        with seeded(self.seed):
            self.facts_ = self.inspect(data)
        self.facts_.target = [0.0], [1.0]
        network: Any = self.network(self.facts_)
        self.network_ = network.eval().to(device_of(self.options.accelerator))
        self.learnt_ = learn(
            self.spec.name,
            str(self.spec.shallow),
            "regression" if data.kind == "regression" else "classification",
            len(self.facts_.classes or ()),
            train=self._rows(data.train_dataloader()),
            val=self._rows(data.val_dataloader() or ()),
            seed=self.seed,
            impute=False,
        )
        network.head = LearnerHead(data.kind, self.learnt_)
        return self

    @property
    def card(self) -> ModelCard:
        """The model's card; parameters are the encoder's and what the learner learnt."""
        card = super().card
        head = getattr(getattr(self, "network_", None), "head", None)
        if not isinstance(head, LearnerHead):
            return card
        learnt = head.learnt.fitted.count()
        return card.model_copy(update={"parameters_trainable": learnt, "parameters_total": (card.parameters_total or 0) + learnt})

    @property
    def training_record(self) -> TrainingRecord:
        """What was tuned and how, and where the encoder's weights are from; empty before the fit."""
        if not hasattr(self, "learnt_"):
            return TrainingRecord()
        network = self.network_
        assert isinstance(network, EncoderNetwork)
        return self.learnt_.record().with_fields(encoder=network.backbone.origin)

    def warm_up(self, data: ChipData) -> None:
        """Encode one batch and forget it: what a process does once (imports, kernels) is then done."""
        network: Any = self.network(self.inspect(data)).eval()
        with torch.no_grad():
            network.encode(next(iter(data.train_dataloader())))

    def module(self, data: ChipData) -> Any:
        """There is none: nothing here is trained by steps."""
        raise ProtocolError(f"{self.spec.name} is not trained by gradient steps", remedy="Use fit, or the tier frozen.")

    def save(self, folder: str | Path) -> None:
        """There is no file for it: a learner of another library would have to be pickled, and no pickle is read here."""
        raise ProtocolError(f"{self.spec.name} cannot be saved", remedy="Fit it again, which takes seconds, or save the tier frozen.")

    def _rows(self, loader: Any) -> tuple[Floats, NDArray[Any]]:
        """Features (n, d) and labels (n,) of the labelled pixels or chips of one pass."""
        if self.facts_.kind == "segmentation":
            return pixel_rows(loader, self._deepest, self.seed, self._padded)
        kind, found = self.facts_.kind, Found()
        with torch.no_grad():
            for batch in loader:
                rows = rows_of(self._deepest(batch), kind).cpu().numpy()
                values = np.asarray(batch["label"]).reshape(len(rows))
                for at, unit in enumerate(batch["unit_id"]):
                    found[str(unit), array_key(rows[at])] = rows[[at]], values[[at]]
        X, y = drawn(found, self.seed)
        return X, y.astype(np.float64 if kind == "regression" else np.int64)

    def _deepest(self, batch: Any) -> Tensor:
        network: Any = self.network_
        device = next(network.parameters()).device
        shown = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in self._encoded(dict(batch)).items()}
        features: list[Tensor] = list(shown["features"]) if "features" in shown else network.encode(shown)
        return pixel_features(features).float()

    def _padded(self, shape: tuple[int, int]) -> tuple[int, int]:
        network: Any = self.network_
        padded: tuple[int, int] = network.backbone.padded_size(*shape)
        return padded


def rows_of(deepest: Tensor, kind: str) -> Tensor:
    """Features as rows: of every token (B h w, d) for a segmentation, else their mean over each chip (B, d)."""
    if kind != "segmentation":
        return deepest.mean(dim=(-2, -1))
    return deepest.permute(0, 2, 3, 1).reshape(-1, deepest.shape[1])
