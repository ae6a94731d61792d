"""Linear probes solved together: every regularisation value of many small ridge or logistic problems in one pass of linear algebra.

A few-shot grid fits the same linear probe hundreds of times: for each budget, seed and regularisation value. Two things are shared. All
regularisation values of a training set share its spectral decomposition X - mean = Q diag(s) V', after which a ridge solution is a
division (Hoerl & Kennard 1970, https://doi.org/10.1080/00401706.1970.10488634), and in which a softmax regression is well conditioned. And
training sets of one shape go through NumPy together, so that the cost of a call is paid once.

The softmax regression is solved by Newton's method with conjugate gradients inside (Lin, Weng & Keerthi 2008, Trust region Newton method
for large-scale logistic regression, JMLR 9), preconditioned by Böhning's bound of the Hessian (Böhning 1992, Multinomial logistic
regression algorithm, https://doi.org/10.1007/BF00048682): with F = Q T the curvature of the loss is at most 1/2 in every direction, so
that in the coordinates T the bound is diagonal. A regularisation value is one more block of columns of T, so that one product serves all.

Problems are only stacked where their shapes are equal, and a problem leaves the stack when it has converged: every number is computed
exactly as if the problem had been solved alone. What is in a stack cannot change a result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Problem = tuple[Floats, NDArray[Any]]

LARGEST_RANK = 1024
"""Beyond so many dimensions (of units or features, whichever is fewer) the decomposition costs more than it saves."""
GRADIENT_TOLERANCE = 1e-6
MOST_NEWTON_STEPS = 60
MOST_INNER_STEPS = 60
STACK_NUMBERS = 4_000_000
"""Numbers in one stack of design matrices: 32 MB."""


@dataclass(frozen=True)
class Linear:
    """A linear map of features: `X @ weights + offset`; weights (d,) or (d, k)."""

    weights: Floats
    offset: Floats | float

    def __call__(self, X: Floats) -> Floats:
        """Values (n,) or logits (n, k)."""
        return X @ self.weights + self.offset

    def probabilities(self, X: Floats) -> Floats:
        """Softmax of the logits, (n, k)."""
        return _softmax(self(X))

    @property
    def count(self) -> int:
        """Numbers that were learnt."""
        return int(self.weights.size + np.size(self.offset))


def ridge_paths(problems: Sequence[Problem], alphas: Sequence[float]) -> list[list[Linear]]:
    """Ridge regressions of many training sets, for all penalties: min |y - Xw - b|^2 + alpha |w|^2.

    Args:
        problems: (X (n, d), y (n,)) each.
        alphas: Penalties, above 0.

    Returns:
        For each problem one solution a penalty, in order.
    """
    penalties = np.asarray(alphas, dtype=np.float64)

    def solve(X: Floats, y: Floats) -> list[list[Linear]]:
        mean, spectrum = _decompose(X)
        offset = y.mean(axis=1)
        projected = (spectrum.left.transpose(0, 2, 1) @ (y - offset[:, None])[..., None])[..., 0]
        shrunk = (spectrum.values / (spectrum.values**2 + penalties[:, None, None])).transpose(1, 2, 0) * projected[..., None]
        weights = spectrum.right @ shrunk  # (stack, d, penalties)
        return [
            [
                Linear(np.ascontiguousarray(weights[row, :, column]), float(offset[row] - mean[row] @ weights[row, :, column]))
                for column in range(len(penalties))
            ]
            for row in range(len(X))
        ]

    return _stacked(problems, lambda y: (), lambda X, y, _: solve(X, np.asarray(y, dtype=np.float64)))


def logistic_paths(problems: Sequence[Problem], Cs: Sequence[float]) -> list[list[Linear]]:
    """Softmax regressions of many training sets, for all regularisation values.

    The objective is scikit-learn's: C times the summed cross-entropy plus half the squared norm of the weights, the intercept free; with
    two classes its weights are those of the one logit that scikit-learn fits, half for either class.

    Args:
        problems: (X (n, d), y (n,) classes 0..k-1, each of them there) each.
        Cs: Inverse penalties.

    Returns:
        For each problem one solution a value, in order.
    """

    def solve(X: Floats, y: NDArray[Any], shape: tuple[int, ...]) -> list[list[Linear]]:
        classes = shape[0]
        # f = f1 - f2 with w1 = -w2 = w / 2 halves the squared norm: twice the penalty gives the one-logit solution.
        penalties = (2.0 if classes == 2 else 1.0) / np.asarray(Cs, dtype=np.float64)
        mean, spectrum = _decompose(X)
        weights, offset = _softmax_regressions(spectrum, np.asarray(y, dtype=np.int64), classes, penalties)
        found = []
        for row in range(len(X)):
            maps = []
            for column in range(len(penalties)):
                w = np.ascontiguousarray(weights[row, :, column])
                maps.append(Linear(w, offset[row, column] - mean[row] @ w))
            found.append(maps)
        return found

    return _stacked(problems, lambda y: (int(np.max(y)) + 1,), solve)


def fits(X: Floats) -> bool:
    """Whether a training set is of the size this is made for."""
    return 0 < min(X.shape) <= LARGEST_RANK and X.size <= STACK_NUMBERS


# ------------------------------------------------------------------------------------------------------------------------------ stacking


def _stacked(problems: Sequence[Problem], key: Any, solve: Any) -> list[list[Linear]]:
    """Solves problems of one shape together, in stacks of bounded size, and gives the answers back in order."""
    shapes: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, (X, y) in enumerate(problems):
        shapes[(*X.shape, *key(y))].append(index)
    answers: dict[int, list[Linear]] = {}
    for shape, members in shapes.items():
        size = max(1, STACK_NUMBERS // max(shape[0] * shape[1], 1))
        for start in range(0, len(members), size):
            part = members[start : start + size]
            X = np.stack([np.ascontiguousarray(problems[index][0], dtype=np.float64) for index in part])
            y = np.stack([problems[index][1] for index in part])
            answers.update(zip(part, solve(X, y, shape[2:]), strict=True))
    return [answers[index] for index in range(len(problems))]


# ------------------------------------------------------------------------------------------------------------------------ linear algebra


@dataclass(frozen=True)
class _Spectrum:
    """X - mean = left diag(values) right' for a stack: left (b, n, r), values (b, r), right (b, d, r).

    Directions without variance have value 1 and zero columns in both factors, so that they carry nothing and divide nothing by zero.
    """

    left: Floats
    values: Floats
    right: Floats


def _decompose(X: Floats) -> tuple[Floats, _Spectrum]:
    """Means (b, d) and decomposition by the eigenvectors of the smaller Gram matrix."""
    mean = X.mean(axis=1)
    centred = X - mean[:, None, :]
    wide = centred.shape[1] < centred.shape[2]
    gram = centred @ centred.transpose(0, 2, 1) if wide else centred.transpose(0, 2, 1) @ centred
    squares, vectors = np.linalg.eigh(gram)
    # Squaring costs half the digits: below 1e-12 of the largest square an eigenvalue is rounding.
    there = squares > 1e-12 * squares[:, -1:].clip(min=1e-300)
    values = np.where(there, np.sqrt(np.where(there, squares, 1.0)), 1.0)
    kept = vectors * there[:, None, :]
    other = (centred.transpose(0, 2, 1) if wide else centred) @ kept / values[:, None, :]
    return mean, _Spectrum(kept, values, other) if wide else _Spectrum(other, values, kept)


def _softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _softmax_regressions(spectrum: _Spectrum, y: NDArray[np.int64], classes: int, penalties: Floats) -> tuple[Floats, Floats]:
    """Weights (b, d, penalties, k) and offsets (b, penalties, k) of the centred problems, by Newton's method with CG inside."""
    stack, units, rank = spectrum.left.shape
    constant = np.full((stack, units, 1), 1.0 / np.sqrt(units))
    solver = _Newton(
        np.concatenate([spectrum.left, constant], axis=2),
        np.eye(classes)[y][:, :, None, :],
        np.concatenate([1.0 / spectrum.values**2, np.zeros((stack, 1))], axis=1)[:, :, None, None] * penalties[None, None, :, None],
    )
    T = solver.solve()
    weights = (spectrum.right @ (T[:, :rank] / spectrum.values[:, :, None, None]).reshape(stack, rank, -1)).reshape(
        stack, spectrum.right.shape[1], len(penalties), classes
    )
    return weights, T[:, rank] / np.sqrt(units)


