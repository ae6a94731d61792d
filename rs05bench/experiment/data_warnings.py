"""Warnings about the data, kept: what a worker writes to its log reaches nobody."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rs05bench.models.backbones.bands import DataWarning


@contextmanager
def noted() -> Iterator[list[str]]:
    """Collects every `DataWarning` of the block, each text once, and shows it as ever; other warnings go their way.

    Python shows a warning of one place once a process, and a worker runs many cells: here each block has its own.
    """
    found: list[str] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=DataWarning)
        show = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: object) -> None:
            if issubclass(category, DataWarning):
                if str(message) in found:
                    return
                found.append(str(message))
            show(message, category, filename, lineno, *rest)  # type: ignore[arg-type]

        warnings.showwarning = note  # type: ignore[assignment]
        yield found
