"""Faults of a submission: every one is kept and stated in plain words."""

from __future__ import annotations

from dataclasses import dataclass, field

from rs05bench.protocol.submission.limits import MOST_FAULTS


class HostileError(Exception):
    """Reading a submission any further would be unsafe; carries the sentence to print."""


@dataclass(slots=True)
class Faults:
    """A list of sentences that stops growing where nobody would read on.

    Attributes:
        told: The sentences.
        count: How many there were in all.
    """

    told: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, sentence: str) -> None:
        """Keeps a fault; the same sentence is kept once."""
        if sentence in self.told:
            return
        self.count += 1
        if len(self.told) < MOST_FAULTS:
            self.told.append(sentence)

    def __bool__(self) -> bool:
        return self.count > 0

    def sentences(self) -> list[str]:
        """The sentences, with a last one where more were found."""
        more = self.count - len(self.told)
        return [*self.told, f"and {more} more faults"] if more else list(self.told)


def shown(text: object, limit: int = 80) -> str:
    """A piece of a stranger's text made fit to print: quoted, escaped, shortened."""
    return ascii(text if len(text) <= limit else f"{text[:limit]}...") if isinstance(text, str) else ascii(text)[:limit]
