"""Where every number of a chapter comes from: definition and paper of each score, how intervals are made, which files lie behind it."""

from __future__ import annotations

from rs05bench.protocol.metrics import METRICS, find_metric
from rs05bench.report.data import DRAWS, Study
from rs05bench.report.style import metric_name


def sources(study: Study) -> list[tuple[str, str]]:
    """A few words and a sentence each."""
    section = study.section
    chips = section.labels is None
    found = [("Data", _data(study))]
    found.append((_capital(metric_name(section.metric)), f"{find_metric(section.metric, METRICS).source}."))
    counted = (
        "the pixel counts that every result keeps for each test block" if chips else "the stored predictions, recomputed while reading"
    )
    found.append(("Scores", f"Pooled over folds, each unit counting once, and averaged over seeds; from {counted}."))
    found.append(
        (
            "Intervals and p-values",
            f"95 %, by resampling whole test blocks: studentised with {DRAWS:,} draws for one or two fits, by Student's t over blocks and "
            "fits for more (two-way clustering, Cameron, Gelbach & Miller 2011) and for few blocks. Which, and over how many blocks and "
            "groups, stands beside each number in its CSV.",
        )
    )
    found.append(("Leads", "Paired: both models are resampled on the same blocks, with the same seeds."))
    found.append(("Drop", "The same test blocks scored with labels of their region in training, minus with their region held out."))
    calibration = "coverage90" if section.card.kind == "regression" else "ece"
    found.append(("Confidence", f"{METRICS[calibration].source}; the curve pools folds and seeds."))
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


def _versions(provenance: dict[str, object]) -> str:
    versions, commit = provenance.get("versions"), provenance.get("commit")
    told = versions if isinstance(versions, dict) else {}
    named = [f"{name} {told[name]}" for name in ("rs05bench", "python", "numpy", "scikit-learn", "torch") if told.get(name)]
    return ", ".join([*named, *([f"commit {str(commit)[:12]}"] if commit else [])])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text.islower() else text
