"""When does a local model of 50 labels beat a transferred one?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rs05bench.experiment.gridfile import GridFile
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.report.compose import Table
from rs05bench.report.drawing import Figure
from rs05bench.report.style import metric_name, number, with_interval
from rs05bench.studies.evidence import Side, difference, score
from rs05bench.studies.pictures import along, by_category, row
from rs05bench.studies.record import Claim, Findings, Study, compared, tally
from rs05bench.studies.setting import Setting, example_card

ASKED = "50-units"


@dataclass(frozen=True)
class Case:
    """One data set.

    Attributes:
        key: Name of its figures.
        title: What it is.
        folder: Folder of its real data; empty for simulated ones.
        card: Example card, or simulated task.
        group: What is local: a region, a state.
        models: Models.
        local: Budgets of the local model.
        transferred: Budgets of the transferred model.
        extra: Labels (a class, or in all) of the `+k` form; 0 where the held-out fold is wider than the small area.
    """

    key: str
    title: str
    folder: str
    card: str
    group: str
    models: tuple[str, ...]
    local: tuple[str, ...]
    transferred: tuple[str, ...]
    extra: int = 0

    @property
    def at_home(self) -> str:
        """The split of the small area itself."""
        return f"within-{self.group}"

    @property
    def away(self) -> str:
        """The split that holds the small area out."""
        return f"leave-{self.group}-out"


LANDCOVER = ("alphaearth/logistic", "hybrid/logistic", "raw/logistic")
REAL = (
    Case(
        "landcover",
        "Land cover of points, four regions",
        "aef_landcover",
        "aef_landcover",
        "region",
        LANDCOVER,
        ("20-units", ASKED, "100-units", "200-units"),
        (ASKED, "200-units", "full"),
        extra=5,
    ),
    Case(
        "income",
        "Median income of counties, ten states",
        "aef_counties",
        "aef_counties_income",
        "state",
        ("alphaearth/ridge",),
        ("20-units", ASKED, "100-units"),
        (ASKED, "200-units", "full"),
    ),
)
STAND_IN = Case("crop", "Crops of parcels", "", "crop", "state", LANDCOVER[:2], ("20-units", ASKED, "100-units"), (ASKED, "full"), extra=5)


def run(setting: Setting) -> Findings:
    """Runs the grids and reads what came out."""
    found = Findings()
    cases = [case for case in REAL if setting.folder(case.folder)]
    if not cases:
        cases = [STAND_IN]
        found.notes.append("No real data are at hand: simulated crop parcels stand in.")
    if setting.quick:
        cases = cases[:1]
    for case in cases:
        _case(setting, case, found)
    return found


def _case(setting: Setting, case: Case, found: Findings) -> None:
    results = []
    for grid in _grids(setting, case):
        results += setting.sweep(grid)
    found.take(results)
    pool = Pool.of(results)
    first = results[0]
    base = Point(first.cell.task, first.cell.target, case.away, case.models[0], "full")
    metric = metric_name(pool.metric(next(iter(pool.points))))
    seeds = len({result.cell.seed for result in results})
    folds = {split: len({r.cell.fold for r in results if r.cell.split == split}) for split in (case.at_home, case.away)}
    found.notes.append(
        f"{case.title}: {len(results):,} cells, {seeds} seeds; {folds[case.at_home]} small areas ({case.group}s) and "
        f"{folds[case.away]} folds "
        f"that hold {case.group}s out. A score is over the small areas' fixed test blocks, the same for every model."
    )
    models = [model for model in case.models if any(result.cell.model == model for result in results)]
    tiers = {result.cell.model: result.model.tier for result in results}
    claims, gains = [], []
    for model in models:
        local = [base._replace(split=case.at_home, model=model, budget=budget) for budget in case.local]
        away = [base._replace(model=model, budget=budget) for budget in case.transferred]
        points = [(point, Side.of(point, "test_ood"), f"transferred with {_words(point.budget)}") for point in away]
        if case.extra:
            with_extra = base._replace(split=f"{case.away}+{case.extra}", model=model)
            points.append((with_extra, Side.of(with_extra, "test_ood"), f"transferred with all labels and {case.extra} a class from here"))
        for other, side, words in points:
            for here in local:
                compare = difference(pool, Side.of(here, "test_id"), side)
                if compare is None:
                    continue
                effect, digests = compare
                gains.append(
                    row(effect, model=model, local=here.budget, labels=pool.labels(here), transferred=words)
                    | {"series": words, "x": pool.labels(here), "digests": digests}
                )
                if here.budget == ASKED and other.budget in ("full", ASKED):
                    claims.append((model, words, compared(effect, digests, **_sentences(case, model, words))))
    against = [claim for _, words, claim in claims if words == f"transferred with {_words('full')}"]
    if against:
        about = f"{case.title}, 50 local labels against all labels from elsewhere"
        found.claims.append(tally(against, about, "the local model is better", "the transferred one is better"))
    found.claims += _order(claims, models)
    found.claims += _crossings(case, models, gains)
    if not gains:
        return
    frame = pd.DataFrame(gains)
    rests = sorted({digest for entry in gains for digest in entry["digests"]})
    found.figures += [
        _scores(case, pool, base, models, tiers, metric),
        Figure(
            f"{case.key}-gain",
            f"{case.title}: local minus transferred",
            f"{metric} of the local model minus that of the transferred one, on the same test blocks; above zero the local model "
            "is better. "
            "Bands are 95 % intervals over test blocks and seeds.",
            [
                along(
                    frame[frame["model"] == model],
                    title=model,
                    axis=f"difference in {metric}",
                    x_title="labels of the local model",
                    zero=True,
                )
                for model in models
            ],
            frame.drop(columns="digests"),
            rests,
        ),
    ]
    head = ["Model", "#Local labels", "Against", f"#Local minus transferred ({metric})"]
    rows = [
        [entry["model"], number(entry["labels"], 0), entry["transferred"], with_interval(entry["value"], entry["low"], entry["high"])]
        for entry in gains
    ]
    found.tables.append(
        Table(f"{case.key}-differences", f"{case.title}: local minus transferred", head, rows, frame.drop(columns="digests"))
    )


def _grids(setting: Setting, case: Case) -> list[GridFile]:
    folder = setting.folder(case.folder) if case.folder else None
    card = example_card(case.card) if folder else setting.simulated(case.card)
    quick = setting.quick
    common = {
        "kind": "grid",
        "models": list(case.models[:1] if quick else case.models),
        "seeds": [0] if quick else list(range(5)),
    }
    entry = {"card": str(card), "data": str(folder or card.parent)}
    local = list(case.local[1:2] if quick else case.local)
    away = [*case.transferred[-1:]] if quick else list(case.transferred)
    grids = [
        {**common, "splits": [case.at_home], "budgets": local, "tasks": [entry]},
        {**common, "splits": [case.away], "budgets": away, "tasks": [entry]},
    ]
    if case.extra and not quick:
        grids.append({**common, "splits": [f"{case.away}+{case.extra}"], "budgets": ["full"], "tasks": [entry]})
    return [GridFile.model_validate(grid) for grid in grids]


def _sentences(case: Case, model: str, words: str) -> dict[str, str]:
    here = f"{case.title}, {model}: a local model of 50 labels"
    return {
        "above": f"{here} beats the one {words} by {{size}}",
        "below": f"{here} falls behind the one {words} by {{size}}",
        "unclear": f"{here} and the one {words} cannot be told apart",
    }


def _order(claims: list[tuple[str, str, Claim]], models: list[str]) -> list[Claim]:
    """Against all labels from elsewhere first: that is what is at hand when nobody has labelled here."""
    return [claim for _, words, claim in sorted(claims, key=lambda item: ("all labels of the other" not in item[1], models.index(item[0])))]


def _crossings(case: Case, models: list[str], gains: list[dict]) -> list[Claim]:
    """From how many local labels on the local model is surely better than the one transferred with all labels from elsewhere."""
    claims = []
    for model in models:
        curve = [entry for entry in gains if entry["model"] == model and entry["transferred"] == f"transferred with {_words('full')}"]
        if len(curve) < 2:
            continue
        digests = tuple(sorted({digest for entry in curve for digest in entry["digests"]}))
        surely = [entry for entry in curve if entry["low"] > 0]
        tried = ", ".join(f"{entry['labels']:.0f}" for entry in curve)
        if surely:
            least = min(surely, key=lambda entry: entry["labels"])
            text = (
                f"{case.title}, {model}: of {tried} local labels, {least['labels']:.0f} is the fewest whose interval lies above the "
                "transferred model."
            )
        else:
            text = f"{case.title}, {model}: with none of {tried} local labels does the interval lie above the transferred model."
        claims.append(Claim(text, digests))
    return claims


def _scores(case: Case, pool: Pool, base: Point, models: list[str], tiers: Mapping[str, str], metric: str) -> Figure:
    """Scores of local and transferred models on the small areas' test blocks."""
    rows, digests = [], set()
    splits = [case.at_home, case.away, *([f"{case.away}+{case.extra}"] if case.extra else [])]
    for split in splits:
        for budget in case.local if split == case.at_home else case.transferred:
            for model in models:
                point = base._replace(split=split, model=model, budget=budget)
                estimate = score(pool, point, "test_id" if split == case.at_home else "test_ood")
                if estimate is None:
                    continue
                words = "local" if split == case.at_home else "transferred"
                from_here = float(np.mean([cell.budget.get("extra") or 0 for cell in pool.points[point]]))
                more = f", {from_here:.0f} of them from here" if from_here else ""
                labels = f"{pool.labels(point):,.0f} labels"
                rows.append(row(estimate, category=f"{words}, {labels}{more}", series=model, split=split, labels=pool.labels(point)))
                digests |= set(pool.digests(point))
    frame = pd.DataFrame(rows)
    held = (
        " A transferred score is over the test blocks of all folds, a local one over those of the small areas."
        if case.group == "state"
        else ""
    )
    return Figure(
        f"{case.key}-scores",
        f"{case.title}: scores",
        f"{metric} on fixed test blocks; bars are 95 % intervals over blocks and seeds.{held}",
        [by_category(frame, title=case.title, axis=metric, tiers=tiers)],
        frame,
        sorted(digests),
    )


def _words(budget: str) -> str:
    return "all labels of the other places" if budget == "full" else f"{budget.removesuffix('-units')} labels"


STUDY = Study(
    "small-area",
    "A few local labels, or a model from elsewhere?",
    "When does a local model of 50 labels beat a transferred one?",
    "A local model trains, validates and is tested inside one region (`within-<group>`), on buffered blocks. A transferred model never "
    "saw the region "
    "(`leave-<group>-out`), or saw a few labels a class from it (`+k`). Both are scored on the same fixed test blocks of that region, "
    "so their "
    "difference is paired block by block. Budgets count every label that is used, validation included.",
    4,
    ("aef_landcover", "aef_counties"),
    "simulated crop parcels",
    (
        "Land cover: four regions on two continents, far apart and unlike; nearer neighbours would transfer better. Its labels are a "
        "model product "
        "(Dynamic World), balanced by class, which a person's 50 labels would not be.",
        "Income: the held-out fold holds several states, so the transferred model lacks the small area's neighbours too.",
        "With fewer than 20 regions an interval holds for these regions, not for a new one.",
        "Shallow learners only; what a fine-tuned backbone would do with 50 labels is the question of other studies.",
    ),
    run,
)
