"""What an accepted bundle holds, read again by other means than the verification's: is it what the good bundle held, or lawfully different?

Used by the fuzzing study to decide, without a person, whether a spoiled bundle was rightly accepted. Read with zipfile, tarfile, json,
pyarrow and rasterio alone, and scored with scikit-learn; only a bundle that was accepted comes here.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.protocol.submission.verdict import Verdict
from tests.protocol.submission.world import CLASSES

SAME, TEXT, PREDICTIONS, WRONG = "same content", "only free text or claims differ", "other lawful predictions, scored as sent", "WRONG"
PLACE = "a map that lies elsewhere, which only masks can show: refused where they are at hand"
FREE = {
    "submission.json": r"slug|title|authors\..*|submitted|overlap|licence|code|weights|notes|round|hardware\..*|environment\..*"
    r"|model\.(name|tier|inputs|learner|licence|open_weights|pretraining.*|pretrained|random_twin|citation|parameters_\w+)",
    "costs.json": r"costs\.\d+\.(?!task|target|split|budget$)\w+",
    "predictions.json": r"reported.*|training.*",
}
"""Fields that only their authors can know: a change of them is another claim, and no other prediction."""


def files_of(bundle: Path) -> dict[str, bytes]:
    """Every file of a bundle, the one folder that may wrap it taken off."""
    found: dict[str, bytes] = {}
    if bundle.is_dir():
        found = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    elif bundle.suffix == ".zip":
        with zipfile.ZipFile(bundle) as archive:
            found = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    else:
        with tarfile.open(bundle) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None:
                    found[member.name] = content.read()
    found = {"/".join(part for part in name.split("/") if part not in ("", ".")): data for name, data in found.items()}
    if not any(name.startswith("cells/") for name in found):
        found = {name.partition("/")[2]: data for name, data in found.items()}
    return found


def sameness(bundle: Path, good: dict[str, bytes], verdict: Verdict, labels: pd.Series | None, *, anew: bool) -> tuple[str, str]:
    """How what was accepted stands to the good bundle.

    Args:
        bundle: The accepted bundle.
        good: Files of the good bundle.
        verdict: The verdict that accepted it.
        labels: Frozen labels of the table task by unit; None where nothing was scored.
        anew: Whether the digests were written anew after files were changed.

    Returns:
        One of the five words, and why.
    """
    try:
        there = files_of(bundle)
    except Exception as error:
        return WRONG, f"accepted, and cannot be read by other means: {type(error).__name__}: {error}"
    if there.keys() != good.keys():
        return WRONG, f"other files: {sorted(there.keys() ^ good.keys())[:3]}"
    fault = _sums(there, verdict)
    if fault:
        return WRONG, fault
    changed = [name for name in good if there[name] != good[name] and name != "SHA256SUMS"]
    if changed and not anew:
        return WRONG, f"{changed[0]} was changed under digests that were not"
    words = {SAME: ""}
    for name in changed:
        word, why = _changed(name, good[name], there[name], scored=verdict.outcome == "accepted")
        if word == WRONG:
            return WRONG, f"{name}: {why}"
        words[word] = words.get(word) or f"{name}: {why}"
    fault = _scores(there, verdict, labels) if verdict.outcome == "accepted" else ""
    if fault:
        return WRONG, fault
    worst = next(word for word in (PLACE, PREDICTIONS, TEXT, SAME) if word in words)
    return worst, words[worst]


def _sums(there: dict[str, bytes], verdict: Verdict) -> str:
    found = {name: hashlib.sha256(data).hexdigest() for name, data in there.items() if name != "SHA256SUMS"}
    said = {}
    for line in there["SHA256SUMS"].decode().splitlines():
        digest, _, name = line.partition(" ")
        said[re.sub(r"^[ *](\./)?", "", name)] = digest
    if said != found:
        return "SHA256SUMS does not say what is there"
    if hashlib.sha256("".join(f"{found[name]}  {name}\n" for name in sorted(found)).encode()).hexdigest() != verdict.bundle:
        return "the verdict's digest is that of other files"
    return ""


def _changed(name: str, good: bytes, there: bytes, *, scored: bool) -> tuple[str, str]:
    if name.endswith(".json"):
        before, after = _leaves(json.loads(good)), _leaves(json.loads(there))
        differing = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        locked = [
            key for key in differing if not re.fullmatch(FREE[name.rpartition("/")[2]], key) and not _fewer(key, before, after, scored)
        ]
        if locked:
            return WRONG, f"the field {locked[0]} differs"
        return (TEXT, ", ".join(differing[:3])) if differing else (SAME, "")
    if name.endswith(".parquet"):
        before, after = (pd.read_parquet(io.BytesIO(data)) for data in (good, there))
        return _tables(before, after)
    return _chips(good, there, scored=scored)


def _fewer(key: str, before: dict[str, str], after: dict[str, str], scored: bool) -> bool:
    """Whether a cell says it used fewer labels, or does not say which: lawful. Without labels at hand neither can be checked."""
    if key == "budget.digest":
        return not scored or key not in after
    return key == "budget.labels_used" and (not scored or int(after[key]) <= int(before[key]))


def _leaves(value: Any, where: str = "") -> dict[str, str]:
    """Dotted path -> spelled value of everything in a JSON text; a missing optional field and its null are the same."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, dict | list):
        return {key: leaf for name, item in items for key, leaf in _leaves(item, f"{where}.{name}" if where else str(name)).items()}
    return {} if value is None else {where: repr(value)}


