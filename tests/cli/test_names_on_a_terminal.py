"""Names from outside are printed as they are: no markup, escape sequence or change of direction is obeyed."""

import io
import sys

import pandas as pd
import pytest

from rs05bench.cli._terminal import _Visible, print_cells, visible
from rs05bench.report.style import layer_name

HOSTILE = [
    "mine[/v2]/svm",
    "[link=https://evil.example]x[/link]",
    "[blink]x",
    ":smile:",
    "a\x1b[31mb",
    "a\x1b]0;title\x07b",
    "\u202eabc",
    "a\rb",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_table_shows_names_as_they_are(name, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", _Visible(written, "utf-8", line_buffering=True))
    monkeypatch.setenv("COLUMNS", "200")
    print_cells(pd.DataFrame({"model": [name], "macro_f1": [0.5]}))
    text = written.getvalue().decode()
    assert visible(name) in text.replace("\n", "")
    assert not any(letter in text for letter in "\x1b\x07\r\u202e")


def test_what_a_terminal_does_not_obey_stays(capsys):
    assert visible("Zoë\tß — 漢字 [x]\n") == "Zoë\tß — 漢字 [x]\n"
    assert visible("a\r\nb") == "a\r\nb"


@pytest.mark.parametrize("name", [*HOSTILE, "", ".", "..", "../../x", "/abs", "a" * 300, "x\0y", "'; drop table x; --"])
def test_a_layer_s_name_is_plain(name):
    found = layer_name(name)
    assert found.strip(".-")
    assert len(found) <= 60
    assert not set(found) & set("/\\'\"\0[];: \r\x1b")


def test_two_models_do_not_share_a_layer():
    names = ["a b", "a  b", "a[b", "a]b", "a" * 61, "a" * 62, "hybrid/rf"]
    assert len({layer_name(name) for name in names}) == len(names)
    assert layer_name("hybrid/rf") == "hybrid-rf"
