"""The one encoder interface: raw pixels of a data set in, four feature maps out."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rs05bench.errors import DataError
from rs05bench.models.backbones.bands import DataWarning, ScaleWarning, check_scale, match_bands, warn_of_stand_ins
from rs05bench.models.backbones.catalogue import backbone_spec
from rs05bench.models.backbones.families import FAMILIES
from rs05bench.models.backbones.family import Family
from rs05bench.models.backbones.spec import BackboneSpec
from rs05bench.models.backbones.terratorch_families import DOFA_WAVELENGTHS_UM, WAVELENGTHS_UM
from rs05bench.models.backbones.weights import locate_weights, state_digest
from rs05bench.models.options import EncoderOptions
from rs05bench.protocol.hashing import text_digest

PICTURE = 255.0
"""The scale of data of 8 bits: 255 is white, and no reflectance of 1."""
WHITE = 0.3558
"""Reflectance that is white in Sentinel-2's true-colour image (the product's definition: 8-bit counts end at 3,558 of 10,000)."""


SAME_FEATURES = 1e-3
"""Relative spread between images below which features count as the same."""


class Backbone(nn.Module):
    """A pretrained (or random) encoder behind one interface.

    Picks its bands by name, converts to reflectance, applies the statistics it was pretrained with, pads to whole patches, and returns one
    feature map for each of four layers.

    Attributes:
        spec: Its declaration.
        bands: The data bands it uses, in its own order.
        channels: Channels of each returned map.
        origin: ``random:<seed>`` or the name and SHA-256 of the weights file.
    """

    def __init__(
        self,
        family: Family,
        encoder: nn.Module,
        *,
        data_bands: Sequence[str],
        scale: float,
        num_frames: int,
        origin: str,
        white: float = WHITE,
    ) -> None:
        super().__init__()
        self.family = family
        self.spec: BackboneSpec = family.spec
        self.encoder = encoder
        self.bands = family.matching.bands
        self.data_channels = len(data_bands)
        self.scale = float(scale)
        self.units = units_of(self.spec, self.scale, white)
        self.num_frames = num_frames
        self.origin = origin
        self.layers: tuple[int, ...] = tuple(self.spec.layers)
        self._scale_checked = False
        self._features_checked = origin.startswith("random:")
        self._state: str | None = None
        slots = family.matching.slots
        self._buffer("index", torch.tensor(family.matching.indices))
        self._buffer("mean", torch.tensor([slot.mean for slot in slots]).view(-1, 1, 1))
        self._buffer("std", torch.tensor([slot.std for slot in slots]).view(-1, 1, 1))
        self._buffer("low", torch.tensor([slot.clip[0] if slot.clip else -torch.inf for slot in slots]).view(-1, 1, 1))
        self._buffer("high", torch.tensor([slot.clip[1] if slot.clip else torch.inf for slot in slots]).view(-1, 1, 1))

    def _buffer(self, name: str, value: Tensor) -> None:
        # Declared, not learned: kept out of saved weights, rebuilt from the specification.
        self.register_buffer(name, value, persistent=False)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the maps of all four layers; dates folded in by stacking multiply them."""
        folded = self.num_frames if self.spec.frames == "concat" else 1
        return tuple(count * folded for count in self.family.channels())

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """The size an image is padded to before it enters."""
        if self.spec.fixed_size:
            side = self.family.image_size
            if height > side or width > side:
                remedy = f"Predict by sliding window, or build {self.spec.name} for that size."
                raise DataError(f"{self.spec.name} was built for images of {side} px and got {height} x {width}", remedy=remedy)
            return side, side
        patch = self.spec.patch
        padded = -(-height // patch) * patch, -(-width // patch) * patch
        return (max(padded),) * 2 if self.spec.square else padded

    def normalise(self, image: Tensor) -> Tensor:
        """Raw pixels (B, [T,] C, H, W) of the data set to what the encoder was pretrained on.

        Missing pixels (NaN) become the pretraining mean.
        """
        if image.shape[-3] != self.data_channels:
            problem = f"{self.spec.name}: the image has {image.shape[-3]} channels, the data module declares {self.data_channels} bands"
            raise DataError(problem, remedy="Declare the bands in the order of the channels.")
        self.look_at(image)
        picked = image.index_select(-3, self.index)
        units = picked * self.units
        # max and min, not clamp: clamp has no per-band tensor bounds under every autocast dtype.
        units = torch.minimum(torch.maximum(units, self.low), self.high)
        return torch.nan_to_num((units - self.mean) / self.std, nan=0.0)

    def begin(self) -> None:
        """Warn of the data again, as a fresh encoder does: models that share one are told alike."""
        self._scale_checked = False
        self._features_checked = self.origin.startswith("random:")
        warn_of_stand_ins(self.family.matching, self.spec.name)

    def look_at(self, image: Tensor) -> None:
        """Warn where the first images of a model do not look like the scale they declare.

        Args:
            image: (B, [T,] C, H, W) in the data set's units. Of cached features the images are shown too, so that a cell whose features
                already exist is warned as the one that made them.
        """
        if self._scale_checked:
            return
        self._scale_checked = True
        picked = image.index_select(-3, self.index.to(image.device))
        fault = check_scale(picked.detach().float().cpu().numpy(), self.scale)
        if fault:
            warnings.warn(f"{self.spec.name}: {fault}", ScaleWarning, stacklevel=2)

    def forward(self, image: Tensor, time: Tensor | None = None, location: Tensor | None = None) -> list[Tensor]:
        """Encode.

        Args:
            image: (B, C, H, W) or (B, T, C, H, W) in the data set's units.
            time: (B, T, 2) year and day of year, used only with ``coordinates``.
            location: (B, 2) latitude and longitude, used only with ``coordinates``.

        Returns:
            A map (B, D, h, w) for each layer of ``self.layers``, of the padded image.
        """
        frames = image.shape[1] if image.ndim == 5 else 1
        if frames != self.num_frames:
            raise DataError(
                f"{self.spec.name} was built for {self.num_frames} dates and got {frames}", remedy="Give num_frames as the data have them."
            )
        if self.family.coordinates and (time is None or location is None):
            remedy = "Let the data module give 'time' and 'location', or build it with coordinates=False."
            raise DataError(f"{self.spec.name} was asked to use time and location, and the batch has none", remedy=remedy)
        height, width = image.shape[-2:]
        x = _pad(self.normalise(image), self.padded_size(height, width))
        if self.spec.frames == "native" or frames == 1:
            single = x.squeeze(1) if x.ndim == 5 and self.spec.frames != "native" else x
            maps = self.family.run(self.encoder, single, time, location, self.layers)
        else:
            maps = self._fold_in(x, time, location)
        self._look_at_features(image, maps[-1])
        return maps

    def _look_at_features(self, image: Tensor, deepest: Tensor) -> None:
        """Warn where pretrained features of the first batch hardly differ between different images.

        Inputs that are not in the encoder's units saturate it: it then says the same of every image, and a head on it learns nothing.
        """
        if self._features_checked or len(image) < 2 or torch.equal(image[0], image[1]):
            return
        self._features_checked = True
        with torch.no_grad():
            means = deepest.detach().float().mean(dim=(-2, -1))
            spread = float(means.std(dim=0).square().mean().sqrt() / means.square().mean().sqrt().clamp_min(1e-12))
        if spread < SAME_FEATURES:
            warnings.warn(
                f"{self.spec.name}: the features of {len(image)} different images hardly differ (by {spread:.1e} of their size); "
                "the scale or the bands of the data are probably not what is declared",
                DataWarning,
                stacklevel=2,
            )

    def _fold_in(self, x: Tensor, time: Tensor | None, location: Tensor | None) -> list[Tensor]:
        """Encode every date alone and stack the features: the declared fold-in of encoders that take one date."""
        batch, frames = x.shape[:2]
        alone = x.flatten(0, 1)
        when = None if time is None else time.flatten(0, 1).unsqueeze(1)
        where = None if location is None else location.repeat_interleave(frames, dim=0)
        maps = self.family.run(self.encoder, alone, when, where, self.layers)
        return [feature.reshape(batch, -1, *feature.shape[-2:]) for feature in maps]

    def use_layers(self, *positions: int) -> None:
        """Read only some of the four layers (positions 0-3); a linear head needs the last alone."""
        self.layers = tuple(self.spec.layers[position] for position in positions)

    def digest(self) -> str:
        """What the feature cache files features under.

        Weights, bands, scale, layers, dates, coordinates, and the version of the library that runs it.
        """
        if self._state is None or any(value.requires_grad for value in self.encoder.parameters()):
            self._state = state_digest(self.encoder)
        facts = {
            "encoder": self.spec.name,
            "state": self._state,
            "bands": self.bands,
            "indices": self.family.matching.indices,
            "slots": [(slot.band, slot.mean, slot.std, slot.clip) for slot in self.family.matching.slots],
            "scale": self.scale,
            "units": self.units,
            "patch": self.spec.patch,
            "layers": self.layers,
            "frames": self.num_frames,
            "coordinates": self.family.coordinates,
            "resolution_m": self.family.resolution_m,
            "image_size": self.family.image_size if self.spec.fixed_size else None,
            "library": _library_version(self.spec.family),
            "wavelengths": {"dofa": DOFA_WAVELENGTHS_UM, "clay": WAVELENGTHS_UM, "clay-1.5": WAVELENGTHS_UM}.get(self.spec.family),
        }
        return text_digest(json.dumps(facts, sort_keys=True))


def build_backbone(
    name: str,
    *,
    bands: Sequence[str],
    scale: float = 1.0,
    image_size: int = 224,
    num_frames: int = 1,
    pretrained: bool = True,
    options: EncoderOptions | None = None,
) -> Backbone:
    """Build an encoder for a data set.

    Args:
        name: A name of ``BACKBONES``.
        bands: Bands of the data, in channel order (canonical or Sentinel-2 names).
        scale: The number that stands for a reflectance of 1 in the data.
        image_size: Side of the training images in pixels (matters to encoders of a fixed size; others interpolate).
        num_frames: Number of dates.
        pretrained: Load pretrained weights; False is the random-initialised twin.
        options: Options of the encoder. `resolution_m` is that of the data, for encoders that use it; the pretraining's where None. Random
            weights are those of seed 0 where `init_seed` is None.

    Raises:
        DataError: Unknown name, bands that do not fit, or weights that are missing or incomplete.
    """
    given = options or EncoderOptions()
    patch, white = given.patch, given.white
    spec = backbone_spec(name)
    if patch is not None:
        if patch not in spec.patches:
            sizes = f"takes patches of {spec.patches[0]} to {spec.patches[-1]} px" if spec.patches else f"has patches of {spec.patch} px"
            raise DataError(f"{name} {sizes}, and patch is {patch}", remedy="Leave patch out, or choose one it takes.")
        spec = replace(spec, patch=patch)
    if white is not None and (spec.white is not None or scale != PICTURE):
        why = (
            "was pretrained on pictures and keeps their white" if spec.white is not None else "is given reflectance here (no scale of 255)"
        )
        raise DataError(f"{name} {why}: white has no meaning", remedy="Leave white out.")
    matching = match_bands(spec.slots, bands, require_all=spec.require_all, encoder=name)
    use_coordinates = spec.coordinates_default if given.coordinates is None else given.coordinates
    if use_coordinates and not spec.coordinates:
        raise DataError(f"{name} has no time and location encodings", remedy="Leave coordinates out.")
    if not pretrained and (given.weights is not None or given.revision is not None):
        raise DataError(
            f"{name}: weights given for a random-initialised twin", remedy="Leave @random out of the model's name to use the weights."
        )
    side = -(-image_size // spec.patch) * spec.patch
    family = FAMILIES[spec.family](
        spec,
        matching,
        image_size=side,
        num_frames=num_frames,
        coordinates=use_coordinates,
        resolution_m=spec.resolution_m if given.resolution_m is None else given.resolution_m,
    )
    # Found before it is built: a missing file should cost no minute.
    path = locate_weights(spec.weights, weights=given.weights, revision=given.revision, encoder=name) if pretrained else None
    init_seed = given.init_seed or 0
    with torch.random.fork_rng():
        torch.manual_seed(init_seed % 2**31)
        encoder = family.build()
    origin = f"random:{init_seed}"
    if path is not None:
        family.load(encoder, path)
        origin = f"{path.name}:{_file_digest(path)[:16]}"
    return Backbone(
        family,
        encoder,
        data_bands=bands,
        scale=scale,
        num_frames=num_frames,
        origin=origin,
        white=WHITE if white is None else white,
    )


def units_of(spec: BackboneSpec, scale: float, white: float = WHITE) -> float:
    """What a value of the data is multiplied by to be in the units of the encoder's statistics, reflectance x 10,000.

    Values of 8 bits (scale 255) are no reflectance. An encoder of pictures sees them as the pictures of its pretraining; for one of
    reflectance 255 stands for the reflectance `white`.
    """
    if scale != PICTURE:
        return 10_000.0 / scale
    return (10_000.0 * white if spec.white is None else spec.white) / PICTURE


def _library_version(family: str) -> str:
    package = {"timm": "timm", "galileo": "rslearn", "olmoearth": "olmoearth-pretrain-minimal"}.get(family, "terratorch")
    return f"{package} {version(package)}"


def _pad(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Pad bottom and right to a size, by reflection where the image is large enough to reflect, else by the edge."""
    height, width = image.shape[-2:]
    bottom, right = size[0] - height, size[1] - width
    if not bottom and not right:
        return image
    flat = image.flatten(0, 1) if image.ndim == 5 else image
    mode = "reflect" if bottom < height and right < width else "replicate"
    padded = F.pad(flat, (0, right, 0, bottom), mode=mode)
    return padded.unflatten(0, image.shape[:2]) if image.ndim == 5 else padded


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
