"""Fills the empty predictions of a submission with plain scikit-learn; nothing of rs05bench is imported.

    rs05bench submit template aef-landcover --out mine
    python enter.py mine alphaearth_s1_dw_samples_*.csv --label dw_label --features "A\\d\\d"

The tables hold one row per unit, with its label and features. A unit's name is its column `unit_id`, or the columns of --unit joined by an
underscore, or else `<file stem>_<row>`: what the task card says. Afterwards fill in `submission.yaml`; what was measured here is printed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

CELL = ["task", "target", "split", "fold", "budget", "seed"]


def read(path: Path, unit: list[str]) -> pd.DataFrame:
    """One table by unit_id; ids keep their zeros because everything is read as text."""
    table = pd.read_parquet(path).astype(str) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
    if unit:
        table["unit_id"] = table[unit].agg("_".join, axis=1)
    elif "unit_id" not in table:
        table["unit_id"] = [f"{path.stem}_{row}" for row in range(len(table))]
    return table.set_index("unit_id")


def main() -> None:
    """Trains one learner per cell on the labels it may use, and answers for its test units."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of rs05bench submit template")
    parser.add_argument("tables", type=Path, nargs="+", help="CSV or Parquet: units with label and features")
    parser.add_argument("--label", required=True, help="column of the label")
    parser.add_argument("--features", required=True, help="regular expression of the feature columns")
    parser.add_argument("--unit", default="", help="columns that name a unit, separated by commas")
    parser.add_argument("--neighbours", type=int, help="nearest neighbours instead of trees")
    given = parser.parse_args()

    table = pd.concat(read(path, given.unit.split(",") if given.unit else []) for path in given.tables)
    features = table.filter(regex=f"^(?:{given.features})$").astype(float)
    rows = pd.read_parquet(given.folder / "predictions.parquet")
    shown = pd.read_parquet(given.folder / "labels.parquet")
    classes = [column for column in rows if column.startswith("p_")]
    labels = table[given.label] if classes else table[given.label].astype(float)

    used = dict(list(shown.groupby(CELL)["unit_id"]))
    seconds: dict[str, list[float]] = {}
    for cell, part in rows.groupby(CELL):
        train = used[cell]
        if given.neighbours:
            model = (KNeighborsClassifier if classes else KNeighborsRegressor)(min(given.neighbours, len(train)), weights="distance")
        else:
            model = (ExtraTreesClassifier if classes else ExtraTreesRegressor)(100, random_state=cell[-1])
        began = time.perf_counter()
        model.fit(features.loc[train], labels.loc[train])
        fitted = time.perf_counter()
        here = features.loc[part["unit_id"]]
        if classes:
            rows.loc[part.index, classes] = 0.0
            rows.loc[part.index, [f"p_{name}" for name in model.classes_]] = model.predict_proba(here)
        else:
            rows.loc[part.index, "y"] = model.predict(here)
        seconds.setdefault(cell[-2], []).append(fitted - began)
        seconds.setdefault(f"{cell[-2]}, predict per 1,000", []).append((time.perf_counter() - fitted) / len(part) * 1000)
    rows.to_parquet(given.folder / "predictions.parquet", index=False)
    (given.folder / "labels.parquet").unlink()
    for name, values in seconds.items():
        print(f"{name}: {sum(values) / len(values):.4f} s")


if __name__ == "__main__":
    main()
