"""The layer: caches, padding, windows, groups, against its own full forward pass and against torch's "
"attention."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.attention import KVCache, SelectiveSelfAttention
from mlpapers.attention._rope import rotate, rotation


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make(seed=0, spread=0.5, **options):
    """A layer with weights and temperatures far from their initial values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = SelectiveSelfAttention(16, 4, **{"num_kv_heads": 2, **options})
        for name, parameter in layer.named_parameters():
            if "_temp" in name:
                torch.nn.init.normal_(parameter, std=spread)
    return layer


class TestRotation:
    def test_products_depend_on_distance_only(self):
        q, k = draw(1, 1, 1, 8, dtype=torch.float64), draw(1, 1, 1, 8, seed=1, dtype=torch.float64)

        def product(i, j):
            turned = [
                rotate(x, *(part.double() for part in rotation(torch.tensor([p]), 8, 1e4)))
                for x, p in ((q, i), (k, j))
            ]
            return float((turned[0] * turned[1]).sum())

        # Angles are float32: 6e-8 relative of at most 107 radians.
        assert product(7, 3) == pytest.approx(product(107, 103), abs=1e-4)
        assert product(5, 5) == pytest.approx(float((q * k).sum()), rel=1e-6)

    def test_temperatures_commute_with_it(self):
        x = draw(1, 2, 3, 8)
        cos, sin = rotation(torch.arange(3), 8, 1e4)
        torch.testing.assert_close(rotate(0.7 * x, cos, sin), 0.7 * rotate(x, cos, sin))

    @pytest.mark.parametrize("shape", [(3,), (2, 3)])
    def test_operator_of_compiled_code(self, shape):
        positions = torch.arange(6)[: torch.Size(shape).numel()].view(shape)
        torch.library.opcheck(torch.ops.mlpapers.rotation.default, (positions, 8, 1e4))
        torch.testing.assert_close(
            torch.ops.mlpapers.rotation(positions, 8, 1e4), rotation(positions, 8, 1e4)
        )


