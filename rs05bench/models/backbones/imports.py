"""Importing TerraTorch without what it does to its surroundings."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def terratorch_kept_quiet() -> Iterator[None]:
    """TerraTorch prints, logs and warns while it imports and builds, and none of it is about the user's data.

    Its Clay 1.5 also sets the precision of all matrix products of the process to bfloat16
    (``torch.set_float32_matmul_precision("medium")``) as it is imported: features and predictions would depend on what was imported before.
    """
    level, precision = logging.root.manager.disable, torch.get_float32_matmul_precision()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        torch.set_float32_matmul_precision(precision)
