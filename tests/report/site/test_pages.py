"""The site as files: complete, self-contained, and deaf to what authors write into their texts."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
import yaml

from rs05bench.errors import DataError
from rs05bench.report.site import build_site
from rs05bench.report.site.build import MARK
from rs05bench.report.site.downloads import safe_csv
from rs05bench.report.site.home import finding
from tests.report.site.fake import make_board, make_leaderboard, make_verdict, write_submission

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'><svg onload=alert(1)>{{7*7}}&lt;b&gt;"
FIELDS = (
    "title",
    "author",
    "affiliation",
    "overlap",
    "notes",
    "licence",
    "version",
    "hardware",
    "citation",
    "pretraining",
)

RANKING = "tables/fuel-moisture--leave-region-out.html"


class Page(HTMLParser):
    """Elements, attributes and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.content = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""
        self.text.append(" " if tag in ("td", "th") else "")

    def handle_data(self, data):
        if self._inside == "script":
            self.content += data
        else:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())

    def links(self) -> list[str]:
        return [value for _, attrs in self.elements for name in ("href", "src") if (value := attrs.get(name))]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    root = tmp_path_factory.mktemp("hostile")
    board = make_board((("fuel-moisture", "leave-region-out", False),))
    board.tasks[0] = board.tasks[0].model_copy(update={"title": f"TASK{EVIL}", "note": f"NOTE{EVIL}", "classes": [f"CLASS{EVIL}"]})
    board.save(root / "tasks.yaml")
    verdict = make_verdict(board, 5, seeds=2, flag=f"FLAG{EVIL}", **{name: f"{name.upper()}{EVIL}" for name in FIELDS})
    columns = {f"COLUMN{EVIL}": {f"GROUP{EVIL}": (0.5, 3.0)}}
    families = [family.model_copy(update={"columns": columns}) for family in verdict.families]
    write_submission(root, verdict.model_copy(update={"families": families}), "verified")
    out = build_site(root, root / "out").parent
    return {str(path.relative_to(out)): Page(path.read_text(encoding="utf-8")) for path in sorted(out.rglob("*.html"))}


def test_no_text_of_an_author_becomes_markup(hostile: dict[str, Page]):
    for path, page in hostile.items():
        scripts = [attrs for tag, attrs in page.elements if tag == "script"]
        assert all(str(attrs.get("src", "")).endswith(".js") or attrs.get("type") == "application/json" for attrs in scripts), path
        assert not [tag for tag, _ in page.elements if tag in ("img", "iframe", "object", "embed", "style", "base")], path
        assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on") or name == "style"], path
        assert not [link for link in page.links() if "javascript:" in link], path


def test_every_text_of_an_author_is_shown_as_it_is(hostile: dict[str, Page]):
    model = hostile["models/made-up-005.html"].words
    for name in (*FIELDS, "flag", "column", "group"):
        assert f"{name.upper()}{EVIL}" in model, name
    assert f"TASK{EVIL}" in hostile[RANKING].words
    for name in ("TASK", "NOTE"):
        assert f"{name}{EVIL}" in hostile["tasks/fuel-moisture.html"].words
    for name in ("TITLE", "AUTHOR", "HARDWARE"):
        assert f"{name}{EVIL}" in hostile[RANKING].words


def test_the_data_in_the_page_cannot_end_their_element(hostile: dict[str, Page]):
    content = json.loads(hostile[RANKING].content)
    assert f"TITLE{EVIL}".lower() in content["rows"]["made-up-005"]["q"]


def test_every_page_forbids_what_it_does_not_need(pages: dict[Path, Page]):
    for path, page in pages.items():
        policy = next(attrs["content"] for tag, attrs in page.elements if tag == "meta" and attrs.get("http-equiv"))
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy, path
        assert "http" not in policy, path


