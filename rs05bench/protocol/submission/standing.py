"""How far a submission is to be believed: self-reported -> rescored -> reproduced -> verified.

Every complete, rescored submission on real data ranks. Labels of public data are public, so rescoring proves arithmetic, not abstinence:
that somebody else ran it again (`reproduced`) and that its authors signed what the board shows (`verified`) are badges and a filter. A
standing belongs to one submission by its digest; another submission begins again.
"""

from __future__ import annotations

import datetime
import json
import math
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.atomic import write_text
from rs05bench.protocol.strict_record import Record
from rs05bench.protocol.submission.board import Board
from rs05bench.protocol.submission.faults import Faults
from rs05bench.protocol.submission.folder import RECORD, read_record, submission_digest
from rs05bench.protocol.submission.schema import CostRecord
from rs05bench.protocol.submission.verdict import CellFamily, Track, Verdict

Level = Literal["self-reported", "rescored", "reproduced", "verified"]
LEVELS: tuple[Level, ...] = get_args(Level)
CLOSEST, WIDEST = 0.002, 0.02
"""Differences of a family's mean score between submission and rerun: below the first always the same (rounding, another processor), above
the second never, however much the seeds spread; in between the seeds' spread decides. Of a score with a unit (mae, rmse) a share of it."""
CONFIDENCE = 0.95
_WITH_UNIT = ("mae", "rmse", "bias")


class Compared(Record):
    """One task, target, split and budget in submission and rerun.

    Attributes:
        family: `task/target/split/budget`.
        metric: The task's main metric, held out (at home where nothing is held out).
        submitted: Mean over folds and seeds.
        rerun: Mean over the same folds and the rerun's seeds.
        allowed: Difference allowed: what the seeds' spread explains, not less than `CLOSEST` and not more than the tolerance.
        same: Whether they agree.
    """

    family: str
    metric: str
    submitted: float
    rerun: float
    allowed: float
    same: bool


MACHINE = "machine"
"""Who ran a submission again, where `leaderboard reproduce` did by itself."""


class Rerun(Record):
    """A rerun.

    Attributes:
        by: Who ran it; `machine` where `leaderboard reproduce` did.
        hardware: On what.
        date: When.
        digest: Digest of the rerun's own submission.
        identical: Cells whose predictions are the same to the last bit.
        cells: Cells compared.
        code: Commit or address of the code that was run.
        compared: What was compared.
        costs: What it cost, where the machine ran it: one command measures all models of the package alike.
    """

    by: str
    hardware: str
    date: datetime.date
    digest: str
    identical: int = 0
    cells: int = 0
    code: str
    compared: list[Compared] = Field(min_length=1)
    costs: list[CostRecord] = Field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether everything agrees."""
        return all(item.same for item in self.compared)


class Ran(Record):
    """Who ran a submission again.

    Attributes:
        by: Name; `machine` where `leaderboard reproduce` did.
        hardware: On what.
        code: Commit or address of the code that was run.
        date: When; default today.
        deterministic: Whether equal predictions to the last bit are to be expected.
    """

    by: str
    hardware: str
    code: str
    date: datetime.date | None = None
    deterministic: bool = False


class SignOff(Record):
    """The authors' own word that what the board shows is theirs and right.

    Attributes:
        by: Author, as named in the submission.
        date: When.
        statement: What they sign.
        record: Where it can be seen (the pull request's comment or a signed commit).
    """

    by: str
    date: datetime.date
    statement: str
    record: str


class Standing(Record):
    """`standing.json`.

    Attributes:
        schema_version: Always 1.
        slug: Submission.
        digest: Digest of the submission it belongs to.
        level: How far it is to be believed.
        reviewed_flags: Flags of the verdict that a reviewer looked at: key -> what they found.
        rerun: The rerun, from `reproduced` on.
        sign_off: The sign-off, at `verified`.
    """

    schema_version: Literal[1] = 1
    slug: str
    digest: str
    level: Level
    reviewed_flags: dict[str, str] = Field(default_factory=dict)
    rerun: Rerun | None = None
    sign_off: SignOff | None = None

    @classmethod
    def load(cls, path: str | Path) -> Standing:
        """Reads a standing.

        Raises:
            DataError: It is missing or none.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"is not a standing: {error}", source=path) from error

    def save(self, path: str | Path) -> Path:
        """Writes it as JSON."""
        return write_text(path, json.dumps(self.model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False) + "\n")


def standing_of(verdict: Verdict, before: Standing | None = None) -> Standing:
    """The standing a verdict alone gives; a higher one is kept where it belongs to the same submission.

    Raises:
        ProtocolError: It was refused, and what was refused has no standing.
    """
    if not verdict.ok:
        raise ProtocolError(
            f"{verdict.slug or 'the submission'} was refused and has no standing", remedy="Correct the faults and submit again."
        )
    level: Level = "rescored" if verdict.outcome == "accepted" else "self-reported"
    if before is not None and before.digest == verdict.digest and LEVELS.index(before.level) > LEVELS.index(level):
        return before
    return Standing(slug=verdict.slug, digest=verdict.digest, level=level)


