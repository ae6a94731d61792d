"""The leaderboard's folder: `tasks.yaml`, `manifests/`, `submissions/<slug>/{submission.yaml,verdict.json,standing.json}`, `rounds/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.atomic import write_text
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.labels import LabelPack
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.safe_paths import inside
from rs05bench.protocol.splits import Split
from rs05bench.protocol.submission.board import Board, freeze_task
from rs05bench.protocol.submission.folder import RECORD
from rs05bench.protocol.submission.standing import (
    WIDEST,
    Ran,
    Standing,
    ranks,
    read_submissions,
    read_verdict,
    reproduce,
    sign_off,
    standing_of,
)
from rs05bench.protocol.submission.verdict import Track, Verdict
from rs05bench.protocol.submission.verify import verify_submission


def add_submission(
    folder: str | Path, leaderboard: str | Path, truth: str | Path | None, *, record: str | Path | None = None
) -> tuple[Path | None, Verdict, str]:
    """Verifies a submission and puts record, verdict and standing on the board; predictions stay at their address.

    Args:
        folder: Folder with the predictions, and with `submission.yaml` unless `record` is given.
        leaderboard: The leaderboard's folder.
        truth: Folder of the frozen labels.
        record: `submission.yaml`, where the folder holds only what was fetched from its address.

    Returns:
        Its folder on the board (None where it was refused), the verdict, and its standing's level.

    Raises:
        DataError: Another submission of this name is on the board, or the record pins no predictions.
    """
    board = Path(leaderboard)
    verdict = verify_submission(folder, board, truth=truth, others=board / "submissions", record=record)
    if not verdict.ok:
        return None, verdict, "refused"
    source = Path(record) if record is not None else Path(folder) / RECORD
    if verdict.submission is None or verdict.submission.predictions is None:
        raise DataError("pins no predictions", source=source, remedy="Publish them, then: rs05bench submit pin FOLDER --address ADDRESS.")
    target = inside(board / "submissions", verdict.slug)
    there = target / "verdict.json"
    if there.is_file() and _digest(there) not in ("", verdict.digest):
        raise DataError(
            "another submission of this name is on the board", source=target, remedy="Nothing is edited in place: use another slug."
        )
    before = target / "standing.json"
    standing = standing_of(verdict, Standing.load(before) if before.is_file() else None)
    if source.resolve() != (target / RECORD).resolve():
        write_text(target / RECORD, source.read_text(encoding="utf-8"))
    standing.save(target / "standing.json")
    write_text(there, compact(verdict))
    return target, verdict, standing.level


def _digest(path: Path) -> str:
    """The digest that a verdict is of; empty where a killed process left half a file, so that the submission can be added again."""
    try:
        return Verdict.model_validate_json(path.read_bytes()).digest
    except ValueError:
        return ""


def standings(leaderboard: str | Path, track: str = "deployment") -> list[dict[str, Any]]:
    """A row a submission, task, target and split: standing, and why it has no rank (None where it has one).

    Raises:
        DataError: No such track, or no such board.
    """
    if not Path(leaderboard).is_dir():
        raise DataError("no such folder", source=leaderboard, remedy="Give the leaderboard's folder: --board leaderboard.")
    if track not in ("open", "deployment"):
        raise DataError(f"track {track!r} is none of: open, deployment")
    chosen: Track = "open" if track == "open" else "deployment"
    rows = []
    for _, verdict, standing in read_submissions(Path(leaderboard) / "submissions"):
        for family in sorted({"/".join(found.key[:3]) for found in verdict.families}):
            why = ranks(standing, verdict, family, chosen)
            rows.append({"slug": verdict.slug, "level": standing.level, "family": family, "ranks": why is None, "why": why})
    return rows


def record_rerun(
    leaderboard: str | Path,
    slug: str,
    rerun: str | Path,
    truth: str | Path,
    ran: Ran,
    *,
    tolerance: float = WIDEST,
    reviewed_flags: Mapping[str, str] | None = None,
) -> Standing:
    """Verifies a rerun, compares it with the submission and keeps the new standing; arguments as `reproduce`.

    Raises:
        ProtocolError: As `reproduce`, or the rerun was refused.
    """
    folder, verdict, standing = _of(leaderboard, slug)
    again = verify_submission(rerun, leaderboard, truth=truth)
    if not again.ok:
        raise ProtocolError("the rerun was refused: " + "; ".join(again.faults[:5]))
    board = Board.load(leaderboard)
    changed = reproduce(standing, verdict, again, board, ran, tolerance=tolerance, reviewed_flags=reviewed_flags)
    changed.save(folder / "standing.json")
    return changed


def record_sign_off(leaderboard: str | Path, slug: str, *, by: str, record: str, statement: str) -> Standing:
    """Keeps the authors' sign-off; arguments as `sign_off`."""
    folder, verdict, standing = _of(leaderboard, slug)
    changed = sign_off(standing, verdict, by=by, record=record, statement=statement)
    changed.save(folder / "standing.json")
    return changed


