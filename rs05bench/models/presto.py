"""Presto on pixel time series: frozen, LoRA and full fine-tuning of a table task, each with its random-initialised twin.

What the feature sets ``presto``, ``dynamic_world`` and ``month`` hold is told in `rs05bench.models.presto_series`; the position of the
units is used too. ``location=False`` and ``calendar=False`` tell the encoder the same place, or the same months, for every unit: what it
then knows of them is what the pixels show. The encoder is TorchGeo's (Tseng et al. 2023, arXiv:2304.14065).
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError, ProtocolError
from rs05bench.models.backbones.catalogue import PRESTO_WEIGHTS
from rs05bench.models.presto_series import MISSING_COVER, aligned, presto_series, whole_numbers

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rs05bench.models.deep import DeepSpec
    from rs05bench.models.plan import FitHistory
    from rs05bench.protocol import ModelCard, Predictions, TaskData

_WIDTH = 128
_ENCODER_OPTIONS = ("weights", "revision", "init_seed")
_INPUT_OPTIONS = ("location", "calendar")
_OWN_OPTIONS = ("cache", "checkpoints", "accelerator", "features", "batch_size", *_INPUT_OPTIONS)


class PrestoModel:
    """A Presto tier on a `TaskData`.

    Attributes:
        network_: The trained network.
        history_: What happened in the fit.
    """

    def __init__(self, spec: DeepSpec, *, seed: int = 0, **options: Any) -> None:
        self.spec = spec
        self.seed = seed
        self.options = options
        self.network_: nn.Module
        self.history_: FitHistory

    @property
    def card(self) -> ModelCard:
        """The model's card; parameter counts are known after the fit."""
        from rs05bench.models.deep import model_card

        return model_card(self.spec, getattr(self, "network_", None), self.options)

    @property
    def training_record(self) -> dict[str, Any]:
        """Schedule, early stopping and the learning rate that was kept; empty before the fit."""
        return self.history_.record() if hasattr(self, "history_") else {}

    def fit(self, data: TaskData) -> PrestoModel:
        """Train on the budget's labels; the target is standardised by the training role."""
        from rs05bench.models.adaptation import OPTIONS
        from rs05bench.models.plan import TrainingPlan
        from rs05bench.models.training import fit_network

        # What this tier would ignore is left to the plan, which refuses it.
        others = {*_ENCODER_OPTIONS, *OPTIONS[self.spec.tier], *_OWN_OPTIONS}
        series = _SeriesData(self, data)
        plan = TrainingPlan.of(series, **{key: value for key, value in self.options.items() if key not in others})  # type: ignore[arg-type]
        network = self._network(data)
        series.network = network
        self.history_, summary = fit_network(
            network,
            series,  # type: ignore[arg-type]
            plan,
            seed=self.seed,
            checkpoints=self.options.get("checkpoints"),
            accelerator=self.options.get("accelerator", "auto"),
        )
        if summary.target_mean is not None and summary.target_std is not None:
            self._target = float(summary.target_mean[0]), float(summary.target_std[0])
        self.network_ = network.eval()
        return self

    def predict(self, data: TaskData, role: str) -> Predictions:
        """Predict the units of a role."""
        import torch

        from rs05bench.models.training import memory_advice
        from rs05bench.protocol import Predictions

        if not hasattr(self, "network_"):
            raise ProtocolError(f"{self.spec.name} was asked to predict before it was fitted", remedy="Call fit(data) first.")
        units = data.unit_ids(role)
        outputs = []
        loader = _SeriesLoader(self.tensors(data, role), batch=512, seed=None)
        with torch.no_grad(), memory_advice():
            outputs = [self.network_(batch).float() for batch in loader]
        logits = torch.cat(outputs) if outputs else torch.empty(0, 1)
        if data.classes is not None:
            return Predictions.of_classes(units, role, logits.softmax(dim=1).numpy(), data.classes)
        mean, deviation = self._target
        return Predictions.of_values(units, role, logits[:, 0].double().numpy() * deviation + mean)

    def embed(self, data: TaskData, role: str) -> NDArray[np.float32]:
        """The encoder's embedding of each unit, shape (n, 128): what ``presto/frozen`` puts a linear head on."""
        import torch

        network: Any = getattr(self, "network_", None) or self._network(data)
        network.eval()
        with torch.no_grad():
            parts = [network.encode(batch) for batch in _SeriesLoader(self.tensors(data, role), batch=512, seed=None)]
        return torch.cat(parts).numpy() if parts else np.empty((0, _WIDTH), dtype=np.float32)

    def tensors(self, data: TaskData, role: str) -> dict[str, Tensor]:
        """Everything the encoder reads about the units of a role."""
        import torch

        name = str(self.options.get("features", "presto"))
        sets = list(data.feature_sets)
        if name not in sets:
            remedy = "Add it to the card's features, or name another with features=."
            raise DataError(
                f"{self.spec.name}: the task has no feature set {name!r} (there are {', '.join(sets) or 'none'})",
                source=data.card.name,
                remedy=remedy,
            )
        x, mask, found = presto_series(data.X(role, name), data.columns(name))
        dates = x.shape[1]
        cover = aligned(data.X(role, "dynamic_world"), dates, "dynamic_world") if "dynamic_world" in sets else found.get("dynamic_world")
        month = aligned(data.X(role, "month"), dates, "month") if "month" in sets else found.get("month")
        position = data.coordinates(role)[:, ::-1]
        if not self.options.get("location", True):
            # Held at one place inside the data, so that the encoder sees nothing it was not made for.
            position = np.broadcast_to(np.nanmean(data.coordinates("train")[:, ::-1], axis=0), position.shape)
        if not self.options.get("calendar", True):
            month = np.broadcast_to(np.arange(dates, dtype=np.float32), (len(x), dates))
        return {
            "series": torch.from_numpy(x),
            "mask": torch.from_numpy(mask),
            "cover": torch.from_numpy(whole_numbers(cover, len(x), dates, missing=MISSING_COVER, top=MISSING_COVER, name="dynamic_world")),
            "month": torch.from_numpy(whole_numbers(month, len(x), dates, missing=0, top=11, name="month")),
            "location": torch.from_numpy(np.nan_to_num(np.ascontiguousarray(position, dtype=np.float32))),
        }

    def _network(self, data: TaskData) -> nn.Module:
        from rs05bench.models.adaptation import OPTIONS, Adaptation
        from rs05bench.models.training import seeded

        outputs = len(data.classes) if data.classes is not None else 1
        given = {key: self.options[key] for key in _ENCODER_OPTIONS if key in self.options}
        if not self.spec.random_twin and not {"weights", "revision"} & set(given):
            from rs05bench.models.backbones.weights import declared_weights

            given["weights"] = declared_weights(data, "presto")
        encoder = presto_encoder(pretrained=not self.spec.random_twin, **given)
        options = {key: self.options[key] for key in OPTIONS[self.spec.tier] if key in self.options}
        if "targets" in options:
            options["targets"] = tuple(options["targets"])
        with seeded(self.seed):
            return presto_network(encoder, Adaptation(self.spec.tier, **options), outputs)  # type: ignore[arg-type]


