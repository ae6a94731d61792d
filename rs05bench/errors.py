"""The one family of errors.

Every message names what was found and what to do; the command prints it without a traceback and exits with status 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class BenchError(Exception):
    """Anything rs05bench refuses to do; catch this one to catch them all."""


class ProtocolError(BenchError):
    """A rule of the fair protocol was about to be broken.

    Args:
        problem: Which rule, and why it would be broken.
        remedy: What to do instead.
    """

    def __init__(self, problem: str, *, remedy: str | None = None) -> None:
        self.problem, self.remedy = problem, remedy
        super().__init__(_message(None, problem, remedy))


class DataError(BenchError):
    """A file, table or card is not what it should be.

    Args:
        problem: What is wrong: the column or field, what was expected and what was found.
        source: The file (or the name of the table) it was found in.
        remedy: How to mend it.
    """

    def __init__(self, problem: str, *, source: str | Path | None = None, remedy: str | None = None) -> None:
        self.problem, self.source, self.remedy = problem, source, remedy
        super().__init__(_message(source, problem, remedy))


class SubmissionError(BenchError):
    """A submission is faulty; carries every fault found, not only the first.

    Args:
        faults: One plain sentence a fault.
        source: The bundle.
    """

    def __init__(self, faults: Sequence[str], *, source: str | Path | None = None) -> None:
        self.faults, self.source = list(faults), source
        count = len(self.faults)
        head = f"{count} fault{'' if count == 1 else 's'} found:"
        super().__init__(_message(source, "\n".join([head, *(f"  - {fault}" for fault in self.faults)]), None))


def _message(source: str | Path | None, problem: str, remedy: str | None) -> str:
    text = f"{source}: {problem}" if source is not None else problem
    return f"{text}\n  {remedy}" if remedy else text
