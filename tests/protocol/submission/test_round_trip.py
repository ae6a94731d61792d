"""From the built wheel to a row of the site, following leaderboard/README.md; and what the repository itself ships."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rs05bench.protocol.submission import Board, check_bundle, verify_bundle
from rs05bench.protocol.submission.standing import read_submissions

ROOT = Path(__file__).resolve().parents[3]
TEAM = "leaderboard/submissions/my-team"


def readme_commands() -> list[str]:
    """The commands of the README's first block, continuation lines joined, without what fetches or commits."""
    block = re.search(r"```\n(.*?)```", (ROOT / "leaderboard/README.md").read_text(encoding="utf-8"), re.S)
    assert block is not None
    text = block[1].replace("\\\n", " ")
    return [line for line in text.splitlines() if line.startswith(("rs05bench", "cp -r leaderboard"))]


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.timeout(900)
def test_an_outside_team_follows_the_readme(real, tmp_path):
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed: the wheel cannot be built offline")
    data = real("aef_landcover")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, env=os.environ)
    wheel = next((tmp_path / "dist").glob("*.whl"))
    # The team's environment: the wheel in a folder of its own, ahead of this checkout, beside the libraries that are installed already.
    site = tmp_path / "site-packages"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, env=clean)
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "rs05bench"
    script.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from rs05bench.cli import main; main()' \"$@\"\n")
    script.chmod(0o755)
    team = tmp_path / "team"
    shutil.copytree(ROOT / "examples", team / "examples")
    (team / "leaderboard").mkdir()
    for name in ("tasks.yaml", "README.md"):
        shutil.copyfile(ROOT / "leaderboard" / name, team / "leaderboard" / name)
    env = clean | {"PYTHONPATH": str(site), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    where = subprocess.run(
        [sys.executable, "-c", "import rs05bench; print(rs05bench.__file__)"], env=env, cwd=team, capture_output=True, text=True
    )
    assert where.stdout.startswith(str(site))
    for command in readme_commands():
        done = subprocess.run(command.replace("DATA", str(data)), shell=True, cwd=team, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    verdict = (team / "verdict" / "verdict.html").read_text(encoding="utf-8")
    assert "Accepted and rescored" in verdict
    assert "alphaearth-logistic-yourteam" in "".join(page.name for page in (team / "site" / "models").iterdir())


def test_the_readme_names_only_commands_there_are():
    help_texts = {}
    for command in readme_commands():
        words = command.split()
        if words[0] != "rs05bench":
            continue
        family = words[1:3] if words[1] in ("submit", "leaderboard") else words[1:2]
        if tuple(family) not in help_texts:
            run = [sys.executable, "-m", "rs05bench.cli", *family, "--help"]
            help_texts[tuple(family)] = subprocess.run(
                run, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"}
            ).stdout
        for option in re.findall(r"--[a-z-]+", command):
            assert option in help_texts[tuple(family)], command


def test_every_baseline_on_the_board_is_a_bundle_without_a_fault(tmp_path):
    board = Board.load(ROOT / "leaderboard")
    found = list(read_submissions(ROOT / "leaderboard" / "submissions"))
    assert {verdict.model.tier for _, verdict, _ in found if verdict.model} >= {"floor", "raw", "embedding", "hybrid"}
    for folder, verdict, standing in found:
        assert (folder.name, standing.bundle) == (verdict.slug, verdict.bundle)
        assert {cell.task for cell in verdict.cells} <= {task.task for task in board.tasks}
    folder, verdict, _ = found[0]
    assert check_bundle(folder / "bundle", ROOT / "leaderboard", isolated=False).bundle == verdict.bundle


def test_baselines_are_small_and_hold_no_label():
    files = [path for path in (ROOT / "leaderboard" / "submissions").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10_000_000
    assert {path.suffix for path in files} <= {".json", ".html", ".parquet", ""}


@pytest.mark.slow
@pytest.mark.real
def test_a_baseline_is_rescored_from_the_real_labels(real, tmp_path):
    from rs05bench.experiment.cell import make_bench
    from rs05bench.experiment.store import ResultStore
    from rs05bench.protocol import TaskCard

    card = TaskCard.load(ROOT / "examples/cards/aef_landcover.yaml")
    bench = make_bench(card, real("aef_landcover"), ["leave-region-out"])
    store = ResultStore(tmp_path)
    store.put_card(card)
    store.put_manifest(bench.manifests["leave-region-out"])
    store.put_labels("data", bench.source.labels("dw_label").to_frame("dw_label"))
    folder = ROOT / "leaderboard/submissions/alphaearth-logistic-rs05bench"
    again = verify_bundle(folder / "bundle", ROOT / "leaderboard", truth=tmp_path, isolated=False)
    kept = next(verdict for path, verdict, _ in read_submissions(folder.parent) if path == folder)
    assert again.outcome == "accepted", again.faults + again.notes
    assert [cell.scores for cell in again.cells] == [cell.scores for cell in kept.cells]


@pytest.mark.parametrize("name", ["submission.yml", "leaderboard.yml"])
def test_workflows_parse_and_give_strangers_nothing(name):
    text = (ROOT / ".github/workflows" / name).read_text(encoding="utf-8")
    flow = yaml.safe_load(text)
    assert flow["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in text
    if name == "submission.yml":
        assert "secrets." not in text


@pytest.mark.parametrize(
    ("changes", "slugs"),
    [
        (["A", f"{TEAM}/bundle/cells/1/units.parquet", "A", f"{TEAM}/bundle/costs.json"], ["my-team"]),
        (["A", "leaderboard/submissions/my-team/standing.json"], None),
        (["M", "leaderboard/submissions/my-team/bundle/costs.json"], None),
        (["A", "leaderboard/submissions/my-team/bundle/../../x"], None),
        (["A", ".github/workflows/evil.yml"], None),
        ([], None),
    ],
)  # fmt: skip
def test_a_pull_request_may_only_add_bundles(changes, slugs):
    given = "".join(f"{word}\0" for word in changes).encode()
    done = subprocess.run([sys.executable, ROOT / "tools/submission-paths"], input=given, capture_output=True)
    assert (done.returncode == 0) == (slugs is not None)
    if slugs is not None:
        assert done.stdout.decode().split() == slugs
