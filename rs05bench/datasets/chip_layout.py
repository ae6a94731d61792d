"""How a folder of chips is laid out, as `preprocessing.chips` of a task card says it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard

OFFICIAL = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Folder names that publishers give the parts of a split."""
_PARTS = {"images", "image", "img", "imgs", "masks", "mask", "labels", "label", "annotations", "annotation", "gt", "targets", "target"}


class PlaceBands(BaseModel):
    """A group made of a chip's own place.

    Attributes:
        place: `longitude` or `latitude`.
        width: Width of a band in degrees; bands start at a multiple of it.
    """

    model_config = ConfigDict(extra="forbid")
    place: Literal["longitude", "latitude"]
    width: float = Field(gt=0)

    def of(self, degrees: float) -> str:
        """The band of a position, e.g. `60W-55W`."""
        low = (degrees // self.width) * self.width
        positive, negative = ("E", "W") if self.place == "longitude" else ("N", "S")
        return "-".join(f"{abs(edge):g}{negative if edge < 0 else positive}" for edge in (low, low + self.width))


class TableColumn(BaseModel):
    """A group read from a table.

    Attributes:
        file: CSV, relative to the data directory.
        id: Its column of chip ids.
        column: Its column of groups.
    """

    model_config = ConfigDict(extra="forbid")
    file: str
    id: str
    column: str


class ChipLayout(BaseModel):
    """A folder of images with masks.

    Attributes:
        images: Glob of the images, relative to the folder.
        masks: Glob of the masks.
        image_suffix: End of an image's name without its ending, which its mask's name lacks (`_merged`).
        mask_suffix: The same of the mask (`.mask`).
        id: Regular expression whose match in a name is the chip's id; default the whole name without suffix and ending.
        bands: Band names of one date, in file order. Pretrained encoders know those of Sentinel-2 (B04) and canonical ones (RED).
        dates: Dates of a chip, one after another in a file.
        file_per_date: Each date is a file of its own, all on one grid: `date` is then no part of a chip's id, and one mask is of all dates.
        scale: The number that stands for a reflectance of 1 (1, 255, 10000); None where values are no reflectance.
        labels: Mask value -> class, in the order of classes.
        ignore: Mask values that mean no label; a mask's declared nodata does too.
        nodata: Image values that mean no data, in any band; an image's declared nodata does too.
        year: Year of all images; None where names tell the date, or nothing does.
        date: Regular expression with a group `date` (`20230615`, `2023-06-15`, `2023166` or `2023`) in the images' names, else in the names
            of their folders.
        groups: Group -> where it comes from; polygon layers are named under `preprocessing.layers`.
        leave_out: Ids of chips that are not used.
    """

    model_config = ConfigDict(extra="forbid")
    images: str = "**/*.tif"
    masks: str
    image_suffix: str = ""
    mask_suffix: str = ""
    id: str = ""
    bands: list[str] = Field(min_length=1)
    dates: int = Field(default=1, ge=1)
    file_per_date: bool = False
    scale: float | None = Field(gt=0)
    labels: dict[int, str] = Field(min_length=2)
    ignore: list[int] = Field(default_factory=list)
    nodata: list[float] = Field(default_factory=list)
    year: int | None = None
    date: str = ""
    groups: dict[str, PlaceBands | TableColumn] = Field(default_factory=dict)
    leave_out: list[str] = Field(default_factory=list)

    @field_validator("id", "date")
    @classmethod
    def _pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is not a regular expression ({error})") from None
        return value

    @field_validator("date")
    @classmethod
    def _names_the_date(cls, value: str) -> str:
        if value and "date" not in re.compile(value).groupindex:
            raise ValueError(r"has no group `date`; for instance (?P<date>\d{8})")
        return value

    @model_validator(mode="after")
    def _dates_in_names(self) -> Self:
        if self.file_per_date and not self.date:
            raise ValueError("file_per_date needs `date`, the regular expression that finds the date in a file's name")
        return self

    @classmethod
    def of(cls, card: TaskCard) -> ChipLayout:
        """The layout of a card.

        Raises:
            DataError: Every fault of `preprocessing.chips`.
        """
        given = card.preprocessing.chips
        if given is None:
            raise DataError(
                "has no field preprocessing.chips, which says how images and masks are named",
                source=card.name,
                remedy="rs05bench card init FOLDER writes a card.",
            )
        try:
            layout = cls.model_validate(given)
        except ValidationError as error:
            faults = "\n".join(f"  - {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise DataError(f"preprocessing.chips is not right:\n{faults}", source=card.name) from None
        if card.classes is not None and list(card.classes) != list(layout.labels.values()):
            raise DataError(
                f"classes are {card.classes}, and the labels of preprocessing.chips are {list(layout.labels.values())}",
                source=card.name,
                remedy="Name the same classes in the same order.",
            )
        return layout

    def unit_of(self, path: Path, suffix: str) -> str | None:
        """The id of a file; None where its name does not end in the suffix or holds no id."""
        stem = path.name[: -len(path.suffix)] if path.suffix else path.name
        if suffix and not stem.endswith(suffix):
            return None
        name = stem.removesuffix(suffix)
        if self.file_per_date:
            name = without_date(name, self.date)
        if not self.id:
            return name
        match = re.search(self.id, name)
        return None if match is None else match[0]

    def shelf_of(self, path: Path, root: Path) -> str:
        """The folders of a file that are part of its id: without those that only say that it is an image or a mask, e.g. `training`."""
        folders = [part for part in PurePosixPath(path.relative_to(root).as_posix()).parts[:-1] if part.lower() not in _PARTS]
        return "/".join(filter(None, (without_date(part, self.date) for part in folders)) if self.file_per_date else folders)

    def date_of(self, path: Path, root: Path) -> Dated:
        """When an image was taken.

        Raises:
            DataError: Neither its name nor a folder of it holds a date.
        """
        found = date_in(path, root, self.date)
        if found is None:
            raise DataError(
                "holds no date in its name (20230615, 2023-06-15, 2023166 or 2023)",
                source=path,
                remedy="Correct preprocessing.chips.date, or the name.",
            )
        return found


@dataclass(frozen=True, order=True, slots=True)
class Dated:
    """When an image was taken: its first and its last moment."""

    start: pd.Timestamp
    end: pd.Timestamp


def date_in(path: Path, root: Path, pattern: str) -> Dated | None:
    """The date in the name of a file, else in those of its folders from the nearest on; None where there is none."""
    forms = {8: "%Y%m%d", 7: "%Y%j", 4: "%Y"}
    for name in reversed(path.relative_to(root).parts):
        match = re.search(pattern, name)
        digits = "" if match is None else re.sub(r"\D", "", match["date"])
        if len(digits) not in forms:
            continue
        start = pd.to_datetime(digits, format=forms[len(digits)], errors="coerce")
        if not pd.isna(start):
            span = pd.DateOffset(years=1) if len(digits) == 4 else pd.Timedelta(days=1)
            return Dated(start, start + span - pd.Timedelta(microseconds=1))
    return None


def without_date(name: str, pattern: str) -> str:
    """A name without its date and one separator next to it."""
    match = re.search(pattern, name)
    if match is None:
        return name
    before, after = name[: match.start("date")], name[match.end("date") :]
    return before[:-1] + after if before[-1:] in ("_", "-", ".") else before + after.lstrip("_-.")


def official_of(path: Path, root: Path) -> str:
    """The published part that a file's folders name; empty where they name none."""
    return next((OFFICIAL[part.lower()] for part in path.relative_to(root).parts[:-1] if part.lower() in OFFICIAL), "")
