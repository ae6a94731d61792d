"""What the page promises: it says what is simulated, asks nothing, escapes what it was given, refuses what is not there."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import yaml

from rs05bench.errors import DataError
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.protocol import TaskCard
from rs05bench.report import Report, write_report
from rs05bench.report.drawing import csv_link, svg
from rs05bench.report.page import MARK
from tests.protocol.toy import World

pytestmark = pytest.mark.slow

HOSTILE = "</title><script>window.hostile = 1</script><img src=x onerror=\"window.hostile = 2\"> & 'crops'"


def body(page: Path) -> str:
    """The page without its scripts and styles, whose libraries are not ours."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.S)


def copied(runs: Path, to: Path, *, tasks: tuple[str, ...] = ("urban",)) -> Path:
    """A run folder of some tasks that a test may spoil."""
    store = ResultStore(runs)
    for result in store.results():
        if result.cell.task in tasks:
            folder = store.folder(result.digest)
            shutil.copytree(folder, to / folder.relative_to(runs))
    for part in ("cards", "manifests", "labels"):
        shutil.copytree(runs / part, to / part)
    return to


def test_each_task_and_target_has_its_chapter_and_the_three_pictures(report: Report) -> None:
    text = body(report.page)
    for key, split in (("crop", "leave-crop-system-out"), ("urban-log_income", "leave-city-out")):
        for name in (f"{key}-curves-{split}", f"{key}-drop", f"{key}-cost", f"{key}-map"):
            assert f'id="{name}"' in text
            assert all((report.page.parent / "figures" / f"{name}.{ending}").stat().st_size for ending in ("png", "svg", "csv"))
    assert report.cells == 64
    assert set(report.verdicts) == {"crop", "urban-log_income"}


