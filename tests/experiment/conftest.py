"""A task of 240 units in four states with eight features, and models that misbehave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

CARD = {
    "kind": "classification",
    "name": "tiny",
    "targets": ["crop"],
    "classes": ["corn", "rice", "wheat"],
    "unit": ["plot"],
    "groups": ["state"],
    "coordinates": {"x": "lon", "y": "lat"},
    "files": ["plots.csv"],
    "features": {"alphaearth": ["A0?"], "raw": ["B?"], "hybrid": ["alphaearth", "raw"]},
    "splits": ["leave-state-out", "within-state", "random"],
    "split_options": {"block_size_m": 5000, "buffer_m": 500},
    "budgets": ["5-per-class", "10-per-class"],
    "main_metric": "macro_f1",
    "simulated": True,
}

MODELS = '''
import os, time
import numpy as np
from rs05bench.protocol import ModelCard, Predictions

class Base:
    def __init__(self, card=None, seed=0):
        self.seed = seed
        self.card = ModelCard(name=type(self).__name__, tier="floor", inputs="none", learner="constant", licence="MIT")

    def fit(self, data):
        self.classes = data.classes
        self.work()
        return self

    def work(self):
        pass

    def predict(self, data, role):
        ids = data.unit_ids(role)
        return Predictions.of_classes(ids, role, np.full((len(ids), len(self.classes)), 1 / len(self.classes), np.float32), self.classes)

class Even(Base):
    pass

class DiesOnce(Base):
    def work(self):
        marker = os.environ["RS05BENCH_TEST_MARKER"]
        if not os.path.exists(marker):
            open(marker, "w").close()
            os.kill(os.getpid(), 9)

class Dies(Base):
    def work(self):
        print("last words", flush=True)
        os.kill(os.getpid(), 9)

class Sleeps(Base):
    def work(self):
        time.sleep(600)

class Dawdles(Base):
    def work(self):
        time.sleep(0.5)

class Hungers(Base):
    def work(self):
        self.eaten = [np.ones(2**20) for _ in range(1000)]

class Creeps(Base):
    """Takes memory that no limit on allocation refuses: a file mapped into memory and touched."""
    def work(self):
        import mmap, tempfile
        with tempfile.TemporaryFile() as file:
            file.truncate(600 * 2**20)
            area = mmap.mmap(file.fileno(), 600 * 2**20)
            for start in range(0, 600 * 2**20, 4096):
                area[start] = 1
            time.sleep(30)

class Fails(Base):
    def work(self):
        raise ValueError("cannot do this")
'''


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `card.yaml`, `plots.csv` and `models.py`."""
    folder = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    state = np.repeat(["ia", "il", "mn", "wi"], 60)
    crop = np.tile(CARD["classes"], 80)
    centre = {name: rng.normal(size=11) for name in CARD["classes"]}
    values = np.stack([centre[name] for name in crop]) + rng.normal(size=(240, 11))
    corner = {"ia": (-93, 42), "il": (-89, 40), "mn": (-94, 46), "wi": (-90, 44)}
    frame = pd.DataFrame(values, columns=[*(f"A0{i}" for i in range(8)), "B1", "B2", "B3"]).round(5)
    frame.insert(0, "plot", [f"p{i:03d}" for i in range(240)])
    frame["state"], frame["crop"] = state, crop
    frame["lon"] = [corner[name][0] + x for name, x in zip(state, rng.uniform(0, 0.6, 240), strict=True)]
    frame["lat"] = [corner[name][1] + y for name, y in zip(state, rng.uniform(0, 0.6, 240), strict=True)]
    frame.to_csv(folder / "plots.csv", index=False)
    (folder / "card.yaml").write_text(yaml.safe_dump(CARD, sort_keys=False))
    (folder / "models.py").write_text(MODELS)
    return folder


@pytest.fixture
def model(tiny: Path):
    """`model("Dies")` is the name of a misbehaving model."""
    return lambda name: f"{tiny / 'models.py'}:{name}"


@pytest.fixture(scope="session")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of two models, two splits, two seeds; costs are kept for one cell."""
    from rs05bench.experiment.gridfile import GridChoice, GridFile
    from rs05bench.experiment.sweep import sweep

    out = tmp_path_factory.mktemp("finished")
    choice = GridChoice(
        models=["floor/majority", "alphaearth/logistic"],
        splits=["leave-state-out", "within-state"],
        budgets=["5-per-class", "10-per-class"],
        seeds=[0, 1],
    )
    summary = sweep(GridFile.over(tiny / "card.yaml", tiny, choice, costs=False), out, jobs=2)
    assert summary.done == summary.cells
    return out
