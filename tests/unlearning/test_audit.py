"""The audit against exact limits, known epsilons, and estimators that do and do not forget."""

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression

from mlpapers.testing import check_result, same
from mlpapers.unlearning import DVWUClassifier, gaussian_mechanism_epsilon
from mlpapers.unlearning.audit import _lower_limit, _upper_limit, audit_epsilon, audit_estimator


def shifted(rng, shift, n, p=3):
    """Samples of two Gaussians whose means differ by `shift` standard deviations."""
    A, B = rng.normal(size=(n, p)), rng.normal(size=(n, p))
    A[:, 0] += shift
    return A, B


class TestLimits:
    @pytest.mark.parametrize("n", [1, 7, 100])
    def test_they_are_those_of_clopper_and_pearson(self, n):
        hits = np.arange(n + 1)
        exact = [binomtest(k, n).proportion_ci(confidence_level=0.9, method="exact") for k in hits]
        np.testing.assert_allclose(_lower_limit(hits, n, 0.05), [ci.low for ci in exact], rtol=1e-9)
        np.testing.assert_allclose(_upper_limit(hits, n, 0.05), [ci.high for ci in exact], rtol=1e-9)

    def test_constants_that_differ_give_the_largest_possible_bound(self):
        A, B = np.ones((1000, 2)), np.ones((1000, 2)) * [1.5, 1.0]
        result = audit_epsilon(A, B, 1e-3)
        # All 500 of one side against none of the other: limits q and 1 - q with q = 0.025^(1/500).
        q = 0.025 ** (1 / 500)
        assert result.epsilon_lower == pytest.approx(np.log((q - 1e-3) / (1 - q)), rel=1e-9)
        assert (result.p_lower, result.p_upper) == pytest.approx((q, 1 - q), rel=1e-9)

    def test_a_gap_in_a_constant_direction_beside_noise(self):
        rng = np.random.default_rng(0)
        A, B = (np.column_stack([rng.normal(size=1000), np.full(1000, level)]) for level in (0.0, 1.0))
        assert audit_epsilon(A, B, 1e-3).epsilon_lower > 4.0

    def test_rounding_is_not_evidence(self):
        row = np.array([[1.0, -3.0]])
        A, B = np.repeat(row, 200, axis=0), np.repeat(row * (1 + 1e-12), 200, axis=0)
        assert audit_epsilon(A, B, 1e-3).epsilon_lower == 0.0


class TestKnownMechanisms:
    @given(st.integers(0, 2**31), st.integers(1, 4), st.integers(100, 400))
    @settings(max_examples=30, deadline=None)
    def test_identical_samples_show_nothing(self, seed, p, n):
        A = np.random.default_rng(seed).normal(size=(n, p))
        assert audit_epsilon(A, A, 1e-3).epsilon_lower == 0.0

    @pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
    def test_gaussian_shift(self, shift):
        epsilon = gaussian_mechanism_epsilon(1e-2, shift)
        lower = [
            audit_epsilon(*shifted(np.random.default_rng(seed), shift, 20_000), 1e-2).epsilon_lower
            for seed in range(5)
        ]
        # Each exceeds epsilon with probability <= 5 %, so three of five with probability < 0.2 %.
        assert np.sum(np.array(lower) > epsilon) < 3
        assert np.median(lower) > 0.6 * epsilon

    def test_it_fails_no_more_often_than_it_says(self):
        # Randomised response: one bit, flipped with probability 1/(1 + e), has epsilon = 1 with equality at
        # delta -> 0, so that nothing but the confidence limits keeps the bound below.
        rng = np.random.default_rng(0)
        above = 0
        for _ in range(300):
            A, B = (rng.random((2000, 1)) < p for p in (np.e / (1 + np.e), 1 / (1 + np.e)))
            above += audit_epsilon(A, B, 1e-9, confidence=0.6).epsilon_lower > 1.0
        assert above <= binom.ppf(1 - 1e-4, 300, 0.4)

    def test_swapping_the_mechanisms(self):
        A, B = shifted(np.random.default_rng(3), 1.0, 2000)
        one, other = audit_epsilon(A, B, 1e-2), audit_epsilon(B, A, 1e-2)
        assert one.epsilon_lower == pytest.approx(other.epsilon_lower, abs=1e-12)
        assert {one.likelier, other.likelier} == {"A", "B"}

    def test_affine_maps_change_nothing(self):
        rng = np.random.default_rng(4)
        A, B = shifted(rng, 1.5, 2000)
        M, c = rng.normal(size=(3, 3)), rng.normal(size=3)
        mapped = audit_epsilon(A @ M + c, B @ M + c, 1e-2).epsilon_lower
        # The projections agree to rounding; a tie at a threshold may fall to the other side.
        assert mapped == pytest.approx(audit_epsilon(A, B, 1e-2).epsilon_lower, abs=2e-2)

    def test_samples_of_different_sizes(self):
        A, B = shifted(np.random.default_rng(5), 2.0, 4000)
        result = audit_epsilon(A[:1000], B, 1e-2)
        assert 0.0 < result.epsilon_lower < gaussian_mechanism_epsilon(1e-2, 2.0)
        assert result.n_samples == 1000
        assert (len(result.projection_a), len(result.projection_b)) == (500, 2000)

    def test_the_event_explains_the_bound(self):
        A, B = shifted(np.random.default_rng(6), 2.0, 3000)
        result = audit_epsilon(A, B, 1e-2)
        first, second = result.projection_a, result.projection_b
        if result.likelier == "B":
            first, second = second, first
        above = result.tail == "above"
        hits = [int(np.sum((side > result.threshold) == above)) for side in (first, second)]
        limits = [binomtest(k, 1500).proportion_ci(confidence_level=0.95, method="exact") for k in hits]
        assert result.epsilon_lower == pytest.approx(
            np.log((limits[0].low - 1e-2) / limits[1].high), rel=1e-8
        )


