"""A deep tier on chips: fit, predict, save, load, count what it costs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from rs05bench.errors import DataError, ProtocolError
from rs05bench.models.backbones.weights import declared_weights
from rs05bench.models.cache import EncodedLoader, FeatureCache, collate, opened
from rs05bench.models.chip_facts import ChipFacts, fit_identity
from rs05bench.models.chip_network import build_network, forget_encoders
from rs05bench.models.deep_names import DeepSpec, find, model_card
from rs05bench.models.devices import device_of, gather, moved
from rs05bench.models.networks import EncoderNetwork, gflops_per_unit, parameter_counts, trainable_state
from rs05bench.models.options import RUN_NAMES, DeepOptions, ScheduleOptions, for_chips
from rs05bench.models.plan import ChipData, FitHistory, training_of
from rs05bench.models.sliding_windows import Window, sliding_window, window_starts
from rs05bench.models.summary import summarise
from rs05bench.models.tier_module import TierModule
from rs05bench.models.training import augments, fit_network, load_trainable, memory_advice, seeded
from rs05bench.protocol import ModelCard, Predictions
from rs05bench.protocol.cell_record import TrainingRecord
from rs05bench.protocol.predictions import RolePredictions

SCHEMA_VERSION = 1


class DeepModel:
    """A deep tier on chips.

    Attributes:
        network_: The trained network.
        history_: What happened in the fit.
        facts_: What was found in the data when it was built (bands, scale, classes, dates, image size).
        can_be_saved: Whether `save` writes what `load` reads.
    """

    can_be_saved = True

    def __init__(self, spec: DeepSpec, *, seed: int = 0, **options: Any) -> None:
        self.spec = spec
        self.seed = seed
        known = for_chips(spec.tier, encoder=spec.backbone is not None, shallow=spec.shallow is not None)
        self.options = DeepOptions.of(spec.name, options, known)
        self._declared: Path | None = None
        self.network_: nn.Module
        self.history_: FitHistory
        self.facts_: ChipFacts

    @property
    def card(self) -> ModelCard:
        """The model's card; parameter counts are known once it was built for some data."""
        return model_card(self.spec, getattr(self, "network_", None), self.options.given())

    @property
    def training_record(self) -> TrainingRecord:
        """Schedule, early stopping, the learning rate that was kept, and where the encoder's weights are from; empty before the fit."""
        if not hasattr(self, "history_"):
            return TrainingRecord()
        record = self.history_.record()
        return record.with_fields(encoder=self.network_.backbone.origin) if isinstance(self.network_, EncoderNetwork) else record

    def module(self, data: ChipData) -> TierModule:
        """The tier as a LightningModule for a Trainer of your own: ``Trainer(max_steps=dm.steps).fit(model.module(dm), dm)``.

        It trains with the middle rate of the declared grid; `fit` is what tries them all and keeps the best weights.
        """
        data = data.view
        with seeded(self.seed):
            self.facts_ = self.inspect(data)
        plan = training_of(data, self.options.given(ScheduleOptions))
        self.network_ = self.network(self.facts_)
        with seeded(self.seed):
            summary = summarise(self.network_, data, plan)
        if summary.target_mean is not None and summary.target_std is not None:
            self.facts_.target = summary.target_mean.tolist(), summary.target_std.tolist()
        return TierModule(self.network_, data.kind, plan, plan.middle_rate, summary, chunk=data.batch_size)

    def build(self, data: ChipData) -> nn.Module:
        """The untrained network for these data (reads one training batch for the image size)."""
        return self.network(self.inspect(data))

    def fit(self, data: ChipData) -> DeepModel:
        """Train on the budget's labels."""
        with seeded(self.seed):
            self.facts_ = self.inspect(data)
        plan = training_of(data, self.options.given(ScheduleOptions))
        network = self.network(self.facts_)
        checkpoints = None
        if self.options.checkpoints is not None:
            checkpoints = Path(self.options.checkpoints) / fit_identity(self.spec.name, self.seed, self.options, plan, data.digest)
        self.history_, summary = fit_network(
            network,
            data,
            plan,
            seed=self.seed,
            cache=self._cache(),
            checkpoints=checkpoints,
            accelerator=self.options.accelerator,
        )
        if summary.target_mean is not None and summary.target_std is not None:
            self.facts_.target = summary.target_mean.tolist(), summary.target_std.tolist()
        # Fitting leaves it on the host; maps are predicted where it was trained.
        self.network_ = network.to(device_of(self.options.accelerator))
        return self

    def warm_up(self, data: ChipData) -> None:
        """Fit another model of this kind for one step and forget it: what a process does once (imports, kernels) is then done."""
        options = {key: value for key, value in self.options.given().items() if key not in ("cache", "checkpoints")}
        first = training_of(data, self.options.given(ScheduleOptions)).learning_rates[:1]
        type(self)(self.spec, seed=self.seed, **options | {"steps": 1, "val_every": 1, "learning_rates": first}).fit(data)
        forget_encoders()

    def predict(self, data: ChipData, role: str) -> RolePredictions:
        """Predictions of a role: one row a unit, or for segmentation a lazy set of chips (`ChipPredictions`)."""
        if self.facts_.kind == "segmentation":
            return ChipPredictions(self, data, role, tuple(self.facts_.classes or ()))
        units, values = self._predict_units(data, role)
        if self.facts_.kind == "regression":
            return Predictions.of_values(units, role, values[:, 0])
        return Predictions.of_classes(units, role, values, self.facts_.classes or ())

    def predict_chips(self, data: ChipData, role: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield each unit's id and its probabilities (K, H, W), one batch in memory at a time."""
        for batch in self._batches(data, role):
            ids = [str(unit) for unit in batch["unit_id"]]
            yield from zip(ids, self.probabilities(batch), strict=True)

    def predict_scene(
        self,
        read: Callable[[Window], dict[str, NDArray[Any]]],
        height: int,
        width: int,
        *,
        window: int | None = None,
        stride: int | None = None,
        block: int = 1024,
        batch: int | None = None,
    ) -> Iterator[tuple[Window, NDArray[np.float32]]]:
        """Predict a scene by sliding window.

        Args:
            read: Gives the arrays of a window by their batch names without the batch axis (``image`` (C, h, w), ``embedding`` ...).
            height: Rows of the scene.
            width: Columns.
            window: Side of a window; the option `window`, or the training image's, where None.
            stride: Step; half a window where None.
            block: Side of an output block.
            batch: Windows at once; the option `batch`, or 8, where None.

        Yields:
            Blocks with probabilities (K, h, w), or values (1, h, w) for regression.
        """
        side, batch = window or self._window(), batch or self.options.batch
        gather(self.network_)

        def predict(windows: list[Window]) -> NDArray[np.float32]:
            arrays = [read(one) for one in windows]
            stacked = {name: torch.from_numpy(np.stack([entry[name] for entry in arrays])) for name in arrays[0]}
            return np.stack(self._whole(self._encoded(stacked)))

        outputs = len(self.facts_.classes or [None])
        yield from sliding_window(
            predict, height, width, window=side, stride=stride or max(1, side // 2), classes=outputs, block=block, batch=batch
        )

    def save(self, folder: str | Path) -> None:
        """Write ``model.json`` and ``weights.safetensors`` (what was trained, and nothing of a frozen encoder)."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        options = {key: value for key, value in self.options.given().items() if key not in (*RUN_NAMES, "weights")}
        record = {
            "schema_version": SCHEMA_VERSION,
            "name": self.spec.name,
            "seed": self.seed,
            "options": options,
            "facts": self.facts_.model_dump(mode="json"),
            "history": asdict(self.history_),
            "frozen": self._frozen_digest(self.network_),
        }
        save_file(trainable_state(self.network_), target / "weights.safetensors")
        (target / "model.json").write_text(json.dumps(record, indent=1, default=list))

    @classmethod
    def load(cls, folder: str | Path, **options: Any) -> DeepModel:
        """Read a saved model; a pretrained one needs its ``weights=`` again.

        Raises:
            DataError: The frozen encoder is not the one it was trained on.
        """
        source = Path(folder)
        record = json.loads((source / "model.json").read_text())
        spec = find(record["name"])
        if spec is None:
            raise DataError(f"holds a model of an unknown name, {record['name']!r}", source=source / "model.json")
        model = cls(spec, seed=record["seed"], **(record["options"] | options))
        model.facts_ = ChipFacts.model_validate(record["facts"])
        network = model.network(model.facts_)
        if model._frozen_digest(network) != record["frozen"]:
            remedy = "Give the same weights (or init_seed) it was trained with."
            raise DataError("the frozen part of the encoder differs from the one this model was trained on", source=source, remedy=remedy)
        load_trainable(network, load_file(source / "weights.safetensors"))
        model.network_ = network.eval().to(device_of(model.options.accelerator))
        model.history_ = FitHistory(**record["history"])
        return model

    def cost(self, data: ChipData) -> dict[str, float]:
        """Counted, not timed: parameters in all and trainable, and GFLOPs of one training image."""
        network = getattr(self, "network_", None) or self.build(data)
        gather(network)
        total, trainable = parameter_counts(network)
        batch = moved(next(iter(data.train_dataloader())), next(network.parameters()).device)
        return {"parameters_total": total, "parameters_trainable": trainable, "gflops_per_unit": gflops_per_unit(network, batch)}

    def gflops_per_unit(self, data: Any) -> float | None:
        """Billions of operations to predict one whole unit, all its windows included; None where no unit is to be predicted.

        Counted on one window and multiplied by the windows of a unit.
        """
        role = next((role for role in ("test_id", "test_ood") if len(data.unit_ids(role))), None)
        if role is None:
            return None
        batch = next(iter(data.predict_dataloader(role)))
        spatial = [name for name in ("image", "embedding", "extra") if name in batch]
        height, width = batch[spatial[0]].shape[-2:]
        side = self._window()
        count = 1
        if max(height, width) > side:
            stride = max(1, side // 2)
            count = len(window_starts(height, side, stride)) * len(window_starts(width, side, stride))
            batch = {name: value[..., :side, :side] if name in spatial else value for name, value in batch.items()}
        gather(self.network_)
        return count * gflops_per_unit(self.network_, moved(batch, next(self.network_.parameters()).device))

    def inspect(self, data: ChipData) -> ChipFacts:
        """What the network needs to know about data. Weights that the card keeps with its data are found here."""
        pretrained = self.spec.backbone is not None and not self.spec.random_twin
        self._declared = declared_weights(data.view, self.spec.inputs) if pretrained else None
        return ChipFacts.of(data)

    def network(self, facts: ChipFacts) -> nn.Module:
        """The untrained network for data of which `inspect` said this; see `build_network`."""
        options = self.options
        if self._declared is not None and options.weights is None:
            options = options.model_copy(update={"weights": str(self._declared)})
        return build_network(self.spec, facts, options, self.seed)

    def _frozen_digest(self, network: nn.Module) -> str:
        """Identity of what is not saved: every encoder weight that did not train."""
        digest = hashlib.sha256()
        for name, value in sorted(network.named_parameters()):
            if not value.requires_grad:
                digest.update(name.encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _batches(self, data: ChipData, role: str) -> Iterator[dict[str, Any]]:
        if not hasattr(self, "network_"):
            raise ProtocolError(f"{self.spec.name} was asked to predict before it was fitted", remedy="Call fit(data) first.")
        loader: Any = data.predict_dataloader(role)
        gather(self.network_)
        store = self._cache()
        if store is not None and isinstance(self.network_, EncoderNetwork) and self.network_.encoder_frozen and not augments(data):
            loader = _Streamed(EncodedLoader(loader, self.network_, store, shuffle=False), int(self._window()))
        with memory_advice():
            yield from loader

    def _encoded(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of windows with features instead of pixels, where the encoder is frozen: each window is encoded once, ever."""
        store = self._cache()
        if store is None or not isinstance(self.network_, EncoderNetwork) or not self.network_.encoder_frozen:
            return batch
        with memory_advice():
            return collate(EncodedLoader([], self.network_, store, shuffle=False).encode(batch))

    def _cache(self) -> FeatureCache | None:
        return opened(self.options.cache)

    @property
    def context(self) -> int:
        """Pixels it should see around what is drawn: half a window, so that every drawn pixel has a whole one about it."""
        return self._window() // 2

    def _window(self) -> int:
        return int(self.options.window or self.facts_.image_size)

    def probabilities(self, batch: dict[str, Any]) -> list[NDArray[np.float32]]:
        """Probabilities (K, H, W) of each chip of a batch; those larger than the training image go through the sliding window."""
        if "features" in batch:
            return self._whole(batch)
        arrays = {name: value for name, value in batch.items() if hasattr(value, "shape") and name not in ("mask", "label")}
        height, width = arrays["image" if "image" in arrays else "embedding"].shape[-2:]
        side = self._window()
        if max(height, width) <= side:
            return self._whole(arrays)
        count = next(iter(arrays.values())).shape[0]
        return [
            self._large({name: value[row].cpu().numpy() for name, value in arrays.items()}, height, width, side) for row in range(count)
        ]

    def _large(self, chip: dict[str, NDArray[Any]], height: int, width: int, side: int) -> NDArray[np.float32]:
        def read(window: Window) -> dict[str, NDArray[Any]]:
            rows, columns = slice(window.row, window.row + window.height), slice(window.column, window.column + window.width)
            return {name: value[..., rows, columns] if name in ("image", "embedding", "extra") else value for name, value in chip.items()}

        blocks = self.predict_scene(read, height, width, window=side, block=max(height, width))
        return next(blocks)[1]

    def _whole(self, batch: dict[str, Any]) -> list[NDArray[np.float32]]:
        device = next(self.network_.parameters()).device
        self.network_.eval()
        with torch.no_grad(), memory_advice():
            logits = self.network_(moved(batch, device)).float()
        if self.facts_.kind == "regression":
            mean, std = (torch.tensor(part, device=device) for part in self.facts_.target or ())
            values = logits * std.view(1, -1, *[1] * (logits.ndim - 2)) + mean.view(1, -1, *[1] * (logits.ndim - 2))
        else:
            values = logits.softmax(dim=1)
        return list(values.cpu().numpy())

    def _predict_units(self, data: ChipData, role: str) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
        units: list[str] = []
        values: list[NDArray[np.float32]] = []
        for batch in self._batches(data, role):
            units += [str(unit) for unit in batch["unit_id"]]
            values += self._whole({name: value for name, value in batch.items() if name not in ("unit_id", "mask", "label")})
        return np.array(units, dtype=str), np.stack(values) if values else np.empty((0, 1), dtype=np.float32)


class PredictsChips(Protocol):
    """What predicts chips one by one."""

    def predict_chips(self, data: ChipData, role: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield each unit's id and its probabilities (K, H, W)."""


class ChipPredictions:
    """Segmentation predictions that are computed while they are read.

    Iterating yields (unit_id, probabilities (K, H, W) float32). Nothing is kept.
    """

    def __init__(self, model: PredictsChips, data: ChipData, role: str, classes: tuple[str, ...]) -> None:
        self.model = model
        self.data = data
        self.role = role
        self.classes = classes

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """One chip at a time."""
        yield from self.model.predict_chips(self.data, self.role)


class _Streamed:
    """Cached features where a chip fits the training image; larger chips pass through for the sliding window."""

    def __init__(self, encoded: Any, side: int) -> None:
        self.encoded = encoded
        self.side = side

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.encoded.loader:
            small = max(batch["image"].shape[-2:]) <= self.side
            yield collate(self.encoded.encode(batch)) if small else batch
