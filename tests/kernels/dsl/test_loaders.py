"""The small Python around launches: what is compiled once is launched directly, and only where it may be."""

import importlib.util
import inspect
import types

import pytest
import torch

from mlpapers.kernels.bench_tasks import mini_bench
from mlpapers.kernels.dsl.host import CHECKS
from mlpapers.kernels.dsl.triton.loader import LOADER
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


class Kernel:
    """Stands for a Triton kernel: what it is asked to compile, and what is launched directly, is noted."""

    def __init__(self, log, fn):
        self.log, self.fn = log, fn

    def __getitem__(self, grid):
        def launch(*arguments, **options):
            meant = {name: value for name, value in options.items() if name != "num_warps"}
            inspect.signature(self.fn).bind(*arguments, **meant)
            self.log.append(("compiles", grid, arguments, options))
            return Compiled(self.log)

        return launch


class Compiled:
    """Stands for what Triton makes of a kernel."""

    function, packed_metadata = "function", "packed"

    def __init__(self, log):
        self.log = log

    def run(self, *arguments):
        self.log.append(("direct", *arguments))


@pytest.fixture
def loader():
    namespace = {"__name__": "loader"}
    exec(compile(LOADER, "<loader>", "exec"), namespace)
    driver = types.SimpleNamespace(get_current_stream=lambda device: f"stream of {device}")
    active = types.SimpleNamespace(runtime=types.SimpleNamespace(driver=types.SimpleNamespace(active=driver)))
    namespace["triton"] = active
    return namespace


def test_the_second_launch_asks_triton_nothing(loader):
    log, x, y = [], torch.rand(64), torch.empty(64)

    def add(p_x, p_y, n, WIDE, BLOCK=128, HINT=7):
        raise NotImplementedError

    kernel = Kernel(log, add)
    for _ in range(3):
        loader["_run"](kernel, 5, x, y, 64, BLOCK=256, num_warps=4)
    first, *others = log
    assert first == ("compiles", (5,), (x, y, 64), {"BLOCK": 256, "num_warps": 4, "WIDE": False})
    # Pointers go as numbers; the rest of the signature in its order, defaults too.
    given = (x.data_ptr(), y.data_ptr(), 64, False, 256, 7)
    assert others == [("direct", 5, 1, 1, "stream of -1", "function", "packed", None, None, None, *given)] * 2
    loader["_run"](kernel, 0, x, y, 64, BLOCK=256, num_warps=4)
    assert len(log) == 3


def test_what_compilation_depends_on_compiles_again(loader):
    log, x = [], torch.rand(64)

    def double(p_x, n):
        raise NotImplementedError

    kernel = Kernel(log, double)

    def compiles(*arguments, **options):
        log.clear()
        loader["_run"](kernel, 1, *arguments, **options)
        return log[0][0] == "compiles"

    assert compiles(x, 64)
    assert not compiles(torch.rand(64), 64)
    assert compiles(x, 65)  # a size
    assert compiles(x.double(), 64)  # a type
    assert compiles(x[1:], 64)  # an address that is no multiple of 16
    assert compiles(x, 64, num_warps=8)  # an option
    assert compiles(x, 64.0)
    # Offsets of 64 bits are for kernels that ask for them.
    assert "WIDE" not in log[0][3]
    assert not compiles(x[4:], 64)
    flags = torch.zeros(32, dtype=torch.bool)
    assert compiles(flags, 64)
    assert log[0][2][0].dtype == torch.uint8


def test_what_is_kept_does_not_grow_for_ever(loader):
    def nothing(n):
        raise NotImplementedError

    log = []
    kernel = Kernel(log, nothing)
    for n in range(3000):
        loader["_run"](kernel, 1, n)
    assert len(loader["_compiled"]) <= 1024


def test_the_interpreter_is_asked_each_time(loader):
    calls = []

    class Interpreted:
        def fn(self, n):
            raise NotImplementedError

        def __getitem__(self, grid):
            return lambda *arguments, **_: calls.append((grid, arguments))

    kernel = Interpreted()
    for _ in range(2):
        loader["_run"](kernel, 2, 3)
    assert calls == [((2,), (3,))] * 2


def test_gradients_are_off_in_forward_and_come_back():
    namespace = {"torch": torch}
    exec(compile("import functools\n" + CHECKS, "<checks>", "exec"), namespace)

    @namespace["_without_gradients"]
    def forward(x, *, scale=1.0):
        assert not torch.is_grad_enabled()
        return x * scale

    weight = torch.ones(2, requires_grad=True)
    assert not forward(weight, scale=2.0).requires_grad
    assert torch.is_grad_enabled()
    with torch.no_grad():
        assert torch.equal(forward(weight), weight)
    assert forward.__name__ == "forward"


def test_a_number_becomes_a_tensor_of_its_type():
    namespace = {"torch": torch}
    exec(compile("import functools\n" + CHECKS, "<checks>", "exec"), namespace)
    made = namespace["_dense"](0.1, "f64", torch.device("cpu"), (), "s")
    assert made.dtype == torch.float64
    assert made.item() == 0.1
    assert made.shape == ()


@pytest.mark.parametrize("dsl", ["triton", "cuda"])
def test_library_calls_are_written_as_torch_writes_them(dsl):
    tasks = {task.name: task for task in mini_bench()}
    code = candidate(synthesise(tasks["matmul_batched"], dsl=dsl, backend="cuda")[0], dsl, "cuda").code
    assert "torch.bmm(" in code
    assert "torch.ops" not in code