class _Newton:
    """min over T of sum cross-entropy(Q T) + sum penalty T^2 / 2, for a stack of Q and a block of columns a penalty.

    Args:
        Q: Orthonormal columns, (b, n, r).
        labels: One-hot labels, (b, n, 1, k).
        penalty: Of every coordinate, (b, r, c, 1).
    """

    def __init__(self, Q: Floats, labels: Floats, penalty: Floats) -> None:
        self.Q, self.labels, self.penalty = Q, labels, penalty
        self.shape = (Q.shape[0], Q.shape[2], penalty.shape[2], labels.shape[3])

    def solve(self) -> Floats:
        """The minimisers, (b, r, c, k)."""
        T = np.zeros(self.shape)
        alive = np.arange(len(T))
        for _ in range(MOST_NEWTON_STEPS):
            part = _Newton(self.Q[alive], self.labels[alive], self.penalty[alive]) if len(alive) < len(T) else self
            here = T[alive]
            P = _softmax(part.forward(here))
            gradient = part.backward(P - part.labels) + part.penalty * here
            size = np.sqrt((gradient**2).sum(axis=(1, 3)))  # (b, c)
            open_ = size > GRADIENT_TOLERANCE * np.sqrt(self.Q.shape[1])
            if not open_.any():
                break
            step = part.direction(P, gradient, size, open_)
            T[alive] = part.search(here, step, gradient, open_)
            alive = alive[open_.any(axis=1)]
        return T

    def forward(self, T: Floats) -> Floats:
        """Q T, (b, n, c, k)."""
        b, r, c, k = T.shape
        return (self.Q @ T.reshape(b, r, c * k)).reshape(b, -1, c, k)

    def backward(self, R: Floats) -> Floats:
        """Q' R, (b, r, c, k)."""
        b, n, c, k = R.shape
        return (self.Q.transpose(0, 2, 1) @ R.reshape(b, n, c * k)).reshape(b, -1, c, k)

    def direction(self, P: Floats, gradient: Floats, size: Floats, open_: NDArray[np.bool_]) -> Floats:
        """Solves the Newton equations to a part of the gradient, by preconditioned conjugate gradients; closed columns stay 0."""
        bound = 0.5 + self.penalty
        target = np.minimum(0.1, np.sqrt(size / np.sqrt(self.Q.shape[1]))) * size
        x = np.zeros_like(gradient)
        r = np.where(open_[:, None, :, None], -gradient, 0.0)
        z = r / bound
        p = z
        rz = (r * z).sum(axis=(1, 3))
        going = open_
        for _ in range(MOST_INNER_STEPS):
            Fp = self.forward(p)
            PF = P * Fp
            Hp = self.backward(PF - P * PF.sum(axis=3, keepdims=True)) + self.penalty * p
            curvature = (p * Hp).sum(axis=(1, 3))
            alpha = np.where(going, rz / np.where(curvature > 0, curvature, 1.0), 0.0)[:, None, :, None]
            x = x + alpha * p
            r = r - alpha * Hp
            going = going & (np.sqrt((r**2).sum(axis=(1, 3))) > target)
            if not going.any():
                break
            z = r / bound
            new = (r * z).sum(axis=(1, 3))
            beta = np.where(going, new / np.where(rz > 0, rz, 1.0), 0.0)[:, None, :, None]
            p = np.where(going[:, None, :, None], z + beta * p, p)
            rz = np.where(going, new, rz)
        return x

    def loss(self, T: Floats) -> Floats:
        """Objective, (b, c)."""
        F = self.forward(T)
        top = F.max(axis=3)
        value = np.log(np.exp(F - top[..., None]).sum(axis=3)) + top - (F * self.labels).sum(axis=3)
        return value.sum(axis=1) + 0.5 * (self.penalty * T**2).sum(axis=(1, 3))

    def search(self, T: Floats, step: Floats, gradient: Floats, open_: NDArray[np.bool_]) -> Floats:
        """Takes the whole step, or half of it until the objective falls enough (Armijo); closed columns stay where they are."""
        before, slope = self.loss(T), (gradient * step).sum(axis=(1, 3))
        length = np.where(open_, 1.0, 0.0)
        slack = 1e-12 * np.maximum(np.abs(before), 1.0)  # near the minimum the fall drowns in rounding
        for _ in range(30):
            short = open_ & (self.loss(T + length[:, None, :, None] * step) > before + 1e-4 * length * slope + slack)
            if not short.any():
                break
            length = np.where(short, length / 2, length)
        return T + length[:, None, :, None] * step
