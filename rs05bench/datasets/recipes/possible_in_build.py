"""Whether a split can be drawn over the units that a recipe built."""

from __future__ import annotations

from rs05bench.errors import BenchError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import build_manifest
from rs05bench.protocol.splits import Split
from rs05bench.protocol.units import UnitTable


def drawn_split(card: TaskCard, units: UnitTable, split: str) -> tuple[str, list[str]]:
    """Why a split cannot be drawn (empty where it can), and folds in which nothing trains or nothing is tested."""
    try:
        manifest = build_manifest(card, units, split)
    except BenchError as error:
        # Without the name of the temporary folder that the message begins with.
        return str(getattr(error, "problem", error)).splitlines()[0], []
    roles = manifest.table.groupby("fold")["role"].unique()
    idle = [fold for fold in manifest.folds if "train" not in roles[fold] or not {"test_id", "test_ood"} & set(roles[fold])]
    if len(idle) == len(manifest.folds):
        return "no fold has both training and test units: the regions are too small for these blocks and buffers", []
    return "", idle


def too_few_groups(card: TaskCard, units: UnitTable, split: str) -> str:
    """Why a split cannot be drawn, by its groups and years alone (empty where nothing speaks against it)."""
    parsed = Split(split)
    column = card.group_column(parsed.group)
    if parsed.rule.name != "within" and column is not None and units.frame[column].nunique() < 2:
        return f"one {parsed.group} only"
    if parsed.rule.needs_year and units.frame["year"].nunique() < 2:
        return "one year only"
    return ""
