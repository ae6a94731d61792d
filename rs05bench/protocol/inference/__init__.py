"""Intervals, tests and ranks. `rs05bench.compare` is what uses them."""

from __future__ import annotations

from rs05bench.protocol.inference.hypothesis_tests import SignedRank, holm, wilcoxon_signed_rank
from rs05bench.protocol.inference.intervals import Estimate, ood_drop, paired_difference, relative_drop, score_interval

__all__ = ["Estimate", "SignedRank", "holm", "ood_drop", "paired_difference", "relative_drop", "score_interval", "wilcoxon_signed_rank"]
