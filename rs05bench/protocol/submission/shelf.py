"""The leaderboard's folder: `tasks.yaml`, `submissions/<slug>/{bundle/,verdict.json,verdict.html,standing.json}`, `rounds/`."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.atomic import writing
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.labels import LabelPack
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.splits import Split
from rs05bench.protocol.submission.archive import open_bundle
from rs05bench.protocol.submission.board import Board, freeze_task
from rs05bench.protocol.submission.faults import Faults
from rs05bench.protocol.submission.limits import LIMITS
from rs05bench.protocol.submission.page import verdict_page
from rs05bench.protocol.submission.reading import check_sums
from rs05bench.protocol.submission.standing import Standing, ranks, read_submissions, reproduce, sign_off, standing_of
from rs05bench.protocol.submission.verdict import Track, Verdict
from rs05bench.protocol.submission.verify import verify_bundle


def add_submission(bundle: str | Path, leaderboard: str | Path, truth: str | Path | None) -> tuple[Path | None, Verdict, str]:
    """Verifies a bundle and puts it on the board; a bundle that lies there already gets its verdict and standing.

    Returns:
        Its folder (None where it was refused), the verdict, and its standing's level.

    Raises:
        DataError: Another bundle of this name is on the board.
    """
    with tempfile.TemporaryDirectory(prefix="rs05bench-add-") as work:
        return _add(Path(bundle), Path(leaderboard), truth, Path(work))


def _add(bundle: Path, leaderboard: Path, truth: str | Path | None, work: Path) -> tuple[Path | None, Verdict, str]:
    verdict = verify_bundle(bundle, leaderboard, truth=truth, others=leaderboard / "submissions", work=work)
    if not verdict.ok:
        return None, verdict, "refused"
    folder = leaderboard / "submissions" / verdict.slug
    target = folder / "bundle"
    if target.exists() and target.resolve() != bundle.resolve():
        raise DataError(
            "another bundle lies there", source=target, remedy="Nothing on the board is edited in place: submit under another slug."
        )
    if not target.exists():
        _place(bundle if bundle.is_dir() else work / "bundle", target, verdict.bundle)
    before = folder / "standing.json"
    standing = standing_of(verdict, Standing.load(before) if before.is_file() else None)
    (folder / "verdict.json").write_text(_compact(verdict), encoding="utf-8")
    (folder / "verdict.html").write_text(verdict_page(verdict), encoding="utf-8")
    standing.save(folder / "standing.json")
    return folder, verdict, standing.level


def standings(leaderboard: str | Path, track: str = "deployment") -> list[dict[str, Any]]:
    """A row a submission, task, target and split: standing, and why it has no headline rank (None where it has one).

    Raises:
        DataError: No such track.
    """
    if track not in ("open", "deployment"):
        raise DataError(f"track {track!r} is none of: open, deployment")
    chosen: Track = "open" if track == "open" else "deployment"
    rows = []
    for _, verdict, standing in read_submissions(Path(leaderboard) / "submissions"):
        for family in sorted({f"{cell.task}/{cell.target}/{cell.split}" for cell in verdict.cells}):
            why = ranks(standing, verdict, family, chosen)
            rows.append({"slug": verdict.slug, "level": standing.level, "family": family, "ranks": why is None, "why": why})
    return rows


def record_rerun(leaderboard: str | Path, slug: str, rerun: str | Path, truth: str | Path, **told: Any) -> Standing:
    """Verifies a rerun's bundle, compares it with the submission and keeps the new standing; arguments as `reproduce`.

    Raises:
        ProtocolError: As `reproduce`, or the rerun was refused.
    """
    folder, verdict, standing = _of(leaderboard, slug)
    board = Board.load(leaderboard)
    again = verify_bundle(rerun, leaderboard, truth=truth)
    if not again.ok:
        raise ProtocolError("the rerun's bundle was refused: " + "; ".join(again.faults[:5]))
    changed = reproduce(standing, verdict, again, board, **told)
    changed.save(folder / "standing.json")
    return changed


def record_sign_off(leaderboard: str | Path, slug: str, **told: Any) -> Standing:
    """Keeps the authors' sign-off; arguments as `sign_off`."""
    folder, verdict, standing = _of(leaderboard, slug)
    changed = sign_off(standing, verdict, **told)
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
        runs: Folder of a sweep.
        task: Task.
        splits: Splits that count.
        budgets: Budgets every submission must hold.
        card_file: Where the card lies in the repository.
        sealed: The labels do not exist yet.
        masks: For chips, their label pack; its digest is recomputed and frozen.

    Raises:
        DataError: Card, manifest or labels are missing, or the task is frozen with other content.
    """
    leaderboard, runs = Path(leaderboard), Path(runs)
    card = TaskCard.load(runs / "cards" / f"{task}.yaml")
    manifests = {split: SplitManifest.load(runs / "manifests" / task / f"{Split(split).base}@v1.parquet") for split in splits}
    labels: Mapping[str, pd.Series | str] = {} if sealed else _labels(runs, card, manifests, masks)
    path = leaderboard / "tasks.yaml"
    board = Board.load(path) if path.is_file() else Board()
    return board.frozen(freeze_task(card, manifests, labels, list(budgets), card_file)).save(path)


def _labels(runs: Path, card: TaskCard, manifests: Mapping[str, SplitManifest], masks: str | Path | None) -> Mapping[str, pd.Series | str]:
    units = set(next(iter(manifests.values())).units["unit_id"])
    if card.kind == "segmentation":
        if masks is None:
            raise DataError(
                f"{card.name} is of chips, and no label pack was given", source=runs, remedy="Give --masks PACK (rs05bench labels build)."
            )
        pack = LabelPack.load(masks, verify=True)
        if pack.card.digest != card.digest or not units <= set(pack.table.index):
            raise DataError(f"holds no masks of every chip of {card.name} under this card", source=masks)
        return dict.fromkeys(card.targets, pack.digest)
    for path in sorted((runs / "labels").glob("*.parquet")):
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
    folder = Path(leaderboard) / "submissions" / slug
    if not (folder / "verdict.json").is_file():
        raise DataError("no such submission on the board", source=folder)
    return folder, Verdict.model_validate_json((folder / "verdict.json").read_bytes()), Standing.load(folder / "standing.json")


def _place(files: Path, target: Path, digest: str) -> None:
    """Copies the files that were verified: those of a folder, or what the child process unpacked. No archive is opened here.

    Raises:
        DataError: They are no longer those that were verified.
    """
    faults = Faults()
    opened = open_bundle(files, files, LIMITS, faults)
    with writing(target) as part:
        for name in opened.files:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(opened.root / name, part / name, follow_symlinks=False)
        copied = open_bundle(part, part, LIMITS, faults)
        if faults or check_sums(part, copied.files, LIMITS, faults) != digest or faults:
            raise DataError(
                "its files changed while they were verified", source=files, remedy="Add it again from a folder nobody writes to."
            )


def _compact(verdict: Verdict) -> str:
    """The verdict as JSON, one cell a line, so that a change can be read."""
    data = verdict.model_dump(mode="json", exclude_none=True)
    lines = []
    for key, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n  ".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in value)
            lines.append(f" {json.dumps(key)}: [\n  {rows}\n ]")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
