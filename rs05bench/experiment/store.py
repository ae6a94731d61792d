"""The store of results: a folder a cell, named by the cell's digest, written whole and renamed last.

A folder without `result.json` is unfinished work and is run again. Nothing is ever edited in place, and a cell that is already
there is never written twice, so any number of processes may write at once, on any machines that share the folder.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rs05bench.errors import DataError
from rs05bench.protocol.atomic import clear_leftovers, remove_folder, write_json, writing
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.documents import read_json_mapping
from rs05bench.protocol.hashing import text_digest
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.predictions import Predictions
from rs05bench.protocol.result import Cell, Cost, Result
from rs05bench.protocol.safe_paths import child
from rs05bench.protocol.stored_predictions import read_predictions

if TYPE_CHECKING:
    import pandas as pd

    from rs05bench.experiment.sensitivity_record import Sensitivity


class ResultStore:
    """Results of any number of tasks under one folder.

    Args:
        root: The folder; made where missing.

    Layout: `cells/<2 hex>/<digest>/{result.json,predictions/}`, `failures/<digest>.json`, `skipped/<digest>.json` (nothing to answer),
    `costs/<digest>.json`, `cards/<task>.yaml`,
    `manifests/<task>/`, `labels/<data digest>.parquet`, `grids/<digest>.yaml` (what was asked for), `reported/` (imported and not scored
    again: nothing reads it), `index/` (`rs05bench.experiment.query`; can be deleted at any time).
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def folder(self, digest: str) -> Path:
        """Where a cell's result lies."""
        return child(self.root, "cells", digest[:2], digest)

    def __contains__(self, digest: str) -> bool:
        return (self.folder(digest) / "result.json").is_file()

    def digests(self) -> set[str]:
        """Digests of all finished cells."""
        found: set[str] = set()
        for folder in entries_of(self.root / "cells"):
            for cell in entries_of(folder):
                if not cell.name.startswith(".") and os.path.isfile(os.path.join(cell.path, "result.json")):
                    found.add(cell.name)
        return found

    def write(self, result: Result, predictions: Predictions | None) -> Path:
        """Stores a result whole; a cell that already exists stays as it is."""
        target = self.folder(result.digest)
        if result.digest in self:
            return target
        if target.exists():  # a folder without a result is unfinished work
            remove_folder(target)
        with writing(target, existing="keep") as work:
            work.mkdir()
            if predictions is not None:
                predictions.write(work / "predictions")
            (work / "result.json").write_text(result.model_dump_json(exclude_none=True), encoding="utf-8")
        (_named(self.root, "failures", result.digest, ".json")).unlink(missing_ok=True)
        return target

    def read(self, digest: str) -> Result:
        """One result.

        Raises:
            DataError: It is missing, or its file is not a result.
        """
        path = self.folder(digest) / "result.json"
        try:
            return Result.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise DataError("no such result", source=path) from error
        except ValueError as error:
            raise DataError(f"is no result: {error}", source=path, remedy="Delete its folder and run the sweep again.") from error

    def results(self) -> Iterator[Result]:
        """All results, ordered by digest."""
        for digest in sorted(self.digests()):
            yield self.read(digest)

    def predictions(self, digest: str) -> Predictions:
        """The predictions a result was scored from."""
        return read_predictions(self.folder(digest) / "predictions")

    def fail(self, digest: str, cell: Cell, error: str, log: str = "") -> None:
        """Keeps what went wrong with a cell."""
        write_json(
            _named(self.root, "failures", digest, ".json"),
            {"cell": cell.model_dump(mode="json"), "digest": digest, "error": error, "log": log},
        )

    def failures(self) -> list[dict[str, Any]]:
        """Cells that failed and have not succeeded since."""
        found = [read_json_mapping(path) for path in sorted((self.root / "failures").glob("[!.]*.json"))]
        return [failure for failure in found if failure["digest"] not in self]

    def failed(self) -> set[str]:
        """Digests of cells with a recorded failure."""
        return {entry.name.removesuffix(".json") for entry in entries_of(self.root / "failures") if not entry.name.startswith(".")}

    def skip(self, digest: str, cell: Cell, why: str) -> None:
        """Keeps why a cell has nothing to answer: it is not run again, and nothing of it failed."""
        record = {"cell": cell.model_dump(mode="json"), "digest": digest, "why": why}
        write_json(_named(self.root, "skipped", digest, ".json"), record)

    def skipped(self) -> set[str]:
        """Digests of cells that have nothing to answer."""
        return {entry.name.removesuffix(".json") for entry in entries_of(self.root / "skipped") if not entry.name.startswith(".")}

    def remove(self, digest: str) -> None:
        """Removes a cell's result, its cost and its failure. The folder gets another name first, so that none is ever seen half there."""
        remove_folder(self.folder(digest))
        for kind in ("costs", "failures", "skipped"):
            _named(self.root, kind, digest, ".json").unlink(missing_ok=True)

    def put_sensitivity(self, found: Sensitivity) -> Path:
        """Keeps how far a task's score moves with the draw of its split; an earlier record of the same target is replaced."""
        path = _named(self.root, "sensitivity", f"{found.task}-{text_digest(found.target)[:12]}", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found.model_dump(mode="json"))
        return path

    def sensitivity(self, task: str, target: str) -> Sensitivity | None:
        """What `put_sensitivity` kept; None where nothing was."""
        from rs05bench.experiment.sensitivity_record import Sensitivity

        path = _named(self.root, "sensitivity", f"{task}-{text_digest(target)[:12]}", ".json")
        return Sensitivity.model_validate(read_json_mapping(path)) if path.is_file() else None

    def put_cost(self, digest: str, cost: Cost) -> None:
        """Keeps a cost measured alone, beside the result it belongs to."""
        write_json(_named(self.root, "costs", digest, ".json"), cost.model_dump(mode="json", exclude_none=True))

    def costs(self) -> dict[str, Cost]:
        """Costs measured alone, by digest."""
        return {path.stem: Cost.model_validate_json(path.read_bytes()) for path in sorted((self.root / "costs").glob("*.json"))}

    def put_card(self, card: TaskCard) -> Path:
        """Keeps the card results rest on."""
        path = _named(self.root, "cards", card.name, ".yaml")
        with writing(path) as part:
            card.save(part)
        return path

    def cards(self) -> dict[str, TaskCard]:
        """All cards, by task name."""
        return {path.stem: TaskCard.load(path) for path in sorted((self.root / "cards").glob("*.yaml"))}

    def put_manifest(self, manifest: SplitManifest) -> Path:
        """Keeps a manifest; a different one under the same name is refused.

        Raises:
            DataError: Another manifest of this name is there.
        """
        folder = child(self.root, "manifests", manifest.task)
        path = child(folder, f"{manifest.split}@v{manifest.version}.parquet")
        for other in folder.glob(f"{glob.escape(manifest.split)}@v*.json"):
            there = read_json_mapping(other).get("digest")
            if other.stem == path.stem and there == manifest.card.get("digest"):
                return path
            raise DataError(
                f"holds another manifest {manifest.task}/{other.stem} (digest {str(there)[:12]}…; asked for is {manifest.name}, "
                f"{manifest.digest[:12]}…)",
                source=self.root,
                remedy="The data, the card or the frozen manifest changed. Use a new --out folder.",
            )
        manifest.save(folder)
        return path

    def manifest(self, task: str, split: str, version: int | None = None) -> SplitManifest:
        """A manifest results rest on, of the one version that a folder holds; `+k` splits share that of their base."""
        folder, base = child(self.root, "manifests", task), split.split("+")[0]
        if version is None:
            found = [path for path in folder.glob(f"{glob.escape(base)}@v*.parquet") if not path.name.endswith(".units.parquet")]
            if found:
                return SplitManifest.load(found[0])
        return SplitManifest.load(child(folder, f"{base}@v{version or 1}.parquet"))

    def manifests(self) -> list[SplitManifest]:
        """All manifests."""
        there = sorted(self.root.glob("manifests/*/*@v*.parquet"))
        return [SplitManifest.load(path) for path in there if not path.name.endswith(".units.parquet")]

    def put_labels(self, digest: str, labels: pd.DataFrame) -> Path:
        """Keeps the labels results were scored with, so that any other score can be computed from their predictions.

        Args:
            digest: Digest of the data, as results name it.
            labels: A column a target, indexed by `unit_id`.
        """
        path = _named(self.root, "labels", digest, ".parquet")
        if path.is_file():
            return path
        with writing(path) as part:
            labels.rename_axis("unit_id").reset_index().to_parquet(part, index=False, compression="zstd")
        return path

    def labels(self, digest: str) -> pd.DataFrame | None:
        """The labels behind results on these data: a column a target, indexed by `unit_id`; None where they were not kept."""
        import pandas as pd

        path = _named(self.root, "labels", digest, ".parquet")
        if not path.is_file():
            return None
        try:
            return pd.read_parquet(path).set_index("unit_id")
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"holds no labels: {error}", source=path, remedy="Delete the file and run the sweep again.") from error

    def sweep_leftovers(self) -> int:
        """Removes what writers that are gone left half written; returns how many pieces."""
        places = [self.root / kind for kind in ("failures", "skipped", "costs", "cards", "labels", "grids", "index")]
        for kind in ("cells", "manifests"):
            places += [Path(entry.path) for entry in entries_of(self.root / kind)]
        return sum(clear_leftovers(place) for place in places)


def _named(root: Path, kind: str, name: str, ending: str) -> Path:
    """A file of a store by a name from outside."""
    return child(root, kind, name).with_name(f"{name}{ending}")


def entries_of(folder: str | Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    """What a folder holds; nothing where it is not there (any more) or is none."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []
