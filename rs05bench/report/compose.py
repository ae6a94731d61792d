"""What a section of the report shows: its figures, each with numbers and cells, and its tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from rs05bench.experiment.results import results_table
from rs05bench.experiment.sensitivity import rows
from rs05bench.protocol.splits import Split
from rs05bench.report import data, failure_panels, failures, figures
from rs05bench.report.answer import Answer, answer
from rs05bench.report.drawing import Figure
from rs05bench.report.error_figure import error_figure, of_errors
from rs05bench.report.evidence import ELSEWHERE, HOME, Key
from rs05bench.report.facts import facts
from rs05bench.report.loading import Section
from rs05bench.report.score_sources import sources
from rs05bench.report.style import interval_of, metric_name, number, seconds, split_title
from rs05bench.report.text_tables import ConfusionTable, Table


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
        draws: Scores under other draws of the split, and what the groups can show; empty where it was not run.
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
    confusion: ConfusionTable | None
    per_class: Table | None
    tables: list[Table]
    draws: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sources: list[tuple[str, str]] = field(default_factory=list)

    @property
    def all_tables(self) -> list[Table]:
        """Every table, for its file."""
        return [*self.tables, *self.draws, *(table for table in (self.worst, self.per_class) if table is not None)]


def compose(section: Section) -> Chapter:
    """Computes everything a section shows."""
    study = data.Study(section)
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
    here = data.best_here(study) if study.section.lead_split is None else None
    model = leaders[-1].model if leaders else None if here is None else str(here["model"])
    if model is not None:
        errors = failures.block_errors(study, model)
        shown["map"] = map_figures(study, errors, model)
        if not shown["map"]:
            notes.append("No map: these units have no coordinates, only groups, or their results keep no sums per test block.")
        notes.append("Every unit on a map, and files for QGIS: rs05bench errors RUNS --out DIR.")
        if leaders:
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
        *_classes(study, model),
        [summary_of(section, table), cells_of(section, cells)],
        sensitivity_of(section),
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


def _classes(study: data.Study, model: str | None) -> tuple[ConfusionTable | None, Table | None]:
    """The confusion matrix and the classes of the best model, held out, or on the test blocks of one area."""
    counts = None if model is None else failures.confusion(study, model)
    if counts is None:
        return None, None
    where = "held out" if study.section.lead_split else "on test blocks of this area"
    frame = failures.per_class(counts, study.class_names or counts.classes)
    rows = [
        [str(r["class"]), f"{r['labelled']:,.0f}", *(number(r[c]) for c in ("precision", "recall", "f1", "iou"))]
        for _, r in frame.iterrows()
    ]
    table = Table(
        f"{study.section.key}-classes",
        f"Scores per class, {where}",
        ["Class", "#Labelled", "#Precision", "#Recall", "#F1", "#IoU"],
        rows,
        frame,
    )
    return ConfusionTable.of(np.asarray(counts.values).sum(0), study.class_names or counts.classes, f"{model}, {where}"), table


def _digests(study: data.Study, keys: Iterable[Key]) -> list[str]:
    return sorted({result.digest for key in keys for result in study.cells(key)})


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


def map_figures(study: data.Study, errors: pd.DataFrame, model: str) -> list[Figure]:
    """Where the leader fails, by test block."""
    placed = errors.dropna(subset=["lon", "lat"]) if not errors.empty else errors
    if placed.empty:
        return []
    groups = [name for name in study.section.card.groups if name in placed]
    digests = _digests(study, [study.lead_key(model)])
    what = f"{'Held-out error' if study.section.lead_split else 'Error'} of {model} on each test block, over seeds"
    measure = of_errors(regression=study.regression)
    return [error_figure(f"{study.section.key}-map", "Errors on the map", what, placed, groups, measure=measure, digests=digests)]


def worst_table(study: data.Study, model: str, dropped: pd.DataFrame) -> Table | None:
    """The worst regions of the leader."""
    frame = failures.worst_regions(study, model, dropped)
    if frame.empty:
        return None
    name = metric_name(study.section.metric)
    mistake = "Predictions are" if study.section.card.kind == "regression" else "Usual mistake"
    units = "#Units"
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
    columns = {
        "ece_debiased_ood": "#ECE held out, debiased",
        "coverage90_ood": "#coverage held out",
        "fit_s": "#fit",
        "peak_memory_mb": "#memory MiB",
    }
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
    return f"{number(row[what])} {interval_of(row, f'{what}_')}".rstrip()


def sensitivity_of(section: Section) -> list[Table]:
    """How far the score moves with the draw of the split, where `card sensitivity --out` kept it, and what the groups can show."""
    found = section.store.sensitivity(section.card.name, section.target)
    if found is None:
        return []
    head = ["Draw of the split", "#Block", "#Groups", f"#{metric_name(found.metric)} of {found.model}", f"#over {found.floor}"]
    drawn = pd.DataFrame(entry.model_dump() for entry in found.variants)
    made = [Table(f"{section.key}-sensitivity", f"Other draws of {split_title(found.split).lower()}", head, rows(found), drawn)]
    power = [entry for entry in found.power if entry.detectable is not None]
    if power:
        body = [[e.first, e.second, f"{e.groups}", number(e.difference), number(e.detectable)] for e in power if e.detectable is not None]
        head = ["First", "Second", "#Groups", "#Difference", "#Shown with 80 % probability"]
        frame = pd.DataFrame(entry.model_dump() for entry in power)
        made.append(Table(f"{section.key}-power", "What these groups can show", head, body, frame))
    return made


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
