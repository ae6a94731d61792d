"""A task card as a YAML file that a person can go on with by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rs05bench.errors import DataError
from rs05bench.protocol import TaskCard
from rs05bench.protocol.atomic import write_text, writing


def write_commented(card: TaskCard, comments: Mapping[str, str], path: str | Path) -> Path:
    """Writes a card with a comment before each field that has one; refuses to overwrite.

    Raises:
        DataError: The file exists.
    """
    path = Path(path)
    if path.exists():
        raise DataError("already exists", source=path, remedy="Give another name with --out, or remove it.")
    data = {"schema_version": card.schema_version, **card.model_dump(mode="json", exclude_defaults=True)}
    lines = [
        "# A task card of rs05bench: what is predicted, from what, and how it is split. Check it with: rs05bench card check " + path.name
    ]
    for key, value in data.items():
        lines += [f"# {line}" for line in comments.get(key, "").splitlines()]
        lines.append(_field(key, value))
    lines += [f"# {line}" for line in comments.get("", "").splitlines()]
    with writing(path) as draft:
        write_text(draft, "\n".join(lines) + "\n")
        TaskCard.load(draft)  # what is kept is what a sweep can read
    return path


def _field(key: str, value: Any) -> str:
    """One field as YAML: lists on a line, a mapping of lists a line an entry, and so on inside where a line would be long."""
    line = f"{key}: {_flow(value)}"
    if isinstance(value, dict) and (len(line) > 120 or any(isinstance(item, (list, dict)) for item in value.values())):
        inner = [_field(_flow(name), item) for name, item in value.items()]
        return "\n".join([f"{key}:", *(f"  {part}" for field in inner for part in field.split("\n"))])
    return line


def _flow(value: Any) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**6)
        .removesuffix("\n")
        .removesuffix("\n...")
    )
