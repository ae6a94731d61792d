"""Studies: one question each, answered by a grid of cells, with a page whose sentences follow its intervals."""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from rs05bench.errors import DataError

if TYPE_CHECKING:
    from rs05bench.studies.page import Page
    from rs05bench.studies.record import Study
    from rs05bench.studies.setting import Setting

NAMES = (
    "small-area",
    "leaky-split",
    "lora-placement",
    "coordinates",
    "change-features",
    "directions",
    "active-learning",
    "pretraining",
)


def find_study(name: str) -> Study:
    """A study by name.

    Raises:
        DataError: There is none of this name.
    """
    if name not in NAMES:
        close = get_close_matches(name, NAMES, n=1)
        raise DataError(f"no study {name!r}", remedy=f"Did you mean {close[0]}?" if close else f"There are {', '.join(NAMES)}.")
    study: Study = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").STUDY
    return study


def list_studies() -> list[Study]:
    """Every study, in the order of the issue that asked for them."""
    return [find_study(name) for name in NAMES]


def run_study(study: Study, setting: Setting, out: Path, *, docs: Path | None = None) -> Page:
    """Runs what is missing of a study and writes its page.

    Args:
        study: Which.
        setting: Data, store, size.
        out: Where to write the page.
        docs: Where the documentation keeps its pages, to write there too.

    Raises:
        DataError: Data are missing that the study cannot do without, or nothing came out.
    """
    from rs05bench.studies.page import study_page, write_docs, write_page

    found = study.run(setting)
    found.notes += list(setting.state())
    quick = " --quick" if setting.quick else ""
    page = study_page(study, found, f"Made by `rs05bench study {study.name}{quick}`.")
    write_page(page, out)
    if docs is not None:
        write_docs(page, docs, out)
    return page
