"""Vector arithmetic that respects what embeddings are: directions where they have length one, and bytes only on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.embeddings.products import DEFAULT, EmbeddingProduct, product

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

type Named = str | Path | EmbeddingProduct


def decode(
    values: ArrayLike, *, out: NDArray[np.float32] | None = None, masked: float = np.nan, of: Named = DEFAULT
) -> NDArray[np.float32]:
    """Turn stored values into components, see `TableCodec.decode`.

    Args:
        values: As the product stores them, any shape.
        out: C-contiguous float32 array of the same shape to write into.
        masked: The value given to missing components.
        of: The product.
    """
    return product(of).codec.decode(values, out=out, masked=masked)


def encode(values: ArrayLike, *, axis: int | None = None, of: Named = DEFAULT) -> NDArray[Any]:
    """Turn components into what the product stores, see `TableCodec.encode`."""
    return product(of).codec.encode(values, axis=axis)


def decode_tensor(values: Tensor, *, out: Tensor | None = None, masked: float = float("nan"), of: Named = DEFAULT) -> Tensor:
    """Turn a tensor into float32 components on the device where it is, see `TableCodec.decode_tensor`."""
    return product(of).codec.decode_tensor(values, out=out, masked=masked)


class DecodeEmbedding:
    """A TorchGeo transform that decodes `sample["image"]` (a chip or a batch) where it is.

    Use it after the batch has moved to its device, e.g. in `on_after_batch_transfer`, with `decoded=False` in the dataset.

    Args:
        key: The entry to decode.
        masked: The value given to missing components.
        of: The product.
    """

    def __init__(self, key: str = "image", masked: float = float("nan"), of: Named = DEFAULT) -> None:
        self.key, self.masked, self.product = key, masked, product(of)

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Return the sample with its embedding decoded."""
        return sample | {self.key: self.product.codec.decode_tensor(sample[self.key], masked=self.masked)}


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


def pool(values: ArrayLike, factor: int, *, of: Named = DEFAULT) -> NDArray[np.float32]:
    """Make pixels `factor` times larger: decode, mean of the pixels that are there, length one again where the product has unit vectors.

    Averaging the bytes of a square-root table instead would bend the vectors.

    Args:
        values: `(bands, height, width)`, stored or decoded. A last row or column that does not fill a whole pixel is dropped.
        factor: How many pixels become one, along each side.
        of: The product.

    Returns:
        float32 `(bands, height // factor, width // factor)`, NaN where no pixel was unmasked.
    """
    if factor < 1:
        raise ValueError(f"factor must be at least 1, not {factor}")
    array = np.asarray(values)
    record = product(of)
    decoded = record.codec.decode(array) if array.dtype == record.codec.dtype else np.asarray(array, dtype=np.float32)
    bands, height, width = decoded.shape
    rows, columns = height // factor, width // factor
    blocks = decoded[:, : rows * factor, : columns * factor].reshape(bands, rows, factor, columns, factor)
    # A pixel missing one band is missing: it may not pull the mean of the others.
    valid = ~np.isnan(blocks).any(axis=0)
    total = np.where(valid, blocks, 0).sum(axis=(2, 4), dtype=np.float32)
    count = valid.sum(axis=(1, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(count > 0, total / count, np.nan).astype(np.float32)
    return normalise(mean) if record.unit_norm else mean
