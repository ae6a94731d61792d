"""Checking and verifying a bundle.

`check_bundle` needs nothing but the bundle and the board: a team runs it before anyone waits for a review. `verify_bundle` scores it anew
with the frozen labels. Both do the reading in a child process that has little memory, little time and no way back (see `child`).
"""

from __future__ import annotations

import datetime
import importlib.metadata
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.rasters import RasterPredictions
from rs05bench.protocol.result import Result
from rs05bench.protocol.scoring import Scored
from rs05bench.protocol.submission import plausibility
from rs05bench.protocol.submission.archive import Opened, open_bundle
from rs05bench.protocol.submission.board import Board
from rs05bench.protocol.submission.cells import ReadCell, check_completeness, read_cell
from rs05bench.protocol.submission.faults import Faults, HostileError, shown
from rs05bench.protocol.submission.limits import LIMITS, Limits
from rs05bench.protocol.submission.reading import check_sums, read_record
from rs05bench.protocol.submission.rescore import Rescorer, as_result, judge_rules, pool, reported_differences
from rs05bench.protocol.submission.schema import CellRecord, Costs, Submission
from rs05bench.protocol.submission.truth import Truth, available
from rs05bench.protocol.submission.verdict import CellVerdict, Flag, PricedCost, Verdict


def check_bundle(bundle: str | Path, board: str | Path, *, limits: Limits = LIMITS, isolated: bool = True) -> Verdict:
    """Everything that can be said of a bundle without labels: safety, schema, digests, completeness, values.

    Args:
        bundle: Folder, .zip or .tar.gz.
        board: `leaderboard/`, or its `tasks.yaml`.
        limits: How large it may be.
        isolated: Whether to read it in a child process with bounded memory and time.

    Returns:
        A verdict with every fault; `complete` where there is none.
    """
    return verify_bundle(bundle, board, limits=limits, isolated=isolated)


def verify_bundle(
    bundle: str | Path,
    board: str | Path,
    *,
    truth: str | Path | None = None,
    others: str | Path | None = None,
    limits: Limits = LIMITS,
    isolated: bool = True,
    work: str | Path | None = None,
) -> Verdict:
    """Verifies a bundle as if its authors meant harm, and scores it anew.

    Args:
        bundle: Folder, .zip or .tar.gz.
        board: `leaderboard/`, or its `tasks.yaml`.
        truth: Folder of the frozen labels (see `Truth`); without it nothing is rescored.
        others: `leaderboard/submissions`, to find predictions sent before.
        limits: How large it may be.
        isolated: Whether to read it in a child process with bounded memory and time.
        work: An empty folder to work in, which keeps an unpacked archive in `bundle/`; default one that is removed.
    """
    from rs05bench.protocol.submission.child import judge_apart

    found = Board.load(board)
    read = judge_apart if isolated else judge
    if work is not None:
        return read(Path(bundle), found, truth, others, limits, Path(work))
    with tempfile.TemporaryDirectory(prefix="rs05bench-verify-") as own:
        return read(Path(bundle), found, truth, others, limits, Path(own))


def judge(bundle: Path, board: Board, truth: str | Path | None, others: str | Path | None, limits: Limits, work: Path) -> Verdict:
    """Reads and judges a bundle in this process; whatever goes wrong is a refusal."""
    begin = time.perf_counter()
    trial = Trial(board, Truth(Path(truth)) if truth is not None else None, others, limits)
    try:
        trial.run(bundle, work)
    except HostileError as error:
        trial.faults.add(str(error))
    except MemoryError:
        trial.faults.add("reading the bundle needs more memory than a verification may use")
    except Exception as error:
        trial.faults.add(f"the bundle could not be verified ({type(error).__name__}: {shown(str(error), 200)})")
        trial.verdict.notes.append("unexpected")
    return trial.close(time.perf_counter() - begin)


