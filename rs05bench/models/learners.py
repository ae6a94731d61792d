"""The shallow learners themselves: arrays in, arrays out, one path of fits over a learner's declared grid.

A learner knows nothing of roles, budgets or files. Classes come in as 0..k-1 without gaps and targets with mean 0 and deviation 1;
`rs05bench.models.shallow` does that, and puts predictions back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rs05bench.models import probes

Kind = Literal["classification", "regression"]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Fitted:
    """One fit: `predict` maps scaled features (n, d) to probabilities (n, k) or values (n,); `count` counts what was learnt, when asked."""

    predict: Callable[[Floats], Floats]
    count: Callable[[], int]


@dataclass(frozen=True)
class Learner:
    """A learner under the protocol.

    Attributes:
        name: As in `alphaearth/<name>`.
        kinds: Kinds of task it can do.
        path: Fits every entry of a grid: (X, y, grid, kind, seed) -> one `Fitted` an entry.
        reads_missing: Whether it takes NaN as it is; others see the training median.
        licence: Licence of the software behind it.
        citation: What to cite.
        together: Fits the grid on many training sets at once, where that shares work: with the answers of `path`.
    """

    name: str
    kinds: tuple[Kind, ...]
    path: Callable[[Floats, NDArray[Any], Sequence[dict[str, Any]], Kind, int], list[Fitted]]
    reads_missing: bool
    licence: str
    citation: str
    together: Callable[[Sequence[tuple[Floats, NDArray[Any]]], Sequence[dict[str, Any]]], list[list[Fitted]]] | None = None

    def paths(
        self, problems: Sequence[tuple[Floats, NDArray[Any]]], grid: Sequence[dict[str, Any]], kind: Kind, seed: int
    ) -> list[list[Fitted]]:
        """The path of each of several training sets (X, y); the same as one by one, whether or not the learner shares work."""
        if self.together is not None:
            return self.together(problems, grid)
        return [self.path(X, y, grid, kind, seed) for X, y in problems]


def _constant(count: int) -> Callable[[], int]:
    return lambda: count


def _logistic(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]], kind: Kind, seed: int) -> list[Fitted]:
    return _logistics([(X, y)], grid)[0]


def _logistics(problems: Sequence[tuple[Floats, NDArray[Any]]], grid: Sequence[dict[str, Any]]) -> list[list[Fitted]]:
    small = [probes.fits(X) for X, _ in problems]
    solved = iter(probes.logistic_paths([problem for problem, ok in zip(problems, small, strict=True) if ok], [e["C"] for e in grid]))
    return [
        [Fitted(line.probabilities, _constant(line.count)) for line in next(solved)] if ok else _large_logistic(X, y, grid)
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
        fitted[index] = Fitted(model.predict_proba, _constant(model.coef_.size + model.intercept_.size))
    return [fitted[index] for index in range(len(grid))]


def _ridge(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]], kind: Kind, seed: int) -> list[Fitted]:
    return _ridges([(X, y)], grid)[0]


def _ridges(problems: Sequence[tuple[Floats, NDArray[Any]]], grid: Sequence[dict[str, Any]]) -> list[list[Fitted]]:
    small = [probes.fits(X) for X, _ in problems]
    solved = iter(probes.ridge_paths([problem for problem, ok in zip(problems, small, strict=True) if ok], [e["alpha"] for e in grid]))
    return [
        [Fitted(line, _constant(line.count)) for line in next(solved)] if ok else _large_ridge(X, y, grid)
        for (X, y), ok in zip(problems, small, strict=True)
    ]


def _large_ridge(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]]) -> list[Fitted]:
    # One singular value decomposition serves the whole path: w = V diag(s / (s^2 + alpha)) U'y.
    mean = X.mean(axis=0)
    left, singular, right = np.linalg.svd(X - mean, full_matrices=False)
    offset = float(y.mean())
    projected = left.T @ (y - offset)

    def solved(alpha: float) -> Fitted:
        weights = right.T @ (singular / (singular**2 + alpha) * projected)
        return Fitted(lambda Z: (Z - mean) @ weights + offset, _constant(weights.size + 1))

    return [solved(entry["alpha"]) for entry in grid]


def _centroid(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]], kind: Kind, seed: int) -> list[Fitted]:
    """Nearest class centroid, with the probabilities of classes that are equally frequent and equally wide, in every direction alike."""
    classes = int(y.max()) + 1
    centroids = np.stack([X[y == value].mean(axis=0) for value in range(classes)])
    inside = ((X - centroids[y]) ** 2).sum()
    # Pooled variance of one column; with one label a class there is none, and columns have variance 1.
    variance = inside / ((len(X) - classes) * X.shape[1]) if len(X) > classes and inside > 0 else 1.0

    def solved(spread: float) -> Fitted:
        def predict(Z: Floats) -> Floats:
            distance = (Z**2).sum(axis=1)[:, None] - 2.0 * Z @ centroids.T + (centroids**2).sum(axis=1)
            logits = -distance / (2.0 * variance * spread)
            raised = np.exp(logits - logits.max(axis=1, keepdims=True))
            return raised / raised.sum(axis=1, keepdims=True)

        return Fitted(predict, _constant(centroids.size))

    return [solved(entry["spread"]) for entry in grid]


def _knn(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]], kind: Kind, seed: int) -> list[Fitted]:
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    out = []
    for entry in grid:
        k = min(int(entry["k"]), len(X))
        if kind == "classification":
            out.append(Fitted(KNeighborsClassifier(n_neighbors=k, n_jobs=1).fit(X, y).predict_proba, _constant(X.size)))
        else:
            out.append(Fitted(KNeighborsRegressor(n_neighbors=k, n_jobs=1).fit(X, y).predict, _constant(X.size)))
    return out


def _forest(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]], kind: Kind, seed: int) -> list[Fitted]:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    out = []
    for entry in grid:
        forest = RandomForestClassifier if kind == "classification" else RandomForestRegressor
        model = forest(n_estimators=100, random_state=seed, n_jobs=1, **entry).fit(X, y)
        predict = model.predict_proba if kind == "classification" else model.predict
        out.append(Fitted(predict, _constant(sum(int(tree.tree_.node_count) for tree in model.estimators_))))
    return out


def _xgboost(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]], kind: Kind, seed: int) -> list[Fitted]:
    import xgboost

    def fit(depth: int, rounds: int) -> Any:
        # Two classes are the softmax of two here too, so that one code reads all; weights of a leaf at .5 lets 5 labels a class split.
        model = xgboost.XGBClassifier if kind == "classification" else xgboost.XGBRegressor
        return model(
            n_estimators=rounds, max_depth=depth, learning_rate=0.1, subsample=0.8, colsample_bytree=0.5, min_child_weight=0.5,
            tree_method="hist", max_bin=64, n_jobs=1, random_state=seed, verbosity=0,
        ).fit(X, y)  # fmt: skip

    def stage(model: Any, rounds: int) -> Fitted:
        method = model.predict_proba if kind == "classification" else model.predict
        return Fitted(
            lambda Z: method(Z, iteration_range=(0, rounds)),
            lambda: sum(tree.count("leaf=") for tree in model.get_booster()[:rounds].get_dump()),
        )

    return _stages(grid, "max_depth", fit, stage)


def _lightgbm(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]], kind: Kind, seed: int) -> list[Fitted]:
    import lightgbm

    def fit(leaves: int, rounds: int) -> Any:
        # LightGBM's own minimum of 20 units a leaf makes no tree at all from 20 labels.
        smallest = int(np.clip(len(X) // 20, 1, 20))
        model = lightgbm.LGBMClassifier if kind == "classification" else lightgbm.LGBMRegressor
        return model(
            n_estimators=rounds, num_leaves=leaves, learning_rate=0.1, subsample=0.8, subsample_freq=1, colsample_bytree=0.5,
            min_child_samples=smallest, min_data_in_bin=1, max_bin=63, n_jobs=1, random_state=seed, deterministic=True, force_row_wise=True,
            verbose=-1,
        ).fit(X, y)  # fmt: skip

    def stage(model: Any, rounds: int) -> Fitted:
        booster = model.booster_

        def predict(Z: Floats) -> Floats:
            raw = booster.predict(Z, num_iteration=rounds)
            return np.column_stack([1.0 - raw, raw]) if kind == "classification" and raw.ndim == 1 else raw

        return Fitted(predict, lambda: sum(tree["num_leaves"] for tree in booster.dump_model(num_iteration=rounds)["tree_info"]))

    return _stages(grid, "num_leaves", fit, stage)


def _stages(
    grid: Sequence[dict[str, Any]], shape: str, fit: Callable[[int, int], Any], stage: Callable[[Any, int], Fitted]
) -> list[Fitted]:
    """Entries that differ in rounds only are stages of one boosted fit."""
    longest: dict[int, int] = {}
    for entry in grid:
        longest[entry[shape]] = max(longest.get(entry[shape], 0), entry["rounds"])
    models = {value: fit(value, rounds) for value, rounds in longest.items()}
    return [stage(models[entry[shape]], entry["rounds"]) for entry in grid]


def _mlp(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]], kind: Kind, seed: int) -> list[Fitted]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    out = []
    for entry in grid:
        network = MLPClassifier if kind == "classification" else MLPRegressor
        # L-BFGS suits tables of labels this small: no step size to tune, and the same result for the same seed.
        model = network(hidden_layer_sizes=(64,), alpha=entry["alpha"], solver="lbfgs", max_iter=100, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # 100 iterations are the declared schedule, not a failure
            model.fit(X, y)
        predict = model.predict_proba if kind == "classification" else model.predict
        out.append(Fitted(predict, _constant(sum(weights.size for weights in [*model.coefs_, *model.intercepts_]))))
    return out


_SOFTMAX = "Böhning 1992, Multinomial logistic regression algorithm, https://doi.org/10.1007/BF00048682"
_SKLEARN = "Pedregosa et al. 2011, Scikit-learn, JMLR 12"
BOTH: tuple[Kind, ...] = ("classification", "regression")

LEARNERS: dict[str, Learner] = {
    learner.name: learner
    for learner in (
        Learner("logistic", ("classification",), _logistic, False, "MIT", _SOFTMAX, _logistics),
        Learner(
            "ridge", ("regression",), _ridge, False, "MIT", "Hoerl & Kennard 1970, https://doi.org/10.1080/00401706.1970.10488634", _ridges
        ),
        Learner(
            "centroid",
            ("classification",),
            _centroid,
            False,
            "MIT",
            "Hastie, Tibshirani & Friedman 2009, section 4.3",
        ),
        Learner("knn", BOTH, _knn, False, "BSD-3-Clause", _SKLEARN),
        Learner("rf", BOTH, _forest, True, "BSD-3-Clause", "Breiman 2001, https://doi.org/10.1023/A:1010933404324"),
        Learner("xgboost", BOTH, _xgboost, True, "Apache-2.0", "Chen & Guestrin 2016, https://doi.org/10.1145/2939672.2939785"),
        Learner("lightgbm", BOTH, _lightgbm, True, "MIT", "Ke et al. 2017, LightGBM, NeurIPS 30"),
        Learner("mlp", BOTH, _mlp, False, "BSD-3-Clause", _SKLEARN),
    )
}
