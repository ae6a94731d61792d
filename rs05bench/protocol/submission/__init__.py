"""Submissions of outside teams: bundles that are read as hostile, rescored, judged and given a standing.

Names are imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rs05bench.protocol.submission.board import Board, BoardTask
    from rs05bench.protocol.submission.limits import Limits
    from rs05bench.protocol.submission.make import make_bundle
    from rs05bench.protocol.submission.page import verdict_page
    from rs05bench.protocol.submission.schema import Submission
    from rs05bench.protocol.submission.sealed import Round, check_sealed, register
    from rs05bench.protocol.submission.standing import Standing, ranks, reproduce, sign_off, standing_of
    from rs05bench.protocol.submission.truth import Truth
    from rs05bench.protocol.submission.verdict import Verdict
    from rs05bench.protocol.submission.verify import check_bundle, verify_bundle

_HOME = {
    "Board": "board",
    "BoardTask": "board",
    "Limits": "limits",
    "Round": "sealed",
    "Standing": "standing",
    "Submission": "schema",
    "Truth": "truth",
    "Verdict": "verdict",
    "check_bundle": "verify",
    "check_sealed": "sealed",
    "make_bundle": "make",
    "ranks": "standing",
    "register": "sealed",
    "reproduce": "standing",
    "sign_off": "standing",
    "standing_of": "standing",
    "verdict_page": "page",
    "verify_bundle": "verify",
}

__all__ = [
    "Board",
    "BoardTask",
    "Limits",
    "Round",
    "Standing",
    "Submission",
    "Truth",
    "Verdict",
    "check_bundle",
    "check_sealed",
    "make_bundle",
    "ranks",
    "register",
    "reproduce",
    "sign_off",
    "standing_of",
    "verdict_page",
    "verify_bundle",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
