"""Every study runs at its smallest; its page says what is simulated and names the cells behind each sentence; without data it refuses."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rs05bench.errors import DataError, ProtocolError
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.drop import drop_estimates
from rs05bench.protocol.pooling import Pool
from rs05bench.studies import NAMES, find_study, list_studies, run_study
from rs05bench.studies.active_learning import STRATEGIES, acquire, everything, shown
from rs05bench.studies.evidence import Side, difference
from rs05bench.studies.page import record
from rs05bench.studies.setting import Setting

TABLES = ("small-area", "leaky-split", "change-features", "directions", "active-learning")
NEED_PRESTO = ("coordinates", "pretraining")


def cells_of(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "cells.csv").open(encoding="utf-8", newline="") as file:
        return {row["digest"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_every_sentence_and_figure_names_cells_that_are_there(quick, name):
    page, folder, store = quick(name)
    there, listed = ResultStore(store).digests(), cells_of(folder)
    assert page.claims
    assert page.figures
    assert set(listed) <= there
    for number, claim in enumerate(page.claims, start=1):
        assert claim.digests
        assert all(str(number) in listed[digest]["claims"].split() for digest in claim.digests)
        assert f'id="claim-{number}"' in (folder / "index.html").read_text(encoding="utf-8")
    for figure in page.figures:
        assert figure.digests
        assert set(figure.digests) <= set(listed)
        assert all((folder / "figures" / f"{figure.key}.{ending}").stat().st_size for ending in ("png", "svg", "csv"))


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_what_is_simulated_is_called_so(quick, name):
    page, folder, _ = quick(name)
    assert page.mark(page.results) == "simulated"
    assert 'class="ribbon"' in (folder / "index.html").read_text(encoding="utf-8")
    text = (folder / f"{name}.md").read_text(encoding="utf-8")
    assert ":class: warning" in text
    assert "A quick run" in text
    assert json.loads((folder / "page.json").read_text(encoding="utf-8"))["simulated"] == "simulated"


@pytest.mark.slow
def test_the_page_asks_nobody_for_anything(quick):
    _, folder, _ = quick("small-area")
    page = re.sub(r"<(script|style)\b.*?</\1>", "", (folder / "index.html").read_text(encoding="utf-8"), flags=re.S)
    links = re.findall(r'(?:href|src|action|srcset)\s*=\s*"([^"]*)"', page)
    assert links
    assert all(link.startswith(("#", "data:", "figures/", "cells.csv")) for link in links)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "allowed"), [("rotated", {"above"}), ("alike", {"below", "unclear"})])
def test_the_answer_of_the_small_area_follows_the_data(quick, planted, kind, allowed):
    """Where regions spell their classes by other axes a local model must win; where they are alike it must not."""
    page, _, _ = quick("small-area", planted(kind))
    against_all = [claim for claim in page.claims if claim.effect is not None and "all labels of the other places" in claim.text]
    assert against_all
    assert {claim.said for claim in against_all} <= allowed
    assert all(("beats" in claim.text) == (claim.said == "above") for claim in against_all)
    assert page.mark(page.results) == "real"


@pytest.mark.slow
def test_a_difference_of_home_and_elsewhere_is_the_protocols_drop(quick):
    _, _, store = quick("change-features")
    pool = Pool.of(ResultStore(store).results())
    drops = [entry for entry in drop_estimates(pool) if np.isfinite(entry.drop.value)]
    assert drops
    for entry in drops:
        made = difference(pool, Side.of(entry.point, "test_id"), Side.of(entry.point, "test_ood"))
        assert made is not None
        assert made[0].value == pytest.approx(entry.drop.value)


@pytest.mark.slow
def test_what_another_store_holds_is_not_run_again(quick, tmp_path):
    page, _, store = quick("change-features")
    told: list[str] = []
    again = run_study(
        find_study("change-features"), Setting(tmp_path / "runs", sources=[store], quick=True, tell=told.append), tmp_path / "page"
    )
    assert told
    assert all(line.endswith(", 0 to run") for line in told)
    assert record(again) == record(page)


@pytest.mark.slow
def test_the_docs_page_points_at_its_own_pictures_and_cells(quick, tmp_path):
    _, _, store = quick("small-area")
    run_study(find_study("small-area"), Setting(store, quick=True), tmp_path / "page", docs=tmp_path / "docs")
    text = (tmp_path / "docs" / "small-area.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"\]\(([^)]+)\)", text))
    assert "small-area.cells.csv" in targets
    assert all((tmp_path / "docs" / target).is_file() for target in targets)
    assert str(tmp_path) not in text


@pytest.fixture(scope="module")
def bench(quick):
    _, _, store = quick("active-learning")
    setting = Setting(store, quick=True)
    card = setting.simulated("crop")
    return setting.bench(card, card.parent, ["within-state"]), list(ResultStore(store).results())


class TestActiveLearning:
    """Labels are asked for one by one and counted as everywhere."""

    @pytest.mark.slow
    def test_every_label_that_is_used_is_counted(self, bench):
        _, results = bench
        assert {result.cell.options["acquisition"] for result in results} == set(STRATEGIES)
        for result in results:
            assert result.budget["labels_used"] == result.cost.labels_used == result.budget["train"] + result.budget["val"]
            assert result.budget["labels_used"] <= int(result.cell.budget.removesuffix("-units"))

    @pytest.mark.slow
    def test_all_strategies_start_alike_keep_what_they_asked_for_and_never_ask_for_a_test_unit(self, bench):
        task, results = bench
        first, starts = results[0].cell, set()
        for strategy in STRATEGIES:
            cell = first.model_copy(update={"options": {**first.options, "acquisition": strategy}})
            stations = acquire(task, cell, (20, 40))
            starts.add(tuple(stations[20][0]))
            assert set(stations[20][0]) < set(stations[40][0])
            assert len(set(stations[40][0])) == len(stations[40][0])
            data = everything(task, cell)
            assert set(stations[40][0]) <= set(data.unit_ids("train"))
            assert not set(stations[40][0]) & {unit for role in ("test_id", "test_ood", "val") for unit in data.unit_ids(role)}
        assert len(starts) == 1

    @pytest.mark.slow
    def test_a_strategy_sees_no_label_it_did_not_ask_for(self, bench):
        task, results = bench
        data = everything(task, results[0].cell)
        train, rest = data.unit_ids("train")[:10], data.unit_ids("train")[10:]
        seen = shown(data, train, data.unit_ids("val")[:2], "12-units", ask=rest)
        assert len(seen.y("train")) == 10
        assert len(seen.y("val")) == 2
        assert list(seen.unit_ids("reserve")) == list(rest)
        with pytest.raises(ProtocolError, match="not shown"):
            seen.y("reserve")


@pytest.mark.parametrize("name", NEED_PRESTO)
def test_a_study_that_cannot_do_without_real_data_refuses(name, tmp_path):
    with pytest.raises(DataError, match="RS05BENCH_REAL"):
        run_study(find_study(name), Setting(tmp_path / "runs"), tmp_path / "page")
    (tmp_path / "real").mkdir()
    with pytest.raises(DataError, match="lfmc_presto"):
        run_study(find_study(name), Setting(tmp_path / "runs", real=tmp_path / "real"), tmp_path / "page")
    assert not (tmp_path / "page").exists()


@pytest.mark.slow
def test_nothing_is_written_where_nothing_was_run(tmp_path):
    with pytest.raises(DataError, match="no cell of the study has a result"):
        run_study(find_study("active-learning"), Setting(tmp_path / "runs", quick=True, run_missing=False), tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_the_list_says_what_each_asks():
    from rs05bench.cli import app
    from rs05bench.cli.study import register

    if not any(command.name == "study" for command in app.registered_commands):
        register(app)
    said = CliRunner().invoke(app, ["study", "--list"]).output
    assert all(name in said for name in NAMES)
    for study in list_studies():
        assert study.limits
        assert study.minutes > 0
        assert study.question.endswith("?")


def test_an_unknown_study_is_named_with_its_neighbour():
    with pytest.raises(DataError, match="leaky-split"):
        find_study("leaky_split")


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("name", [*NEED_PRESTO, "lora-placement"])
def test_presto_studies_run_on_real_samples(real, quick, name):
    page, folder, store = quick(name, real("lfmc_presto").parent)
    assert page.mark(page.results) == "real"
    assert page.claims
    assert set(cells_of(folder)) <= ResultStore(store).digests()
    assert not ResultStore(store).failures()


@pytest.mark.slow
@pytest.mark.real
def test_telling_presto_no_place_and_no_month_changes_what_it_says(real, quick):
    _, _, store = quick("coordinates", real("lfmc_presto").parent)
    scores = {
        str(sorted(r.cell.options)): r.scores["test_ood"]["mae"] for r in ResultStore(store).results() if r.cell.model == "presto/frozen"
    }
    assert len(scores) == 4
    assert len(set(scores.values())) == 4


@pytest.mark.slow
@pytest.mark.browser
def test_in_a_browser_all_is_drawn_in_silence_and_can_be_used_by_everyone(quick, chromium):
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    from tests.report.test_page import open_page

    _, folder, _ = quick("small-area")
    with sync_playwright() as playwright:
        browser, tab, faults = open_page(playwright, chromium, folder / "index.html")
        assert tab.locator("figure .plot").count()
        tab.locator("#claim-1 summary").click()
        assert re.match(r"[0-9a-f]{16}  ", tab.locator("#claim-1 .digests").inner_text())
        violations = Axe().run(tab).response["violations"]
        tab.set_viewport_size({"width": 390, "height": 844})
        tab.wait_for_function("document.documentElement.scrollWidth <= 390")
        browser.close()
    assert not faults
    assert not [(found["id"], [node["html"][:120] for node in found["nodes"][:3]]) for found in violations]
