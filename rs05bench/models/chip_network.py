"""The untrained network of a deep tier: encoder, adaptation and head, or a network from scratch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import nn

from rs05bench.errors import DataError
from rs05bench.models.adaptation import Adaptation, adapt
from rs05bench.models.backbones import build_backbone
from rs05bench.models.backbones.encoder import Backbone
from rs05bench.models.chip_facts import ChipFacts
from rs05bench.models.deep_names import DeepSpec
from rs05bench.models.heads import DecoderHead, LinearHead, PooledHead
from rs05bench.models.networks import EncoderNetwork
from rs05bench.models.options import AdaptationOptions, DeepOptions, EncoderOptions, HeadOptions
from rs05bench.models.scratch import INDICES, InputStack, ScratchNetwork
from rs05bench.models.training import seeded


def build_network(spec: DeepSpec, facts: ChipFacts, options: DeepOptions, seed: int) -> nn.Module:
    """The untrained network of a tier.

    Args:
        spec: The tier.
        facts: What was found in the data.
        options: Options of the model.
        seed: Of the head's weights, and of what adaptation adds.

    Raises:
        DataError: An option is unknown, bands do not fit, or weights are missing.
    """
    linear = (options.head or ("linear" if spec.tier == "frozen" else "decoder")) == "linear"
    _refuse_ignored(spec, facts.kind, options, linear=linear)
    if spec.backbone is None:
        with seeded(seed):
            return _scratch(spec, facts)
    usual = {"resolution_m": facts.resolution_m} | ({"init_seed": seed} if spec.random_twin else {})
    encoder = _Encoder(
        spec.inputs,
        not spec.random_twin,
        reads="last" if linear or facts.kind != "segmentation" else "all",  # set on the encoder
        bands=tuple(facts.bands),
        scale=facts.scale,
        image_size=facts.image_size,
        num_frames=facts.num_frames,
        # A control is another network for every seed.
        options=EncoderOptions(**usual | options.given(EncoderOptions)),
    )
    backbone = encoder.shared() if spec.tier in ("frozen", "decoder") else encoder.build()
    adaptation = Adaptation(spec.tier, **options.given(AdaptationOptions))  # type: ignore[arg-type]
    with seeded(seed):
        adapt(backbone.encoder, backbone.spec.layout, adaptation)
        if facts.kind != "segmentation":
            head: nn.Module = PooledHead(backbone.channels, facts.outputs)
        elif linear:
            head = LinearHead(backbone.channels, facts.outputs, pyramid=backbone.spec.pyramid)
        else:
            width = options.decoder_width or (32 if backbone.spec.dim <= 256 else 64)
            head = DecoderHead(backbone.channels, facts.outputs, decoder=options.decoder, width=width, pyramid=backbone.spec.pyramid)
        return EncoderNetwork(backbone, head, adaptation)


def _scratch(spec: DeepSpec, facts: ChipFacts) -> nn.Module:
    stack = InputStack(spec.inputs, facts.bands, facts.scale, facts.embedding)
    channels = 0
    if stack.reads_image:
        channels += facts.num_frames * len(facts.bands)
    if spec.inputs == "hybrid":
        usable = sum(any(a in stack.bands for a in first) and any(b in stack.bands for b in second) for first, second in INDICES.values())
        channels += facts.num_frames * usable + facts.extra
    if stack.product is not None:
        channels += stack.product.size
    return ScratchNetwork(stack, spec.learner, channels, facts.outputs, pooled=facts.kind != "segmentation")


def _refuse_ignored(spec: DeepSpec, kind: str, options: DeepOptions, *, linear: bool) -> None:
    """Options of a head that these data, or another option, leave without meaning."""
    given = set(options.given(HeadOptions))
    ignored = sorted(given if kind != "segmentation" else given - {"head"} if linear else ())
    if ignored:
        why = f"a {kind} has one label per chip, and no decoder" if kind != "segmentation" else "its head is linear"
        raise DataError(f"{spec.name} does not know the option {', '.join(ignored)}: {why}", remedy="Leave it out.")


@dataclass(frozen=True)
class _Encoder:
    """An encoder that can be built: what the cells of a curve have in common, which differ in their heads."""

    name: str
    pretrained: bool
    reads: str
    bands: tuple[str, ...]
    scale: float
    image_size: int
    num_frames: int
    options: EncoderOptions

    def build(self) -> Backbone:
        return build_backbone(
            self.name,
            bands=self.bands,
            scale=self.scale,
            image_size=self.image_size,
            num_frames=self.num_frames,
            pretrained=self.pretrained,
            options=self.options,
        )

    def shared(self) -> Backbone:
        """The one that was built last in this process, where it is this one and its file of weights has not changed."""
        weights = self.options.weights
        written = Path(weights).stat().st_mtime_ns if weights is not None and Path(weights).is_file() else None
        return _built(self, written)


@lru_cache(maxsize=1)
def _built(encoder: _Encoder, written: int | None) -> Backbone:
    return encoder.build()


def forget_encoders() -> None:
    """Let go of the encoder that frozen tiers of this process share."""
    _built.cache_clear()
