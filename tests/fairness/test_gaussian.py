import numpy as np
import pytest
from scipy.stats import multivariate_normal

from mlpapers.fairness import make_gaussian_groups
from mlpapers.fairness.constraints import mean_rates


@pytest.mark.parametrize("n_groups", [1, 2, 4, 12])
def test_posteriors_are_bayes_rule(n_groups):
    X, _, sensitive, truth = make_gaussian_groups(50, n_groups=n_groups, random_state=0)
    assert sensitive["group"].nunique() <= n_groups
    densities = np.array(
        [
            [truth.priors[s, label] * multivariate_normal(truth.means[s, label]).pdf(X) for label in (0, 1)]
            for s in range(n_groups)
        ]
    )
    wanted = np.moveaxis(densities / densities.sum(axis=(0, 1)), 2, 0)
    np.testing.assert_allclose(truth.joint(X), wanted, rtol=1e-9)
    np.testing.assert_allclose(truth.priors.sum(), 1.0)


def test_the_grid_is_the_population():
    truth = make_gaussian_groups(1, random_state=0)[3]
    points, weights = truth.grid(120)
    np.testing.assert_allclose(weights.sum(), 1.0)
    # The midpoint rule is spectrally accurate for Gaussians; what is lost lies outside the square.
    np.testing.assert_allclose(mean_rates(truth.joint(points), weights), truth.priors, atol=1e-4)
    joint, aware = truth.population(60, aware=True)
    np.testing.assert_allclose(mean_rates(joint, aware), truth.priors, atol=1e-4)
    assert (np.count_nonzero(joint.sum(axis=2), axis=1) == 1).all()


def test_the_sample_follows_the_law():
    _, y, sensitive, truth = make_gaussian_groups(40_000, random_state=1)
    share = np.array(
        [[np.mean((sensitive["group"] == f"s{s}") & (y == k)) for k in (0, 1)] for s in range(4)]
    )
    np.testing.assert_allclose(share, truth.priors, atol=4 * np.sqrt(0.25 / 40_000))


def test_known_errors():
    truth = make_gaussian_groups(1, random_state=0)[3]
    free = {}
    for aware in (False, True):
        joint, weights = truth.population(121, aware=aware)
        eta = joint[:, :, 1].sum(axis=1)
        free[aware] = weights @ np.minimum(eta, 1 - eta)
    np.testing.assert_allclose([free[False], free[True]], [0.2143, 0.2061], atol=5e-5)
    result = truth.optimal("demographic_parity", "difference", 0.02, n=121)
    joint, weights = truth.population(121)
    eta = joint[:, :, 1].sum(axis=1)
    error = weights @ (eta * (1 - result.f) + (1 - eta) * result.f)
    np.testing.assert_allclose(error, 0.3371, atol=5e-5)


def test_bad_arguments():
    for arguments in ({"n_samples": 0}, {"n_samples": 5, "n_groups": 0}):
        with pytest.raises(ValueError, match=r"n_samples|n_groups"):
            make_gaussian_groups(**arguments)
