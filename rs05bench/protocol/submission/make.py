"""Writing a submission: from the results of a sweep, or an empty one to fill in with any tool. The format needs none of this."""

from __future__ import annotations

import datetime
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pydantic import ValidationError

from rs05bench.errors import DataError, SubmissionError
from rs05bench.protocol.atomic import write_text, writing
from rs05bench.protocol.budget import draw_budget
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.documents import read_yaml_mapping
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.map_predictions import MapPredictions
from rs05bench.protocol.predictions import PROBABILITY_PREFIX, TablePredictions
from rs05bench.protocol.result import Cost, ModelCard, Result
from rs05bench.protocol.scoring import TEST_ROLES
from rs05bench.protocol.splits import Split
from rs05bench.protocol.submission.board import Board, BoardTask
from rs05bench.protocol.submission.cells import CELL
from rs05bench.protocol.submission.faults import Faults
from rs05bench.protocol.submission.folder import MAPS, RECORD, SAMPLES, TABLE, open_submission
from rs05bench.protocol.submission.limits import LIMITS
from rs05bench.protocol.submission.schema import FORMAT, FORMAT_VERSION, CostRecord, Pin, Submission

Labels = Mapping[str, Mapping[str, object]]
"""Target -> unit id -> label, of units whose label a budget may show."""

_LISTED = ("task", "target", "split", "fold", "budget")


def make_submission(
    cells: Iterable[tuple[Result, Path]],
    card: Mapping[str, Any],
    board: Board,
    out: str | Path,
    *,
    costs: Mapping[str, Cost] | None = None,
) -> Path:
    """Writes a submission from results of this package.

    Args:
        cells: Results of one model with the folders of their predictions; cells that the board does not count are left out.
        card: Fields of `submission.yaml`; what results know (model, environment, manifests, cards, costs) is filled in where it is missing.
        board: What counts.
        out: Folder to write; must not exist.
        costs: Costs measured alone, by digest of the result.

    Raises:
        SubmissionError: Nothing to submit, results of several models, or a faulty card; names every fault.
        DataError: The folder exists.
    """
    chosen = [(result, path) for result, path in cells if _counts(result, board)]
    models = sorted({result.cell.model for result, _ in chosen})
    if not chosen:
        raise SubmissionError(["none of the results is of a task, split and budget that count on this board"])
    if len(models) > 1:
        raise SubmissionError([f"a submission is of one model; these are results of {', '.join(models)} (choose one with --model)"])
    chosen.sort(key=lambda pair: tuple(getattr(pair[0].cell, name) for name in CELL))
    record = _record(card, chosen, board, costs or {})
    with _new_folder(out) as folder:
        write_record(folder / RECORD, record)
        parts, samples = [], []
        for number, (result, path) in enumerate(chosen, 1):
            if result.about.pixel_labels:
                part, sampled = _copy_maps(result, path, folder, number)
                samples += [sampled] if sampled is not None else []
            else:
                found = TablePredictions.read(path)
                part = found.take(np.flatnonzero(np.isin(found.role.astype(str), TEST_ROLES))).frame()
            parts.append(_named(result, part))
        write_table(folder / TABLE, pd.concat(parts, ignore_index=True))
        if samples:
            write_table(folder / SAMPLES, pd.concat(samples, ignore_index=True))
    return Path(out)


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Writes a table of predictions: keys as dictionaries, numbers as they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [column for column in frame.columns if column in (*CELL[:5], "unit_id", "role", "map")]
    columns: dict[str, Any] = {}
    for column in frame.columns:
        values = frame[column]
        columns[column] = pa.array(values.where(values.notna(), None).tolist(), pa.string()) if column in texts else pa.array(values)
    pq.write_table(pa.table(columns), path, compression="zstd", compression_level=9, use_dictionary=texts, store_schema=False)


