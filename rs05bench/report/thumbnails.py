"""Small pictures of a chip, side by side: what was seen, the truth, the answer, where it is wrong, and how sure it was."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 144
"""Longest side of a picture, pixels."""
TWO = ("#b8b8b8", "#D55E00")
MANY = (
    "#b8b8b8", "#117733", "#E69F00", "#56B4E9", "#882255", "#F0E442", "#0072B2", "#44AA99", "#CC79A7", "#8c5a2b", "#332288", "#999933",
    "#D55E00", "#661100",
)  # fmt: skip
"""Colours of classes; they differ in lightness too."""
UNKNOWN, GOOD, HIT = "#ffffff", "#ececec", "#7d7d7d"
TOO_MUCH, MISSED, CONFUSED = "#0072B2", "#D55E00", "#8c2d04"


@dataclass(frozen=True)
class Picture:
    """One small picture.

    Attributes:
        title: What it shows.
        uri: The PNG as a data URI.
        width: Width, pixels.
        height: Height, pixels.
    """

    title: str
    uri: str
    width: int
    height: int


def chip_pictures(
    image: NDArray[np.floating] | None,
    truth: NDArray[np.integer],
    said: NDArray[np.integer],
    confidence: NDArray[np.floating] | None,
    disagreement: NDArray[np.floating],
    classes: int,
    *,
    fits: int,
) -> list[Picture]:
    """The pictures of one chip.

    Args:
        image: (H, W, 3) from 0 to 1, or None.
        truth: (H, W) class indices, -1 where nothing is known.
        said: (H, W) class indices.
        confidence: (H, W) probability of the answer, or None.
        disagreement: (H, W) share of fits that answer otherwise; shown where several fits tested the chip.
        classes: Number of classes.
        fits: Number of fits.
    """
    colours = class_colours(classes)
    found = [] if image is None else [_picture("what was seen", image)]
    found += [_picture("truth", _paint(truth, colours)), _picture("answer", _paint(said, colours))]
    found.append(_picture("error", _errors(truth, said, classes)))
    if confidence is not None:
        # Half sure is dark, wholly sure is light: the eye goes to doubt.
        found.append(_picture("how sure", _grey(np.clip(2 * confidence - 1, 0, 1))))
    if fits > 1:
        found.append(_picture("fits disagree", _grey(1 - np.clip(2 * disagreement, 0, 1))))
    return found


def class_colours(classes: int) -> list[str]:
    """A colour a class, the first for the background."""
    return list(TWO) if classes == 2 else [MANY[code % len(MANY)] for code in range(classes)]


def _errors(truth: NDArray[np.integer], said: NDArray[np.integer], classes: int) -> NDArray[np.float32]:
    """Two classes: drawn too much and missed apart. More: right or wrong."""
    if classes == 2:
        code = np.where(truth < 0, 4, np.where(said == truth, np.where(truth == 1, 1, 0), np.where(said == 1, 2, 3)))
        return _paint(code, (GOOD, HIT, TOO_MUCH, MISSED, UNKNOWN))
    return _paint(np.where(truth < 0, 2, said != truth), (GOOD, CONFUSED, UNKNOWN))


def _paint(labels: NDArray[np.integer], colours: Sequence[str]) -> NDArray[np.float32]:
    table = np.array([_rgb(colour) for colour in (*colours, UNKNOWN)], dtype=np.float32)
    return table[np.where((labels >= 0) & (labels < len(colours)), labels, len(colours))]


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _grey(values: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.repeat(values.astype(np.float32)[..., None], 3, axis=-1)


def _picture(title: str, values: NDArray[np.floating]) -> Picture:
    import cv2

    pixels = (np.nan_to_num(np.clip(values, 0, 1), nan=1.0) * 255 + 0.5).astype(np.uint8)
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # Small chips are enlarged pixel by pixel; large ones are averaged.
    pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA)
    _, png = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return Picture(title, "data:image/png;base64," + base64.b64encode(png.tobytes()).decode("ascii"), *size)
