"""The fold in front of fused kernels, against the explicit map; and what temperatures must and must not "
"do."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.attention import attention_entropy, selective_attention
from mlpapers.attention import functional as module

BACKENDS = ("sdpa", "flex", "math")


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def explicit(q, k, v, tq, tv, allowed):
    """Softmax of scaled logits times scaled values, one query at a time; rows that see nothing are 0."""
    groups = q.shape[1] // k.shape[1]
    y = torch.zeros(*q.shape[:3], v.shape[3], dtype=q.dtype)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for t in range(q.shape[2]):
                seen = [s for s in range(k.shape[2]) if allowed[b, h, t, s] > -math.inf]
                if not seen:
                    continue
                logits = torch.stack(
                    [
                        tq[b, h, t] * (q[b, h, t] @ k[b, h // groups, s]) / math.sqrt(q.shape[3])
                        + allowed[b, h, t, s]
                        for s in seen
                    ]
                )
                p = torch.softmax(logits, 0)
                y[b, h, t] = sum(
                    p[i] * tv[b, h // groups, s] * v[b, h // groups, s] for i, s in enumerate(seen)
                )
    return y


def allowed_keys(mask, causal, window, shape):
    allowed = torch.zeros(shape, dtype=torch.float64)
    if mask is not None:
        allowed = allowed.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else allowed + mask
    behind = torch.arange(shape[2])[:, None] + shape[3] - shape[2] - torch.arange(shape[3])
    if causal:
        allowed = allowed.masked_fill(behind < 0, -math.inf)
    if window:
        allowed = allowed.masked_fill(behind >= window, -math.inf)
    return allowed


MASKS = {
    "none": None,
    "bool": draw(2, 1, 5, 7, seed=8) > 0.2,
    "hidden rows": (draw(2, 4, 5, 7, seed=8) > -3) & (torch.arange(5) != 2)[:, None],
    "float": draw(5, 7, seed=9),
    "float with -inf": draw(2, 1, 5, 7, seed=9).masked_fill(draw(2, 1, 5, 7, seed=7) > 0.5, -math.inf),
    "one row": draw(7, seed=5) > -0.5,
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 3)])
@pytest.mark.parametrize("mask", MASKS)
def test_fold_equals_the_explicit_map(mask, causal, window, backend):
    q, k, v = draw(2, 4, 5, 6), draw(2, 2, 7, 6, seed=1), draw(2, 2, 7, 3, seed=2)
    tq, tv = 2 * draw(2, 4, 5, seed=3), 2 * draw(2, 2, 7, seed=4)
    if backend == "flex":  # needs values as wide as keys where it is not compiled
        v = draw(2, 2, 7, 6, seed=2)
    options = {"attn_mask": MASKS[mask], "is_causal": causal, "window": window, "enable_gqa": True}
    if backend == "flex":
        q, k, v = q.float(), k.float(), v.float()
    y = selective_attention(q, k, v, q_temperature=tq, v_temperature=tv, backend=backend, **options)
    expected = explicit(
        q.double(), k.double(), v.double(), tq, tv, allowed_keys(MASKS[mask], causal, window, (2, 4, 5, 7))
    )
    tolerance = 1e-12 if q.dtype == torch.float64 else 1e-5
    assert float((y.double() - expected).abs().max()) < tolerance


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mask", [None, torch.zeros(7, dtype=torch.float64), torch.ones(7, dtype=torch.bool)])
def test_one_query_in_a_window_of_one_sees_itself_alone(mask, backend):
    q, k, v = draw(2, 3, 1, 4), draw(2, 3, 7, 4, seed=1), draw(2, 3, 7, 4, seed=2)
    y = selective_attention(q, k, v, attn_mask=mask, is_causal=True, window=1, backend=backend)
    torch.testing.assert_close(y, v[:, :, -1:])


@pytest.mark.parametrize(("causal", "window"), [(True, None), (True, 300), (False, None)])
def test_chunks_of_queries_join(monkeypatch, causal, window):
    monkeypatch.setattr(module, "_CHUNK_SIZE", 16)
    q, k, v = draw(1, 2, 70, 4), draw(1, 2, 400, 4, seed=1), draw(1, 2, 400, 4, seed=2)
    mask = draw(1, 1, 70, 400, seed=3) > -1
    for given_mask in (None, mask):
        options = {"attn_mask": given_mask, "is_causal": causal, "window": window}
        pair = [selective_attention(q, k, v, backend=b, **options) for b in ("sdpa", "math")]
        torch.testing.assert_close(*pair, rtol=1e-12, atol=1e-13)


def test_gradients_of_every_backend_agree():
    found = {}
    for backend in BACKENDS:
        inputs = [
            t.requires_grad_() for t in (draw(1, 2, 5, 4), draw(1, 2, 5, 4, seed=1), draw(1, 2, 5, 4, seed=2))
        ]
        tau = draw(1, 2, 5, seed=3).requires_grad_()
        y = selective_attention(
            *inputs, q_temperature=tau, v_temperature=tau, is_causal=True, backend=backend
        )
        found[backend] = torch.autograd.grad((y * draw(1, 2, 5, 4, seed=4)).sum(), [*inputs, tau])
    for backend in ("flex", "math"):
        for a, b in zip(found[backend], found["sdpa"]):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


small = st.integers(1, 9)


class TestProperties:
    @given(small, small, st.integers(0, 2**20))
    @settings(max_examples=25)
    def test_temperature_one_is_torchs_attention(self, t, s, seed):
        q, k, v = (
            draw(1, 2, t, 4, seed=seed),
            draw(1, 2, s, 4, seed=seed + 1),
            draw(1, 2, s, 4, seed=seed + 2),
        )
        one = torch.ones(1, 2, 1)
        y = selective_attention(q, k, v, q_temperature=one, v_temperature=one)
        torch.testing.assert_close(y, torch.nn.functional.scaled_dot_product_attention(q, k, v))
        if t == s:
            y = selective_attention(q, k, v, q_temperature=one, is_causal=True)
            torch.testing.assert_close(
                y, torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            )

    @given(small, st.floats(-3, 3), st.integers(0, 2**20))
    @settings(max_examples=25)
    def test_constants(self, s, c, seed):
        q, k, v = (
            draw(1, 1, 3, 4, seed=seed),
            draw(1, 1, s, 4, seed=seed + 1),
            draw(1, 1, s, 4, seed=seed + 2),
        )
        tau = torch.full((3,), c, dtype=torch.float64)
        scaled = selective_attention(q, k, v, q_temperature=tau)
        torch.testing.assert_close(scaled, selective_attention(q, k, v, scale=c / 2.0), rtol=1e-9, atol=1e-12)
        valued = selective_attention(q, k, v, v_temperature=torch.full((s,), c, dtype=torch.float64))
        torch.testing.assert_close(valued, c * selective_attention(q, k, v), rtol=1e-9, atol=1e-12)

    def test_zero_is_uniform_over_visible_keys(self):
        q, k, v = draw(1, 2, 5, 4), draw(1, 2, 5, 4, seed=1), draw(1, 2, 5, 4, seed=2)
        y = selective_attention(q, k, v, q_temperature=torch.zeros(5), is_causal=True)
        running = v.cumsum(2) / torch.arange(1, 6)[:, None]
        torch.testing.assert_close(y, running, rtol=1e-12, atol=1e-13)

    @given(small, st.integers(0, 2**20))
    @settings(max_examples=25)
    def test_order_of_keys_does_not_matter(self, s, seed):
        q, k, v = (
            draw(1, 2, 3, 4, seed=seed),
            draw(1, 2, s, 4, seed=seed + 1),
            draw(1, 2, s, 4, seed=seed + 2),
        )
        tv = draw(1, 2, s, seed=seed + 3)
        order = torch.randperm(s, generator=torch.Generator().manual_seed(seed))
        a = selective_attention(q, k, v, v_temperature=tv)
        b = selective_attention(q, k[:, :, order], v[:, :, order], v_temperature=tv[:, :, order])
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)

    @given(st.integers(2, 9), st.floats(0, 4), st.floats(0, 4), st.integers(0, 2**20))
    @settings(max_examples=40)
    def test_larger_temperatures_are_spikier(self, s, low, more, seed):
        q, k = draw(1, 1, 1, 4, seed=seed), draw(1, 1, s, 4, seed=seed + 1)
        maps = [
            selective_attention(q, k, torch.eye(s, dtype=torch.float64)[None, None], q_temperature=tau)
            for tau in (
                torch.tensor([low], dtype=torch.float64),
                torch.tensor([low + more], dtype=torch.float64),
            )
        ]
        assert float(attention_entropy(maps[1])) <= float(attention_entropy(maps[0])) + 1e-12
        assert float(maps[1].max()) >= float(maps[0].max()) - 1e-12

    @given(st.integers(2, 9), st.integers(0, 8), st.integers(0, 2**20))
    @settings(max_examples=25)
    def test_the_future_changes_nothing(self, n, t, seed):
        t %= n
        q, k, v = (draw(1, 2, n, 4, seed=seed + i) for i in range(3))
        tau = draw(1, 2, n, seed=seed + 3)
        before = selective_attention(q, k, v, q_temperature=tau, v_temperature=tau, is_causal=True)
        k, v, tau = k.clone(), v.clone(), tau.clone()
        k[:, :, t], v[:, :, t], tau[:, :, t] = 9.0, -9.0, 5.0
        after = selective_attention(q, k, v, q_temperature=tau, v_temperature=tau, is_causal=True)
        torch.testing.assert_close(after[:, :, :t], before[:, :, :t], rtol=0, atol=0)


class TestNumbers:
    def test_half_precision(self):
        q, k, v = (draw(1, 2, 33, 8, seed=i, dtype=torch.float32) for i in range(3))
        tau = 1 + 0.5 * torch.tanh(draw(1, 2, 33, seed=3, dtype=torch.float32))
        options = {"q_temperature": tau, "v_temperature": tau, "is_causal": True}
        exact = selective_attention(q, k, v, **options)
        half = selective_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), **options)
        assert half.dtype == torch.bfloat16
        # Eight bits in the values (of size up to about 4) and in the logits.
        torch.testing.assert_close(half.float(), exact, rtol=2e-2, atol=4e-2)

    def test_nan_is_passed_on(self):
        # torch's kernel for the CPU turns such a row into zeros where it has fewer keys than a vector is
        # wide.
        q, k, v = (draw(1, 1, 40, 4, seed=i) for i in range(3))
        q[0, 0, 1, 0] = math.nan
        y = selective_attention(q, k, v, q_temperature=torch.ones(40), is_causal=True)
        assert bool(y[0, 0, 1].isnan().all())
        assert not bool(y[0, 0, [0, *range(2, 40)]].isnan().any())

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_nothing_to_attend(self, backend):
        q, k = draw(2, 3, 0, 4), draw(2, 3, 5, 4)
        assert selective_attention(q, k, k, backend=backend).shape == (2, 3, 0, 4)
        assert bool((selective_attention(k, q, q, backend=backend) == 0).all())

    def test_large_temperatures_in_float16_warn(self):
        q = draw(1, 1, 2, 4, dtype=torch.float32).half()
        with pytest.warns(RuntimeWarning, match="q_temperature reaches 60: logits of float16 may overflow"):
            selective_attention(q, q, q, q_temperature=torch.tensor([1.0, -60.0]))

    def test_memory_does_not_grow_with_the_square(self):
        n = 8192
        q, k, v = (draw(1, 2, n, 8, seed=i, dtype=torch.float32) for i in range(3))
        with torch.profiler.profile(profile_memory=True) as profile:
            selective_attention(q, k, v, q_temperature=torch.ones(n), is_causal=True)
            selective_attention(q, k[:, :1], v[:, :1], is_causal=True, window=500, enable_gqa=True)
        largest = max(event.self_cpu_memory_usage for event in profile.events())
        # The map would take 8 n^2 bytes. The largest block are masks of 1024 queries over at most 1523 keys.
        assert largest < 8 * n * n / 20


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"query": [1.0]}, TypeError, "query must be a torch.Tensor"),
        ({"key": draw(2, 2, 7, 5)}, ValueError, "one head dimension; got query"),
        ({"key": draw(2, 3, 7, 6), "value": draw(2, 3, 7, 6)}, ValueError, "heads of query must be equal to"),
        ({"value": draw(2, 2, 6, 6)}, ValueError, "the same heads and length"),
        ({"value": draw(2, 2, 7, 6).float()}, ValueError, "one dtype"),
        ({"query": draw(2, 4, 5)}, ValueError, "query must have 4 dimensions"),
        ({"q_temperature": draw(3)}, ValueError, r"q_temperature must broadcast to shape \(2, 2, 5\)"),
        ({"v_temperature": draw(5)}, ValueError, r"v_temperature must broadcast to shape \(2, 2, 7\)"),
        ({"window": 3}, ValueError, "window needs is_causal=True"),
        ({"window": 0, "is_causal": True}, ValueError, "window must be an integer >= 1"),
        ({"attn_mask": torch.ones(5, 7, dtype=torch.long)}, ValueError, "attn_mask must be bool or floating"),
        ({"attn_mask": draw(4, 7)}, ValueError, "attn_mask must broadcast"),
        ({"backend": "triton"}, ValueError, "backend must be one of"),
        ({"scale": math.nan}, ValueError, "scale must be a finite number"),
        ({"scale": "1"}, TypeError, "scale must be a real number"),
        ({"backend": "flex", "dropout_p": 0.1}, ValueError, "dropout_p must be 0 with backend='flex'"),
    ],
)
def test_errors(change, error, match):
    arguments = {"query": draw(2, 2, 5, 6), "key": draw(2, 2, 7, 6), "value": draw(2, 2, 7, 6), **change}
    query, key, value = (arguments.pop(name) for name in ("query", "key", "value"))
    with pytest.raises(error, match=match):
        selective_attention(query, key, value, **arguments)