def template(
    task: BoardTask,
    card: TaskCard,
    manifests: Mapping[str, SplitManifest],
    out: str | Path,
    *,
    seeds: int,
    labels: Labels | None = None,
) -> Path:
    """Writes an empty submission: `submission.yaml` to fill in, `predictions.parquet` with every row and no answer, `labels.parquet`.

    Args:
        task: The task on the board.
        card: Its card.
        manifests: Split (without `+k`) -> frozen manifest.
        out: Folder to make.
        seeds: How many seeds the board asks for.
        labels: Labels, needed for budgets that are drawn by label (`per-class`) only.

    Raises:
        DataError: The folder exists.
        ProtocolError: A budget is drawn by label, and no labels were given.
    """
    names = [(target, split, budget) for target in task.targets for split, found in task.splits.items() for budget in found.budgets]
    rows = []
    for target, split, budget in names:
        manifest = manifests[Split(split).base]
        for fold in task.splits[split].folds:
            here = manifest.fold(fold)
            here = here[here["role"].astype(str).isin(TEST_ROLES)]
            for seed in range(seeds):
                fields = dict(zip(CELL, (task.task, target, split, fold, budget, seed), strict=True))
                rows.append(pd.DataFrame({"unit_id": here["unit_id"].astype(str), "role": here["role"].astype(str)}).assign(**fields))
    frame = pd.concat(rows, ignore_index=True)[[*CELL, "unit_id", "role"]]
    if task.about.pixel_labels:
        frame["map"] = ""
    else:
        values = [f"{PROBABILITY_PREFIX}{value}" for value in task.classes] if task.classes and task.kind == "classification" else ["y"]
        frame = frame.assign(**dict.fromkeys(values, np.nan))
    folds = {split: list(found.folds) for split, found in task.splits.items()}
    with _new_folder(out) as folder:
        write_table(folder / TABLE, frame)
        write_table(folder / "labels.parquet", budget_labels(card, manifests, folds, names, seeds, labels))
        costs = [dict(zip(_LISTED, (task.task, target, split, "", budget), strict=True)) for target, split, budget in names]
        write_text(folder / RECORD, _template_text(task, costs))
    return Path(out)


def budget_labels(
    card: TaskCard,
    manifests: Mapping[str, SplitManifest],
    folds: Mapping[str, Sequence[str]],
    names: Sequence[tuple[str, str, str]],
    seeds: int,
    labels: Labels | None = None,
) -> pd.DataFrame:
    """Which labels each budget shows: a row per cell and unit, with its role (`train`, `val`).

    Args:
        card: The task card.
        manifests: Split (without `+k`) -> manifest.
        folds: Split -> its folds, in the order wanted.
        names: (target, split, budget) of each cell family.
        seeds: Seeds 0 to this, without it.
        labels: Labels, for budgets that are drawn by label.
    """
    rows = []
    for target, split, budget in names:
        manifest = manifests[Split(split).base]
        for fold in folds[split]:
            for seed in range(seeds):
                drawn = draw_budget(card, manifest, fold, budget, seed, None if labels is None else labels[target], split=split)
                fields = dict(zip(CELL, (card.name, target, split, fold, budget, seed), strict=True))
                for role, ids in (("train", drawn.train), ("val", drawn.val)):
                    rows.append(pd.DataFrame({"unit_id": ids.astype(str)}).assign(**fields, role=role))
    return pd.concat(rows, ignore_index=True)[[*CELL, "unit_id", "role"]]