def _tables(before: pd.DataFrame, after: pd.DataFrame) -> tuple[str, str]:
    if list(before.columns) != list(after.columns) and set(before.columns) != set(after.columns):
        return WRONG, "other columns"
    keys = ["unit_id", "role"]
    before, after = (frame.sort_values(keys).set_index(keys) for frame in (before, after))
    if not before.index.equals(after.index):
        return WRONG, "other units or roles"
    texts = [column for column in before if not column.startswith("p_")]
    if any((before[column] != after[column]).any() for column in texts):
        return WRONG, f"another {texts[0]}"
    numbers = [column for column in before if column.startswith("p_")]
    p = after[numbers].to_numpy(dtype=np.float64)
    if not np.isfinite(p).all() or (p.size and (p.min() < -1e-6 or p.max() > 1.001 or np.abs(p.sum(axis=1) - 1).max() > 4e-3)):
        return WRONG, "holds what is no probability"
    moved = int((before[numbers].to_numpy() != after[numbers].to_numpy()).any(axis=1).sum())
    return (PREDICTIONS, f"{moved} rows differ") if moved else (SAME, "")


def _chips(good: bytes, there: bytes, *, scored: bool) -> tuple[str, str]:
    from rasterio.io import MemoryFile

    found = []
    for data in (good, there):
        with MemoryFile(data) as memory, memory.open(driver="GTiff") as chip:
            found.append((chip.read(1), chip.crs, chip.transform))
    (before, crs, transform), (after, other_crs, other_transform) = found
    # The format's tolerance: no corner may lie a tenth of a pixel off.
    rows, columns = before.shape
    corners = [(0, 0), (columns, 0), (0, rows), (columns, rows)]
    moved_off = max(max(map(abs, np.subtract(~transform * (other_transform * corner), corner))) for corner in corners)
    if before.shape != after.shape or crs != other_crs or not moved_off <= 0.1:
        return WRONG if scored else PLACE, "another shape, CRS or place"
    # Three classes are sent as a map of classes, two as a probability.
    if (
        before.dtype != after.dtype
        or not np.isfinite(after).all()
        or after.min() < -1e-3
        or after.max() > (2 if after.dtype == np.uint8 else 1.001)
    ):
        return WRONG, "holds what is no class or no probability"
    moved = int((before != after).sum())
    return (PREDICTIONS, f"{moved} pixels differ") if moved else (SAME, "")


def _scores(there: dict[str, bytes], verdict: Verdict, labels: pd.Series | None) -> str:
    """Where a score of the verdict is not that of the bytes in the bundle."""
    from sklearn.metrics import f1_score

    if labels is None:
        return "scored without labels"
    if len(verdict.cells) != len({name.rpartition("/")[0] for name in there if name.startswith("cells/")}):
        return "the verdict scores another number of cells"
    for cell in verdict.cells:
        frame = pd.read_parquet(io.BytesIO(there[f"{cell.path}/units.parquet"]))
        for role in ("test_id", "test_ood"):
            rows = frame[frame["role"] == role]
            p = rows[[f"p_{name}" for name in CLASSES]].to_numpy(dtype=np.float64)
            found = f1_score(labels[rows["unit_id"]], np.array(CLASSES)[p.argmax(axis=1)], average="macro", labels=CLASSES, zero_division=0)
            if abs(found - cell.scores[role]["macro_f1"]) > 2e-6:
                return f"{cell.path}: macro-F1 of {role} is {found:.6f}, and the verdict says {cell.scores[role]['macro_f1']:.6f}"
    return ""
