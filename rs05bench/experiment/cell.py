"""One cell: fit, predict, score, cost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rs05bench.errors import DataError, ProtocolError
from rs05bench.experiment.cell_files import file_digests
from rs05bench.experiment.data_warnings import noted
from rs05bench.experiment.metering import device_name, now, reset_device_peak
from rs05bench.experiment.provenance import hardware_name, provenance
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.cell_record import TrainingRecord
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.predictions import Predictions
from rs05bench.protocol.result import Cell, Cost, Model, Result, StatesTraining
from rs05bench.protocol.scoring import Scorer, higher_is_better
from rs05bench.protocol.splits import Split
from rs05bench.protocol.taskdata import TaskSource, TaskView

PREDICTED_ROLES = ("val", "test_id", "test_ood")


@dataclass
class Bench:
    """A task with its data and manifests, ready to run cells; scorers and label tables are made once.

    Attributes:
        source: The data.
        manifests: Manifest of every split in use, by name without `+k`.
        features: Folder of features of frozen encoders, shared by all cells; None encodes again in each.
    """

    source: TaskSource
    manifests: dict[str, SplitManifest]
    features: Path | None = None
    _scorers: dict[tuple[str, str, str], Scorer] = field(default_factory=dict, repr=False)

    @property
    def card(self) -> TaskCard:
        """The task card."""
        return self.source.card

    def manifest(self, split: str) -> SplitManifest:
        """The manifest of a split; `+k` forms share their base's."""
        return self.manifests[Split(split).base]

    def digest(self, cell: Cell) -> str:
        """Digest of a cell: covers card, manifest, data (labels included), model configuration, and the files this names."""
        return cell.digest(**self.content(cell))

    def content(self, cell: Cell) -> dict[str, str]:
        """Digests of what a cell rests on: card, manifest and data, a one-file model's `code`, and files that its options name."""
        always = {"card": self.card.digest, "manifest": str(self.manifest(cell.split).card["digest"]), "data": self.source.digest}
        return always | file_digests(cell)

    def scorer(self, cell: Cell) -> Scorer:
        """The scorer of a cell's fold and target."""
        key = (cell.split.base, cell.fold, cell.target)
        if key not in self._scorers:
            self._scorers[key] = Scorer.build(self.card, self.manifest(cell.split), cell.fold, self.source.scored(cell.target))
        return self._scorers[key]

    def model(self, cell: Cell) -> Model[TaskView]:
        """The cell's model, not yet fitted.

        Frozen tiers share the features under `features`. Those that train more than a head do not: a decoder reads four layers of every
        window, which fills disks, and whatever turns images before the encoder would file features that nobody asks for again.
        """
        from rs05bench import models
        from rs05bench.models import deep

        options = dict(cell.options)
        spec = deep.find(cell.model)
        if self.features is not None and spec is not None and spec.tier == "frozen":
            options.setdefault("cache", str(self.features))
        return models.create(cell.model, card=self.card, seed=cell.seed, **options)

    def data(self, cell: Cell) -> TaskView:
        """What the cell's model may see: a `TaskData`, or for chips a `ChipView`."""
        from rs05bench.datamodules.open_data import open_view

        return open_view(self.source, self.manifest(cell.split), cell)


def features_folder(store: str | Path) -> Path:
    """Where cells of a store share features: `features/` in `RS05BENCH_CACHE` where that is set, else in the store itself."""
    return Path(os.environ.get("RS05BENCH_CACHE") or store) / "features"


