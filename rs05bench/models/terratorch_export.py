"""A deep cell as a configuration of TerraTorch's own command: ``terratorch fit --config cell.yaml``.

Where TerraTorch has every part (encoder, necks, decoder, LoRA), the configuration names TerraTorch's parts alone and needs nothing of ours.
Where it has not (the bottleneck adapter, the linear head with its norm, Clay with the data's ground sampling distance, networks from
scratch), the model is `ExportedModel`, our network in TerraTorch's model interface.

The optimiser, the schedule a step, class weights, precision, early stopping, the best weights, flips and turns are the cell's. What a
configuration cannot say (a grid of rates, a fire as a batch) stands in its first lines, by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor, nn

from rs05bench.errors import ProtocolError
from rs05bench.models.backbones import backbone_spec
from rs05bench.models.chip_facts import ChipFacts
from rs05bench.models.options import AdaptationOptions, EncoderOptions, HeadOptions, ScheduleOptions
from rs05bench.models.plan import IGNORE, training_of
from rs05bench.models.scratch import ScratchNetwork
from rs05bench.models.summary import TrainingSummary, summarise
from rs05bench.models.terratorch_parts import NativeParts, native_parts, reads_coordinates
from rs05bench.models.terratorch_training import optimiser_arguments, trainer_arguments, transforms
from rs05bench.models.training import seeded
from rs05bench.protocol.card import Training

if TYPE_CHECKING:
    from rs05bench.models.chip_model import DeepModel
    from rs05bench.models.plan import ChipData


def export_terratorch(
    model: DeepModel, data: ChipData, *, train: str | Path, val: str | Path, images: str = "*_merged.tif", labels: str = "*.mask.tif"
) -> str:
    """The YAML text of a cell.

    Its first lines say, by name, what TerraTorch does otherwise.

    Args:
        model: The deep model.
        data: The data module of the cell. Read for the plan, the patches' size, and the statistics of the training role; its pixels reach
            TerraTorch as files that hold what `patch_contents` says.
        train: Folder of the training patches and masks.
        val: Folder of the validation patches and masks.
        images: Pattern of the patches' names.
        labels: Pattern of the masks' names.

    Raises:
        ProtocolError: The task is no segmentation, an augmentation is unknown, or a pretrained tier has no file of weights.
    """
    if data.kind != "segmentation":
        raise ProtocolError(
            "only segmentation cells export to TerraTorch", remedy="Classification and regression tiers are trained by rs05bench run."
        )
    cell = _look(model, data)
    native = native_parts(model, cell.facts, cell.height, cell.width)
    network, summary = _summarised(model, data, cell)
    config = {
        "seed_everything": model.seed,
        "trainer": trainer_arguments(cell.plan, model.options.accelerator),
        "data": {
            "class_path": "terratorch.datamodules.GenericNonGeoSegmentationDataModule",
            "init_args": {
                "batch_size": cell.batch_size,
                "num_workers": 0,
                "num_classes": cell.facts.outputs,
                "train_data_root": str(train),
                "val_data_root": str(val),
                "test_data_root": str(val),
                "img_grep": images,
                "label_grep": labels,
                **({} if native is None else native.data),
                "train_transform": transforms(cell.augmentation, cell.height, cell.width, 1 if native is None else cell.facts.num_frames),
                "no_label_replace": IGNORE,
                "drop_last": False,
            },
        },
        "model": {
            "class_path": "terratorch.tasks.SemanticSegmentationTask",
            "init_args": {
                **(_ours(model, cell.facts, network) if native is None else native.arguments),
                "loss": "ce",
                "ignore_index": IGNORE,
                "class_weights": None if summary.class_weights is None else summary.class_weights.tolist(),
                **optimiser_arguments(model, cell.facts, cell.plan),
                "plot_on_val": False,
                "class_names": cell.facts.classes,
            },
        },
    }
    return _header(model, cell, native) + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def patch_contents(model: DeepModel, data: ChipData) -> dict[str, Any]:
    """What the patches hold that an exported configuration reads, as arguments of a chip data module's `write_patches`.

    Args:
        model: The deep model.
        data: The data module of the cell.

    Returns:
        `parts`: names of the rasters of a batch, stacked in this order; `fill`: what missing pixels of `image` become, a number a band, or
        None where they stay NaN.
    """
    cell = _look(model, data)
    native = native_parts(model, cell.facts, cell.height, cell.width)
    if native is not None:
        return {"parts": ("image",), "fill": native.fill}
    return {"parts": tuple(_channels(model, cell.facts)), "fill": None}


class ExportedModel(nn.Module):
    """One of our networks where TerraTorch expects a model.

    Args:
        name: Name of the deep model.
        facts: A `ChipFacts`, as the configuration file writes it.
        seed: Of its initialisation.
        options: Its options.
        mean: Mean of each input channel over the training role, for networks from scratch.
        std: Their standard deviation.
    """

    def __init__(
        self,
        name: str,
        facts: dict[str, Any],
        seed: int = 0,
        options: dict[str, Any] | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        from rs05bench.models.deep import create_network

        model = create_network(name, seed=seed, **(options or {}))
        found = ChipFacts.model_validate(facts)
        self.channels = _channels(model, found)
        self.dates = found.num_frames
        self.network = model.network(found)
        if mean is not None and std is not None:
            self.network.set_statistics(torch.tensor(mean), torch.tensor(std))

    def forward(self, x: Tensor, **_: Any) -> Any:
        """Logits as TerraTorch's ``ModelOutput``.

        Args:
            x: (B, C, H, W), the rasters of a batch stacked as `patch_contents` says, missing pixels NaN.
        """
        from terratorch.models.model import ModelOutput

        batch = dict(zip(self.channels, x.split(list(self.channels.values()), dim=1), strict=True))
        if "image" in batch and self.dates > 1:
            batch["image"] = batch["image"].unflatten(1, (self.dates, -1))
        if "time" in batch:
            batch["time"] = batch["time"][..., 0, 0].unflatten(1, (self.dates, 2))
            batch["location"] = batch["location"][..., 0, 0]
        return ModelOutput(output=self.network(batch))

    def freeze_encoder(self) -> None:
        """Nothing to do: the tier has already decided what trains."""

    def freeze_decoder(self) -> None:
        """Not a tier of ours."""
        raise NotImplementedError("every tier trains its head")


@dataclass(frozen=True)
class _Cell:
    """What the data say of a cell."""

    facts: ChipFacts
    plan: Training
    height: int
    width: int
    batch_size: int
    whole_groups: bool
    augmentation: tuple[str, ...]


def _look(model: DeepModel, data: ChipData) -> _Cell:
    with seeded(model.seed):
        facts = model.inspect(data)
        loader: Any = data.train_dataloader()
        mask = next(iter(loader))["mask"]
    plan = training_of(data, model.options.given(ScheduleOptions))
    return _Cell(
        facts=facts,
        plan=plan,
        height=int(mask.shape[-2]),
        width=int(mask.shape[-1]),
        batch_size=data.batch_size or len(mask),
        whole_groups=bool(getattr(getattr(loader, "sampler", None), "whole", False)),
        augmentation=tuple(plan.augmentation) if _sees_pixels_anew(model) else (),
    )


def _sees_pixels_anew(model: DeepModel) -> bool:
    """A frozen encoder is run once a patch, on pixels as they are."""
    return model.spec.backbone is None or model.spec.tier not in ("frozen", "decoder")


def _summarised(model: DeepModel, data: ChipData, cell: _Cell) -> tuple[nn.Module, TrainingSummary]:
    """Class weights, and for tiers from scratch the network with the training role's statistics."""
    # An encoder brings the statistics of its pretraining, so it need not be built here.
    network = model.network(cell.facts) if model.spec.backbone is None else nn.Identity()
    with seeded(model.seed):
        return network, summarise(network, data, cell.plan)


