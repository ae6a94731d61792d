"""Learners that see the place and no imagery: a public location encoder, or harmonics of the coordinates.

They are baselines without imagery. What they reach in-domain is how much knowing the place gives; how far they fall out of domain is how
much of it was the place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.extras import MissingExtraError, extra_of
from rs05bench.models.shallow import ShallowModel

if TYPE_CHECKING:
    from rs05bench.protocol import TaskData

Floats = NDArray[np.floating[Any]]

HARMONICS = 4
"""Degrees of the spherical harmonics, 1 to 4: 24 columns, down to structures of about 5,000 km."""
PLACE_ENCODERS = ("geoclip", "harmonics")

# Savric, Patterson, Jenny 2018, "The Equal Earth map projection", https://doi.org/10.1080/13658816.2018.1504949, equations 1 to 4.
_EQUAL_EARTH = (1.340264, -0.081106, 0.000893, 0.003796)
_SCALE = 66.50336 / 180  # the encoder's own scale of the projected plane
_WEIGHTS = "geoclip/model/weights/location_encoder_weights.pth"
_PORTION = 8192


def split_places(inputs: str, sets: Mapping[str, object]) -> tuple[list[str], str]:
    """The place encoders among the parts of a model's inputs, and the feature sets that are left, joined with `+`.

    A feature set of the card goes before an encoder of the same name: `split_places("alphaearth+geoclip", card.features)` is
    `(["geoclip"], "alphaearth")`.
    """
    parts = [inputs] if inputs in sets else inputs.split("+")
    places = [part for part in parts if part in PLACE_ENCODERS and part not in sets]
    return places, "+".join(part for part in parts if part not in places)


class PlaceModel(ShallowModel):
    """A shallow learner on an encoding of the units' positions, alone or next to feature sets (`alphaearth+geoclip/ridge`).

    Raises:
        DataError: A unit has no position.
    """

    def _X(self, data: TaskData, role: str) -> Floats:
        lonlat = np.asarray(data.coordinates(role), dtype=np.float64)
        if not np.isfinite(lonlat).all():
            raise DataError(
                f"{self.card.name} needs positions, and {int((~np.isfinite(lonlat).all(axis=1)).sum())} units of role {role} have none",
                source=data.card.name,
                remedy="Declare `coordinates` on the card, or leave this baseline out.",
            )
        places, rest = split_places(self.features, data.card.features)
        encoded: list[Floats] = [encode_place(encoder, lonlat) for encoder in places]
        return np.hstack([data.X(role, rest), *encoded]) if rest else np.hstack(encoded)


def encode_place(encoder: str, lonlat: Floats) -> NDArray[np.float32]:
    """Features of positions.

    Args:
        encoder: `geoclip` or `harmonics`.
        lonlat: Degrees east and north (WGS84), shape (n, 2).

    Returns:
        float32 (n, 512) of GeoCLIP's location encoder (Vivanco Cepeda et al. 2023, https://arxiv.org/abs/2309.16020), or (n, 24) real
        spherical harmonics of degrees 1 to 4.
    """
    return _geoclip(lonlat) if encoder == "geoclip" else harmonics(lonlat)


def harmonics(lonlat: Floats, degrees: int = HARMONICS) -> NDArray[np.float32]:
    """Real spherical harmonics of positions, degrees 1 to `degrees`: smooth functions of the place on the sphere.

    Args:
        lonlat: Degrees east and north, shape (n, 2).
        degrees: Highest degree.

    Returns:
        float32 (n, degrees * (degrees + 2)).
    """
    from scipy.special import sph_harm_y

    lon, lat = np.radians(np.asarray(lonlat, dtype=np.float64)).T
    columns = []
    for degree in range(1, degrees + 1):
        for order in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(order), np.pi / 2 - lat, lon)
            columns.append(value.real if order >= 0 else value.imag)
    return np.column_stack(columns).astype(np.float32)


def weights_file() -> Path:
    """The location encoder's weights in the installed wheel, or where `RS05BENCH_GEOCLIP` says.

    Raises:
        MissingExtraError: Not installed.
    """
    path = _weights_path()
    if not path.is_file():
        raise MissingExtraError("geoclip", purpose="GeoCLIP's location encoder")
    return path


def encoder_installed() -> bool:
    """Whether GeoCLIP's location encoder and what runs it are there."""
    return _weights_path().is_file() and extra_of("torch") is None


def _weights_path() -> Path:
    from importlib.metadata import PackageNotFoundError, distribution

    if named := os.environ.get("RS05BENCH_GEOCLIP"):
        return Path(named)
    try:
        return Path(str(distribution("geoclip").locate_file(_WEIGHTS)))
    except PackageNotFoundError:
        return Path(_WEIGHTS)


@lru_cache(maxsize=1)
def _capsules() -> list[tuple[Any, list[tuple[Any, Any]], tuple[Any, Any]]]:
    """The three capsules of the encoder: frequencies, hidden layers, head. Only tensors are read, nothing is executed."""
    import torch

    state = torch.load(weights_file(), map_location="cpu", weights_only=True)
    found = []
    for number in range(sum(name.endswith("head.0.weight") for name in state)):
        own = {name.split(".", 1)[1]: value for name, value in state.items() if name.startswith(f"LocEnc{number}.")}
        layers = sorted(int(name.split(".")[1]) for name in own if name.startswith("capsule.") and name.endswith(".weight"))
        hidden = [(own[f"capsule.{layer}.weight"], own[f"capsule.{layer}.bias"]) for layer in layers]
        found.append((own["capsule.0.b"], hidden, (own["head.0.weight"], own["head.0.bias"])))
    return found


def _geoclip(lonlat: Floats) -> NDArray[np.float32]:
    import torch

    plane = torch.from_numpy(_equal_earth(np.asarray(lonlat, dtype=np.float64))).float()
    out = []
    with torch.inference_mode():
        for part in plane.split(_PORTION):
            total = torch.zeros(len(part), _capsules()[0][2][0].shape[0])
            for frequencies, hidden, (weight, bias) in _capsules():
                angle = 2 * torch.pi * part @ frequencies.T
                x = torch.cat([angle.cos(), angle.sin()], dim=-1)
                for w, b in hidden:
                    x = torch.relu(x @ w.T + b)
                total += x @ weight.T + bias
            out.append(total)
    return torch.cat(out).numpy() if out else np.zeros((0, 512), np.float32)


def _equal_earth(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions on the Equal Earth plane, in the encoder's scale, (n, 2)."""
    a1, a2, a3, a4 = _EQUAL_EARTH
    lon, lat = np.radians(lonlat).T
    theta = np.arcsin(np.sqrt(3) / 2 * np.sin(lat))
    x = 2 * np.sqrt(3) * lon * np.cos(theta) / (3 * (9 * a4 * theta**8 + 7 * a3 * theta**6 + 3 * a2 * theta**2 + a1))
    y = a4 * theta**9 + a3 * theta**7 + a2 * theta**3 + a1 * theta
    return np.column_stack([x, y]) * _SCALE
