"""What a report is made of: the results of a run folder, one section a task and target, with what they rest on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rs05bench.errors import DataError
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.metrics import Boundary, Confusion, Moments, find_metric
from rs05bench.protocol.result import Cost, ModelCard, Result
from rs05bench.protocol.rules import RuleVerdict, check_rules
from rs05bench.protocol.splits import Split


@dataclass(frozen=True)
class Section:
    """One task and target of a run folder.

    Attributes:
        card: The task card.
        target: Target column.
        results: Results, one a cell.
        manifests: Manifest of every split, by its name without `+k`.
        costs: Costs measured alone, by digest.
        store: Where predictions are read from.
    """

    card: TaskCard
    target: str
    results: list[Result]
    manifests: dict[str, SplitManifest]
    costs: dict[str, Cost]
    store: ResultStore

    @property
    def key(self) -> str:
        """A name for files and anchors."""
        return self.card.name if len(self.card.targets) == 1 else f"{self.card.name}-{self.target}"

    @property
    def title(self) -> str:
        """Its name for people."""
        title = self.card.title or self.card.name
        return title if len(self.card.targets) == 1 else f"{title}: {self.target}"

    @property
    def metric(self) -> str:
        """The metric the section is about: the card's, or the kind's own where sums per block do not give the card's."""
        name = self.results[0].main_metric
        if self.card.kind == "regression":
            return name if find_metric(name).sums is Moments else "r2"
        return name if find_metric(name).sums in (Confusion, Boundary) else "macro_f1"

    @property
    def higher_is_better(self) -> bool:
        """Its direction."""
        return bool(find_metric(self.metric).higher_is_better)

    @property
    def labels_word(self) -> str:
        """What a budget counts: `labels`, or `labelled chips`."""
        return self.card.about.counted

    @property
    def simulated(self) -> bool:
        """Whether anything shown comes from simulated data."""
        return any(result.simulated for result in self.results)

    @cached_property
    def models(self) -> dict[str, ModelCard]:
        """Model cards by name."""
        return {result.cell.model: result.model for result in self.results}

    @cached_property
    def splits(self) -> list[str]:
        """Splits with results, the main ones first, in the card's order."""
        there: dict[str, bool] = {result.cell.split: result.main for result in self.results}
        order = {name: position for position, name in enumerate(self.card.splits)}
        return sorted(there, key=lambda name: (not there[name], order.get(name, len(order)), name))

    @cached_property
    def main_splits(self) -> list[str]:
        """Splits that may be a main result."""
        there: dict[str, bool] = {result.cell.split: result.main for result in self.results}
        return [split for split in self.splits if there[split]]

    @cached_property
    def budgets(self) -> dict[str, list[str]]:
        """Budgets of each split, fewest labels first."""
        used: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for result in self.results:
            used[result.cell.split][result.cell.budget].append(result.budget.labels_used or 0)
        return {split: sorted(budgets, key=lambda name: (sum(budgets[name]) / len(budgets[name]), name)) for split, budgets in used.items()}

    @cached_property
    def lead_split(self) -> str | None:
        """The split the verdict is about: the first that holds groups out, else the first with a test out of domain; None without one."""
        moved = [split for split in self.main_splits if any("test_ood" in r.scores for r in self.results if r.cell.split == split)]

        def rank(split: str) -> int:
            return 2 * Split(split).rule.rank + bool(Split(split).extra)

        return min(moved, key=rank, default=None)

    def manifest(self, split: str) -> SplitManifest | None:
        """The manifest of a split."""
        return self.manifests.get(Split(split).base)


@dataclass(frozen=True)
class RunFolder:
    """A run folder, read.

    Attributes:
        folder: The folder.
        sections: One a task and target.
        rules: Verdict on every rule of the protocol.
        failures: Cells that failed and have no result.
        left_out: Why results are not shown, one sentence each.
    """

    folder: Path
    sections: list[Section]
    rules: list[RuleVerdict]
    failures: int
    left_out: list[str] = field(default_factory=list)

    @property
    def results(self) -> list[Result]:
        """All results shown."""
        return [result for section in self.sections for result in section.results]

    @property
    def simulated(self) -> bool:
        """Whether anything shown comes from simulated data."""
        return any(section.simulated for section in self.sections)


def read_runs(folder: str | Path) -> RunFolder:
    """Reads a run folder.

    Args:
        folder: A sweep's folder.

    Raises:
        DataError: No results; results of a task without its card.
    """
    root = Path(folder)
    store = ResultStore(root)
    found = list(store.results()) if (root / "cells").is_dir() else []
    if not found:
        raise DataError("holds no finished result", source=root, remedy="Give the folder a sweep was written to (its --out).")
    cards = store.cards()
    costs = store.costs()
    kept, left_out = _newest(found, cards, store)
    grouped: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in kept:
        grouped[result.cell.task, result.cell.target].append(result)
    manifests = _manifests(store)
    for (task, _), results in grouped.items():
        _one_state(task, results, root)
    sections = []
    for (task, target), results in sorted(grouped.items()):
        sections.append(
            Section(
                cards[task],
                target,
                results,
                {manifest.split: manifest for manifest in manifests if manifest.task == task},
                costs,
                store,
            )
        )
    costed = [result.model_copy(update={"cost": costs.get(result.digest, result.cost)}) for result in kept]
    rules = check_rules(costed, manifests, [cards[task] for task in sorted({task for task, _ in grouped})])
    return RunFolder(root, sections, rules, len(store.failures()), left_out)


def _newest(results: list[Result], cards: dict[str, TaskCard], store: ResultStore) -> tuple[list[Result], list[str]]:
    """One result a cell: those of the card that is kept, of several the one written last. A folder may hold earlier attempts."""
    missing = sorted({result.cell.task for result in results} - set(cards))
    if missing:
        raise DataError(f"holds results of {', '.join(missing)} without a task card", source=store.root, remedy="Put it into cards/.")
    current = [result for result in results if result.digests.get("card") == cards[result.cell.task].digest]
    notes = []
    if not current:
        current = results
        notes.append("No result rests on the task card kept beside them; what is shown was run under an earlier card.")
    elif len(current) < len(results):
        notes.append(f"{len(results) - len(current)} results of an earlier task card are left out.")
    newest: dict[str, tuple[float, Result]] = {}
    for result in current:
        written = (store.folder(result.digest) / "result.json").stat().st_mtime
        key = result.cell.model_dump_json()
        if key not in newest or written > newest[key][0]:
            newest[key] = (written, result)
    if len(newest) < len(current):
        notes.append(f"{len(current) - len(newest)} earlier results of the same cells are left out.")
    return [result for _, result in newest.values()], notes


def _manifests(store: ResultStore) -> list[SplitManifest]:
    there = sorted(store.root.glob("manifests/*/*@v*.parquet"))
    return [SplitManifest.load(path) for path in there if not path.name.endswith(".units.parquet")]


def _one_state(task: str, results: list[Result], root: Path) -> None:
    states = {result.digests.get("data", "") for result in results}
    if len(states) > 1:
        raise DataError(
            f"{task}: the results are of {len(states)} different states of the data and cannot be compared",
            source=root,
            remedy="Run the sweep again into a new folder.",
        )
