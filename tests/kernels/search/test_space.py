"""Which settings are tried, and in which order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.kernels.search.space import candidates

spaces = st.dictionaries(
    st.sampled_from("abcd"), st.lists(st.integers(0, 9), min_size=1, max_size=5, unique=True), max_size=4
)


@given(spaces, st.integers(1, 20), st.integers(0, 5))
def test_settings_are_different_admissible_and_many_enough(space, n, seed):
    defaults = {name: values[0] for name, values in space.items()}
    found = candidates(space, defaults, n=n, rng=np.random.default_rng(seed))
    assert found[0] == defaults
    assert all(item not in found[:k] for k, item in enumerate(found))
    assert all(item[name] in space[name] for item in found for name in space)
    total = int(np.prod([len(values) for values in space.values()], dtype=int))
    assert len(found) <= min(n, total)
    # Drawing at random finds almost all of a space that is not much larger than n.
    assert len(found) >= min(n, total, 1 + sum(len(v) - 1 for v in space.values()))
    assert found == candidates(space, defaults, n=n, rng=np.random.default_rng(seed))


def test_neighbours_come_first():
    space = {"tile": (1, 2, 4, 8), "unroll": (1, 2)}
    found = candidates(space, {"tile": 4, "unroll": 1}, n=8, rng=np.random.default_rng(0))
    assert found[1:4] == [{"tile": 2, "unroll": 1}, {"tile": 8, "unroll": 1}, {"tile": 4, "unroll": 2}]
    assert len(found) == 8


def test_what_won_before_comes_first():
    space = {"tile": (1, 2, 4), "unroll": (1, 2)}
    found = candidates(
        space,
        {"tile": 1, "unroll": 1},
        n=3,
        known={"tile": 4, "unroll": 7, "warps": 2},
        rng=np.random.default_rng(0),
    )
    assert found[:2] == [{"tile": 4, "unroll": 1}, {"tile": 1, "unroll": 1}]
    assert candidates({}, {}, n=3, rng=np.random.default_rng(0)) == [{}]
