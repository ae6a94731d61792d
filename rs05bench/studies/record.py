"""What a study is, what it finds, and how its sentences follow from its numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rs05bench.protocol.inference import Estimate
from rs05bench.protocol.result import Result
from rs05bench.report.compose import Table
from rs05bench.report.drawing import Figure
from rs05bench.report.style import bracket, number, signed

if TYPE_CHECKING:
    from rs05bench.studies.setting import Setting


@dataclass(frozen=True)
class Claim:
    """A sentence of the answer with what it rests on.

    Attributes:
        text: The sentence; written from `effect`, never beside it.
        digests: The cells it rests on.
        effect: The number behind it, where it is one.
        said: `above`, `below`, `unclear`, or `told` for a sentence without a test.
    """

    text: str
    digests: tuple[str, ...]
    effect: Estimate | None = None
    said: str = "told"


@dataclass
class Findings:
    """What a study found.

    Attributes:
        claims: The answer, the first sentence first.
        figures: Pictures, each with its numbers and cells.
        tables: Tables.
        results: Every cell that was looked at, by digest.
        notes: What was run: data, sizes, what failed or is missing.
    """

    claims: list[Claim] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def take(self, results: Sequence[Result]) -> None:
        """Adds cells that were looked at."""
        self.results |= {result.digest: result for result in results}

    def simulated(self, digests: Sequence[str] | None = None) -> bool:
        """Whether any of some cells (default all) rests on simulated data."""
        return any(self.results[digest].simulated for digest in (self.results if digests is None else digests))


@dataclass(frozen=True)
class Study:
    """One study: a question, the grid that answers it, and what the answer does not say.

    Attributes:
        name: Its name on the command line and of its page.
        title: Title of the page.
        question: The question.
        design: What is compared with what, in plain words.
        minutes: Stated time at full size on one core.
        needs: Folders of real data it reads.
        stand_in: What is run where those are absent, in words; empty where the study then refuses.
        limits: What the answer does not say.
        run: Runs what is missing and reads what is there.
    """

    name: str
    title: str
    question: str
    design: str
    minutes: float
    needs: tuple[str, ...]
    stand_in: str
    limits: tuple[str, ...]
    run: Callable[[Setting], Findings]


def side(effect: Estimate) -> str:
    """Where an interval lies: `above` zero, `below` it, or `unclear`."""
    if not (math.isfinite(effect.low) and math.isfinite(effect.high)):
        return "unclear"
    if effect.low > 0:
        return "above"
    return "below" if effect.high < 0 else "unclear"


def compared(effect: Estimate, digests: Sequence[str], *, above: str, below: str, unclear: str) -> Claim:
    """A sentence that follows the interval of a difference.

    Args:
        effect: The difference.
        digests: Cells it rests on.
        above: What is said when the whole interval is above zero; `{size}` becomes the absolute difference.
        below: The same for below.
        unclear: What is said when the interval holds zero, or there is none.
    """
    said = side(effect)
    words = {"above": above, "below": below, "unclear": unclear}[said]
    # An end beside zero must not read as zero.
    digits = next((n for n in (2, 3, 4) if said == "unclear" or min(abs(effect.low), abs(effect.high)) >= 0.5 * 10.0**-n), 5)
    interval = f"{signed(effect.value, digits)} {bracket(effect.low, effect.high, digits)}".strip()
    if not math.isfinite(effect.low):
        interval += ", no interval: too few blocks"
    scope = ", for these groups only" if effect.scope == "within-groups" else ""
    return Claim(f"{words.replace('{size}', number(abs(effect.value)))} ({interval}{scope}).", tuple(sorted(set(digests))), effect, said)


def tally(claims: Sequence[Claim], about: str, better: str, worse: str) -> Claim:
    """How many of some comparisons went which way, as a first sentence that rests on all of them.

    Args:
        claims: The comparisons.
        about: What they compare.
        better: What an interval above zero means.
        worse: What one below zero means.
    """
    count = {said: sum(claim.said == said for claim in claims) for said in ("above", "below", "unclear")}
    digests = tuple(sorted({digest for claim in claims for digest in claim.digests}))
    text = (
        f"{about}: of {len(claims)} comparisons, {count['above']} say {better}, {count['below']} say {worse}, and {count['unclear']} "
        "decide nothing."
    )
    return Claim(text, digests)
