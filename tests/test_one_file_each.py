"""A split rule, a metric, a learner, a check of the audit and a recipe are each one file more, and the command shows them.

The package stands in a temporary folder as links to its files, and five files (with the recipe's record, six) are put next to them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "rs05bench"

SPLIT = '''"""`leave-east-out`: the east of 0 degrees is held out."""

import re

import numpy as np

from rs05bench.protocol.splits.roles import everybody_trains, no_shift
from rs05bench.protocol.splits.split_rule import Fold, SplitRule


def draw_east(ground, split):
    """The east of 0 degrees is tested; the west trains, and its test blocks are tested in domain."""
    east = ground.units.frame["lon"].to_numpy() > 0
    role = everybody_trains(ground)
    role[~east & ground.test] = "test_id"
    role[~east & ground.draw(~east & ~ground.test, ground.options.val_fraction, "val")] = "val"
    role[east] = "reserve"
    role[east & ground.test] = "test_ood"
    shift = no_shift(len(role))
    shift[east] = "region"
    yield Fold("east", ("east",), role, shift)


RULE = SplitRule(
    name="leave-east",
    form="leave-east-out",
    pattern=re.compile("leave-east-out"),
    draw=draw_east,
    shift="region",
    may_be_main=True,
    rank=15,
    moves="half of the area",
    meaning="the east of 0 degrees is held out",
    title="East held out",
)
'''
METRIC = '''"""Share of errors, of a confusion."""

from rs05bench.protocol.metrics.confusion import Confusion
from rs05bench.protocol.metrics.declaration import LABELLED, metric


@metric("error_rate", sums=Confusion, tasks=LABELLED, range=(0, 1), better="lower", words="share wrong")
def _error_rate(parts):
    return 1 - parts.hits.sum(-1) / parts.truth.sum(-1)
'''
LEARNER = '''"""Gaussian naive Bayes."""

from rs05bench.models.learners.learner import SKLEARN, Fitted, Learner, constant


def _bayes(X, y, grid, kind, seed):
    from sklearn.naive_bayes import GaussianNB

    fits = [GaussianNB(var_smoothing=entry["smoothing"]).fit(X, y) for entry in grid]
    return [Fitted(fit.predict_proba, constant(fit.theta_.size + fit.var_.size)) for fit in fits]


LEARNER = Learner(
    name="bayes",
    rank=90,
    words="Gaussian naive Bayes",
    kinds=("classification",),
    path=_bayes,
    grid=({"smoothing": 1e-3}, {"smoothing": 1e-6}, {"smoothing": 1e-2}, {"smoothing": 1e-1}),
    licence="BSD-3-Clause",
    citation=SKLEARN,
)
'''
CHECK = '''"""Test units of which all are on one meridian."""

from rs05bench.protocol.audit.audit_report import Finding
from rs05bench.protocol.audit.audit_pair import AuditCheck


def _meridian(pair):
    same = len(set(pair.test.lon.tolist())) == 1
    level = "warning" if same else "pass"
    return [Finding(check="meridian", level=level, sentence=f"meridian: {'all on one' if same else 'several'}")]


CHECKS = (AuditCheck("meridian", 95, _meridian),)
'''
RECORD = """title: Plots of two classes
task: crop
kind: classification
function: plots.make
summary: Every row of the table is a plot with its features and class.
sources:
  - name: plots
    patterns: ['*.csv']
    format: 'columns plot, lon, lat, site, crop, B1, B2'
    title: Plots
    url: https://example.org/plots
    licence: CC0-1.0
    citation: none
leaks: [None known.]
splits:
  leave-east-out: plots on both sides of 0 degrees
  random: sanity check only
