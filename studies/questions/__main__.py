"""Runs studies and writes their pages: `python -m studies.questions NAME ... [--data DIR] [--quick]`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from rs05bench.errors import BenchError
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.compared_sides import Side
from rs05bench.protocol.comparison import differences, score_of
from rs05bench.protocol.independence import independence
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.protocol.result import Result
from rs05bench.protocol.splits import Split

from .fits import curves, details, schedule, trained
from .page import Row, digest_of, two, write_page
from .record import ROLES, StudyRecord, load_study, study_names
from .setting import CARDS, Found, Setting


def run_study(study: StudyRecord, setting: Setting, docs: Path) -> tuple[Path, list[Row]]:
    """Runs what is missing of a study and writes its page.

    Returns:
        The page and its comparisons.

    Raises:
        DataError: Real data are absent.
    """
    results: list[Result] = []
    targets: dict[str, str] = {}
    for grid in study.grids:
        path = CARDS / f"{grid.card}.yaml"
        card = TaskCard.load(path)
        targets.setdefault(card.name, (grid.targets or card.targets)[0])
        fields = grid.model_dump(exclude={"card", "data"})
        results += setting.sweep(path, setting.data(grid.data), **fields)
    own = _own(study)
    found = own(setting) if own else Found()
    results += found.results
    results = list({result.digest: result for result in results}.values())  # grids of a record may overlap
    for result in found.results:
        targets.setdefault(result.cell.task, result.cell.target)
    pool = Pool.of(results)
    asked = [row for contrast in study.contrasts if contrast.task in targets for row in contrast.rows(targets[contrast.task])]
    made = differences(pool, [(Side.score(*first), Side.score(*second)) for _, first, second in asked])
    rows = [
        Row(label, entry.left, entry.right, entry.effect, entry.metric)
        for (label, _, _), entry in zip(asked, made, strict=True)
        if entry is not None
    ]
    rows += found.rows
    notes = _alike(pool, [side for _, *sides in asked for side in sides], ResultStore(setting.store))
    tables = _scores(pool, [side for _, *sides in asked for side in sides])
    if study.also:
        tables.append(details(results, study.also))
        if fitted := trained(results):
            tables.append(schedule(fitted))
            curves(fitted, docs / f"{study.name}-curves.png")
    return write_page(study, rows, results, [*tables, *found.tables], docs, notes=notes, quick=setting.quick), rows


def _scores(pool: Pool, sides: Sequence[tuple[Point, str]]) -> list[tuple[str, pd.DataFrame]]:
    """Every score that is compared: the mean over groups, and next to it the score of all units pooled."""
    found = []
    for point, role in dict.fromkeys(sides):
        score = score_of(pool, point, role) if point in pool.points else None
        if score is None:
            continue
        options = "" if point.options == "[]" else f" {point.options.replace('|', ' ')}"
        names = {"task": point.task, "target": point.target, "split": point.split, "model": f"{point.model}{options}"}
        numbers = {"mean of groups": two(score.estimate.value), "pooled": two(score.pooled), "groups": score.estimate.n_groups}
        found.append(names | {"labels": point.budget, "tested": ROLES[role], "metric": score.metric} | numbers)
    return [("Scores", pd.DataFrame(found))] if found else []


def _alike(pool: Pool, sides: Sequence[tuple[Point, str]], store: ResultStore) -> list[str]:
    """Where the groups (or blocks) of a comparison are no independent draws, a sentence for each task, split and role."""
    manifests = {(manifest.task, manifest.split): manifest for manifest in store.manifests()}
    found: dict[tuple[str, str, str], str] = {}
    for point, role in sides:
        key = (point.task, point.split, role)
        manifest = manifests.get((point.task, Split(point.split).base))
        if key in found or manifest is None or point not in pool.points or point.model.startswith("floor/"):
            continue
        checked = independence(pool, point, role, manifest)
        found[key] = f"{point.task}, {point.split}, {ROLES[role]}: {checked.sentence}" if checked and checked.sentence else ""
    return [sentence for sentence in found.values() if sentence]


def _own(study: StudyRecord) -> Callable[[Setting], Found] | None:
    path = study.folder / "cells.py"
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location(f"studies.questions.{study.name.replace('-', '_')}.cells", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found: Callable[[Setting], Found] = module.cells
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m studies.questions", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"{', '.join(study_names())}, or all")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RS05BENCH_REAL", "../shared/real")), help="folder of real data")
    parser.add_argument("--store", type=Path, default=Path("build/studies"), help="folder of results, one inside it per study")
    parser.add_argument("--docs", type=Path, default=Path("docs/studies"), help="where to write the pages")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--quick", action="store_true", help="one seed: tries the steps, answers nothing")
    parser.add_argument("--no-run", action="store_true", help="write the page from what is there")
    given = parser.parse_args(arguments)
    status = 0
    for name in study_names() if given.names == ["all"] else given.names:
        try:
            study = load_study(name)
            setting = Setting(given.store / name, given.data, given.jobs, given.quick, not given.no_run)
            page, rows = run_study(study, setting, given.docs)
        except BenchError as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 2
            continue
        print(f"{page}: {len(rows)} comparisons, numbers {digest_of(rows)}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
