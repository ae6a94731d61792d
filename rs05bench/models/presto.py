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
from rs05bench.models.deep_names import DeepSpec, model_card
from rs05bench.models.options import AdaptationOptions, DeepOptions, EncoderOptions, ScheduleOptions, for_series
from rs05bench.models.presto_series import MISSING_COVER, aligned, presto_series, whole_numbers
from rs05bench.protocol.cell_record import TrainingRecord
from rs05bench.protocol.hashing import file_digest, text_digest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rs05bench.models.cache import FeatureCache
    from rs05bench.models.plan import FitHistory, Kind
    from rs05bench.protocol import ModelCard, TaskData
    from rs05bench.protocol.card import Training
    from rs05bench.protocol.predictions import TablePredictions

_WIDTH = 128
_TOGETHER = 16
"""Units a frozen encoder sees at once, always: sums of another shape differ in the last bit, and a unit's features would depend on which
others a cache lacks."""


class PrestoModel:
    """A Presto tier on a `TaskData`.

    Attributes:
        network_: The trained network.
        history_: What happened in the fit.
    """

    def __init__(self, spec: DeepSpec, *, seed: int = 0, **options: Any) -> None:
        self.spec = spec
        self.seed = seed
        self.options = DeepOptions.of(spec.name, options, for_series(spec.tier, shallow=spec.shallow is not None))
        self.network_: nn.Module
        self.history_: FitHistory

    @property
    def card(self) -> ModelCard:
        """The model's card; parameter counts are known after the fit."""
        return model_card(self.spec, getattr(self, "network_", None), self.options.given())

    @property
    def training_record(self) -> TrainingRecord:
        """Schedule, early stopping, the learning rate that was kept and where the encoder's weights are from; empty before the fit."""
        if not hasattr(self, "history_"):
            return TrainingRecord()
        network: Any = self.network_
        return self.history_.record().with_fields(encoder=network.backbone.origin)

    def fit(self, data: TaskData) -> PrestoModel:
        """Train on the budget's labels; the target is standardised by the training role."""
        from rs05bench.models.devices import device_of
        from rs05bench.models.plan import training_of
        from rs05bench.models.training import fit_network

        series = _SeriesData(self, data)
        plan = training_of(series, self.options.given(ScheduleOptions))
        network = self._network(data)
        device = device_of(self.options.accelerator)
        series.network = network.to(device)
        self.history_, summary = fit_network(
            network,
            series,
            plan,
            seed=self.seed,
            checkpoints=self._checkpoints(plan, data),
            accelerator=self.options.accelerator,
        )
        if summary.target_mean is not None and summary.target_std is not None:
            self._target = float(summary.target_mean[0]), float(summary.target_std[0])
        # Fitting leaves it on the host; it predicts where it was trained.
        self.network_ = network.eval().to(device)
        return self

    def _checkpoints(self, plan: Training, data: TaskData) -> Path | None:
        """Where this fit, and no other, is taken up again."""
        from rs05bench.models.chip_facts import fit_identity

        folder = self.options.checkpoints
        if folder is None:
            return None
        shown = hashlib.sha256("|".join((data.card.digest, data.split, data.fold, data.target, data.budget.digest)).encode())
        for role in ("train", "val"):
            shown.update("|".join(map(str, data.unit_ids(role))).encode() + np.asarray(data.y(role)).tobytes())
        return Path(folder) / fit_identity(self.spec.name, self.seed, self.options, plan, shown.hexdigest())

    def warm_up(self, data: TaskData) -> None:
        """Fit another model of this kind for one step and forget it: what a process does once (imports, kernels) is then done."""
        options = {key: value for key, value in self.options.given().items() if key not in ("cache", "checkpoints")}
        PrestoModel(self.spec, seed=self.seed, **options | {"steps": 1, "val_every": 1, "learning_rates": [1e-3]}).fit(data)

    def predict(self, data: TaskData, role: str) -> TablePredictions:
        """Predict the units of a role."""
        import torch

        from rs05bench.models.training import memory_advice
        from rs05bench.protocol import Predictions

        if not hasattr(self, "network_"):
            raise ProtocolError(f"{self.spec.name} was asked to predict before it was fitted", remedy="Call fit(data) first.")
        units = data.unit_ids(role)
        loader = _SeriesLoader(self.tensors(data, role), batch=512, seed=None)
        with torch.no_grad(), memory_advice():
            outputs = [self._logits(batch) for batch in loader]
        logits = torch.cat(outputs) if outputs else torch.empty(0, 1)
        if data.classes is not None:
            return Predictions.of_classes(units, role, logits.softmax(dim=1).numpy(), data.classes)
        mean, deviation = self._target
        return Predictions.of_values(units, role, logits[:, 0].double().numpy() * deviation + mean)

    def _logits(self, batch: dict[str, Tensor]) -> Tensor:
        from rs05bench.models.devices import moved

        network: Any = self.network_
        if network.encoder_frozen:
            batch = {"features": _features(network, batch, self.options.cache)}
        logits: Tensor = network(moved(batch, next(network.parameters()).device))
        return logits.float().cpu()

    def gflops_per_unit(self, data: TaskData) -> float | None:
        """Billions of operations to predict one unit, counted on the first that is to be predicted; None where there is none."""
        from rs05bench.models.devices import moved
        from rs05bench.models.networks import gflops_per_unit

        role = next((role for role in ("test_id", "test_ood") if len(data.unit_ids(role))), None)
        if role is None:
            return None
        network: Any = self.network_
        first = {name: value[:1] for name, value in self.tensors(data, role).items()}
        # One by itself, without the ones that fill it up to `_TOGETHER`.
        network.together, kept = None, network.together
        try:
            return gflops_per_unit(network, moved(first, next(network.parameters()).device))
        finally:
            network.together = kept

    def embed(self, data: TaskData, role: str) -> NDArray[np.float32]:
        """The encoder's embedding of each unit, shape (n, 128): what ``presto/frozen`` puts a linear head on.

        It is kept in the folder `cache`, where one was given.
        """
        import torch

        from rs05bench.models.devices import device_of

        if not hasattr(self, "network_"):
            self.network_ = self._network(data).eval().to(device_of(self.options.accelerator))
        network: Any = self.network_
        network.eval()
        with torch.no_grad():
            loader = _SeriesLoader(self.tensors(data, role), batch=512, seed=None)
            parts = [_features(network, batch, self.options.cache) for batch in loader]
        return torch.cat(parts).numpy() if parts else np.empty((0, _WIDTH), dtype=np.float32)

    @property
    def origin(self) -> str:
        """Where the encoder's weights are from; known once it was built."""
        network: Any = self.network_
        return str(network.backbone.origin)

    @property
    def encoder_parameters(self) -> int:
        """Parameters of the encoder; known once it was built."""
        network: Any = self.network_
        return sum(parameter.numel() for parameter in network.backbone.parameters())

    def tensors(self, data: TaskData, role: str) -> dict[str, Tensor]:
        """Everything the encoder reads about the units of a role."""
        import torch

        name = self.options.features
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
        if not self.options.location:
            # Held at one place inside the data, so that the encoder sees nothing it was not made for.
            position = np.broadcast_to(np.nanmean(data.coordinates("train")[:, ::-1], axis=0), position.shape)
        if not self.options.calendar:
            month = np.broadcast_to(np.arange(dates, dtype=np.float32), (len(x), dates))
        return {
            "series": torch.from_numpy(x),
            "mask": torch.from_numpy(mask),
            "cover": torch.from_numpy(whole_numbers(cover, len(x), dates, missing=MISSING_COVER, top=MISSING_COVER, name="dynamic_world")),
            "month": torch.from_numpy(whole_numbers(month, len(x), dates, missing=0, top=11, name="month")),
            "location": torch.from_numpy(np.nan_to_num(np.ascontiguousarray(position, dtype=np.float32))),
        }

    def _network(self, data: TaskData) -> nn.Module:
        from rs05bench.models.adaptation import Adaptation
        from rs05bench.models.training import seeded

        outputs = len(data.classes) if data.classes is not None else 1
        given = self.options.given(EncoderOptions)
        if self.spec.random_twin:
            # A control is another network for every seed: five seeds of one initialisation are five draws of labels and no more.
            given.setdefault("init_seed", self.seed)
        if not self.spec.random_twin and not {"weights", "revision"} & set(given):
            from rs05bench.models.backbones.weights import declared_weights

            given["weights"] = declared_weights(data, "presto")
        encoder = presto_encoder(pretrained=not self.spec.random_twin, **given)
        with seeded(self.seed):
            return presto_network(encoder, Adaptation(self.spec.tier, **self.options.given(AdaptationOptions)), outputs)  # type: ignore[arg-type]


