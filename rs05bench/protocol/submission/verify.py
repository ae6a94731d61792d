"""Checking and verifying a submission.

`check_submission` needs nothing but the submission and the board: a team runs it before anyone waits for a review. `verify_submission`
scores it again with the frozen labels. A fault of our own (a full disk, labels that cannot be read) is raised, and never called a fault of
the submission.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import tempfile
import time
import unicodedata
from pathlib import Path

from rs05bench.errors import DataError
from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.map_predictions import MapPredictions
from rs05bench.protocol.predictions import TablePredictions
from rs05bench.protocol.result import Result
from rs05bench.protocol.safe_paths import inside
from rs05bench.protocol.scoring import Scored, higher_is_better
from rs05bench.protocol.submission import plausibility
from rs05bench.protocol.submission.board import Board
from rs05bench.protocol.submission.cells import ReadCell, check_completeness, read_cells
from rs05bench.protocol.submission.faults import Faults, HostileError, shown
from rs05bench.protocol.submission.folder import RECORD, OpenedSubmission, open_submission
from rs05bench.protocol.submission.limits import LIMITS, Limits
from rs05bench.protocol.submission.rescore import Rescorer, as_result, families, judge_rules
from rs05bench.protocol.submission.schema import Submission
from rs05bench.protocol.submission.standing import read_verdict
from rs05bench.protocol.submission.truth import Truth, available
from rs05bench.protocol.submission.verdict import CellVerdict, Flag, Verdict


def check_submission(folder: str | Path, board: str | Path, *, limits: Limits = LIMITS) -> Verdict:
    """Everything that can be said of a submission without labels: schema, digests, completeness, values.

    Args:
        folder: Folder with `submission.yaml` and `predictions.parquet`.
        board: `leaderboard/`, or its `tasks.yaml`.
        limits: How large it may be.

    Returns:
        A verdict with every fault; `complete` where there is none.
    """
    return verify_submission(folder, board, limits=limits)


def verify_submission(
    folder: str | Path,
    board: str | Path,
    *,
    truth: str | Path | None = None,
    others: str | Path | None = None,
    record: str | Path | None = None,
    limits: Limits = LIMITS,
) -> Verdict:
    """Verifies a submission as if its authors meant harm, and scores it again.

    Args:
        folder: Folder with `submission.yaml` and `predictions.parquet`.
        board: `leaderboard/`, or its `tasks.yaml`.
        truth: Folder of the frozen labels (see `Truth`); without it nothing is rescored.
        others: `leaderboard/submissions`, to compare with what was sent before.
        record: `submission.yaml`, where the folder holds only what was fetched from its address.
        limits: How large it may be.

    Raises:
        DataError: The board or the frozen labels cannot be read.
        OSError: A fault of this machine.
    """
    there, unreadable = _others(others)
    trial = Trial(Board.load(board), Truth(Path(truth)) if truth is not None else None, there, limits)
    trial.verdict.notes += [f"{name}: its verdict cannot be read, so it was not compared with" for name in unreadable]
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="rs05bench-verify-") as work:
        try:
            trial.run(Path(folder), Path(work), None if record is None else Path(record))
            trial.check_round(Path(board))
        except HostileError as error:
            trial.faults.add(str(error))
    return trial.close(time.perf_counter() - begin)


def _others(folder: str | Path | None) -> tuple[dict[str, Verdict], list[str]]:
    """Verdicts on the board by slug, and the slugs of those that cannot be read."""
    found: dict[str, Verdict] = {}
    unreadable = []
    for path in sorted(Path(folder).glob("*/verdict.json")) if folder is not None else ():
        try:
            found[path.parent.name] = read_verdict(path.parent)
        except DataError:
            unreadable.append(path.parent.name)
    return found, unreadable


class Trial:
    """One verification, step by step.

    Args:
        board: What counts.
        truth: Frozen labels.
        others: slug -> verdict of what is on the board.
        limits: How large a submission may be.
    """

    def __init__(self, board: Board, truth: Truth | None, others: dict[str, Verdict], limits: Limits) -> None:
        self.board, self.truth, self.others, self.limits = board, truth, others, limits
        self.faults = Faults()
        self.verdict = Verdict(outcome="refused")
        self._rescored = False

    def run(self, folder: Path, work: Path, record: Path | None) -> None:
        """Reads, checks, scores."""
        opened = open_submission(folder, work, self.limits, self.faults, record)
        self.verdict.digest = opened.digest
        if opened.submission is not None:
            self.verdict.slug, self.verdict.submission = opened.submission.slug, opened.submission
        cells = read_cells(opened, self.board, self.limits, self.faults) if "predictions.parquet" in opened.files else []
        if not cells and not self.faults:
            self.faults.add("predictions.parquet holds no row")
        complete = check_completeness([cell.name for cell in cells], self.board, self.faults)
        if opened.submission is None:
            return
        self._check_names(opened)
        self._check_costs(cells, opened.submission)
        self._list(cells, opened.submission)
        if self.faults:
            return
        scored = self._score(cells, opened.submission, complete)
        if not self.faults and not scored:
            self.verdict.families = families(cells, [], [])

    def close(self, seconds: float) -> Verdict:
        """The verdict, with its outcome."""
        verdict = self.verdict
        verdict.faults = self.faults.sentences()
        verdict.outcome = "refused" if self.faults else "accepted" if self._rescored else "complete"
        if self.faults:
            verdict.rankable = []
        verdict.verified_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        verdict.version = importlib.metadata.version("rs05bench")
        verdict.seconds = round(seconds, 3)
        return verdict

    def _check_names(self, opened: OpenedSubmission) -> None:
        """A slug, title, model or author of another team is refused: nobody may pass for somebody else."""
        mine = opened.submission
        assert mine is not None
        for slug, other in self.others.items():
            theirs = other.submission
            if theirs is None:
                continue
            shared = [author.name for author in mine.authors if _alike(author.name) in {_alike(known.name) for known in theirs.authors}]
            same_team = bool(shared) and not _strangers(mine, theirs)
            if shared and not same_team:
                self.faults.add(
                    f"{RECORD}: the author {shown(shared[0])} is that of submission {slug}, under another account or other code"
                )
            if same_team:
                continue
            if slug == mine.slug and other.digest != opened.digest:
                self.faults.add(f"{RECORD}: the slug {slug} is another team's")
            if slug != mine.slug and _alike(theirs.title) == _alike(mine.title):
                self.faults.add(f"{RECORD}: the title is that of submission {slug}")
            if slug != mine.slug and theirs.model.name.casefold() == mine.model.name.casefold():
                self.faults.add(f"{RECORD}: the model {mine.model.name} is that of submission {slug}: give yours a name of its own")

    def check_round(self, board: Path) -> None:
        """A sealed round that it names must be one of the board."""
        named = self.verdict.submission.round if self.verdict.submission is not None else None
        if named is not None and board.is_dir() and not inside(board / "rounds", f"{named}.yaml").is_file():
            self.faults.add(f"{RECORD}: round: the board has no round {named} (rounds/{named}.yaml)")

    def _check_costs(self, cells: list[ReadCell], submission: Submission) -> None:
        asked = {(*cell.name.family, cell.name.budget) for cell in cells}
        there = [cost.key for cost in submission.costs]
        for key in sorted(asked - set(there)):
            self.faults.add(f"{RECORD}: costs: none of {'/'.join(key)}")
        for key in sorted({key for key in there if there.count(key) > 1}):
            self.faults.add(f"{RECORD}: costs: {'/'.join(key)} occurs twice")
        for key in sorted(set(there) - asked):
            self.faults.add(f"{RECORD}: costs: {'/'.join(key)} is no cell of this submission")

    def _list(self, cells: list[ReadCell], submission: Submission) -> None:
        verdict = self.verdict
        verdict.simulated = any(cell.task.simulated for cell in cells)
        verdict.cells = [CellVerdict(**cell.name.model_dump(), units=cell.units, labels_used=0, predictions=cell.digest) for cell in cells]
        verdict.flags += plausibility.identical(
            [cell for cell in cells if isinstance(cell.predictions, TablePredictions)], submission, self.others
        )
        verdict.flags += plausibility.impossible_costs(submission)
        if submission.inputs != "card":
            verdict.flags.append(Flag(key="inputs", sentence=f"Inputs of its own instead of the card's: {submission.inputs}"))

    def _score(self, cells: list[ReadCell], submission: Submission, complete: list[str]) -> bool:
        """Scores every cell; returns whether that was possible."""
        reasons = {(cell.task.task, cell.name.split): available(self.truth, cell.task, cell.name.split) for cell in cells}
        for (task, split), reason in sorted(reasons.items()):
            if reason is not None:
                self.verdict.notes.append(f"{task}/{split} was not rescored: {reason}")
        if self.truth is None or any(reason is not None for reason in reasons.values()):
            return False
        rescorer = Rescorer(self.truth, self.faults, self.verdict.notes)
        results: list[Result] = []
        budgets: list[tuple[ReadCell, LabelBudget]] = []
        for cell, kept in zip(cells, self.verdict.cells, strict=True):
            drawn, found = rescorer.budget(cell.name, cell.task), rescorer.score(cell)
            if drawn is None or found is None:
                continue
            _keep(kept, found, drawn)
            results.append(as_result(cell, found, drawn, submission))
            budgets.append((cell, drawn))
        if len(results) < len(cells):
            return False
        tasks = {cell.task.task: cell.task for cell in cells}
        self.verdict.rules = judge_rules(results, self.truth, tasks.values(), self.faults)
        tables = [cell for cell in cells if not isinstance(cell.predictions, MapPredictions)]
        higher = {task.task: bool(higher_is_better(task.main_metric)) for task in tasks.values()}
        self.verdict.flags += plausibility.unmoved(budgets, submission)
        self.verdict.flags += plausibility.too_good(tables, rescorer)
        self.verdict.flags += plausibility.follows_coordinates(tables, rescorer, submission)
        rivals = {slug: other for slug, other in self.others.items() if slug != submission.slug}
        self.verdict.families = families(cells, results, [drawn for _, drawn in budgets])
        classes = {task.task: len(task.classes) for task in tasks.values() if task.kind == "classification" and task.classes}
        self.verdict.flags += plausibility.against_board(self.verdict, higher, rivals, classes)
        for result in results:
            family = f"{result.cell.task}/{result.cell.target}/{result.cell.split}"
            if result.simulated:
                self.verdict.unranked[family] = "simulated results never rank"
            elif not result.main:
                self.verdict.unranked[family] = "the split is a sanity check and can be no main result"
        self.verdict.rankable = sorted(set(complete) - set(self.verdict.unranked))
        self._rescored = True
        return True


def _alike(text: str) -> str:
    """A text as a reader takes it: case, width and blanks make no other name."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _strangers(mine: Submission, theirs: Submission) -> bool:
    """Whether authors of equal names are other people: another account, or the package's own baselines against code of somebody's own."""
    accounts = {_alike(author.name): author.github for author in theirs.authors if author.github}
    other = any(accounts.get(_alike(author.name), author.github) != author.github for author in mine.authors)
    return other or (mine.code == "rs05bench") != (theirs.code == "rs05bench")


def _keep(kept: CellVerdict, found: Scored, drawn: LabelBudget) -> None:
    kept.labels_used, kept.labels_inspected = drawn.labels_used, drawn.labels_inspected
    kept.scores = {role: {name: round(value, 6) for name, value in values.items()} for role, values in found.scores.items()}
