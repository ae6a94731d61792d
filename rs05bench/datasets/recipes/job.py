"""One run of a recipe: the files it finds, what it drops, and a folder that appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from rs05bench.datasets.files import hidden
from rs05bench.datasets.recipes.possible_in_build import drawn_split, too_few_groups
from rs05bench.datasets.recipes.recipe_record import Recipe, SourceFiles, Value
from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.hashing import file_digest, text_digest
from rs05bench.protocol.splits import Split
from rs05bench.protocol.units import UnitTable

CARD, RECORD = "card.yaml", "build.json"
RECIPE_VERSION = 1
"""Raised when the same sources would give other files."""

CHECKED_UNITS = 20_000
"""Above so many units only the main split is drawn at once (a fold and unit is a row); the others are judged by their groups and years."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class BuiltTask:
    """What a recipe made.

    Attributes:
        card: The task card, as saved in `card.yaml`.
        folder: Where it lies.
        files: Names of the files written, relative to the folder.
        counts: Units, and whatever else was counted.
        dropped: Rows or files that did not become units: `reason`, `count`, `example`.
        splits_left_out: Split -> why these data do not allow it.
        notes: What the recipe wants a person to know.
    """

    card: TaskCard
    folder: Path
    files: tuple[str, ...]
    counts: dict[str, Any]
    dropped: list[dict[str, Any]]
    splits_left_out: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def report(self) -> str:
        """The same in words, a line a fact."""
        lines = [f"{self.card.name}: {self.card.title}", f"  {self.folder / CARD}"]
        lines += [f"  {name}: {_shown(value)}" for name, value in self.counts.items()]
        lines += [
            f"  dropped {item['count']}: {item['reason']}" + (f", e.g. {item['example']}" if item["example"] else "")
            for item in self.dropped
        ]
        lines.append(f"  splits: {', '.join(self.card.splits)}")
        lines += [f"  not possible: {split} ({why})" for split, why in self.splits_left_out.items()]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


@dataclass(slots=True)
class BuildJob:
    """What `Recipe.make` works with.

    Attributes:
        recipe: Whose run this is.
        root: The user's folder of source files; never written to.
        out: A temporary folder, renamed when all is done.
        options: Every option with its value.
        simulated: Whether a `SIMULATED.json` lies in or above the sources; the card must say so.
        progress: Called with what is being done, how much of it is done, and how much there is.
        counts: What the recipe counted.
        dropped: What it dropped.
        notes: What it wants a person to know.
    """

    recipe: Recipe
    root: Path
    out: Path
    options: Mapping[str, Any]
    simulated: bool = False
    progress: Progress = field(default=lambda what, done, total: None)
    counts: dict[str, Any] = field(default_factory=dict)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    used: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def splits(self) -> list[str]:
        """The recipe's splits as a card takes them; those that name no year yet (`until-<year>`) are for `make` to fill in."""
        return [split for split in self.recipe.splits if "<" not in split]

    def files(self, name: str) -> list[Path]:
        """All files of a source, sorted; empty where an optional source is absent."""
        if name not in self.used:
            self.used[name] = matching(self.root, self.recipe.source(name))
        return self.used[name]

    def file(self, name: str) -> Path:
        """The one file of a source.

        Raises:
            DataError: There are several.
        """
        found = self.files(name)
        if len(found) != 1:
            listed = ", ".join(str(path.relative_to(self.root)) for path in found[:4])
            raise DataError(
                f"expected one file of {name} ({' or '.join(self.recipe.source(name).patterns)}), found {len(found)}: {listed}",
                source=self.root,
                remedy="Keep the one that is meant under --root.",
            )
        return found[0]

    def drop(self, reason: str, count: int, example: Any = "") -> None:
        """Notes that `count` rows or files did not become units; the same reason again adds to it, and 0 is no drop."""
        said = next((item for item in self.dropped if item["reason"] == reason), None)
        if said is not None:
            said["count"] += int(count)
        elif count:
            self.dropped.append({"reason": reason, "count": int(count), "example": str(example)})

    def keep(self, frame: pd.DataFrame, wanted: Any, reason: str, example: str | None = None) -> pd.DataFrame:
        """The rows of `frame` where `wanted` holds; the others are counted under `reason`, the first named by its column `example`."""
        wanted = pd.Series(wanted, index=frame.index).fillna(False).astype(bool)
        lost = frame[~wanted]
        if len(lost):
            self.drop(reason, len(lost), lost[example].iloc[0] if example else lost.index[0])
        return frame[wanted]

    def card(self, **found: object) -> TaskCard:
        """The task card: what the record says of it, with the options filled in, and what was found in the sources.

        Args:
            **found: Further fields of the card; of `split_options` and `preprocessing` those that the record does not have. `words` fills
                further names in the record's texts.
        """
        from rs05bench.datasets.recipes.embedding_columns import credit, embedding_of

        words = {**self.options, "credit": credit(embedding_of(self)), **_mapping(found.pop("words", {}))}
        usual = {"kind": self.recipe.kind, "name": self.recipe.name, "splits": self.splits, "files": ["units.parquet"]}
        said = usual | _mapping(_filled(self.recipe.card, words))
        nested = {name: _mapping(said.get(name, {})) | _mapping(found.pop(name, {})) for name in ("split_options", "preprocessing")}
        return TaskCard.model_validate(said | {name: value for name, value in nested.items() if value} | found)

    def write_table(self, frame: pd.DataFrame, name: str = "units.parquet") -> Path:
        """Writes a table of units into the folder."""
        path = self.out / name
        frame.reset_index(drop=True).to_parquet(path, index=False, compression="zstd")
        return path


