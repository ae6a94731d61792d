"""Submissions from outside the protocol's room: predictions fetched from their address, frozen tasks opened, baselines run again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rs05bench.datamodules.open_data import open_source
from rs05bench.errors import BenchError, DataError, ProtocolError
from rs05bench.experiment.cell import make_bench
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.provenance import hardware_name, provenance
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.protocol.atomic import writing
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.documents import read_yaml_mapping
from rs05bench.protocol.labels import LabelPack, write_labels, write_masks
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.safe_paths import inside
from rs05bench.protocol.shipped import shipped_index, shipped_manifests, shipped_path
from rs05bench.protocol.splits import Split
from rs05bench.protocol.submission.board import Board, BoardTask, published_board
from rs05bench.protocol.submission.folder import RECORD, TABLE
from rs05bench.protocol.submission.make import budget_labels, make_submission
from rs05bench.protocol.submission.schema import Pin
from rs05bench.protocol.submission.shelf import record_rerun
from rs05bench.protocol.submission.standing import MACHINE, Ran, Standing, read_verdict
from rs05bench.protocol.submission.truth import Truth, available

PACKAGE = "rs05bench"


@dataclass(frozen=True)
class FrozenTask:
    """A task of the board with its card and manifests, all of the digests that the board names.

    Attributes:
        task: As on the board.
        card: Its card.
        manifests: Split (without `+k`) -> manifest.
    """

    task: BoardTask
    card: TaskCard
    manifests: dict[str, SplitManifest]


def frozen_task(board: str | Path, name: str) -> FrozenTask:
    """Opens a task of a leaderboard from its folder, the repository around it, or what is shipped with the package.

    Raises:
        DataError: The board has no such task, or a card or manifest with the frozen digest is not found.
    """
    folder = Path(board)
    found = Board.load(folder).task(name)
    if found is None:
        names = ", ".join(task.task for task in Board.load(folder).tasks)
        raise DataError(f"no task {name!r} on the board (there are: {names})", source=folder)
    manifests: dict[str, SplitManifest] = {}
    for split, frozen in found.splits.items():
        base = str(Split(split).base)
        full = f"{found.task}/{base}@v{frozen.version}"
        places = [
            inside(folder / "manifests", f"{full}.parquet"),
            *(path for key, path in shipped_manifests().items() if key.endswith(full)),
        ]
        # By its digest: what is not on this machine is fetched.
        places += (
            []
            if any(path.is_file() for path in places)
            else [shipped_path(key) for key, entry in shipped_index().items() if key.endswith(full) and entry.digest == frozen.manifest]
        )
        opened = (SplitManifest.load(path, verify=False) for path in places if path.is_file())
        manifest = next((one for one in opened if one.digest == frozen.manifest), None)
        if manifest is None:
            raise DataError(f"no manifest {full} with the digest {frozen.manifest[:12]}…", source=folder / "manifests")
        manifests[base] = manifest
    return FrozenTask(found, _card(found, folder), manifests)


def _card(task: BoardTask, folder: Path) -> TaskCard:
    if (card := _card_at_hand(task, folder)) is not None:
        return card
    raise DataError(f"no card with the digest {task.card[:12]}…", source=folder, remedy=f"The board names {task.card_file or 'no file'}.")


def _card_at_hand(task: BoardTask, folder: Path) -> TaskCard | None:
    roots = [folder, folder.parent, *((own := published_board()), own.parent)]
    places = [root / "cards" / f"{task.task}.yaml" for root in roots] + [root / task.card_file for root in roots if task.card_file]
    for path in places:
        if path.is_file() and (card := TaskCard.load(path)).digest == task.card:
            return card
    return None


def labels_of(card: TaskCard, data: str | Path) -> dict[str, dict[str, object]]:
    """Target -> unit -> label of a task's data; empty for chips, whose budgets are drawn without labels."""
    source = open_source(card, data)
    known = {target: source.scored(target).known for target in card.targets}
    return {target: labels.to_dict() for target, labels in known.items() if len(labels)}


def write_budgets(card: TaskCard, data: str | Path, out: str | Path, *, splits: Sequence[str], budgets: Sequence[str], seeds: int) -> int:
    """Writes which labels each budget shows, as CSV or Parquet; returns the number of rows.

    Raises:
        DataError: The file's ending is neither.
    """
    target = Path(out)
    if target.suffix not in (".csv", ".parquet"):
        raise DataError("is neither .csv nor .parquet", source=out, remedy="Give another --out.")
    bench = make_bench(card, data, list(splits))
    labels = labels_of(card, data) or None
    folds = {split: bench.manifest(split).folds for split in splits}
    names = [(name, split, budget) for name in card.targets for split in splits for budget in budgets]
    frame = budget_labels(card, bench.manifests, folds, names, seeds, labels)
    with writing(target) as part:
        if target.suffix == ".csv":
            frame.to_csv(part, index=False)
        else:
            frame.to_parquet(part, index=False, compression="zstd")
    return len(frame)


