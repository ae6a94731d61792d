"""The first look at a card's own data: units, blocks and folds on one page."""

from __future__ import annotations

from pathlib import Path

import pytest

from rs05bench.datasets.embedding_table import EmbeddingTable
from rs05bench.errors import DataError
from rs05bench.report.cardmap import draw_card_map
from tests.datasets.table_files import card, regression_card, write_regions
from tests.report import layout


def test_the_page_draws_units_by_class_name_blocks_and_every_fold(tmp_path: Path) -> None:
    task = card(class_names=["water", "trees", "grass"], split_options={"block_size_m": 20_000, "buffer_m": 1_000})
    page = draw_card_map(EmbeddingTable(task, write_regions(tmp_path)), tmp_path / "units.html").read_text(encoding="utf-8")
    assert page.count('class="plot"') == 2 + 3  # classes, blocks, and the folds of three regions
    for word in ("water", "trees", "grass", "leave-region-out", "test_ood: tested, held out", " km"):
        assert word in page


def test_a_quantity_is_drawn_as_a_ramp(tmp_path: Path) -> None:
    page = draw_card_map(EmbeddingTable(regression_card(), write_regions(tmp_path)), tmp_path / "units.html").read_text(encoding="utf-8")
    assert "height" in page


def test_units_without_positions_have_no_map(tmp_path: Path) -> None:
    table = EmbeddingTable(card(coordinates=None), write_regions(tmp_path))
    with pytest.raises(DataError, match="no unit has a position"):
        draw_card_map(table, tmp_path / "units.html")


@pytest.mark.browser
def test_the_page_is_drawn_right_at_every_width(tmp_path: Path, chromium: str) -> None:
    page = draw_card_map(EmbeddingTable(card(), write_regions(tmp_path)), tmp_path / "units.html")
    with layout.browser(chromium) as started:
        assert not layout.faults(started, page.as_uri())
