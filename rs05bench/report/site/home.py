"""The front page: what the board is, what it has found, and every model over all tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.inference.ranking import rank_ranges
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.metrics.declaration import Centre
from rs05bench.protocol.result import Tier
from rs05bench.protocol.tiers import TIER_STYLES
from rs05bench.report.site.across import TRACK, by_model, by_tier, label_gains, middle
from rs05bench.report.site.rank_words import Ranks, goodness_of
from rs05bench.report.site.records import BoardTable, Leaderboard
from rs05bench.report.site.view import budget_words, score
from rs05bench.report.style import metric_name, split_title


def home_view(board: Leaderboard, ranks: dict[str, Ranks]) -> dict[str, Any]:
    """Everything the front page shows of the tables that count."""
    tables = [table for table in board.tables if table.main]
    gains = label_gains(board, tables)
    real = [table for table in tables if not table.simulated]
    return {
        "columns": [
            {"key": table.key, "title": _short(table, board), "split": split_title(table.split), "budget": budget_words(middle(table))}
            for table in tables
        ],
        "models": by_model(board, tables),
        "tiers": by_tier(board, tables),
        "gains": [row | {"title": _short(row["table"], board), "metric": metric_name(row["table"].metric)} for row in gains],
        "gain_tiers": [tier for tier in TIER_STYLES if any(tier in row["cells"] for row in gains)],
        "leaders": [_leader(board, table, ranks[table.key]) for table in tables],
        "finding": finding([_kinds(table, board) for table in real], [find_metric(table.metric).over_groups for table in real]),
    }


def _title(board: Leaderboard, table: BoardTable) -> str:
    task = board.tasks[table.task]
    return task.title if len(task.targets) == 1 else f"{task.title}: {table.target}"


def _short(table: BoardTable, board: Leaderboard) -> str:
    name = table.task.removesuffix("-simulated").replace("-", " ")
    return name if len(board.tasks[table.task].targets) == 1 else f"{name}: {table.target.replace('_', ' ')}"


def _leader(board: Leaderboard, table: BoardTable, ranks: Ranks) -> dict[str, Any] | None:
    """The first of a table, and how many others may be as good."""
    ranked = ranks["deployment", middle(table)]
    if not ranked:
        return None
    slug = min(ranked, key=lambda name: ranked[name].rank)
    row = next(row for row in table.rows if row.slug == slug)
    point = row.points[middle(table)]
    return {
        "key": table.key,
        "title": _title(board, table),
        "model": board.entries[slug].model.name,
        "tier": board.entries[slug].model.tier,
        "slug": slug,
        "score": f"{metric_name(table.metric)} {score(point.ood.value if point.ood else None)}",
        "others": sum(place.low == 1 for name, place in ranked.items() if name != slug),
        "of": len(ranked),
    }


_KINDS: dict[Tier, str] = {
    "raw": "bands",
    "embedding": "embeddings",
    "hybrid": "embeddings",
    "frozen": "frozen",
    **dict.fromkeys(("decoder", "adapter", "lora", "full"), "adapted"),
}


def _kinds(table: BoardTable, board: Leaderboard) -> dict[str, NDArray]:
    """Bands alone, public embeddings, encoders frozen and adapted: the mean score of their models in each held-out group."""
    members: dict[str, list[NDArray]] = {}
    for slug, good in goodness_of(table, board, TRACK, middle(table)).items():
        model = board.entries[slug].model
        if model.tier in _KINDS and not model.random_twin:
            members.setdefault(_KINDS[model.tier], []).append(good)
    return {kind: np.mean(found, axis=0) for kind, found in members.items()}


def finding(tables: Sequence[Mapping[str, NDArray]], of: Sequence[Centre]) -> str:
    """The board's answer in two sentences: do public embeddings, and do foundation models, beat image bands alone where no label is?

    Args:
        tables: Per table of real data, kind (`bands`, `embeddings`, `frozen`, `adapted`) -> score by held-out group, more is better.
        of: What differences over groups of each table are tested.
    """
    if not any(tables):
        return "No real task has a ranked submission yet."
    encoders = [kind for kind in ("frozen", "adapted") if any(kind in table for table in tables)]
    named = {"frozen": "frozen foundation models", "adapted": "adapted foundation models"}
    joined = "foundation models, frozen or adapted," if len(encoders) == 2 else named[encoders[0]] if encoders else ""
    second = _ahead(joined, encoders, tables, of) if encoders else "no foundation model has entered yet, frozen or adapted."
    first = _ahead("models on public embeddings", ["embeddings"], tables, of)
    return f"In places without labels, {first} {second[0].upper()}{second[1:]}"


def _ahead(what: str, kinds: Sequence[str], tables: Sequence[Mapping[str, NDArray]], of: Sequence[Centre]) -> str:
    beyond = []
    for table, centre in zip(tables, of, strict=True):
        ours = [table[kind] for kind in kinds if kind in table]
        if ours and "bands" in table:
            (place, _) = rank_ranges(np.array([np.mean(ours, axis=0), table["bands"]]), of=centre)
            beyond.append(place.high == 1)
    if not beyond:
        return f"{what} have not met models on image bands alone yet."
    if len(beyond) == 1:
        return f"{what} are {'' if beyond[0] else 'not '}ahead of models on image bands alone beyond chance, on the one task that has both."
    return f"{what} are ahead of models on image bands alone beyond chance on {sum(beyond) or 'none'} of the {len(beyond)} tasks with both."
