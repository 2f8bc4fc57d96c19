"""Measures of probability rows, against their definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.attention import attention_entropy, spikiness, top_k_mass


def rows(n, length, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(3 * torch.randn(n, length, generator=generator, dtype=torch.float64), -1)


@given(st.integers(1, 30), st.integers(0, 2**20))
@settings(max_examples=40)
def test_definitions_and_ranges(length, seed):
    p = rows(3, length, seed)
    for row, spiky, entropy in zip(p.tolist(), spikiness(p).tolist(), attention_entropy(p).tolist()):
        assert spiky == pytest.approx(sum(row) / (sum(x * x for x in row) * length))
        assert 1 / length - 1e-12 <= spiky <= 1 + 1e-12
        assert entropy == pytest.approx(-sum(x * math.log(x) for x in row if x > 0), abs=1e-12)
        assert -1e-12 <= entropy <= math.log(length) + 1e-12


def test_extremes():
    one_hot, uniform = torch.eye(4)[:1], torch.full((1, 4), 0.25)
    assert float(spikiness(one_hot)) == 0.25
    assert float(spikiness(uniform)) == 1.0
    assert float(attention_entropy(one_hot)) == 0.0
    assert float(attention_entropy(uniform, normalized=True)) == pytest.approx(1.0)
    assert float(attention_entropy(torch.ones(1, 1), normalized=True)) == 0.0


def test_hidden_keys_do_not_count():
    p = rows(2, 5, 0)
    padded = torch.cat([p, torch.zeros(2, 3, dtype=p.dtype)], -1)
    mask = torch.arange(8) < 5
    torch.testing.assert_close(spikiness(padded, mask), spikiness(p))
    for normalized in (False, True):
        torch.testing.assert_close(
            attention_entropy(padded, mask, normalized), attention_entropy(p, None, normalized)
        )


def test_top_k_mass():
    p = torch.tensor([[0.1, 0.6, 0.3]])
    assert [float(top_k_mass(p, k)) for k in (1, 2, 9)] == pytest.approx([0.6, 0.9, 1.0])


def test_errors():
    with pytest.raises(TypeError, match=r"p must be a torch\.Tensor"):
        spikiness([0.5, 0.5])
    with pytest.raises(ValueError, match="p must have at least one dimension"):
        attention_entropy(torch.tensor(1.0))
    with pytest.raises(ValueError, match="mask must broadcast"):
        spikiness(torch.ones(2, 3) / 3, torch.ones(2, dtype=torch.bool))
    with pytest.raises(ValueError, match="k must be an integer >= 1"):
        top_k_mass(torch.ones(2), 0)
