"""Which directions of the embedding carry phenology, severity, texture?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.models.registry import model_card
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.protocol.result import Cell
from rs05bench.report.compose import Table
from rs05bench.report.drawing import Figure
from rs05bench.report.style import bracket, number
from rs05bench.studies.evidence import Side, difference, score
from rs05bench.studies.pictures import by_category, row
from rs05bench.studies.probes import BestAxis, agreement, axes_in_use, canonical, correlations, direction, held_out_correlations
from rs05bench.studies.record import Claim, Findings, Study, compared
from rs05bench.studies.setting import Own, Setting, example_card

STABLE = 0.5
"""Directions count as the same where every pair of groups agrees better than this: half of the correlation there could be."""
PROBE, AXIS = "alphaearth/ridge", "alphaearth/best-axis"


@dataclass(frozen=True)
class Case:
    """Signals over the units of one data set.

    Attributes:
        key: Name of its figures and task.
        title: What the units are.
        folder: Folder of real data; empty for simulated ones.
        card: Example card, or simulated task.
        group: Group that moves.
        signals: Column -> what it stands for.
        made: Signals that are computed from other columns: name -> (plus, minus).
        where: Rows to keep.
    """

    key: str
    title: str
    folder: str
    card: str
    group: str
    signals: dict[str, str]
    made: dict[str, tuple[str, str]]
    where: dict[str, list[str]]


CASES = (
    Case(
        "radar",
        "Land-cover points",
        "aef_landcover",
        "aef_landcover",
        "region",
        {"S1_VV": "surface roughness and moisture (radar VV)", "S1_VH": "canopy structure, texture (radar VH)"},
        {},
        {},
    ),
    Case(
        "phenology",
        "Crop parcels",
        "",
        "crop",
        "state",
        {"green_up": "green-up (NDVI middle minus first date)", "green_down": "drying (NDVI middle minus last date)"},
        {"green_up": ("NDVI_2", "NDVI_1"), "green_down": ("NDVI_2", "NDVI_3")},
        {},
    ),
    Case("severity", "Burned pixels", "", "burn-scar", "region", {"severity": "burn severity"}, {}, {"label": ["burned"]}),
)


def run(setting: Setting) -> Findings:
    """Runs the probes and reads what came out."""
    found = Findings()
    for case in CASES:
        if case.folder and setting.folder(case.folder) is None:
            found.notes.append(f"Not at hand and left out: {case.title} ({case.folder}); radar signals have no simulated twin.")
            continue
        if setting.quick and case.key == "severity":
            continue
        _case(setting, case, found)
    return found


def _case(setting: Setting, case: Case, found: Findings) -> None:
    card, data = _written(setting, case)
    split = f"leave-{case.group}-out"
    bench = setting.bench(card, data, [split])
    seeds = range(1)  # all labels train, so another seed would give the same fit
    folds = bench.manifest(split).folds[: 2 if setting.quick else None]
    budget = "full"
    results = setting.own(bench, _cells(bench, case, split, folds, budget, seeds))
    found.take(results)
    pool = Pool.of(results)
    directly = _directly(bench.source, case, case.group)
    rows, lines = [], []
    for signal, words in case.signals.items():
        probe, axis = (Point(bench.card.name, signal, split, name, budget) for name in (PROBE, AXIS))
        rests = tuple(sorted((*pool.digests(probe), *pool.digests(axis))))
        for role, where in (("test_id", "groups that train"), ("test_ood", "a group held out")):
            made = difference(pool, Side.of(probe, role), Side.of(axis, role))
            if made is not None:
                found.claims.append(
                    compared(
                        made[0],
                        made[1],
                        above=f"{case.title}, {words}, {where}: a direction over all axes beats the best single axis by {{size}} R²",
                        below=f"{case.title}, {words}, {where}: the best single axis beats a direction over all axes by {{size}} R²",
                        unclear=f"{case.title}, {words}, {where}: a direction over all axes and the best single axis cannot be told apart",
                    )
                )
            for point, name in ((probe, "direction over all axes"), (axis, "best single axis")):
                rows.append(
                    row(score(pool, point, role), category=f"{words.split(' (')[0]}, {where}", series=name, signal=signal, role=role)
                )
        seen = directly["signals"][signal]
        least, most = min(seen["agreements"]), max(seen["agreements"])
        axes = sorted(set(seen["best_axes"].values()))
        same = f"the same best axis ({axes[0]})" if len(axes) == 1 else f"{len(axes)} different best axes ({', '.join(axes)})"
        found.claims.append(
            Claim(
                f"{case.title}, {words}: fitted in each of {len(seen['best_axes'])} {case.group}s by itself, the directions agree to a "
                "correlation of "
                f"{number(least)} to {number(most)} (median {number(float(np.median(seen['agreements'])))}), use "
                f"{min(seen['in_use']):.0f} to "
                f"{max(seen['in_use']):.0f} axes each, and the {case.group}s have {same}: {_verdict(seen, len(axes))}",
                rests,
            )
        )
        for group, best in seen["best_axes"].items():
            lines.append(
                [words, group, best, number(seen["best_r"][group]), f"{seen['in_use_by'][group]:.0f}", number(seen["with_others"][group])]
            )
    digests = sorted(result.digest for result in results)
    frame = pd.DataFrame(rows)
    found.notes.append(
        f"{case.title}: {len(results):,} cells over {len(folds)} folds ({case.group}s held out), {len(bench.source.units().frame):,} units."
    )
    found.figures.append(
        Figure(
            f"{case.key}-probes",
            f"{case.title}: what a linear probe reads",
            "R² of a ridge over all 64 axes and of one over the axis that goes best with the target in its own training labels. "
            "Bars are 95 % intervals over test blocks.",
            [by_category(frame, title=case.title, axis="R²")],
            frame,
            digests,
        )
    )
    head = ["Signal", case.group.title(), "Best axis", "#|r| of it", "#Axes in use", "#Agreement with the other groups"]
    found.tables.append(
        Table(f"{case.key}-directions", f"{case.title}: directions of each {case.group}", head, lines, pd.DataFrame(lines, columns=head))
    )
    if directly["canonical"]:
        _canonical(case, directly["canonical"], found, digests)


def _verdict(seen: dict[str, Any], axes: int) -> str:
    """What the stability allows to say."""
    stable = min(seen["agreements"]) > STABLE
    if axes > 1:
        return (
            "no axis is this signal's band, and the direction is "
            f"{'much the same everywhere (every pair above .5)' if stable else 'another one from place to place (some pair below .5)'}."
        )
    return f"one axis leads everywhere, beside {max(seen['in_use']):.0f} that share in it; a lead is not a band."


def _canonical(case: Case, rows: list[dict[str, Any]], found: Findings, digests: list[str]) -> None:
    """Canonical correlations in the groups that gave the weights and in the one that did not."""
    frame = pd.DataFrame(rows)
    drawn = []
    for component, part in frame.groupby("component"):
        for name in ("inside", "held out"):
            values = part[name].to_numpy()
            drawn.append(
                {
                    "category": f"pair {component}",
                    "series": f"{name}: mean and range over {case.group}s",
                    "value": float(values.mean()),
                    "low": float(values.min()),
                    "high": float(values.max()),
                }
            )
    first = frame[frame["component"] == 1]
    found.claims.append(
        Claim(
            f"{case.title}: the first canonical correlation of the embedding with {' and '.join(case.signals)} is "
            f"{number(first['inside'].mean())} where "
            f"its weights were found and {number(first['held out'].mean())} {bracket(first['held out'].min(), first['held out'].max())} "
            "(mean and range) "
            f"in a {case.group} they never saw.",
            tuple(digests),
        )
    )
    shown = pd.DataFrame(drawn)
    found.figures.append(
        Figure(
            f"{case.key}-canonical",
            f"{case.title}: canonical correlations, and how they travel",
            f"Weights found in all {case.group}s but one; bars are the range over the {case.group}s, not an interval. Computed from the "
            "table itself; "
            "the cells listed are the probes over the same units.",
            [by_category(shown, title=case.title, axis="correlation")],
            frame,
            digests,
        )
    )


def _directly(source: Any, case: Case, group: str) -> dict[str, Any]:
    """Directions of each group, how alike they are, and canonical correlations; from the table, whose digest the cells carry."""
    _, X = source.features("alphaearth")
    names, frame = source.features("alphaearth")[0], source.units().frame
    groups = frame[source.card.group_column(group)].to_numpy()
    labels = {signal: source.labels(signal).reindex(frame["unit_id"]).to_numpy(dtype=float) for signal in case.signals}
    known = np.isfinite(X).all(1) & np.all([np.isfinite(values) for values in labels.values()], axis=0)
    X, groups = np.asarray(X[known], dtype=np.float64), groups[known]
    centre, spread = X.mean(0), np.maximum(X.std(0), 1e-9)
    covariance = np.cov(((X - centre) / spread).T)
    there = [value for value in dict.fromkeys(groups) if (groups == value).sum() >= 60]
    seen: dict[str, Any] = {}
    for signal, values in labels.items():
        y = values[known]
        found = {value: direction(X[groups == value], y[groups == value], centre, spread) for value in there}
        single = {value: correlations(X[groups == value], y[groups == value]) for value in there}
        pairs = {(a, b): agreement(found[a], found[b], covariance) for i, a in enumerate(there) for b in there[i + 1 :]}
        seen[signal] = {
            "agreements": list(pairs.values()) or [1.0],
            "with_others": {value: float(np.mean([r for pair, r in pairs.items() if value in pair] or [np.nan])) for value in there},
            "best_axes": {value: names[int(np.argmax(np.abs(r)))] for value, r in single.items()},
            "best_r": {value: float(np.abs(r).max()) for value, r in single.items()},
            "in_use": [axes_in_use(weights) for weights in found.values()],
            "in_use_by": {value: axes_in_use(weights) for value, weights in found.items()},
        }
    rows = []
    if len(labels) > 1 and len(there) > 1:
        Y = np.column_stack([values[known] for values in labels.values()])
        for value in there:
            inside = groups != value
            a, b, found_r = canonical(X[inside], Y[inside])
            away = held_out_correlations(X[~inside], Y[~inside], (a, b))
            rows += [{"component": i + 1, group: value, "inside": found_r[i], "held out": away[i]} for i in range(len(found_r))]
    return {"signals": seen, "canonical": rows}


def _cells(bench: Any, case: Case, split: str, folds: list[str], budget: str, seeds: range) -> list[Own]:
    """Probe and best axis for every signal, fold and seed, made here: no registry knows the second."""
    card = model_card(PROBE, bench.card)

    def make(cell: Cell) -> tuple[Any, Any]:
        chosen = (
            BestAxis("alphaearth", "ridge", card=card.model_copy(update={"name": AXIS}), seed=cell.seed)
            if cell.model == AXIS
            else bench.model(cell)
        )
        return chosen, bench.data(cell)

    return [
        (Cell(task=bench.card.name, target=signal, split=split, fold=fold, model=name, budget=budget, seed=seed), make)
        for signal in case.signals
        for fold in folds
        for seed in seeds
        for name in (PROBE, AXIS)
    ]


def _written(setting: Setting, case: Case) -> tuple[Path, Path]:
    """A regression card over the signals, and the folder of its table."""
    real = setting.folder(case.folder) if case.folder else None
    source = example_card(case.card) if real else setting.simulated(case.card, size="tiny" if setting.quick else "small")
    card = TaskCard.load(source)
    folder = real or source.parent
    if case.made or case.where:
        folder = setting.store / "data" / f"directions-{case.key}-{source.parents[1].name}"
        _write_table(card, source.parent, folder, case)
    changed = {
        "kind": "regression",
        "name": f"directions-{case.key}",
        "title": f"{case.title}: {', '.join(case.signals.values())}",
        "targets": list(case.signals),
        "classes": None,
        "class_names": None,
        "features": {"alphaearth": card.features["alphaearth"]},
        "tiers": {},
        "never_features": [],
        "files": ["table.csv"] if case.made or case.where else card.files,
        "splits": [f"leave-{case.group}-out"],
        "budgets": ["full"],
        "main_metric": "r2",
        "fairness_groups": [],
    }
    return setting.card(card, **changed), folder


def _write_table(card: TaskCard, source: Path, folder: Path, case: Case) -> None:
    if (folder / "table.csv").is_file():
        return
    table = pd.concat([pd.read_csv(path) for pattern in card.files for path in sorted(source.glob(pattern))], ignore_index=True)
    for column, values in case.where.items():
        table = table[table[column].astype(str).isin(values)]
    made = pd.DataFrame({name: table[plus] - table[minus] for name, (plus, minus) in case.made.items()}, index=table.index)
    table = pd.concat([table, made], axis=1)
    folder.mkdir(parents=True, exist_ok=True)
    table.drop(columns=[".geo"], errors="ignore").to_csv(folder / "table.csv", index=False)


STUDY = Study(
    "directions",
    "Which directions of the embedding carry phenology, severity, texture?",
    "Is there a direction of the 64 axes that carries a signal, is it the same from place to place, and is any single axis a "
    "physical band?",
    "A linear probe (ridge over all 64 axes) against the best single axis, chosen on the same training labels; both tested in groups that "
    "train and in a "
    "group held out. Beside it, from the table itself: the direction fitted in each group alone and how well two groups' directions agree "
    "on the same "
    "units; how many axes each uses; and the canonical correlation of the embedding with the signals, where its weights were found and "
    "where not.",
    3,
    ("aef_landcover",),
    "simulated phenology and severity; radar has no stand-in",
    (
        "A direction that carries a signal is a fact about these units: the axes of the embedding have no meaning one by one, and nothing "
        "here makes an "
        "axis a physical band.",
        "Radar backscatter stands for texture and structure; AlphaEarth was trained with Sentinel-1, so it has seen the like.",
        "Phenology and severity are simulated, and so is their embedding: they show the method.",
        "Agreements and canonical correlations carry ranges over groups, not intervals: there are too few groups for one.",
    ),
    run,
)
