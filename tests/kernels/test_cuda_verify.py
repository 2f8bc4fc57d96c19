"""Examination on a GPU: what is right passes and is timed by events, what is wrong or cheats does not."""

import math

import pytest
import torch

from mlpapers.kernels import KernelAgent, verify
from mlpapers.kernels.bench_tasks import mini_bench
from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.dsl import get_backend, get_dsl
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise
from mlpapers.kernels.verify.examiner import Examiner
from mlpapers.kernels.verify.reference import Reference
from mlpapers.kernels.verify.settings import Settings

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
TASKS = {task.name: task for task in mini_bench()}
ROWS = make_task("rows", "", "return torch.softmax(x, -1)", ("torch.rand(1024, 4096)",), HEAD)
# Long enough to be timed beside the launch.
MANY_ROWS = make_task("many_rows", "", "return torch.softmax(x, -1)", ("torch.rand(4096, 4096)",), HEAD)
CONV = make_task(
    "conv",
    "self.c = nn.Conv2d(32, 64, 3)",
    "return torch.relu(self.c(x))",
    ("torch.rand(8, 32, 64, 64)",),
    HEAD,
)
DROP = make_task("drop", "self.d = nn.Dropout(0.5)", "return self.d(x) * 2", ("torch.rand(512, 512)",), HEAD)
NORM = make_task(
    "norm", "self.b = nn.BatchNorm2d(32)", "return self.b(x)", ("torch.rand(16, 32, 64, 64)",), HEAD
)
LINEAR = make_task(
    "linear",
    "self.l = nn.Linear(1024, 1024)",
    "return torch.relu(self.l(x))",
    ("torch.rand(1024, 1024)",),
    HEAD,
)
USABLE = [
    name for name in ("triton", "cuda") if torch.cuda.is_available() and get_dsl(name).available("cuda")[0]
]
FORWARD = """import torch
class ModelNew(torch.nn.Module):
    def forward(self, x):
"""


def code_of(task, dsl, **options):
    return candidate(synthesise(task, dsl=dsl, backend="cuda", **options)[0], dsl, "cuda").code


@pytest.mark.parametrize("dsl", USABLE)
@pytest.mark.parametrize("task", [ROWS, CONV, DROP, NORM], ids=lambda task: task.name)
def test_a_right_kernel_passes_and_is_timed(dsl, task):
    verdict = verify(task, code_of(task, dsl), dsl=dsl, backend="cuda", random_state=0, timeout=300)
    assert verdict.ok, verdict.report.error
    assert verdict.timing_mode == "measured"
    assert verdict.report.hacks == ()
    assert math.isfinite(verdict.speedup)
    low, high = verdict.speedup_ci
    assert 0 < low <= verdict.speedup <= high


@pytest.mark.parametrize("dsl", USABLE)
def test_wrong_values_are_found(dsl):
    code = code_of(ROWS, dsl)
    wrong = (
        code.replace("tl.exp(", "tl.exp(0.99 * ")
        if dsl == "triton"
        else code.replace(" exp(", " exp(0.99f * ")
    )
    assert wrong != code
    verdict = verify(ROWS, wrong, dsl=dsl, backend="cuda", random_state=0, timing=False, timeout=300)
    assert not verdict.ok
    assert verdict.report.error_class in ("wrong_result", "hack", "compile")


def test_eager_on_the_gpu_is_the_judge_of_convolutions():
    """Convolutions use TF32 there: judged by a processor, honest kernels would be accused."""
    here, there = Reference(CONV, 0), Reference(CONV, 0, "cuda:0")
    state = here.state()
    one, _ = here.run(here.inputs, state, 0)
    other, _ = there.run(there.inputs, state, 0)
    assert one[0].device == other[0].device == torch.device("cpu")
    exact = here.run_double(here.inputs, state, 0)[0]
    scale = float(exact.double().square().mean().sqrt())
    assert float((one[0] - exact).abs().max()) < 1e-4 * scale
    assert float((other[0] - exact).abs().max()) < 1e-2 * scale
    torch.testing.assert_close(there.run_double(there.inputs, state, 0)[0], exact, rtol=1e-9, atol=1e-9)


