"""Published data sets whose splits are frozen and shipped, and the builders that made them.

`published("crop").build(folder, "leave-state-out")` over the publisher's files gives the shipped manifest again, digest for digest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rs05bench.datasets.published import published_units
from rs05bench.errors import DataError
from rs05bench.protocol.audit import with_verdict
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import SplitManifest, build_manifest
from rs05bench.protocol.units import UnitTable

Read = Callable[[Path, TaskCard, str], UnitTable]


@dataclass(frozen=True, slots=True)
class PublishedSet:
    """A published data set with its card.

    Attributes:
        name: Task name.
        folder: Name of its folder in the collection of real data, for tools and tests.
        read: Units from the publisher's files, for one split.
        options: Split -> what differs there from the card's `split_options`.
    """

    name: str
    folder: str
    read: Read
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def task(self) -> TaskCard:
        """The task card."""
        return TaskCard.load(Path(__file__).parent / "cards" / f"{self.name}.yaml")

    def card(self, split: str) -> TaskCard:
        """The task card with the options of one split."""
        card = self.task
        options = card.split_options.model_copy(update=dict(self.options.get(split, {})))
        return card.model_copy(update={"split_options": options})

    def build(self, root: str | Path, split: str) -> SplitManifest:
        """The manifest of a split, audited, from the publisher's files.

        Raises:
            DataError: A file is missing or not what it should be, or the set has no such split.
        """
        card = self.card(split)
        if split not in card.splits:
            raise DataError(f"has no split {split!r} (there are: {', '.join(card.splits)})", source=self.name)
        return with_verdict(build_manifest(card, self.read(Path(root), card, split), split))


PUBLISHED: dict[str, PublishedSet] = {
    known.name: known
    for known in (
        PublishedSet("burn-scar", "wildfire_events", published_units.wildfire_events),
        PublishedSet("crop", "hls_crop_chips", published_units.crop_chip_list),
        PublishedSet("counties", "aef_counties", published_units.counties),
        PublishedSet("fuel-moisture", "lfmc_presto", published_units.table_units, {"official": {"block_by": "site"}}),
    )
}


def published(name: str) -> PublishedSet:
    """A published data set by its task name.

    Raises:
        DataError: There is none of this name.
    """
    if name not in PUBLISHED:
        raise DataError(f"no published data set {name!r} (there are: {', '.join(PUBLISHED)})")
    return PUBLISHED[name]
