"""The C++ language: rendering, building, flags, mathematics."""

import ctypes
import mmap
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.dsl import BuildError, get_dsl
from mlpapers.kernels.dsl.cpp.maths import PRELUDE
from mlpapers.kernels.kernel import Kernel
from mlpapers.kernels.ops import POINTWISE
from mlpapers.kernels.sketch import Sketch
from mlpapers.kernels.synthesis import candidate, synthesise

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
compiled = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")

GRID = "torch.cat([torch.linspace(-30, 30, 40001), torch.logspace(-30, 4, 2000), torch.zeros(1)])"
POSITIVE = (
    "torch.cat([torch.linspace(1e-3, 50, 40001), torch.logspace(-37, 37, 2000), "
    "1 + torch.logspace(-7, -2, 99)])"
)
FUNCTIONS = {
    "exp": ("torch.exp(x.clamp(max=88))", GRID, np.exp),
    "tanh": ("torch.tanh(x)", GRID, np.tanh),
    "sigmoid": ("torch.sigmoid(x)", GRID, POINTWISE["sigmoid"].function),
    "erf": ("torch.erf(x)", GRID, POINTWISE["erf"].function),
    "expm1": ("torch.expm1(x.clamp(max=88))", GRID, np.expm1),
    "mish": ("F.mish(x)", GRID, POINTWISE["mish"].function),
    "log": ("torch.log(x)", POSITIVE, np.log),
    "log1p": ("torch.log1p(x)", POSITIVE, np.log1p),
}


def source(forward="return torch.relu(x)", inputs=("torch.randn(8, 9)",)):
    return candidate(synthesise(make_task("t", "", forward, inputs, HEAD))[0]).code


def test_without_a_compiler_the_language_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    available, reason = get_dsl("cpp").available("cpu")
    assert not available
    assert "no-such-compiler" in reason
    assert not get_dsl("cpp").available("cuda")[0]


def test_sources_contain_the_loader_once_and_no_headers():
    code = source()
    assert code.count(get_dsl("cpp").loader) == 1
    assert "#include" not in code
    assert "-ffast-math" not in code
    assert re.search(r'_FLAGS = \(.*"-fno-math-errno"|_FLAGS = \(.*\'-fno-math-errno\'', code)


def test_a_backend_that_it_does_not_serve():
    with pytest.raises(ValueError, match="backend"):
        get_dsl("cpp").space(
            synthesise(make_task("t", "", "return x", ("torch.rand(2)",), HEAD))[0].sketch, "cuda"
        )


@compiled
def test_builds_are_cached_by_content(tmp_path):
    dsl, code = get_dsl("cpp"), source()
    first = dsl.build(code, tmp_path, "cpu")
    stamp = first.stat().st_mtime_ns
    assert dsl.build(code, tmp_path, "cpu") == first
    assert first.stat().st_mtime_ns == stamp
    assert dsl.build(code.replace("4096", "2048"), tmp_path, "cpu") != first


@compiled
def test_a_built_kernel_loads_where_no_compiler_runs(tmp_path, monkeypatch):
    dsl, code = get_dsl("cpp"), source()
    dsl.build(code, tmp_path, "cpu")
    for name, value in dsl.environment("cpu").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLPAPERS_KERNEL_CACHE", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    # Large enough for huge pages.
    x = torch.randn(150_000, 9)
    assert torch.equal(Kernel(code, "cpp", "cpu", None).load()()(x), torch.relu(x))


@compiled
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="huge pages are Linux's")
@pytest.mark.parametrize("start", [64, 4096 * 3 + 8, 2 << 20])
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "kept"])
def test_memory_is_settled_where_it_was_asked_for_and_nowhere_else(start, fresh):
    namespace = {"__name__": "loader"}
    exec(compile(get_dsl("cpp").loader, "loader", "exec"), namespace)
    size, room = 9 << 20, 12 << 20
    with mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        whole = torch.frombuffer(pages, dtype=torch.uint8)
        if not fresh:
            whole.fill_(7)
        given = torch.frombuffer(pages, dtype=torch.uint8, count=size, offset=start)
        namespace["_call"](namespace["_PAGES"], namespace["_PAGES_FLAGS"], "settle", given, size)
        after = whole.numpy().copy()
        del whole, given
    value = 0 if fresh else 7
    assert (after[:start] == value).all()
    assert (after[start + size :] == value).all()
    # Touched once per page, and by nothing but a zero.
    inside = after[start : start + size]
    assert np.isin(inside, [0, value]).all()
    assert np.diff(np.flatnonzero(inside != value)).min(initial=4096) >= 4096


