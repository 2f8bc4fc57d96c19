"""Synthesised kernels against eager and float64: every template family, and random programs."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_graphs import Program, mismatch

from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.graph import UnsupportedOp
from mlpapers.kernels.kernel import Kernel
from mlpapers.kernels.sketch import Sketch
from mlpapers.kernels.synthesis import bucket, candidate, design, synthesise
from mlpapers.kernels.task import Task
from mlpapers.kernels.verify._guard import Recorder

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")

IMAGE = ("torch.randn(3, 8, 9, 7)",)
FAMILIES = {
    "cross_entropy": (
        "",
        "return F.cross_entropy(x, y)",
        ("torch.randn(64, 10)", "torch.randint(0, 10, (64,))"),
    ),
    "group_norm": ("self.n = nn.GroupNorm(4, 8)", "return torch.relu(self.n(x))", IMAGE),
    "batch_norm": ("self.n = nn.BatchNorm2d(8)", "return self.n(x)", IMAGE),
    "instance_norm": ("self.n = nn.InstanceNorm2d(8)", "return self.n(x)", IMAGE),
    "max_with_index": ("", "return torch.max(x, 1)", IMAGE),
    "argmin": ("", "return torch.argmin(x, -1)", IMAGE),
    "reverse_scan": ("", "return torch.cumsum(x.flip(1), 1).flip(1)", IMAGE),
    "pooling": ("", "return F.avg_pool2d(F.max_pool2d(x, 3, 2, 1), 2)", IMAGE),
    "conv_chain": ("self.c = nn.Conv2d(8, 4, 3)", "return torch.logsumexp(F.hardswish(self.c(x)), 1)", IMAGE),
    "gated": ("self.f = nn.Linear(7, 12)", "a, b = self.f(x).chunk(2, -1)\nreturn F.silu(a) * b", IMAGE),
    "moves": ("", "return F.pad(torch.cat([x, x * 2], 1), (1, 2)).roll(1, 1)", IMAGE),
    "lookup": ("self.e = nn.Embedding(9, 5)", "return self.e(x) + 1", ("torch.randint(0, 9, (4, 6))",)),
    "half": ("", "return torch.sigmoid(x) * 2", ("torch.randn(33, 5).bfloat16()",)),
    "number": ("", "return x * y", ("torch.randn(33, 5)", "3.14")),
    "outer": (
        "",
        "y = x.relu()\nreturn y[:, None] - y[None, :], (y.exp()[:, None] * y).sum(1)",
        ("torch.randn(17)",),
    ),
    "identity_matrix": ("", "return x @ torch.eye(17, dtype=x.dtype)", ("torch.randn(4, 17)",)),
    "one_row": ("", "return x.softmax(0), F.log_softmax(x.view(3, 3).flatten(), 0)", ("torch.randn(9)",)),
    "variance": ("", "return x.var(1), x.std(), x.mean(0)", ("1e4 + torch.randn(40, 60)",)),
}


def check(task: Task, made, seed: int = 0) -> None:
    module, inputs = task.build(seed)
    ours = Kernel(made.code, "cpp", "cpu", task).load()(*task.init_inputs())
    ours.load_state_dict(module.state_dict())
    wide, _ = task.build(seed)
    wide = wide.double()
    with torch.no_grad():
        out, eager = ours(*inputs), module(*inputs)
        oracle = wide(
            *[x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs]
        )
    for key, value in module.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-5, atol=1e-6)
    flat = (
        [(out, eager, oracle)]
        if isinstance(out, torch.Tensor)
        else list(zip(out, eager, oracle, strict=True))
    )
    for o, r, q in flat:
        assert mismatch(o, r, q) == ""


@pytest.mark.parametrize("name", FAMILIES)
def test_template_families(name):
    constructor, forward, inputs = FAMILIES[name]
    task = make_task(name, constructor, forward, inputs, HEAD)
    check(task, candidate(synthesise(task)[0]))


@settings(max_examples=8)
@given(
    seed=st.integers(0, 10**6), dtype=st.sampled_from(["float32", "float64", "bfloat16"]), zero=st.booleans()
)
def test_random_programs(seed, dtype, zero):
    program = Program(seed, dtype, zero and seed % 3 == 0)
    task = program.task()
    designs = synthesise(task)
    chosen = designs[seed % len(designs)]
    assert Sketch.parse(chosen.sketch.to_text()) == chosen.sketch
    chosen.sketch.validate()
    made = candidate(chosen)
    module, inputs = task.build(seed)
    ours = Kernel(made.code, "cpp", "cpu", task).load()()
    before = [x.clone() for x in inputs]
    with torch.no_grad():
        out, eager, oracle = ours(*inputs), module(*inputs), module(*[x.double() for x in inputs])
    assert all(torch.equal(x, y) for x, y in zip(inputs, before))
    several = not isinstance(out, torch.Tensor)
    triples = list(zip(out, eager, oracle, strict=True)) if several else [(out, eager, oracle)]
    for o, r, q in triples:
        assert mismatch(o, r, q) == "", task.source
    if dtype != "bfloat16":
        for (_, r, q), value in zip(triples, chosen.sketch.interpret(inputs), strict=True):
            assert mismatch(torch.from_numpy(np.asarray(value)), r, q) == "", task.source


def test_nan_and_infinity_pass_through():
    special = "torch.tensor([[1.0, float('nan'), 2.0], [float('inf'), 1.0, 0.0], [-float('inf'), 0.5, 3.0]])"
    task = make_task(
        "t", "", "return x.amax(1), x.argmax(1), torch.relu(x), torch.tanh(x), x.exp()", (special,), HEAD
    )
    check(task, candidate(synthesise(task)[0]))
    task = make_task("t", "", "return F.softshrink(x, 0.75), F.hardshrink(x), 0 * x", (special,), HEAD)
    check(task, candidate(synthesise(task)[0]))


def test_the_same_source_serves_other_leading_sizes():
    task = make_task("t", "", "return torch.softmax(x, -1) + 1", ("torch.randn(6, 33)",), HEAD)
    ours = Kernel(candidate(synthesise(task)[0]).code, "cpp", "cpu", task).load()()
    for rows in (1, 7, 0):
        x = torch.randn(rows, 33)
        torch.testing.assert_close(ours(x), torch.softmax(x, -1) + 1)


@pytest.mark.parametrize("mean", [0.0, 1e4, 1e6])
def test_variances_far_from_zero_are_those_in_double(mean):
    task = make_task("t", "", "return x.var(0), x.var(1)", ("torch.randn(300, 70)",), HEAD)
    ours = Kernel(candidate(synthesise(task)[0]).code, "cpp", "cpu", task).load()()
    x = torch.randn(300, 70) + mean
    for value, wide in zip(ours(x), (x.double().var(0), x.double().var(1))):
        # A sum of 300 squares in single, in 16 lanes, rounded some twenty times.
        torch.testing.assert_close(value.double(), wide, rtol=20 * 2.0**-24, atol=0)


@pytest.mark.filterwarnings("ignore:(var|std).*degrees of freedom")
def test_variances_of_too_few_rows_are_eagers():
    forward = "return x.var(0), x.std(0), x.var(), x.var(0, correction=3), x.var(0, correction=0)"
    task = make_task("t", "", forward, ("torch.randn(6, 5)",), HEAD)
    design = synthesise(task)[0]
    design.sketch.validate()
    ours, eager = Kernel(candidate(design).code, "cpp", "cpu", task).load()(), task.build()[0]
    for rows in (0, 1, 2, 3, 4):
        x = torch.randn(rows, 5)
        for o, i, r in zip(ours(x), design.sketch.interpret([x]), eager(x), strict=True):
            torch.testing.assert_close(o, r, equal_nan=True)
            torch.testing.assert_close(torch.from_numpy(i).float(), r, equal_nan=True)


def test_every_free_size_may_change_under_the_dynamic_policy():
    task = make_task(
        "t", "", "return (x - x.mean(-1, keepdim=True)).sum(1)", ("torch.randn(4, 6, 33)",), HEAD
    )
    ours = Kernel(candidate(synthesise(task, shape_policy="dynamic")[0]).code, "cpp", "cpu", task).load()()
    for shape in ((4, 6, 33), (1, 9, 64), (5, 1, 7)):
        x = torch.randn(shape)
        torch.testing.assert_close(ours(x), (x - x.mean(-1, keepdim=True)).sum(1), rtol=1e-4, atol=1e-5)


def test_parameters_are_seen_when_they_change():
    task = make_task(
        "t", "self.w = nn.Parameter(torch.ones(5))", "return x * self.w", ("torch.randn(3, 5)",), HEAD
    )
    ours = Kernel(candidate(synthesise(task)[0]).code, "cpp", "cpu", task).load()()
    x = torch.randn(3, 5)
    torch.testing.assert_close(ours(x), x)
    with torch.no_grad():
        ours.w.mul_(3)
    torch.testing.assert_close(ours(x), 3 * x)


def test_tasks_from_modules_get_a_constructor_of_their_own():
    module = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.LayerNorm(6))
    check(
        *(lambda task: (task, candidate(synthesise(task)[0])))(
            Task.from_module(module, lambda: [torch.randn(3, 4)])
        )
    )


def test_a_linear_layer_of_a_strided_operand_stays_one_product():
    task = make_task(
        "t", "self.f = nn.Linear(7, 5)", "return self.f(x.transpose(0, 1))", ("torch.randn(6, 4, 7)",), HEAD
    )
    made = candidate(synthesise(task)[0])
    check(task, made)
    module, inputs = task.build()
    for model, apart in ((module, True), (Kernel(made.code, "cpp", "cpu", task).load()(), False)):
        with torch.no_grad(), Recorder("none") as recorder:
            model(*inputs)
        assert ("add" in recorder.refused) == apart


def test_what_attention_calls_itself_is_the_librarys():
    inputs = tuple(f"torch.randn(2, 3, {n}, 8)" for n in (5, 6, 6))
    forward = "return F.scaled_dot_product_attention(x, y, z, attn_mask=w)"
    task = make_task("t", "", forward, (*inputs, "torch.rand(2, 1, 5, 6) > 0.3"), HEAD)
    made = candidate(synthesise(task)[0])
    check(task, made)
    _, inputs = task.build()
    model = Kernel(made.code, "cpp", "cpu", task).load()()
    for policy, refused in (("contractions", {}), ("none", {"where": 1})):
        with torch.no_grad(), Recorder(policy) as recorder:
            model(*inputs)
        assert recorder.refused.items() >= refused.items()
        assert bool(recorder.refused) == bool(refused)
    with torch.no_grad(), Recorder("contractions") as recorder:
        model(*inputs).where(inputs[0] > 0, 0)
    assert set(recorder.refused) == {"gt", "where"}


def test_policies_on_the_library():
    task = make_task("t", "", "return torch.relu(x @ x)", ("torch.randn(5, 5)",), HEAD)
    assert synthesise(task)[0].disclosures[0] == "library: aten.matmul"
    assert synthesise(task, library_ops="none")[0].sketch.library == ()
    double = make_task("t", "", "return torch.relu(x @ x)", ("torch.randn(5, 5).double()",), HEAD)
    with pytest.raises(UnsupportedOp, match=r"aten\.matmul"):
        synthesise(double, library_ops="none")
    # Numbers that the task draws are the generator's under every policy.
    drawn = make_task("t", "self.d = nn.Dropout(0.5)", "return self.d(x) * 2", ("torch.randn(5, 5)",), HEAD)
    assert "nondeterministic" in synthesise(drawn, library_ops="none")[0].disclosures
    sort = make_task("t", "", "return torch.sort(x)[0]", ("torch.randn(5, 5)",), HEAD)
    with pytest.raises(UnsupportedOp, match="sort"):
        synthesise(sort)
    check(sort, candidate(synthesise(sort, library_ops="any")[0]))
    with pytest.raises(ValueError, match="library_ops"):
        synthesise(task, library_ops="some")


def test_buckets_follow_templates_and_sizes():
    small, same, large = (
        make_task("t", "", "return x.sum(-1)", (f"torch.randn(8, {n})",), HEAD) for n in (1000, 1010, 100_000)
    )
    assert bucket(design(small)) == bucket(design(same))
    assert bucket(design(small)) != bucket(design(large))
