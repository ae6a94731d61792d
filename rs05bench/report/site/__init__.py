"""The leaderboard as a static site: pages that open offline, ask nothing, and say of every number how far it can be trusted."""

from __future__ import annotations

from rs05bench.report.site.adapter import read_leaderboard
from rs05bench.report.site.build import build_site
from rs05bench.report.site.records import Leaderboard

__all__ = ["Leaderboard", "build_site", "read_leaderboard"]