def test_every_link_within_the_site_leads_somewhere(site: Path, pages: dict[Path, Page]):
    checked = 0
    for path, page in pages.items():
        for link in page.links():
            parts = urlsplit(link)
            if parts.scheme or not parts.path:
                continue
            assert (path.parent / unquote(parts.path)).resolve().is_file(), f"{path.relative_to(site)} -> {link}"
            checked += 1
    assert checked > 200


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page]):
    for path, page in pages.items():
        loaded = [attrs.get("src") or attrs.get("href") for tag, attrs in page.elements if tag in ("script", "link", "img", "source")]
        assert not [address for address in loaded if address and urlsplit(address).scheme], path


def test_the_table_is_readable_without_a_script(site: Path):
    page = Page((site / RANKING).read_text(encoding="utf-8"))
    rows = [attrs["data-slug"] for tag, attrs in page.elements if tag == "tr" and "data-slug" in attrs]
    assert len(rows) == 12
    for words in ("hybrid/rf", "reproduced", "embedding", "closed", "10 per class", "Not ranked."):
        assert words in page.words


def test_what_is_missing_is_said(site: Path):
    text = (site / RANKING).read_text(encoding="utf-8")
    row = re.search(r'<tr role="row" data-slug="made-up-008">.*?</tr>', text, re.S)
    assert Page(row[0]).words.count("missing") == 1
    model = Page((site / "models/made-up-008.html").read_text(encoding="utf-8")).words
    assert "20 per class missing missing" in model


def test_simulated_results_carry_a_ribbon_and_no_rank(site: Path):
    text = (site / "tables/urban-simulated--leave-city-out.html").read_text(encoding="utf-8")
    assert 'class="ribbon"' in text
    assert set(re.findall(r'data-f="rank">([^<]*)<', text)) == {"–"}
    assert 'class="ribbon"' not in (site / RANKING).read_text(encoding="utf-8")


def test_the_task_page_shows_audit_baselines_and_map(site: Path):
    words = Page((site / "tasks/fuel-moisture.html").read_text(encoding="utf-8")).words
    assert "no leak was found" in words or "It leaks" in words
    for what in ("Floor (rule 6)", "Raw bands and indices (rule 6)", "Hybrid (rule 7)"):
        assert what in words
    assert "tested, held out" in words
    assert (site / "tasks/fuel-moisture.html").read_text(encoding="utf-8").count('class="plot"') >= 3


def test_a_missing_baseline_is_said_to_be_missing(tmp_path: Path):
    board = make_board((("fuel-moisture", "leave-region-out", False),))
    board.save(tmp_path / "tasks.yaml")
    write_submission(tmp_path, make_verdict(board, 3, seeds=2), "reproduced")
    out = build_site(tmp_path, tmp_path / "out").parent
    assert Page((out / "tasks/fuel-moisture.html").read_text(encoding="utf-8")).words.count("Missing: nobody has submitted one yet.") == 3


def test_downloads_hold_what_the_table_shows(site: Path):
    csv, parquet = pd.read_csv(site / "data/leaderboard.csv"), pd.read_parquet(site / "data/leaderboard.parquet")
    assert len(csv) == len(parquet) == 3 * 3 * 12
    assert csv["ood"].to_numpy() == pytest.approx(parquet["ood"].to_numpy(dtype=float, na_value=float("nan")), abs=1e-5, nan_ok=True)
    here = parquet[(parquet["table"] == "fuel-moisture--leave-region-out") & (parquet["budget"] == "10-per-class")]
    best = here[here["rank_deployment"] == 1].iloc[0]
    first = re.search(r'data-slug="([^"]+)"', (site / RANKING).read_text(encoding="utf-8"))
    assert best["submission"] == first[1]
    lacking = parquet[
        (parquet["submission"] == "made-up-008") & (parquet["budget"] == "20-per-class") & (parquet["task"] == "fuel-moisture")
    ]
    assert lacking["ood"].isna().all()
    assert (lacking["missing"] == "not submitted").all()
    key = ["table", "submission", "budget"]
    groups = pd.read_csv(site / "data/groups.csv")
    means = groups.groupby(key)[["ood", "drop"]].mean()
    shown = csv.dropna(subset="ood").set_index(key)
    assert set(means.index) == set(shown.index)
    for name in ("ood", "drop"):
        assert means[name].to_numpy() == pytest.approx(shown.loc[means.index, name].to_numpy(), abs=1e-4, nan_ok=True)
    assert (groups.groupby(key)["group"].nunique() == shown.loc[means.index, "groups"]).all()
    assert {"ood_median", "ood_median_low", "drop_median_high"} <= set(csv.columns)  # what R2 has instead of an interval of the mean


