"""One way to train every deep tier: same steps, same learning-rate grid, same early stopping, on the budget's labels alone.

The loop is Lightning's. Nothing here asks a data module for anything but its training and validation loaders; test units are out of reach.
"""

from __future__ import annotations

import json
import math
import random
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from rs05bench.errors import BenchError, DataError
from rs05bench.models.cache import EncodedLoader, FeatureCache
from rs05bench.models.devices import precision_of, repeatable
from rs05bench.models.logs import open_logs
from rs05bench.models.networks import EncoderNetwork, trainable_state
from rs05bench.models.plan import FitHistory, Resumable, TrainingData
from rs05bench.models.summary import TrainingSummary, summarise
from rs05bench.models.tier_module import KeepBest, TierModule
from rs05bench.protocol.atomic import write_json
from rs05bench.protocol.card import Training


def fit_network(
    network: nn.Module,
    data: TrainingData,
    plan: Training,
    *,
    seed: int,
    cache: FeatureCache | None = None,
    checkpoints: str | Path | None = None,
    accelerator: str = "auto",
) -> tuple[FitHistory, TrainingSummary]:
    """Train a network in place and leave it with the weights of the lowest validation loss.

    Args:
        network: An `EncoderNetwork` or a `ScratchNetwork`.
        data: Data under the protocol.
        plan: Steps, grid, patience.
        seed: Of dropout, and of loaders that draw from torch's global generator.
        cache: Features of a frozen encoder; used only where nothing random precedes the encoder.
        checkpoints: Folder to resume from and to write into at every validation.
        accelerator: Lightning's.

    Raises:
        BenchError: Memory ran out, with what to do about it.
        DataError: There is no training label.
    """
    started = time.perf_counter()
    tried: dict[str, float | None] = {}
    curves: dict[str, list[tuple[int, float]]] = {}
    best: tuple[float, FitHistory, dict[str, Tensor]] | None = None
    with seeded(seed), memory_advice(plan):
        summary = summarise(network, data, plan)
        validated = _validation(data) is not None
        middle = plan.middle_rate
        # The middle rate first: where the validation units turn out to show no label, or one class, it is the one that is used.
        rates = [middle, *(rate for rate in plan.learning_rates if rate != middle)] if validated else [middle]
        start = trainable_state(network)
        store = cache or FeatureCache(None)
        for rate in rates:
            folder = None if checkpoints is None else Path(checkpoints) / f"lr-{rate:g}"
            one = _Fit(network, data, plan, rate, summary, store, seed, accelerator, folder, validated=validated)
            history, state = one.run(start)
            tried[f"{rate:g}"] = history.best_validation
            curves[f"{rate:g}"] = history.validation
            loss = math.inf if history.best_validation is None else history.best_validation
            if best is None or loss < best[0]:
                best = loss, history, state
            if not history.validation:
                validated = False
                break
        assert best is not None
        load_trainable(network, best[2])
    if validated and math.isinf(best[0]):
        raise BenchError(
            f"training diverged: the validation loss was never finite, at any learning rate of the grid ({', '.join(tried)})\n"
            "  To go on, declare smaller training.learning_rates in the task card."
        )
    lacking = (
        "no validation labels of two classes" if _validation(data) is not None and data.kind != "regression" else "no validation labels"
    )
    note = "" if validated else f"{lacking} in this budget: the middle learning rate of the grid, all steps, no early stopping"
    last = "the last look at the validation labels was the best: the fit had not converged, and more steps may lower the loss"
    note = "; ".join(part for part in (note, best[1].note, last if best[1].still_falling else "") if part)
    history = replace(best[1], tried=tried, curves=curves, seconds=time.perf_counter() - started, note=note)
    return replace(history, planned_steps=plan.steps, batch_size=data.batch_size), summary