class TestAgainstTorch:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("batch_first", [True, False])
    def test_from_multihead(self, bias, batch_first):
        torch.manual_seed(0)
        mha = torch.nn.MultiheadAttention(16, 4, bias=bias, batch_first=batch_first)
        if bias:
            torch.nn.init.normal_(mha.in_proj_bias)
        layer = SelectiveSelfAttention.from_multihead(mha)
        x = draw(2, 7, 16)
        given_x = x if batch_first else x.transpose(0, 1)
        padding = torch.tensor([[False] * 7, [False] * 4 + [True] * 3])
        y, weights = mha(given_x, given_x, given_x, key_padding_mask=padding, average_attn_weights=False)
        ours, our_weights = layer(x, attention_mask=~padding, need_weights=True)
        torch.testing.assert_close(ours, y if batch_first else y.transpose(0, 1), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(our_weights, weights, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(layer(x, attention_mask=~padding), ours, rtol=1e-5, atol=1e-6)

    def test_from_multihead_refuses_other_kinds(self):
        with pytest.raises(TypeError, match=r"mha must be an nn.MultiheadAttention; got Linear"):
            SelectiveSelfAttention.from_multihead(torch.nn.Linear(2, 2))
        with pytest.raises(ValueError, match="keys and values as wide as queries"):
            SelectiveSelfAttention.from_multihead(torch.nn.MultiheadAttention(16, 4, kdim=8))


class TestTemperatures:
    def test_new_layers_are_plain_to_the_last_bit(self):
        x = draw(2, 9, 16)
        ours, plain = make(spread=0.0), make(temperatures=())
        plain.load_state_dict(ours.state_dict(), strict=False)
        assert torch.equal(ours(x), plain(x))

    @pytest.mark.parametrize("qk_norm", [False, True])
    def test_map_is_the_softmax_of_scaled_logits(self, qk_norm):
        layer = make(qk_norm=qk_norm, rope=False, temperatures=("q", "k", "v")).double()
        x = draw(2, 6, 16, dtype=torch.float64)
        tau = layer.temperatures(x)
        heads = {role: getattr(layer, f"{role}_proj")(x).view(2, 6, -1, 4).transpose(1, 2) for role in "qkv"}
        if qk_norm:
            heads["q"], heads["k"] = layer.q_norm(heads["q"]), layer.k_norm(heads["k"])
        q, k, v = (heads[role] * tau[role][..., None] for role in "qkv")
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        logits = (q @ k.mT / 2.0).masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf)
        expected = layer.o_proj((logits.softmax(-1) @ v).transpose(1, 2).reshape(2, 6, 16))
        torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-12)

    def test_features_are_those_before_the_rotation(self):
        layer = make()
        x = draw(1, 5, 16)
        a = layer.temperatures(x)["q"]
        b = layer.temperatures(x, position_ids=torch.arange(100, 105))["q"]
        log_n = torch.log(torch.arange(1, 6).float()), torch.log(torch.arange(101, 106).float())
        moved = layer.q_temp.alpha[:, None] * (log_n[1] - log_n[0])
        torch.testing.assert_close(b - a, moved[None], rtol=1e-5, atol=1e-5)

    def test_n_without_causality_is_the_number_of_real_tokens(self):
        layer = make(causal=False, token="none")
        mask = torch.tensor([[1, 1, 1, 1, 0]])
        n = layer._count(mask.bool(), None, 1, 5, 0, mask.device)[1]
        assert n.tolist() == [[4] * 5]

    def test_window_clips_n(self):
        clip, absolute = make(window=3, token="none"), make(window=3, token="none", window_n="absolute")
        absolute.load_state_dict(clip.state_dict())
        x = draw(1, 6, 16)
        a, b = clip.temperatures(x)["q"], absolute.temperatures(x)["q"]
        torch.testing.assert_close(a[..., :3], b[..., :3])
        torch.testing.assert_close(a[..., 3:], a[..., 2:3].expand(1, 4, 3))
        assert float((b[..., 3:] - a[..., 3:]).detach().abs().min()) > 0
        torch.testing.assert_close(clip.temperatures(x)["v"], absolute.temperatures(x)["v"])


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.sampled_from([None, 3]), st.booleans())
@settings(max_examples=20)
def test_chunks_with_a_cache_equal_the_whole(sizes, window, padded):
    layer = make(window=window)
    total = sum(sizes)
    x = draw(2, total, 16)
    mask = torch.ones(2, total, dtype=torch.long)
    if padded:
        mask[1, : total // 2] = 0
    whole = layer(x, attention_mask=mask)
    cache, parts, start = KVCache(), [], 0
    for size in sizes:
        stop = start + size
        parts.append(layer(x[:, start:stop], attention_mask=mask[:, :stop], cache=cache))
        start = stop
    real = mask.bool()
    torch.testing.assert_close(torch.cat(parts, 1)[real], whole[real], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [None, 3])
def test_left_padding_changes_nothing(window):
    layer = make(window=window)
    x = draw(1, 6, 16)
    padded = torch.cat([draw(1, 4, 16, seed=9), x], 1)
    mask = torch.tensor([[0] * 4 + [1] * 6])
    torch.testing.assert_close(layer(padded, attention_mask=mask)[:, 4:], layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["sdpa", "flex", "math"])
def test_window_is_a_band(backend):
    layer = make(window=3, backend=backend)
    x = draw(1, 8, 16)
    _, weights = layer(x, need_weights=True)
    distance = torch.arange(8)[:, None] - torch.arange(8)
    outside = (distance < 0) | (distance >= 3)
    assert float(weights[..., outside].detach().abs().max()) == 0.0
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4, 8))
    torch.testing.assert_close(layer(x), layer(x, need_weights=True)[0], rtol=1e-4, atol=1e-5)


