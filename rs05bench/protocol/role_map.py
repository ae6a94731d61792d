"""The roles of a split drawn as a map of letters, for docstrings and the documentation."""

from __future__ import annotations

import pandas as pd

from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.splitters import draw_folds
from rs05bench.protocol.units import UnitTable

LETTERS = {"train": "T", "val": "V", "test_id": "i", "test_ood": "o", "reserve": "r", "buffer": "."}
_COLUMNS, _ROWS, _STATES, _STEP = 36, 2, 4, 0.05


def role_map(split: str, folds: int = 1) -> str:
    """Draws a split over a small made-up country: four states side by side, each of 18 places; years below each other where it moves one.

    Args:
        split: A split's name; the group is `state`, the years are 2019 to 2021.
        folds: How many folds to draw.

    Returns:
        A block of lines a fold, and the letters' meaning: `T` trains, `V` validates, `i` is tested in domain, `o` out of domain, `r` is the
        held-out region's reserve, `.` is used by nobody.
    """
    years = (2019, 2020, 2021) if "year" in split or "until" in split else (2020,)
    places = [
        {"place": f"p{row}{column:02d}", "lon": column * _STEP, "lat": row * _STEP, "state": "ABCD"[column * _STATES // _COLUMNS]}
        for row in range(_ROWS)
        for column in range(_COLUMNS)
    ]
    frame = pd.concat([pd.DataFrame(places).assign(year=year) for year in years], ignore_index=True)
    frame["unit_id"] = frame["place"] + "-" + frame["year"].astype(str)
    frame["official"] = ["test" if column >= _COLUMNS * 2 // 3 else "train" for column in (int(place[2:]) for place in frame["place"])]
    card = TaskCard.parse(
        {
            "kind": "regression",
            "name": "country",
            "targets": ["y"],
            "groups": ["state"],
            "year": "year",
            "splits": [split],
            "official": {"column": "official", "train": "train", "test": "test"},
            "split_options": {"block_size_m": 16_700, "buffer_m": 6_000},
        }
    )
    units = UnitTable.build(frame, groups=["state"])
    ground, drawn = draw_folds(card, units, split)
    lines = []
    for fold in drawn[:folds]:
        at = dict(zip(ground.units.frame["unit_id"], fold.role, strict=True))
        lines.append(f"fold {fold.name}")
        for year in years:
            for row in reversed(range(_ROWS)):
                letters = [LETTERS[at[f"p{row}{column:02d}-{year}"]] for column in range(_COLUMNS)]
                width = _COLUMNS // _STATES
                parts = ["".join(letters[start : start + width]) for start in range(0, _COLUMNS, width)]
                lines.append(f"  {year if len(years) > 1 and row == _ROWS - 1 else '':<4}  {' '.join(parts)}".rstrip())
    return "\n".join(lines)
