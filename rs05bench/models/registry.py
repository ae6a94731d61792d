"""One door to every model: `create("alphaearth/logistic", card=card, seed=0)`.

Names are `<input or backbone>/<learner or adaptation>`. Shallow learners and floors live here; deep tiers come from
`rs05bench.models.deep.catalogue`, other people's models from the entry-point group `rs05bench.models` or from `file.py:Name`.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rs05bench.embeddings.card_products import products_of
from rs05bench.embeddings.products import DEFAULT, EmbeddingProduct, pixel_families, product
from rs05bench.errors import DataError, ProtocolError
from rs05bench.extras import extra_of, missing_extra
from rs05bench.models.input_tiers import facts_of, tier_of
from rs05bench.models.learner_names import SHALLOW_NAMES, kinds_of, package_of
from rs05bench.models.place import PLACE_ENCODERS, encoder_installed, split_places
from rs05bench.protocol.feature_sets import set_of
from rs05bench.protocol.hashing import text_digest

if TYPE_CHECKING:
    from rs05bench.protocol import ModelCard, TaskCard
    from rs05bench.protocol.result import Model
    from rs05bench.protocol.taskdata import TaskView

ENTRY_POINTS = "rs05bench.models"
FLOOR_NAMES = ("majority", "mean", "nearest", "last-year", "covariates")
NEED_WEIGHTS = ("frozen", "decoder", "adapter", "lora", "full")
TABLE_READERS = ("table", "presto")
_CHIP_INPUTS = {"raw": "raw", "statistics": "raw", "hybrid": "hybrid"}
"""What shallow learners read of chips besides embeddings, pixel by pixel or as statistics of the image, and the tier that is."""


@dataclass(frozen=True)
class Listed:
    """A model that can be created.

    Attributes:
        card: What it is.
        source: Where it comes from: `built in`, `deep`, or the entry point's package.
        kinds: Kinds of task it does.
    """

    card: ModelCard
    source: str
    kinds: tuple[str, ...]

    @property
    def extra(self) -> str | None:
        """The extra to install before it can be fitted; None where its packages are there."""
        if self.source == "deep":
            return extra_of("torch")
        if self.card.name.partition("/")[0] == "geoclip":
            return None if encoder_installed() else "geoclip"
        needed = package_of(self.card.learner)
        return extra_of(needed) if needed else None


def create(name: str, *, card: TaskCard | None = None, seed: int = 0, **options: Any) -> Model[TaskView]:
    """Makes a model by name, not yet fitted.

    Args:
        name: e.g. `raw/rf`, `alphaearth/logistic`, `floor/nearest`, `prithvi-300/lora`, `...@random`, or `file.py:Name`.
        card: The task card; its feature sets are the inputs of shallow models.
        seed: Seed of everything random in the model.
        **options: Passed on to deep and outside models; built-in shallow models take none, their grid is the protocol's.

    Raises:
        ProtocolError: Something no one can do, e.g. LoRA on AlphaEarth, whose weights are closed.
        DataError: No such model, feature set or file.
    """
    if ".py:" in name:
        return cast("Model[TaskView]", _from_file(name)(card=card, seed=seed, **options))
    inputs, slash, learner = name.partition("/")
    if not slash or not inputs or not learner:
        raise DataError(
            f"model {name!r} is not of the form <input>/<learner>", remedy="For instance alphaearth/logistic; see rs05bench models."
        )
    _refuse_closed(name, inputs, learner, card)
    if card is not None and _is_chip_baseline(inputs, learner, card):
        _refuse_options(name, options)
        from rs05bench.models.chip_baselines import chip_baseline

        return _of_any_view(chip_baseline(_chip_card(name, card), seed))
    if inputs == "floor" and card is not None and card.kind == "segmentation":
        raise _not_for_chips(name, card)
    if inputs == "floor" or (learner in SHALLOW_NAMES and (_is_feature_set(inputs, card) or _is_place(inputs, card))):
        _refuse_options(name, options)
        return _shallow(name, inputs, learner, card, seed)
    if (made := _from_outside(name, card, seed, options)) is not None:
        return made
    if learner in SHALLOW_NAMES and card is not None and card.kind == "segmentation":
        raise _not_for_chips(name, card)
    if learner in SHALLOW_NAMES and card is not None:
        raise DataError(
            f"model {name!r}: {inputs!r} is no feature set of the card (there are {', '.join(sorted(card.features)) or 'none'})",
            source=card.name,
            remedy=f"Add it under `features`, e.g. {inputs}: {{product: {DEFAULT}}}.",
        )
    raise _unknown(name, card)


def list_models(card: TaskCard | None = None) -> list[Listed]:
    """Every model there is, in the order of the tiers.

    Args:
        card: Lists what can be run on it: its feature sets, its kind, the floors it declares enough for; without one, the models of the
            sets raw, alphaearth and hybrid.
    """
    kind = None if card is None else ("regression" if card.kind == "regression" else "classification")
    if card is not None and card.kind == "segmentation":
        return _by_tier([*_chip_baselines(card), *_outside_of(card, set(), "classification")])
    floors = [learner for learner in FLOOR_NAMES if card is None or _applies(learner, card)]
    found = [Listed(_built_in_card(f"floor/{learner}", card), "built in", kinds_of(learner)) for learner in floors]
    sets = list(card.features) if card is not None else ["raw", product().family, "hybrid"]
    if card is None or card.coordinates is not None:
        sets += [encoder for encoder in PLACE_ENCODERS if encoder not in sets]
    found += [
        Listed(_built_in_card(f"{inputs}/{learner}", card), "built in", kinds_of(learner)) for inputs in sets for learner in SHALLOW_NAMES
    ]
    if kind is not None:
        found = [item for item in found if kind in item.kinds]
    return _by_tier([*found, *_outside_of(card, {item.card.name for item in found}, kind)])


def _outside_of(card: TaskCard | None, known: set[str], kind: str | None) -> list[Listed]:
    """Deep models and those of other packages that a card's data can feed, but those known already."""
    return [
        Listed(entry.card, entry.source, (*kinds_of(entry.card.learner), "segmentation"))
        for name, entry in _all_outside()
        if entry.card is not None
        and name not in known
        and (card is None or (_readable(entry, card) and kind in kinds_of(entry.card.learner)))
    ]