def test_documents_in_one_row_count_anew():
    layer = make(token="none")
    positions = torch.tensor([0, 1, 2, 0, 1])
    tau = layer.temperatures(draw(1, 5, 16), position_ids=positions)["q"]
    torch.testing.assert_close(tau[..., 3:], tau[..., :2])


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("documents", [False, True])
def test_compiled_is_the_same(qk_norm, documents):
    layer = make(qk_norm=qk_norm)
    x = draw(2, 9, 16)
    # Every row its own positions, or one count for all of them.
    options = {"position_ids": torch.tensor([[*range(9)], [*range(4), *range(5)]])} if documents else {}
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, **options), layer(x, **options), rtol=1e-5, atol=1e-6)
    grads = []
    for module in (layer, compiled):
        layer.zero_grad()
        (module(x, **options) * draw(2, 9, 16, seed=1)).sum().backward()
        grads.append([p.grad.clone() for p in layer.parameters()])
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_checkpointing_is_the_same():
    layer = make()
    x = draw(2, 9, 16, seed=3).requires_grad_()
    plain = torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
    again = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
    for a, b in zip(torch.autograd.grad(again.square().sum(), [x, *layer.parameters()]), plain):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_copies_and_pickles():
    layer, x = make(qk_norm=True, window=4), draw(1, 5, 16)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x))


def test_one_token_and_dropout():
    layer = make(dropout=0.5)
    x = draw(1, 1, 16)
    assert layer(x).shape == (1, 1, 16)
    layer.eval()
    assert torch.equal(layer(x), layer(x))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_kv_heads": 3}, "num_heads must be a multiple of num_kv_heads; got 4 and 3"),
        ({"head_dim": 3}, "head_dim must be even with rope=True; got 3"),
        ({"temperatures": ("q", "o")}, "temperatures must be a subset of"),
        ({"window": 4, "causal": False}, "window needs causal=True"),
        ({"dtype": torch.int64}, "dtype must be a floating torch.dtype; got torch.int64"),
        ({"dtype": "float32"}, "dtype must be a floating torch.dtype; got 'float32'"),
        ({"token": "none", "position": "cubic"}, "position must be one of"),
        ({"window_n": "both"}, "window_n must be one of"),
        ({"backend": "eager"}, "backend must be one of"),
        ({"embed_dim": 18}, "embed_dim must be a multiple of num_heads"),
    ],
)
def test_constructor_errors(options, match):
    with pytest.raises(ValueError, match=match):
        SelectiveSelfAttention(**{"embed_dim": 16, "num_heads": 4, **options})


def test_call_errors():
    layer, x = make(), draw(2, 5, 16)
    with pytest.raises(TypeError, match=r"x must be a torch.Tensor"):
        layer([[1.0]])
    with pytest.raises(ValueError, match=r"x must have shape \(B, T, 16\); got \(2, 5, 8\)"):
        layer(x[..., :8])
    with pytest.raises(ValueError, match=r"attention_mask must have shape \(B, S\) = \(2, 5\)"):
        layer(x, attention_mask=torch.ones(2, 4))
    with pytest.raises(ValueError, match="position_ids must be at least 0; got -1"):
        layer(x, position_ids=torch.arange(-1, 4))
    with pytest.raises(ValueError, match="position_ids must have shape"):
        layer(x, position_ids=torch.arange(4))
    with pytest.raises(ValueError, match="feature must be given"):
        make(token="feature")(x)
    with pytest.raises(ValueError, match=r"feature must have shape \(2, 5\); got \(2, 4\)"):
        make(token="feature")(x, feature=draw(2, 4))
    with pytest.raises(TypeError, match="cache must be a KVCache; got list"):
        layer(x, cache=[])
    with pytest.raises(TypeError, match="temperatures must be a sequence"):
        make(temperatures=3)


@pytest.mark.parametrize("token", ["shared", "mlp"])
def test_no_token_at_all(token):
    layer, empty = make(token=token, window=2), draw(2, 0, 16)
    y, weights = layer(empty, need_weights=True)
    assert y.shape == (2, 0, 16)
    assert weights.shape == (2, 4, 0, 0)
    cache = KVCache()
    pieces = torch.cat([layer(part, cache=cache) for part in (empty, draw(2, 3, 16), empty)], 1)
    torch.testing.assert_close(pieces, layer(draw(2, 3, 16)))


def test_weights_of_a_token_in_a_window_of_one():
    layer, x, cache = make(window=1), draw(1, 4, 16), KVCache()
    layer(x[:, :3], cache=cache)
    _, weights = layer(x[:, 3:], cache=cache, need_weights=True)
    assert weights[0, :, 0].tolist() == [[0.0, 0.0, 0.0, 1.0]] * 4
