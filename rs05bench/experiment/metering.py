"""Meters of what a cell costs: time, memory of host and device, energy. What cannot be read is absent, never 0."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
MICROJOULES_PER_WH = 3.6e9


@dataclass(frozen=True)
class Lap:
    """What one part of the work took.

    Attributes:
        seconds: Wall time.
        energy: Microjoules by counter, of the counters that did not run over.
    """

    seconds: float
    energy: dict[str, int]


class Meter:
    """Reads the machine, lap by lap.

    Attributes:
        resident_mb: Resident memory at the start, MiB; None where the system does not tell.
    """

    resident_mb: float | None = None

    def start(self) -> Meter:
        """Resets the peaks and starts the first lap."""
        if (torch := _cuda()) is not None:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self.resident_mb = _reset_peak()
        self._began, self._counted = now(), _counters()
        return self

    def lap(self) -> Lap:
        """What passed since the start, or since the last lap; the next one starts."""
        began, counted = self._began, self._counted
        self._began, self._counted = now(), _counters()
        spent = {name: self._counted[name] - value for name, value in counted.items() if name in self._counted}
        return Lap(self._began - began, {name: value for name, value in spent.items() if value >= 0})

    def peak_memory_mb(self) -> float | None:
        """Memory held at most since the start beyond what was held then, MiB."""
        peak = _peak_mb()
        return None if peak is None or self.resident_mb is None else max(peak - self.resident_mb, 0.0)

    def peak_device_memory_mb(self) -> float | None:
        """Memory that tensors held at most on the accelerator since the start, MiB; None without one, or where none was used."""
        torch = _cuda()
        peak = 0 if torch is None else torch.cuda.max_memory_allocated()
        return peak / 2**20 if peak else None

    def device_hours(self, *laps: Lap) -> float | None:
        """Hours of laps on an accelerator, where one was used."""
        return None if self.peak_device_memory_mb() is None else sum(lap.seconds for lap in laps) / 3600

    def energy_wh(self, *laps: Lap) -> tuple[float | None, str | None]:
        """Energy of laps, watt-hours, and whose: `processor` (RAPL), `accelerator` (NVML) or both joined by a plus.

        An accelerator counts where it was used; where its counter cannot be read then, nothing is known. None where nothing is.
        """
        used = self.peak_device_memory_mb() is not None
        names = set.intersection(*(set(lap.energy) for lap in laps))
        processors = {name for name in names if name.startswith("intel-rapl")}
        chosen = names if used else processors
        spent = sum(lap.energy[name] for lap in laps for name in chosen)
        if not spent or (used and chosen == processors):
            return None, None
        whose = [*(["processor"] if processors else []), *(["accelerator"] if chosen != processors else [])]
        return spent / MICROJOULES_PER_WH, " + ".join(whose)


def reset_device_peak() -> None:
    """Starts the peak of the accelerator's memory again, by which it is told whether one is used from here on."""
    if (torch := _cuda()) is not None:
        torch.cuda.reset_peak_memory_stats()


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


def read_device_energy() -> dict[str, int]:
    """Energy counter of the accelerator in use, microjoules since its driver was loaded; empty where there is none, or it does not tell."""
    torch = _cuda()
    if torch is None:
        return {}
    try:
        import pynvml

        pynvml.nvmlInit()
        identity = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
        return {identity: 1000 * int(pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(identity)))}
    except Exception:  # no library, no such counter (before Volta), no right to read it: then it is not known
        return {}


def _counters() -> dict[str, int]:
    return read_energy() | read_device_energy()


def _cuda() -> Any | None:
    """Torch, where somebody uses an accelerator through it: nothing here imports it, or starts one, for the sake of a table."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None


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
