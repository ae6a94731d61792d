"""A function takes at most eight parameters; more of them are a record.

Functions of the command are left out: their parameters are its options.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "rs05bench"
MOST = 8


def functions(tree: ast.AST, within: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{within}{node.name}", node
        yield from functions(node, f"{within}{node.name}." if named else within)


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = function.args
    names = [item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_a_function_takes_at_most_eight_parameters():
    found = {
        f"{path.relative_to(PACKAGE).as_posix()} {name}"
        for path in PACKAGE.rglob("*.py")
        if not path.is_relative_to(PACKAGE / "cli")
        for name, function in functions(ast.parse(path.read_text(encoding="utf-8")))
        if parameters(function) > MOST
    }
    assert found == set(), "give these a record"


def test_parameters_are_counted_without_self():
    tree = ast.parse("class A:\n def f(self, a, /, b, *args, c, **more): ...")
    assert [(name, parameters(function)) for name, function in functions(tree)] == [("A.f", 3)]
