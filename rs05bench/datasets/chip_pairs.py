"""Which files are the images of a chip and which is its mask, by their names."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rs05bench.datasets.chip_layout import ChipLayout, date_in, without_date
from rs05bench.datasets.files import hidden
from rs05bench.errors import DataError

_IMAGES, _MASKS = {".tif", ".tiff"}, {".tif", ".tiff", ".png", ".npy"}
_PICTURES = {".png", ".npy", ".npz", ".jpg", ".jpeg"}
_MASK_WORD = re.compile(r"(?:^|[._-])(mask|label|labels|gt|annotation|target|seg)(?:$|[._-])", re.IGNORECASE)
_MASK_FOLDERS = {"mask", "masks", "label", "labels", "annotations", "annotation", "gt", "target", "targets"}
DATE = r"(?<!\d)(?P<date>(?:19|20)\d{2}[-_]?(?:0[1-9]|1[0-2])[-_]?(?:0[1-9]|[12]\d|3[01])|(?:19|20)\d{5})(?!\d)"
YEAR = r"(?<!\d)(?P<date>(?:19[89]|20[0-4])\d)(?!\d)"


@dataclass(frozen=True)
class Pairs:
    """Images and masks of a folder, paired.

    Attributes:
        images: Images by chip, several where each date is a file.
        masks: Mask by chip.
        alone: Names of images without a mask.
        layout: What of a layout names tell: globs, suffixes, dates. Bands and labels in it mean nothing.
    """

    images: dict[str, list[Path]]
    masks: dict[str, Path]
    alone: list[str]
    layout: ChipLayout


def by_name(root: Path, layout: ChipLayout) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """The images and the masks under each chip's id."""
    masks = _named(root, layout, layout.masks, layout.mask_suffix)
    # One glob may find both: what is a mask by its name is no image.
    taken = {path for paths in masks.values() for path in paths}
    found = _named(root, layout, layout.images, layout.image_suffix)
    images = {key: kept for key, paths in found.items() if (kept := [path for path in paths if path not in taken])}
    # The same name in several folders (training/1.tif, validation/1.tif): the folder becomes a part of the id.
    if len({name for _, name in images}) < len(images):
        return _with_shelf(images), _with_shelf(masks)
    # Else masks may lie in any folder.
    gathered: dict[str, list[Path]] = defaultdict(list)
    for (_, name), paths in masks.items():
        gathered[name] += paths
    return {name: paths for (_, name), paths in images.items()}, dict(gathered)


def pair(root: Path) -> Pairs:
    """Pairs the images and masks of a folder nobody has described yet.

    Raises:
        DataError: No image, no mask, or names that do not pair.
    """
    files = _files(root)
    masks = [path for path in files if path.suffix.lower() in _MASKS and _is_mask(path, root)]
    images = [path for path in files if path.suffix.lower() in _IMAGES and path not in set(masks)]
    if not images and (pictures := [path for path in files if path.suffix.lower() in _PICTURES and not _in_mask_folder(path, root)]):
        raise DataError(
            f"{len(pictures)} images are {pictures[0].suffix} files (e.g. {pictures[0].relative_to(root)}), which hold no place",
            source=root,
            remedy="Write each as GeoTIFF with its CRS and transform, by rasterio or gdal_translate -a_srs .. -a_ullr ...",
        )
    for found, what in (
        (images, "image (GeoTIFF)"),
        (masks, "mask (in a folder `masks` or `labels`, or with `mask` or `label` in its name)"),
    ):
        if not found:
            raise DataError(f"no {what} was found", source=root, remedy="Write the card by hand: docs/howto/chips.md shows one.")
    date = _date_pattern(images, root)
    for file_per_date in (False, True) if date else (False,):
        stems = [
            [without_date(path.stem, date) if file_per_date else path.name[: -len(path.suffix)] for path in paths]
            for paths in (images, masks)
        ]
        ends = _suffixes(*stems)
        starts = ("", "") if any(ends) else _prefixes(*stems)
        layout = ChipLayout(
            images=_glob(images, root),
            masks=_glob(masks, root),
            image_suffix=ends[0],
            mask_suffix=ends[1],
            id=_id_after(starts),
            bands=["any"],
            scale=None,
            labels={0: "any", 1: "other"},
            date=date,
            file_per_date=file_per_date,
        )
        named = by_name(root, layout)
        both = sorted(set(named[0]) & set(named[1]))
        if both and all(len(named[1][name]) == 1 for name in both):
            several = {name: named[0][name] for name in both}
            return Pairs(several, {name: named[1][name][0] for name in both}, sorted(set(named[0]) - set(named[1])), layout)
    raise DataError(
        f"no image and mask share a name (e.g. {images[0].name} and {masks[0].name})",
        source=root,
        remedy="Rename them, or write the card by hand.",
    )