def _by_tier(found: list[Listed]) -> list[Listed]:
    from rs05bench.protocol.result import TIERS

    return sorted(found, key=lambda item: TIERS.index(item.card.tier))


def model_card(name: str, task: TaskCard | None = None) -> ModelCard:
    """The card of a model before it is fitted, without making it where that can be helped.

    Raises:
        ProtocolError: Something no one can do (see `create`).
        DataError: No such model.
    """
    inputs, slash, learner = name.partition("/")
    if ".py:" not in name and slash:
        _refuse_closed(name, inputs, learner, task)
        if task is not None and _is_chip_baseline(inputs, learner, task):
            return _chip_card(name, task)
        if (inputs == "floor" and learner in FLOOR_NAMES) or (
            learner in SHALLOW_NAMES and (_is_feature_set(inputs, task) or _is_place(inputs, task))
        ):
            return _built_in_card(name, task)
        entry = _outside(name)
        if entry is not None and entry.card is not None:
            return entry.card
    return create(name, card=task).card


def _built_in_card(name: str, task: TaskCard | None) -> ModelCard:
    from rs05bench.protocol import ModelCard
    from rs05bench.protocol.feature_sets import content_of

    inputs, _, learner = name.partition("/")
    if name == "floor/covariates":
        return ModelCard(name=name, tier="floor", inputs="covariates", learner="rf", licence="MIT", content=["covariate"])
    if inputs == "floor":
        return ModelCard(
            name=name, tier="floor", inputs="none" if learner in ("majority", "mean") else "place", learner=learner, licence="MIT"
        )
    from rs05bench.models.learners import LEARNERS

    known = LEARNERS[learner]
    facts: dict[str, Any] = {"licence": known.licence, "citation": known.citation}
    places, rest = split_places(inputs, {} if task is None else task.features)
    if read := products_of(inputs, task):
        facts |= facts_of(read) | {"citation": f"{facts_of(read)['citation']}; {known.citation}"}
    if places and not rest:
        return ModelCard.model_validate(
            {"name": name, "tier": "floor", "inputs": "place", "learner": learner, "content": ["coordinates"], **facts}
        )
    tier = tier_of(rest, task)
    content = set(content_of(rest, task.features)) if task is not None else set()
    if content and tier in ("embedding", "hybrid"):  # columns of an encoder that only the set's name tells
        content = (content - {"other"} if tier == "embedding" else content) | {"embedding"}
    content |= {"coordinates"} if places else set()
    return ModelCard.model_validate({"name": name, "tier": tier, "inputs": inputs, "learner": learner, "content": sorted(content), **facts})


def _is_chip_baseline(inputs: str, learner: str, card: TaskCard) -> bool:
    """Whether a name is a baseline of a chip task that no network is in."""
    if card.kind != "segmentation":
        return False
    if inputs == "floor":
        return learner in ("majority", "nearest")
    return (
        learner in SHALLOW_NAMES and "classification" in kinds_of(learner) and (_chip_tier(inputs) is not None or inputs in PLACE_ENCODERS)
    )