@dataclass(frozen=True)
class _Fit:
    """One learning rate of the grid, from the same weights and the same order of batches as every other."""

    network: nn.Module
    data: TrainingData
    plan: Training
    rate: float
    summary: TrainingSummary
    store: FeatureCache
    seed: int
    accelerator: str
    folder: Path | None
    validated: bool = field(kw_only=True)

    def run(self, start: Mapping[str, Tensor]) -> tuple[FitHistory, dict[str, Tensor]]:
        """Trains, or reads what an earlier run of the same fit finished."""
        if self.folder is not None and (self.folder / "history.json").is_file():
            from safetensors.torch import load_file

            content = json.loads((self.folder / "history.json").read_text())
            content["validation"] = [tuple(point) for point in content["validation"]]
            return FitHistory(**content), load_file(self.folder / "best.safetensors")
        try:
            history, state = self._train(start, strict=True)
        except RuntimeError as error:
            if "deterministic" not in str(error):
                raise
            history, state = self._train(start, strict=False)
            history.note = f"cannot repeat exactly on this device: {str(error).split(' does not')[0]}"
        self.network.to("cpu")
        if self.folder is not None:
            from safetensors.torch import save_file

            save_file(state, self.folder / "best.safetensors")
            write_json(self.folder / "history.json", asdict(history))  # last: what has a history is finished
        return history, state

    def _train(self, start: Mapping[str, Tensor], *, strict: bool) -> tuple[FitHistory, dict[str, Tensor]]:
        load_trainable(self.network, start)
        last = None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            last = self.folder / "last.ckpt"
        module = TierModule(self.network, self.data.kind, self.plan, self.rate, self.summary, chunk=self.data.batch_size)
        keeper = KeepBest(self.plan.patience, last)
        with seeded(self.seed), _quiet(), repeatable(self.accelerator, strict=strict):
            trainer = _trainer(self.plan, keeper, self.accelerator, validated=self.validated)
            # What a resumed fit has trained on is passed over: its next batch is the one the interrupted fit would have had.
            done = 0 if last is None or not last.is_file() else int(torch.load(last, weights_only=True)["global_step"])
            loaders = self._loaders(done * self.plan.accumulate)
            trainer.fit(module, ckpt_path=last if last is not None and last.is_file() else None, weights_only=True, **loaders)
            if self.validated and keeper.last_look < trainer.global_step:
                # The steps after the last whole interval are looked at too.
                given = {"datamodule": loaders["datamodule"]} if "datamodule" in loaders else {"dataloaders": loaders["val_dataloaders"]}
                trainer.validate(module, verbose=False, **given)
        steps = trainer.global_step
        if isinstance(self.data, lightning.LightningDataModule):
            self.data.trainer = None
        history = FitHistory(
            learning_rate=self.rate,
            steps=steps,
            best_step=keeper.best_step if keeper.best is not None else steps,
            best_validation=keeper.best_loss if keeper.best is not None else None,
            stopped_early=steps < self.plan.steps,
            validation=keeper.curve,
        )
        return history, keeper.best if keeper.best is not None else trainable_state(self.network)

    def _loaders(self, skip: int) -> dict[str, Any]:
        """What the Trainer is given: cached features of a frozen encoder, the data module with its hooks, or plain loaders.

        Args:
            skip: Training batches to pass over.
        """
        data, network = self.data, self.network
        frozen = isinstance(network, EncoderNetwork) and network.encoder_frozen and not augments(data)
        if isinstance(data, lightning.LightningDataModule) and not frozen:
            # Through the data module, so that its hooks (augmentation on the device) run.
            return {"datamodule": _Endless(data, skip)}
        train, val = data.train_dataloader(), _validation(data)
        if isinstance(network, EncoderNetwork) and frozen:
            train = EncodedLoader(train, network, self.store, shuffle=True, seed=self.seed)
            val = None if val is None else EncodedLoader(val, network, self.store, shuffle=False, seed=self.seed)
        loaders = {"train_dataloaders": _Stream(train, skip)}
        return loaders | ({} if val is None else {"val_dataloaders": val})


