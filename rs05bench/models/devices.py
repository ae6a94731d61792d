"""Where a model runs, and how a batch gets there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def device_of(accelerator: str) -> str:
    """The device that Lightning's name of an accelerator means here."""
    return "cuda" if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu"


def precision_of(asked: str, accelerator: str) -> str:
    """Lightning's name of a precision: `auto` is bfloat16 where the GPU has it (not where it is emulated), else 32 bit."""
    if asked != "auto":
        return asked
    native = device_of(accelerator) == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if native else "32-true"


def moved(batch: Mapping[str, Any], device: Any) -> dict[str, Any]:
    """A batch on a device: tensors, and lists of tensors (cached features)."""
    return {name: _to(value, device) for name, value in batch.items()}


def gather(network: nn.Module) -> None:
    """Has all of a network where its head is: the frozen encoder it shares with others may have gone elsewhere with them."""
    network.to([parameter.device for parameter in network.parameters()][-1])


def _to(value: Any, device: Any) -> Any:
    if isinstance(value, list) and value and hasattr(value[0], "to"):
        return [entry.to(device) for entry in value]
    return value.to(device) if hasattr(value, "to") else value


@contextmanager
def repeatable(accelerator: str, *, strict: bool) -> Iterator[None]:
    """One seed gives one result on a GPU too; torch's flags are as they were afterwards. A CPU repeats anyhow.

    Args:
        accelerator: Lightning's name.
        strict: Whether an operation that cannot repeat is an error. Otherwise it runs, and so does attention in its faster form that does
            not repeat either (torch takes the repeatable one only where nothing else is allowed).
    """
    if device_of(accelerator) != "cuda":
        yield
        return
    # cuBLAS asks for it; it is read when the first product is taken.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