def freeze_runs(
    leaderboard: str | Path,
    runs: str | Path,
    task: str,
    splits: Sequence[str],
    budgets: Sequence[str],
    card_file: str = "",
    *,
    sealed: bool = False,
    masks: str | Path | None = None,
) -> Path:
    """Puts a task on the board from the folder of a sweep.

    Args:
        leaderboard: The leaderboard's folder.
        runs: Folder of a sweep, or of `manifests/` and, once they are known, `labels/` (`manifest build`, `labels build`).
        task: Task.
        splits: Splits that count.
        budgets: Budgets every submission must hold.
        card_file: Where the card is in the repository; it is read from there where `runs` holds none.
        sealed: The labels do not exist yet.
        masks: For chips, their label pack; its digest is recomputed and frozen.

    Raises:
        DataError: Card, manifest or labels are missing, or the task is frozen with other content.
    """
    leaderboard, runs = Path(leaderboard), Path(runs)
    kept = runs / "cards" / f"{task}.yaml"
    card = TaskCard.load(kept if kept.is_file() or not card_file else leaderboard.parent / card_file)
    manifests = {split: SplitManifest.load(runs / "manifests" / task / f"{Split(split).base}@v1.parquet") for split in splits}
    labels: Mapping[str, pd.Series | str] = {} if sealed else _labels(runs, card, manifests, masks)
    path = leaderboard / "tasks.yaml"
    board = Board.load(path) if path.is_file() else Board()
    for manifest in manifests.values():
        manifest.save(inside(leaderboard / "manifests", card.name), compression_level=19)
    return board.frozen(freeze_task(card, manifests, labels, list(budgets), card_file)).save(path)


def _labels(runs: Path, card: TaskCard, manifests: Mapping[str, SplitManifest], masks: str | Path | None) -> Mapping[str, pd.Series | str]:
    units = set(next(iter(manifests.values())).units["unit_id"])
    if card.about.pixel_labels:
        if masks is None:
            raise DataError(
                f"{card.name} is of chips, and no label pack was given", source=runs, remedy="Give --masks PACK (rs05bench labels build)."
            )
        pack = LabelPack.load(masks, verify=True)
        if pack.card.digest != card.digest or not units <= set(pack.table.index):
            raise DataError(f"holds no masks of every chip of {card.name} under this card", source=masks)
        return dict.fromkeys(card.targets, pack.digest)
    for path in sorted((runs / "labels").glob("**/*.parquet")):
        frame = pd.read_parquet(path).set_index("unit_id")
        if set(frame.index) == units and set(card.targets) <= set(frame.columns):
            return {
                target: frame[target].where(frame[target].isna(), frame[target].astype(str))
                if card.kind == "classification"
                else frame[target].astype(float)
                for target in card.targets
            }
    raise DataError(f"no labels over the units of {card.name}", source=runs / "labels", remedy="Run the sweep again into a new folder.")


def _of(leaderboard: str | Path, slug: str) -> tuple[Path, Verdict, Standing]:
    folder = inside(Path(leaderboard) / "submissions", slug)
    if not (folder / "verdict.json").is_file():
        raise DataError("no such submission on the board", source=folder)
    return folder, read_verdict(folder), Standing.load(folder / "standing.json")


def compact(verdict: Verdict) -> str:
    """The verdict as the board keeps it: JSON, one family a line, so that a change can be read."""
    data = verdict.model_dump(mode="json", exclude={"cells", "submission"}, exclude_defaults=True)
    data = {"schema_version": verdict.schema_version} | data
    lines = []
    for key, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n  ".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in value)
            lines.append(f" {json.dumps(key)}: [\n  {rows}\n ]")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