def reproduce(
    standing: Standing,
    verdict: Verdict,
    rerun: Verdict,
    board: Board,
    ran: Ran,
    *,
    tolerance: float = WIDEST,
    reviewed_flags: Mapping[str, str] | None = None,
) -> Standing:
    """Compares a rerun with a submission; within tolerance everywhere it is `reproduced`.

    Args:
        standing: Standing so far; at least `rescored`.
        verdict: Verdict on the submission.
        rerun: Verdict on the rerun's own submission, rescored with the same labels.
        board: What counts.
        ran: Who ran it, on what, and with which code.
        tolerance: Largest difference of mean scores that is ever allowed.
        reviewed_flags: What a reviewer found about every flag of the verdict.

    Returns:
        The new standing. Where the rerun disagrees the level stays, and the record says by how much.

    Raises:
        ProtocolError: Nothing was rescored, nothing is common, a family is missing from the rerun, or a flag was not reviewed.
    """
    if standing.digest != verdict.digest:
        raise ProtocolError(f"{standing.slug}: the standing belongs to another submission than the verdict")
    if verdict.outcome != "accepted" or rerun.outcome != "accepted":
        raise ProtocolError(f"{standing.slug}: both must be accepted and rescored (found {verdict.outcome} and {rerun.outcome})")
    if rerun.submission is None or verdict.submission is None or rerun.submission.model.name != verdict.submission.model.name:
        raise ProtocolError(f"{standing.slug}: the rerun is of another model")
    same = _identical(verdict, rerun)
    if same == _cells(verdict) and not ran.deterministic:
        raise ProtocolError(
            f"{standing.slug}: the rerun's predictions are those of the submission in all {same} cells",
            remedy="Where the model is deterministic, state it: --deterministic.",
        )
    if ran.by in _authors(verdict):
        raise ProtocolError(f"{standing.slug}: {ran.by!r} is an author; somebody else has to run it")
    reviewed = dict(standing.reviewed_flags) | dict(reviewed_flags or {})
    open_flags = sorted({flag.key for flag in verdict.flags} - set(reviewed))
    if open_flags:
        raise ProtocolError(f"{standing.slug}: the flags {open_flags} were not reviewed", remedy='Give --flag KEY="what was found".')
    compared = compare(verdict, rerun, board, tolerance)
    record = Rerun(
        by=ran.by,
        hardware=ran.hardware,
        date=ran.date or _today(),
        digest=rerun.digest,
        identical=same,
        cells=_cells(verdict),
        code=ran.code,
        compared=compared,
        costs=rerun.submission.costs if ran.by == MACHINE else [],
    )
    level: Level = "reproduced" if record.same else standing.level
    return standing.model_copy(update={"rerun": record, "level": level, "reviewed_flags": reviewed, "sign_off": None})


def compare(verdict: Verdict, rerun: Verdict, board: Board, tolerance: float = WIDEST) -> list[Compared]:
    """Mean main scores of every family in submission and rerun.

    Raises:
        ProtocolError: A family of the submission is missing from the rerun.
    """
    found = []
    again = {family.key: family for family in rerun.families}
    for family in verdict.families:
        name = family.key
        task = board.task(family.task)
        if task is None:
            raise ProtocolError(f"{family.task} is not on the board")
        metric = task.main_metric
        role = "test_ood" if "test_ood" in family.by_seed else "test_id"
        ours, theirs = _by_seed(family, role), _by_seed(again[name], role) if name in again else {}
        if not ours or not theirs:
            raise ProtocolError(f"{'/'.join(name)}: the rerun holds no score of it", remedy="Rerun every task, split and budget submitted.")
        one, other = sum(ours.values()) / len(ours), sum(theirs.values()) / len(theirs)
        unit = abs(one) if metric in _WITH_UNIT else 1.0
        allowed = min(max(_spread(ours, theirs, len(verdict.families)), CLOSEST * unit), tolerance * unit)
        found.append(
            Compared(family="/".join(name), metric=metric, submitted=one, rerun=other, allowed=allowed, same=abs(one - other) <= allowed)
        )
    return found