class _Endless(lightning.LightningDataModule):
    """A data module whose training pass never ends, from some batch on.

    Lightning steps at the end of every pass, whatever was accumulated by then; and it resumes a pass at its first batch.
    """

    def __init__(self, data: lightning.LightningDataModule, skip: int) -> None:
        super().__init__()
        self.data, self.skip = data, skip

    def train_dataloader(self) -> Any:
        return _Stream(self.data.train_dataloader(), self.skip)

    def val_dataloader(self) -> Any:
        return self.data.val_dataloader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.data.trainer = self.trainer
        return self.data.on_after_batch_transfer(batch, dataloader_idx)


class _Stream:
    """A loader over and over, from some batch on."""

    def __init__(self, loader: Any, skip: int) -> None:
        self.loader, self.skip = loader, skip

    def __iter__(self) -> Iterator[Any]:
        skip = self.skip
        order = self.loader.sampler if isinstance(self.loader, DataLoader) else self.loader
        if skip and isinstance(order, Resumable):
            order.begin(skip)
            skip = 0
        yield from islice(self._passes(), skip, None)

    def _passes(self) -> Iterator[Any]:
        while True:
            given = 0
            for batch in self.loader:
                given += 1
                yield batch
            if not given:
                return


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # Lightning advises more loader workers, and that an iterable has no length; neither is the user's to fix here.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        # Told in the fit's note.
        warnings.filterwarnings("ignore", message=".*deterministic.*")
        yield


def _trainer(plan: Training, keeper: KeepBest, accelerator: str, *, validated: bool) -> lightning.Trainer:
    every = max(1, min(plan.val_every, plan.steps) * plan.accumulate)
    import logging

    # "GPU available: ..." once a learning rate drowns what the command prints.
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    loggers, watchers = open_logs()
    return lightning.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=cast("Any", precision_of(plan.precision, accelerator)),
        max_steps=plan.steps,
        max_epochs=-1,
        accumulate_grad_batches=plan.accumulate,
        val_check_interval=every if validated else 1.0,
        check_val_every_n_epoch=None if validated else 1,
        limit_val_batches=None if validated else 0,
        num_sanity_val_steps=0,
        callbacks=[keeper, *watchers],
        logger=loggers or False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
    )


def load_trainable(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put trainable weights back.

    Raises:
        DataError: A key is unknown or missing.
    """
    expected = set(trainable_state(network))
    if expected != set(state):
        missing, added = sorted(expected - set(state)), sorted(set(state) - expected)
        raise DataError(
            f"saved weights do not fit the network: missing {missing[:3]}, unknown {added[:3]}",
            remedy="Load them into the model that saved them.",
        )
    network.load_state_dict(dict(state), strict=False)


def augments(data: Any) -> bool:
    """Whether the loaders themselves give other pixels each time (``data.augments``); features are then never cached.

    Augmentation in a data module's device hooks does not count: a frozen encoder is fed by the loaders, past those hooks.
    """
    return bool(getattr(data, "augments", False))


def _validation(data: TrainingData) -> Any:
    loader: Any = data.val_dataloader()
    return None if loader is None or (hasattr(loader, "__len__") and len(loader) == 0) else loader


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed every generator, and put them all back afterwards."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 (TerraMind and kornia draw from the global generators)
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


@contextmanager
def memory_advice(plan: Training | None = None) -> Iterator[None]:
    """Turn an out-of-memory failure into what to do about it.

    Raises:
        BenchError: Memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if (
            not isinstance(error, MemoryError | torch.OutOfMemoryError)
            and "out of memory" not in text
            and "can't allocate memory" not in text
        ):
            raise
        where = "on the GPU" if "cuda" in text else "on this machine"
        advice = (
            "halve training.batch_size in the task card and double training.accumulate (the same steps on as many labels; a fire is one "
            "step in any case), use a smaller preprocessing.patch_size, or a lighter tier (frozen or lora)"
        )
        if plan is None:
            advice = "predict with a smaller window or batch"
        raise BenchError(
            f"memory ran out {where}: {str(error).splitlines()[0] if str(error) else 'MemoryError'}\n  To go on, {advice}."
        ) from error