def write_pack(card: TaskCard, data: str | Path, out: str | Path, *, redistributable: bool | None = None) -> LabelPack:
    """Writes the labels of a task as a pack: a table, or masks where units are chips.

    Args:
        card: The task card.
        data: Where its data are.
        out: Folder of the pack; must not hold one yet.
        redistributable: Whether the labels may be passed on; None goes by the card's licence.

    Raises:
        DataError: The data are not what the card says, or the folder holds a pack.
    """
    from rs05bench.datamodules.chipsource import ChipSource

    source = open_source(card, data)
    if isinstance(source, ChipSource):
        chips = ((unit, source.read_labels(unit)[0], source.place(unit)) for unit in source.units().frame["unit_id"])
        return write_masks(out, card, chips, data_digest=source.digest, redistributable=redistributable)
    labels = {name: source.labels(name) for name in card.targets}
    return write_labels(out, card, labels, data_digest=source.digest, redistributable=redistributable)


def write_truth(board: str | Path, task: str, data: str | Path, out: str | Path) -> Path:
    """Writes the frozen labels of a task with its card and manifests, as `Truth` reads them.

    Raises:
        DataError: The data give other labels than the frozen ones.
    """
    opened = frozen_task(board, task)
    root = Path(out)
    (root / "cards").mkdir(parents=True, exist_ok=True)
    opened.card.save(root / "cards" / f"{task}.yaml")
    for manifest in opened.manifests.values():
        manifest.save(inside(root / "manifests", task))
    write_pack(opened.card, data, inside(root / "labels", task))
    for split in opened.task.splits:
        if (why := available(Truth(root), opened.task, split)) is not None:
            raise DataError(f"{task}/{split}: {why}", source=data, remedy="These are not the data that the task was frozen with.")
    return root


def baselines_of(board: str | Path) -> list[str]:
    """Submissions of models of this package."""
    records = sorted((Path(board) / "submissions").glob(f"*/{RECORD}"))
    return [path.parent.name for path in records if read_yaml_mapping(path).get("code") == PACKAGE]


def tasks_of(board: str | Path, slug: str) -> set[str]:
    """Tasks that a submission on the board takes part in."""
    cards = read_yaml_mapping(inside(Path(board) / "submissions", slug) / RECORD).get("cards")
    return set(cards) if isinstance(cards, dict) else set()


def check_code(board: str | Path, record: str | Path) -> None:
    """Refuses what `code_faults` finds.

    Raises:
        DataError: The record states that only this package was used, and there is no such model for its tasks.
    """
    for fault in code_faults(board, record):
        raise DataError(fault, source=record, remedy="Give the https:// address of your code.")


def code_faults(board: str | Path, record: str | Path) -> list[str]:
    """`code: rs05bench` for a model that the package does not have, a sentence a task; a file of the name's author is never run."""
    fields = read_yaml_mapping(record) if Path(record).is_file() else {}
    model, cards = fields.get("model"), fields.get("cards")
    if fields.get("code") != PACKAGE or not isinstance(model, dict) or not isinstance(cards, dict):
        return []
    faults = []
    for task in cards:
        found = Board.load(board).task(task)
        # A board frozen from results may hold no card: then the name alone is looked up.
        if found is not None and not _in_package(str(model.get("name")), _card_at_hand(found, Path(board))):
            faults.append(f"code is {PACKAGE}, and the package has no model {str(model.get('name'))!r} for {task}")
    return faults


def _in_package(name: str, card: TaskCard | None) -> bool:
    from rs05bench.models.registry import model_card

    try:
        return ":" not in name and bool(model_card(name, card))
    except BenchError:
        return False


