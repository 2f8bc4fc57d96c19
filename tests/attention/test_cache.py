"""The cache against plain concatenation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.attention import KVCache


def draw(length, seed):
    return torch.randn(2, 3, length, 4, generator=torch.Generator().manual_seed(seed))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.booleans())
@settings(max_examples=30)
def test_updates_concatenate(sizes, fixed):
    cache = KVCache(sum(sizes) if fixed else None)
    keys, values = [], []
    for seed, size in enumerate(sizes):
        keys.append(draw(size, seed))
        values.append(draw(size, seed + 50))
        found = cache.update(keys[-1], values[-1])
        for got, parts in zip((*found, cache.keys, cache.values), (keys, values, keys, values)):
            torch.testing.assert_close(got, torch.cat(parts, 2), rtol=0, atol=0)
    assert cache.length == sum(sizes)


def test_room_doubles():
    cache = KVCache()
    allocations = set()
    for step in range(64):
        cache.update(draw(1, step), draw(1, step))
        allocations.add(cache._keys.data_ptr())
    assert cache._keys.shape[2] == 64
    # 1, 2, 4, ..., 64: seven rooms, of which an address may be used again.
    assert len(allocations) <= 7


def test_crop_reorder_reset():
    cache = KVCache(8)
    cache.update(draw(5, 0), draw(5, 1))
    cache.crop(3)
    cache.update(draw(1, 2), draw(1, 3))
    expected = torch.cat([draw(5, 0)[:, :, :3], draw(1, 2)], 2)
    torch.testing.assert_close(cache.keys, expected, rtol=0, atol=0)
    cache.reorder(torch.tensor([1, 1, 0]))
    torch.testing.assert_close(cache.keys, expected[[1, 1, 0]], rtol=0, atol=0)
    cache.reset()
    assert cache.length == 0
    assert cache.keys is None


def test_nothing_is_kept_of_the_graph():
    keys, _ = KVCache().update(draw(2, 0).requires_grad_(), draw(2, 1))
    assert not keys.requires_grad


def test_errors():
    cache = KVCache(4)
    cache.update(draw(3, 0), draw(3, 1))
    with pytest.raises(ValueError, match="would make 5 tokens; the cache has room for max_len=4"):
        cache.update(draw(2, 0), draw(2, 1))
    with pytest.raises(ValueError, match="k must continue what is stored"):
        cache.update(draw(1, 0)[:1], draw(1, 1)[:1])
    with pytest.raises(ValueError, match="k must have the stored dtype"):
        cache.update(draw(1, 0).double(), draw(1, 1).double())
    with pytest.raises(ValueError, match=r"n must be an integer in \[0, 3\]"):
        cache.crop(4)
    with pytest.raises(ValueError, match="max_len must be an integer >= 1"):
        KVCache(0)
