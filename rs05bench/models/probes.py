"""Linear probes solved together: every regularisation value of many small ridge or logistic problems in one pass of linear algebra.

A few-shot grid fits the same linear probe hundreds of times: for each budget, seed and regularisation value. Two things are shared. All
regularisation values of a training set share its Gram matrix, of units or of features, whichever is smaller: a ridge solution (Hoerl &
Kennard 1970, https://doi.org/10.1080/00401706.1970.10488634) is one small system more, and from its eigenvectors, X - mean = Q diag(s) V',
come the coordinates in which a softmax regression is well conditioned. And training sets of one shape go through NumPy together, so that
the cost of a call is paid once.

The softmax regression is solved by nonlinear conjugate gradients (Hestenes & Stiefel's beta, not below 0; Hager & Zhang 2006, A survey of
nonlinear conjugate gradient methods, Pacific Journal of Optimization 2) with the length of Newton's step along each direction. In the
coordinates T = diag(s) V'W the curvature of the loss is Q' diag(weights of the units) Q, close to the mean weight times the identity, and
that of the penalty is diagonal, so that their sum, renewed at each step, is a diagonal preconditioner that leaves little to do: 5 to 30
steps of two products. This is the role that Böhning's constant bound plays (Böhning 1992, Multinomial logistic regression algorithm,
https://doi.org/10.1007/BF00048682), without its slackness where units are well apart. A regularisation value is one more block of columns
of T, so that one product serves all. Single precision reaches the tolerance but for rare problems, which double precision takes over.

Problems are only stacked where their shapes are equal, and what has converged stands still: every number is computed exactly as if the
problem had been solved alone. What is in a stack cannot change a result.
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
MOST_NUMBERS = 4_000_000
"""Numbers in a design matrix, beyond which nothing is gained: 32 MB."""
STACK_NUMBERS = 250_000
"""Numbers in one stack of design matrices: in single precision they fit the cache of a core, and a call costs little beside its work."""
TOLERANCE = 7e-5
"""Root mean square change of the logits that a Newton step would still bring.

