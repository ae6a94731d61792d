"""The map of a split's folds: a page that is drawn right at every width, and a picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from rs05bench.errors import DataError
from rs05bench.report.foldmap import draw_folds_map
from tests.protocol.toy import World
from tests.report import layout


def test_a_page_has_a_panel_a_fold_and_the_counts_of_each_role(tmp_path: Path) -> None:
    manifest = World(n=160).manifest("leave-state-out")
    page = draw_folds_map(manifest, tmp_path / "folds.html").read_text(encoding="utf-8")
    assert page.count('class="plot"') == len(manifest.folds)
    for number in manifest.counts().to_numpy().ravel():
        assert f">{number:,}<" in page


def test_a_picture_is_written_and_another_suffix_is_refused(tmp_path: Path) -> None:
    manifest = World(n=160).manifest("leave-state-out")
    assert draw_folds_map(manifest, tmp_path / "folds.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match="png or"):
        draw_folds_map(manifest, tmp_path / "folds.pdf")


@pytest.mark.browser
def test_the_page_is_drawn_right_at_every_width(tmp_path: Path, chromium: str) -> None:
    page = draw_folds_map(World(n=160).manifest("leave-state-out"), tmp_path / "folds.html")
    with layout.browser(chromium) as started:
        assert not layout.faults(started, page.as_uri())