def presto_encoder(
    *, pretrained: bool = True, weights: str | Path | None = None, revision: str | None = None, init_seed: int = 0
) -> nn.Module:
    """TorchGeo's Presto encoder.

    Args:
        pretrained: False is the random-initialised twin.
        weights: Local file of weights (of the whole Presto).
        revision: Hub commit; one is pinned where None.
        init_seed: Seed of random weights.

    Returns:
        The encoder, with the attribute ``origin``: ``random:<init_seed>`` or the name and SHA-256 of the weights file, as of a `Backbone`.

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
    origin = f"random:{init_seed}"
    if path is not None:
        from rs05bench.models.backbones.weights import load_complete, read_state_dict

        load_complete(whole, read_state_dict(path), source=path)
        origin = f"{path.name}:{file_digest(path)[:16]}"
    whole.encoder.origin = origin
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
            self.together = _TOGETHER if self.encoder_frozen else None

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
                for some in rows.split(self.together or len(rows)):
                    embedding = embedding.index_copy(0, some, self._mean_tokens(batch, some))
            return embedding

        def _mean_tokens(self, batch: dict[str, Tensor], rows: Tensor) -> Tensor:
            """Mean tokens of some units that lack the same (n, 128); a frozen encoder's are filled up with the first to `together`."""
            filled = torch.cat([rows, rows[:1].expand((self.together or len(rows)) - len(rows))])
            part = {name: batch[name][filled] for name in ("series", "cover", "location", "mask", "month")}
            tokens: Tensor = self.backbone(part["series"], part["cover"], part["location"], mask=part["mask"], month=part["month"])[0]
            return tokens.mean(dim=1)[: len(rows)]

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

    steps, batch_size = 0, None

    def __init__(self, model: PrestoModel, data: TaskData) -> None:
        self.model = model
        self.data = data
        self.card = data.card
        self.kind: Kind = "regression" if data.classes is None else "classification"
        self.classes = data.classes
        self.network: Any = None
        self._prepared: dict[str, dict[str, Tensor]] = {}

    def train_dataloader(self) -> _SeriesLoader:
        return _SeriesLoader(self._labelled("train"), batch=self._batch(), seed=self.model.seed)

    def val_dataloader(self) -> _SeriesLoader | None:
        tensors = self._labelled("val")
        # One class is no ground to choose on: nothing stops early, and no rate is preferred.
        if len(tensors["label"]) == 0 or (self.classes is not None and len(tensors["label"].unique()) < 2):
            return None
        return _SeriesLoader(tensors, batch=512, seed=None)

    def _batch(self) -> int:
        return self.model.options.batch_size or self.card.training.batch_size

    def _labelled(self, role: str) -> dict[str, Tensor]:
        import torch

        if role not in self._prepared:
            tensors = self.model.tensors(self.data, role)
            if self.network.encoder_frozen:
                # Nothing random precedes the encoder, so every unit is encoded once and the head trains on that.
                self.network.eval()
                cache = self.model.options.cache
                with torch.no_grad():
                    parts = [_features(self.network, batch, cache) for batch in _SeriesLoader(tensors, batch=512, seed=None)]
                tensors = {"features": torch.cat(parts) if parts else torch.empty(0, _WIDTH)}
            label = np.asarray(self.data.y(role))
            tensors["label"] = torch.from_numpy(label.astype(np.float32 if self.classes is None else np.int64))
            self._prepared[role] = tensors
        return self._prepared[role]


