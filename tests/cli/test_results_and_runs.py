"""What `rs05bench results` prints for people, and where cells can be sent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rs05bench.cli._options import chosen_executor
from rs05bench.cli._terminal import print_cells
from rs05bench.errors import DataError


@pytest.fixture
def printed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def show(table, **options):
        print_cells(table, **options)
        return capsys.readouterr().out

    return show


TABLE = pd.DataFrame(
    {
        "task": ["crop", "crop"],
        "model": ["raw/rf", "floor/majority"],
        "seed": [0, 11],
        "main_metric": ["macro_f1", "macro_f1"],
        "macro_f1_ood": [0.51249, np.nan],
        "fit_s": [1.0, 2.0],
        "digest": ["ab", "cd"],
    }
)


def test_names_stand_left_numbers_have_three_decimals_and_missing_ones_are_blank(printed):
    lines = printed(TABLE).splitlines()
    assert lines[0].split() == ["task", "model", "seed", "macro_f1_ood", "fit_s"]
    assert lines[1].split() == ["crop", "raw/rf", "0", "0.512", "1.000"]
    assert lines[2].split() == ["crop", "floor/majority", "11", "2.000"]
    assert lines[1].index("raw/rf") == lines[2].index("floor/majority")


def test_what_is_left_out_is_counted(printed):
    text = printed(pd.concat([TABLE] * 3), limit=4)
    assert text.count("raw/rf") == 2
    assert "2 rows more; --csv or --json prints all" in text


def test_an_empty_table_prints_its_heading(printed):
    assert printed(TABLE.head(0)).split() == ["task", "model", "seed", "macro_f1_ood", "fit_s"]


def test_options_of_ray_without_ray_are_refused(tmp_path):
    with pytest.raises(DataError, match="--ray-address is for Ray"):
        chosen_executor("local", 1, "auto", None)


def test_a_runtime_environment_is_read_from_a_file(tmp_path):
    path = tmp_path / "env.yaml"
    path.write_text("env_vars: {HF_HUB_OFFLINE: '1'}\n")
    assert chosen_executor("ray", None, "auto", path).runtime_env == {"env_vars": {"HF_HUB_OFFLINE": "1"}}
    path.write_text("- a list\n")
    with pytest.raises(DataError, match="expected fields"):
        chosen_executor("ray", None, None, path)
