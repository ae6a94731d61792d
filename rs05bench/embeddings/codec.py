"""The quantisation of AlphaEarth embeddings, and the vector arithmetic that respects it.

The annual embeddings are published as signed bytes `q`. A component is `sign(q) * (q / 127.5) ** 2`, and `-128` marks a masked pixel
(`Satellite Embedding V1 <https://developers.google.com/earth-engine/datasets/catalog/GOOGLE_SATELLITE_EMBEDDING_V1_ANNUAL>`_; the file
layout is described with the `public copy <https://source.coop/tge-labs/aef>`_). Two mistakes are common and both give numbers that look
right: dividing by 127 (the vectors then point elsewhere), and decoding before masking (`-128` becomes -1.0079).
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

BANDS: tuple[str, ...] = tuple(f"A{number:02d}" for number in range(64))
"""The names of the 64 components, in file order."""

MASKED = -128
"""The byte of a masked pixel, the same in all bands."""

SCALE = 127.5
ATTRIBUTION = "The AlphaEarth Foundations Satellite Embedding dataset is produced by Google and Google DeepMind."
LICENCE = "CC-BY-4.0"
CITATION = "Brown et al. (2025), AlphaEarth Foundations, https://arxiv.org/abs/2507.22291"


def _table() -> NDArray[np.float32]:
    # Indexed by the byte read as unsigned, so that no addition is needed before the look-up.
    value = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float64)
    table = (np.sign(value) * (value / SCALE) ** 2).astype(np.float32)
    table[np.uint8(MASKED & 0xFF)] = np.nan
    table.setflags(write=False)
    return table


TABLE: NDArray[np.float32] = _table()
"""The float32 value of every byte, indexed by `byte & 0xFF`; NaN for the mask."""

_main_process = os.getpid()
_settled = threading.local()


def decode(values: ArrayLike, *, out: NDArray[np.float32] | None = None, masked: float = np.nan) -> NDArray[np.float32]:
    """Turn quantised bytes into embedding components.

    Args:
        values: int8, any shape.
        out: C-contiguous float32 array of the same shape to write into.
        masked: The value given to masked components.

    Returns:
        float32 array of the same shape; `sign(q) * (q / 127.5) ** 2`, and `masked` where the byte is -128.

    Raises:
        DataError: If `values` are not int8: decoding twice, or decoding unsigned bytes, would give wrong numbers.

    Examples:
        >>> import numpy as np
        >>> decode(np.array([-127, 0, 64, -128], dtype=np.int8)).round(4)
        array([-0.9922,  0.    ,  0.252 ,     nan], dtype=float32)
    """
    quantised = np.asarray(values)
    if quantised.dtype != np.int8:
        raise DataError(f"expected int8 values to decode, found {quantised.dtype}", remedy="Float embeddings are decoded already.")
    if out is None:
        out = np.empty(quantised.shape, dtype=np.float32)
    elif out.shape != quantised.shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(f"out must be a C-contiguous float32 array of shape {quantised.shape}")
    if quantised.size == 0:
        return out
    table = TABLE
    if not np.isnan(masked):
        table = TABLE.copy()
        table[MASKED & 0xFF] = masked
    _look_up(np.ascontiguousarray(quantised).view(np.uint8), table, out)
    return out


def encode(values: ArrayLike, *, axis: int | None = None) -> NDArray[np.int8]:
    """Turn embedding components into the published bytes.

    Args:
        values: Floating point components in -1..1; NaN is masked.
        axis: The axis of the 64 components. When given, a vector with any NaN is masked whole, as in the published files.

    Returns:
        int8 array of the same shape: `clip(round(sign(x) * sqrt(|x|) * 127.5), -127, 127)`, -128 where masked.

    Raises:
        DataError: If `values` are not floating point.

    Examples:
        >>> encode([-1.0, 0.0, 0.252, float("nan")])
        array([-127,    0,   64, -128], dtype=int8)
    """
    x = np.asarray(values)
    if not np.issubdtype(x.dtype, np.floating):
        raise DataError(f"expected floating point components to encode, found {x.dtype}", remedy="int8 embeddings are encoded already.")
    missing = np.isnan(x)
    if axis is not None:
        missing = np.broadcast_to(missing.any(axis=axis, keepdims=True), x.shape)
    root = np.sqrt(np.abs(np.where(missing, 0, x)))
    quantised = np.clip(np.rint(np.copysign(root, x) * SCALE), -127, 127)
    return np.where(missing, MASKED, quantised).astype(np.int8)


def normalise(vectors: ArrayLike, *, axis: int = 0) -> NDArray[np.float32]:
    """Scale vectors to unit length.

    Args:
        vectors: Decoded embeddings.
        axis: The axis of the components.

    Returns:
        float32 vectors of length one; NaN where a component is missing or the vector is zero (a zero vector has no direction).
    """
    x = np.asarray(vectors, dtype=np.float32)
    length = np.sqrt(np.sum(np.square(x, dtype=np.float32), axis=axis, keepdims=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(length > 0, x / length, np.nan).astype(np.float32)


def pool(values: ArrayLike, factor: int) -> NDArray[np.float32]:
    """Make pixels `factor` times larger: decode, mean of the unmasked pixels, length one again.

    Averaging the bytes instead would bend the vectors, because the quantisation is a square root. The published overviews are made the
    same way.

    Args:
        values: `(bands, height, width)`, int8 or decoded float32. A last row or column that does not fill a whole pixel is dropped.
        factor: How many pixels become one, along each side.

    Returns:
        float32 `(bands, height // factor, width // factor)`, NaN where no pixel was unmasked.
    """
    if factor < 1:
        raise ValueError(f"factor must be at least 1, not {factor}")
    array = np.asarray(values)
    decoded = decode(array) if array.dtype == np.int8 else np.asarray(array, dtype=np.float32)
    bands, height, width = decoded.shape
    rows, columns = height // factor, width // factor
    blocks = decoded[:, : rows * factor, : columns * factor].reshape(bands, rows, factor, columns, factor)
    # A pixel missing one band is missing: it may not pull the mean of the others.
    valid = ~np.isnan(blocks).any(axis=0)
    total = np.where(valid, blocks, 0).sum(axis=(2, 4), dtype=np.float32)
    count = valid.sum(axis=(1, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        return normalise(np.where(count > 0, total / count, np.nan))


def decode_tensor(values: Tensor, *, out: Tensor | None = None, masked: float = float("nan")) -> Tensor:
    """Turn a quantised tensor into float32 components on the device where it lies.

    Bytes are a quarter of the size of floats, so a batch travels as int8 and is decoded last.

    Args:
        values: int8 tensor of any shape, on any device. A floating point tensor is returned as it is.
        out: float32 tensor of the same shape and device to write into.
        masked: The value given to masked components.

    Returns:
        float32 tensor of the same shape on the same device.

    Raises:
        DataError: If the tensor is neither int8 nor floating point.
    """
    import torch

    if values.is_floating_point():
        return values
    if values.dtype != torch.int8:
        raise DataError(f"expected an int8 tensor to decode, found {values.dtype}")
    if out is None and values.device.type == "cpu":
        # NumPy asks for huge pages, PyTorch does not: for a 256 px chip the page faults would cost more than the decoding.
        out = torch.from_numpy(np.empty(tuple(values.shape), dtype=np.float32))
    elif out is None:
        out = torch.empty(values.shape, dtype=torch.float32, device=values.device)
    if values.device.type == "cpu" and values.is_contiguous() and out.is_contiguous():
        decode(values.numpy(), out=out.numpy(), masked=masked)
        return out
    out.copy_(values)
    out.mul_(1.0 / SCALE)
    out.mul_(out.abs())  # sign(x) * x ** 2
    return out.masked_fill_(values == MASKED, masked)


class DecodeEmbedding:
    """A TorchGeo transform that decodes `sample["image"]` (a chip or a batch) where it lies.

    Use it after the batch has moved to its device, e.g. in `on_after_batch_transfer`, with `AlphaEarthEmbedding(..., decoded=False)`.

    Args:
        key: The entry to decode.
        masked: The value given to masked components.
    """

    def __init__(self, key: str = "image", masked: float = float("nan")) -> None:
        self.key, self.masked = key, masked

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Return the sample with its embedding decoded."""
        return sample | {self.key: decode_tensor(sample[self.key], masked=self.masked)}


def _look_up(index: NDArray[np.uint8], table: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write `table[index]` into `out` in one pass over memory."""
    import cv2

    if os.getpid() != _main_process and not getattr(_settled, "single", False):
        # A forked loader worker inherits OpenCV's thread pool without its threads: it would wait for them for ever.
        cv2.setNumThreads(0)
        _settled.single = True
    # OpenCV counts rows and columns in int32, and splits the work by rows.
    flat, target = index.reshape(-1), out.reshape(-1)
    step = 1 << 30
    for start in range(0, flat.size, step):
        piece, into = flat[start : start + step], target[start : start + step]
        width = 1 << 14 if piece.size % (1 << 14) == 0 else piece.size
        into = into.reshape(-1, width)
        written = cv2.LUT(piece.reshape(-1, width), table, into)
        if written is not into and not np.shares_memory(written, into):
            into[...] = written
