"""Several rows at a time: every number of rows, with and without rows that are left over."""

import pytest
import torch

from mlpapers.core.requirements import missing_requirement
from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.kernel import Kernel
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise

pytestmark = pytest.mark.skipif(bool(missing_requirement("cxx")), reason="needs a C++ compiler")

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"


def model(forward, *inputs):
    task = make_task("t", "", forward, inputs, HEAD)
    code = candidate(synthesise(task, shape_policy="dynamic")[0]).code
    return code, Kernel(code, "cpp", "cpu", task).load()()


@pytest.mark.parametrize(
    "forward",
    [
        "return torch.sum(x, dim=1)",
        "return torch.amax(x * x - 3 * x, dim=1)",
        "return x / torch.sqrt(torch.mean(x ** 2, dim=1, keepdim=True) + 1e-5)",
    ],
)
def test_every_number_of_rows(forward):
    code, ours = model(forward, "torch.rand(3, 19, 33)")
    assert "for (; r0 + 8 <= " in code
    for rows in (1, 7, 8, 9, 16, 19, 31):
        x = torch.randn(3, rows, 33)
        wanted = {}
        exec("def f(x):\n    " + forward, {"torch": torch}, wanted)
        # Sums of at most 31 terms: 31 roundings, twice for the square root and the division.
        torch.testing.assert_close(ours(x), wanted["f"](x), rtol=64 * 6e-8, atol=64 * 6e-8)


def test_nan_wins_a_maximum_wherever_its_row_is():
    _, ours = model("return torch.amax(x, dim=1)", "torch.rand(3, 19, 33)")
    for row in (0, 7, 8, 18):
        x = torch.randn(1, 19, 33)
        x[0, row, 5] = float("nan")
        assert ours(x).isnan().nonzero().tolist() == [[0, 5]]


def test_what_is_no_plain_reduction_takes_one_row_at_a_time():
    code, ours = model("return torch.argmax(x, dim=1)", "torch.rand(3, 19, 33)")
    assert "+ 8 <=" not in code
    x = torch.randn(3, 19, 33)
    assert torch.equal(ours(x), torch.argmax(x, 1))
