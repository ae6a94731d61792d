"""The sums that results keep, checked against the scores stored with them: what everything beyond the main scores is computed from."""

from __future__ import annotations

from dataclasses import dataclass

from rs05bench.errors import DataError
from rs05bench.protocol.pooling import Pool
from rs05bench.report.loading import Section

HOME, ELSEWHERE = "test_id", "test_ood"


@dataclass(frozen=True, slots=True)
class Key:
    """A curve's point: one model under one split with one budget."""

    split: str
    model: str
    budget: str


def checked_pool(section: Section) -> Pool:
    """The section's results, grouped into points.

    Raises:
        DataError: Sums kept with a result do not give the score stored beside them.
    """
    for result in section.results:
        if (why := result.contradiction(section.metric)) is not None:
            folder = section.store.folder(result.digest)
            raise DataError(why, source=folder, remedy="Delete the cell's folder and run the sweep again.")
    return Pool.of(section.results)
