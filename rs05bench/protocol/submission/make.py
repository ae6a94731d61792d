"""Making a bundle from results: a convenience. The format needs none of this; see docs/submission_format.md."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError

from rs05bench.errors import DataError, SubmissionError
from rs05bench.protocol.documents import read_yaml_mapping
from rs05bench.protocol.hashing import file_digest
from rs05bench.protocol.predictions import PROBABILITY_PREFIX, Predictions
from rs05bench.protocol.result import Cost, ModelCard, Result
from rs05bench.protocol.scoring import TEST_ROLES
from rs05bench.protocol.submission.board import Board
from rs05bench.protocol.submission.schema import FORMAT, FORMAT_VERSION, Submission

REPORTED = ("macro_f1", "balanced_accuracy", "r2", "mae", "miou", "boundary_f1", "ece", "brier", "coverage90")
_COST_FIELDS = tuple(Cost.model_fields)


def make_bundle(
    cells: Iterable[tuple[Result, Path]],
    card: Mapping[str, Any],
    board: Board,
    out: str | Path,
    *,
    costs: Mapping[str, Cost] | None = None,
    half: bool = False,
) -> Path:
    """Writes a bundle.

    Args:
        cells: Results of one model with the folders of their predictions; cells the board does not count are left out.
        card: The submission card: `submission.json` without `format`, `format_version`, `manifests`, `cards` and, where results tell
            them, `model` and `environment`.
        board: What counts.
        out: Folder to write, or a name that ends in .zip or .tar.gz; must not exist.
        costs: Costs measured alone, by digest of the result.
        half: Write probabilities with three digits and numbers with seven: half the size.

    Returns:
        The folder or archive.

    Raises:
        SubmissionError: Nothing to submit, results of several models, or a faulty card; names every fault.
        DataError: The folder exists.
    """
    out = Path(out)
    if out.exists():
        raise DataError("exists already", source=out, remedy="Give another --out; a bundle is never edited in place.")
    chosen = [(result, path) for result, path in cells if _counts(result, board)]
    models = sorted({result.cell.model for result, _ in chosen})
    if not chosen:
        raise SubmissionError(["none of the results is of a task, split and budget that count on this board"])
    if len(models) > 1:
        raise SubmissionError([f"a submission is of one model; these are results of {', '.join(models)} (choose one with --model)"])
    folder = out.with_name(f".{out.name}.part")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        first = chosen[0][0]
        record = _submission(card, [result for result, _ in chosen], board)
        (folder / "submission.json").write_text(_json(record.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
        order = sorted(chosen, key=lambda pair: (pair[0].cell.task, pair[0].cell.target, pair[0].cell.split, pair[0].cell.budget,
                                                 pair[0].cell.fold, pair[0].cell.seed))  # fmt: skip
        for number, (result, predictions) in enumerate(order, 1):
            _write_cell(folder / "cells" / str(number), result, predictions, half=half)
        found = _costs(order, costs or {}, first)
        (folder / "costs.json").write_text(_json({"schema_version": 1, "costs": found}), encoding="utf-8")
        write_sums(folder)
        return _pack(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _counts(result: Result, board: Board) -> bool:
    task = board.task(result.cell.task)
    split = task.splits.get(result.cell.split) if task else None
    return task is not None and split is not None and result.cell.target in task.targets and result.cell.budget in split.budgets


def write_sums(folder: Path) -> Path:
    """Writes `SHA256SUMS` over all files of a folder."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{file_digest(folder / name)}  {name}\n" for name in names]
    path = folder / "SHA256SUMS"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def card_template(result: Result | None = None, hardware: str = "", environment: Mapping[str, Any] | None = None) -> str:
    """A submission card to fill in, as YAML; what results tell is filled in already."""
    model = result.model if result else ModelCard(name="raw/rf", tier="raw", inputs="raw", learner="rf")
    data = {
        "slug": model.name.replace("/", "-").replace("@", "-").lower() + "-yourteam",
        "title": f"{model.name} by Your Team",
        "authors": [{"name": "Your Name", "affiliation": "", "github": "your-account"}],
        "overlap": "Say how the pretraining data overlap with the tasks' places, years and labels, or why they do not.",
        "licence": "CC-BY-4.0",
        "code": "rs05bench",
        "weights": None,
        "hardware": [{"name": hardware or "name of the processor or accelerator", "kind": "cpu", "count": 1}],
        "model": {"licence": model.licence or "MIT", "open_weights": model.open_weights, "pretraining": model.pretraining},
        "statement": {"test_labels_unused": True, "budget_counts_all": True, "may_publish": True},
        "notes": "",
    }
    if environment:
        data["environment"] = dict(environment)
    head = (
        "# The card of a submission. Fill it in, then: rs05bench submit make RUNS --card THIS --out bundle/\n"
        "# statement: leave a line at true only if it is true; without all three a bundle is refused.\n"
    )
    return head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def read_card(path: str | Path) -> dict[str, Any]:
    """Reads a submission card.

    Raises:
        DataError: It is missing or no mapping.
    """
    return read_yaml_mapping(path, remedy="Make one: rs05bench submit card RUNS > card.yaml")