def _chip_baselines(card: TaskCard) -> Iterator[Listed]:
    """The baselines of a chip task: those on embeddings only where its card names some."""
    there = ["hybrid", _chip_product(card).family] if card.preprocessing.embeddings else []
    inputs = [*PLACE_ENCODERS, "raw", "statistics", *there]
    learners = [learner for learner in SHALLOW_NAMES if "classification" in kinds_of(learner)]
    for name in ("floor/majority", "floor/nearest", *(f"{source}/{learner}" for source in inputs for learner in learners)):
        yield Listed(_chip_card(name, card), "built in", ("segmentation",))


def _chip_card(name: str, task: TaskCard) -> ModelCard:
    inputs, _, learner = name.partition("/")
    tier = _chip_tier(inputs)
    if tier is None:
        return _built_in_card(name, task)
    from rs05bench.models.learners import LEARNERS
    from rs05bench.protocol import ModelCard

    known = LEARNERS[learner]
    facts: dict[str, Any] = {"licence": known.licence, "citation": known.citation}
    if tier != "raw":
        read = facts_of([_chip_product(task)])
        facts |= read | {"citation": f"{read['citation']}; {known.citation}"}
    return ModelCard.model_validate({"name": name, "tier": tier, "inputs": inputs, "learner": learner, **facts})


def _chip_tier(inputs: str) -> str | None:
    """The tier of what a shallow learner reads of chips; None where it is nothing of a chip."""
    return "embedding" if inputs in pixel_families() else _CHIP_INPUTS.get(inputs)


def _chip_product(card: TaskCard) -> EmbeddingProduct:
    """The product of the tiles that a chip task was given."""
    return product(card.preprocessing.embedding_product or DEFAULT)


def _not_for_chips(name: str, card: TaskCard) -> DataError:
    return DataError(
        f"model {name!r} is not for chips",
        source=card.name,
        remedy="Use raw/logistic (pixel by pixel), statistics/rf, floor/nearest, raw/unet or another one that rs05bench models lists.",
    )


def _refuse_options(name: str, options: Mapping[str, Any]) -> None:
    if options:
        raise ProtocolError(
            f"{name} takes no options (given: {', '.join(sorted(options))}): its tuning grid is declared by the protocol",
            remedy="Write a model of your own (file.py:Name) to change it.",
        )


def _applies(floor: str, card: TaskCard) -> bool:
    """Whether the card declares what a floor needs."""
    if floor == "covariates":
        return bool(card.covariates)
    if floor == "last-year":
        return card.year is not None
    return floor != "nearest" or card.coordinates is not None or bool(card.groups)


def _is_feature_set(inputs: str, card: TaskCard | None) -> bool:
    # Without a card nothing can be checked yet; TaskData.X will name the sets there are.
    return card is None or set_of(inputs, card.features) is not None


def _is_place(inputs: str, card: TaskCard | None) -> bool:
    """Whether a model reads an encoding of positions, alone or next to feature sets; a feature set of the same name goes first."""
    places, rest = split_places(inputs, {} if card is None else card.features)
    return bool(places) and (not rest or _is_feature_set(rest, card))


def _shallow(name: str, inputs: str, learner: str, card: TaskCard | None, seed: int) -> Model[TaskView]:
    if name == "floor/covariates":
        from rs05bench.models.shallow import ShallowModel

        if card is not None and not card.covariates:
            raise DataError(
                "floor/covariates needs `covariates` on the card", source=card.name, remedy="For instance covariates: [density]."
            )
        return _of_any_view(ShallowModel("covariates", "rf", card=_built_in_card(name, card), seed=seed))
    if inputs == "floor":
        from rs05bench.models.floor import FLOORS

        if learner not in FLOORS:
            raise DataError(f"no floor {learner!r}", remedy=f"There are floor/{', floor/'.join(FLOORS)}.")
        return _of_any_view(FLOORS[learner](card=_built_in_card(name, card), seed=seed))
    if _is_place(inputs, card):
        from rs05bench.models.place import PlaceModel

        return _of_any_view(PlaceModel(inputs, learner, card=_built_in_card(name, card), seed=seed))
    from rs05bench.models.shallow import ShallowModel

    return _of_any_view(ShallowModel(inputs, learner, card=_built_in_card(name, card), seed=seed))


def _of_any_view[View](model: Model[View]) -> Model[TaskView]:
    """A model for callers that hand it the view of its own task: the kind of the card decides both."""
    return cast("Model[TaskView]", model)


def _refuse_closed(name: str, inputs: str, learner: str, card: TaskCard | None) -> None:
    adaptation, _, twin = learner.partition("@")
    adaptation = adaptation.partition("-")[0]
    closed = next((record for record in products_of(inputs, card) if record.open_weights is False), None)
    if closed is None:
        return
    if adaptation in NEED_WEIGHTS:
        raise ProtocolError(
            f"{name}: the weights of {closed.title} are closed, so nothing can be adapted; only its embeddings are public",
            remedy=f"Use {closed.family}/<shallow learner>, or adapt an open backbone, e.g. prithvi-300/lora.",
        )
    if twin:
        raise ProtocolError(
            f"{name}: a random-init control needs the architecture, and that of {closed.title} is closed",
            remedy="Rule 11 is not applicable to it; the floor and the raw tier are its controls.",
        )