def _channels(model: DeepModel, facts: ChipFacts) -> dict[str, int]:
    """Rasters that our network reads, and the channels of each, in the order in which patches hold them."""
    image = {"image": facts.num_frames * len(facts.bands)}
    product = facts.embedding
    if product is not None and model.spec.tier == "embedding":
        return {"embedding": product.size}
    if product is not None and model.spec.tier == "hybrid":
        return image | {"embedding": product.size} | ({"extra": facts.extra} if facts.extra else {})
    return image | ({"time": 2 * facts.num_frames, "location": 2} if reads_coordinates(model) else {})


def _ours(model: DeepModel, facts: ChipFacts, network: nn.Module) -> dict[str, Any]:
    options = {key: _plain(value) for key, value in model.options.given(EncoderOptions, AdaptationOptions, HeadOptions).items()}
    if "weights" in options:
        options["weights"] = str(Path(options["weights"]).absolute())
    arguments = {
        "name": model.spec.name,
        "facts": facts.model_dump(mode="json", exclude={"target"}),
        "seed": model.seed,
        "options": options,
    }
    if isinstance(network, ScratchNetwork):
        arguments |= {"mean": network.mean.flatten().tolist(), "std": network.std.flatten().tolist()}
    # The task reads the number of classes from model_args even where it is given a model.
    exported = {"class_path": f"{__name__}.ExportedModel", "init_args": arguments}
    return {"model": exported, "model_args": {"num_classes": facts.outputs}}


