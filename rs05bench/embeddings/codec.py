"""How a product's pixels are held in memory: as the published bytes of a table, or as decoded floats.

Two mistakes are common with byte tables and both give numbers that look right: dividing by a constant (the vectors then point elsewhere),
and decoding before masking (the byte of a missing pixel becomes a component).
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

_main_process = os.getpid()
_settled = threading.local()


class TableCodec:
    """Bytes `q` that stand for `sign(q) * (|q| / divisor) ** power`; one byte marks a missing pixel in all of its components.

    Args:
        divisor: Of the formula.
        power: Of the formula.
        masked_byte: The byte of a missing pixel.

    Examples:
        >>> import numpy as np
        >>> codec = TableCodec(divisor=127.5, power=2, masked_byte=-128)
        >>> codec.decode(np.array([-127, 0, 64, -128], dtype=np.int8)).round(4)
        array([-0.9922,  0.    ,  0.252 ,     nan], dtype=float32)
        >>> codec.encode([-1.0, 0.0, 0.252, float("nan")])
        array([-127,    0,   64, -128], dtype=int8)
    """

    dtype = np.dtype(np.int8)

    def __init__(self, *, divisor: float, power: float, masked_byte: int) -> None:
        self.divisor, self.power, self.fill = divisor, power, masked_byte
        # Indexed by the byte read as unsigned, so that no addition is needed before the look-up.
        value = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float64)
        self.table: NDArray[np.float32] = (np.sign(value) * (np.abs(value) / divisor) ** power).astype(np.float32)
        self.table[masked_byte & 0xFF] = np.nan
        self.table.setflags(write=False)

    def decode(self, values: ArrayLike, *, out: NDArray[np.float32] | None = None, masked: float = np.nan) -> NDArray[np.float32]:
        """Turn bytes into components.

        Args:
            values: int8, any shape.
            out: C-contiguous float32 array of the same shape to write into.
            masked: The value given to masked components.

        Returns:
            float32 array of the same shape.

        Raises:
            DataError: If `values` are not int8: decoding twice, or decoding unsigned bytes, would give wrong numbers.
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
        table = self.table
        if not np.isnan(masked):
            table = table.copy()
            table[self.fill & 0xFF] = masked
        _look_up(np.ascontiguousarray(quantised).view(np.uint8), table, out)
        return out

    def encode(self, values: ArrayLike, *, axis: int | None = None) -> NDArray[np.int8]:
        """Turn components into the published bytes.

        Args:
            values: Floating point components; NaN is masked.
            axis: The axis of the components. When given, a vector with any NaN is masked whole, as in the published files.

        Returns:
            int8 array of the same shape.

        Raises:
            DataError: If `values` are not floating point.
        """
        x = np.asarray(values)
        if not np.issubdtype(x.dtype, np.floating):
            raise DataError(f"expected floating point components to encode, found {x.dtype}", remedy="int8 embeddings are encoded already.")
        missing = np.isnan(x)
        if axis is not None:
            missing = np.broadcast_to(missing.any(axis=axis, keepdims=True), x.shape)
        size = np.abs(np.where(missing, 0, x))
        root = np.sqrt(size) if self.power == 2 else size ** (1 / self.power)
        quantised = np.clip(np.rint(np.copysign(root, x) * self.divisor), -127, 127)
        return np.where(missing, self.fill, quantised).astype(np.int8)

    def as_stored(self, values: NDArray[Any], *, axis: int) -> NDArray[np.int8]:
        """Bytes as they are, components encoded."""
        return values if values.dtype == np.int8 else self.encode(values, axis=axis)

    def decode_tensor(self, values: Tensor, *, out: Tensor | None = None, masked: float = float("nan")) -> Tensor:
        """Turn an int8 tensor into float32 components on the device where it is; floats are returned as they are.

        Bytes are a quarter of the size of floats, so a batch travels as int8 and is decoded last.

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
            self.decode(values.numpy(), out=out.numpy(), masked=masked)
            return out
        out.copy_(values)
        out.mul_(1.0 / self.divisor)
        if self.power == 2:
            out.mul_(out.abs())  # sign(x) * x ** 2
        else:
            out.copy_(out.sign() * out.abs() ** self.power)
        return out.masked_fill_(values == self.fill, masked)

    def is_missing(self, band: NDArray[Any]) -> NDArray[np.bool_]:
        """Which pixels are missing, from one of their components in either dtype; one tells, because all are."""
        return band == self.fill if band.dtype == np.int8 else np.isnan(band)


class FloatCodec:
    """Decoded float32 components; NaN is missing.

    Args:
        lowest: Smallest component that can be true.
        highest: Largest one.
    """

    dtype = np.dtype(np.float32)
    fill = np.nan

    def __init__(self, *, lowest: float = -np.inf, highest: float = np.inf) -> None:
        self.lowest, self.highest = lowest, highest

    def decode(self, values: ArrayLike, *, out: NDArray[np.float32] | None = None, masked: float = np.nan) -> NDArray[np.float32]:
        """The components as they are, with another value where they are missing."""
        found = np.asarray(values, dtype=np.float32)
        if not np.isnan(masked):
            found = np.nan_to_num(found, nan=masked)
        if out is None:
            return found
        out[...] = found
        return out

    def encode(self, values: ArrayLike, *, axis: int | None = None) -> NDArray[np.float32]:
        """The components as they are stored: float32, a vector with any NaN missing whole."""
        x = np.asarray(values, dtype=np.float32)
        return x if axis is None else np.where(np.isnan(x).any(axis=axis, keepdims=True), np.float32(np.nan), x)

    def as_stored(self, values: NDArray[Any], *, axis: int) -> NDArray[np.float32]:
        """The components as they are stored."""
        return self.encode(values, axis=axis)

    def decode_tensor(self, values: Tensor, *, out: Tensor | None = None, masked: float = float("nan")) -> Tensor:
        """The components as they are, with another value where they are missing."""
        found = values if masked != masked else values.nan_to_num(nan=masked)
        return found if out is None else out.copy_(found)

    def is_missing(self, band: NDArray[Any]) -> NDArray[np.bool_]:
        """Which pixels are missing, from one of their components."""
        return np.isnan(band)


type Codec = TableCodec | FloatCodec


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