@compiled
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pages are made ahead on Linux")
@pytest.mark.parametrize(
    ("size", "start", "made"),
    [
        (6 << 20, 0, 128),
        (6 << 20, 4096 * 5 + 64, 128),
        ((6 << 20) - 8192, (6 << 20) - 8192 * 3, 4),
        (3 << 20, 0, 0),
    ],
    ids=["from the start", "from the middle", "up to the end", "small"],
)
def test_a_large_result_is_made_half_a_megabyte_ahead(size, start, made):
    namespace = {"__name__": "loader"}
    exec(compile(get_dsl("cpp").loader, "loader", "exec"), namespace)
    reach = """
extern "C" void reach(const char* result, long bytes, long start, int) {
  m_front front = m_begin(result, bytes);
  m_ahead(front, result + start, 10);
}
"""
    room = 8 << 20
    with mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        given = torch.frombuffer(pages, dtype=torch.uint8)
        namespace["_call"](PRELUDE + reach, ("-O2",), "reach", given, size, start)
        resident = (ctypes.c_ubyte * (room // 4096))()
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mincore(ctypes.c_void_p(given.data_ptr()), ctypes.c_size_t(room), resident) == 0
        found = np.flatnonzero(np.frombuffer(resident, dtype=np.uint8) & 1)
        del given
    first = -(-start // 4096)
    assert found.tolist() == list(range(first, first + made))


@compiled
@pytest.mark.parametrize("forward", ["torch.softmax(x, 1)", "F.softmin(x, -1) * y"])
def test_a_row_is_kept_where_its_result_will_be(forward):
    task = make_task("t", "", f"return {forward}", ("torch.randn(40, 3000)", "torch.randn(3000)"), HEAD)
    code = candidate(synthesise(task)[0]).code
    assert "aligned_alloc" not in code[code.index("void kernel_0") :]
    model, (x, y) = task.build()
    torch.testing.assert_close(Kernel(code, "cpp", "cpu", task).load()()(x, y), model(x, y))


@compiled
@pytest.mark.parametrize(
    "forward",
    [
        # The row is read once more after its last use of the kept value, as another result or another type.
        "s = torch.softmax(x, 1)\nreturn s, s * y",
        "return torch.softmax(x, 1).double()",
        "return torch.softmax(x, 1).sum(0)",
        "return torch.softmax(x, 1).flip(1)",
    ],
    ids=["two results", "another type", "another shape", "another order"],
)
def test_a_kept_row_never_disturbs_what_else_is_read(forward):
    task = make_task("t", "", forward, ("torch.randn(40, 3000)", "torch.randn(3000)"), HEAD)
    ours = Kernel(candidate(synthesise(task)[0]).code, "cpp", "cpu", task).load()()
    model, (x, y) = task.build()
    torch.testing.assert_close(ours(x.clone(), y), model(x.clone(), y))


@compiled
@pytest.mark.parametrize("length", [1, 7, 8, 9, 255, 256, 257, 9001])
def test_running_sums_are_those_in_double_at_every_length(length):
    task = make_task("t", "", "return torch.cumsum(x * 3, 1) + x", (f"torch.randn(3, {length})",), HEAD)
    ours = Kernel(candidate(synthesise(task)[0]).code, "cpp", "cpu", task).load()()
    x = task.build()[1][0]
    x[1, length // 2] = torch.inf
    sums = torch.cumsum((x * 3).double(), 1).float()
    assert torch.equal(ours(x), sums + x)


@compiled
def test_a_tile_that_one_loop_reads_is_no_array():
    code = candidate(
        synthesise(make_task("t", "", "return torch.softmax(x, 1)", ("torch.randn(4, 300)",), HEAD))[0]
    )
    text = code.code[code.code.index("void kernel_0") :]
    assert "alignas(64) float" not in text


@compiled
def test_errors_of_the_compiler_are_passed_on(tmp_path):
    with pytest.raises(BuildError, match="error"):
        get_dsl("cpp").build(source().replace("static inline", "static nonsense"), tmp_path, "cpu")
    with pytest.raises(BuildError, match="_CPP"):
        get_dsl("cpp").build("class ModelNew:\n    pass", tmp_path, "cpu")


@compiled
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_one_openmp_runtime_serves_torch_and_kernels():
    x = torch.randn(8, 9)
    Kernel(source(), "cpp", "cpu", None).load()()(x)
    with Path("/proc/self/maps").open() as maps:
        # scikit-learn brings a library of its own under another name; kernels must not add a further one.
        assert len({line.split()[-1] for line in maps if "/libgomp.so.1" in line}) == 1


@compiled
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_accurate_to_a_few_units(name):
    forward, grid, reference = FUNCTIONS[name]
    task = make_task("t", "", f"return {forward}", (grid,), HEAD)
    ours = Kernel(candidate(synthesise(task)[0]).code, "cpp", "cpu", task).load()()
    x = task.build()[1][0]
    out = ours(x).double().numpy()
    with np.errstate(all="ignore"):
        wanted = reference(np.minimum(x.double().numpy(), 88.0) if "clamp" in forward else x.double().numpy())
    # Four units of rounding, absolute below the smallest normal number.
    error = np.abs(out - wanted) / (np.abs(wanted) * np.finfo(np.float32).eps + np.finfo(np.float32).tiny)
    assert error.max() < 4


@compiled
def test_knobs_change_the_source_and_not_the_values():
    task = make_task("t", "", "return torch.softmax(x, 0)", ("torch.randn(40, 300)",), HEAD)
    design = synthesise(task)[0]
    space = get_dsl("cpp").space(design.sketch, "cpu")
    defaults = get_dsl("cpp").defaults(design.sketch, "cpu")
    assert all(defaults[name] in values for name, values in space.items())
    x = task.build()[1][0]
    results = []
    for columns in (16, 64, 512):
        made = candidate(design, params={"COLS0": columns})
        results.append(Kernel(made.code, "cpp", "cpu", task).load()()(x))
        torch.testing.assert_close(results[-1], torch.softmax(x, 0))


def test_export_for_load_inline_is_python_with_torchs_own_builder():
    code = Kernel(source(), "cpp", "cpu", None).export("load_inline")
    compile(code, "exported", "exec")
    assert "load_inline(" in code
    assert "subprocess" not in code
    # The function that settles memory is part of the same extension.
    assert "'settle_torch'" in code
    for helper in ("_dense", "_look_up", "_number", "_shape"):
        assert f"def {helper}(" in code


@compiled
def test_other_sizes_than_it_was_made_for_are_refused():
    task = make_task("t", "", "return x * y", ("torch.randn(4, 6)", "torch.randn(6)"), HEAD)
    ours = Kernel(candidate(synthesise(task)[0]).code, "cpp", "cpu", task).load()()
    assert ours(torch.ones(9, 6), torch.ones(6)).shape == (9, 6)
    with pytest.raises(ValueError, match=r"x of shape \(9, 6\); got \(9, 5\)"):
        ours(torch.ones(9, 5), torch.ones(6))
    with pytest.raises(ValueError, match=r"y of shape \(6,\); got \(3,\)"):
        ours(torch.ones(9, 6), torch.ones(3))
    with pytest.raises(TypeError, match="y must have dtype"):
        ours(torch.ones(9, 6), torch.ones(6, dtype=torch.float64))


@compiled
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "forward", ["return F.max_pool1d(x, 5, 2, 2, 2, True)", "return F.avg_pool1d(x, 4, 3, 1, True, False)"]
)
def test_windows_that_overhang(dtype, forward):
    task = make_task("t", "", forward, (f"torch.randn(2, 3, 22, dtype=torch.{dtype})",), HEAD)
    module, (x,) = task.build()
    ours = Kernel(candidate(synthesise(task)[0]).code, "cpp", "cpu", task).load()()
    # A maximum is exact; a mean of four is rounded once at the end, and eager rounds at most four times.
    bound = 0.0 if "max" in forward else 4 * torch.finfo(getattr(torch, dtype)).eps
    torch.testing.assert_close(ours(x), module(x), rtol=bound, atol=bound)


LOOK_UPS = {
    # Constructor, forward, inputs, the first index that is too large.
    "embedding": ("self.e = nn.Embedding(9, 5)", "return self.e(x)", ("torch.randint(0, 9, (4, 6))",), 9),
    "gather": ("", "return x.gather(1, y)", ("torch.randn(4, 9)", "torch.randint(0, 9, (4, 6))"), 9),
    "cross_entropy": (
        "",
        "return F.cross_entropy(x, y, ignore_index=-7)",
        ("torch.randn(40, 9)", "torch.randint(0, 9, (40,))"),
        9,
    ),
    "one_hot": ("", "return F.one_hot(x, 9)", ("torch.randint(0, 9, (40,))",), 9),
    "running": (
        "",
        "return x.gather(1, y).cumsum(1)",
        ("torch.randn(4, 9)", "torch.randint(0, 9, (4, 6))"),
        9,
    ),
    "computed": ("", "return x[y * 2]", ("torch.randn(19, 4)", "torch.randint(0, 9, (40,))"), 10),
}


@pytest.mark.parametrize("name", LOOK_UPS)
def test_an_index_outside_of_its_table_is_refused_and_never_read(name):
    constructor, forward, inputs, beyond = LOOK_UPS[name]
    head = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
    task = make_task("t", constructor, forward, inputs, head)
    eager, arguments = task.build()
    ours = Kernel(candidate(synthesise(task)[0]).code, "cpp", "cpu", task).load()()
    ours.load_state_dict(eager.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours(*arguments), eager(*arguments))
        for value in (beyond, -20, 10**12):
            index = arguments[-1].clone()
            index.view(-1)[3] = value
            with pytest.raises((IndexError, RuntimeError)):
                eager(*arguments[:-1], index)
            with pytest.raises(IndexError, match="must be at least 0 and less than"):
                ours(*arguments[:-1], index)
        if name == "cross_entropy":
            arguments[-1][5:9] = -7
            torch.testing.assert_close(ours(*arguments), eager(*arguments))


@pytest.mark.parametrize(
    ("forward", "policy", "shape", "reason"),
    [
        ("return x.squeeze()", "batch", (1, 6), r"x.shape\[0\] != 1; got x.shape\[0\] = 1"),
        ("return x[:, -1:] * 2", "dynamic", (4, 0), r"x.shape\[1\] >= 1"),
        ("return x[2] * 2", "batch", (2, 6), r"x.shape\[0\] >= 3"),
        ("return x[:3] * 2", "batch", (2, 6), r"x.shape\[0\] >= 3"),
        ("return x.amax(0)", "batch", (0, 6), r"x.shape\[0\] >= 1"),
        ("return x.argmax(0)", "batch", (0, 6), r"x.shape\[0\] >= 1"),
        ("return x * 2", "batch", (6,), r"x must have 2 dimensions; got the shape \(6,\)"),
    ],
)
def test_free_sizes_at_which_the_kernel_would_be_wrong_are_refused(forward, policy, shape, reason):
    task = make_task("t", "", forward, ("torch.randn(5, 6)",), "import torch\nimport torch.nn as nn\n")
    sketch = synthesise(task, shape_policy=policy)[0].sketch
    assert Sketch.parse(sketch.to_text()) == sketch
    sketch.validate()
    ours = Kernel(candidate(synthesise(task, shape_policy=policy)[0]).code, "cpp", "cpu", task).load()()
    eager, _ = task.build()
    for rows in (3, 5, 9):
        x = torch.randn(rows, 6)
        torch.testing.assert_close(ours(x), eager(x))
    with pytest.raises(ValueError, match=reason):
        ours(torch.randn(shape))


def test_arguments_of_another_kind_are_refused_by_name():
    head = "import torch\nimport torch.nn as nn\n"
    task = make_task("t", "", "return x * y", ("torch.randn(5, 6)", "2"), head)
    ours = Kernel(candidate(synthesise(task)[0]).code, "cpp", "cpu", task).load()()
    x = torch.randn(3, 6)
    torch.testing.assert_close(ours(x, np.int32(3)), x * 3)
    for arguments, reason in (
        ((x.tolist(), 2), "x must be a tensor; got list"),
        ((x, [2]), "y must be a number; got list"),
        ((x, 2.5), "y must be a whole number, as at capture; got 2.5"),
    ):
        with pytest.raises(TypeError, match=reason):
            ours(*arguments)
