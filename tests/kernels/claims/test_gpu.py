"""What the claims about a GPU rest on, as far as it runs without one."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from mlpapers.kernels.bench_tasks import mini_bench
from mlpapers.kernels.claims import _gpu, dynamic_gpu, speed_gpu

TASKS = {task.name: task for task in mini_bench()}


def judged(reference, ours, *inputs):
    with torch.no_grad():
        return _gpu._judged(reference, ours, list(inputs), 0)


class Centred(nn.Module):
    """The mean of what has no mean: rounding noise, by one order of summation or the other."""

    def __init__(self, flip=False):
        super().__init__()
        self.flip = flip

    def forward(self, x):
        x = x - x.mean(1, keepdim=True)
        return (x.flip(1) if self.flip else x).sum(1) / x.shape[1]


def test_dropout_draws_the_same_numbers():
    row = judged(nn.Dropout(0.5), nn.Dropout(0.5), torch.rand(64, 64))
    assert row == {"gap": 0.0, "kernelbench": True, "ok": True}


def test_noise_around_zero_is_judged_by_float64():
    x = torch.rand(4, 1001)
    row = judged(Centred(), Centred(flip=True), x)
    assert row["gap"] > _gpu._largest_gap(Centred())
    assert row["ok"]
    assert row["excess"] <= 1
    # The scale is that of the noise: a constant that allclose lets through is wrong.
    wrong = judged(Centred(), lambda given: torch.full_like(given[:, 0], 5e-5), x)
    assert wrong["kernelbench"]
    assert not wrong["ok"]


def test_wrong_values_are_wrong():
    row = judged(nn.ReLU(), nn.ELU(), torch.randn(100))
    assert not row["ok"]
    assert not row["kernelbench"]
    assert row["excess"] > 1e3


def test_the_gap_is_in_units_of_the_root_mean_square(monkeypatch):
    eager = torch.randn(7, 5)
    found = eager.clone()
    found[3, 2] += 0.5
    wanted = 0.5 / float(eager.square().mean().sqrt())
    for part in (1 << 27, 4):
        monkeypatch.setattr(_gpu, "_PART", part)
        assert _gpu._gap(eager, found) == pytest.approx(wanted, rel=1e-5)
        assert np.isnan(_gpu._gap(eager, torch.where(found > 1, torch.nan, found)))
    with pytest.raises(ValueError, match="shape"):
        _gpu._gap(eager, found.t())


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_one_source_at_several_sizes(monkeypatch):
    def row():
        return dynamic_gpu.right_at_unseen_sizes(
            TASKS["norm_rms"], dsl="cpp", backend="cpu", device="cpu", seed=1
        )

    assert row() == {"name": "norm_rms", "category": "norm", "ok": True, "sizes": 12, "error": ""}
    # What was made for one size only refuses the others, and the row says at which.
    synthesise = dynamic_gpu.synthesise
    monkeypatch.setattr(
        dynamic_gpu, "synthesise", lambda *a, **k: synthesise(*a, **{**k, "shape_policy": "static"})
    )
    failed = row()
    assert not failed["ok"]
    assert "made for x of shape (4, 12, 29, 31); got (1, 12, 29, 31)" in failed["error"]


def test_the_line_on_a_table():
    table = pd.DataFrame(
        {
            "ok": [True, True, False],
            "ours": [4.0, 0.995, 2.0],
            "compile": [2.0, 0.5, 1.0],
            "kernelbench": True,
        }
    )
    text = speed_gpu.summary("level 1", table)
    assert "2 of 3 right; geometric mean 1.995, over all 1.585, arithmetic 2.50" in text
    assert "at least as fast 0.33, within 1% 0.67" in text
    assert "check passes 3; torch.compile geometric mean 1.000, at least as fast 0.67" in text
    assert speed_gpu.summary("x", pd.DataFrame({"ok": [False]})) == "x: no kernel is right"
