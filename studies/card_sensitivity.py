"""How far does the score of each example card move with the draw of its split, and what can its groups show? Prints Markdown.

Run: python studies/card_sensitivity.py [--split-seeds 3]; `make studies` keeps it in docs/studies/card_sensitivity.md. Without the real
data it states so and prints nothing else.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rs05bench.experiment.sensitivity import km, rows, sensitivity
from rs05bench.protocol.card import TaskCard

ROOT = Path(__file__).resolve().parent.parent
CARDS = {
    "aef_landcover": "aef_landcover",
    "aef_counties_income": "aef_counties",
    "aef_counties_agriculture": "aef_counties",
    "carbonflux": "carbonflux_hls",
    "fuel_moisture": "lfmc_presto",
}


def main() -> None:
    """Prints the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split-seeds", type=int, default=3)
    options = parser.parse_args()
    real = Path(os.environ.get("RS05BENCH_REAL", ROOT.parent / "shared" / "real"))
    if not real.is_dir():
        print("The real tables are not on this machine (set RS05BENCH_REAL): nothing was run.")
        return
    print("# Other draws of the split, and what the groups can show\n")
    print(
        "For each example card a linear model on its widest feature set, with all labels, is run under the split as the card draws it, "
        f"under {options.split_seeds} other seeds of the split, and with blocks of half, one and two times the range over which labels are "
        "alike. *Over the baseline* is its lead over the mean or the majority. Made by `card sensitivity`, which does the same "
        "for any card of a table."
    )
    for name, folder in CARDS.items():
        found = sensitivity(TaskCard.load(ROOT / "examples" / "cards" / f"{name}.yaml"), real / folder, split_seeds=options.split_seeds)
        print(f"\n## {found.task}: {found.split}, {found.metric} of {found.model}\n")
        reach = "no range found" if found.range_m is None else f"labels are alike over {km(found.range_m)}"
        spread = "" if found.spread is None else f" Between draws the score differs by up to {found.spread:.2f}."
        print(f"{reach[0].upper()}{reach[1:]}.{spread}\n")
        print("| draw | block | groups | score | over the baseline |\n|---|---|---|---|---|")
        for row in rows(found):
            print("| " + " | ".join(row) + " |")
        print("\n| first | second | groups | difference | shown with 80 % probability |\n|---|---|---|---|---|")
        for entry in found.power:
            size = "–" if entry.detectable is None else f"{entry.detectable:.2f}"
            print(f"| {entry.first} | {entry.second} | {entry.groups} | {entry.difference:+.2f} | {size} |", flush=True)


if __name__ == "__main__":
    main()
