"""Means of cells for reading: one table a task, target and split, what is the same in all rows said once."""

from __future__ import annotations

import pandas as pd
import pytest

from rs05bench.cli._terminal import print_means
from rs05bench.experiment.means import means_of


def cells(**changes: object) -> pd.DataFrame:
    rows = [
        {"task": "crop", "target": "label", "split": split, "fold": fold, "model": model, "budget": budget, "seed": 0}
        | {"main_metric": "macro_f1", "macro_f1_id": 0.6, "macro_f1_ood": score + 0.2 * (fold == "b"), "macro_f1_drop": 0.1}
        | {"labels_used": labels}
        for split in ("random", "leave-county-out")
        for fold in ("a", "b")
        for model, score in (("raw/rf", 0.3), ("alphaearth/logistic", 0.5))
        for budget, labels in (("100-units", 100), ("20-units", 20))
    ]
    return pd.DataFrame(rows).assign(**changes)


def test_a_row_is_the_mean_of_its_cells_by_budget_and_best_first() -> None:
    first, second = means_of(cells())
    assert (first.same[2], second.same[2]) == ("leave-county-out", "random")  # what can be a main result stands first
    assert list(first.rows["budget"]) == ["20-units", "20-units", "100-units", "100-units"]
    assert list(first.rows["model"][:2]) == ["alphaearth/logistic", "raw/rf"]
    assert first.rows["out-of-domain"][:2].tolist() == pytest.approx([0.6, 0.4])  # (.5 + .7) / 2 and (.3 + .5) / 2
    assert "2 folds and 1 draw of labels" in first.mean


def test_where_less_is_better_the_least_stands_first() -> None:
    table = cells().rename(columns=lambda name: name.replace("macro_f1", "mae")).assign(main_metric="mae")
    assert means_of(table)[0].rows["model"].iloc[0] == "raw/rf"


def test_missing_cells_are_counted() -> None:
    assert "1 to 2 cells a row" in means_of(cells().iloc[1:])[1].mean


def test_a_table_fits_into_eighty_columns_and_says_once_what_is_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    table = cells()
    print_means(means_of(table[table["budget"] == "20-units"].replace({"model": {"raw/rf": "alphaearth+tessera/gradient-boosting"}})))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert printed.count("20-units") == 2  # once a split
    assert "0.600" in printed