def test_no_spreadsheet_takes_a_text_for_a_formula(tmp_path: Path):
    safe_csv(pd.DataFrame({"title": ["=1+1", "+x", "-y", "@z", "plain"], "ood": [-0.5] * 5}), tmp_path / "t.csv")
    found = pd.read_csv(tmp_path / "t.csv")
    assert found["title"].tolist() == ["'=1+1", "'+x", "'-y", "'@z", "plain"]
    assert found["ood"].tolist() == [-0.5] * 5


def test_it_can_be_published_as_a_space_or_on_pages(site: Path):
    _, head, _ = (site / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(head)["sdk"] == "static"
    assert (site / ".nojekyll").is_file()


def test_an_older_site_is_replaced_whole(tmp_path: Path):
    root = make_leaderboard(tmp_path / "board", 2, splits=(("fuel-moisture", "leave-region-out", False),), seeds=2)
    out = build_site(root, tmp_path / "out").parent
    (out / "models/gone.html").write_text("old", encoding="utf-8")
    with (out / MARK).open("a", encoding="utf-8") as mark:  # a page that the earlier build wrote
        mark.write("models/gone.html\n")
    build_site(root, out)
    assert not (out / "models/gone.html").exists()
    (out / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match=r"holds thesis\.tex"):
        build_site(root, out)
    assert (out / "thesis.tex").read_text() == "mine"
    (out / "thesis.tex").unlink()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_is_no_site_is_left_alone(board: Path, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match=r"holds thesis\.tex"):
        build_site(board, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_an_empty_board_gives_a_site_that_says_so(tmp_path: Path):
    (tmp_path / "tasks.yaml").write_text("schema_version: 1\n", encoding="utf-8")
    index = build_site(tmp_path, tmp_path / "out")
    assert "No submission is ranked yet." in Page(index.read_text(encoding="utf-8")).words
    index = index.parent / "tasks/index.html"
    assert "No task is on the board yet." in Page(index.read_text(encoding="utf-8")).words


def test_a_task_nobody_took_part_in_has_its_empty_table(tmp_path: Path):
    make_board((("fuel-moisture", "leave-region-out", False),)).save(tmp_path / "tasks.yaml")
    index = build_site(tmp_path, tmp_path / "out")
    index = index.parent / RANKING
    assert "No submission has taken part" in Page(index.read_text(encoding="utf-8")).words


def test_the_finding_is_two_sentences_and_claims_only_what_is_beyond_chance():
    steady = np.linspace(0.4, 0.6, 8)
    bands = {"bands": steady}
    clear, noisy = bands | {"embeddings": steady + 0.1}, bands | {"embeddings": steady + 0.1 * np.array([-1, 1, -1, 1, -1, 1, -1, 2])}
    said = finding([clear, noisy, bands], ["mean"] * 3)
    assert said == (
        "In places without labels, models on public embeddings are ahead of models on image bands alone beyond chance on 1 of the 2 tasks "
        "with both. No foundation model has entered yet, frozen or adapted."
    )
    said = finding([noisy | {"frozen": steady - 0.1}], ["mean"])
    assert "are not ahead of models on image bands alone beyond chance, on the one task that has both." in said
    assert "Frozen foundation models are not ahead" in said
    assert "are ahead of models on image bands alone beyond chance on none of the 2 tasks" in finding([noisy] * 2, ["mean"] * 2)
    assert finding([{}], ["mean"]) == "No real task has a ranked submission yet."
    six = {"bands": steady[:6], "embeddings": steady[:6] + np.array([9.0, -0.1, -0.1, -0.1, -0.1, -0.1])}
    assert "are not ahead" in finding([six], ["median"])  # one group far ahead is not most groups
