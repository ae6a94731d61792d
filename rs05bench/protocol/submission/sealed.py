"""Sealed rounds: predictions are registered by digest and date before the labels exist, and scored after.

`leaderboard/rounds/<name>.yaml` holds the round. Only digests are published while it is open, so nobody can copy; a submission whose digest
differs from the registered one is refused, however small the difference. The date written here is witnessed by the public history of
the repository (the merge of the pull request), not by the file.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.atomic import write_text
from rs05bench.protocol.documents import read_yaml_mapping
from rs05bench.protocol.strict_record import Record
from rs05bench.protocol.submission.schema import SLUG, Digest
from rs05bench.protocol.submission.verdict import Verdict


class Registered(Record):
    """A sealed submission.

    Attributes:
        slug: Submission.
        digest: Digest of the submission.
        date: Day it was registered, UTC.
    """

    slug: Annotated[str, Field(pattern=SLUG)]
    digest: Digest
    date: datetime.date


class Round(Record):
    """A sealed round.

    Attributes:
        schema_version: Always 1.
        name: Its name.
        title: One line for people.
        tasks: Tasks it is about.
        opens: First day of registration.
        closes: Last day of registration.
        labels: What will be the labels, and where they will be published.
        labels_published: Day they were; None while they do not exist.
        registered: Sealed submissions.
    """

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=SLUG)]
    title: str
    tasks: list[str] = Field(min_length=1)
    opens: datetime.date
    closes: datetime.date
    labels: str
    labels_published: datetime.date | None = None
    registered: list[Registered] = Field(default_factory=list)

    @classmethod
    def load(cls, path: str | Path) -> Round:
        """Reads a round.

        Raises:
            DataError: It is missing or none.
        """
        try:
            return cls.model_validate(read_yaml_mapping(path))
        except ValidationError as error:
            raise DataError(f"is not a sealed round: {error}", source=path) from error

    def save(self, path: str | Path) -> Path:
        """Writes it as YAML."""
        return write_text(path, yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True))

    def entry(self, slug: str) -> Registered | None:
        """The registration of a submission."""
        return next((item for item in self.registered if item.slug == slug), None)


def register(sealed: Round, slug: str, digest: str, today: datetime.date) -> Round:
    """Registers a submission by its digest.

    Args:
        sealed: The round.
        slug: Submission.
        digest: Digest of the submission (`rs05bench submit check` prints it).
        today: Day of the registration, UTC.

    Raises:
        ProtocolError: The round is not open, its labels exist already, or the submission is sealed already.
    """
    if not sealed.opens <= today <= sealed.closes:
        raise ProtocolError(f"round {sealed.name} takes registrations from {sealed.opens} to {sealed.closes}; today is {today}")
    if sealed.labels_published is not None:
        raise ProtocolError(
            f"the labels of round {sealed.name} were published on {sealed.labels_published}; nothing can be sealed any more"
        )
    if sealed.entry(slug) is not None:
        raise ProtocolError(f"{slug} is sealed already", remedy="A sealed submission is not changed; submit under another name.")
    entry = Registered(slug=slug, digest=digest, date=today)
    return sealed.model_copy(update={"registered": [*sealed.registered, entry]})


def check_sealed(sealed: Round, verdict: Verdict) -> list[str]:
    """Why a submission cannot be scored in a round: one sentence a fault, none where it can.

    Args:
        sealed: The round.
        verdict: Verdict on the submission.
    """
    entry = sealed.entry(verdict.slug)
    if entry is None:
        return [f"{verdict.slug or 'the submission'} was not registered in round {sealed.name}"]
    faults = []
    if entry.digest != verdict.digest:
        faults.append(f"its digest is {verdict.digest[:16]}…, and {entry.digest[:16]}… was registered on {entry.date}")
    if not sealed.opens <= entry.date <= sealed.closes:
        faults.append(f"it was registered on {entry.date}, outside {sealed.opens} to {sealed.closes}")
    if sealed.labels_published is not None and entry.date >= sealed.labels_published:
        faults.append(f"it was registered on {entry.date}, and the labels were published on {sealed.labels_published}")
    if sealed.labels_published is None:
        faults.append(f"the labels of round {sealed.name} do not exist yet")
    extra = sorted({cell.task for cell in verdict.cells} - set(sealed.tasks))
    if extra:
        faults.append(f"it holds cells of {extra}, which are not in the round")
    return faults
