"""The block-wise errors equal those of whole-tensor formulas."""

from __future__ import annotations

import math

import pytest
import torch

from mlpapers.kernels.verify import _tally
from mlpapers.kernels.verify._tally import tally


@pytest.mark.parametrize("n", [1, 7, 64, 1000])
def test_blocks_give_what_whole_tensors_give(n, monkeypatch):
    monkeypatch.setattr(_tally, "_BLOCK", 64)
    generator = torch.Generator().manual_seed(n)
    q = torch.randn(n, generator=generator, dtype=torch.float64)
    r = (q + 1e-7 * torch.randn(n, generator=generator)).float()
    o = (q + 1e-4 * torch.randn(n, generator=generator)).float()
    found = tally(r, q, o, rtol=1e-4, bound=1e-4)
    error_o, error_r = o.double() - q, r.double() - q
    difference = (o.double() - r.double()).abs()
    size = r.double().abs() + min(1.0, float(q.square().mean().sqrt()))
    # Two orders of summation of n squares differ by at most n units of the last place.
    close = {"rel": n * 2.3e-16}
    assert found.norm_q == pytest.approx(float(q.norm()), **close)
    assert found.norm_o == pytest.approx(float(error_o.norm()), **close)
    assert found.norm_r == pytest.approx(float(error_r.norm()), **close)
    assert found.max_o == float(error_o.abs().max())
    assert found.max_r == float(error_r.abs().max())
    assert found.max_difference == float(difference.max())
    assert found.max_relative == pytest.approx(float((difference / size).max()), rel=1e-14)
    wrong = (difference > 1e-4 * size).nonzero().reshape(-1).tolist()
    assert (found.n_wrong, found.wrong) == (len(wrong), wrong[:5])
    assert found.allclose == torch.allclose(r, o, atol=1e-4, rtol=1e-4)


def test_nan_and_infinity_have_their_places(monkeypatch):
    monkeypatch.setattr(_tally, "_BLOCK", 2)
    r = torch.tensor([1.0, math.nan, math.inf, -math.inf, 2.0])
    same = tally(r, r.double(), r.clone(), rtol=1e-4, bound=1e-4)
    assert same.misplaced == []
    assert same.n == 2
    assert same.max_difference == 0.0
    for place, value in ((1, 0.0), (2, -math.inf), (3, 1.0), (4, math.nan)):
        o = r.clone()
        o[place] = value
        assert tally(r, r.double(), o, rtol=1e-4, bound=1e-4).misplaced == [place]


def test_zero_outputs_of_small_values_are_wrong_though_allclose():
    r = torch.full((100,), 2.5e-6)
    found = tally(r, r.double(), torch.zeros(100), rtol=1e-4, bound=1e-4)
    assert found.allclose
    assert found.n_wrong == 100
