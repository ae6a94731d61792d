"""One way to train every deep tier: same steps, same learning-rate grid, same early stopping, on the budget's labels alone.

The loop is Lightning's. Nothing here asks a data module for anything but its training and validation loaders; test units are out of reach.
"""

from __future__ import annotations

import json
import random
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from rs05bench.errors import BenchError, DataError
from rs05bench.models.cache import EncodedLoader, FeatureCache
from rs05bench.models.logs import open_logs
from rs05bench.models.networks import EncoderNetwork, trainable_state
from rs05bench.models.plan import ChipData, FitHistory, TrainingPlan
from rs05bench.models.summary import TrainingSummary, summarise
from rs05bench.models.tier_module import KeepBest, TierModule


def fit_network(
    network: nn.Module,
    data: ChipData,
    plan: TrainingPlan,
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
    with seeded(seed), memory_advice(plan):
        summary = summarise(network, data, plan)
        loaders: dict[str, Any] = {"train_dataloaders": data.train_dataloader(), "val_dataloaders": _validation(data)}
        validated = loaders["val_dataloaders"] is not None
        if isinstance(network, EncoderNetwork) and network.encoder_frozen and not augments(data):
            store = cache or FeatureCache(None)
            loaders = {
                name: loader if loader is None else EncodedLoader(loader, network, store, shuffle=name.startswith("train"), seed=seed)
                for name, loader in loaders.items()
            }
        elif isinstance(data, lightning.LightningDataModule):
            # Through the data module, so that its hooks (augmentation on the device) run.
            loaders = {"datamodule": data}
        rates = plan.learning_rates if validated else (sorted(plan.learning_rates)[len(plan.learning_rates) // 2],)
        start = trainable_state(network)
        best: tuple[FitHistory, dict[str, Tensor]] | None = None
        tried: dict[str, float | None] = {}
        for rate in rates:
            load_trainable(network, start)
            folder = None if checkpoints is None else Path(checkpoints) / f"lr-{rate:g}"
            with seeded(seed):
                history, state = _fit_once(
                    network, data, plan, rate, summary, loaders, validated=validated, folder=folder, accelerator=accelerator
                )
            tried[f"{rate:g}"] = history.best_validation
            if best is None or (history.best_validation or 0.0) < (best[0].best_validation or 0.0):
                best = history, state
        assert best is not None
        load_trainable(network, best[1])
    note = "" if validated else "no validation labels in this budget: the middle learning rate of the grid, all steps, no early stopping"
    history = replace(best[0], tried=tried, seconds=time.perf_counter() - started, note=note)
    return replace(history, planned_steps=plan.steps, batch_size=getattr(data, "batch_size", None)), summary


def _fit_once(
    network: nn.Module,
    data: ChipData,
    plan: TrainingPlan,
    rate: float,
    summary: TrainingSummary,
    loaders: dict[str, Any],
    *,
    validated: bool,
    folder: Path | None,
    accelerator: str,
) -> tuple[FitHistory, dict[str, Tensor]]:
    finished = None if folder is None else folder / "history.json"
    if folder is not None and finished is not None and finished.is_file():
        from safetensors.torch import load_file

        content = json.loads(finished.read_text())
        content["validation"] = [tuple(point) for point in content["validation"]]
        return FitHistory(**content), load_file(folder / "best.safetensors")
    last = None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        last = folder / "last.ckpt"
    module = TierModule(network, data.kind, plan, rate, summary, chunk=getattr(data, "batch_size", None))
    keeper = KeepBest(plan.patience, last)
    trainer = _trainer(plan, keeper, accelerator, validated=validated)
    with warnings.catch_warnings():
        # Lightning advises more loader workers, and that an iterable has no length; neither is the user's to mend here.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        trainer.fit(module, ckpt_path=last if last is not None and last.is_file() else None, weights_only=True, **loaders)
    steps = trainer.global_step
    state = keeper.best if keeper.best is not None else trainable_state(network)
    history = FitHistory(
        learning_rate=rate,
        steps=steps,
        best_step=keeper.best_step if keeper.best is not None else steps,
        best_validation=keeper.best_loss if keeper.best is not None else None,
        stopped_early=steps < plan.steps,
        validation=keeper.curve,
    )
    network.to("cpu")
    if folder is not None and finished is not None:
        from safetensors.torch import save_file

        save_file(state, folder / "best.safetensors")
        finished.write_text(json.dumps(asdict(history)))
    return history, state


def _trainer(plan: TrainingPlan, keeper: KeepBest, accelerator: str, *, validated: bool) -> lightning.Trainer:
    every = max(1, min(plan.val_every, plan.steps) * plan.accumulate)
    precision = plan.precision
    if precision == "auto":
        precision = "bf16-mixed" if accelerator != "cpu" and torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true"
    import logging

    # "GPU available: ..." once a learning rate drowns what the command prints.
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    loggers, watchers = open_logs()
    return lightning.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=cast("Any", precision),
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
        deterministic="warn" if accelerator != "cpu" and torch.cuda.is_available() else False,
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


def _validation(data: ChipData) -> Any:
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
def memory_advice(plan: TrainingPlan | None = None) -> Iterator[None]:
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
