"""Faults of a submission: every one is kept and stated in plain words."""

from __future__ import annotations

from dataclasses import dataclass, field

from rs05bench.protocol.submission.limits import MOST_FAULTS


class HostileError(Exception):
    """Reading a submission any further would be unsafe; carries the sentence to print."""


@dataclass(slots=True)
class Faults:
    """Sentences, each with the cells it holds for; the list stops growing where nobody would read on.

    Attributes:
        told: Sentence -> the cells it was found in, in order; empty where it is not about a cell.
        count: How many there were in all.
    """

    told: dict[str, list[str]] = field(default_factory=dict)
    count: int = 0

    def add(self, sentence: str, cell: object = None) -> None:
        """Keeps a fault; the same sentence is kept once, with all its cells."""
        where = [] if cell is None else [str(cell)]
        if sentence in self.told:
            new = [name for name in where if name not in self.told[sentence][-1:]]
            self.told[sentence] += new
            self.count += len(new)
            return
        self.count += 1
        if len(self.told) < MOST_FAULTS:
            self.told[sentence] = where

    def __bool__(self) -> bool:
        return self.count > 0

    def sentences(self) -> list[str]:
        """The sentences, with a last one where more were found."""
        found = [_in_cells(sentence, cells) for sentence, cells in self.told.items()]
        more = self.count - sum(max(1, len(cells)) for cells in self.told.values())
        return [*found, f"and {more} more faults"] if more else found


def _in_cells(sentence: str, cells: list[str]) -> str:
    if len(cells) < 2:
        return f"{cells[0]}: {sentence}" if cells else sentence
    return f"{cells[0]} and {len(cells) - 1} more cells: {sentence}"


def shown(text: object, limit: int = 80) -> str:
    """A piece of a stranger's text made fit to print: quoted, escaped, shortened."""
    return ascii(text if len(text) <= limit else f"{text[:limit]}...") if isinstance(text, str) else ascii(text)[:limit]
