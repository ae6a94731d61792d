"""Logistic regression: a softmax over classes, linear in the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from rs05bench.models import probes
from rs05bench.models.learners.learner import Fitted, Floats, Kind, Learner, constant


def _logistic(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]], kind: Kind, seed: int) -> list[Fitted]:
    return _logistics([(X, y)], grid)[0]


def _logistics(problems: Sequence[tuple[Floats, NDArray[Any]]], grid: Sequence[dict[str, Any]]) -> list[list[Fitted]]:
    small = [probes.fits(X) for X, _ in problems]
    solved = iter(probes.logistic_paths([problem for problem, ok in zip(problems, small, strict=True) if ok], [e["C"] for e in grid]))
    return [
        [Fitted(line.probabilities, constant(line.count)) for line in next(solved)] if ok else _large_logistic(X, y, grid)
        for (X, y), ok in zip(problems, small, strict=True)
    ]


def _large_logistic(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]]) -> list[Fitted]:
    from sklearn.linear_model import LogisticRegression

    # From strong to weak regularisation each solution starts the next: the same optimum in about half the iterations.
    fitted: dict[int, Fitted] = {}
    start: Any = None
    for index in sorted(range(len(grid)), key=lambda i: grid[i]["C"]):
        model = LogisticRegression(C=grid[index]["C"], tol=1e-5, max_iter=2000, warm_start=True)
        if start is not None:
            model.coef_, model.intercept_, model.classes_ = start.coef_.copy(), start.intercept_.copy(), start.classes_
        start = model.fit(X, y)
        fitted[index] = Fitted(model.predict_proba, constant(model.coef_.size + model.intercept_.size))
    return [fitted[index] for index in range(len(grid))]


LEARNER = Learner(
    name="logistic",
    rank=10,
    words="logistic regression",
    kinds=("classification",),
    path=_logistic,
    grid=({"C": 0.1}, {"C": 1.0}, {"C": 0.01}, {"C": 10.0}),
    licence="MIT",
    citation="Böhning 1992, Multinomial logistic regression algorithm, https://doi.org/10.1007/BF00048682",
    together=_logistics,
)
