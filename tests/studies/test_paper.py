"""The paper's page says of each figure whether it is real, never mixes the two in a verdict, and shows what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rs05bench.datasets.simulated import write_tables
from rs05bench.errors import DataError
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.studies.paper import Paper, write_paper

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("paper")
    card = write_tables(root / "data", tasks=["crop"], size="tiny")["crop"]
    models = ("floor/majority", "raw/logistic", "alphaearth/logistic", "hybrid/logistic")
    done = sweep(
        card,
        card.parent,
        root / "runs",
        models=models,
        splits=["leave-state-out"],
        budgets=["5-per-class"],
        seeds=(0, 1),
        jobs=1,
        costs=False,
    )
    assert not done.failed
    return root / "runs"


@pytest.fixture(scope="module")
def paper(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Paper:
    empty = tmp_path_factory.mktemp("empty-store")
    return write_paper([runs, empty], tmp_path_factory.mktemp("page"))


def test_every_figure_says_whether_it_is_simulated_and_names_its_cells(paper: Paper, runs: Path) -> None:
    assert set(paper.figures.values()) == {"simulated"}
    told = json.loads((paper.page.parent / "page.json").read_text(encoding="utf-8"))
    there = ResultStore(runs).digests()
    for key, figure in told["figures"].items():
        assert figure["data"] == "simulated"
        assert set(figure["cells"]) <= there
        assert all((paper.page.parent / "figures" / f"{key}.{ending}").stat().st_size for ending in ("png", "svg", "csv"))


def test_verdicts_are_given_apart_for_real_and_simulated(paper: Paper) -> None:
    assert {name for name, verdict in paper.verdicts.items() if "(real)" in name and verdict == "not testable: no result"} == {
        "H1 (real)",
        "H2 (real)",
        "H3 (real)",
    }
    assert paper.verdicts["H1 (simulated)"] in ("supported", "refuted", "undecided")
    assert paper.verdicts["H2 (simulated)"] == "not testable"


def test_what_is_missing_is_shown(paper: Paper) -> None:
    text = paper.page.read_text(encoding="utf-8")
    said = "\n".join(paper.missing)
    assert "Burn scars: no result" in said
    assert "Crops and irrigation: no result on real data" in said
    assert "tiers without a result: frozen, decoder, adapter, lora, full" in said
    assert "empty-store" in said
    assert "random-initialised twin" in said
    assert 'class="missing"' in text
    assert 'class="ribbon"' in text


def test_real_results_are_called_real(runs: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(runs, tmp_path / "runs")
    for path in copy.glob("cells/*/*/result.json"):
        path.write_text(path.read_text(encoding="utf-8").replace('"simulated":true', '"simulated":false'), encoding="utf-8")
    written = write_paper([copy], tmp_path / "page")
    assert set(written.figures.values()) == {"real"}
    assert written.verdicts["H1 (simulated)"] == "not testable: no result"


def test_without_any_result_there_is_no_page(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(DataError, match="no store holds a result"):
        write_paper([tmp_path / "runs"], tmp_path / "page")
    assert not (tmp_path / "page").exists()