class TestErrors:
    def test_samples(self):
        rng = np.random.default_rng(0)
        A = rng.normal(size=(200, 2))
        for name, pair in {"A": (A[:99], A), "B": (A, A[:99])}.items():
            with pytest.raises(ValueError, match=f"{name} must have shape .* >= 100"):
                audit_epsilon(*pair, 1e-2)
        with pytest.raises(ValueError, match="columns"):
            audit_epsilon(A, A[:, :1], 1e-2)
        with pytest.raises(ValueError, match="A must have shape"):
            audit_epsilon(A[:, 0], A, 1e-2)
        with pytest.raises(ValueError, match="B must be finite"):
            audit_epsilon(A, np.where(A > 3, np.nan, A) * np.inf, 1e-2)

    @pytest.mark.parametrize("value", [0.0, 1.0, np.nan, -1.0])
    def test_probabilities(self, value):
        A = np.zeros((100, 1))
        with pytest.raises(ValueError, match="delta"):
            audit_epsilon(A, A, value)
        with pytest.raises(ValueError, match="confidence"):
            audit_epsilon(A, A, 1e-2, confidence=value)


def test_result_keeps_its_promises():
    check_result(audit_epsilon(*shifted(np.random.default_rng(0), 1.0, 200), 1e-2))


class NoisyMean(BaseEstimator):
    """Publishes a noisy weighted mean; forgets where `forgets`, has no ``retrain``."""

    def __init__(self, sigma=1.0, forgets=True, random_state=None):
        self.sigma = sigma
        self.forgets = forgets
        self.random_state = random_state

    def fit(self, X, y, data_values=None):
        self._X, self._w = np.asarray(X), np.ones(len(y)) if data_values is None else np.asarray(data_values)
        assert len(self._w) == len(self._X)
        return self._publish()

    def unlearn(self, indices):
        if self.forgets:
            self._X, self._w = (np.delete(part, indices, axis=0) for part in (self._X, self._w))
            self._publish()

    def _publish(self):
        noise = np.random.default_rng(self.random_state).normal(size=self._X.shape[1])
        self.coef_ = self._w @ self._X / self._w.sum() + self.sigma * noise
        return self


@pytest.fixture
def problem_with_outliers():
    """Twenty rows, the last two far away."""
    X = np.random.default_rng(0).normal(size=(20, 2))
    X[-2:] += 40.0
    return X, np.arange(20) % 2


