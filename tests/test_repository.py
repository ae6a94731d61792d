"""What the repository promises about itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = [Requirement(item) for group in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()] for item in group]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda item: item.name)
def test_requirement_is_pinned_within_its_bounds(requirement):
    if requirement.name == PROJECT["name"]:
        return
    version = pins().get(canonicalize_name(requirement.name))
    assert version is not None, f"constraints.txt does not pin {requirement.name}; run make constraints"
    assert requirement.specifier.contains(version, prereleases=True)


def test_pins_are_exact_and_from_no_path():
    assert all(re.fullmatch(r"[0-9][\w.+!]*", version) for version in pins().values())
    assert "file:" not in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_core_and_runtime_minimums_say_why():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    tools = {Requirement(item).name for extra in ("docs", "dev") for item in PROJECT["optional-dependencies"][extra]}
    silent = [
        line.strip() for line in text.splitlines()
        if (match := re.match(r'\s+"([\w.-]+)(\[[\w,]+\])?[><=~]', line)) and match[1] not in tools and "#" not in line
    ]  # fmt: skip
    assert silent == []


def test_citation_names_the_version_and_licence_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])


def test_changelog_knows_the_version():
    assert f"## {PROJECT['version'].split('.dev')[0]}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_nothing_tracked_names_a_home_directory():
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    # Written so that this file does not find itself.
    pattern = "/(home|root|Users)" + "/[a-z.]"
    found = subprocess.run(["git", "-C", ROOT, "grep", "-nIE", pattern, "--", ":!*.ipynb"], capture_output=True, text=True, check=False)
    assert found.stdout == ""


@pytest.mark.parametrize(("what", "most"), [("files", 1200), ("bytes", 30_000_000)])
def test_the_repository_stays_small(what, most):
    """A submission costs three small files; predictions, data and pictures of runs are kept elsewhere."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    sizes = [path.stat().st_size for name in tracked if (path := ROOT / name).is_file()]
    assert (len(sizes) if what == "files" else sum(sizes)) < most


# Finding a Python ------------------------------------------------------------------------------------------------------------


def find_python(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": f"{path}:/usr/bin:/bin", "HOME": str(path), "PYENV_ROOT": str(path / "none")} | environment
    return subprocess.run(["sh", ROOT / "tools/find-python"], env=clean, capture_output=True, text=True, check=False)


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def empty(tmp_path) -> Path:
    """A folder of commands in which every Python is broken, as pyenv's shims are where another version is selected."""
    for name in ("python3.12", "python3.13", "python3.14", "python3", "python"):
        executable(tmp_path / name, 'echo "command not found" >&2; exit 127')
    return tmp_path


def test_a_broken_shim_is_passed_over(empty):
    executable(empty / "python3.13", f'exec "{sys.executable}" "$@"')
    found = find_python(empty)
    assert found.returncode == 0
    assert os.path.samefile(found.stdout.strip(), sys.executable)


def test_an_installed_but_unselected_python_is_found(empty):
    executable(empty / "pyenv/versions/3.12.9/bin/python", f'exec "{sys.executable}" "$@"')
    assert find_python(empty, PYENV_ROOT=str(empty / "pyenv")).returncode == 0


def test_without_a_python_one_line_says_how_to_get_one(empty):
    found = find_python(empty)
    assert found.returncode != 0
    assert found.stdout == ""
    assert len(found.stderr.splitlines()) == 1
    assert "Python >= 3.12" in found.stderr


def test_a_named_python_is_the_only_candidate(empty):
    executable(empty / "python3.12", f'exec "{sys.executable}" "$@"')
    found = find_python(empty, PYTHON="python3.13")
    assert found.returncode != 0
    assert "PYTHON=python3.13" in found.stderr
