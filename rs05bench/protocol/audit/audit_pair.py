"""What a check of the audit looks at: two prepared lists, and what the report knows of them once; and what a check is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rs05bench.protocol.audit.audit_report import Finding, Shift, Thresholds
from rs05bench.protocol.audit.audit_side import Units
from rs05bench.protocol.audit.footprints import touching
from rs05bench.protocol.audit.nearness import distances


@dataclass(frozen=True)
class AuditPair:
    """Training and test units under comparison.

    Attributes:
        train: Training units.
        test: Test units.
        shift: What the split declares to change between them.
        thresholds: From where on something is a leak.
    """

    train: Units
    test: Units
    shift: Shift
    thresholds: Thresholds

    @cached_property
    def _nearest(self) -> tuple[Finding, npt.NDArray[np.float64]]:
        return distances(self.train, self.test, self.shift, self.thresholds)

    @cached_property
    def _touching(self) -> tuple[Finding, int | None]:
        return touching(self.train, self.test, self.km, self.shift, self.thresholds)

    @property
    def km(self) -> npt.NDArray[np.float64]:
        """Distance of every test unit to its nearest training unit, km; NaN where unknown."""
        return self._nearest[1]

    @property
    def touched(self) -> int | None:
        """Test units whose footprint touches a training footprint; None where unknown."""
        return self._touching[1]

    @property
    def distance(self) -> Finding:
        """What is said of the distances."""
        return self._nearest[0]

    @property
    def footprints(self) -> Finding:
        """What is said of the footprints."""
        return self._touching[0]


@dataclass(frozen=True)
class AuditCheck:
    """A check of the audit.

    Attributes:
        name: What it looks for.
        rank: Its place in the report: low first.
        look: What it finds; no finding where it does not apply.
    """

    name: str
    rank: int
    look: Callable[[AuditPair], Sequence[Finding]]


CHECKS = (AuditCheck("distance", 30, lambda pair: [pair.distance]), AuditCheck("touching footprints", 40, lambda pair: [pair.footprints]))
