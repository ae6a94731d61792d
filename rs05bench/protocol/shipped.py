"""The manifests of the package by name: three small ones are in the wheel, the others are fetched from the Hub by their digests.

`manifests/index.json` holds the size and SHA-256 of every file of every manifest. A checkout of the repository and a source distribution
hold the files themselves, so that nothing is fetched there.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from pydantic import Field

from rs05bench.errors import DataError
from rs05bench.protocol.documents import read_json_mapping
from rs05bench.protocol.hashing import file_digest
from rs05bench.protocol.safe_paths import cache_folder, checked_name, inside
from rs05bench.protocol.strict_record import FrozenRecord

ROOT = Path(__file__).parent / "manifests"
INDEX = "index.json"
SUFFIXES = (".parquet", ".units.parquet", ".json")
REPOSITORY = "rs05bench/manifests"
"""The dataset repository of the Hub; another one through the variable RS05BENCH_MANIFESTS, another Hub through HF_ENDPOINT."""


class SealedFile(FrozenRecord):
    """A file of a manifest.

    Attributes:
        size: Bytes.
        sha256: Of its bytes.
    """

    size: int = Field(gt=0, lt=1 << 30)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ShippedManifest(FrozenRecord):
    """What the index knows of a manifest.

    Attributes:
        digest: Over its rows and positions.
        units: How many.
        folds: How many.
        verdict: Of its audit.
        can_be_main: Whether a result on it may be a main one.
        files: Suffix -> file, for each of `SUFFIXES`.
    """

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    units: int
    folds: int
    verdict: str
    can_be_main: bool
    files: dict[str, SealedFile]


class _Index(FrozenRecord):
    schema_version: int
    manifests: dict[str, ShippedManifest]


def shipped_index() -> dict[str, ShippedManifest]:
    """Every manifest of the package, by name; those over simulated units are named `simulated/<task>/<split>@vN`.

    Raises:
        DataError: The index of the package is damaged.
    """
    path = ROOT / INDEX
    try:
        return _Index.model_validate(read_json_mapping(path)).manifests
    except ValueError as error:
        raise DataError(f"not an index of manifests: {error}", source=path, remedy="Install the package again.") from error


def shipped_manifests() -> dict[str, Path]:
    """Those that are on this machine: name -> path of the main Parquet file.

    The package's own files come first (the wheel's three, or all of a checkout), then what was fetched and is still what the index names.
    """
    names = {path.relative_to(ROOT).as_posix().removesuffix(".parquet"): path for path in _files(ROOT)}
    for name, entry in shipped_index().items():
        if name not in names and (path := _kept(name, entry)) is not None:
            names[name] = path
    return dict(sorted(names.items()))


def newest_version(name: str, there: Iterable[str]) -> str | None:
    """The newest `task/split@vN` of a `task/split` among some names; None where there is none."""
    versions = {int(known.rpartition("@v")[2]): known for known in there if known.rpartition("@v")[0] == name}
    return versions[max(versions)] if versions else None


def shipped_path(name: str) -> Path:
    """The main Parquet file of a manifest of the package; fetched from the Hub where it is not on this machine.

    Args:
        name: `task/split@vN`, e.g. `burn-scar/leave-biome-out@v1`; without `@vN` the newest.

    Raises:
        DataError: There is none of this name (the message lists those there are), it cannot be fetched, or a fetched file is not the one
            the index names. Nothing of such a file is read or kept.
    """
    index = shipped_index()
    own = {path.relative_to(ROOT).as_posix().removesuffix(".parquet"): path for path in _files(ROOT)}
    known = sorted({*index, *own})
    chosen = name if name in known else newest_version(name, known)
    if chosen is None:
        raise DataError(f"no manifest {name!r}; there are: {', '.join(known) or 'none'}", source="shipped manifests")
    if chosen in own:
        return own[chosen]
    return _kept(chosen, index[chosen]) or _fetch(chosen, index[chosen])


def fetched_folder() -> Path:
    """Where fetched manifests are kept: `manifests` in the cache folder."""
    return cache_folder("manifests")


def hub_path(name: str, suffix: str) -> str:
    """Where a file of a manifest is in a repository of the Hub, whose file system reads an `@` as a revision.

    >>> hub_path("simulated/crop/random@v2", ".json")
    'manifests/simulated-crop/random-v2.json'
    """
    task, _, split = name.replace("simulated/", "simulated-", 1).rpartition("/")
    return f"manifests/{task}/{split.replace('@', '-')}{suffix}"


def _files(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("**/*@v*.parquet") if not path.name.endswith(".units.parquet"))


def _place(name: str, suffix: str) -> Path:
    return inside(fetched_folder(), f"{checked_name('manifest', name)}{suffix}")


def _kept(name: str, entry: ShippedManifest) -> Path | None:
    """The fetched file, where all three are what the index names; a damaged one counts as missing."""
    places = {suffix: _place(name, suffix) for suffix in SUFFIXES}
    whole = all(path.is_file() and _is(path, entry.files[suffix]) for suffix, path in places.items())
    return places[".parquet"] if whole else None


def _is(path: Path, sealed: SealedFile) -> bool:
    return path.stat().st_size == sealed.size and file_digest(path) == sealed.sha256


def _fetch(name: str, entry: ShippedManifest) -> Path:
    """Fetches three files, compares each with the index, and puts them in their place."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    repo = os.environ.get("RS05BENCH_MANIFESTS") or REPOSITORY
    refuse = partial(DataError, source=f"{repo} on the Hub", remedy=_how(name))
    place = _place(name, ".parquet")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=place.parent) as folder:
        found: dict[str, Path] = {}
        try:
            sizes = {
                suffix: get_hf_file_metadata(hf_hub_url(repo, hub_path(name, suffix), repo_type="dataset")).size for suffix in SUFFIXES
            }
            if sizes == {suffix: entry.files[suffix].size for suffix in SUFFIXES}:
                for suffix in SUFFIXES:
                    found[suffix] = Path(hf_hub_download(repo, hub_path(name, suffix), repo_type="dataset", local_dir=folder))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT):
                raise  # this machine's disk, and not the network
            problem = f"the manifest {name} (digest {entry.digest}) is not on this machine and cannot be fetched: {_said(error)}"
            raise refuse(problem) from error
        for suffix, sealed in entry.files.items():
            if suffix not in found or not _is(found[suffix], sealed):
                problem = (
                    f"{hub_path(name, suffix)} is not the file of the manifest {name} that the package names (SHA-256 {sealed.sha256})"
                )
                raise refuse(problem)
        for suffix, path in reversed(found.items()):
            path.replace(_place(name, suffix))
    return place


def _how(name: str) -> str:
    return (
        f"With a network: rs05bench manifest pull {name} (without HF_HUB_OFFLINE). Without one: a checkout of the repository and the "
        f"source distribution hold it under rs05bench/protocol/manifests; copy its three files to {fetched_folder() / name}.*"
    )


def _said(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
