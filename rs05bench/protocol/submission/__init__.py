"""Submissions of outside teams: two files that are read as hostile, rescored, judged and given a standing.

Names are imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rs05bench.extras import first_use

if TYPE_CHECKING:
    from rs05bench.protocol.submission.board import Board, BoardTask
    from rs05bench.protocol.submission.limits import Limits
    from rs05bench.protocol.submission.make import make_submission
    from rs05bench.protocol.submission.schema import Submission
    from rs05bench.protocol.submission.sealed import Round, check_sealed, register
    from rs05bench.protocol.submission.standing import Ran, Standing, ranks, reproduce, sign_off, standing_of
    from rs05bench.protocol.submission.truth import Truth
    from rs05bench.protocol.submission.verdict import Verdict
    from rs05bench.protocol.submission.verify import check_submission, verify_submission

_HOME = {
    "Board": "board",
    "BoardTask": "board",
    "Limits": "limits",
    "Ran": "standing",
    "Round": "sealed",
    "Standing": "standing",
    "Submission": "schema",
    "Truth": "truth",
    "Verdict": "verdict",
    "check_sealed": "sealed",
    "check_submission": "verify",
    "make_submission": "make",
    "ranks": "standing",
    "register": "sealed",
    "reproduce": "standing",
    "sign_off": "standing",
    "standing_of": "standing",
    "verify_submission": "verify",
}

__all__ = [
    "Board",
    "BoardTask",
    "Limits",
    "Ran",
    "Round",
    "Standing",
    "Submission",
    "Truth",
    "Verdict",
    "check_sealed",
    "check_submission",
    "make_submission",
    "ranks",
    "register",
    "reproduce",
    "sign_off",
    "standing_of",
    "verify_submission",
]

__getattr__, __dir__ = first_use(__name__, _HOME)
