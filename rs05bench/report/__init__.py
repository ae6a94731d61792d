"""The report: everything shown is drawn from results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rs05bench.extras import first_use

if TYPE_CHECKING:
    from rs05bench.report.page import Report, write_report

__all__ = ["Report", "write_report"]

__getattr__, __dir__ = first_use(__name__, dict.fromkeys(__all__, "page"))
