"""Pages look right at every width, in light and dark, and on paper: measured in a browser."""

from __future__ import annotations

import pytest

from rs05bench.report import Report
from tests.report import layout

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def test_the_report_is_drawn_right_at_every_width(report: Report, chromium: str) -> None:
    with layout.browser(chromium) as started:
        assert not layout.faults(started, report.page.as_uri())


def test_the_measure_finds_what_it_is_for(tmp_path, chromium: str) -> None:  # type: ignore[no-untyped-def]
    page = tmp_path / "page.html"
    text = '<text x="5" y="20" font-size="{}">{}</text>'
    plot = '<svg class="plot" width="{}" height="100">{}</svg>'
    page.write_text(
        "<!doctype html><figure id=f>"
        + plot.format(200, text.format(12, "one") + text.format(12, "two"))
        + plot.format(260, text.format(7, "small") + '<text x="255" y="60" font-size="12">beyond</text>')
        + "</figure><p style='width:2100px'>wide</p>",
        encoding="utf-8",
    )
    with layout.browser(chromium) as started:
        found = " ".join(layout.faults(started, page.as_uri()))
    for words in ("differ in size", '"one" and "two" overlap', '"small" is set in 7.0 px', '"beyond" is cut', "scrolls sideways"):
        assert words in found
