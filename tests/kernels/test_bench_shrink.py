"""Shrinking: the same problem at sizes that a processor handles."""

import pytest
from kernel_support import HEAD

from mlpapers.kernels import Task
from mlpapers.kernels.bench_shrink import _elements, shrink


def task(sizes, inputs, forward="x * 2", init=""):
    constructor = f"    def __init__(self):\n        super().__init__()\n        {init}\n" if init else ""
    return Task.from_source(
        f"{HEAD}\n{sizes}\nclass Model(nn.Module):\n{constructor}    def forward(self, x):\n"
        f"        return {forward}\ndef get_inputs():\n    return [{inputs}]\n"
    )


def test_the_largest_constant_is_halved_first():
    big = task("rows = 1000\ncolumns = 64000", "torch.rand(rows, columns)")
    assert _elements(big) == 2 * 64_000_000
    small = shrink(big, max_elements=1 << 16)
    assert dict(small.overrides) == {"columns": 250, "rows": 125}
    assert _elements(small) <= 1 << 16


def test_odd_sizes_stay_odd_and_products_are_known():
    small = shrink(task("n = 1001 * 3", "torch.rand(n, n)"), max_elements=10_000)
    n = dict(small.overrides)["n"]
    assert n % 2 == 1
    assert 2 * n * n <= 10_000


def test_what_would_break_stays():
    # The weight is as wide as the input, and its constant is another one.
    tied = task(
        "rows = 4096\nwidth = 128",
        "torch.rand(rows, width)",
        forward="self.layer(x)",
        init="self.layer = nn.Linear(128, 8)",
    )
    small = shrink(tied, max_elements=3000)
    assert dict(small.overrides).keys() == {"rows"}
    assert _elements(small) is not None


def test_small_tasks_and_kernel_sizes_are_left_alone():
    tiny = task("n = 20", "torch.rand(n)")
    assert shrink(tiny) == tiny
    pooled = task("kernel_size = 512\nlength = 4096", "torch.rand(8, length + kernel_size)")
    assert "kernel_size" not in dict(shrink(pooled, max_elements=5000).overrides)
    with pytest.raises(ValueError, match="max_elements"):
        shrink(tiny, max_elements=0)


def test_sequences():
    small = shrink(task("shape = (64, 4096)", "torch.rand(*shape)"), max_elements=10_000)
    assert dict(small.overrides) == {"shape": (64, 64)}


def test_constants_that_go_together():
    pair = task("a = 4096\nb = 4096", "torch.rand(a) * torch.rand(b)")
    assert dict(shrink(pair, max_elements=600).overrides) == {"a": 256, "b": 256}