def run_recipe(
    recipe: Recipe,
    root: str | Path,
    out: str | Path,
    options: Mapping[str, Any] | None = None,
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> BuiltTask:
    """Build a task from source files.

    The folder `out` appears whole, at the end: `card.yaml`, the data files, and `build.json` (digests of the sources, counts, what was
    dropped
    and why). Splits that these data do not allow are taken off the card, with the reason in `build.json`.

    Args:
        recipe: Which.
        root: Folder that holds the source files.
        out: Folder to make.
        options: Options of the recipe.
        replace: Take the place of an earlier build in `out`.
        progress: Called with what is being done, how much is done and how much there is.

    Raises:
        DataError: A source is missing, partial or another product, or `out` holds something else.
    """
    root, out = Path(root), Path(out)
    values = recipe.values(options or {})
    if not root.is_dir():
        what = "the folder does not exist" if not root.exists() else "is a file, expected a folder"
        raise DataError(what, source=root, remedy=f"`rs05bench build --list` says what {recipe.name} needs and where to get it.")
    _require_sources(recipe, root)
    _may_write(out, root, replace)
    out.parent.mkdir(parents=True, exist_ok=True)
    _tidy(out)
    part = out.with_name(f".{out.name}.building-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    job = BuildJob(recipe, root, part, values, progress=progress or (lambda what, done, total: None))
    job.simulated = _is_simulated(job)
    try:
        card = recipe.make(job)
        card, refused = _check(recipe, card, job)
        card.save(part / CARD)
        _record(job, card, refused)
        _swap(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return _built(out)


def matching(root: Path, source: SourceFiles) -> list[Path]:
    """The files below a folder that a source means, sorted; nothing hidden, no resource fork."""
    found = {path for pattern in source.patterns for path in root.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not path.name.startswith("._") and not hidden(path.relative_to(root)))


def _require_sources(recipe: Recipe, root: Path) -> None:
    lost = [source.described() for source in recipe.sources if source.required and not matching(root, source)]
    if not lost:
        return
    lines = [f"  - {source.name}: {' or '.join(source.patterns)} ({source.title}; {source.url})" for source in lost]
    raise DataError(
        f"{len(lost)} of the sources of {recipe.name} {'is' if len(lost) == 1 else 'are'} missing:\n" + "\n".join(lines),
        source=root,
        remedy="Fetch them into this folder; the page of the recipe says how.",
    )


def _may_write(out: Path, root: Path, replace: bool) -> None:
    if out.resolve() == root.resolve():
        raise DataError("is the folder of the sources", source=out, remedy="Give another --out.")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / RECORD).is_file():
        raise DataError("already exists and is not an earlier build", source=out, remedy="Give another --out.")
    if not replace:
        raise DataError("holds an earlier build", source=out, remedy="Give another --out, or --replace to put the new one in its place.")


def _is_simulated(job: BuildJob) -> bool:
    folders = {job.root, job.root.resolve().parent}
    for source in job.recipe.sources:
        for path in job.files(source.name):
            folders |= {parent for parent in path.parents if parent.is_relative_to(job.root)}
    return any((folder / "SIMULATED.json").is_file() for folder in folders)


def _check(recipe: Recipe, card: TaskCard, job: BuildJob) -> tuple[TaskCard, dict[str, str]]:
    """Reads what was written as any user of the folder will, and keeps the splits that can be drawn over it."""
    refused = {split: "the sources lack its group or year" for split in job.splits if split not in card.splits}
    for split in card.splits:
        parsed = Split(split)
        if parsed.group and card.group_column(parsed.group) is None:
            refused[split] = f"the sources say no {parsed.group}"
        elif parsed.rule.needs_year and card.year is None:
            refused[split] = "the sources say no year"
    card = card.model_copy(update={"splits": [split for split in card.splits if split not in refused]})
    if faults := card.faults():
        raise DataError(f"the card has faults: {'; '.join(faults)}", source=f"recipe {recipe.name}")
    units = _units(card, job)
    many = len(units.frame) > CHECKED_UNITS
    for done, split in enumerate(card.splits):
        job.progress("splits", done, len(card.splits))
        if many and split != recipe.main_split:
            why = too_few_groups(card, units, split)
        else:
            why, idle = drawn_split(card, units, split)
            if idle:
                job.notes.append(f"{split}: no unit trains or none is tested in fold {', '.join(idle)}; leave it out with --folds.")
        if why:
            refused[split] = why
    if many:
        job.notes.append(
            f"More than {CHECKED_UNITS:,} units: only {recipe.main_split} was drawn; the other splits were judged by their groups."
        )
    kept = [split for split in card.splits if split not in refused]
    if not set(kept) - {"random"}:
        raise DataError(
            f"no split is possible over these {len(units.frame)} units: " + "; ".join(f"{split}: {why}" for split, why in refused.items()),
            source=job.root,
            remedy="Give more regions or years.",
        )
    job.counts = {"units": len(units.frame), **job.counts}
    update = {
        "splits": kept,
        "simulated": card.simulated or job.simulated,
        "notes": " ".join(filter(None, [card.notes, *recipe.leaks])),
        "source": card.source or "; ".join(source.described().url or source.described().title for source in recipe.sources),
    }
    return card.model_copy(update=update), refused


def _units(card: TaskCard, job: BuildJob) -> UnitTable:
    if card.reader in ("table", "presto"):
        from rs05bench.datasets.embedding_table import EmbeddingTable

        table = EmbeddingTable(card, job.out)
        for row in table.dropped.to_dict("records"):
            job.drop(str(row["reason"]), int(row["count"]), row["example"])
        return table.units()
    from rs05bench.datasets.chip_units import open_units

    return open_units(card, job.out)


def _record(job: BuildJob, card: TaskCard, refused: Mapping[str, str]) -> None:
    files = sorted(str(path.relative_to(job.out)) for path in job.out.rglob("*") if path.is_file())
    content = {
        "schema_version": 1,
        "recipe": job.recipe.name,
        "recipe_version": RECIPE_VERSION,
        "version": version("rs05bench"),
        "card_digest": card.digest,
        "simulated": card.simulated,
        "options": dict(job.options),
        "sources": {source.name: _provenance(job, source) for source in job.recipe.sources},
        "files": files,
        "counts": job.counts,
        "dropped": job.dropped,
        "splits_left_out": dict(refused),
        "notes": job.notes,
    }
    (job.out / RECORD).write_text(json.dumps(content, indent=1, ensure_ascii=False, default=_plain) + "\n", encoding="utf-8")


def _provenance(job: BuildJob, source: SourceFiles) -> dict[str, Any]:
    paths = job.files(source.name)
    if not source.bulk:
        return {
            "files": [{"path": str(path.relative_to(job.root)), "size": path.stat().st_size, "sha256": file_digest(path)} for path in paths]
        }
    listing = "".join(f"{path.relative_to(job.root)}|{path.stat().st_size}\n" for path in paths)
    return {"count": len(paths), "names_and_sizes_sha256": text_digest(listing)}


def _swap(part: Path, out: Path) -> None:
    """Puts the finished folder in its place; an earlier build steps aside first, so that a kill leaves one of the two."""
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    if out.exists():
        os.replace(out, old)
    os.replace(part, out)
    shutil.rmtree(old, ignore_errors=True)


def _tidy(out: Path) -> None:
    """Removes what a killed build left; a build that had stepped aside for it comes back."""
    for left in out.parent.glob(f".{out.name}.*-*"):
        kind, _, pid = left.name.removeprefix(f".{out.name}.").rpartition("-")
        if kind not in ("building", "old") or not pid.isdigit() or _alive(int(pid)):
            continue
        if kind == "old" and not out.exists():
            os.replace(left, out)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return pid != os.getpid()


def _built(folder: Path) -> BuiltTask:
    content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return BuiltTask(
        card=TaskCard.load(folder / CARD),
        folder=folder,
        files=tuple(content["files"]),
        counts=content["counts"],
        dropped=content["dropped"],
        splits_left_out=content["splits_left_out"],
        notes=tuple(content["notes"]),
    )


def _filled(value: object, words: Mapping[str, object]) -> object:
    if isinstance(value, str):
        return value.format(**words)
    if isinstance(value, dict):
        return {name: _filled(item, words) for name, item in value.items()}
    return [_filled(item, words) for item in value] if isinstance(value, list) else value


def _mapping(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


def _plain(value: Any) -> Value:
    return value.item() if hasattr(value, "item") else str(value)


def _shown(value: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in value.items()) if isinstance(value, dict) else str(value)
