"""From the built wheel to a row of the site, following leaderboard/README.md; and what the repository itself ships."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pandas as pd
import pytest
import yaml

from rs05bench.protocol.submission import Board, check_bundle, verify_bundle
from rs05bench.protocol.submission.standing import read_submissions

ROOT = Path(__file__).resolve().parents[3]
TEAM = "leaderboard/submissions/my-team"


def readme_commands() -> list[str]:
    """Every command of the README's first block, continuation lines joined, comments left out."""
    block = re.search(r"```\n(.*?)```", (ROOT / "leaderboard/README.md").read_text(encoding="utf-8"), re.S)
    assert block is not None
    lines = (line.strip() for line in block[1].replace("\\\n", " ").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def empty_environment(tmp_path_factory) -> Path:
    """A new virtual environment with the built wheel in it; what the wheel depends on is read from this one, as there is no network."""
    root = tmp_path_factory.mktemp("outside")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(root / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    venv.create(root / "venv", with_pip=False, symlinks=True)
    python = root / "venv/bin/python"
    site = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True, capture_output=True, text=True
        ).stdout.strip()
    )
    wheel = next((root / "dist").glob("*.whl"))
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--no-compile", wheel]
    subprocess.run(install, check=True, capture_output=True)
    # Only a path: the .pth files of this environment, by which the checkout itself could be found, are not read from there.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return root / "venv"


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.timeout(900)
def test_an_outside_team_follows_the_readme(real, empty_environment, tmp_path):
    data = real("aef_landcover")
    team = tmp_path / "rs05bench"
    shutil.copytree(ROOT / "examples", team / "examples")
    others = ("tasks.yaml", "README.md", "submissions/floor-majority-landcover")
    for name in others:
        (team / "leaderboard" / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / "leaderboard" / name).is_dir() else shutil.copyfile)(
            ROOT / "leaderboard" / name, team / "leaderboard" / name
        )
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env |= {"PATH": f"{empty_environment / 'bin'}:{os.environ['PATH']}", "GIT_CONFIG_GLOBAL": "/dev/null"}
    env |= {f"GIT_{who}_{what}": "team@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def run(command: str) -> str:
        done = subprocess.run(["bash", "-c", command], cwd=team, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run("git init -q -b main && git add . && git commit -q -m start")
    assert run("python -c 'import rs05bench; print(rs05bench.__file__)'").startswith(str(empty_environment))
    commands = readme_commands()
    assert commands[0].startswith("git clone")
    assert commands[1] == "python -m pip install ."
    slug = "forest-of-the-team"
    for command in commands[2:]:
        run(command.replace("DATA", str(data)).replace("<slug>", slug))
        if "submit card" in command:
            card = yaml.safe_load((team / "mycard.yaml").read_text(encoding="utf-8"))
            assert card["overlap"].startswith("Say how")
            card |= {"slug": slug, "overlap": "AlphaEarth saw these places, not these labels."}
            card["authors"] = [{"name": "A Team", "github": "a-team"}]
            (team / "mycard.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    assert "Accepted and rescored" in (team / "verdict/verdict.html").read_text(encoding="utf-8")
    assert (team / f"site/models/{slug}.html").is_file()
    rows = pd.read_csv(team / "site/data/leaderboard.csv")
    mine = rows[(rows["submission"] == slug) & (rows["task"] == "aef-landcover")]
    assert list(mine["standing"].unique()) == ["rescored"]
    assert mine["ood"].between(0.2, 0.9).all()
    # What CI looks at first: the pull request adds one bundle, and nothing else.
    changed = run("git diff --name-status --no-renames -z main...HEAD")
    listed = subprocess.run([sys.executable, ROOT / "tools/submission-paths"], input=changed, capture_output=True, text=True, check=True)
    assert listed.stdout.split() == [slug]


def test_the_readme_names_only_commands_there_are():
    help_texts = {}
    for command in readme_commands():
        words = command.split()
        if words[0] != "rs05bench" or words[1].startswith("<"):
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
    real = [verdict for _, verdict, _ in found if verdict.model and not verdict.simulated]
    for task in board.tasks:
        tiers = {verdict.model.tier for verdict in real if task.task in {cell.task for cell in verdict.cells}}
        # Rules 6 and 7; the towers have no embedding, so nothing hybrid there.
        assert task.simulated or tiers >= {"floor", "raw"} | ({"embedding", "hybrid"} if task.task.startswith("aef-") else set()), task.task
        assert task.simulated == task.task.endswith("-simulated")
        assert all(len(split.budgets) >= 3 for split in task.splits.values())
    for folder, verdict, standing in found:
        assert (folder.name, standing.bundle) == (verdict.slug, verdict.bundle)
        assert {cell.task for cell in verdict.cells} <= {task.task for task in board.tasks}
    folder, verdict, _ = found[0]
    assert check_bundle(folder / "bundle", ROOT / "leaderboard", isolated=False).bundle == verdict.bundle


def test_baselines_are_small_and_hold_no_label():
    files = [path for path in (ROOT / "leaderboard" / "submissions").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 25_000_000
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
    folder = ROOT / "leaderboard/submissions/alphaearth-logistic-landcover"
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
