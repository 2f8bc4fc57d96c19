"""Planes through optima: the optimum is their lowest point, the Hessian has no negative direction."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from mlpapers.icl import TaskMixture, loss_landscape, plot_landscape, strategies
from mlpapers.testing import check_result

MIXTURE = TaskMixture([[1.0, 0.5], [-0.5, 0.2]], np.stack([np.eye(2), np.diag([1.0, 0.3])]), noise=0.2)


@pytest.mark.parametrize("strategy", [*strategies(), "one_layer"])
def test_optimum_is_the_lowest_point(strategy):
    if strategy == "plain":
        check_result(loss_landscape(strategy, mixture=MIXTURE, n_points=5))
    result = loss_landscape(strategy, mixture=MIXTURE, n_context=6, n_features=2, n_points=9)
    middle = result.losses[4, 4]
    assert abs(middle - result.optimal_loss) < 1e-9
    assert result.losses.min() >= middle - 1e-9
    assert result.eigenvalues[0] >= -1e-7 * result.eigenvalues[-1]
    assert result.condition >= 1.0
    # Along the stiffest direction the loss rises more than along the softest.
    assert result.losses[-1, 4] >= result.losses[4, -1] - 1e-9
    assert len(result.to_frame()) == 81


def test_plot_and_refusals():
    ax = plot_landscape("prompt", mixture=MIXTURE, n_points=5)
    assert ax.has_data()
    plt.close(ax.figure)
    for name, value in {"span": 0.0, "n_points": 2, "n_context": 0}.items():
        with pytest.raises(ValueError, match=name):
            loss_landscape("plain", mixture=MIXTURE, **{name: value})
    with pytest.raises(ValueError, match="strategy"):
        loss_landscape("steepest")