def test_every_figure_has_its_data_and_its_cells_beside_it(report: Report, runs: Path) -> None:
    page = report.page.read_text(encoding="utf-8")
    content = json.loads(re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    there = ResultStore(runs).digests()
    assert content["figures"]
    for key, cells in content["figures"].items():
        assert f'download="{key}.csv" href="data:text/csv' in page
        assert (report.page.parent / "figures" / f"{key}.csv").is_file()
        assert cells
        assert {content["digests"][i] for i in cells} <= there


def test_a_random_split_is_never_a_curve_of_its_own(report: Report) -> None:
    assert not list((report.page.parent / "figures").glob("*-curves-random*"))
    assert "random split" in report.page.read_text(encoding="utf-8")


def test_the_page_names_no_address_but_its_own_files(report: Report) -> None:
    links = re.findall(r'(?:href|src|action|srcset)\s*=\s*"([^"]*)"', body(report.page))
    assert links
    assert all(link.startswith(("#", "data:", "figures/")) for link in links)


def test_the_page_needs_no_script_to_draw(report: Report) -> None:
    text = body(report.page)
    assert text.count('<svg class="plot"') + text.count('class="plot"') > 10
    assert report.page.stat().st_size < 1_500_000


def test_ids_are_unique_within_the_page(report: Report) -> None:
    ids = re.findall(r'\sid="([^"]+)"', body(report.page))
    assert sorted(ids) == sorted(set(ids))


def test_broken_rules_are_shown_with_their_reason(report: Report) -> None:
    assert 12 in report.broken_rules
    assert "has 2 of 5 seeds" in body(report.page)
    assert "Run at least five seeds" in body(report.page)


def test_simulated_is_said_where_it_is_so_and_only_there(report: Report, runs: Path, tmp_path: Path) -> None:
    assert 'class="ribbon"' in body(report.page)
    real = copied(runs, tmp_path / "runs")
    for path in real.glob("cells/*/*/result.json"):
        path.write_text(path.read_text(encoding="utf-8").replace('"simulated":true', '"simulated":false'), encoding="utf-8")
    written = write_report(real, tmp_path / "page", images=False)
    assert 'class="ribbon"' not in body(written.page)


@pytest.fixture(scope="module")
def hostile(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page whose card was written by someone who means harm."""
    root = tmp_path_factory.mktemp("hostile")
    spoilt = copied(runs, root / "runs")
    path = spoilt / "cards" / "urban.yaml"
    card = yaml.safe_load(path.read_text(encoding="utf-8"))
    # Words for people are not part of a card's digest, so the results still belong to it.
    card |= dict.fromkeys(("title", "notes", "source", "licence", "citation", "overlap"), HOSTILE)
    path.write_text(yaml.safe_dump(card), encoding="utf-8")
    return write_report(spoilt, root / "page", images=False).page


def test_html_from_a_card_is_text(hostile: Path) -> None:
    text = hostile.read_text(encoding="utf-8")
    assert "<script>window.hostile" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;window.hostile" in text


def test_a_report_replaces_its_own_files_and_nobody_elses(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    mine = tmp_path / "figures" / "mine.png"
    mine.write_text("mine")
    first = write_report(runs, tmp_path, images=False)
    stale = tmp_path / "figures" / "of-an-earlier-report.csv"
    stale.write_text("stale")
    with (tmp_path / MARK).open("a") as mark:
        mark.write("figures/of-an-earlier-report.csv\n")
    again = write_report(runs, tmp_path, images=False)
    assert again.page == first.page
    assert mine.read_text() == "mine"
    assert not stale.exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "index.html").write_text("mine")
    with pytest.raises(DataError, match=r"index\.html already exists"):
        write_report(runs, tmp_path / "thesis", images=False)
    assert (tmp_path / "thesis" / "index.html").read_text() == "mine"


@pytest.mark.parametrize("letter", ["\x1b", "\x00", "\ud800", "\ufffe", "\u202e"])
def test_a_letter_that_no_picture_can_hold_is_shown_as_unknown(letter: str) -> None:
    values = [{"group": f"a{letter}b", "value": 1.0}]
    panel = {"data": {"values": values}, "mark": "bar", "encoding": {"y": {"field": "group"}, "x": {"field": "value"}}}
    drawn = svg(panel, 340, 200, "key", f"of a{letter}b")
    assert "a\ufffdb" in drawn
    assert letter not in drawn


def test_no_spreadsheet_takes_a_group_for_a_formula() -> None:
    link = csv_link(pd.DataFrame({"group": ["=1+1"], "value": [-1.0]}), "figures/x.csv")
    assert unquote(link).endswith("group,value\n'=1+1,-1\n")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished result"):
        write_report(tmp_path, tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_predictions_that_do_not_give_the_stored_score_are_refused(runs: Path, tmp_path: Path) -> None:
    spoilt = copied(runs, tmp_path / "runs")
    path = next(spoilt.glob("cells/*/*/result.json"))
    record = json.loads(path.read_text(encoding="utf-8"))
    record["scores"]["test_ood"]["r2"] += 0.01
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(DataError, match="the kept sums give r2"):
        write_report(spoilt, tmp_path / "page")


def test_a_report_needs_neither_labels_nor_predictions(runs: Path, tmp_path: Path) -> None:
    bare = copied(runs, tmp_path / "runs")
    shutil.rmtree(bare / "labels")
    for folder in bare.glob("cells/*/*/predictions"):
        shutil.rmtree(folder)
    assert write_report(bare, tmp_path / "page", images=False).cells == 16


def open_page(playwright: Any, executable: str, page: Path) -> tuple[Any, Any, list[str]]:
    """A browser with the drawn page, and everything that went wrong or left the page."""
    browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    tab.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("request", lambda request: faults.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None)
    tab.goto(page.as_uri())
    tab.wait_for_function("document.documentElement.dataset.drawn === 'yes'")
    return browser, tab, faults


@pytest.mark.browser
def test_in_a_browser_all_is_drawn_in_silence_and_can_be_used_by_everyone(report: Report, chromium: str) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser, tab, faults = open_page(playwright, chromium, report.page)
        tab.locator("#crop > summary").click()
        assert tab.locator("#crop .plot:visible").count() > 5
        # A table is searched by words.
        tab.locator('[data-search="crop-summary"]').fill("raw/knn random")
        rows = tab.locator("#crop-summary tbody tr:visible").all_text_contents()
        assert rows
        assert all("raw/knn" in row and "random" in row for row in rows)
        # A figure's cells are one click away.
        tab.locator("#crop-drop .under summary").click()
        tab.locator('[data-cells="crop-drop"]').click()
        assert re.match(r"[0-9a-f]{64}\n", tab.locator("#crop-drop .digests").inner_text())
        violations = Axe().run(tab).response["violations"]
        browser.close()
    assert not faults
    assert not [(found["id"], [node["html"][:120] for node in found["nodes"][:3]]) for found in violations]


@pytest.mark.browser
def test_a_hostile_card_runs_nothing(hostile: Path, chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser, tab, faults = open_page(playwright, chromium, hostile)
        ran = tab.evaluate("window.hostile")
        browser.close()
    assert ran is None
    assert not faults


def test_chips_of_an_earlier_version_are_shown_with_their_scores_and_without_intervals(tmp_path: Path) -> None:
    from rs05bench.protocol import Cell, ModelCard, Result, TaskCard

    card = TaskCard.parse(
        {
            "kind": "segmentation",
            "name": "scars",
            "targets": ["burn"],
            "classes": ["no", "yes"],
            "groups": ["state"],
            "splits": ["leave-state-out"],
        }
    )
    store = ResultStore(tmp_path / "runs")
    store.put_card(card)
    for number, (fold, budget, labels) in enumerate((fold, budget, n) for fold in ("A", "B") for budget, n in (("1pct", 10), ("5pct", 50))):
        for model, tier, score in (("raw/unet", "raw", 0.5), ("prithvi/frozen", "frozen", 0.6)):
            cell = Cell(task="scars", target="burn", split="leave-state-out", fold=fold, model=model, budget=budget, seed=0)
            result = Result(
                cell=cell,
                digest=cell.digest(card=card.digest),
                kind="segmentation",
                main_metric="miou",
                higher_is_better=True,
                simulated=True,
                model=ModelCard(name=model, tier=tier, inputs="x", learner="y"),
                scores={"test_id": {"miou": score + 0.1}, "test_ood": {"miou": score + 0.01 * number}},
                budget={"labels_used": labels},
                digests={"card": card.digest},
            )
            store.write(result, None)
    written = write_report(store.root, tmp_path / "page")
    assert "there are not enough groups to say which method is best" in written.verdicts["scars"][0]
    text = body(written.page)
    assert 'id="scars-curves-leave-state-out"' in text
    assert "keep no sums per test block" in text


@pytest.mark.parametrize(
    ("kind", "states", "skill", "said"),
    [
        ("regression", 4, 0.8, "there are not enough groups to say which method is best"),
        ("classification", 6, 0.1, "nothing is shown to be better than floor/majority, which sees no image; raw/rf leads by value"),
    ],
)
def test_the_answer_says_no_more_than_its_numbers(kind: str, states: int, skill: float, said: str, tmp_path: Path) -> None:
    world, store = World(kind, n=300, states=states), ResultStore(tmp_path / "runs")
    store.put_card(world.card)
    store.put_manifest(world.manifest("leave-state-out"))
    floor = {"model": "floor/majority", "tier": "floor", "at_home": 0.0, "elsewhere": 0.0}
    for asked in ({"model": "raw/rf", "tier": "raw", "at_home": skill, "elsewhere": skill}, floor):
        for result in world.results(**asked)[0]:
            store.write(result, None)
    written = write_report(store.root, tmp_path / "page", images=False)
    assert said in written.verdicts[world.card.name][0]


def test_the_source_of_every_number_is_stated(report: Report, runs: Path) -> None:
    text = re.sub(r"\s+", " ", body(report.page))
    crop = text[text.index('id="crop"') :]
    said = crop[crop.index("Where every number comes from") : crop.index("crop-summary")]
    digest = next(result.digests["data"] for result in ResultStore(runs).results() if result.cell.task == "crop")
    for part in (
        "Opitz &amp; Burst 2019",
        "t over groups",
        "Guo et al. 2017",
        digest[:12],
        "crop/leave-crop-system-out@v1",
        "rs05bench 0.",
    ):
        assert part in said, part


def test_the_page_of_one_area_has_its_error_map_confusion_and_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 2, 160)
    bands = pd.DataFrame(rng.normal(0, 0.2, (160, 8)) + crop[:, None], columns=[f"A{band:02d}" for band in range(8)])
    place = {"lon": 10 + rng.uniform(0, 0.05, 160), "lat": 45 + rng.uniform(0, 0.05, 160), "crop": np.where(crop == 1, "rice", "wheat")}
    bands.assign(**place).to_csv(tmp_path / "t.csv", index=False)
    fields = {"kind": "classification", "name": "plots", "targets": ["crop"], "coordinates": {"x": "lon", "y": "lat"}, "files": ["t.csv"]}
    fields |= {"features": {"alphaearth": ["A??"]}, "splits": ["spatial-block"], "budgets": ["20-units"]}
    fields |= {"split_options": {"block_size_m": 500, "buffer_m": 50}}
    card = TaskCard.parse(fields).save(tmp_path / "card.yaml")
    choice = GridChoice(models=("floor/majority", "alphaearth/knn"), splits=("spatial-block",), budgets=("20-units",), seeds=(0,))
    sweep(GridFile.over(card, tmp_path, choice, costs=False), tmp_path / "runs", jobs=1)
    written = write_report(tmp_path / "runs", tmp_path / "page")
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    for words in ("Errors on the map", "alphaearth/knn, on test blocks of this area", "Scores per class, on test blocks of this area"):
        assert words in page
    assert "Rule 10" not in page.split("All rules")[0]
    assert "in this area, alphaearth/knn is best" in next(iter(written.verdicts.values()))[0]