def _submission(card: Mapping[str, Any], results: list[Result], board: Board) -> Submission:
    import datetime

    first = results[0]
    model = {key: value for key, value in first.model.model_dump().items() if key != "options"}
    model |= dict(card.get("model") or {})
    versions = dict(first.provenance.get("versions", {}))
    environment = {"python": versions.pop("python", "not said"), "packages": versions} | dict(card.get("environment") or {})
    used = {(result.cell.task, result.cell.split) for result in results}
    manifests, cards = {}, {}
    for name, split in sorted(used):
        task = board.task(name)
        assert task is not None
        said = next(result.digests for result in results if (result.cell.task, result.cell.split) == (name, split))
        manifests[f"{name}/{split.split('+')[0]}@v{task.splits[split].version}"] = said.get("manifest", "")
        cards[name] = said.get("card", "")
    data = {
        "submitted": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **{key: value for key, value in card.items() if key not in ("model", "environment")},
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": model,
        "environment": environment,
        "manifests": manifests,
        "cards": cards,
    }
    data["submitted"] = str(data["submitted"])
    try:
        return Submission.model_validate_json(json.dumps(data, ensure_ascii=False, allow_nan=False))
    except ValidationError as error:
        raise SubmissionError(
            [f"card: {'.'.join(map(str, item['loc'])) or 'as a whole'}: {item['msg']}" for item in error.errors(include_url=False)]
        ) from error


def _write_cell(folder: Path, result: Result, predictions: Path, *, half: bool) -> None:
    folder.mkdir(parents=True)
    cell = result.cell
    classes: list[str] | None = None
    if result.kind == "segmentation":
        classes = _copy_chips(predictions, folder)
    else:
        found = Predictions.load(predictions)
        classes = list(found.classes) if found.classes else None
        _write_units(found.take(np.flatnonzero(np.isin(found.role.astype(str), TEST_ROLES))), folder / "units.parquet", half=half)
    training = {
        "planned_steps": result.training.get("planned_steps", (result.training.get("plan") or {}).get("steps")),
        "early_stopping_role": result.training.get("early_stopping_role", "val"),
    }
    record = {
        "schema_version": 1,
        "kind": result.kind,
        "classes": classes,
        "cell": {name: getattr(cell, name) for name in ("task", "target", "split", "fold", "budget", "seed")},
        "preprocessing": result.digests.get("preprocessing", ""),
        "budget": {"labels_used": int(result.budget.get("labels_used", 0)), "digest": result.budget.get("digest")},
        "training": training,
        "reported": {
            role: {name: round(value, 6) for name, value in scores.items() if name in REPORTED}
            for role, scores in result.scores.items()
            if role in TEST_ROLES
        },
    }
    (folder / "predictions.json").write_text(_json(record), encoding="utf-8")