def _template_text(task: BoardTask, costs: list[dict[str, str]]) -> str:
    data = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "slug": "<lower-case-name-of-the-submission>",
        "title": "<one line for people>",
        "authors": [{"name": "<your name>", "affiliation": "", "github": None}],
        "submitted": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "model": {
            "name": "<input or backbone>/<learner or adaptation>",
            "tier": "<floor, raw, embedding, hybrid, frozen, decoder, adapter, lora or full>",
            "inputs": "<feature set or backbone>",
            "content": ["<optical, radar, covariate, coordinates, embedding, layer or other>"],
            "learner": "<learner or adaptation>",
            "licence": "<licence of weights or method>",
            "open_weights": "<true or false>",
            "pretrained": "<true where an encoder or an embedding with trained weights is inside>",
            "pretraining": [],
        },
        "inputs": "card",
        "overlap": "<how pretraining data overlap with the task's places, years and labels, or why they do not>",
        "licence": "<licence of the predictions, e.g. CC-BY-4.0>",
        "code": "<https:// address of the code>",
        "weights": None,
        "hardware": [{"name": "<processor or accelerator>", "kind": "cpu"}],
        "environment": {"python": "<version of Python, R, ...>", "packages": {}},
        "training": {"planned_steps": None, "early_stopping_role": "val"},
        "costs": [
            {name: value for name, value in cost.items() if name != "fold"}
            | dict.fromkeys(("fit_s", "predict_s", "predict_s_per_1000", "peak_memory_mb"), "<number>")
            | {"hardware": "<processor or accelerator>"}
            for cost in costs
        ],
        "manifests": {f"{task.task}/{Split(split).base}@v{found.version}": found.manifest for split, found in task.splits.items()},
        "cards": {task.task: task.card},
        "statement": dict.fromkeys(("test_labels_unused", "budget_counts_all", "may_publish"), "<true, if it is true>"),
        "predictions": None,
        "notes": "",
    }
    head = (
        "# Replace everything in <...>. `inputs: card` means the features of the task card; where you used another embedding or another\n"
        "# preprocessing, describe it there instead. Costs: one entry per budget; unknown optional fields are left out, never 0.\n"
        "# Fill the empty columns of predictions.parquet, remove labels.parquet, then: rs05bench submit check FOLDER\n"
    )
    return head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=130)


def card_template(result: Result, hardware: str = "") -> str:
    """Fields of `submission.yaml` that results cannot know, as YAML; for `make_submission`."""
    model = result.model
    data = {
        "slug": model.name.replace("/", "-").replace("@", "-").replace("+", "-").lower() + "-<your team>",
        "title": "<one line for people>",
        "authors": [{"name": "<your name>", "affiliation": "", "github": None}],
        "overlap": "<how pretraining data overlap with the task's places, years and labels, or why they do not>",
        "licence": "<licence of the predictions, e.g. CC-BY-4.0>",
        "code": "<https:// address of the code, or rs05bench where only this package was used>",
        "weights": None,
        "hardware": [{"name": hardware or "<processor or accelerator>", "kind": "cpu", "count": 1}],
        "model": {"licence": model.licence or "<licence>", "open_weights": model.open_weights},
        "statement": dict.fromkeys(("test_labels_unused", "budget_counts_all", "may_publish"), "<true, if it is true>"),
        "notes": "",
    }
    head = "# Replace everything in <...>, then: rs05bench submit make RUNS --card THIS --model MODEL --out FOLDER\n"
    return head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def read_card(path: str | Path) -> dict[str, Any]:
    """Reads fields of a submission.

    Raises:
        DataError: It is missing or not a mapping.
    """
    return read_yaml_mapping(path, remedy="Make one: rs05bench submit card RUNS > card.yaml")


def pin(folder: str | Path, address: str, revision: str | None = None) -> Pin:
    """Writes into `submission.yaml` where the predictions are published, and their digests.

    Raises:
        SubmissionError: The folder is not a submission, or the address is not one.
    """
    folder = Path(folder)
    fields = read_card(folder / RECORD)
    fields.pop("predictions", None)
    with tempfile.TemporaryDirectory(prefix="rs05bench-pin-") as work:
        opened = open_submission(folder, Path(work), LIMITS, Faults())
        if TABLE not in opened.files:
            raise SubmissionError([f"{TABLE} is missing"], source=folder)
        try:
            made = Pin(address=address, revision=revision, sha256=opened.files[TABLE], files=opened.others)
        except ValidationError as error:
            raise SubmissionError([str(item["msg"]) for item in error.errors(include_url=False)], source=address) from error
    write_record(folder / RECORD, fields | {"predictions": made.model_dump(mode="json", exclude_none=True)})
    return made


def write_record(path: Path, fields: Mapping[str, Any]) -> None:
    """Writes `submission.yaml`."""
    write_text(path, yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True, width=130))


@contextmanager
def _new_folder(out: str | Path) -> Iterator[Path]:
    if Path(out).exists():
        raise DataError("already exists", source=out, remedy="Give another --out; a submission is never edited in place.")
    with writing(out, "keep") as part:
        part.mkdir()
        yield part


def _counts(result: Result, board: Board) -> bool:
    task = board.task(result.cell.task)
    split = task.splits.get(result.cell.split) if task else None
    return task is not None and split is not None and result.cell.target in task.targets and result.cell.budget in split.budgets


