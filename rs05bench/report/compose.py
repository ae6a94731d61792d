"""What a section of the report shows: its figures, each with numbers and cells, and its tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from rs05bench.experiment.results import results_table
from rs05bench.protocol.metrics import ClusterConfusion
from rs05bench.protocol.splits import Split
from rs05bench.report import data, failure_panels, failures, figures
from rs05bench.report.answer import Answer, answer
from rs05bench.report.drawing import Figure, csv_link
from rs05bench.report.evidence import ELSEWHERE, HOME, Key, gather
from rs05bench.report.facts import facts
from rs05bench.report.loading import Section
from rs05bench.report.maps import SIDE, View, group_outlines, half_width
from rs05bench.report.sources import sources
from rs05bench.report.style import bracket, metric_name, number, seconds, split_title

MOST_MAPS = 12
LEAST_ON_A_MAP = 5
"""A group of fewer places gets no map of its own."""
SPREAD_OUT = 12.0
"""Groups are mapped apart when the whole is this many times wider than they are: as dots on one map they would be invisible."""


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        key: Name of its file and anchor.
        title: What it holds.
        head: Column titles; those that start with `#` hold numbers.
        rows: Text to show.
        frame: The full numbers, its CSV.
    """

    key: str
    title: str
    head: list[str]
    rows: list[list[str]]
    frame: pd.DataFrame

    @property
    def link(self) -> str:
        """The whole table as CSV."""
        return csv_link(self.frame, f"figures/{self.key}.csv")


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix as text.

    Attributes:
        title: What it is of.
        classes: Names of the classes.
        rows: True class, the share predicted as each class, and how many are labelled so.
    """

    title: str
    classes: list[str]
    rows: list[tuple[str, list[str], str]]

    @classmethod
    def of(cls, counts: ClusterConfusion, names: Sequence[str], title: str) -> Confusion:
        """From counts by cluster."""
        matrix = np.asarray(counts.counts, dtype=np.float64).sum(0)
        rows = []
        for name, row in zip(names, matrix, strict=True):
            total = row.sum()
            rows.append((str(name), [number(value / total) if total else "–" for value in row], f"{total:,.0f}"))
        return cls(title, [str(name) for name in names], rows)


@dataclass(frozen=True)
class Chapter:
    """A section, ready to be set.

    Attributes:
        section: What it is about.
        answer: What a person repeats of it.
        facts: What else to know.
        overview: Scores of the best model of each tier at the lead budget, in both roles.
        overview_digests: The cells of those scores.
        tiers: Tier -> models shown.
        figures: Name of the part of the page -> its figures.
        worst: Worst regions, or None.
        confusion: What is taken for what by the leader; None for a regression.
        per_class: Scores of each class; None for a regression.
        tables: Summary and cells.
        notes: What could not be shown, and why.
        sources: Where every number comes from, a few words and a sentence each.
    """

    section: Section
    answer: Answer
    facts: list[tuple[str, str]]
    overview: pd.DataFrame
    overview_digests: list[str]
    tiers: dict[str, str]
    figures: dict[str, list[Figure]]
    worst: Table | None
    confusion: Confusion | None
    per_class: Table | None
    tables: list[Table]
    notes: list[str] = field(default_factory=list)
    sources: list[tuple[str, str]] = field(default_factory=list)

    @property
    def all_tables(self) -> list[Table]:
        """Every table, for its file."""
        return [*self.tables, *(table for table in (self.worst, self.per_class) if table is not None)]


def compose(section: Section) -> Chapter:
    """Computes everything a section shows."""
    study = data.Study(section, gather(section))
    dropped = data.drops(study)
    leaders = data.leads(study)
    cells = results_table(section.results, section.costs)
    notes: list[str] = []
    shown: dict[str, list[Figure]] = {
        "curves": curve_figures(study),
        "drop": drop_figures(study, dropped),
        "cost": cost_figures(study),
        "map": [],
        "calibration": [],
        "groups": [],
    }
    worst = None
    if leaders:
        model = leaders[-1].model
        errors = failures.unit_errors(study, model)
        shown["map"] = map_figures(study, errors, dropped, model)
        if section.labels is None:
            notes.append(_about_chips(study))
        elif not shown["map"]:
            notes.append("No map: these units have no coordinates, only groups.")
        worst = worst_table(study, model, dropped)
        shown["calibration"] = calibration_figures(study)
        shown["groups"] = group_figures(study)
    table = data.summary_table(study, dropped, cells)
    return Chapter(
        section,
        answer(study, leaders),
        facts(study, leaders, dropped),
        *_overview(study),
        study.representatives,
        shown,
        worst,
        *_classes(study, leaders),
        [summary_of(section, table), cells_of(section, cells)],
        notes,
        sources(study),
    )


def _overview(study: data.Study) -> tuple[pd.DataFrame, list[str]]:
    table, section = study.estimates, study.section
    split, budget = section.lead_split or section.splits[0], study.lead_budget
    rows = table[(table["split"] == split) & table["model"].isin(study.representatives.values())]
    if budget is not None:
        rows = rows[rows["budget"] == budget]
    keys = [Key(split, str(model), str(size)) for model, size in set(zip(rows["model"], rows["budget"], strict=True))]
    return rows.reset_index(drop=True), _digests(study, keys)


def _classes(study: data.Study, leaders: list[data.Lead]) -> tuple[Confusion | None, Table | None]:
    """The confusion matrix and the classes of the leader, held out."""
    counts = failures.confusion(study, leaders[-1].model) if leaders else None
    if counts is None:
        return None, None
    frame = failures.per_class(counts, study.class_names or counts.classes)
    rows = [
        [str(r["class"]), f"{r['labelled']:,.0f}", *(number(r[c]) for c in ("precision", "recall", "f1", "iou"))]
        for _, r in frame.iterrows()
    ]
    table = Table(
        f"{study.section.key}-classes",
        "Scores per class, held out",
        ["Class", "#Labelled", "#Precision", "#Recall", "#F1", "#IoU"],
        rows,
        frame,
    )
    return Confusion.of(counts, study.class_names or counts.classes, f"{leaders[-1].model}, held out"), table


def _about_chips(study: data.Study) -> str:
    """Where more can be seen of chips, or why not all is shown."""
    see = "Chips with truth, prediction and error side by side, and maps for QGIS: rs05bench errors RUNS --data DIR --out DIR."
    if not study.evidence.pool.points:
        return f"These results keep no sums per test block (an earlier version wrote them), so they have no intervals. {see}"
    return see


def _digests(study: data.Study, keys: Iterable[Key]) -> list[str]:
    return sorted({result.digest for key in keys for result in study.evidence.cells.get(key, [])})


def curve_figures(study: data.Study) -> list[Figure]:
    """Few-shot curves, one figure a main split: at home and held out beside each other, on one scale."""
    section, metric = study.section, study.section.metric
    made = []
    for split in sorted(section.main_splits, key=lambda name: name != section.lead_split):
        best = data.best_of_tier(section, study.estimates, split)
        models = {model: tier for tier, model in best.items()}
        rows = study.estimates[(study.estimates["split"] == split) & study.estimates["model"].isin(models)]
        domain = _roomy(rows, metric)
        sanity = _sanity(study, split, models)
        panels = []
        for role, title in ((HOME, "At home"), (ELSEWHERE, "Held out")):
            part = rows[rows["role"] == role]
            if part.empty:
                continue
            subtitle = _role_words(split, role)
            panels.append(
                figures.curve_panel(part, models, title, subtitle, domain, metric, section.labels_word, sanity if role == HOME else None)
            )
        if not panels:
            continue
        cut = metric == "r2" and bool((rows["value"] < figures.LOWEST_R2).any())
        caption = (
            f"{metric_name(metric)} by {section.labels_word} used: each tier's best model (the table has all). "
            "Bands are 95 % intervals over groups." + (" R² below −1 is cut off." if cut else "") + _interval_note(rows)
        )
        made.append(
            Figure(
                f"{section.key}-curves-{split}",
                f"Few-shot curves: {split_title(split).lower()}",
                caption,
                panels,
                rows,
                _digests(study, [Key(split, model, budget) for model in models for budget in section.budgets[split]]),
                300,
                models=models,
            )
        )
    return made


def _roomy(rows: pd.DataFrame, metric: str) -> list[float]:
    """Ends of an axis: all scores, and their intervals as far as those do not flatten the picture."""
    low, high = figures.score_domain(rows["value"], metric)
    reach = 0.35 * (high - low)
    ends = [*rows["low"].clip(lower=low - reach), *rows["high"].clip(upper=high + reach)]
    return figures.score_domain([*rows["value"], *ends], metric)


def _sanity(study: data.Study, split: str, models: dict[str, str]) -> pd.DataFrame | None:
    """The best of the shown models under a random split, for comparison on the lead split only."""
    table = study.estimates
    rows = table[(table["split"] == "random") & (table["role"] == HOME) & table["model"].isin(models)]
    if split != study.section.lead_split or rows.empty:
        return None
    best = rows.groupby("labels")["value"]
    return (best.max() if study.section.higher_is_better else best.min()).reset_index()


def _role_words(split: str, role: str) -> str:
    rule = Split(split).rule
    return rule.home if role == HOME else rule.held_out


def _interval_note(rows: pd.DataFrame) -> str:
    notes = list(dict.fromkeys(note for note in rows["note"] if note))
    return f" {notes[0]}" if notes else ""


def drop_figures(study: data.Study, dropped: pd.DataFrame) -> list[Figure]:
    """The drop on the same ground under the lead split: a panel a tier, a slope a region."""
    section, split, budget = study.section, study.section.lead_split, study.lead_budget
    if dropped.empty or split is None:
        return []
    models = study.representatives
    rows = dropped[(dropped["split"] == split) & (dropped["budget"] == budget) & dropped["model"].isin(models.values())]
    if rows.empty:
        return []
    domain = figures.score_domain([*rows["home"], *rows["held_out"]], section.metric)
    panels = [
        figures.slope_panel(rows[rows["model"] == model], tier, domain, section.metric)
        for tier, model in models.items()
        if (rows["model"] == model).any()
    ]
    labels = study.estimates[(study.estimates["split"] == split) & (study.estimates["budget"] == budget)]["labels"].iloc[0]
    caption = (
        f"The same test blocks, scored with labels of their region in training and without ({labels:.0f} {section.labels_word}). "
        "A thin line is a region; the three that fall most are named. The thick line is the mean over them."
        + (" R² below −1 is cut off." if section.metric == "r2" and bool((rows["held_out"] < figures.LOWEST_R2).any()) else "")
    )
    return [
        Figure(
            f"{section.key}-drop",
            "Drop on the same ground",
            caption,
            panels,
            rows,
            _digests(study, [Key(split, model, str(budget)) for model in models.values()]),
            290,
        )
    ]


def cost_figures(study: data.Study) -> list[Figure]:
    """Cost against held-out score."""
    section = study.section
    frame = data.costs(study)
    if frame.empty or frame["fit_s"].notna().sum() == 0:
        return []
    alone = bool(frame["alone"].all())
    how = "Measured alone in a fresh process." if alone else "Measured beside other cells, so only roughly comparable."
    hardware = next((text for text in frame["hardware"] if text), "")
    caption = (
        f"Every model with {frame['labels'].iloc[0]:.0f} {section.labels_word}; bars are 95 % intervals. The line is the frontier: "
        f"no cheaper model is better, so {'up' if section.higher_is_better else 'down'} and left is where to be. "
        f"{how}"
        + (" Less than a millisecond is drawn as one." if (frame["fit_s"] < figures.SHORTEST_S).any() else "")
        + (f" {hardware}." if hardware else "")
    )
    panel = figures.cost_panel(frame, section.metric)
    keys = [Key(str(section.lead_split), model, str(study.lead_budget)) for model in frame["model"]]
    return [Figure(f"{section.key}-cost", "Cost against held-out score", caption, [panel], frame, _digests(study, keys), 340)]


def map_figures(study: data.Study, errors: pd.DataFrame, dropped: pd.DataFrame, model: str) -> list[Figure]:
    """Where the leader fails: a map a region where regions lie far apart, else one map."""
    section = study.section
    placed = errors.dropna(subset=["lon", "lat"]) if not errors.empty else errors
    if placed.empty:
        return []
    regression = section.card.kind == "regression"
    top = 1.0 if not regression else float(np.quantile(placed["error"], 0.95)) or 1.0
    chips = section.labels is None
    unit = "mean absolute error" if regression else "share of pixels wrong" if chips else "share wrong"
    column = _compact_group(placed, [name for name in section.card.groups if name in placed])
    if column is not None:
        means = placed.groupby(column)["error"].mean().sort_values(ascending=False)
        parts = {value: placed[placed[column] == value] for value in means.index[:MOST_MAPS]}
        reach = float(np.quantile([half_width(rows["lon"], rows["lat"]) for rows in parts.values()], 0.75))
        panels = []
        for value, rows in parts.items():
            view = View.around(rows["lon"], rows["lat"], 1.1 * max(reach, half_width(rows["lon"], rows["lat"])))
            panels.append(failure_panels.error_map(rows, str(value), f"{unit} {number(means[value])}", top, view))
    else:
        error = f"{unit} {number(float(placed['error'].mean()))}"
        outlines = group_outlines(placed, "held_region")
        panels = [failure_panels.error_map(placed, model, error, top, View.around(placed["lon"], placed["lat"]), outlines)]
    word = column.replace("_", " ") if column else ""
    some = f" The {len(panels)} worst of {len(means)} are drawn." if column is not None and len(means) > MOST_MAPS else ""
    places = "on each test block" if chips else "at each place"
    caption = (
        f"Held-out error of {model} {places}, over seeds{' and years' if section.card.year else ''}: light is right, dark is wrong"
        f"{f' (darkest: {top:.2g} and more)' if regression else ''}.{f' A map a {word}, the worst first.' if word else ''}{some}"
    )
    keys = [Key(str(section.lead_split), model, str(study.lead_budget))]
    return [
        Figure(
            f"{section.key}-map",
            "Errors on the map",
            caption,
            panels,
            errors,
            _digests(study, keys),
            SIDE,
            legend=ramp_words(top, regression=regression),
            fixed=True,
        )
    ]


def _compact_group(placed: pd.DataFrame, columns: Sequence[str]) -> str | None:
    """The group column whose values are the smallest patches, where patches lie so far apart that one map would show dots; else None."""
    whole = half_width(placed["lon"], placed["lat"])
    widths = {
        column: float(np.median([half_width(rows["lon"], rows["lat"]) for _, rows in placed.groupby(column)]))
        for column in columns
        if 2 <= placed[column].nunique() <= 2 * MOST_MAPS and placed[column].value_counts().median() >= LEAST_ON_A_MAP
    }
    best = min(widths, key=lambda column: widths[column], default=None)
    return best if best is not None and whole > SPREAD_OUT * widths[best] else None


def ramp_words(top: float, *, regression: bool) -> list[tuple[str, str]]:
    """The colours of an error map, a few steps of them, each with its words."""
    steps = [top * share / (len(figures.ERROR_RAMP) - 1) for share in range(len(figures.ERROR_RAMP))]
    words = [f"{value:.2g}" for value in steps]
    words[0], words[-1] = ("right" if not regression else "0"), (f"{words[-1]} and more" if regression else "all wrong")
    return list(zip(words, figures.ERROR_RAMP, strict=True))


def worst_table(study: data.Study, model: str, dropped: pd.DataFrame) -> Table | None:
    """The worst regions of the leader."""
    frame = failures.worst_regions(study, model, dropped)
    if frame.empty:
        return None
    name = metric_name(study.section.metric)
    mistake = "Predictions are" if study.section.card.kind == "regression" else "Usual mistake"
    units = "#Chips" if study.section.labels is None else "#Units"
    rows = [
        [str(r["region"]), f"{r['units']:,}", number(r["held_out"]), number(r["home"]), number(r["drop"]), str(r["usual_mistake"])]
        for _, r in frame.head(8).iterrows()
    ]
    title = "The worst regions" if len(frame) > len(rows) else "Regions, worst first"
    return Table(f"{study.section.key}-regions", title, ["Region", units, f"#{name} held out", "#at home", "#drop", mistake], rows, frame)


def calibration_figures(study: data.Study) -> list[Figure]:
    """Is its confidence worth its name?"""
    section = study.section
    frame = failures.calibration(study)
    if frame.empty:
        return []
    regression = section.card.kind == "regression"
    panel = failure_panels.coverage_panel if regression else failure_panels.reliability_panel
    drawn = frame if regression else frame[frame["predictions"] >= 20]
    panels = [panel(rows, tier) for tier in study.representatives if not (rows := drawn[drawn["tier"] == tier]).empty]
    if not panels:
        return []
    caption = (
        "Share of truth inside the 90 % interval; the grey line is where it should be. Solid: at home. Dashed: held out."
        if regression
        else "On the grey line, a model that says 80 % is right 80 % of the time; below it, it is too sure of itself. "
        "Solid: at home. Dashed: held out. Bins of fewer than 20 predictions are not drawn."
    )
    budgets = section.budgets[str(section.lead_split)] if regression else [str(study.lead_budget)]
    keys = [Key(str(section.lead_split), model, budget) for model in study.representatives.values() for budget in budgets]
    title = "Do its intervals hold what they promise?" if regression else "How sure it was, and how often it was right"
    return [Figure(f"{section.key}-calibration", title, caption, panels, frame, _digests(study, keys), 250)]


def group_figures(study: data.Study) -> list[Figure]:
    """Held-out scores by group."""
    section = study.section
    frame = failures.group_scores(study)
    if frame.empty:
        return []
    domain = _roomy(frame, section.metric)
    caption = (
        f"{metric_name(section.metric)} held out, by group: each tier's best model with the largest budget. "
        "Bars are 95 % intervals, cut where they leave the picture."
    )
    keys = [Key(str(section.lead_split), model, str(study.lead_budget)) for model in study.representatives.values()]
    digests = _digests(study, keys)
    return [
        Figure(
            f"{section.key}-groups-{column}",
            f"By {str(column).replace('_', ' ')}",
            caption,
            [failure_panels.group_panel(rows, str(column), domain, section.metric)],
            rows,
            digests,
            80 + rows["group"].nunique() * (9 * rows["model"].nunique() + 9),
        )
        for column, rows in frame.groupby("column", sort=False)
    ]


def summary_of(section: Section, table: pd.DataFrame) -> Table:
    """The section's table, a row a split, model and budget."""
    name = metric_name(section.metric)
    columns = {"ece_ood": "#ECE held out", "coverage90_ood": "#coverage held out", "fit_s": "#fit", "peak_memory_mb": "#memory MiB"}
    extra = [column for column in columns if column in table.columns]
    head = [
        "Split",
        "Tier",
        "Model",
        "#Labels",
        f"#{name} at home",
        f"#{name} held out",
        "#Drop, same ground",
        *(columns[c] for c in extra),
    ]
    rows = []
    for _, r in table.iterrows():
        row = [r["split"], r["tier"], r["model"], f"{r['labels']:.0f}" if r["labels"] == r["labels"] else "–"]
        row += [_cell(r, what) for what in ("home", "held_out", "drop")]
        row += [seconds(r[c]) if c == "fit_s" else number(r[c], 0 if c == "peak_memory_mb" else 2) for c in extra]
        rows.append([str(value) for value in row])
    return Table(f"{section.key}-summary", "All models", head, rows, table)


def _cell(row: pd.Series, what: str) -> str:
    if what not in row or row[what] != row[what]:
        return "–"
    return f"{number(row[what])} {bracket(row.get(f'{what}_low', np.nan), row.get(f'{what}_high', np.nan))}".rstrip()


def cells_of(section: Section, cells: pd.DataFrame) -> Table:
    """A row a cell, with its digest."""
    name, metric = metric_name(section.metric), section.metric
    head = ["Split", "Fold", "Model", "Budget", "#Seed", f"#{name} at home", f"#{name} held out", "#Drop", "Cell"]
    wanted = ["split", "fold", "model", "budget", "seed"]
    numbers = [f"{metric}_id", f"{metric}_ood", f"{metric}_drop"]
    rows = [
        [*(str(r[c]) for c in wanted), *(number(r[c], 3) if c in cells.columns else "–" for c in numbers), r["digest"][:12]]
        for _, r in cells.iterrows()
    ]
    return Table(f"{section.key}-cells", "All cells", head, rows, cells)


def all_figures(chapters: Sequence[Chapter]) -> list[Figure]:
    """Every figure of the page."""
    return [figure for chapter in chapters for part in chapter.figures.values() for figure in part]
