"""A module's name and a class's name say one thing: each occurs once in the package."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "rs05bench"


def modules() -> list[Path]:
    return list(PACKAGE.rglob("*.py"))


def twice(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: places for name, places in found.items() if len(places) > 1}


def test_every_module_name_occurs_once():
    found: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        if path.name == "__main__.py" or path.is_relative_to(PACKAGE / "cli"):
            continue
        name = path.parent.name if path.name == "__init__.py" else path.stem
        found[name].append(str(path.relative_to(PACKAGE)))
    assert twice(found) == {}


def test_every_class_name_occurs_once():
    found: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(PACKAGE)))
    assert twice(found) == {}
