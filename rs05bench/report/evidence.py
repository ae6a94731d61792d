"""The sums that results keep, checked against the scores stored with them: what everything beyond the main scores is computed from."""

from __future__ import annotations

from dataclasses import dataclass

from rs05bench.errors import DataError
from rs05bench.protocol.pooling import Pool
from rs05bench.report.loading import Section

HOME, ELSEWHERE = "test_id", "test_ood"
SAME = 1e-6  # a stored score and its recomputation may differ by the rounding of float32 predictions


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
    pool = Pool.of(section.results)
    for result in section.results:
        for role in (HOME, ELSEWHERE):
            kept, stored = pool.kept(result, role), result.scores.get(role, {}).get(section.metric)
            if kept is None or stored is None or not kept.gives(section.metric):
                continue
            sums = kept.of(section.metric)
            found = float(sums.evaluate(section.metric, sums.vectors.sum(0)))
            if not abs(found - stored) <= SAME * max(1.0, abs(stored)):
                raise DataError(
                    f"the kept sums give {section.metric} {found:.6f} on {role}, and the result says {stored:.6f}",
                    source=section.store.folder(result.digest),
                    remedy="Delete the cell's folder and run the sweep again.",
                )
    return pool
