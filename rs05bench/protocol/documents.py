"""Reading YAML and JSON that somebody else wrote: bounded in size, depth and number of values, with the line in every message.

Words stay words: `no`, `2020-01-01`, `1:30` and `007` are text, as in YAML 1.2 and as their authors meant them. Nothing of a document can
name a Python object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from rs05bench.errors import DataError

MOST_BYTES = 512 << 10
"""Size of a YAML document."""
MOST_JSON_BYTES = 256 << 20
"""Size of a JSON document."""
MOST_DEPTH = 40
MOST_VALUES = 100_000
"""Values of a document, each counted as often as aliases repeat it."""
MOST_DIGITS = 19


def read_yaml(path: str | Path, *, remedy: str | None = None) -> Any:
    """What a YAML file holds; None where it is empty.

    Args:
        path: The file.
        remedy: What to do where there is no such file.

    Raises:
        DataError: No such file, or not a YAML document of reasonable size; says on which line.
    """
    path = Path(path)
    try:
        if not path.is_file() and path.exists() and not path.is_dir():
            raise DataError("is not a regular file", source=path)
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"is larger than {MOST_BYTES >> 10} KiB, so it is not a card, a grid or a catalogue", source=path)
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError("no such file", source=path, remedy=remedy) from error
    except IsADirectoryError as error:
        raise DataError("is a folder, expected a YAML file", source=path, remedy=remedy) from error
    return parse_yaml(content, source=path)


def parse_yaml(content: bytes | str, *, source: str | Path) -> Any:
    """What a YAML document holds; arguments and errors as `read_yaml`."""
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"is not text in UTF-8 ({error.reason} at byte {error.start:,})", source=source) from error
    if len(text) > MOST_BYTES:
        raise DataError(f"is larger than {MOST_BYTES >> 10} KiB", source=source)
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise DataError(f"{line}{error.problem or error.context}", source=source, remedy="Correct the YAML there.") from error
    except yaml.YAMLError as error:
        raise DataError(f"cannot be read as YAML: {' '.join(str(error).split())}", source=source) from error


def read_yaml_mapping(path: str | Path, *, remedy: str | None = None) -> dict[str, Any]:
    """What a YAML file holds, where it must hold fields; an empty file holds none. Arguments and errors as `read_yaml`."""
    data = read_yaml(path, remedy=remedy)
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise DataError(f"expected fields with their values, found a {_word(data)}", source=path, remedy=remedy)
    return data


def read_json(path: str | Path) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: It cannot be opened.
        DataError: It is not JSON, is nested too deeply, or is too large.
    """
    path = Path(path)
    if not path.is_file() and path.exists():
        raise DataError("is not a regular file", source=path)
    if path.stat().st_size > MOST_JSON_BYTES:
        raise DataError(f"is larger than {MOST_JSON_BYTES >> 20} MiB", source=path)
    return parse_json(path.read_bytes(), source=path)


def parse_json(content: bytes | str, *, source: str | Path) -> Any:
    """What a JSON document holds.

    Raises:
        DataError: It is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise DataError("is nested too deeply", source=source) from error
    except json.JSONDecodeError as error:
        raise DataError(f"is not JSON: {error.msg} (line {error.lineno}, column {error.colno})", source=source) from error
    except ValueError as error:  # not UTF-8; a number of thousands of digits
        raise DataError(f"is not JSON: {error}", source=source) from error


def read_json_mapping(path: str | Path) -> dict[str, Any]:
    """What a JSON file holds, where it must hold fields; errors as `read_json`."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise DataError(f"expected fields with their values, found a {_word(data)}", source=path)
    return data


def field_name(place: Sequence[int | str]) -> str:
    """The name of a field in a pydantic error, as the author of the document wrote it: without pydantic's names for alternatives."""
    return ".".join(str(part) for part in place if not (isinstance(part, str) and re.search(r"[\[\]()]|-(before|after|str)$", part)))


def _word(value: Any) -> str:
    words = {list: "list", str: "text", bool: "true or false", int: "number", float: "number", type(None): "null"}
    return words.get(type(value), type(value).__name__)


class _Loader(yaml.SafeLoader):
    """The one loader: YAML 1.2's words and numbers, and limits that count what aliases repeat."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._weights: dict[int, int] = {}
        self._nodes: list[Any] = []  # keeps every node alive, so that ids stay unique

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) and id(self.anchors.get(event.anchor)) not in self._weights and event.anchor in self.anchors:
            raise _fault(f"*{event.anchor} stands inside of what it repeats", event.start_mark)
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _fault(f"values are nested more than {MOST_DEPTH} deep", event.start_mark)
        node: Any = super().compose_node(parent, index)
        self._depth -= 1
        if id(node) not in self._weights:
            parts = node.value if isinstance(node.value, list) else []
            flat = [part for item in parts for part in (item if isinstance(item, tuple) else (item,))]
            self._nodes.append(node)
            self._weights[id(node)] = 1 + sum(self._weights[id(part)] for part in flat)
        if self._weights[id(node)] > MOST_VALUES:
            raise _fault(f"holds more than {MOST_VALUES:,} values, counting what aliases repeat", event.start_mark)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are text, each once."""
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                raise _fault("a field's name must be text", key.start_mark)
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise _fault(f"the field {key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """A number that fits into 64 bits."""
        text = node.value.replace("_", "")
        whole = node.tag == "tag:yaml.org,2002:int"
        if whole and len(text.lstrip("+-0x")) > MOST_DIGITS:
            raise _fault(f"the number has more than {MOST_DIGITS} digits", node.start_mark)
        if whole:
            return int(text, 0)
        words = {".inf": "inf", "-.inf": "-inf", "+.inf": "inf", ".nan": "nan"}
        return float(words.get(text.lower(), text))

    def refuse(self, node: yaml.Node) -> None:
        """Any tag but those of plain values."""
        raise _fault(f"the tag {node.tag!r} is not allowed: plain text, numbers, lists and fields only", node.start_mark)


def _fault(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


_CORE = "tag:yaml.org,2002:"
_KEPT = ("null", "merge", "value")
_Loader.yaml_implicit_resolvers = {
    letter: kept
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if (kept := [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(_CORE) in _KEPT])
}
for _tag, _pattern, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?(0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|[-+]?\.[0-9][0-9_]*([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(_CORE + _tag, re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.yaml_constructors = {
    **{_CORE + name: yaml.SafeLoader.yaml_constructors[_CORE + name] for name in ("null", "bool", "str", "seq", "map")},
    **{_CORE + name: _Loader.construct_number for name in ("int", "float")},
    None: _Loader.refuse,
}
