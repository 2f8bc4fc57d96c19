"""Torch models on a GPU: the same values, the same counts, points of the caller's kind."""

import numpy as np
import pytest
import torch

from mlpapers.optim import FiniteSum, L1Ball, L2Ball, LInfBall, minimize_fw_zo, universal_attack

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def problem(device):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3)).double()
    X, y = torch.randn(40, 8, dtype=torch.float64), torch.arange(40) % 3

    def loss(z, t):
        return torch.nn.functional.cross_entropy(z, t, reduction="none")

    return FiniteSum.from_torch(net.to(device), X, y, loss, device=device)


def test_values_and_gradients_are_those_of_the_cpu():
    rng = np.random.default_rng(0)
    points, idx = rng.normal(size=(100, 8)), rng.integers(0, 40, 100)
    cpu, gpu = problem("cpu"), problem("cuda")
    # Sums of 16 products in another order: a few roundings of values of order 1.
    np.testing.assert_allclose(gpu.values(points, idx), cpu.values(points, idx), rtol=1e-12)
    np.testing.assert_allclose(gpu.gradient(points[0]), cpu.gradient(points[0]), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("method", ["dvr", "auto", "fd"])
def test_runs_count_alike_and_end_alike(method):
    runs = [
        minimize_fw_zo(
            problem(device), np.zeros(8), L2Ball(1.0), method=method, max_queries=20_000, random_state=0
        )
        for device in ("cpu", "cuda")
    ]
    assert runs[0].n_queries <= 20_000
    assert runs[1].n_queries <= 20_000
    # Rounding grows by 1/mu = 7e7 in the differences and is no more than the methods' own accuracy.
    assert abs(runs[0].fun - runs[1].fun) <= 1e-3


def test_points_come_back_where_they_came_from():
    x0 = torch.zeros(8, device="cuda", dtype=torch.float32)
    result = minimize_fw_zo(problem("cuda"), x0, L1Ball(1.0), max_queries=5000, random_state=0)
    assert result.x.is_cuda
    assert result.x.dtype == torch.float32
    g = torch.randn(5, 8, device="cuda")
    s = LInfBall(0.5).lmo(g)
    assert s.is_cuda
    assert torch.equal(s, torch.where(g > 0, -0.5, 0.5))


def test_chunks_do_not_change_the_run():
    runs = [
        minimize_fw_zo(
            problem("cuda"), np.zeros(8), L2Ball(1.0), max_queries=5000, chunk_size=size, random_state=0
        )
        for size in (64, 65536)
    ]
    assert runs[0].n_queries <= 5000
    assert abs(runs[0].fun - runs[1].fun) <= 1e-2


def test_attacks_run_on_the_models_device():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).cuda()
    images = torch.rand(30, 1, 4, 4)
    labels = net(images.cuda()).argmax(1).cpu()
    result = universal_attack(net, images, labels, eps=0.5, max_queries=6000, random_state=0)
    assert result.clean_rate == 0.0
    assert result.fooling_rate > 0.0
    assert result.n_queries <= 6000
