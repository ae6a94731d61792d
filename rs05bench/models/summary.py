"""Statistics of the training role: inputs of networks from scratch, class weights, the scale of a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from rs05bench.errors import DataError
from rs05bench.models.plan import IGNORE, TrainingData
from rs05bench.models.scratch import ScratchNetwork
from rs05bench.protocol.card import Training


@dataclass(frozen=True)
class TrainingSummary:
    """Statistics of the training role's labels and, for networks from scratch, inputs."""

    class_weights: Tensor | None = None
    target_mean: Tensor | None = None
    target_std: Tensor | None = None


def summarise(network: nn.Module, data: TrainingData, plan: Training) -> TrainingSummary:
    """One pass over the training role for what needs it: input statistics (from scratch), class weights, target scale.

    Raises:
        DataError: No label at all.
    """
    scratch = isinstance(network, ScratchNetwork)
    if not scratch and plan.class_weights == "none" and data.kind != "regression":
        return TrainingSummary()
    outputs = len(data.classes) if data.classes else 0
    total = square = count = torch.zeros((), dtype=torch.float64)
    classes = torch.zeros(outputs, dtype=torch.float64)
    targets: list[Tensor] = []
    for batch in data.train_dataloader():
        if scratch:
            x = cast("ScratchNetwork", network).stack(batch).double()
            finite = torch.isfinite(x)
            x = torch.where(finite, x, 0.0)
            total = total + x.sum(dim=(0, 2, 3))
            square = square + x.square().sum(dim=(0, 2, 3))
            count = count + finite.sum(dim=(0, 2, 3))
        if data.kind == "regression":
            targets.append(batch["label"].double().reshape(len(batch["label"]), -1))
        else:
            labels = batch["mask" if data.kind == "segmentation" else "label"]
            classes += torch.bincount(labels[labels != IGNORE].flatten().long(), minlength=outputs)[:outputs]
    if scratch:
        mean = total / count.clamp_min(1)
        cast("ScratchNetwork", network).set_statistics(
            mean.float(), (square / count.clamp_min(1) - mean.square()).clamp_min(0).sqrt().float()
        )
    if data.kind == "regression":
        values = torch.cat(targets) if targets else torch.empty(0, 1)
        if not torch.isfinite(values).any():
            raise DataError("no training label in this budget", remedy="Use a larger budget.")
        mean = values.nanmean(dim=0)
        deviation = (values - mean).square().nanmean(dim=0).sqrt()
        return TrainingSummary(
            target_mean=mean.float(), target_std=torch.where(deviation > 0, deviation, torch.ones_like(deviation)).float()
        )
    if not classes.sum():
        raise DataError("no training label in this budget", remedy="Use a larger budget.")
    if plan.class_weights == "none":
        return TrainingSummary()
    # A class without a training label has no weight to speak of; 1 keeps its (absent) terms finite.
    weights = torch.where(classes > 0, classes.sum() / (outputs * classes.clamp_min(1)), torch.ones_like(classes))
    return TrainingSummary(class_weights=weights.clamp_max(10.0).float())
