"""The names of deep models and what they say: encoder, tier, learner; listing them imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rs05bench.models.backbones.catalogue import (
    BACKBONES,
    PRESTO_CITATION,
    PRESTO_LICENCE,
    PRESTO_PRETRAINING,
    backbone_spec,
    is_backbone,
)
from rs05bench.models.backbones.timm_names import PREFIX
from rs05bench.models.learner_names import SHALLOW_NAMES

if TYPE_CHECKING:
    from torch import nn

    from rs05bench.embeddings.products import EmbeddingProduct
    from rs05bench.protocol import ModelCard

_ADAPTATIONS = ("frozen", "decoder", "adapter", "lora", "full")
_ON_FEATURES = tuple(f"frozen-{learner}" for learner in SHALLOW_NAMES)


@dataclass(frozen=True)
class DeepSpec:
    """What a deep model's name says.

    Args:
        name: ``<input or backbone>/<learner or adaptation>[@random]``.
        tier: A tier of the protocol.
        inputs: Backbone, or ``raw``, ``hybrid``, or a family of embedding products.
        learner: Adaptation or architecture.
        random_twin: Whether the encoder starts from random weights.
        data: ``chips`` (a data module) or ``series`` (a TaskData with the feature set ``presto``).
    """

    name: str
    tier: str
    inputs: str
    learner: str
    random_twin: bool = False
    data: str = "chips"

    @property
    def shallow(self) -> str | None:
        """The shallow learner of ``frozen-<learner>``, which goes on the encoder's features; None for a network's own head."""
        return self.learner.removeprefix("frozen-") if self.learner.startswith("frozen-") else None

    @property
    def backbone(self) -> str | None:
        """Name of the pretrained encoder; None from scratch."""
        return self.inputs if is_backbone(self.inputs) or self.inputs == "presto" else None


_SCRATCH = (
    DeepSpec("raw/unet", "raw", "raw", "unet"),
    DeepSpec("raw/segformer", "raw", "raw", "segformer"),
    DeepSpec("hybrid/unet", "hybrid", "hybrid", "unet"),
)
_ON_EMBEDDINGS = {"conv1x1": "conv1x1", "unet": "shallow-unet"}
"""Heads on the pixels of an embedding, and the network behind each."""


def catalogue() -> dict[str, DeepSpec]:
    """The deep models that lists name. Cheap: nothing heavy is imported."""
    from rs05bench.embeddings.products import pixel_families

    specs = {spec.name: spec for spec in _SCRATCH}
    for family in pixel_families():
        for head, network in _ON_EMBEDDINGS.items():
            specs[f"{family}/{head}"] = DeepSpec(f"{family}/{head}", "embedding", family, network)
    for backbone in BACKBONES:
        for learner in (*_ADAPTATIONS, *_ON_FEATURES):
            for suffix in ("", "@random"):
                name = f"{backbone}/{learner}{suffix}"
                specs[name] = _on_encoder(name, backbone, learner, random_twin=bool(suffix))
    for learner in ("frozen", "lora", "full", *_ON_FEATURES):
        for suffix in ("", "@random"):
            name, tier = f"presto/{learner}{suffix}", learner.partition("-")[0]
            specs[name] = DeepSpec(name, tier, "presto", learner, random_twin=bool(suffix), data="series")
    return specs


def find(name: str) -> DeepSpec | None:
    """A deep model by name: one of `catalogue`, or on any encoder of timm (`timm-<encoder>/<adaptation>`); None where there is none."""
    backbone, _, rest = name.partition("/")
    learner, at, suffix = rest.partition("@")
    if backbone.startswith(PREFIX) and learner in (*_ADAPTATIONS, *_ON_FEATURES) and (not at or suffix == "random"):
        return _on_encoder(name, backbone, learner, random_twin=bool(at))
    return catalogue().get(name)


def _on_encoder(name: str, backbone: str, learner: str, *, random_twin: bool) -> DeepSpec:
    return DeepSpec(name, learner.partition("-")[0], backbone, learner, random_twin=random_twin)


def model_card(spec: DeepSpec, network: nn.Module | None = None, options: Mapping[str, Any] | None = None) -> ModelCard:
    """The card of a deep model; parameter counts need the network."""
    from rs05bench.models.input_tiers import facts_of
    from rs05bench.protocol import ModelCard

    total = trainable = None
    if network is not None:
        from rs05bench.models.networks import parameter_counts

        total, trainable = parameter_counts(network)
    declared: dict[str, Any] = {"licence": "MIT", "open_weights": True}
    if spec.tier in ("embedding", "hybrid"):
        declared = facts_of(_products(spec, network))
    elif spec.backbone is not None:
        if spec.inputs == "presto":
            licence, citation = PRESTO_LICENCE, PRESTO_CITATION
            pretraining: tuple[str, ...] = PRESTO_PRETRAINING
        else:
            encoder = backbone_spec(spec.inputs)
            licence, pretraining, citation = encoder.licence, encoder.pretraining, encoder.citation
        declared = {"licence": licence, "open_weights": True, "citation": citation, "pretrained": not spec.random_twin}
        declared["pretraining"] = [] if spec.random_twin else list(pretraining)
    return ModelCard(
        name=spec.name,
        tier=spec.tier,
        inputs=spec.inputs,
        learner=spec.learner,
        parameters_total=total,
        parameters_trainable=trainable,
        random_twin=spec.random_twin,
        options={
            key: value
            for key, value in (options or {}).items()
            # Where features and checkpoints lie, or what ran them, is no part of what the model is.
            if key not in ("cache", "checkpoints", "accelerator") and isinstance(value, str | int | float | bool | list | tuple)
        },
        **declared,
    )


def _products(spec: DeepSpec, network: nn.Module | None) -> list[EmbeddingProduct]:
    """The product that a network reads; before there is one, all of the family that its name says."""
    from rs05bench.embeddings.products import all_products, product

    if network is not None:
        from rs05bench.models.scratch import ScratchNetwork

        if isinstance(network, ScratchNetwork) and network.stack.product is not None:
            return [network.stack.product]
    return [product()] if spec.inputs == "hybrid" else [record for record in all_products().values() if record.family == spec.inputs]
