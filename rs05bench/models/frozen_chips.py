"""Shallow learners on the deepest feature map of a frozen encoder of chips: `prithvi-300/frozen-logistic`, `clay/frozen-rf`.

A segmentation is learnt on pixels: each takes the features of the token it is in, and the probabilities of tokens are interpolated to the
image as the linear head's logits are. A chip with one label takes the mean over its tokens. The learners, their grid and their scaling are
those of every other feature source; the settings are judged on the validation pixels or chips of the budget.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rs05bench.errors import DataError, ProtocolError
from rs05bench.models.chip_model import DeepModel
from rs05bench.models.devices import device_of
from rs05bench.models.learners import LEARNERS, Fitted, Floats
from rs05bench.models.networks import EncoderNetwork
from rs05bench.models.plan import IGNORE, ChipData
from rs05bench.models.shallow import Coding
from rs05bench.models.training import seeded
from rs05bench.models.tuning import GRIDS, Choice
from rs05bench.protocol import ModelCard
from rs05bench.protocol.hashing import hash_unit

MOST_PIXELS, MOST_ROWS = 256, 20_000
"""Labelled pixels a chip, and in all, that a learner is fitted on."""
_SMALLEST = 1e-6
OPTIONS = ("weights", "revision", "coordinates", "resolution_m", "init_seed", "cache", "accelerator", "window", "batch")


class LearnerHead(nn.Module):
    """A fitted learner in the place of a head; its outputs are logarithms of probabilities, or values."""

    positions = (3,)

    def __init__(self, kind: str, coding: Coding, fitted: Fitted) -> None:
        super().__init__()
        self.kind, self.coding, self.fitted = kind, coding, fitted

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Feature maps to (B, K, H, W) of the padded image, or (B, K)."""
        deepest = features[-1].float()
        rows = rows_of(deepest, self.kind)
        out = self.coding.decode(self.fitted.predict(self.coding.scale(rows.cpu().numpy())))
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
        choice_: The tuning entry taken and why.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if unknown := sorted(set(self.options) - set(OPTIONS)):
            raise DataError(f"{self.spec.name} does not know the option {', '.join(unknown)}", remedy=f"It takes {', '.join(OPTIONS)}.")

    def fit(self, data: ChipData) -> FrozenChips:
        """Fits every entry of the learner's grid on labelled pixels (or chips) and keeps the one that validation labels prefer.

        Raises:
            ProtocolError: The learner cannot do this kind of task, or no label is there to learn from.
        """
        learner = LEARNERS[str(self.spec.shallow)]
        kind = "regression" if data.kind == "regression" else "classification"
        if kind not in learner.kinds:
            raise ProtocolError(f"{self.spec.name} does {learner.kinds[0]} only, and this task is a {data.kind}")
        with seeded(self.seed):
            self.facts_ = self.inspect(data)
        self.facts_["target"] = [[0.0], [1.0]]
        network: Any = self.network(self.facts_)
        self.network_ = network.eval().to(device_of(self.options.get("accelerator", "auto")))
        X, y = self._rows(data.train_dataloader())
        if len(y) == 0:
            raise ProtocolError(f"{self.spec.name}: no label to learn from in this budget", remedy="Use a larger budget.")
        classes = len(self.facts_["classes"] or ())
        coding = Coding(X, y, kind, classes, impute=False)
        grid, trivial = GRIDS[learner.name], coding.trivial()
        fits = [trivial] * len(grid) if trivial else learner.path(coding.Z, coding.codes, grid, kind, self.seed)
        X_val, y_val = self._rows(data.val_dataloader() or ())
        if len(y_val) == 0 or (kind == "classification" and len(np.unique(y_val)) < 2):
            self.choice_ = Choice(0, dict(grid[0]), [], "the validation labels hold no two classes: the first entry of the grid was taken")
        else:
            losses = [coding.loss(fit, X_val, y_val) for fit in fits]
            best = int(np.argmin(losses))
            self.choice_ = Choice(best, dict(grid[best]), losses, f"least validation loss of {len(grid)} entries over {len(y_val)} labels")
        network.head = LearnerHead(data.kind, coding, fits[self.choice_.index])
        return self

    @property
    def card(self) -> ModelCard:
        """The model's card; parameters are the encoder's and what the learner learnt."""
        card = super().card
        head = getattr(getattr(self, "network_", None), "head", None)
        if not isinstance(head, LearnerHead):
            return card
        learnt = head.fitted.count()
        return card.model_copy(update={"parameters_trainable": learnt, "parameters_total": (card.parameters_total or 0) + learnt})

    @property
    def training_record(self) -> dict[str, Any]:
        """What was tuned and how, and where the encoder's weights are from; empty before the fit."""
        if not hasattr(self, "choice_"):
            return {}
        choice, network = self.choice_, self.network_
        assert isinstance(network, EncoderNetwork)
        grid = [dict(entry) for entry in GRIDS[str(self.spec.shallow)]]
        tuned = {"setting": choice.parameters, "grid": grid, "losses": choice.losses, "chosen": choice.reason}
        return {"early_stopping_role": "val", "encoder": network.backbone.origin, **tuned}

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
        found: dict[tuple[str, str], tuple[Floats, NDArray[Any]]] = {}
        with torch.no_grad():
            for batch in loader:
                deepest, units = self._deepest(batch), [str(unit) for unit in batch["unit_id"]]
                if self.facts_["kind"] != "segmentation":
                    rows, values = rows_of(deepest, self.facts_["kind"]).cpu().numpy(), np.asarray(batch["label"]).reshape(len(deepest))
                    found |= {(unit, _key(rows[at])): (rows[[at]], values[[at]]) for at, unit in enumerate(units)}
                    continue
                for unit, features, mask in zip(units, deepest, np.asarray(batch["mask"]), strict=True):
                    rng, maps = np.random.default_rng(hash_unit(self.seed, "pixels of a learner", unit)), features.cpu().numpy()
                    found[unit, _key(maps)] = _sample(maps, mask, self._padded(mask.shape), rng)
        if not found:
            return np.empty((0, 1)), np.empty(0, dtype=np.int64)
        # By unit and patch, in whatever order the loader shuffled them.
        X, y = (np.concatenate([found[patch][part] for patch in sorted(found)]) for part in (0, 1))
        some = np.random.default_rng(self.seed).choice(len(y), min(MOST_ROWS, len(y)), replace=False)
        keep = np.sort(some)
        return X[keep].astype(np.float64), y[keep].astype(np.float64 if self.facts_["kind"] == "regression" else np.int64)

    def _deepest(self, batch: Any) -> Tensor:
        network: Any = self.network_
        device = next(network.parameters()).device
        shown = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in self._encoded(dict(batch)).items()}
        features: list[Tensor] = list(shown["features"]) if "features" in shown else network.encode(shown)
        return features[-1].float()

    def _padded(self, shape: tuple[int, ...]) -> tuple[int, int]:
        network: Any = self.network_
        padded: tuple[int, int] = network.backbone.padded_size(*shape)
        return padded


def _key(features: NDArray[np.float32]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(features).tobytes(), digest_size=8).hexdigest()


def rows_of(deepest: Tensor, kind: str) -> Tensor:
    """Features as rows: of every token (B h w, d) for a segmentation, else their mean over each chip (B, d)."""
    if kind != "segmentation":
        return deepest.mean(dim=(-2, -1))
    return deepest.permute(0, 2, 3, 1).reshape(-1, deepest.shape[1])


def _sample(
    features: NDArray[np.float32], mask: NDArray[np.integer], padded: tuple[int, int], rng: np.random.Generator
) -> tuple[Floats, NDArray[np.int64]]:
    """Some labelled pixels of a chip: the features of the token each is in, and its label."""
    rows, columns = np.nonzero(mask != IGNORE)
    if len(rows) > MOST_PIXELS:
        some = np.sort(rng.choice(len(rows), MOST_PIXELS, replace=False))
        rows, columns = rows[some], columns[some]
    height, width = features.shape[-2:]
    tokens = features[:, rows * height // padded[0], columns * width // padded[1]]
    return tokens.T, mask[rows, columns].astype(np.int64)