def presto_encoder(
    *, pretrained: bool = True, weights: str | Path | None = None, revision: str | None = None, init_seed: int = 0
) -> nn.Module:
    """TorchGeo's Presto encoder.

    Args:
        pretrained: False is the random-initialised twin.
        weights: Local file of weights (of the whole Presto).
        revision: Hub commit; one is pinned where None.
        init_seed: Seed of random weights.

    Raises:
        DataError: The weights are missing or incomplete.
    """
    import torch

    # torchgeo.models exports a function of the module's name; attribute access would find the function.
    module = importlib.import_module("torchgeo.models.presto")
    path = None
    if pretrained:
        from rs05bench.models.backbones.weights import locate_weights

        path = locate_weights(PRESTO_WEIGHTS, weights=weights, revision=revision, encoder="presto")
    elif weights is not None or revision is not None:
        raise DataError(
            "presto: weights given for a random-initialised twin", remedy="Leave @random out of the model's name to use the weights."
        )
    with torch.random.fork_rng():
        torch.manual_seed(init_seed)
        whole = module.Presto()
    if path is not None:
        from rs05bench.models.backbones.weights import load_complete, read_state_dict

        load_complete(whole, read_state_dict(path), source=path)
    return whole.encoder


def presto_network(encoder: nn.Module, adaptation: Any, outputs: int) -> nn.Module:
    """The adapted encoder with a linear head on its mean token."""
    import torch
    from torch import nn

    from rs05bench.models.adaptation import adapt, set_training_modes
    from rs05bench.models.backbones.spec import Layout

    class PrestoNetwork(nn.Module):
        """Batches of `PrestoModel.tensors` (or of ``features``) to (n, outputs)."""

        def __init__(self) -> None:
            super().__init__()
            adapt(encoder, Layout(r"blocks\.\d+"), adaptation)
            self.backbone = encoder
            self.norm = nn.LayerNorm(_WIDTH)
            self.head = nn.Linear(_WIDTH, outputs)
            self.adaptation = adaptation
            self.encoder_frozen = adaptation.tier == "frozen"

        def train(self, mode: bool = True) -> PrestoNetwork:
            super().train(mode)
            if mode:
                set_training_modes(self.backbone, self.adaptation.tier)
            return self

        def encode(self, batch: dict[str, Tensor]) -> Tensor:
            """Mean token (n, 128).

            TorchGeo's encoder wants equally many masked tokens in a batch, so units go through by the pattern of what they lack.
            """
            cover, mask = batch["cover"], batch["mask"]
            pattern = torch.cat([mask.flatten(1), (cover == MISSING_COVER).to(mask.dtype)], dim=1)
            kinds, which = torch.unique(pattern, dim=0, return_inverse=True)
            embedding = batch["series"].new_empty(len(cover), _WIDTH)
            for kind in range(len(kinds)):
                rows = torch.nonzero(which == kind).squeeze(1)
                part = {name: batch[name][rows] for name in ("series", "cover", "location", "mask", "month")}
                tokens = self.backbone(part["series"], part["cover"], part["location"], mask=part["mask"], month=part["month"])[0]
                embedding = embedding.index_copy(0, rows, tokens.mean(dim=1))
            return embedding

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            if "features" in batch:
                embedding = batch["features"]
            else:
                with torch.set_grad_enabled(torch.is_grad_enabled() and not self.encoder_frozen):
                    embedding = self.encode(batch)
            return self.head(self.norm(embedding))

    return PrestoNetwork()


