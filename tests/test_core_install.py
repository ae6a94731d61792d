"""What `pip install rs05bench` gives without extras, and what is said where an extra is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, distributions, packages_distributions
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rs05bench import extras

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _installed() -> dict[str, Distribution]:
    return {canonicalize_name(found.metadata["Name"]): found for found in distributions() if found.metadata["Name"]}


def _with_what_they_need(requirements: list[str]) -> set[str]:
    there, seen = _installed(), set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        this = waiting.pop()
        name, wanted = canonicalize_name(this.name), tuple(sorted(this.extras))
        if (name, wanted) in seen or name not in there:
            continue
        seen.add((name, wanted))
        needs = [Requirement(text) for text in there[name].requires or []]
        waiting += [
            need for need in needs if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in wanted or ("",))
        ]
    return {name for name, _ in seen}


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to what the core depends on, and to nothing else."""
    folder = tmp_path_factory.mktemp("core")
    there = _installed()
    for name in _with_what_they_need(PROJECT["dependencies"]):
        tops = {file.parts[0] for file in there[name].files or [] if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            source, link = Path(str(there[name].locate_file(top))), folder / top
            if source.exists() and not link.exists():
                link.symlink_to(source)
    (folder / "rs05bench").symlink_to(ROOT / "rs05bench")
    return folder


def _run(core: Path, folder: Path, *commands: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Runs commands one after another in one process that sees the core alone; stops at the first that fails."""
    code = (
        "import json, sys\nfrom rs05bench.cli import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['rs05bench', *words]\n"
        "    try:\n        main()\n"
        "    except SystemExit as end:\n        if end.code: raise\n"
    )
    # -S leaves the environment's own packages out; processes that a sweep starts inherit the path.
    run = [sys.executable, "-S", "-P", "-c", code, json.dumps(commands)]
    environment = {**os.environ, "PYTHONPATH": str(core), "COLUMNS": "120"}
    return subprocess.run(run, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(0)
    rows = 240
    vectors = generator.normal(size=(rows, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)  # as AlphaEarth's
    frame = pd.DataFrame(vectors.astype(np.float32), columns=[f"A{band:02d}" for band in range(64)])
    frame.insert(0, "id", [f"p{number}" for number in range(rows)])
    frame["lon"], frame["lat"] = generator.uniform(10, 14, rows), generator.uniform(45, 47, rows)
    frame["region"] = np.array(["a", "b", "c"])[(frame["lon"] - 10).astype(int).clip(0, 2)]
    frame["crop"] = np.where(frame["A00"] + 0.03 * generator.normal(size=rows) > 0, "maize", "other")
    folder = tmp_path_factory.mktemp("table")
    frame.to_csv(folder / "fields.csv", index=False)
    return folder


@pytest.mark.slow
def test_the_core_takes_a_table_from_card_to_report_and_budgets(core: Path, table: Path) -> None:
    steps = (
        ("card", "init", "fields.csv", "--yes", "--target", "crop", "--groups", "region"),
        ("card", "check", "fields.yaml"),
        ("sweep", "fields.yaml", "--models", "floor/majority,*/ridge,*/logistic,*/xgboost", "--splits", "leave-region-out", "--folds", "a",
         "--budgets", "20-units", "--seeds", "0", "--jobs", "1", "--no-costs", "--out", "runs"),
        ("report", "runs", "--out", "report"),
        ("manifest", "build", "fields.yaml", "--data", ".", "--splits", "leave-region-out", "--out", "manifests"),
        ("budgets", "fields.yaml", "--out", "budgets.csv"),
    )  # fmt: skip
    done = _run(core, table, *steps)
    assert done.returncode == 0, (done.stdout, done.stderr)
    # What an extra would bring is left out and said, not run and failed.
    assert "rs05bench[boost]" in done.stderr
    assert " 0 failed" in done.stdout
    assert (table / "report" / "index.html").stat().st_size > 50_000


@pytest.mark.slow
def test_a_command_that_needs_an_extra_says_which(core: Path, table: Path) -> None:
    done = _run(core, table, ("extract", "fields.csv", "--from", "tiles", "--out", "out.csv"))
    assert done.returncode == 2
    assert "pip install 'rs05bench[geo]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_package_of_an_extra_is_known_by_the_extra_that_brings_it() -> None:
    declared = PROJECT["optional-dependencies"]
    homes = {
        canonicalize_name(name): extras.MODULES[module]
        for module, names in packages_distributions().items()
        if module in extras.MODULES
        for name in names
    }
    for extra in set(extras.PURPOSE) - {"all"}:
        for name in {canonicalize_name(Requirement(text).name) for text in declared[extra]} - {"rs05bench", "nvidia-ml-py"}:
            assert name not in _installed() or homes[name] == extra, (name, extra)


def test_the_extras_have_a_purpose_each_in_the_docs() -> None:
    declared = set(PROJECT["optional-dependencies"]) - {"docs", "dev"}
    assert set(extras.PURPOSE) == declared
    page = (ROOT / "docs" / "start" / "install.md").read_text()
    assert set(re.findall(r"^\| `([a-z0-9]+)` \|", page, flags=re.MULTILINE)) == declared


def test_a_missing_module_of_an_extra_becomes_an_error_that_names_it() -> None:
    error = extras.missing_extra(ModuleNotFoundError("No module named 'zarr'", name="zarr.storage"), purpose="reading x.zarr")
    assert isinstance(error, ModuleNotFoundError)
    assert str(error) == "reading x.zarr needs the package zarr, which is not installed\n  pip install 'rs05bench[remote]'"


def test_a_missing_module_of_somebody_else_stays_what_it_is() -> None:
    assert extras.missing_extra(ModuleNotFoundError("No module named 'mine'", name="mine")) is None