def holds_chips(root: Path) -> bool:
    """Whether a folder holds images with masks, or rasters and no table: a card of chips is then meant.

    A table beside images and masks says something of the chips, e.g. their groups.
    """
    files = _files(root)
    images = [path for path in files if path.suffix.lower() in _IMAGES and not _is_mask(path, root)]
    if images and any(path.suffix.lower() in _MASKS and _is_mask(path, root) for path in files):
        return True
    tabular = any(path.parent == root and path.suffix == ".csv" for path in files)
    pictures = [path for path in files if path.suffix.lower() in _PICTURES]
    return bool(images or any(_in_mask_folder(path, root) for path in pictures)) and not tabular


def _files(root: Path) -> list[Path]:
    return [
        path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith(".") and not hidden(path.relative_to(root))
    ]


def _with_shelf(named: dict[tuple[str, str], list[Path]]) -> dict[str, list[Path]]:
    return {"-".join(filter(None, (shelf.replace("/", "-"), name))): paths for (shelf, name), paths in named.items()}


def _named(root: Path, layout: ChipLayout, pattern: str, suffix: str) -> dict[tuple[str, str], list[Path]]:
    found: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in sorted(root.glob(pattern)):
        unit = layout.unit_of(path, suffix)
        if unit is not None and path.is_file() and not path.name.startswith(".") and not hidden(path.relative_to(root)):
            found[layout.shelf_of(path, root), unit].append(path)
    return dict(found)


def _date_pattern(images: Sequence[Path], root: Path) -> str:
    """The pattern of the date in every image's name or folders, of the year in the names of several images of several years; else empty."""
    if all(date_in(path, root, DATE) for path in images):
        return DATE
    dated = [date_in(path, root, YEAR) for path in images]
    rest = {without_date(path.stem, YEAR) for path in images}
    # One name with many numbers is a series of numbers.
    return YEAR if all(dated) and len(set(dated)) > 1 and len(rest) > 1 else ""


def _in_mask_folder(path: Path, root: Path) -> bool:
    return bool({part.lower() for part in path.relative_to(root).parts[:-1]} & _MASK_FOLDERS)


def _is_mask(path: Path, root: Path) -> bool:
    return _in_mask_folder(path, root) or path.suffix.lower() in (".png", ".npy") or _MASK_WORD.search(path.stem) is not None


def _suffixes(image_stems: Sequence[str], mask_stems: Sequence[str]) -> tuple[str, str]:
    """Ends of names that only one side has, e.g. `_merged` and `.mask`."""
    if set(image_stems) & set(mask_stems):
        return "", ""
    best = ("", "")
    shared = 0
    ends = [{"", *(match[0] for stem in stems if (match := re.search(r"[._-][A-Za-z]+$", stem)))} for stems in (image_stems, mask_stems)]
    for image_end in sorted(ends[0]):
        for mask_end in sorted(ends[1]):
            names = [
                {stem.removesuffix(end) for stem in stems if stem.endswith(end)}
                for stems, end in ((image_stems, image_end), (mask_stems, mask_end))
            ]
            if len(names[0] & names[1]) > shared:
                best, shared = (image_end, mask_end), len(names[0] & names[1])
    return best


def _prefixes(image_stems: Sequence[str], mask_stems: Sequence[str]) -> tuple[str, str]:
    """Starts that all names of a side have and the other side lacks, e.g. `image_` and `mask_`, where names are the same without them."""
    starts = []
    for stems in (image_stems, mask_stems):
        match = re.match(r"[A-Za-z][A-Za-z0-9]*[._-]", stems[0])
        starts.append(["", match[0]] if match is not None and all(stem.startswith(match[0]) for stem in stems) else [""])
    for image, mask in itertools.product(*starts):
        if {stem.removeprefix(image) for stem in image_stems} & {stem.removeprefix(mask) for stem in mask_stems}:
            return image, mask
    return "", ""


def _id_after(starts: tuple[str, str]) -> str:
    """The regular expression of what follows the starts of images' and of masks' names; empty where they have none."""
    image, mask = map(re.escape, starts)
    if not image and not mask:
        return ""
    if image and mask:
        return f"(?:(?<=^{image})|(?<=^{mask})).+"
    return f"(?:^(?!{image or mask})|(?<=^{image or mask})).+"


def _glob(paths: list[Path], root: Path) -> str:
    """The narrowest glob of the form `**/images/*.tif` that finds them all."""
    endings = {path.suffix for path in paths}
    ending = endings.pop() if len(endings) == 1 else ".*"
    parents = {path.parent.name if path.parent != root else "" for path in paths}
    folder = parents.pop() if len(parents) == 1 else ""
    return f"**/{folder}/*{ending}" if folder else f"**/*{ending}"
