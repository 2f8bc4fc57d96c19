"""Arguments that a method passes over are refused; those that it takes change the run."""

import numpy as np
import pytest

from mlpapers.optim import FiniteSum, L1Ball, minimize_fw_zo
from mlpapers.optim._arguments import METHODS
from mlpapers.optim._method_options import _DEFAULTS, _OWNERS, _READ, check_read

RNG = np.random.default_rng(0)
N, D = 60, 6
A = RNG.normal(size=(N, D))
B = A @ RNG.normal(size=D) + 0.1 * RNG.normal(size=N)
LOSS = FiniteSum(
    lambda X, i: 0.5 * (np.einsum("md,md->m", A[i], X) - B[i]) ** 2,
    N,
    D,
    grad=lambda X, i: (np.einsum("md,md->m", A[i], X) - B[i])[:, None] * A[i],
)
OTHER = {
    "schedule": "fixed",
    "step": 0.3,
    "step_offset": 5,
    "E": 2.0,
    "memory": "average",
    "preset": "paper",
    "batch_size": 5,
    "n_directions": 3,
    "refresh_prob": 0.37,
    "refresh": "bernoulli",
    "warmup": "none",
    "m0": 30,
    "init": "full",
    "directions_per_sample": 2,
}
OTHER_OPTIONS = {"c": 0.2, "kappa": 0.7, "offset": 5.0, "nonconvex": True, "lr": 0.01}


def run(method, **changed):
    result = minimize_fw_zo(
        LOSS,
        None,
        L1Ball(1.0),
        method=method,
        max_queries=6000,
        max_iter=30,
        certificate="none",
        random_state=0,
        **changed,
    )
    return result.x.tobytes(), result.n_queries


@pytest.mark.parametrize("method", [method for method in METHODS if method != "dvr"])
def test_a_method_takes_what_changes_its_run_and_refuses_the_rest(method):
    plain = run(method)
    for name, value in OTHER.items():
        if name not in _READ[method]:
            with pytest.raises(ValueError, match=rf"^{name} is no argument of method='{method}'"):
                run(method, **{name: value, **({"directions": "sphere"} if name == "memory" else {})})
        elif (method, name) != ("auto", "directions_per_sample"):
            # What a draw of "auto" costs enters its choices, here by too little to be seen.
            assert run(method, **{name: value}) != plain, name
    for name, value in OTHER_OPTIONS.items():
        if method not in _OWNERS[name]:
            with pytest.raises(ValueError, match=rf"options\['{name}'\] is for .*not for method='{method}'"):
                run(method, options={name: value})
        else:
            assert run(method, options={name: value}) != plain, name


def test_values_that_are_the_defaults_count_as_not_given():
    for method in METHODS:
        check_read({"method": method, "options": None, **_DEFAULTS, "step_offset": 2.0})
    assert run("fd", step_offset=2, warmup="growing", preset=None) == run("fd")