main_split: leave-east-out
options: []
verified: [Made in a test.]
"""
RECIPE = '''"""Plots of two classes."""

import pandas as pd


def make(job):
    """One row a plot."""
    from rs05bench.protocol.card import Coordinates, SplitOptions, TaskCard

    job.write_table(pd.read_csv(job.files("plots")[0]).sort_values("plot"))
    return TaskCard(
        kind="classification", name="plots", title="Plots of two classes", targets=["crop"], unit=["plot"], groups=["site"],
        coordinates=Coordinates(x="lon", y="lat"), files=["units.parquet"], features={"raw": ["B1", "B2"]}, splits=job.splits,
        split_options=SplitOptions(block_size_m=20_000, buffer_m=0), budgets=["20-units"],
        overlap="none", licence="CC0-1.0", citation="none",
    )
'''
FILES = {
    "protocol/splits/leave_east.py": SPLIT,
    "protocol/metrics/error_rate.py": METRIC,
    "models/learners/bayes.py": LEARNER,
    "protocol/audit/meridian.py": CHECK,
    "datasets/recipes/plots.yaml": RECORD,
    "datasets/recipes/plots.py": RECIPE,
}
COMMANDS = """
import json, sys
from pathlib import Path
from typer.testing import CliRunner
from rs05bench.cli import _register, app

_register()
told = {}
for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(app, words)
    assert done.exit_code in (0, 1), (words, done.output, done.exception)
    told[" ".join(words[:2])] = done.output
Path("told.json").write_text(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the commands print of a package that has these files too."""
    root = tmp_path_factory.mktemp("more")
    for folder, _, names in os.walk(PACKAGE):
        if folder.endswith("__pycache__"):
            continue
        here = root / "rs05bench" / Path(folder).relative_to(PACKAGE)
        here.mkdir()
        for name in names:
            (here / name).symlink_to(Path(folder) / name)
    for name, text in FILES.items():
        (root / "rs05bench" / name).write_text(text)
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 2, 240)
    table = pd.DataFrame({"plot": [f"p{i:03d}" for i in range(240)], "crop": np.where(crop == 1, "maize", "rice")})
    table["lon"], table["lat"] = np.where(np.arange(240) % 2, 1.0, -1.0) + rng.uniform(-0.8, 0.8, 240), 45 + rng.uniform(-0.8, 0.8, 240)
    table["site"] = np.where(table["lon"] > 0, "e", "w")
    table["B1"], table["B2"] = crop + rng.normal(size=240), rng.normal(size=240)
    (root / "src").mkdir()
    table.to_csv(root / "src" / "plots.csv", index=False)
    table.assign(lon=3.0).to_csv(root / "test.csv", index=False)
    commands = [
        ["splits", "--json"],
        ["build", "plots", "--root", "src", "--out", "built"],
        ["fit-predict", "built/card.yaml", "--data", "built", "--model", "raw/bayes", "--split", "leave-east-out"]
        + ["--budget", "20-units", "--out", "cell", "--json"],
        ["models", "--json", "--card", "built/card.yaml"],
        ["manifest", "build", "built/card.yaml", "--data", "built", "--splits", "leave-east-out"],
        ["audit", "--train", "src/plots.csv", "--test", "test.csv", "--id", "plot", "--lat", "lat", "--lon", "lon", "--json"],
    ]
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((root / "told.json").read_text())


def test_a_split_rule_is_listed_and_drawn(told):
    assert "leave-east-out" in [entry["split"] for entry in json.loads(told["splits --json"])]
    assert "plots/leave-east-out@v1" in told["manifest build"]


def test_a_learner_is_a_model_of_every_task_and_a_cell_runs_it(told):
    assert "raw/bayes" in [entry["name"] for entry in json.loads(told["models --json"])]
    result = json.loads(told["fit-predict built/card.yaml"])
    assert (result["cell"]["split"], result["cell"]["fold"], result["model"]["name"]) == ("leave-east-out", "east", "raw/bayes")
    assert len(result["training"]["grid"]) == 4


def test_a_metric_is_in_every_result(told):
    for scores in json.loads(told["fit-predict built/card.yaml"])["scores"].values():
        assert scores["error_rate"] == pytest.approx(1 - scores["overall_accuracy"])


def test_a_check_of_the_audit_is_in_its_report(told):
    findings = {finding["check"]: finding for finding in json.loads(told["audit --train"])["findings"]}
    assert findings["meridian"]["level"] == "warning"


def test_a_recipe_is_built(told):
    assert "units: 240" in told["build plots"]