class TestEstimators:
    def test_exact_and_absent_forgetting_without_retrain(self, problem_with_outliers):
        X, y = problem_with_outliers
        options = {"n_runs": 1000, "delta": 1e-2, "random_state": 0}
        assert audit_estimator(NoisyMean(), X, y, [18, 19], **options).epsilon_lower < 0.3
        kept = audit_estimator(NoisyMean(forgets=False), X, y, [18, 19], **options)
        # The means differ by about 4 in both coordinates.
        assert kept.epsilon_lower > 3.0
        mask = np.arange(20) >= 18
        assert same(audit_estimator(NoisyMean(forgets=False), X, y, mask, **options), kept)

    def test_fit_parameters_follow_their_rows(self, problem_with_outliers):
        X, y = problem_with_outliers
        weights = np.linspace(1.0, 2.0, 20)
        result = audit_estimator(
            NoisyMean(sigma=0.1), X, y, [18, 19], n_runs=1000, delta=1e-2, random_state=0, data_values=weights
        )
        # Both mechanisms have the same weights, so the same mean.
        assert result.epsilon_lower < 0.3

    @pytest.fixture
    def audited(self):
        """An estimator on few rows with an outlier, where six rows matter."""
        rng = np.random.default_rng(1)
        X = rng.normal(size=(40, 2))
        y = (X[:, 0] + 0.3 * rng.normal(size=40) > 0).astype(int)
        X /= np.sqrt((X**2).sum(1).max())
        rows = np.argsort(-np.abs(X[:, 0]))[:6]
        return X, y, rows

    def test_certified_removal_stays_below_epsilon(self, audited):
        X, y, rows = audited
        est = DVWUClassifier(
            alpha=1.0, perturbation="output", noise_scale=0.1, epsilon=1.0, delta=1e-2, fit_intercept=False
        )
        values = np.arange(40.0)
        result = audit_estimator(est, X, y, rows, n_runs=150, random_state=0, data_values=values)
        assert result.delta == 1e-2
        assert result.epsilon_lower <= 1.0
        fitted = est.set_params(random_state=5).fit(X, y, data_values=values)
        again = audit_estimator(fitted, X, y, rows, n_runs=150, random_state=0)
        assert same(again, result)
        with joblib.parallel_config(backend="threading"):
            parallel = audit_estimator(fitted, X, y, rows, n_runs=150, random_state=0, n_jobs=2)
        assert same(parallel, result)

    def test_keeping_the_rows_is_found_out(self, audited):
        X, y, rows = audited

        class Forgetful(DVWUClassifier):
            """Says that it has unlearned."""

            def unlearn(self, indices, *, request_id=None):
                kept = self.coef_.copy()
                result = super().unlearn(indices, request_id=request_id)
                self.coef_ = kept
                return result

        est = Forgetful(
            alpha=0.1, perturbation="output", noise_scale=0.05, epsilon=1.0, delta=1e-2, fit_intercept=False
        )
        assert audit_estimator(est, X, y, rows, n_runs=300, random_state=0).epsilon_lower > 1.0

    def test_logs_and_states_are_not_written(self, audited, tmp_path):
        X, y, rows = audited
        est = DVWUClassifier(log_path=tmp_path / "log", state_path=tmp_path / "state", random_state=0)
        audit_estimator(est, X, y, rows, n_runs=100, random_state=0)
        assert not list(tmp_path.iterdir())

    def test_errors(self, audited):
        X, y, rows = audited
        with pytest.raises(TypeError, match="unlearn"):
            audit_estimator(LogisticRegression(), X, y, rows)
        with pytest.raises(ValueError, match="n_runs"):
            audit_estimator(DVWUClassifier(), X, y, rows, n_runs=99)
        with pytest.raises(ValueError, match="n_jobs"):
            audit_estimator(DVWUClassifier(), X, y, rows, n_jobs=0)
        with pytest.raises(ValueError, match="delta must be given"):
            audit_estimator(NoisyMean(), X, y, rows)
        with pytest.raises(ValueError, match="confidence"):
            audit_estimator(DVWUClassifier(), X, y, rows, confidence=1.0)
        fitted = DVWUClassifier(random_state=0).fit(X, y, data_values=np.arange(40.0))
        fitted.unlearn([0])
        with pytest.raises(ValueError, match="removed rows"):
            audit_estimator(fitted, X, y, rows)

        class NoSeed(BaseEstimator):
            def fit(self, X, y):
                return self

            def unlearn(self, indices):
                """Do nothing."""

        with pytest.raises(TypeError, match="random_state"):
            audit_estimator(NoSeed(), X, y, rows, delta=1e-2)

        class NoCoefficients(NoSeed):
            def __init__(self, random_state=None):
                self.random_state = random_state

        with pytest.raises(TypeError, match="coef_"):
            audit_estimator(NoCoefficients(), X, y, rows, delta=1e-2, n_runs=100)