def test_tf32_in_three_passes_is_right_and_in_one_is_not():
    if "triton" not in USABLE:
        pytest.skip("triton is not installed")
    for precision, right in (("tf32x3", True), ("tf32", False)):
        code = code_of(LINEAR, "triton", precision=precision)
        verdict = verify(
            LINEAR, code, dsl="triton", backend="cuda", random_state=0, timing=False, timeout=300
        )
        assert verdict.ok == right, (precision, verdict.report.error)


def test_unwritten_memory_is_seen():
    body = FORWARD + "        return torch.empty_like(x)\n"
    report = verify(
        ROWS, body, dsl="triton", backend="cuda", random_state=0, timing=False, timeout=300
    ).report
    assert not report.ok
    assert "unwritten_memory" in report.hacks


def test_an_output_elsewhere_is_wrong():
    body = FORWARD + "        y = torch.empty(x.shape, device='cpu')\n        y.copy_(x)\n        return y\n"
    report = verify(
        ROWS, body, dsl="triton", backend="cuda", random_state=0, timing=False, timeout=300
    ).report
    assert "cpu" in report.error


def test_work_on_another_stream_is_seen():
    """The work is asked for, and the call returns before it is done; torch.softmax is allowed here."""
    body = (
        "import torch\nside = None\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n"
        "        global side\n        side = side or torch.cuda.Stream()\n"
        "        with torch.cuda.stream(side):\n            for _ in range(20):\n"
        "                y = torch.softmax(x, -1)\n        return y\n"
    )
    settings = Settings(library_ops="any", timeout=300.0, n_correct=1, shape_policy="static")
    with Examiner(MANY_ROWS, dsl="triton", backend="cuda", settings=settings, random_state=0) as examiner:
        outcome, hacks, _ = examiner.time(body)
    assert outcome.status == "ok", outcome.result.get("error")
    assert "async_work" in hacks


def test_a_device_assertion_costs_only_its_worker():
    bad = FORWARD + "        i = torch.full((4,), 10**9, device=x.device)\n        return x[i]\n"
    report = verify(ROWS, bad, dsl="triton", backend="cuda", random_state=0, timing=False,
                    library_ops="any", timeout=300).report  # fmt: skip
    assert not report.ok
    good = verify(ROWS, code_of(ROWS, USABLE[0]), dsl=USABLE[0], backend="cuda", timing=False, timeout=300)
    assert good.ok, good.report.error


def test_the_library_alone_is_as_fast_as_itself():
    """Timing has no favourites: the reference's own code has a speed-up of one."""
    body = FORWARD + "        return torch.softmax(x, -1)\n"
    verdict = verify(
        MANY_ROWS, body, dsl="triton", backend="cuda", library_ops="any", random_state=0, timeout=300
    )
    assert verdict.ok, verdict.report.error
    assert verdict.speedup_ci[0] <= 1.1
    assert verdict.speedup_ci[1] >= 0.9


@pytest.mark.parametrize("dsl", USABLE)
def test_the_agent_from_a_task_to_a_tuned_kernel(dsl, tmp_path):
    agent = KernelAgent(
        dsl=dsl, backend="cuda", n_candidates=4, time_budget=15, timeout=300, store=tmp_path / "s.sqlite",
        devices=["cuda:0"], random_state=0,
    )  # fmt: skip
    result = agent.generate(TASKS["norm_softmax"].with_overrides())
    assert result.success, result.report.error
    assert result.timing_mode == "measured"
    assert math.isfinite(result.roofline_fraction)
    moved = agent.migrate(result.kernel, "cuda" if dsl == "triton" else "triton", "cuda")
    assert moved.success, moved.report.error


def test_the_searches_run_on_the_device(tmp_path):
    for search in ("evolve", "ucb"):
        agent = KernelAgent(
            dsl=USABLE[0], backend="cuda", search=search, n_candidates=6, time_budget=15, timeout=300,
            store=tmp_path / search, random_state=0,
        )  # fmt: skip
        assert agent.generate(TASKS["norm_rms"]).success


def test_what_the_device_can_do_is_measured():
    hardware = get_backend("cuda").hardware()
    assert hardware.bandwidth >= hardware.bandwidth_dram > 1e10
    assert hardware.peak_flops > 1e12
