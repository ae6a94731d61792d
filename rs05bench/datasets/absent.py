"""The error of a data set that is not there, as TorchGeo's users catch it."""

from __future__ import annotations

from pathlib import Path

from torchgeo.datasets.errors import DatasetNotFoundError

from rs05bench.errors import DataError


class MissingDatasetError(DataError, DatasetNotFoundError):
    """No file of a data set was found; also a `FileNotFoundError` and TorchGeo's `DatasetNotFoundError`.

    Args:
        problem: What was looked for.
        source: The folder it was looked for in.
        remedy: How to get the data.
    """

    def __init__(self, problem: str, *, source: str | Path | None = None, remedy: str | None = None) -> None:
        # TorchGeo's own initialiser would replace the message by one about `download=True`.
        FileNotFoundError.__init__(self, str(DataError(problem, source=source, remedy=remedy)))
        self.problem, self.source, self.remedy = problem, source, remedy
