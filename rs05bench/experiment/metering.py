"""Meters of what a cell costs: time, memory of host and device, energy. What cannot be read is absent, never 0."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
MICROJOULES_PER_WH = 3.6e9


@dataclass
class Meter:
    """Reads the machine from `start` on.

    Attributes:
        started: `time.perf_counter` at the start.
        resident_mb: Resident memory at the start, MiB; None where the system does not tell.
    """

    started: float = 0.0
    resident_mb: float | None = None
    _energy: dict[str, int] = field(default_factory=dict)

    def start(self) -> Meter:
        """Resets the peaks and reads the counters."""
        self.resident_mb = _reset_peak()
        self._energy = read_energy()
        if (torch := _cuda()) is not None:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self.started = time.perf_counter()
        return self

    def peak_memory_mb(self) -> float | None:
        """Memory held at most since the start beyond what was held then, MiB."""
        peak = _peak_mb()
        return None if peak is None or self.resident_mb is None else max(peak - self.resident_mb, 0.0)

    def peak_device_memory_mb(self) -> float | None:
        """Memory that tensors held at most on the accelerator since the start, MiB; None without one, or where none was used."""
        torch = _cuda()
        peak = 0 if torch is None else torch.cuda.max_memory_allocated()
        return peak / 2**20 if peak else None

    def device_hours(self) -> float | None:
        """Hours since the start, where an accelerator was used."""
        return None if self.peak_device_memory_mb() is None else (now() - self.started) / 3600

    def energy_wh(self) -> float | None:
        """Energy of the processor packages (RAPL) since the start, watt-hours; None where it cannot be read, or a counter ran over."""
        later = read_energy()
        spent = [later[name] - value for name, value in self._energy.items() if name in later]
        if not spent or min(spent) < 0 or not sum(spent):
            return None
        return sum(spent) / MICROJOULES_PER_WH


def now() -> float:
    """`time.perf_counter` when the accelerator has done what it was asked for."""
    if (torch := _cuda()) is not None:
        torch.cuda.synchronize()
    return time.perf_counter()


def device_name() -> str | None:
    """Name of the accelerator that is in use."""
    torch = _cuda()
    return None if torch is None or not torch.cuda.max_memory_allocated() else str(torch.cuda.get_device_name())


def read_energy(root: Path = POWERCAP) -> dict[str, int]:
    """Energy counters of the processor packages, microjoules; empty where the system has none or lets only root read them."""
    counters = {}
    for folder in sorted(root.glob("intel-rapl:*")):
        if folder.name.count(":") > 1:
            continue  # a part of a package, counted in it
        try:
            counters[folder.name] = int((folder / "energy_uj").read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
    return counters


def _cuda() -> Any | None:
    """Torch, where it was imported and sees an accelerator: nothing here imports it for the sake of a table."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() else None


def _reset_peak() -> float | None:
    """Resets the peak of resident memory (Linux) and returns what is resident now, MiB."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return _peak_mb()


def _peak_mb() -> float | None:
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None