def run_cell(
    bench: Bench, cell: Cell, *, model: Model[TaskView] | None = None, data: TaskView | None = None, command: str | None = None
) -> tuple[Result, Predictions]:
    """Runs one cell.

    Args:
        bench: Task, data and manifests.
        cell: Which cell.
        model: A model to use instead of the registry's.
        data: What the model may see, where it was made already.
        command: The command that asked for it; default the one that is running.

    Returns:
        The result with the wall time of this run as its cost, and the predictions it was scored from. Those of chips are in a temporary
        folder, which `discard` removes.

    Raises:
        ProtocolError: The cell breaks a rule, e.g. nothing to train on.
    """
    data = bench.data(cell) if data is None else data
    model = bench.model(cell) if model is None else model
    data.show_what_is_read(model.card.tier)
    content = bench.content(cell)
    reset_device_peak()
    begin = now()
    with noted() as warned:
        model.fit(data)
        fitted = now()
        predictions = predict_roles(model, data)
        done = now()
    card, budget = model.card, data.budget
    scored = bench.scorer(cell).score(predictions, validation=budget)
    manifest = bench.manifest(cell.split)
    absent = dict(data.absent)
    digests = content | {"preprocessing": bench.card.preprocessing_digest, "predictions": predictions.digest}
    result = Result(
        cell=cell,
        digest=cell.digest(**content),
        kind=bench.card.kind,
        main_metric=bench.card.main_metric,
        higher_is_better=higher_is_better(bench.card.main_metric),
        simulated=bench.card.simulated,
        model=card,
        scores=scored.scores,
        per_group=scored.per_group,
        strata=scored.strata,
        calibration=scored.calibration,
        sums=scored.packed(),
        group_sums=scored.packed_groups(),
        budget=budget.record().with_fields(
            **({"labelled_pixels": data.labelled_pixels()} if budget.pixel_fraction < 1.0 else {}),
            **({"absent": absent} if absent else {}),
        ),
        training=_training(model, warned),
        digests=digests,
        provenance=provenance(command),
        cost=Cost(
            fit_s=fitted - begin,
            predict_s=done - fitted,
            predict_s_per_1000=(done - fitted) / max(len(predictions), 1) * 1000,
            parameters_total=card.parameters_total,
            parameters_trainable=card.parameters_trainable,
            labels_used=budget.labels_used,
            labels_inspected=budget.labels_inspected,
            hardware=" + ".join(name for name in (hardware_name(), device_name()) if name),
            alone=False,
        ),
        main=bool(manifest.card["can_be_main"]) and not any(role in absent for role in ("test_id", "test_ood")),
    )
    info = {"cell": cell.model_dump(mode="json"), "model": card.model_dump(mode="json"), "digests": digests}
    return result, predictions.with_info(info)


def _training(model: Model[TaskView], warned: list[str]) -> TrainingRecord:
    """What a model states of its fit, and what was warned of the data: a worker's log goes with the worker."""
    stated = model.training_record if isinstance(model, StatesTraining) else TrainingRecord()
    return stated.with_fields(early_stopping_role=stated.early_stopping_role, **({"warnings": warned} if warned else {}))


def predict_roles(model: Model[TaskView], data: TaskView, roles: Sequence[str] = PREDICTED_ROLES) -> Predictions:
    """Predicts every role that has units.

    Raises:
        ProtocolError: No role has units.
    """
    wanted = [role for role in roles if len(data.unit_ids(role))]
    if not wanted:
        raise ProtocolError(f"fold {data.fold!r} has no unit to predict")
    return data.gather(lambda role: model.predict(data, role), wanted)


def make_bench(
    card: TaskCard, data_dir: str | Path, splits: Sequence[str], source: TaskSource | None = None, *, frozen: Sequence[str | Path] = ()
) -> Bench:
    """Opens a task's data with the manifests of some splits: those that are given frozen, and for the others those the data make.

    Args:
        card: The task card.
        data_dir: Where its files lie.
        splits: Splits to build.
        source: Data already open.
        frozen: Manifests to use as they are: files, folders of some, or names of shipped ones.

    Raises:
        DataError: A frozen manifest is of another task, given twice, or of none of these splits.
    """
    from rs05bench.datamodules.open_data import open_source
    from rs05bench.protocol.audit import with_published_verdict
    from rs05bench.protocol.manifest import build_manifest

    source = source or open_source(card, data_dir)
    units = source.units()
    bases = list(dict.fromkeys(Split(split).base for split in splits))
    given = frozen_manifests(card, frozen, bases)
    return Bench(source, {base: given.get(base) or with_published_verdict(build_manifest(card, units, base)) for base in bases})


def frozen_manifests(card: TaskCard, names: Sequence[str | Path], splits: Sequence[str]) -> dict[str, SplitManifest]:
    """Frozen manifests by split, those of other splits left out.

    Raises:
        DataError: One is of another task, given twice, or all are of other splits.
    """
    from rs05bench.protocol.manifest import open_manifest

    opened: list[SplitManifest] = []
    for name in names:
        inside = sorted(path for path in Path(name).rglob("*@v*.parquet") if not path.name.endswith(".units.parquet"))
        opened += [open_manifest(path) for path in inside] if Path(name).is_dir() else [open_manifest(name)]
    found: dict[str, SplitManifest] = {}
    for manifest in opened:
        if manifest.task != card.name:
            raise DataError(f"is of the task {manifest.task!r}", source=manifest.name, remedy=f"Give manifests of {card.name!r}.")
        if manifest.split in found:
            raise DataError(f"the split {manifest.split!r} is given twice", source=manifest.name, remedy="Give one manifest a split.")
        if manifest.split in splits:
            found[manifest.split] = manifest
    if opened and not found:
        raise DataError(
            f"the manifests are of {sorted({manifest.split for manifest in opened})}, and the splits are {list(splits)}", source=card.name
        )
    return found
