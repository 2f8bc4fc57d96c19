"""Blocks that skip the costly side of a choice: when they may, and that no element notices."""

import pytest
import torch

from mlpapers.core.requirements import missing_requirement
from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.dsl.cpp.choice import find_choice
from mlpapers.kernels.kernel import Kernel
from mlpapers.kernels.sketch import Compute, Load, Store
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise

needs_compiler = pytest.mark.skipif(bool(missing_requirement("cxx")), reason="needs a C++ compiler")

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
LOAD = Load("x", ("p:p+T",), "a")
TEST = Compute("gt", ("a", "0.0"), ("c",), "b1")
COSTLY = Compute("expm1", ("a",), ("e",), "f32")
TAKEN = Compute("where", ("c", "a", "e"), ("w",), "f32")
STORE = Store("w", "y", ("p:p+T",))


def test_the_costly_operand_and_what_only_it_needs_are_spared():
    scaled = Compute("mul", ("e", "2.0"), ("s",), "f32")
    taken = Compute("where", ("c", "a", "s"), ("w",), "f32")
    choice = find_choice([LOAD, TEST, COSTLY, scaled, taken, STORE])
    assert choice.cheap == "a"
    assert not choice.positive
    assert choice.test == (LOAD, TEST)
    assert choice.rest == (LOAD, taken, STORE)


def test_a_costly_first_operand_is_taken_where_the_condition_holds():
    choice = find_choice([LOAD, TEST, COSTLY, Compute("where", ("c", "e", "a"), ("w",), "f32"), STORE])
    assert choice.cheap == "a"
    assert choice.positive


@pytest.mark.parametrize(
    "statements",
    [
        # Nothing costly.
        [LOAD, TEST, Compute("neg", ("a",), ("e",), "f32"), TAKEN, STORE],
        # Somebody else needs the costly value too.
        [LOAD, TEST, COSTLY, TAKEN, STORE, Store("e", "z", ("p:p+T",))],
        # The condition costs as much as what it could spare.
        [LOAD, COSTLY, Compute("gt", ("e", "0.0"), ("c",), "b1"), TAKEN, STORE],
        # An accumulator takes in every element.
        [LOAD, TEST, COSTLY, TAKEN, Compute("reduce_sum", ("w",), ("s",), "")],
    ],
)
def test_no_choice(statements):
    assert find_choice(statements) is None


@needs_compiler
@pytest.mark.parametrize(
    ("forward", "special"),
    [
        ("return F.elu(x)", -0.5),
        ("return F.selu(x)", -0.5),
        ("return torch.where(x > 1, torch.exp(x), x) * 2", 1.5),
    ],
)
def test_one_element_that_takes_the_other_side_is_enough(forward, special):
    task = make_task("t", "", forward, ("torch.rand(3, 300)",), HEAD)
    code = candidate(synthesise(task)[0]).code
    assert "if (u) {" in code
    module, _ = task.build(0)
    ours = Kernel(code, "cpp", "cpu", task).load()()
    plain = torch.linspace(0.01, 0.99, 900).reshape(3, 300)
    for place in (None, 0, 127, 128, 511, 899):
        for value in (special, float("nan"), float("inf"), -float("inf")):
            x = plain.clone()
            if place is not None:
                x.view(-1)[place] = value
            torch.testing.assert_close(ours(x), module(x), rtol=8 * 2.0**-23, atol=2.0**-24, equal_nan=True)
