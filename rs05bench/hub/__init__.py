"""Manifests, label packs and results to and from the Hugging Face Hub.

A repository holds `manifests/<task>/<split>-v<N>.parquet` (each a config of its own for `datasets.load_dataset`), `labels/<task>/`,
`results/<digest>/`, an index with every digest (`rs05bench.json`), a dataset card with a YAML header (`README.md`) and Croissant metadata
(`croissant.json`). The token comes from the environment (`HF_TOKEN`) and is never printed. What is pulled is pinned to a commit, and
checked before it is put in its place.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rs05bench.errors import DataError
from rs05bench.hub.dataset_card import INDEX, croissant, readme
from rs05bench.protocol.atomic import write_text, writing
from rs05bench.protocol.hashing import file_digest
from rs05bench.protocol.labels import LabelPack
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.result import Result
from rs05bench.protocol.safe_paths import NameKind, checked_digest, checked_name, inside
from rs05bench.protocol.shipped import SUFFIXES, hub_path, shipped_index, shipped_manifests

RECORD = "hub.json"
"""What was pulled, from where and at which commit: written beside it."""

TOKEN_NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")

Item = dict[str, Any]


def stage(
    folder: str | Path,
    repo: str,
    *,
    manifests: Iterable[SplitManifest] = (),
    labels: Iterable[LabelPack] = (),
    results: Iterable[str | Path] = (),
    predictions: bool = False,
    known: Sequence[Item] = (),
) -> list[Item]:
    """Lays out what is to be pushed, with card, index and Croissant metadata.

    Args:
        folder: Where; made where missing.
        repo: `owner/name`, for the card.
        manifests: Manifests.
        labels: Label packs; one that may not be passed on is refused.
        results: Folders of cells (each with `result.json`).
        predictions: Whether to include the predictions beside results.
        known: Items the repository holds already.

    Returns:
        All items of the repository, sorted by kind and name.

    Raises:
        DataError: A label pack may not be passed on, a name is there with another digest, or there is nothing to push.
    """
    root = Path(folder)
    items = {(str(item["kind"]), str(item["name"])): item for item in known}
    new = [_stage_manifest(root, manifest) for manifest in manifests]
    new += [_stage_labels(root, pack) for pack in labels]
    new += [_stage_result(root, Path(cell), predictions) for cell in results]
    if not new:
        raise DataError("nothing to push", remedy="Name manifests, label packs or a folder of results.")
    for item in new:
        there = items.get((item["kind"], item["name"]))
        if there is not None and there["digest"] != item["digest"]:
            raise DataError(
                f"{repo} holds another {item['kind']} {item['name']} (digest {there['digest'][:12]}…, here {item['digest'][:12]}…)",
                remedy="Frozen means frozen: push it as a new version.",
            )
        items[item["kind"], item["name"]] = item
    every = [items[key] for key in sorted(items)]
    write_text(root / INDEX, json.dumps({"schema_version": 1, "items": every}, indent=2, ensure_ascii=False) + "\n")
    write_text(root / "README.md", readme(repo, every))
    metadata = croissant(repo, every)
    write_text(root / "croissant.json", json.dumps(metadata, indent=2, ensure_ascii=False, default=str) + "\n")
    return every


def push(
    repo: str,
    *,
    manifests: Iterable[SplitManifest] = (),
    labels: Iterable[LabelPack] = (),
    results: Iterable[str | Path] = (),
    predictions: bool = False,
    private: bool = False,
    message: str = "Add manifests and results",
) -> str:
    """Pushes to a dataset repository, made where missing; what it holds already stays.

    Returns:
        The commit.

    Raises:
        DataError: No token, nothing to push, another content under a name that is there, or the Hub refuses.
    """
    from huggingface_hub import HfApi

    token = _token()
    if token is None:
        raise DataError("no token to push with", source=repo, remedy=f"Set {TOKEN_NAMES[0]} in the environment to a token that may write.")
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory(prefix="rs05bench-hub-") as name:
        try:
            api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
            known = _index(repo, "main", missing_ok=True)
            stage(name, repo, manifests=manifests, labels=labels, results=results, predictions=predictions, known=known)
            commit = api.upload_folder(repo_id=repo, repo_type="dataset", folder_path=name, commit_message=message)
        except DataError:
            raise
        except Exception as error:
            raise _refused(repo, error) from None
    return str(commit.oid)


def pull(
    repo: str, out: str | Path, *, revision: str = "main", names: Sequence[str] = (), digest: str | None = None
) -> tuple[str, list[tuple[Item, Path]]]:
    """Pulls items and checks them; nothing is put in its place before all are found right.

    Args:
        repo: `owner/name`.
        out: Where to put them: `manifests/`, `labels/`, and results as a sweep keeps them.
        revision: Branch, tag or commit; the commit it stands for is what is read, and is returned.
        names: Items by name (`crop/leave-state-out@v1`, a task's labels, a cell's digest); default all.
        digest: The digest the one item named must have.

    Returns:
        The commit, and each item with its place.

    Raises:
        DataError: No such repository, revision or item; a name or digest that is none; a digest that differs; a file that is not what it
            should be; a place that holds something else. Nothing is removed or replaced.
    """
    from huggingface_hub import HfApi, snapshot_download

    target = Path(out)
    _may_pin(target / RECORD)
    if digest is not None and len(names) != 1:
        raise DataError("a digest is that of one item", source=repo, remedy="Name the one item with --name.")
    try:
        commit = str(HfApi(token=_token() or False).dataset_info(repo, revision=revision).sha)
    except Exception as error:
        raise _refused(repo, error) from None
    items = [item for item in _index(repo, commit) if not names or item["name"] in names]
    if lost := sorted(set(names) - {str(item["name"]) for item in items}):
        raise DataError(f"holds no {lost[0]!r}", source=f"{repo}@{commit[:12]}")
    with tempfile.TemporaryDirectory(prefix="rs05bench-hub-") as folder:
        wanted = [str(file) for item in items for file in item["files"]]
        try:
            snapshot_download(repo, repo_type="dataset", revision=commit, allow_patterns=wanted, local_dir=folder, token=_token() or False)
        except Exception as error:
            raise _refused(repo, error) from None
        for item in items:
            _check(Path(folder), item, digest, f"{repo}@{commit[:12]}")
            _there(item, target)
        placed = [(item, _place(Path(folder), item, target)) for item in items]
    target.mkdir(parents=True, exist_ok=True)
    pinned = {"repo": repo, "revision": commit, "items": {f"{item['kind']} {item['name']}": item["digest"] for item in items}}
    write_text(target / RECORD, json.dumps(pinned, indent=2) + "\n")
    return commit, placed


def fetch_folder(repo: str, revision: str, out: str | Path) -> Path:
    """Fetches the files of a submission from a dataset repository at a commit.

    Args:
        repo: `owner/name`.
        revision: The commit.
        out: Folder to put them in.

    Raises:
        DataError: The Hub refuses, or there is no such repository or commit.
    """
    from huggingface_hub import snapshot_download

    wanted = ["predictions.parquet", "samples.parquet", "maps/**"]
    try:
        snapshot_download(repo, repo_type="dataset", revision=revision, allow_patterns=wanted, local_dir=out, token=_token() or False)
    except Exception as error:
        raise _refused(repo, error) from None
    shutil.rmtree(Path(out) / ".cache", ignore_errors=True)
    return Path(out)


def _may_pin(path: Path) -> None:
    """Refuses to replace a file that is not a record of an earlier pull."""
    if not path.exists() and not path.is_symlink():
        return
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        earlier = None
    if path.is_symlink() or not (isinstance(earlier, dict) and {"repo", "revision", "items"} <= set(earlier)):
        raise DataError("already exists and is not a record of an earlier pull", source=path, remedy="Pull into another folder.")


def _stage_manifest(root: Path, manifest: SplitManifest) -> Item:
    manifest.verify()
    name, card = manifest.name, manifest.card
    own = shipped_manifests().get(name)
    with tempfile.TemporaryDirectory(prefix="rs05bench-hub-") as folder:
        # The package's own go as the files they are: others compare their bytes with the package's index.
        unchanged = own is not None and (found := SplitManifest.load(own)).digest == manifest.digest and found.card == card
        saved = own if own is not None and unchanged else manifest.save(folder, compression_level=19)
        stem = saved.name.removesuffix(".parquet")
        files = [_copied(saved.with_name(stem + suffix), root / hub_path(name, suffix)) for suffix in SUFFIXES]
    return {
        **_named("manifest", manifest.name, manifest.digest, root, files),
        **{key: card.get(key) for key in ("licence", "citation", "source", "simulated", "units", "can_be_main")},
        "folds": len(manifest.folds),
        "verdict": (card.get("audit") or {}).get("verdict"),
        "columns": [str(column) for column in manifest.table.columns],
    }


def _stage_labels(root: Path, pack: LabelPack) -> Item:
    if not pack.record.get("redistributable"):
        raise DataError(
            f"the labels of {pack.card.name} may not be passed on (licence: {pack.record.get('licence') or 'not stated'})",
            source=pack.directory,
            remedy="Publish their digest; whoever has the data rebuilds them with `rs05bench labels build`.",
        )
    pack.verify()
    folder = root / "labels" / pack.card.name
    names = ["labels.json", "card.yaml", "masks.parquet" if pack.chips else "labels.parquet"]
    names += [str(file) for file in pack.table["file"]] if pack.chips else []
    files = [_copied(pack.directory / name, folder / name) for name in names]
    kept = {key: pack.record.get(key) for key in ("licence", "citation", "source", "simulated", "units")}
    return {**_named("labels", pack.card.name, str(pack.record["digest"]), root, files), **kept}


def _stage_result(root: Path, cell: Path, predictions: bool) -> Item:
    result = _read_result(cell / "result.json")
    folder = root / "results" / result.digest
    files = [_copied(cell / "result.json", folder / "result.json")]
    if predictions:
        beside = sorted(path for path in (cell / "predictions").rglob("*") if path.is_file())
        if not beside:
            raise DataError("keeps no predictions", source=cell, remedy="Run the sweep with its predictions kept, or push without them.")
        files += [_copied(path, folder / path.relative_to(cell)) for path in beside]
    words = {"task": result.cell.task, "split": result.cell.split, "model": result.cell.model, "simulated": result.simulated}
    return {**_named("result", result.digest, result.digest, root, files), **words}


def _read_result(path: Path) -> Result:
    try:
        result = Result.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError("no such result", source=path) from error
    except ValueError as error:
        raise DataError(f"is no result: {error}", source=path) from error
    if result.cell.digest(**result.rests_on()) != result.digest:
        raise DataError(
            "its digest is not that of its cell and of what it rests on", source=path, remedy="It was edited; run the cell again."
        )
    return result


def _named(kind: str, name: str, digest: str, root: Path, files: Sequence[Path]) -> Item:
    sums = {path.relative_to(root).as_posix(): file_digest(path) for path in files}
    return {"kind": kind, "name": name, "digest": digest, "files": sums}


def _copied(source: Path, target: Path) -> Path:
    if not source.is_file():
        raise DataError("no such file", source=source)
    with writing(target) as part:
        shutil.copyfile(source, part)
    return target


def _index(repo: str, revision: str, *, missing_ok: bool = False) -> list[Item]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    with tempfile.TemporaryDirectory(prefix="rs05bench-hub-") as folder:
        try:
            path = hf_hub_download(repo, INDEX, repo_type="dataset", revision=revision, local_dir=folder, token=_token() or False)
            items = json.loads(Path(path).read_text(encoding="utf-8"))["items"]
        except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
            if missing_ok:
                return []
            raise DataError(f"holds no {INDEX}: it was not made by rs05bench", source=f"{repo}@{revision[:12]}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{INDEX} cannot be read: {error}", source=f"{repo}@{revision[:12]}") from error
        except Exception as error:
            raise _refused(repo, error) from None
    source = f"{repo}@{revision[:12]}"
    if not isinstance(items, list):
        raise DataError(f"{INDEX} holds no list of items", source=source)
    for item in items:
        _check_entry(item, source)
    return list(items)


_FOLDERS: dict[str, NameKind] = {"manifest": "manifest", "labels": "labels", "result": "result"}
"""The kinds of items, and the form of their names."""


def _check_entry(item: object, source: str) -> None:
    """Refuses an entry of an index whose kind, name, digest or files are not of the form that `stage` writes."""
    if not isinstance(item, dict) or not isinstance(item.get("files"), dict) or not item["files"]:
        raise DataError(f"{INDEX} holds an entry without files: {str(item)[:80]!r}", source=source)
    kind = item.get("kind")
    if kind not in _FOLDERS:
        raise DataError(f"an item is of an unknown kind {str(kind)[:80]!r}", source=source)
    name = checked_name(_FOLDERS[kind], item.get("name"), source=source)
    digest = checked_digest(item.get("digest"), source=source)
    if kind == "result" and name != digest:
        raise DataError(f"the result {name[:12]}… is said to have the digest {digest[:12]}…", source=source)
    with tempfile.TemporaryDirectory(prefix="rs05bench-hub-") as folder:
        for file, said in item["files"].items():
            inside(folder, file, source=source)
            checked_digest(said, source=source)


def _check(folder: Path, item: Item, wanted: str | None, source: str) -> None:
    """Refuses an item whose content is not what the index, the caller, or the package itself says it is."""
    for file, said in item["files"].items():
        path = folder / file
        if not path.is_file():
            raise DataError(f"{file} is missing", source=source)
        if file_digest(path) != said:
            raise DataError(f"{file} is not the file the index names (SHA-256 differs)", source=source, remedy="Pull another revision.")
    found, name = _content_of(folder, item)
    if name != item["name"]:
        raise DataError(f"{item['kind']} {item['name']} holds {name!r}", source=source, remedy="Nothing was kept.")
    expected = {"the index": str(item["digest"])}
    if wanted is not None:
        expected["you"] = wanted
    if item["kind"] == "manifest" and item["name"] in (shipped := shipped_index()):
        expected["the package"] = shipped[item["name"]].digest
    for who, said in expected.items():
        if not (len(said) >= 12 and found.startswith(said)):
            raise DataError(
                f"{item['kind']} {item['name']} has the digest {found[:16]}…, and {who} says {said[:16]}…",
                source=source,
                remedy="It was changed after it was frozen, or is another version. Nothing was kept.",
            )


def _main(folder: Path, item: Item) -> Path:
    """The file an item is opened by: the first of its list."""
    return inside(folder, next(iter(item["files"])))


def _content_of(folder: Path, item: Item) -> tuple[str, str]:
    """Digest and name of an item, by what its files hold."""
    main = _main(folder, item)
    if item["kind"] == "manifest":
        manifest = SplitManifest.load(main)
        return manifest.digest, manifest.name
    if item["kind"] == "labels":
        pack = LabelPack.load(main.parent)
        return pack.digest, pack.card.name
    digest = _read_result(main).digest
    return digest, digest


def _place_of(item: Item, target: Path) -> Path:
    """Where an item belongs: the Parquet file of a manifest, the folder of labels or of a result."""
    if item["kind"] == "manifest":
        return inside(target, "manifests", f"{item['name']}.parquet")
    if item["kind"] == "labels":
        return inside(target, "labels", item["name"])
    return inside(target, "cells", item["digest"][:2], item["digest"])


def _there(item: Item, target: Path) -> bool:
    """Whether an item is in its place already.

    Raises:
        DataError: Something else is there; it is left as it is.
    """
    place = _place_of(item, target)
    parts = [place]
    if item["kind"] == "manifest":
        parts += [place.with_name(place.name.removesuffix(".parquet") + suffix) for suffix in (".units.parquet", ".json")]
    if not any(path.exists() or path.is_symlink() for path in parts):
        return False
    try:
        if item["kind"] == "manifest":
            found = SplitManifest.load(place).digest
        elif item["kind"] == "labels":
            found = LabelPack.load(place).digest
        else:
            found = _read_result(place / "result.json").digest
    except DataError as error:
        raise DataError(
            f"already exists and is not the {item['kind']} {item['name']} ({error.problem})",
            source=place,
            remedy="Nothing was changed. Pull into another folder, or move it away.",
        ) from error
    if found != item["digest"]:
        raise DataError(
            f"already exists with the digest {found[:16]}…, and the one to pull has {item['digest'][:16]}…",
            source=place,
            remedy="Nothing was changed. Pull into another folder, or move it away.",
        )
    return True


def _place(folder: Path, item: Item, target: Path) -> Path:
    """Puts an item in its place, whole; what already exists stays."""
    place = _place_of(item, target)
    if _there(item, target):
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    main = _main(folder, item)
    if item["kind"] == "manifest":
        return SplitManifest.load(main).save(place.parent)
    part = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        for file in item["files"]:
            source = inside(folder, file)
            _copied(source, inside(part, source.relative_to(main.parent).as_posix()))
        part.rename(place)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return place


def _token() -> str | None:
    return next((value for name in TOKEN_NAMES if (value := os.environ.get(name))), None)


def _refused(repo: str, error: Exception) -> DataError:
    """What the Hub said, without the token should a library have put it into its message."""
    text = " ".join(str(error).split()) or type(error).__name__
    if token := _token():
        text = text.replace(token, "<token>")
    return DataError(
        f"the Hub refuses: {text[:400]}", source=repo, remedy="Check the name, the revision, the token's rights and the network."
    )