def _features(network: Any, batch: dict[str, Tensor], folder: Any) -> Tensor:
    """Embeddings of a batch on the host (n, 128), from the cache where it has them.

    Args:
        network: A network with a frozen encoder.
        batch: Of `PrestoModel.tensors`.
        folder: The cache (a `FeatureCache` or its folder); None for none.
    """
    import torch

    if folder is None:
        return _encoded(network, batch)
    from rs05bench.models.backbones.weights import state_digest
    from rs05bench.models.cache import opened, unit_digest

    cache = opened(folder)
    assert cache is not None
    encoder = text_digest(f"presto, {_TOGETHER} at once|{state_digest(network.backbone)}")
    rows = range(len(batch["series"]))
    keys = [unit_digest(batch["series"][row], *(batch[name][row] for name in ("mask", "cover", "month", "location"))) for row in rows]
    found = [_kept(cache, encoder, key) for key in keys]
    absent = [row for row in rows if found[row] is None]
    cache.hits, cache.misses = cache.hits + len(keys) - len(absent), cache.misses + len(absent)
    if absent:
        encoded = _encoded(network, {name: value[absent] for name, value in batch.items()}).numpy()
        for position, row in enumerate(absent):
            found[row] = np.ascontiguousarray(encoded[position])
            cache.put(encoder, keys[row], [found[row]])  # type: ignore[list-item]
    return torch.from_numpy(np.stack([value for value in found if value is not None]))


def _kept(cache: FeatureCache, encoder: str, key: str) -> NDArray[np.float32] | None:
    """A unit's embedding, read: each map of a batch would hold a file open."""
    maps = cache.get(encoder, key)
    return None if maps is None else np.array(maps[0])


def _encoded(network: Any, batch: dict[str, Tensor]) -> Tensor:
    """Embeddings on the host, computed where the network is."""
    from rs05bench.models.devices import moved
    from rs05bench.models.networks import full_precision

    with full_precision():
        embedding: Tensor = network.encode(moved(batch, next(network.parameters()).device))
    return embedding.cpu()


class _SeriesLoader:
    """Batches of aligned tensors, drawn again each pass when seeded."""

    def __init__(self, tensors: dict[str, Tensor], *, batch: int, seed: int | None) -> None:
        self.tensors = tensors
        self.batch = batch
        self.seed = seed
        self.passes = 0
        self._skip = 0

    def begin(self, batches: int) -> None:
        self.passes, self._skip = divmod(batches, len(self))

    def __len__(self) -> int:
        return -(-len(next(iter(self.tensors.values()))) // self.batch)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        count = len(next(iter(self.tensors.values())))
        order = np.arange(count)
        if self.seed is not None:
            np.random.default_rng([self.seed, self.passes]).shuffle(order)
        self.passes += 1
        skip, self._skip = self._skip, 0
        for start in range(skip * self.batch, count, self.batch):
            rows = order[start : start + self.batch]
            yield {name: value[rows] for name, value in self.tensors.items()}
