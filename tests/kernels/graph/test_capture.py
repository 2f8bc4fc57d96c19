"""Capture: operations, free sizes, floors, refusals."""

import pytest
import torch

from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.dsl.base import Hardware
from mlpapers.kernels.graph import UnsupportedOp, capture, floor_seconds
from mlpapers.kernels.graph.size import Sym
from mlpapers.kernels.task import Task, TaskError

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"


def task(forward, *inputs, constructor=""):
    return make_task("t", constructor, forward, inputs, HEAD)


def test_full_size_needs_no_memory():
    graph = capture(task("return torch.relu(x)", "torch.rand(1 << 20, 1 << 14)"))
    assert graph.bytes_min == 2 * 4 * (1 << 34)
    assert graph.flops == 1 << 34


def test_a_leading_size_is_free_unless_a_parameter_ties_it():
    graph = capture(task("return x @ y", "torch.rand(6, 5)", "torch.rand(5, 4)"))
    assert graph.symbols == {"n0": (0, 0)}
    assert isinstance(graph.nodes[graph.outputs[0]].shape[0], Sym)
    fixed = capture(task("return x @ y", "torch.rand(6, 5)", "torch.rand(5, 4)"), shape_policy="static")
    assert fixed.symbols == {}
    every = capture(task("return x + 1", "torch.rand(6, 5)"), shape_policy="dynamic")
    assert every.symbols == {"n0": (0, 0), "n1": (0, 1)}


def test_batch_norm_in_train_mode_returns_its_running_statistics():
    graph = capture(task("return self.n(x)", "torch.rand(4, 3, 5)", constructor="self.n = nn.BatchNorm1d(3)"))
    assert {key for key, _ in graph.updates} == {"n.running_mean", "n.running_var", "n.num_batches_tracked"}


def test_equal_expressions_are_one_node_and_exact_algebra_is_applied():
    graph = capture(task("return (x * 1 + 0.5) * (x + 0.5) - (-(-x))", "torch.rand(4, 3)"))
    assert graph.ops["add"] == 1
    assert "neg" not in graph.ops


def test_rewrites_of_real_arithmetic_are_optional_and_disclosed():
    module = "self.fc = nn.Linear(5, 7)"
    sums = task("return self.fc(x).sum(1, keepdim=True) / 3", "torch.rand(4, 5)", constructor=module)
    plain, rewritten = capture(sums), capture(sums, algebra=True)
    assert plain.unsupported == ("aten.linear.default",)
    assert plain.disclosures == ()
    assert rewritten.unsupported == ()
    assert rewritten.disclosures == ("algebraic",)


def test_floor_is_the_slower_of_traffic_and_arithmetic():
    device = Hardware("d", "a", peak_flops=100.0, bandwidth=10.0, bandwidth_dram=5.0, cores=1)
    assert floor_seconds(20, 100, device) == 2.0
    assert floor_seconds(20, 1000, device) == 10.0
    with pytest.raises(ValueError, match="flops"):
        floor_seconds(1, -1, device)


def test_refusals():
    with pytest.raises(TaskError, match="tensors"):
        capture(task("return {'a': x}", "torch.rand(4)"))
    with pytest.raises(TaskError, match="captured"):
        capture(task("raise ValueError('bad forward')", "torch.rand(4)"))
    with pytest.raises(ValueError, match="shape_policy"):
        capture(task("return x", "torch.rand(4)"), shape_policy="free")


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        ("return x[x > 0]", "aten.(index|nonzero)"),
        ("return x * x.sum().item()", "Tensor.item"),
        ("return x.nonzero()", "aten.nonzero"),
        ("return x * 2 if x.sum() > 0 else x", "by the value of an input"),
        ("return x.relu() if y else x", "by the value of an input"),
    ],
)
def test_what_values_decide_is_refused_by_name_and_quietly(forward, reason, capfd):
    with pytest.raises(TaskError, match=reason):
        capture(task(forward, "torch.rand(4, 8)", *["True"] * ("y" in forward)))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("forward", "inputs", "free", "shape"),
    [
        ("return torch.relu(x)", ("torch.rand(1, 8)",), {"n0": (0, 0)}, [1, 8]),
        ("return x + y", ("torch.rand(1, 8)", "torch.rand(1, 8)"), {"n0": (0, 0)}, [1, 8]),
        # Here 1 broadcasts, so it is no batch.
        ("return x * self.p", ("torch.rand(1, 8)",), {}, [4, 8]),
        ("return x.reshape(8) * 2", ("torch.rand(1, 8)",), {}, [8]),
    ],
)
def test_a_leading_size_of_one_is_free_where_it_can_be(forward, inputs, free, shape):
    graph = capture(task(forward, *inputs, constructor="self.p = nn.Parameter(torch.ones(4, 8))"))
    assert graph.symbols == free
    # What is known at capture is the task's own size, not the one that it was captured at.
    assert [int(size) for size in graph.nodes[graph.outputs[0]].shape] == shape


class Held(torch.nn.Module):
    """Every kind of tensor that a module can hold."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3)
        self.linear = torch.nn.Linear(3, 3)
        self.register_buffer("mask", torch.randn(3), persistent=False)
        self.table, self.several = torch.randn(3), [torch.randn(3)]

    def forward(self, x):
        return self.linear(self.norm(x)) * self.mask + self.table + self.several[0]


def test_an_instance_is_captured_with_its_buffers():
    module = Held()
    graph = capture(Task.from_module(module, lambda: [torch.randn(5, 3)]))
    assert {"mask", "table", "norm.running_mean", "linear.weight"} <= {
        node.attrs["key"] for node in graph.nodes if node.op == "state"
    }
    assert [node.attrs["values"] for node in graph.nodes if node.op == "const"] == [
        module.several[0].tolist()
    ]
    assert "norm.running_var" in dict(graph.updates)
    assert module.norm.num_batches_tracked == 0


def test_variadic_arguments_have_free_sizes():
    class Product(torch.nn.Module):
        def forward(self, *factors, **options):
            return factors[0] * factors[1]

    graph = capture(Task.from_module(Product(), lambda: [torch.randn(5, 3), torch.randn(5, 3)]))
    assert graph.symbols == {"n0": (0, 0)}


def test_numbers_that_no_kernel_holds_are_named():
    with pytest.raises(UnsupportedOp, match=r"_fft_r2c.*complex64"):
        capture(task("return torch.fft.rfft(x).abs()", "torch.rand(3, 16)"))
