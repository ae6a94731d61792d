"""Does the audit of a table see what gives the label away? Leaks planted in simulated tables, and clean controls; prints Markdown.

Run: python studies/planted_table_leaks.py [--tables 20]; `make studies` keeps it in docs/studies/planted_table_leaks.md.
"""

from __future__ import annotations

import argparse
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from rs05bench.datasets.embedding_table import EmbeddingTable
from rs05bench.datasets.tables.design import design_flags
from rs05bench.errors import DataError
from rs05bench.protocol.audit import audit_table
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import build_manifest

UNITS, FEATURES = 600, 10
STATES = np.array(["Ñuble", "Bío Bío", "Fire 3", "Fire 4", "Maule", "Araucanía"])
COLUMNS = [f"F{number}" for number in range(FEATURES)]
Plant = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


def land(rng: np.random.Generator, kind: str) -> pd.DataFrame:
    """Units of six states in a row; features vary smoothly along it, the label follows one of them under noise."""
    state = rng.integers(0, len(STATES), UNITS)
    frame = pd.DataFrame({"id": [f"u{number:04d}" for number in rng.permutation(UNITS)], "state": STATES[state]})
    frame = frame.assign(lon=-72 + 3.0 * state + rng.random(UNITS), lat=-35 + rng.random(UNITS), year=rng.integers(2018, 2022, UNITS))
    smooth = np.sin(frame["lon"].to_numpy()[:, None] * np.arange(1, FEATURES + 1))
    frame[COLUMNS] = rng.standard_normal((UNITS, FEATURES)) + smooth
    y = frame["F0"].to_numpy() + 0.8 * rng.standard_normal(UNITS)
    return frame.assign(y=y if kind == "regression" else np.where(y > 0.3, "b", np.where(y < -0.7, "c", "a")))


def respelt(change: Callable[[str], str]) -> Plant:
    """Writes the state of a tenth of the units another way."""

    def plant(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        rows = rng.choice(len(frame), len(frame) // 10, replace=False)
        frame.loc[rows, "state"] = frame.loc[rows, "state"].map(change)
        return frame

    return plant


def copied(noise: float) -> Plant:
    """Copies 60 units of one state into another, under other ids and places."""

    def plant(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        copy = frame[frame["state"] == "Fire 3"].head(60).copy()
        copy = copy.assign(
            id="x" + copy["id"], state="Maule", lon=frame.loc[frame["state"] == "Maule", "lon"].mean() + 0.3 * rng.random(len(copy))
        )
        copy[COLUMNS] += noise * frame[COLUMNS].std().to_numpy() * rng.standard_normal((len(copy), FEATURES))
        return pd.concat([frame, copy], ignore_index=True)

    return plant


def bare(word: str) -> str:
    """A word without its accents."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", word) if not unicodedata.combining(letter))


def probabilities(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """A classifier's probabilities as features."""
    p = rng.dirichlet([1, 1, 1], len(frame))
    p[np.arange(len(frame)), pd.factorize(frame["y"], sort=True)[0]] += 1
    frame[["FPa", "FPb", "FPc"]] = p / 2
    return frame


def only(where: Callable[[pd.DataFrame], pd.Series]) -> Plant:
    """A class that is found in one part of the table only, mixed with the other there."""
    return lambda frame, rng: frame.assign(y=np.where(where(frame) & (frame["F0"] > 0), "positive", "negative"))


CASES: dict[str, tuple[str, Plant]] = {
    "nothing (classes)": ("classification", lambda frame, rng: frame),
    "nothing (numbers)": ("regression", lambda frame, rng: frame),
    "group in two cases": ("classification", respelt(str.upper)),
    "group in two Unicode forms": ("classification", respelt(lambda word: unicodedata.normalize("NFD", word))),
    "group without accents": ("classification", respelt(bare)),
    "`Fire 3` and `fire_3`": ("classification", respelt(lambda word: word.lower().replace(" ", "_"))),
    "group with two blanks": ("classification", respelt(lambda word: word.replace(" ", "  "))),
    "units copied to another group": ("classification", copied(0.0)),
    "the same with noise of .02 sd": ("classification", copied(0.02)),
    "the same with noise of .05 sd": ("classification", copied(0.05)),
    "class code with noise among the features": (
        "classification",
        lambda frame, rng: frame.assign(FX=pd.factorize(frame["y"])[0] + 0.02 * rng.standard_normal(len(frame))),
    ),
    "target with noise among the features": (
        "regression",
        lambda frame, rng: frame.assign(FX=2 * frame["y"] + 0.1 * rng.standard_normal(len(frame))),
    ),
    "exponential of the target": (
        "regression",
        lambda frame, rng: frame.assign(FX=np.exp(frame["y"]) + 0.01 * rng.standard_normal(len(frame))),
    ),
    "class probabilities among the features": ("classification", probabilities),
    "row number of a sorted table": (
        "classification",
        lambda frame, rng: frame.sort_values("y", ignore_index=True).assign(FX=np.arange(float(len(frame)))),
    ),
    "a class of one half of the area only": ("classification", only(lambda frame: frame["lat"] > -34.5)),
    "a class of one year only": ("classification", only(lambda frame: frame["year"] == 2021)),
    "a class of one group only": ("classification", only(lambda frame: frame["state"] == "Maule")),
    "a number that is the year": ("regression", lambda frame, rng: frame.assign(y=frame["year"] + 0.05 * rng.standard_normal(len(frame)))),
}


def said(frame: pd.DataFrame, kind: str, folder: Path) -> list[str]:
    """What reading and auditing the table say; nothing where nothing is wrong."""
    frame.to_csv(folder / "t.csv", index=False)
    fields = {
        "kind": kind, "name": "planted", "targets": ["y"], "unit": ["id"], "groups": ["state"], "year": "year", "files": ["t.csv"],
        "coordinates": {"x": "lon", "y": "lat"}, "features": {"raw": ["F*"]}, "splits": ["leave-state-out", "random"],
        "split_options": {"block_size_m": 20_000, "buffer_m": 500},
    }  # fmt: skip
    try:
        table = EmbeddingTable(TaskCard.parse(fields), folder)
        manifest = build_manifest(table.card, table.units(), "leave-state-out")
    except DataError as error:
        return [f"refused: {error.problem}"]
    units = table.units()
    flags = design_flags(units.frame, table.labels(), units.groups, kind)
    return [*(flag.sentence for flag in flags), *(f.sentence for f in audit_table(table, manifest) if f.level in ("leak", "warning"))]


def main() -> None:
    """Prints the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=20, help="Tables per kind of leak.")
    options = parser.parse_args()
    print("# Leaks planted in tables\n")
    print(
        f"{options.tables} simulated tables of {UNITS} units per line, read with a card and looked at as `card check`, `sweep` and "
        "`advise` do. *Refused*: the table is not read. *Named*: it is read with a warning.\n"
    )
    print("| planted | refused | named | nothing said | an example |\n|---|---:|---:|---:|---|")
    for name, (kind, plant) in CASES.items():
        refused = named = 0
        example = ""
        for seed in range(options.tables):
            rng = np.random.default_rng([seed, len(name)])
            with tempfile.TemporaryDirectory() as folder:
                found = said(plant(land(rng, kind), rng), kind, Path(folder))
            refused += bool(found and found[0].startswith("refused"))
            named += bool(found and not found[0].startswith("refused"))
            example = example or (found[0] if found else "")
        cell = example.replace("|", "\\|")
        print(
            f"| {name} | {refused} | {named} | {options.tables - refused - named} | {cell[:150]}{'…' if len(cell) > 150 else ''} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
