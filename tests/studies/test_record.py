"""A sentence says what its interval says, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.cross_decomposition import CCA

from rs05bench.protocol.inference import Estimate
from rs05bench.studies.evidence import over_draws
from rs05bench.studies.probes import agreement, axes_in_use, canonical, correlations, direction, held_out_correlations
from rs05bench.studies.record import Claim, compared, tally


def estimate(value: float, low: float, high: float, scope: str = "between-groups") -> Estimate:
    return Estimate(value, low, high, 0.95, 0.1, "t", scope, 30, 30)


def claim(effect: Estimate) -> Claim:
    return compared(
        effect, ["b", "a", "a"], above="A beats B by {size}", below="B beats A by {size}", unclear="A and B cannot be told apart"
    )


@pytest.mark.parametrize(
    ("effect", "said", "starts"),
    [
        (estimate(0.12, 0.05, 0.19), "above", "A beats B by .12 (+.12 [.05, .19])."),
        (estimate(-0.12, -0.19, -0.05), "below", "B beats A by .12 (−.12 [−.19, −.05])."),
        (estimate(0.12, -0.05, 0.29), "unclear", "A and B cannot be told apart (+.12 [−.05, .29])."),
        (estimate(0.12, np.nan, np.nan), "unclear", "A and B cannot be told apart (+.12, no interval: too few blocks)."),
        (estimate(0.12, 0.05, 0.19, "within-groups"), "above", "A beats B by .12 (+.12 [.05, .19], for these groups only)."),
    ],
)
def test_the_words_follow_the_interval(effect, said, starts):
    made = claim(effect)
    assert (made.said, made.text) == (said, starts)
    assert made.digests == ("a", "b")


def test_an_end_beside_zero_does_not_read_as_zero():
    assert "[.002, .240]" in claim(estimate(0.12, 0.002, 0.24)).text


def test_a_tally_counts_and_rests_on_all():
    claims = [claim(estimate(1, 0.5, 2)), claim(estimate(-1, -2, -0.5)), claim(estimate(1, -1, 2))]
    claims[0] = Claim(claims[0].text, ("c",), claims[0].effect, claims[0].said)
    made = tally(claims, "A against B", "A", "B")
    assert "of 3 comparisons, 1 say A, 1 say B, and 1 decide nothing" in made.text
    assert made.digests == ("a", "b", "c")


def test_the_interval_over_draws_is_students():
    values = [0.1, 0.3, 0.2, 0.25]
    made, reference = over_draws(values), stats.ttest_1samp(values, 0)
    ends = reference.confidence_interval(0.95)
    assert np.allclose([made.low, made.high, made.p], [ends.low, ends.high, reference.pvalue])
    assert np.isnan(over_draws([0.1]).low)


def test_canonical_correlations_are_those_of_a_reference():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    Y = np.column_stack([X[:, 0] + 0.5 * rng.normal(size=400), X[:, 1] - X[:, 2] + rng.normal(size=400)])
    a, b, found = canonical(X, Y, ridge=1e-9)
    one, other = CCA(n_components=2, max_iter=2000, tol=1e-9).fit_transform(X, Y)
    reference = [np.corrcoef(one[:, i], other[:, i])[0, 1] for i in range(2)]
    assert np.allclose(found, reference, atol=1e-4)
    assert np.allclose(held_out_correlations(X, Y, (a, b)), found, atol=1e-6)


def test_directions_agree_with_themselves_and_not_with_what_is_beside_them():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(2000, 6))
    one, other = (direction(X, X[:, i] + 0.1 * rng.normal(size=2000), np.zeros(6), np.ones(6)) for i in (0, 1))
    covariance = np.cov(X.T)
    assert agreement(one, one, covariance) == pytest.approx(1)
    assert abs(agreement(one, other, covariance)) < 0.1
    assert axes_in_use(np.eye(6)[0]) == 1
    assert axes_in_use(np.ones(6)) == pytest.approx(6)
    assert np.allclose(correlations(X, X[:, 0])[0], 1)
    assert correlations(np.ones((5, 1)), np.arange(5))[0] == 0