Probabilities then are within 2e-4 of the optimum, where those of scikit-learn with `tol=1e-5` are within some 1e-2 at weak penalties."""
MOST_STEPS: dict[type, int] = {np.float32: 50, np.float64: 1000}
MOST_HALVINGS = 30
LEAST_CURVATURE = np.float32(1e-7)
"""Below this a mean curvature is rounding."""


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
        logits = self(X)
        shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)

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
        mean, offset = X.mean(axis=1), y.mean(axis=1)
        centred, target = X - mean[:, None, :], (y - offset[:, None])[..., None]
        across = centred.transpose(0, 2, 1)
        wide = X.shape[1] < X.shape[2]
        gram, sought = (centred @ across, target) if wide else (across @ centred, across @ target)
        # A system a penalty costs less than the eigenvectors of one Gram matrix, up to a dozen penalties.
        systems = gram[:, None] + penalties[:, None, None] * np.eye(gram.shape[1])
        solved = np.linalg.solve(systems, sought[:, None])[..., 0]  # (stack, penalties, d or n)
        weights = solved @ centred if wide else solved
        shifts = offset[:, None] - (weights @ mean[..., None])[..., 0]
        return [[Linear(w, float(shift)) for w, shift in zip(*pair, strict=True)] for pair in zip(weights, shifts, strict=True)]

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
        offset = offset - np.einsum("bckd,bd->bck", weights, mean)
        turned = weights.transpose(0, 1, 3, 2)  # (stack, penalties, d, classes)
        return [[Linear(w, shift) for w, shift in zip(*pair, strict=True)] for pair in zip(turned, offset, strict=True)]

    return _stacked(problems, lambda y: (int(np.max(y)) + 1,), solve)


def fits(X: Floats) -> bool:
    """Whether a training set is of the size this is made for."""
    return 0 < min(X.shape) <= LARGEST_RANK and X.size <= MOST_NUMBERS


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


def _softmax_regressions(spectrum: _Spectrum, y: NDArray[np.int64], classes: int, penalties: Floats) -> tuple[Floats, Floats]:
    """Weights (b, penalties, k, d) and offsets (b, penalties, k) of the centred problems."""
    stack, units, rank = spectrum.left.shape
    constant = np.full((stack, units, 1), 1.0 / np.sqrt(units))
    # Units last: sums over classes then run over whole rows.
    Q = np.ascontiguousarray(np.concatenate([spectrum.left, constant], axis=2).transpose(0, 2, 1))
    labels = np.ascontiguousarray(np.eye(classes)[y].transpose(0, 2, 1))[:, None]
    inverse = np.concatenate([1.0 / spectrum.values**2, np.zeros((stack, 1))], axis=1)
    penalty = inverse[:, None, None, :] * penalties[None, :, None, None]
    # At 0 every class has the same probability, and Newton's step is exact and a division.
    start = _times(np.broadcast_to(labels - 1 / classes, (stack, len(penalties), classes, units)), Q.transpose(0, 2, 1))
    start /= 1 / classes + penalty
    T, open_ = _minimise(Q, labels, penalty, start, np.float32)
    for row in np.flatnonzero(open_.any(axis=1)):
        one, left = slice(row, row + 1), np.flatnonzero(open_[row])
        T[row, left] = _minimise(Q[one], labels[one], penalty[one, left], T[one, left], np.float64)[0][0]
    weights = (T[..., :rank] / spectrum.values[:, None, None, :]).reshape(stack, -1, rank) @ spectrum.right.transpose(0, 2, 1)
    return weights.reshape(stack, len(penalties), classes, -1), T[..., rank] / np.sqrt(units)


def _times(A: Floats, B: Floats) -> Floats:
    """A (b, c, k, r) times B (b, r, n): one product a problem, for all penalties."""
    b, c, k, r = A.shape
    return (A.reshape(b, c * k, r) @ B).reshape(b, c, k, -1)


def _minimise(Q: Floats, labels: Floats, penalty: Floats, start: Floats, kind: type) -> tuple[Floats, NDArray[np.bool_]]:
    """Minimises sum cross-entropy(T Q) + sum penalty T^2 / 2 for a stack of problems, a T a penalty.

    Args:
        Q: Orthonormal rows, (b, r, n).
        labels: One-hot labels, (b, 1, k, n).
        penalty: Of every coordinate, (b, c, 1, r).
        start: Where to begin, (b, c, k, r).
        kind: Precision.

    Returns:
        The minimisers as float64, and which of them (b, c) did not reach the tolerance.
    """
    found = np.array(start, dtype=np.float64)
    unfinished = np.ones(found.shape[:2], dtype=bool)
    members = np.arange(len(Q))
    search = _Search(*(np.asarray(part, dtype=kind) for part in (Q, labels, penalty, start)))
    for _ in range(MOST_STEPS[kind]):
        going = search.open_.any(axis=1)
        if not going.all():  # a problem leaves when all its penalties are done
            found[members[~going]], unfinished[members[~going]] = search.T[~going], False
            if not going.any():
                return found, unfinished
            members, search = members[going], search.only(going)
        search.step()
    found[members], unfinished[members] = search.T, search.open_
    return found, unfinished


class _Search:
    """The state of a stack of searches: where each is, its logits, gradient and direction. One `step` costs two products."""

    def __init__(self, Q: Floats, labels: Floats, penalty: Floats, T: Floats) -> None:
        self.Q, self.labels, self.penalty, self.T = Q, labels, penalty, T
        self.F = _times(T, Q)
        self.P = _softmax(self.F)
        self.gradient = self._gradient(self.P, T)
        z, size, self.open_ = self._conditioned(self.P, self.gradient)
        self.direction, self.slope = -z, -size

    def only(self, rows: NDArray[np.bool_]) -> _Search:
        """The search of some problems."""
        part = object.__new__(_Search)
        vars(part).update({name: value[rows] for name, value in vars(self).items()})
        return part

    def step(self) -> None:
        """Moves every open search to the minimum along its direction, as Newton's step sees it, and turns."""
        direction, before, slope = self.direction, self.gradient, self.slope
        along = _times(direction, self.Q)
        weighted = self.P * along
        mean = weighted.sum(axis=2)
        curvature = _dot(weighted, along) - np.vecdot(mean, mean) + _dot(self.penalty * direction, direction)
        length = np.where(self.open_, -slope / _positive(curvature), 0)
        for _ in range(MOST_HALVINGS):
            T, F = length[..., None, None] * direction, length[..., None, None] * along
            T += self.T
            F += self.F
            P = _softmax(F)
            gradient = self._gradient(P, T)
            beyond = _dot(gradient, direction)
            # Beyond the minimum the slope rises: steeper than it fell is too far.
            far = self.open_ & (beyond > -slope)
            if not far.any():
                break
            length = np.where(far, length / 2, length)
        z, size, open_ = self._conditioned(P, gradient)
        turn = np.maximum((size - _dot(before, z)) / _positive(beyond - slope), 0)
        ahead = turn * beyond - size
        turn = np.where(ahead < 0, turn, 0)  # never uphill
        self.slope = np.where(ahead < 0, ahead, -size)
        self.direction = turn[..., None, None] * direction
        self.direction -= z
        self.T, self.F, self.P, self.gradient = T, F, P, gradient
        self.open_ = self.open_ & open_

    def _gradient(self, P: Floats, T: Floats) -> Floats:
        found = _times(P - self.labels, self.Q.transpose(0, 2, 1))
        found += self.penalty * T
        return found

    def _conditioned(self, P: Floats, gradient: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """The gradient over the curvature as it is on average, the squared length of that step in this curvature, and if it is worth it."""
        classes, units = P.shape[2:]
        mean = np.maximum((1 - _dot(P, P) / units) / (classes - 1), LEAST_CURVATURE)
        z = gradient / (mean[..., None, None] + self.penalty)
        size = _dot(gradient, z)
        return z, size, size > TOLERANCE**2 * units * mean


def _dot(A: Floats, B: Floats) -> Floats:
    """Inner products over the last two axes."""
    shape = (*A.shape[:2], -1)
    return np.vecdot(A.reshape(shape), B.reshape(shape))


def _positive(values: Floats) -> Floats:
    return np.where(values > 0, values, 1)


def _softmax(logits: Floats) -> Floats:
    """Probabilities along the second axis from the last."""
    shifted = logits - logits.max(axis=-2, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=-2, keepdims=True)
    return shifted
