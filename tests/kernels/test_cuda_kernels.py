"""Rendered kernels on a GPU: every task of the small benchmark, NVRTC's binaries, several devices."""

import copy

import pytest
import torch

from mlpapers.kernels.bench_tasks import mini_bench
from mlpapers.kernels.claims._gpu import excess, leaves, on_gpu
from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.dsl import get_dsl
from mlpapers.kernels.dsl.cuda.loader import LOADER
from mlpapers.kernels.verify.examiner import Examiner

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
# Windows that lie far apart, chunks of few channels, losses over many rows.
SHAPES = {
    "pool": ("", "return F.avg_pool2d(x, 11)", ("torch.rand(4, 8, 256, 257)",)),
    "pool_max": ("", "return F.max_pool2d(x, 4, 4, 1)", ("torch.randn(4, 8, 130, 257)",)),
    "batch_norm": ("self.b = nn.BatchNorm2d(8)", "return self.b(x)", ("torch.rand(16, 8, 256, 256)",)),
    "cross_entropy": (
        "",
        "return F.cross_entropy(x, y)",
        ("torch.randn(40000, 100)", "torch.randint(0, 100, (40000,))"),
    ),
}
USABLE = [
    name for name in ("triton", "cuda") if torch.cuda.is_available() and get_dsl(name).available("cuda")[0]
]


def worst(dsl, task):
    with torch.no_grad():
        module, ours, inputs = on_gpu(dsl, task)
        exact = copy.deepcopy(module).double()
        wide = [x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs]
        outputs = zip(leaves(module(*inputs)), leaves(ours(*inputs)), leaves(exact(*wide)), strict=True)
        return max(excess(*triple) for triple in outputs)


@pytest.mark.parametrize("dsl", USABLE)
@pytest.mark.parametrize("name", SHAPES)
def test_values_at_sizes_of_a_device(dsl, name):
    constructor, forward, inputs = SHAPES[name]
    assert worst(dsl, make_task(name, constructor, forward, inputs, HEAD)) <= 1


@pytest.mark.parametrize("dsl", USABLE)
@pytest.mark.parametrize("task", mini_bench()[::5], ids=lambda task: task.name)
def test_values_of_the_small_benchmark(dsl, task):
    assert worst(dsl, task) <= 1


def test_what_nvrtc_compiles_runs(monkeypatch, tmp_path):
    namespace = {"__name__": "loader"}
    exec(compile(LOADER, "<loader>", "exec"), namespace)
    if namespace["_nvrtc"]() is None:
        pytest.skip("no libnvrtc")
    monkeypatch.setenv("NVCC", str(tmp_path / "no_such_compiler"))
    monkeypatch.setenv("MLPAPERS_KERNEL_CACHE", str(tmp_path))
    assert (
        worst("cuda", make_task("t", "", "return torch.softmax(x, -1)", ("torch.randn(64, 999)",), HEAD)) <= 1
    )
    assert len(list(tmp_path.glob("*.cubin"))) == 1


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_devices_race_together():
    task = make_task("t", "", "return torch.softmax(x, -1)", ("torch.rand(512, 4096)",), HEAD)
    from mlpapers.kernels.synthesis.synthesise import candidate, synthesise

    design = synthesise(task, dsl=USABLE[0], backend="cuda")[0]
    codes = [
        candidate(design, USABLE[0], "cuda", {"TILE0": width}).code for width in (4096, 2048, 1024, 512, 256)
    ]
    with Examiner(
        task, dsl=USABLE[0], backend="cuda", devices=["cuda:0", "cuda:1"], random_state=0
    ) as examiner:
        assert all(times for times in examiner.race(codes, 3))