class _SeriesData:
    """A `TaskData` as the training loop reads data."""

    scale, num_frames, bands, steps = 1.0, 1, (), 0

    def __init__(self, model: PrestoModel, data: TaskData) -> None:
        self.model = model
        self.data = data
        self.card = data.card
        self.kind = "regression" if data.classes is None else "classification"
        self.classes = data.classes
        self.network: Any = None
        self._prepared: dict[str, dict[str, Tensor]] = {}

    def train_dataloader(self) -> _SeriesLoader:
        return _SeriesLoader(self._labelled("train"), batch=self._batch(), seed=self.model.seed)

    def val_dataloader(self) -> _SeriesLoader | None:
        tensors = self._labelled("val")
        return _SeriesLoader(tensors, batch=512, seed=None) if len(tensors["label"]) else None

    def _batch(self) -> int:
        given = self.model.options.get("batch_size")
        return int(given or getattr(self.card.training, "batch_size", None) or 32)

    def _labelled(self, role: str) -> dict[str, Tensor]:
        import torch

        if role not in self._prepared:
            tensors = self.model.tensors(self.data, role)
            if self.network.encoder_frozen:
                # Nothing random precedes the encoder, so every unit is encoded once and the head trains on that.
                self.network.eval()
                with torch.no_grad():
                    parts = [self._features(batch) for batch in _SeriesLoader(tensors, batch=512, seed=None)]
                tensors = {"features": torch.cat(parts) if parts else torch.empty(0, _WIDTH)}
            label = np.asarray(self.data.y(role))
            tensors["label"] = torch.from_numpy(label.astype(np.float32 if self.classes is None else np.int64))
            self._prepared[role] = tensors
        return self._prepared[role]

    def _features(self, batch: dict[str, Tensor]) -> Tensor:
        import torch

        folder = self.model.options.get("cache")
        if folder is None:
            return self.network.encode(batch)
        from rs05bench.models.backbones.weights import state_digest
        from rs05bench.models.cache import FeatureCache, unit_digest

        cache = folder if isinstance(folder, FeatureCache) else FeatureCache(folder)
        encoder = hashlib.sha256(f"presto|{state_digest(self.network.backbone)}".encode()).hexdigest()
        rows = range(len(batch["series"]))
        keys = [unit_digest(batch["series"][row], *(batch[name][row] for name in ("mask", "cover", "month", "location"))) for row in rows]
        found = [cache.get(encoder, key) for key in keys]
        absent = [row for row in rows if found[row] is None]
        cache.hits, cache.misses = cache.hits + len(keys) - len(absent), cache.misses + len(absent)
        if absent:
            encoded = self.network.encode({name: value[absent] for name, value in batch.items()}).numpy()
            for position, row in enumerate(absent):
                maps = [np.ascontiguousarray(encoded[position])]
                cache.put(encoder, keys[row], maps)
                found[row] = maps
        return torch.from_numpy(np.stack([maps[0] for maps in found if maps is not None]))


class _SeriesLoader:
    """Batches of aligned tensors, drawn anew each pass when seeded."""

    def __init__(self, tensors: dict[str, Tensor], *, batch: int, seed: int | None) -> None:
        self.tensors = tensors
        self.batch = batch
        self.seed = seed
        self.passes = 0

    def __len__(self) -> int:
        return -(-len(next(iter(self.tensors.values()))) // self.batch)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        count = len(next(iter(self.tensors.values())))
        order = np.arange(count)
        if self.seed is not None:
            np.random.default_rng([self.seed, self.passes]).shuffle(order)
        self.passes += 1
        for start in range(0, count, self.batch):
            rows = order[start : start + self.batch]
            yield {name: value[rows] for name, value in self.tensors.items()}