def fetch_predictions(record: str | Path, out: str | Path) -> Path:
    """Fetches the predictions that a `submission.yaml` pins; their digests are checked when they are verified.

    Raises:
        DataError: Nothing is pinned, the address does not answer, or the predictions are made by the package.
    """
    try:
        pin = Pin.model_validate(read_yaml_mapping(record).get("predictions") or {"address": PACKAGE, "sha256": "0" * 64})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, ("predictions", *first["loc"])))
        raise DataError(f"{where}: {first['msg']}", source=record, remedy="Write it with: rs05bench submit pin FOLDER.") from error
    if pin.address == PACKAGE:
        raise DataError("pins no address", source=record, remedy="Make the predictions: rs05bench leaderboard reproduce SLUG --data DIR.")
    if pin.address.startswith("hf://"):
        from rs05bench.hub import fetch_folder

        return fetch_folder(pin.address.removeprefix("hf://datasets/"), str(pin.revision), out)
    from rs05bench.datasets.transfer import Wanted, fetch

    fetch(Wanted((pin.address,), sha256=pin.sha256), Path(out) / TABLE)
    return Path(out)


@contextmanager
def opened_submission(place: str | Path) -> Iterator[tuple[Path, Path]]:
    """Folder of the predictions and path of `submission.yaml`: those of the folder given, or fetched from the address it pins.

    Raises:
        DataError: It is on a board in a folder of another name than its slug, or cannot be fetched.
    """
    folder = Path(place)
    record = folder / RECORD
    if folder.is_symlink() or record.is_symlink():
        raise DataError("is a link", source=folder if folder.is_symlink() else record, remedy="Put the files themselves there.")
    if folder.resolve().parent.name == "submissions" and record.is_file():
        slug = read_yaml_mapping(record).get("slug")
        if slug != folder.resolve().name:
            raise DataError(f"its slug is {slug!r}, and its folder {folder.resolve().name!r}", source=record, remedy="Rename one of them.")
    if (folder / TABLE).exists() or not record.is_file():
        yield folder, record
        return
    with tempfile.TemporaryDirectory(prefix="rs05bench-fetch-") as work:
        yield fetch_predictions(record, Path(work) / "fetched"), record


def rerun_baseline(board: str | Path, slug: str, data: Mapping[str, Path], runs: str | Path, *, jobs: int = 1) -> Standing:
    """Runs a submission of a model of this package again, in this environment, and compares it with what is on the board.

    Args:
        board: The leaderboard's folder.
        slug: The submission; its `code` is `rs05bench`.
        data: task -> folder of its data.
        runs: Folder for the results.
        jobs: Worker processes.

    Raises:
        ProtocolError: It is not of a model of this package, or its rerun was refused.
        DataError: The data of a task were not given.
    """
    folder = inside(Path(board) / "submissions", slug)
    fields = read_yaml_mapping(folder / RECORD)
    if fields.get("code") != PACKAGE:
        raise ProtocolError(f"{slug} has code of its own", remedy="Run it, then: leaderboard reproduce SLUG --rerun FOLDER.")
    check_code(board, folder / RECORD)
    store = _run(Path(board), fields, data, Path(runs), jobs)
    with tempfile.TemporaryDirectory(prefix="rs05bench-rerun-") as work:
        made = make_submission(_cells(store, fields), fields, Board.load(board), Path(work) / "again", costs=store.costs())
        origin = provenance()
        commit = origin.commit or origin.versions.get(PACKAGE, "")
        ran = Ran(by=MACHINE, hardware=hardware_name(), code=f"{PACKAGE} {commit}".strip(), deterministic=True)
        flags = dict.fromkeys(_flags(folder), "a model of this package, run again by leaderboard reproduce")
        return record_rerun(board, slug, made, runs, ran, reviewed_flags=flags)


def _flags(folder: Path) -> list[str]:
    return sorted({flag.key for flag in read_verdict(folder).flags})


def _run(board: Path, fields: Mapping[str, Any], data: Mapping[str, Path], runs: Path, jobs: int) -> ResultStore:
    for task in fields.get("cards", {}):
        opened = frozen_task(board, task)
        if task not in data:
            raise DataError(f"the data of {task} were not given", remedy=f"Give --data {task}=DIR.")
        card = runs / "asked" / f"{task}.yaml"
        card.parent.mkdir(parents=True, exist_ok=True)
        opened.card.save(card)
        for split, frozen in opened.task.splits.items():
            choice = GridChoice(models=[fields["model"]["name"]], splits=[split], budgets=list(frozen.budgets), seeds=list(range(5)))
            sweep(GridFile.over(card, data[task], choice), runs, jobs=jobs)
    return ResultStore(runs)


def _cells(store: ResultStore, fields: Mapping[str, Any]) -> Sequence[tuple[Any, Path]]:
    name, tasks = fields["model"]["name"], set(fields.get("cards", {}))
    return [
        (result, store.folder(result.digest) / "predictions")
        for result in store.results()
        if result.cell.model == name and result.cell.task in tasks
    ]
