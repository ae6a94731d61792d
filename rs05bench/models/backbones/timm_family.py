"""Building, loading and running an encoder of timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any, override

from torch import Tensor, nn

from rs05bench.errors import DataError
from rs05bench.models.backbones.family import Family
from rs05bench.models.backbones.spec import BackboneSpec
from rs05bench.models.backbones.weights import StateDict, load_complete, read_state_dict


class Timm(Family):
    """An encoder of timm; every layer of a plain transformer goes through the pretrained final norm, as its makers' probes do."""

    @override
    def build(self) -> nn.Module:
        import timm

        options: dict[str, Any] = {}
        if not self.spec.pyramid:
            options = {"img_size": self.image_size, "dynamic_img_size": True}
        elif not self.spec.layout.convolutional:
            options = {"img_size": self.image_size, "strict_img_size": False}
        encoder: Any = timm.create_model(self.spec.builder, pretrained=False, num_classes=0, in_chans=len(self.slots), **options)
        before = set(encoder.state_dict())
        encoder.prune_intermediate_layers(indices=list(self.spec.layers), prune_norm=self.spec.pyramid, prune_head=True)
        self.pruned = tuple(sorted(before - set(encoder.state_dict())))
        head = encoder.pretrained_cfg.get("classifier") or ()
        self.heads = tuple(f"{name}." for name in ([head] if isinstance(head, str) else head))
        return encoder

    @override
    def load(self, encoder: nn.Module, path: Path) -> None:
        state = _renamed(read_state_dict(path), self.spec)
        own = encoder.state_dict()
        table = state.get("pos_embed")
        if table is not None and "pos_embed" in own and table.shape != own["pos_embed"].shape:
            from timm.layers.pos_embed import resample_abs_pos_embed

            side = self.image_size // self.spec.patch
            prefix = own["pos_embed"].shape[1] - side * side
            state["pos_embed"] = resample_abs_pos_embed(table, [side, side], num_prefix_tokens=prefix)
        load_complete(encoder, state, source=path, may_add=(*self.pruned, *self.heads, "fc_norm.", "head."))

    @override
    def run(self, encoder: Any, image: Tensor, time: Tensor | None, location: Tensor | None, layers: tuple[int, ...]) -> list[Tensor]:
        order = sorted(set(layers))
        maps = encoder.forward_intermediates(image, indices=order, norm=not self.spec.pyramid, output_fmt="NCHW", intermediates_only=True)
        return [maps[order.index(layer)] for layer in layers]


def _renamed(state: StateDict, spec: BackboneSpec) -> StateDict:
    """Keys of EfficientNet as its converters to PyTorch named them, by their order, which is that of timm's module tree.

    Raises:
        DataError: The file is of another EfficientNet: a tensor has another shape than timm's at its place.
    """
    if "_conv_stem.weight" not in state:
        return state
    import timm
    import torch

    with torch.device("meta"):
        whole = timm.create_model(spec.builder, pretrained=False).state_dict()
    pairs = list(zip(whole.items(), state.items(), strict=False))
    for (name, wanted), (found, value) in pairs:
        if wanted.shape != value.shape:
            raise DataError(
                f"the weights do not fit the encoder: {found} has shape {tuple(value.shape)}, and {name} of timm's {spec.builder} has "
                f"{tuple(wanted.shape)}",
                remedy="Check that the file is of this variant of the encoder.",
            )
    return {name: value for (name, _), (_, value) in pairs} if len(whole) == len(state) else state
