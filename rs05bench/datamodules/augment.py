"""Random flips and turns of a batch, the same for all its rasters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rs05bench.errors import ProtocolError


def augment(batch: dict[str, Any], operations: list[str]) -> dict[str, Any]:
    """Random flips and quarter turns of a batch with kornia, the same for all its rasters.

    Args:
        batch: A training batch.
        operations: Among `hflip`, `vflip`, `rot90`.

    Raises:
        ProtocolError: An operation the package does not know.
    """
    known = {"hflip", "vflip", "rot90"}
    if unknown := sorted(set(operations) - known):
        raise ProtocolError(f"augmentation {unknown} is unknown (known: {sorted(known)})")
    if not operations:
        return batch
    from kornia import augmentation as kornia

    steps = {
        "hflip": kornia.RandomHorizontalFlip(p=0.5),
        "vflip": kornia.RandomVerticalFlip(p=0.5),
        # Nearest and whole quarter turns move pixels and change none: NaN and -1 arrive as they were.
        "rot90": kornia.RandomRotation90((0, 3), resample="nearest", p=1.0),
    }
    rasters = [name for name in ("image", "embedding", "extra", "mask") if name in batch]
    planes = [_planes(batch[name]) for name in rasters]
    turned = torch.cat(planes, dim=1)
    if turned.shape[-1] != turned.shape[-2]:
        operations = [name for name in operations if name != "rot90"]
    for name in operations:
        turned = steps[name](turned)
    out = dict(batch)
    for name, plane in zip(rasters, turned.split([plane.shape[1] for plane in planes], dim=1), strict=True):
        out[name] = plane.reshape(*batch[name].shape[:-2], *plane.shape[-2:]).to(batch[name].dtype)
    return out


def _planes(values: Tensor) -> Tensor:
    return values.reshape(values.shape[0], -1, *values.shape[-2:]).float()
