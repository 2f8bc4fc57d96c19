"""The block-wise errors equal those of whole-tensor formulas."""

from __future__ import annotations

import math

import pytest
import torch

from mlpapers.kernels.verify import _tally
from mlpapers.kernels.verify._tally import answer_of, tally


@pytest.mark.parametrize("n", [1, 7, 64, 1000])
def test_blocks_give_what_whole_tensors_give(n, monkeypatch):
    monkeypatch.setattr(_tally, "_BLOCK", 64)
    generator = torch.Generator().manual_seed(n)
    q = torch.randn(n, generator=generator, dtype=torch.float64)
    r = (q + 1e-7 * torch.randn(n, generator=generator)).float()
    o = (q + 1e-4 * torch.randn(n, generator=generator)).float()
    found = tally(r, q, o, rtol=1e-4, bound=1e-4)
    assert tally(r, q, o, rtol=1e-4, bound=1e-4, answer=answer_of(r, q)) == found
    error_o, error_r = o.double() - q, r.double() - q
    difference = (o.double() - r.double()).abs()
    size = r.double().abs() + min(1.0, float(q.square().mean().sqrt()))
    # Two orders of summation of n squares differ by at most n units of the last place.
    close = {"rel": n * 2.3e-16}
    assert found.answer.norm_q == pytest.approx(float(q.norm()), **close)
    assert found.norm_o == pytest.approx(float(error_o.norm()), **close)
    assert found.answer.norm_r == pytest.approx(float(error_r.norm()), **close)
    assert found.max_o == float(error_o.abs().max())
    assert found.answer.max_r == float(error_r.abs().max())
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
    assert same.answer.n == 2
    assert not same.answer.whole
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


def test_entries_at_the_tolerance_are_counted_one_by_one():
    r = torch.ones(64, dtype=torch.float64)
    allowed = 1e-4 * (1.0 + 1.0)
    o = r.clone()
    o[:5] += allowed * (1.0 + 1e-13 * torch.arange(-2, 3, dtype=torch.float64))
    expected = ((o - r).abs() > 1e-4 * (r.abs() + 1.0)).nonzero().reshape(-1).tolist()
    found = tally(r, r, o, rtol=1e-4, bound=1e-4)
    assert (found.n_wrong, found.wrong) == (len(expected), expected)


def test_an_overflowing_sum_hides_nothing():
    r = torch.full((8,), 1e308, dtype=torch.float64)
    answer = answer_of(r, -r)
    assert answer.n == 8
    assert answer.whole
    assert math.isinf(answer.max_r)
    found = tally(r, r, -r, rtol=1e-4, bound=1e-4)
    assert found.n_wrong == 8
    assert not found.allclose