class Trial:
    """One verification, step by step.

    Args:
        board: What counts.
        truth: Frozen labels.
        others: `leaderboard/submissions`.
        limits: How large a bundle may be.
    """

    def __init__(self, board: Board, truth: Truth | None, others: str | Path | None, limits: Limits) -> None:
        self.board, self.truth, self.others, self.limits = board, truth, others, limits
        self.faults = Faults()
        self.verdict = Verdict(outcome="refused")
        self._rescored = False

    def run(self, bundle: Path, work: Path) -> None:
        """Reads, checks, scores."""
        opened = open_bundle(bundle, work, self.limits, self.faults)
        if self.faults and not opened.files:
            return
        if not opened.files:
            raise HostileError("the bundle is empty")
        self.verdict.bundle = check_sums(opened.root, opened.files, self.limits, self.faults)
        submission, costs = self._records(opened)
        cells, records = self._cells(opened, submission)
        complete = check_completeness(records, self.board, self.faults)
        if submission is None or costs is None:
            return
        self._check_costs(records, costs)
        self._describe(submission, costs, cells)
        if not self.faults:
            self._score(cells, submission, costs, complete)

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

    def _records(self, opened: Opened) -> tuple[Submission | None, Costs | None]:
        submission: Submission | None = None
        costs: Costs | None = None
        for name in ("submission.json", "costs.json"):
            if name not in opened.files:
                self.faults.add(f"{name} is missing")
        if "submission.json" in opened.files:
            submission = read_record(opened.root / "submission.json", Submission, self.limits, self.faults, "submission.json")
        if "costs.json" in opened.files:
            roomy = replace(self.limits, json_bytes=8 * self.limits.json_bytes)
            costs = read_record(opened.root / "costs.json", Costs, roomy, self.faults, "costs.json")
        return submission, costs

    def _cells(self, opened: Opened, submission: Submission | None) -> tuple[list[ReadCell], list[CellRecord]]:
        cells: list[ReadCell] = []
        if not opened.cells:
            self.faults.add("the bundle holds no cell (cells/<n>/predictions.json and units.parquet)")
        for path in opened.cells:
            cell = read_cell(opened, path, self.board, submission, self.limits, self.faults)
            if cell is not None:
                cells.append(cell)
        names = [cell.record.cell.model_dump_json() for cell in cells]
        for path, name in zip((cell.path for cell in cells), names, strict=True):
            first = cells[names.index(name)].path
            if first != path:
                self.faults.add(f"{path}: is the same cell as {first}")
        return cells, [cell.record for cell in cells]

    def _check_costs(self, records: list[CellRecord], costs: Costs) -> None:
        asked = {(r.cell.task, r.cell.target, r.cell.split, r.cell.budget) for r in records}
        there = [cost.key for cost in costs.costs]
        for key in sorted(asked - set(there)):
            self.faults.add(f"costs.json: no cost of {'/'.join(key)}")
        for key in sorted({key for key in there if there.count(key) > 1}):
            self.faults.add(f"costs.json: {'/'.join(key)} occurs twice")
        for key in sorted(set(there) - asked):
            self.faults.add(f"costs.json: {'/'.join(key)} is no cell of this bundle")

    def _describe(self, submission: Submission, costs: Costs, cells: list[ReadCell]) -> None:
        verdict = self.verdict
        verdict.slug, verdict.title = submission.slug, submission.title
        verdict.submission = submission.model_dump(mode="json")
        verdict.model = submission.model.card()
        verdict.tracks = ["open", "deployment"] if submission.model.open_weights else ["deployment"]
        verdict.simulated = any(cell.task.simulated for cell in cells)
        verdict.costs = [
            PricedCost(task=cost.task, target=cost.target, split=cost.split, budget=cost.budget, cost=cost.cost()) for cost in costs.costs
        ]
        verdict.cells = [
            CellVerdict(
                path=cell.path,
                **cell.record.cell.model_dump(),
                units=cell.units,
                labels_used=cell.record.budget.labels_used,
                predictions=cell.digest,
            )
            for cell in cells
        ]
        least = {cell.record.cell.seed for cell in cells}
        first = min(least, default=0)
        verdict.sketches = {plausibility.sketch_key(cell): cell.sketch for cell in cells if cell.sketch and cell.record.cell.seed == first}
        verdict.flags += plausibility.identical(cells, submission, self._others())
        verdict.flags += plausibility.impossible_costs(submission, costs)

    def _others(self) -> dict[str, tuple[str, dict[str, list[float]]]]:
        found: dict[str, tuple[str, dict[str, list[float]]]] = {}
        for path in sorted(Path(self.others).glob("*/verdict.json")) if self.others is not None else ():
            try:
                other = Verdict.model_validate_json(path.read_bytes())
            except ValueError:
                self.verdict.notes.append(f"{path.parent.name}/verdict.json cannot be read, so its predictions were not compared")
                continue
            found[path.parent.name] = (other.model.tier if other.model else "", other.sketches)
        return found

    def _score(self, cells: list[ReadCell], submission: Submission, costs: Costs, complete: list[str]) -> None:
        reasons = {(cell.task.task, cell.record.cell.split): available(self.truth, cell.task, cell.record.cell.split) for cell in cells}
        for (task, split), reason in sorted(reasons.items()):
            if reason is not None:
                self.verdict.notes.append(f"{task}/{split} was not rescored: {reason}")
        if self.truth is None or any(reason is not None for reason in reasons.values()):
            return
        rescorer = Rescorer(self.truth, self.faults, self.verdict.notes)
        results: list[Result] = []
        scored: list[tuple[ReadCell, Scored]] = []
        budgets: list[tuple[ReadCell, LabelBudget]] = []
        for cell, told in zip(cells, self.verdict.cells, strict=True):
            drawn = rescorer.budget(cell.record, cell.task, cell.path)
            found = rescorer.score(cell)
            if drawn is None or found is None:
                continue
            told.scores = {role: {name: round(value, 6) for name, value in values.items()} for role, values in found.scores.items()}
            told.strata = [
                stratum.model_copy(update={"scores": {name: round(value, 6) for name, value in stratum.scores.items()}})
                for stratum in found.strata
            ]
            results.append(as_result(cell, found, drawn, submission, costs))
            scored.append((cell, found))
            budgets.append((cell, drawn))
        if len(results) < len(cells):
            return
        tasks = {cell.task.task: cell.task for cell in cells}
        self.verdict.rules = judge_rules(results, self.truth, tasks.values(), self.faults)
        self.verdict.flags += plausibility.unmoved(budgets, submission)
        self._look_closer(scored, rescorer, submission)
        self.verdict.pooled = pool(results)
        for result in results:
            family = f"{result.cell.task}/{result.cell.target}/{result.cell.split}"
            if result.simulated:
                self.verdict.unranked[family] = "simulated results never rank"
            elif not result.main:
                self.verdict.unranked[family] = "the split is a sanity check and can be no main result"
        self.verdict.rankable = sorted(set(complete) - set(self.verdict.unranked))
        self._rescored = True

    def _look_closer(self, scored: list[tuple[ReadCell, Scored]], rescorer: Rescorer, submission: Submission) -> None:
        tables = [cell for cell, _ in scored if not isinstance(cell.predictions, RasterPredictions)]
        self.verdict.flags += plausibility.too_good(tables, rescorer)
        self.verdict.flags += plausibility.follows_coordinates(tables, rescorer, submission)
        differing, worst = reported_differences(scored)
        if differing:
            sentence = f"Reported scores differ from those found here in {len(differing)} of {len(scored)} cells, by up to {worst:.3g}."
            self.verdict.flags.append(Flag(key="reported", sentence=sentence, cells=differing[: plausibility.MOST_CELLS]))
