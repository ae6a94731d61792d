"""One door to every model: names, tiers, what is refused, and what others bring."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from types import SimpleNamespace

import pytest

from rs05bench.errors import DataError, ProtocolError
from rs05bench.models import create, list_models, model_card
from rs05bench.models.input_tiers import tier_of
from tests.datasets.table_files import card, regression_card

TWIN = """
from rs05bench.protocol import ModelCard, Predictions

class Half:
    def __init__(self, *, card, seed, share=0.5):
        self.share, self.seed = share, seed
        self.card = ModelCard(name="half", tier="raw", inputs="raw", learner="half")

    def fit(self, data):
        self.classes_ = data.classes
        return self

    def predict(self, data, role):
        import numpy as np
        n, k = len(data.unit_ids(role)), len(self.classes_)
        return Predictions.of_classes(data.unit_ids(role), role, np.full((n, k), 1 / k), self.classes_)
"""


@pytest.mark.parametrize(
    ("features", "tier"),
    [
        ({"s": ["A??"]}, "embedding"),
        ({"s": ["A[0-9][0-9]"]}, "embedding"),
        ({"s": ["A00", "A01"]}, "embedding"),
        ({"s": ["A??_mean", "A??_std"]}, "embedding"),
        ({"s": ["S1_*", "NDVI"]}, "raw"),
        ({"s": ["Area", "ALB"]}, "raw"),
        ({"s": ["A??", "NDVI"]}, "hybrid"),
        ({"s": ["a", "b"], "a": ["A??"], "b": ["NDVI"]}, "hybrid"),
        ({"s": ["presto", "b"], "presto": ["P*"], "b": ["NDVI"]}, "hybrid"),
        ({"presto": ["P*"], "s": ["presto"]}, "embedding"),
    ],
)
def test_tier_is_read_from_what_a_set_holds(features, tier):
    assert tier_of("s", card(features=features)) == tier


def test_a_name_does_not_make_a_set_hybrid_or_raw_but_the_card_may_say_so():
    features = {"hybrid": ["NDVI", "NBR"], "raw": ["A??", "NDVI"], "mine": ["E*"]}
    assert tier_of("hybrid", card(features=features)) == "raw"
    assert tier_of("raw", card(features=features)) == "hybrid"
    assert tier_of("mine", card(features=features)) == "raw"
    assert tier_of("mine", card(features=features, tiers={"mine": "embedding"})) == "embedding"


@pytest.mark.parametrize("adaptation", ["lora", "full", "frozen", "adapter", "decoder"])
@pytest.mark.parametrize("name", ["alphaearth", "mine"])
def test_nothing_may_pretend_to_adapt_alphaearth(adaptation, name):
    task = card(features={"mine": ["A??"], "raw": ["S1_*"]})
    with pytest.raises(ProtocolError, match=r"the weights of AlphaEarth .* are closed"):
        create(f"{name}/{adaptation}", card=task)
    with pytest.raises(ProtocolError, match=r"the weights of AlphaEarth .* are closed"):
        model_card(f"{name}/{adaptation}", task)


def test_alphaearth_has_no_random_twin():
    with pytest.raises(ProtocolError, match="Rule 11 is not applicable"):
        create("alphaearth/rf@random", card=card())


def test_alphaearths_card_says_closed_and_what_it_was_trained_towards():
    for name in ("alphaearth/logistic", "hybrid/rf"):
        made = model_card(name, card())
        assert made.open_weights is False
        assert "NLCD" in made.pretraining
    assert model_card("raw/rf", card()).pretraining == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("alphaearth", "not of the form"),
        ("optical/rf", r"'optical' is no feature set of the card \(there are alphaearth, hybrid, raw\)"),
        ("raw/forest", r"no model 'raw/forest'"),
        ("raw/logistik", r"Did you mean raw/logistic"),
        ("floor/median", r"no floor 'median'"),
        ("absent.py:Model", "absent.py: no such file"),
    ],
)
def test_an_unknown_name_is_refused_with_what_there_is(name, said):
    with pytest.raises(DataError, match=said):
        create(name, card=card())
    with pytest.raises(DataError, match=said):
        model_card(name, card())


def test_options_cannot_change_the_declared_grid():
    with pytest.raises(ProtocolError, match="takes no options"):
        create("raw/rf", card=card(), n_estimators=10_000)


def test_a_model_from_a_file_runs_behind_the_same_interface(tmp_path, landcover):
    path = tmp_path / "half.py"
    path.write_text(TWIN)
    model = create(f"{path}:Half", card=landcover.card, seed=4, share=0.25)
    assert (model.seed, model.share, model_card(f"{path}:Half", landcover.card).name) == (4, 0.25, "half")
    data = landcover.data()
    assert model.fit(data).predict(data, "test_id").probabilities.max() == pytest.approx(1 / 3)


def test_a_faulty_file_says_what_is_wrong_in_it(tmp_path):
    broken, empty = tmp_path / "broken.py", tmp_path / "empty.py"
    broken.write_text("import nothing_of_that_name")
    empty.write_text("class Other: pass")
    with pytest.raises(DataError, match=r"broken\.py: fails on import: ModuleNotFoundError"):
        create(f"{broken}:Model")
    with pytest.raises(DataError, match=r"holds no model 'Model' \(it has Other\)"):
        create(f"{empty}:Model")


DATACLASS = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Model:
    card: object
    seed: int
    says: str = "{says}"
"""