def _write_units(predictions: Predictions, path: Path, *, half: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = predictions.frame()
    values = [column for column in frame.columns if column not in ("unit_id", "role")]
    small, usual = (np.float16, np.float32) if predictions.probabilities is not None else (np.float32, np.float64)
    kind = small if half else usual
    columns = {column: frame[column].to_numpy(dtype=kind) for column in values}
    if kind == np.float16:
        columns = _in_order(frame[values].to_numpy(dtype=np.float64), columns)
    table = pa.table({"unit_id": frame["unit_id"].astype(str).tolist(), "role": frame["role"].astype(str).tolist(),
                      **columns})  # fmt: skip
    split = [column for column in values if kind != np.float16]
    pq.write_table(
        table, path, compression="zstd", compression_level=15, use_dictionary=["role"], use_byte_stream_split=split, write_statistics=False,
        store_schema=False,
    )  # fmt: skip


def _in_order(exact: NDArray[np.float64], columns: dict[str, NDArray[np.float16]]) -> dict[str, NDArray[np.float16]]:
    """Half-precision probabilities whose largest stands in the same column: rounding makes ties, and a tie falls to the first class."""
    half = np.stack(list(columns.values()), axis=1)
    best, rows = exact.argmax(axis=1), np.arange(len(exact))
    lost = half.argmax(axis=1) != best
    half[rows[lost], best[lost]] = np.nextafter(half[lost].max(axis=1), np.float16(2))
    return dict(zip(columns, half.T, strict=True))


def _copy_chips(predictions: Path, folder: Path) -> list[str]:
    from rs05bench.protocol.rasters import RasterPredictions

    found = RasterPredictions.load(predictions)
    kept = found.table[found.table["role"].isin(TEST_ROLES)].reset_index(drop=True)
    (folder / "chips").mkdir()
    for file in kept["file"]:
        shutil.copyfile(predictions / file, folder / file)
    kept[["unit_id", "role", "file"]].to_parquet(folder / "units.parquet", index=False, compression="zstd")
    if found.samples is not None:
        samples = found.samples[found.samples["role"].isin(TEST_ROLES)]
        names = [f"{PROBABILITY_PREFIX}{value}" for value in found.classes]
        samples[["unit_id", "role", "pixel", *names]].to_parquet(folder / "samples.parquet", index=False, compression="zstd")
    return list(found.classes)


def _costs(cells: list[tuple[Result, Path]], alone: Mapping[str, Cost], first: Result) -> list[dict[str, Any]]:
    """One entry a task, target, split and budget: the cost measured alone where there is one, else the median of those beside others."""
    families: dict[tuple[str, str, str, str], list[Cost]] = {}
    for result, _ in cells:
        cell = result.cell
        families.setdefault((cell.task, cell.target, cell.split, cell.budget), []).append(alone.get(result.digest, result.cost))
    out, unmeasured = [], []
    for (task, target, split, budget), members in families.items():
        by_itself = [cost for cost in members if cost.alone]
        cost = by_itself[0] if by_itself else sorted(members, key=lambda cost: cost.fit_s or 0.0)[len(members) // 2]
        record = {name: getattr(cost, name) for name in _COST_FIELDS if getattr(cost, name) is not None}
        if cost.peak_memory_mb is None or cost.fit_s is None:
            unmeasured.append(f"{task}/{target}/{split}/{budget}")
        record |= {"labels_used": cost.labels_used or 0, "hardware": cost.hardware or "not said"}
        out.append({"task": task, "target": target, "split": split, "budget": budget, **record})
    if unmeasured:
        told = ", ".join(unmeasured[:3]) + (f" and {len(unmeasured) - 3} more" if len(unmeasured) > 3 else "")
        raise SubmissionError([f"time and memory were not measured for {told}: run the same sweep again without --no-costs (rule 5)"])
    return out


def _pack(folder: Path, out: Path) -> Path:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if out.suffix == ".zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.write(folder / name, name)
    elif out.name.endswith((".tar.gz", ".tgz")):
        with tarfile.open(out, "w:gz") as archive:
            for name in names:
                archive.add(folder / name, name, recursive=False)
    else:
        folder.rename(out)
    return out


def _json(data: Any) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"
