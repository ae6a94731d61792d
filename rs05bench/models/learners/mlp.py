"""A network of one hidden layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from rs05bench.models.learners.learner import SKLEARN, Fitted, Floats, Kind, Learner, constant


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
        out.append(Fitted(predict, constant(sum(weights.size for weights in [*model.coefs_, *model.intercepts_]))))
    return out


LEARNER = Learner(
    name="mlp",
    rank=80,
    words="a network of one hidden layer",
    path=_mlp,
    grid=({"alpha": 1.0}, {"alpha": 0.1}, {"alpha": 10.0}, {"alpha": 30.0}),
    licence="BSD-3-Clause",
    citation=SKLEARN,
)