def sign_off(standing: Standing, verdict: Verdict, *, by: str, record: str, statement: str, date: datetime.date | None = None) -> Standing:
    """The authors' sign-off on a reproduced submission.

    Raises:
        ProtocolError: It is not reproduced, or the one who signs is no author.
    """
    if standing.level not in ("reproduced", "verified") or standing.digest != verdict.digest:
        raise ProtocolError(f"{standing.slug} is {standing.level}; only what was reproduced can be signed off")
    if by not in _authors(verdict):
        raise ProtocolError(f"{by!r} is not among the authors {sorted(_authors(verdict))}")
    signed = SignOff(by=by, date=date or _today(), statement=statement, record=record)
    return standing.model_copy(update={"level": "verified", "sign_off": signed})


def ranks(standing: Standing, verdict: Verdict, family: str, track: Track = "deployment") -> str | None:
    """Why a submission has no rank in `task/target/split`; None where it has one.

    Args:
        standing: Its standing.
        verdict: The verdict on the same submission.
        family: `task/target/split`.
        track: `open` takes open weights only.
    """
    if standing.digest != verdict.digest:
        return "its standing belongs to another submission"
    if not verdict.ok:
        return "it was refused"
    if track not in verdict.tracks:
        return "its weights are closed"
    if family not in {"/".join(found.key[:3]) for found in verdict.families}:
        return "it holds no result there"
    if family not in verdict.rankable:
        scored = verdict.outcome == "accepted"
        return verdict.unranked.get(family) or ("it is incomplete there" if scored else "it was not scored with the frozen labels")
    return "it was not scored with the frozen labels" if standing.level == "self-reported" else None


def read_submissions(folder: str | Path) -> Iterable[tuple[Path, Verdict, Standing]]:
    """Submissions on the board: folder, verdict and standing, by name.

    Folders that were not verified yet are passed over, and so are, with a warning, those whose verdict cannot be read or whose record
    was changed afterwards: one damaged file does not stop the board.
    """
    for path in sorted(Path(folder).glob("*/verdict.json")):
        try:
            verdict = read_verdict(path.parent)
        except DataError as error:
            warnings.warn(f"{error}; this submission is left out. Verify it again: leaderboard add", stacklevel=2)
            continue
        standing = path.with_name("standing.json")
        yield path.parent, verdict, Standing.load(standing) if standing.is_file() else standing_of(verdict)


def read_verdict(folder: Path) -> Verdict:
    """The verdict on a submission of the board, with its record.

    Raises:
        DataError: Either cannot be read, or the record is not the one that was verified.
    """
    try:
        verdict = Verdict.model_validate_json((folder / "verdict.json").read_bytes())
    except ValueError as error:
        raise DataError("is not a verdict", source=folder / "verdict.json") from error
    record, faults = folder / RECORD, Faults()
    submission = read_record(record, faults)
    if submission is None:
        raise DataError("; ".join(faults.sentences()), source=folder)
    pin = submission.predictions
    if pin is None or submission_digest(submission, pin.sha256, pin.files) != verdict.digest:
        raise DataError("is not the record that was verified", source=record)
    return verdict.model_copy(update={"submission": submission})


def _authors(verdict: Verdict) -> set[str]:
    people = verdict.submission.authors if verdict.submission is not None else []
    return {name for author in people for name in (author.name, author.github) if name}


def _cells(verdict: Verdict) -> int:
    return sum(len(family.folds) * len(family.seeds) for family in verdict.families)


def _identical(verdict: Verdict, rerun: Verdict) -> int:
    """Cells whose predictions are the same to the last bit."""
    made = [
        {
            (family.key, fold, seed): digest
            for family in side.families
            for fold, digests in family.predictions.items()
            for seed, digest in zip(family.seeds, digests, strict=True)
        }
        for side in (verdict, rerun)
    ]
    return sum(made[1].get(name) == digest for name, digest in made[0].items())


def _by_seed(family: CellFamily, role: str) -> dict[int, float]:
    """Seed -> mean over folds of a family."""
    values = family.by_seed.get(role, [])
    return {seed: value for seed, value in zip(family.seeds, values, strict=bool(values)) if value is not None}


def _spread(ours: Mapping[int, float], theirs: Mapping[int, float], families: int) -> float:
    """The difference of two means that the spread over seeds explains, all families of a submission together held to `CONFIDENCE`.

    Equal seeds draw equal labels, so they are compared in pairs: a rerun that finds the same numbers leaves nothing to explain.
    """
    from scipy.stats import t

    if ours.keys() == theirs.keys():
        error, seeds = _error([ours[seed] - theirs[seed] for seed in ours]), len(ours)
    else:
        error, seeds = math.hypot(_error(list(ours.values())), _error(list(theirs.values()))), min(len(ours), len(theirs))
    return float(t.ppf(1 - (1 - CONFIDENCE) / (2 * families), seeds - 1)) * error if seeds > 1 else 0.0


def _error(values: list[float]) -> float:
    """Standard error of a mean."""
    centre = sum(values) / len(values)
    return math.sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1) / len(values)) if len(values) > 1 else 0.0


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
