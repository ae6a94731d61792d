"""Lightning loggers for deep models: loss of every step, learning rate and validation loss, where somebody wants to watch a fit.

What is logged, and where, belongs to a run and not to a cell: it is no option of a model and enters no digest. So it is said around a fit
(`logging_to`) and found by the trainer (`open_logs`); the numbers of a fit are the same with and without.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rs05bench.errors import DataError

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import Logger

LOGGERS = ("csv", "tensorboard", "mlflow", "wandb")


@dataclass(frozen=True)
class _Place:
    names: tuple[str, ...]
    folder: Path
    title: str


_HERE: ContextVar[_Place | None] = ContextVar("rs05bench_logs", default=None)


def check_loggers(names: Sequence[str]) -> tuple[str, ...]:
    """The names, if every one is a logger whose package is installed.

    Raises:
        DataError: One is not.
    """
    for name in names:
        if name not in LOGGERS:
            raise DataError(f"no logger {name!r}", remedy=f"There are {', '.join(LOGGERS)}.")
        if name != "csv" and importlib.util.find_spec(name) is None:
            raise DataError(f"the logger {name!r} needs the package {name}", remedy=f"pip install {name}")
    return tuple(dict.fromkeys(names))


@contextmanager
def logging_to(names: Sequence[str], folder: str | Path, title: str = "") -> Iterator[None]:
    """Has every fit inside write to these loggers.

    Args:
        names: Of `LOGGERS`; none for no logging.
        folder: Where they write, a subfolder a fit; made when the first begins.
        title: What a fit is called where a logger shows names.
    """
    token = _HERE.set(_Place(tuple(names), Path(folder), title) if names else None)
    try:
        yield
    finally:
        _HERE.reset(token)


def open_logs() -> tuple[list[Logger], list[Callback]]:
    """Loggers and callbacks of the fit that begins; none where nobody asked."""
    place = _HERE.get()
    if place is None:
        return [], []
    number = 1
    while (place.folder / f"fit-{number}").exists():  # one a learning rate, and those of an attempt that was killed
        number += 1
    folder = place.folder / f"fit-{number}"
    folder.mkdir(parents=True)
    return [_logger(name, folder, place.title or place.folder.name, number) for name in place.names], [_curves()]


def _logger(name: str, folder: Path, title: str, number: int) -> Logger:
    from lightning.pytorch import loggers

    if name == "csv":
        return loggers.CSVLogger(folder, name="", version="csv")
    if name == "tensorboard":
        return loggers.TensorBoardLogger(folder, name="", version="tensorboard")
    if name == "mlflow":
        return loggers.MLFlowLogger("rs05bench", run_name=f"{title}, fit {number}", tracking_uri=(folder / "mlflow").resolve().as_uri())
    return loggers.WandbLogger(name=f"{title}, fit {number}", project="rs05bench", save_dir=folder)


def _curves() -> Callback:
    from lightning.pytorch.callbacks import Callback

    class Curves(Callback):
        """Passes losses on; the model itself logs nothing."""

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            loss = outputs["loss"] if isinstance(outputs, dict) else outputs
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self._log(trainer, {"train_loss": float(loss), "learning_rate": float(rate)})

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            total, count = getattr(pl_module, "validation_loss", (0.0, 0.0))
            if count and not trainer.sanity_checking:
                self._log(trainer, {"val_loss": total / count})

        def _log(self, trainer: Any, numbers: dict[str, float]) -> None:
            for logger in trainer.loggers:
                logger.log_metrics(numbers, step=trainer.global_step)

    return Curves()