def _header(model: DeepModel, cell: _Cell, native: NativeParts | None) -> str:
    lines = [
        f"{model.spec.name} as a TerraTorch configuration: terratorch fit --config <this file>",
        "The weights of the lowest validation loss are kept in checkpoints/best.ckpt of the trainer's root folder.",
        "Not as in rs05bench run:",
        *(f"- {line}" for line in _differences(model, cell, native)),
    ]
    return "".join(f"# {line}\n" for line in lines)


def _differences(model: DeepModel, cell: _Cell, native: NativeParts | None) -> list[str]:
    plan = cell.plan
    lines = []
    if len(plan.learning_rates) > 1:
        grid = ", ".join(f"{rate:g}" for rate in plan.learning_rates)
        lines.append(f"learning_rates: of the grid {grid} this trains {plan.middle_rate:g}; export one cell a rate to search it.")
    if cell.whole_groups:
        lines.append(
            "fire budget: there a fire is one batch, whatever its size, and one step; here a batch is "
            f"{cell.batch_size} patches of any fire, so steps and labels a step differ."
        )
    if plan.accumulate > 1:
        lines.append("accumulate: TerraTorch also steps at the end of every pass, with the batches it has by then; there passes run on.")
    if last := plan.steps % min(plan.val_every, plan.steps):
        lines.append(f"last look: TerraTorch validates every {plan.val_every} steps, and never the weights after the last {last}.")
    if model.options.decoder == "upernet":
        lines.append("upernet: where a lone patch is left for a last batch, TerraTorch stops; set drop_last then.")
    if native is not None and backbone_spec(model.spec.inputs).family == "prithvi" and plan.precision != "32-true":
        lines.append("patch embedding: under mixed precision TerraTorch takes it in half precision; there it keeps 32 bits.")
    if plan.precision == "auto":
        lines.append("precision: auto was decided on the machine that wrote this file.")
    lines.append("order: TerraTorch shuffles patches, and draws flips, turns and dropout, by seed_everything.")
    if native is not None:
        lines.append("initial weights: what is not pretrained is drawn by TerraTorch, from the same distributions.")
    lines.append("validation loss: the mean of the batches' means, by patches; there the mean over all labelled pixels.")
    lines.append("unlabelled patches: not among the files; there they fill places in batches (without a label TerraTorch's loss is NaN).")
    return lines


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
