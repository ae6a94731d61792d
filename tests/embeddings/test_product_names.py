"""What is true of one embedding product stands in its record or its reader; other code asks the record."""

from __future__ import annotations

import ast
import re
import tokenize
from pathlib import Path

import pytest

import rs05bench
from rs05bench.embeddings.products import DEFAULT, DEFAULT_FAMILY, all_products, families, product

ROOT = Path(rs05bench.__file__).parent
ALSO_ENCODERS = {"clay", "olmoearth"}
NAMES = re.compile("|".join(sorted({*families() - ALSO_ENCODERS, *all_products()}, key=len, reverse=True)), re.IGNORECASE)
COMPONENT = re.compile(r"\bd?[AT]\[?0[-0-9\]]")


def shown_to_people(tree: ast.Module) -> set[int]:
    """Lines of docstrings, and of what a command shows as its help."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        if isinstance(node, ast.Call) and (name := ast.unparse(node.func)).startswith(("typer.", "DataError", "ProtocolError")):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1) if name else ())
    return lines


def code_of(path: Path) -> list[tuple[int, str]]:
    with tokenize.open(path) as file:
        text = file.read()
    aside = shown_to_people(ast.parse(text))
    return [
        (number, line.split("  #")[0])
        for number, line in enumerate(text.splitlines(), start=1)
        if number not in aside and not line.lstrip().startswith("#")
    ]


@pytest.mark.parametrize("room", ["protocol", "experiment", "report", "cli", "datamodules"])
def test_no_product_is_named_outside_help_texts(room):
    named = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / room).rglob("*.py"))
        if path.name != "_groups.py"  # the commands' examples
        for number, line in code_of(path)
        if NAMES.search(line)
    ]
    assert named == []


@pytest.mark.parametrize("room", ["protocol", "experiment", "report", "cli", "datasets", "datamodules"])
def test_columns_and_the_byte_of_a_missing_pixel_are_asked_of_the_record(room):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for number, line in code_of(path)
        if COMPONENT.search(line) or re.search(r"(?<![\w.])-128(?!\d)|range\(64\)|BANDS = 64", line)
    ]
    assert found == []


def test_the_default_is_a_product_of_the_default_family():
    assert product(DEFAULT).family == DEFAULT_FAMILY
    assert product(DEFAULT).glob == "A[0-9][0-9]"
