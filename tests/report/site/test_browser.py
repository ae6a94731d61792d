"""The site in a real browser, opened from the disk: what a person does, without a mouse and on a phone too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report import layout

pytestmark = pytest.mark.browser

RANKING = "tables/fuel-moisture--leave-region-out.html"
PAGES = (
    "index.html",
    RANKING,
    "tables/urban-simulated--leave-city-out.html",
    "models/made-up-003.html",
    "models/made-up-008.html",
    "tasks/fuel-moisture.html",
    "tasks/index.html",
    "about.html",
)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


class Visit:
    """A page with what went wrong on it."""

    def __init__(self, page: Any, root: Path) -> None:
        self.page, self.root = page, root
        self.faults: list[str] = []
        self.left: list[str] = []
        page.on("console", lambda said: self.faults.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith("file://") else self.left.append(request.url))

    def open(self, path: str, fragment: str = "") -> Any:
        # Only the fragment changing would not load the page again.
        self.page.goto("about:blank")
        self.page.goto(f"file://{self.root / path}{fragment}")
        return self.page

    def slugs(self) -> list[str]:
        return self.page.eval_on_selector_all("#board tr[data-slug]", "rows => rows.filter(r => !r.hidden).map(r => r.dataset.slug)")

    def ranks(self) -> list[str]:
        return self.page.eval_on_selector_all(
            "#ranked tr", "rows => rows.filter(r => !r.hidden).map(r => r.querySelector('[data-f=rank]').textContent)"
        )


def _visit(browser: Any, site: Path, **context: Any) -> Iterator[Visit]:
    opened = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"} | context)
    visit = Visit(opened.new_page(), site)
    yield visit
    opened.close()
    assert visit.faults == []
    assert visit.left == []


@pytest.fixture
def visit(browser: Any, site: Path) -> Iterator[Visit]:
    """A visit that fails the test on any console error, warning or request that leaves the disk."""
    yield from _visit(browser, site)


@pytest.fixture
def phone(browser: Any, site: Path) -> Iterator[Visit]:
    yield from _visit(browser, site, viewport={"width": 390, "height": 844}, has_touch=True)


def test_it_opens_on_every_model_over_all_tasks_and_leads_on(visit: Visit):
    page = visit.open("index.html")
    rows = page.locator("[aria-label='All models over all tasks'] tbody")
    assert rows.locator("tr").count() > 5
    means = [float(text) for text in rows.locator("td:nth-child(2) b").all_text_contents()]
    tasks = [int(text) for text in rows.locator("td:nth-child(3)").all_text_contents()]
    assert list(zip(tasks, means, strict=True)) == sorted(zip(tasks, means, strict=True), key=lambda pair: (-pair[0], pair[1]))
    assert page.locator("a:has-text('Submit')").count()
    with page.expect_navigation():
        page.click("nav a:has-text('Rankings')")
    assert page.url.endswith(RANKING)


def test_the_ranking_has_its_pictures_without_a_script(browser: Any, site: Path):
    for visit in _visit(browser, site, java_script_enabled=False):
        page = visit.open(RANKING)
        assert page.locator("#curves svg.plot").count() == 2
        assert page.locator("#frontier svg.plot:visible").count() == 1


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_drawn_right_at_every_width(browser: Any, site: Path, path: str):
    assert layout.faults(browser, (site / path).as_uri()) == []


def test_the_budget_slider_moves_ranks_with_the_arrow_keys(visit: Visit):
    page = visit.open(RANKING)
    page.focus("#budget")
    seen = {}
    for key in ("ArrowLeft", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
        seen[page.inner_text("#budget-said")] = (visit.slugs(), page.inner_text("#ranked tr:first-child [data-f=fit]"))
    assert list(seen) == ["5 per class", "10 per class", "20 per class"]
    assert seen["5 per class"] != seen["20 per class"]
    assert page.get_attribute("#budget", "aria-valuetext") == "20 per class"
    assert page.eval_on_selector_all("thead th.now", "found => found.map(f => f.dataset.budget)") == ["20-per-class"]
    assert visit.ranks() == [str(i + 1) for i in range(len(visit.ranks()))]


def test_filters_hide_rows_and_say_how_many_are_left(visit: Visit):
    page = visit.open(RANKING)
    everybody = visit.slugs()
    page.uncheck("input[name=tier][value=floor]")
    assert set(everybody) - set(visit.slugs()) == {"made-up-000"}
    assert page.inner_text("#said") == "11 of 12 submissions"
    page.select_option("#weights", "closed")
    assert set(visit.slugs()) == {"made-up-003", "made-up-004", "made-up-005"}
    page.select_option("#hw", "Imaginary GPU 80 GB")
    assert visit.slugs() == []
    assert page.is_visible("#nothing")
    page.click("#reset")
    assert visit.slugs() == everybody


def test_the_open_track_ranks_anew(visit: Visit):
    page = visit.open(RANKING)
    before = visit.ranks()
    page.select_option("#track", "open")
    assert "made-up-005" not in visit.slugs()
    closed = len(before) - len(visit.ranks())
    assert closed > 0
    assert visit.ranks() == [str(i + 1) for i in range(len(before) - closed)]


def test_search_finds_authors_and_models(visit: Visit):
    page = visit.open(RANKING)
    page.fill("#q", "NUMBER 7")
    assert visit.slugs() == ["made-up-007"]
    page.fill("#q", "prithvi lora")
    assert visit.slugs() == ["made-up-010"]


def test_columns_sort_both_ways_and_missing_stays_last(visit: Visit):
    page = visit.open(RANKING)
    head = page.locator('th[data-sort="ood:20-per-class"]')
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    cells = "rows => rows.map(r => r.querySelector('[data-budget=\"20-per-class\"] b').textContent)"
    down = page.eval_on_selector_all("#unranked tr", cells)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    up = page.eval_on_selector_all("#unranked tr", cells)
    assert down[-1] == up[-1] == "missing"
    assert down[:-1] == sorted(down[:-1], reverse=True) == up[:-1][::-1]


def test_an_address_holds_the_state_of_the_page(visit: Visit):
    page = visit.open(RANKING)
    page.focus("#budget")
    page.keyboard.press("ArrowRight")
    page.uncheck("input[name=tier][value=raw]")
    page.select_option("#weights", "open")
    page.fill("#q", "made-up")
    page.click('th[data-sort="drop"] button')
    page.select_option("#st", "reproduced")
    shown, fragment = visit.slugs(), page.evaluate("location.hash")
    visit.open(RANKING, fragment)
    assert visit.slugs() == shown
    assert page.input_value("#weights") == "open"
    assert page.input_value("#st") == "reproduced"
    assert page.get_attribute('th[data-sort="drop"]', "aria-sort") == "ascending"
    assert page.inner_text("#budget-said") == "20 per class"
    assert page.evaluate("location.hash") == fragment


def test_an_address_with_nonsense_is_harmless(visit: Visit):
    page = visit.open(RANKING, "#budget=%3Cb%3E&sort=%22%5D&track=x&hw=y&tier=&q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&st=9")
    assert page.inner_text("#budget-said") == "10 per class"
    assert page.locator("img").count() == 0
    assert page.is_visible("#nothing")


def test_the_filters_follow_to_another_task(visit: Visit):
    page = visit.open(RANKING, "#weights=open")
    with page.expect_navigation():  # to the end of loading: a click alone waits for the address only
        page.click("a.keep:has-text('crop') >> nth=0")
    assert page.url.endswith("crop--leave-region-out.html#weights=open")
    assert "made-up-003" not in visit.slugs()


def test_one_key_leads_past_the_table_to_the_pictures_and_keeps_the_filters(visit: Visit):
    page = visit.open(RANKING, "#weights=open")
    page.focus("#to-pictures")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "pictures-head"
    assert 0 <= page.evaluate("document.activeElement.getBoundingClientRect().top") < 900
    assert page.evaluate("location.hash") == "#weights=open"


def test_everything_is_reached_by_keyboard_in_the_order_of_the_page(visit: Visit):
    page = visit.open(RANKING)
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("(a => a.id || a.textContent.trim() || a.name)(document.activeElement)"))
        if page.evaluate("document.activeElement.matches('tr[data-slug] a')"):
            break
    for earlier, later in (
        ("Skip to content", "theme"),
        ("theme", "budget"),
        ("budget", "q"),
        ("q", "track"),
        ("track", "reset"),
        ("reset", "Rank"),
    ):
        assert reached.index(earlier) < reached.index(later), reached
    first = visit.slugs()[0]
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('tr').dataset.slug") == visit.slugs()[1]
    page.keyboard.press("ArrowUp")
    with page.expect_navigation(url=f"**/models/{first}.html"):
        page.keyboard.press("Enter")


def test_a_click_on_a_row_opens_the_model(visit: Visit):
    page = visit.open(RANKING)
    with page.expect_navigation(url="**/models/made-up-007.html"):
        page.click("tr[data-slug=made-up-007] td.tier")
    assert "clay/frozen" in page.inner_text("h1")


def test_the_theme_follows_the_system_and_the_button(browser: Any, site: Path):
    for visit in _visit(browser, site, color_scheme="dark"):
        page = visit.open(RANKING)
        paper = "getComputedStyle(document.body).backgroundColor"
        dark = page.evaluate(paper)
        page.click("#theme")
        assert page.get_attribute("#theme", "aria-label") == "Theme: light"
        assert page.evaluate(paper) == "rgb(255, 255, 255)" != dark
        visit.open("about.html")
        assert page.evaluate(paper) == "rgb(255, 255, 255)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(browser: Any, site: Path, scheme: str):
    from axe_playwright_python.sync_playwright import Axe

    for visit in _visit(browser, site, color_scheme=scheme):
        for path in PAGES:
            page = visit.open(path)
            page.eval_on_selector_all("details", "all => all.forEach(d => { d.open = true; })")
            # Rows of a table and marks of a figure are of one make: axe's time grows with each, what it can find does not.
            for whole, alike, first in (("tbody", "tr", 8), ("svg", "path, circle, rect, line, use", 40)):
                few = f"all => all.forEach(e => [...e.querySelectorAll('{alike}')].slice({first}).forEach(one => one.remove()))"
                page.eval_on_selector_all(whole, few)
            # Preloading asks for the style sheet again by script, which the page's policy refuses. Only contrast is another in the dark.
            options = {"preload": False} | ({"runOnly": ["color-contrast"]} if scheme == "dark" else {})
            found = Axe().run(page, options=options).response["violations"]
            told = [(fault["id"], [node["html"][:160] for node in fault["nodes"][:3]]) for fault in found]
            assert told == [], path


def test_a_phone_scrolls_down_and_never_sideways(phone: Visit):
    for path in PAGES:
        page = phone.open(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        inside = "!e.closest('.scroll, .hidden, svg')"
        beyond = page.evaluate(
            f"[...document.querySelectorAll('main *')].filter(e => {inside} && e.getBoundingClientRect().right > 391)"
            ".map(e => e.outerHTML.slice(0, 80))"
        )
        assert beyond == [], path


def test_a_phone_shows_every_number_with_its_name_and_sorts(phone: Visit):
    page = phone.open(RANKING)
    names = page.eval_on_selector_all(
        "#ranked tr:first-child [data-label]", "found => found.map(f => getComputedStyle(f, '::before').content)"
    )
    assert [name.strip('"') for name in names] == ["5 per class", "10 per class", "20 per class", "Drop", "ECE", "Fit time"]
    page.click("#filters summary")
    page.select_option("#sort", "name")
    shown = page.eval_on_selector_all("#ranked th a", "found => found.map(f => f.textContent)")
    assert shown == sorted(shown)


def test_without_a_script_the_table_is_there(browser: Any, site: Path):
    for visit in _visit(browser, site, java_script_enabled=False):
        page = visit.open(RANKING)
        assert page.locator("#board tr[data-slug]:visible").count() == 12
        assert not page.is_visible("#controls")
        assert page.is_visible("text=need JavaScript")


def test_it_loads_only_its_own_files(visit: Visit):
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[1]))
    visit.open(RANKING)
    assert set(asked) - {"icon.svg"} == {RANKING.rsplit("/")[1], "site.css", "theme.js", "site.js"}