def test_a_file_may_hold_dataclasses_and_two_of_one_stem_are_two_modules(tmp_path):
    made = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.py").write_text(DATACLASS.format(says=folder))
        made.append(create(f"{tmp_path / folder / 'model.py'}:Model", seed=3))
    assert [model.says for model in made] == ["one", "two"]
    assert type(made[0]).__module__ != type(made[1]).__module__
    assert all(sys.modules[type(model).__module__].Model is type(model) for model in made)


def test_a_file_that_fails_leaves_no_module_behind(tmp_path):
    (tmp_path / "half_way.py").write_text("x = 1\nraise RuntimeError('half way')")
    with pytest.raises(DataError, match="half way"):
        create(f"{tmp_path / 'half_way.py'}:Model")
    assert not [name for name in sys.modules if "half_way" in name]


def entry(name, load, package):
    return SimpleNamespace(name=name, value="theirs:Model", dist=SimpleNamespace(name=package), load=load)


def offer(monkeypatch, entries):
    """Entry points of this package's group; torch and others still find their own."""
    real = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda **wanted: entries if wanted.get("group") == "rs05bench.models" else real(**wanted)
    )


def broken():
    raise ImportError("no module named gone")


def test_a_broken_package_breaks_its_own_models_alone(monkeypatch):
    entries = [entry("radar/broken", broken, "broken-package"), entry("radar/theirs", lambda: lambda card, seed: ("made", seed), "sound")]
    offer(monkeypatch, entries)
    assert create("radar/theirs", card=card(), seed=7) == ("made", 7)
    assert create("prithvi-tiny/frozen@random").card.random_twin
    assert model_card("prithvi-tiny/frozen@random").random_twin
    with pytest.raises(DataError, match=r"broken-package: the model 'radar/broken' cannot be imported: no module named gone"):
        create("radar/broken", card=card())
    with pytest.warns(UserWarning, match=r"left out: broken-package: the model 'radar/broken'"):
        names = [item.card.name for item in list_models()]
    assert "prithvi-tiny/frozen@random" in names


@pytest.mark.parametrize("name", ["prithvi-tiny/frozen@random", "presto/full"])
def test_a_package_cannot_take_the_name_of_a_built_in_model(name, monkeypatch):
    thief = entry(name, lambda: lambda card, seed: "theirs", "thief")
    offer(monkeypatch, [thief])
    for asked in (create, model_card):
        with pytest.raises(DataError, match=f"thief: the package gives a model the name '{name}', which is a built-in model's"):
            asked(name)
    assert create("raw/unet").card.tier == "raw"
    with pytest.warns(UserWarning, match="left out: thief"):
        assert next(item.source for item in list_models() if item.card.name == name) == "deep"


def test_an_entry_point_adds_a_model(monkeypatch):
    class Entry:
        name, value, dist = "radar/theirs", "theirs:Model", None

        @staticmethod
        def load():
            return lambda card, seed: ("made", seed)

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Entry] if group == "rs05bench.models" else [])
    assert create("radar/theirs", card=card(), seed=7) == ("made", 7)


def test_the_list_fits_the_card():
    names = [item.card.name for item in list_models(card())]
    assert "alphaearth/logistic" in names
    assert "hybrid/ridge" not in names
    assert "floor/last-year" not in names  # the card declares no year
    assert "floor/last-year" in [item.card.name for item in list_models(card(year="year"))]
    assert {"floor/mean", "raw/ridge"} <= {item.card.name for item in list_models(regression_card())}
    assert not any(name.endswith("/lora") for name in names)  # a table has no chips
    assert "floor/nearest" not in [item.card.name for item in list_models(card(coordinates=None, groups=None, splits=["random"]))]


def test_the_whole_list_has_every_tier_and_no_name_twice():
    found = list_models()
    names = [item.card.name for item in found]
    assert len(names) == len(set(names))
    assert {item.card.tier for item in found} >= {"floor", "raw", "embedding", "hybrid", "frozen", "lora", "full"}


def test_listing_models_imports_no_torch_and_no_scikit_learn():
    heavy = "('torch', 'sklearn', 'xgboost', 'terratorch')"
    code = f"import sys; from rs05bench.models import list_models; list_models(); print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