@dataclass(frozen=True)
class _Outside:
    card: ModelCard | None
    make: Callable[..., Any]
    source: str
    data: str = "any"


def _outside(name: str) -> _Outside | None:
    """A model that is not in this file: of the deep catalogue, or of an entry point, of which no other is loaded."""
    found = _deep(name)
    for entry in _entries():
        if entry.name == name:
            found = _loaded(entry)
    return found


def _all_outside() -> Iterator[tuple[str, _Outside]]:
    """Every model that is not in this file, by name; an entry point that cannot be used is left out with a warning."""
    yield from _deep_catalogue().items()
    for entry in _entries():
        try:
            yield entry.name, _loaded(entry)
        except DataError as error:
            warnings.warn(f"left out: {error}", UserWarning, stacklevel=3)


def _entries() -> Iterator[Any]:
    from importlib.metadata import entry_points

    yield from entry_points(group=ENTRY_POINTS)


def _loaded(entry: Any) -> _Outside:
    package = entry.dist.name if entry.dist is not None else entry.value
    if entry.name in _deep_catalogue() or entry.name in (f"floor/{floor}" for floor in FLOOR_NAMES):
        raise DataError(
            f"the package gives a model the name {entry.name!r}, which is a built-in model's",
            source=package,
            remedy="Rename its entry point, or uninstall that package.",
        )
    try:
        made = entry.load()
    except Exception as error:
        raise DataError(
            f"the model {entry.name!r} cannot be imported: {error}", source=package, remedy="Correct or uninstall that package."
        ) from error
    return _Outside(getattr(made, "model_card", None), made, package)


def _deep_catalogue() -> Mapping[str, _Outside]:
    """The deep models; listing them imports no torch."""
    from rs05bench.models import deep

    return {name: _Outside(deep.model_card(spec), deep.create, "deep", spec.data) for name, spec in deep.catalogue().items()}


def _deep(name: str) -> _Outside | None:
    """A deep model by name, those of encoders of timm that no list names included."""
    from rs05bench.models import deep

    spec = deep.find(name)
    return None if spec is None else _Outside(deep.model_card(spec), deep.create, "deep", spec.data)


def _readable(entry: _Outside, card: TaskCard) -> bool:
    """Whether a model reads what a card has: chips, or a table whose feature set `presto` is a series."""
    if entry.data == "any":
        return True
    is_table = card.kind != "segmentation" and card.reader in TABLE_READERS
    if entry.data == "chips" and entry.card is not None and entry.card.tier == "embedding":
        # Tiles of a product are read by the models of its family alone.
        return not is_table and entry.card.inputs == _chip_product(card).family
    return ("presto" in card.features) if entry.data == "series" and is_table else (entry.data == "chips") != is_table


def _from_outside(name: str, card: TaskCard | None, seed: int, options: dict[str, Any]) -> Model[TaskView] | None:
    entry = _outside(name)
    if entry is None:
        return None
    if entry.source == "deep":
        try:
            return cast("Model[TaskView]", entry.make(name, card=card, seed=seed, **options))
        except ModuleNotFoundError as error:
            raise missing_extra(error, purpose=f"the model {name}") or error from None
    return cast("Model[TaskView]", entry.make(card=card, seed=seed, **options))


def _from_file(name: str) -> Callable[..., Any]:
    file, _, attribute = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise DataError("no such file", source=path, remedy="Give a model as path/to/file.py:ClassName.")
    # Files of one stem in two folders are two modules.
    place = text_digest(str(path.resolve()))[:12]
    spec = importlib.util.spec_from_file_location(f"rs05bench_model_{path.stem}_{place}", path)
    if spec is None or spec.loader is None:
        raise DataError("cannot be imported as Python", source=path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and typing look their module up by name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(spec.name, None)
        if not isinstance(error, Exception):
            raise
        raise DataError(f"fails on import: {type(error).__name__}: {error}", source=path) from error
    made = getattr(module, attribute, None)
    if not callable(made):
        names = [item for item in vars(module) if not item.startswith("_") and callable(vars(module)[item])]
        raise DataError(f"holds no model {attribute!r} (it has {', '.join(names) or 'nothing callable'})", source=path)
    return cast("Callable[..., Any]", made)


def _unknown(name: str, card: TaskCard | None) -> DataError:
    names = [item.card.name for item in list_models(card)]
    close = get_close_matches(name, names, n=3)
    return DataError(f"no model {name!r}", remedy=f"Did you mean {', '.join(close)}?" if close else "rs05bench models lists what there is.")