def _named(result: Result, frame: pd.DataFrame) -> pd.DataFrame:
    found = frame.assign(**{name: getattr(result.cell, name) for name in CELL})
    return found[[*CELL, *frame.columns]]


def _record(card: Mapping[str, Any], chosen: Sequence[tuple[Result, Path]], board: Board, alone: Mapping[str, Cost]) -> dict[str, Any]:
    first = chosen[0][0]
    model = {name: value for name, value in first.model.model_dump().items() if name in ModelCard.model_fields and name != "options"}
    plan = first.training.plan
    versions = dict(first.provenance.versions)
    manifests, cards = {}, {}
    for result, _ in chosen:
        task = board.task(result.cell.task)
        assert task is not None
        name = f"{task.task}/{Split(result.cell.split).base}@v{task.splits[result.cell.split].version}"
        manifests[name], cards[task.task] = result.digests.get("manifest", ""), result.digests.get("card", "")
    data = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "submitted": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **card,
        "model": model | dict(card.get("model") or {}),
        "environment": {"python": versions.pop("python", "not stated"), "packages": versions} | dict(card.get("environment") or {}),
        "training": {
            "planned_steps": first.training.planned_steps if plan is None else plan.steps,
            "early_stopping_role": first.training.early_stopping_role,
        },
        "costs": _costs(chosen, alone),
        "manifests": manifests,
        "cards": cards,
    }
    try:
        found = Submission.model_validate_json(json.dumps(data, ensure_ascii=False, allow_nan=False, default=str))
    except ValidationError as error:
        raise SubmissionError(
            [f"card: {'.'.join(map(str, item['loc'])) or 'as a whole'}: {item['msg']}" for item in error.errors(include_url=False)]
        ) from error
    return found.model_dump(mode="json", exclude_none=True)


def _copy_maps(result: Result, predictions: Path, folder: Path, number: int) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    found = MapPredictions.read(predictions)
    kept = found.table[found.table["role"].isin(TEST_ROLES)].reset_index(drop=True)
    place = folder / MAPS / str(number)
    place.mkdir(parents=True)
    names = [f"{MAPS}/{number}/{at:05d}.tif" for at in range(len(kept))]
    for file, name in zip(kept["file"], names, strict=True):
        shutil.copyfile(predictions / file, folder / name)
    part = pd.DataFrame({"unit_id": kept["unit_id"].astype(str), "role": kept["role"].astype(str), "map": names})
    if found.samples is None:
        return part, None
    values = [f"{PROBABILITY_PREFIX}{value}" for value in found.classes]
    samples = found.samples[found.samples["role"].isin(TEST_ROLES)]
    return part, _named(result, samples[["unit_id", "role", "pixel", *values]].reset_index(drop=True))


def _costs(cells: Sequence[tuple[Result, Path]], alone: Mapping[str, Cost]) -> list[dict[str, Any]]:
    """One entry per task, target, split and budget: the cost measured alone where there is one, else the median of the others."""
    families: dict[tuple[str, str, str, str], list[Cost]] = {}
    for result, _ in cells:
        cell = result.cell
        families.setdefault((cell.task, cell.target, cell.split, cell.budget), []).append(alone.get(result.digest, result.cost))
    out, unmeasured = [], []
    for (task, target, split, budget), members in families.items():
        by_itself = [cost for cost in members if cost.alone]
        cost = by_itself[0] if by_itself else sorted(members, key=lambda cost: cost.fit_s or 0.0)[len(members) // 2]
        if cost.peak_memory_mb is None or cost.fit_s is None:
            unmeasured.append(f"{task}/{target}/{split}/{budget}")
        measured = {name: getattr(cost, name) for name in CostRecord.model_fields if getattr(cost, name, None) is not None}
        named = {"task": task, "target": target, "split": split, "budget": budget}
        out.append(named | measured | {"hardware": cost.hardware or "not stated"})
    if unmeasured:
        listed = ", ".join(unmeasured[:3]) + (f" and {len(unmeasured) - 3} more" if len(unmeasured) > 3 else "")
        raise SubmissionError([f"time and memory were not measured for {listed}: run the same sweep again without --no-costs (rule 5)"])
    return out
