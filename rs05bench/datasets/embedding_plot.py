"""A look at an embedding chip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.embeddings.vectors import decode

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_PANELS = {"mask": "Label", "prediction": "Prediction"}


def principal_components(image: NDArray[Any]) -> NDArray[np.float32]:
    """The first three principal components of a chip's vectors, stretched to 0..1.

    Args:
        image: `(bands, height, width)`, int8 or decoded.

    Returns:
        `(height, width, 4)` float32 RGBA, transparent where masked. The same image always gives the same colours.
    """
    decoded = decode(image) if image.dtype == np.int8 else np.asarray(image, dtype=np.float32)
    bands, height, width = decoded.shape
    vectors = decoded.reshape(bands, -1).T
    valid = np.isfinite(vectors).all(axis=1)
    out = np.zeros((height * width, 4), dtype=np.float32)
    if valid.any():
        centred = vectors[valid] - vectors[valid].mean(axis=0)
        _, directions = np.linalg.eigh(centred.T @ centred)
        directions = directions[:, ::-1][:, :3]
        # The sign of an eigenvector is arbitrary: fix it, or colours turn over between machines.
        directions = directions * np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(directions.shape[1])])
        scores = centred @ directions
        low, high = np.percentile(scores, [2, 98], axis=0)
        out[valid, : scores.shape[1]] = np.clip((scores - low) / np.maximum(high - low, 1e-9), 0, 1)
        out[valid, 3] = 1
    return out.reshape(height, width, 4)


def plot_sample(sample: dict[str, Any], *, show_titles: bool = True, suptitle: str | None = None) -> Figure:
    """Draw a sample's embedding, and its label and prediction where it has them.

    Args:
        sample: A sample with `image` (one year, or years first), and perhaps `mask` and `prediction`.
        show_titles: Whether panels have titles.
        suptitle: A title over all.
    """
    from matplotlib import pyplot as plt

    image = np.asarray(sample["image"])
    years = list(image) if image.ndim == 4 else [image]
    others = [key for key in _PANELS if key in sample]
    figure, axes = plt.subplots(
        1, len(years) + len(others), figsize=(4.2 * (len(years) + len(others)), 4.4), squeeze=False, layout="constrained"
    )
    for number, (axis, values) in enumerate(zip(axes[0], years, strict=False)):
        axis.set_facecolor("#bdbdbd")
        axis.patch.set_hatch("///")
        axis.patch.set_edgecolor("#8a8a8a")
        axis.imshow(principal_components(values), interpolation="nearest")
        if show_titles:
            axis.set_title("Embedding: components 1-3" + (f", step {number + 1}" if len(years) > 1 else ""), fontsize=10)
    for axis, key in zip(axes[0][len(years) :], others, strict=True):
        axis.imshow(np.asarray(sample[key]).squeeze(), interpolation="nearest", cmap="viridis")
        if show_titles:
            axis.set_title(_PANELS[key], fontsize=10)
    for axis in axes[0]:
        axis.set_xticks([])
        axis.set_yticks([])
    if suptitle is not None:
        figure.suptitle(suptitle)
    return figure
