"""Where every number of a chapter comes from: definition and paper of each score, how intervals are made, which files lie behind it."""

from __future__ import annotations

from rs05bench.protocol.cell_record import Provenance
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.metrics.declaration import Centre
from rs05bench.report.data import Study
from rs05bench.report.style import metric_name

_INTERVALS: dict[Centre, str] = {
    "mean": "for the mean, by Student's t over groups (with the variation over seeds from three seeds on, two-way clustering, Cameron, "
    "Gelbach & Miller 2011). Fewer than three groups give none.",
    "median": "for the median over groups, by order statistics and the sign test: a few groups lie far below the rest, and no interval for "
    "their mean held as often as it said. Fewer than six groups give none.",
}


def sources(study: Study) -> list[tuple[str, str]]:
    """A few words and a sentence each."""
    section = study.section
    found = [("Data", _data(study))]
    found.append((_capital(metric_name(section.metric)), f"{find_metric(section.metric).source}."))
    least = section.card.about.least_units
    small = f" A group of fewer than {least} test units has no score of its own." if least > 1 else ""
    found.append(
        (
            "Scores",
            f"The mean over groups of the score inside each group, and over seeds.{small} The score of all units pooled is the column "
            "`pooled` of each CSV.",
        )
    )
    found.append(
        (
            "Intervals and p-values",
            f"95 %, {_INTERVALS[find_metric(section.metric).over_groups]} They hold for groups like these, and `new_low`, "
            "`new_high` for one new group with probability `new_level`. A split with one group is resampled by its test blocks, and "
            "its rows say `over = blocks`.",
        )
    )
    found.append(("Leads", "Paired by group and seed; p-values are corrected over all budgets (Holm 1979)."))
    found.append(("Drop", "Inside each group, on the same test units: the score with the group in training minus with it held out."))
    found.append(("Confidence", f"{find_metric(section.card.about.calibration[0]).source}; the curve pools folds and seeds."))
    found.append(("Cost", _cost(study)))
    found.append(("Splits", _splits(study)))
    found.append(("Software", _software(study)))
    return [(word, text) for word, text in found if text]


def _data(study: Study) -> str:
    card, results = study.section.card, study.section.results
    digests = sorted({result.digests["data"][:12] for result in results if "data" in result.digests})
    pinned = f" The data are pinned by SHA-256 {', '.join(digests)}…" if digests else ""
    made = " Simulated." if study.section.simulated else ""
    return f"{card.source or card.name}.{made}{pinned}".strip()


def _cost(study: Study) -> str:
    results = study.section.results
    alone = sum(result.digest in study.section.costs for result in results)
    if alone:
        return f"Measured in a fresh process with nothing beside it for {alone:,} of {len(results):,} cells; the others as they ran."
    return "Wall time of each cell as it ran, beside other cells; the figure says on what."


def _splits(study: Study) -> str:
    named = [f"{manifest.name} ({manifest.digest[:12]}…)" for _, manifest in sorted(study.section.manifests.items())]
    return f"Frozen manifests: {', '.join(named)}." if named else ""


def _software(study: Study) -> str:
    made = sorted({_versions(result.provenance) for result in study.section.results} - {""})
    if len(made) > 3:
        return f"{'; '.join(made[:3])}; and {len(made) - 3} other states. Each result.json names its own."
    return f"{'; '.join(made)}." if made else ""


def _versions(provenance: Provenance) -> str:
    versions, commit = provenance.versions, provenance.commit
    named = [f"{name} {versions[name]}" for name in ("rs05bench", "python", "numpy", "scikit-learn", "torch") if versions.get(name)]
    return ", ".join([*named, *([f"commit {commit[:12]}"] if commit else [])])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text.islower() else text
