"""The code on the documentation's pages runs, cell after cell, in a folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(?P<options>(?::[^\n]*\n)*)(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


def cells(page: Path) -> list[str]:
    return [match["code"] for match in CELL.finditer(page.read_text(encoding="utf-8"))]


PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts and cells(page))


def test_there_are_tutorials():
    assert PAGES


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_page_runs(page, tmp_path):
    # A file a page, so that a traceback shows the line; a process a page, so that pages do not lean on each other.
    script = tmp_path / f"{page.stem}.py"
    script.write_text("\n".join(_shell(code) for code in cells(page)), encoding="utf-8")
    # The command that belongs to this environment, whether or not it was activated.
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, script.name], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{page.relative_to(DOCS)}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _shell(code: str) -> str:
    """A cell's `!command` lines as Python; a command that fails fails the page."""
    command = r"^!(.*)$"
    return re.sub(
        command, lambda match: f"import subprocess; subprocess.run({match[1]!r}, shell=True, check=True)", code, flags=re.MULTILINE
    )


def test_a_failing_cell_would_fail_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```{code-cell} ipython3\n:tags: [hide-input]\n\nx = 1\n```\n\ntext\n\n```{code-cell} ipython3\n!false\n```\n")
    first, second = cells(page)
    assert first.strip() == "x = 1"
    with pytest.raises(subprocess.CalledProcessError):
        exec(_shell(second))
