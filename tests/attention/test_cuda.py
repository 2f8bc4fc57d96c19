"""The same numbers on a GPU, in every dtype and compiled."""

import pytest
import torch

from mlpapers.attention import (
    KVCache,
    SelectiveSelfAttention,
    SelectiveTransformerLM,
    convert_to_ssa,
    finetune,
    perplexity,
    selective_attention,
    ssa_parameters,
)

pytestmark = [
    pytest.mark.cuda,
    # What the compiler imports on its first use.
    pytest.mark.filterwarnings("ignore:.*script_method.* is deprecated:DeprecationWarning"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def disturbed(module, spread=0.3):
    with torch.no_grad():
        for seed, parameter in enumerate(ssa_parameters(module)):
            parameter.copy_(spread * draw(*parameter.shape, seed=seed))
    return module


@pytest.mark.parametrize("backend", ["sdpa", "flex", "math"])
@pytest.mark.parametrize("window", [None, 40])
# Against double precision: rounding of the inputs' dtype in values of size 4 and in logits.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-4), (torch.bfloat16, 6e-2)])
def test_attention(backend, window, dtype, tolerance):
    q, k, v = draw(2, 4, 256, 64), draw(2, 2, 256, 64, seed=1), draw(2, 2, 256, 64, seed=2)
    tq, tv = 1 + 0.5 * torch.tanh(draw(2, 4, 256, seed=3)), 1 + 0.5 * torch.tanh(draw(2, 2, 256, seed=4))
    options = {"is_causal": True, "window": window, "enable_gqa": True}
    rows = [part.to(dtype) for part in (q, k, v)]
    exact = selective_attention(
        *(part.double() for part in rows),
        q_temperature=tq.to(dtype),
        v_temperature=tv.to(dtype),
        backend="math",
        **options,
    )
    found = selective_attention(
        *(part.cuda() for part in rows),
        q_temperature=tq.cuda(),
        v_temperature=tv.cuda(),
        backend=backend,
        **options,
    )
    assert found.dtype == dtype
    assert float((found.cpu().double() - exact).abs().max()) < tolerance


@pytest.mark.parametrize("compiled", [False, True])
def test_layer_and_its_gradients(compiled):
    torch.manual_seed(0)
    layer = disturbed(SelectiveSelfAttention(64, 4, num_kv_heads=2))
    x, upstream = draw(2, 50, 64), draw(2, 50, 64, seed=1)
    found = []
    for device in ("cpu", "cuda"):
        layer = layer.to(device)
        layer.zero_grad()
        module = torch.compile(layer, fullgraph=True) if compiled and device == "cuda" else layer
        y = module(x.to(device))
        (y * upstream.to(device)).sum().backward()
        found.append([y.detach().cpu(), *(p.grad.cpu().clone() for p in layer.parameters())])
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3)


def test_half_precision_training_step():
    model = SelectiveTransformerLM(50, dim=64, random_state=0).cuda()
    ids = torch.randint(0, 50, (4, 64), device="cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = model(ids, ids)[1]
    loss.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    assert all(float(p.grad.abs().max()) > 0 for p in ssa_parameters(model))


def test_decoding_with_a_cache():
    torch.manual_seed(0)
    layer = disturbed(SelectiveSelfAttention(64, 4)).cuda()
    x = draw(2, 20, 64).cuda()
    cache = KVCache(20)
    parts = [layer(part, cache=cache) for part in x.split([7, 1, 12], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), layer(x), rtol=1e-3, atol=1e-3)


def test_large_memory_is_never_needed():
    # The map of 65,536 tokens would take 16 GiB a head.
    q = torch.randn(1, 1, 65_536, 64, device="cuda", dtype=torch.bfloat16)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    selective_attention(q, q, q, q_temperature=torch.ones(65_536, device="cuda"), is_causal=True)
    selective_attention(q, q, q, is_causal=True, window=1000)
    assert torch.cuda.max_memory_allocated() - before < 1 << 28


def test_converted_model(new_model, ids, disturb):
    model = new_model("llama").cuda()
    ids = ids.cuda()
    with torch.no_grad():
        before = model(ids).logits
        convert_to_ssa(model, max_fraction=None)
        assert torch.equal(model(ids).logits, before)
        whole = disturb(model)(ids).logits
        on_cpu = model.cpu()(ids.cpu()).logits
    torch.testing.assert_close(whole.cpu(), on_cpu, rtol=2e-3, atol=2e-3)


def test_fine_tuning_in_half_precision(new_model):
    model = new_model("qwen3")
    convert_to_ssa(model, max_fraction=None, freeze_base=True)
    text = torch.randint(3, 101, (2000,), generator=torch.Generator().manual_seed(0))
    result = finetune(
        model,
        text,
        n_steps=20,
        seq_len=64,
        ssa_lr=1e-2,
        eval_ids=text,
        device="cuda",
        dtype=torch.bfloat16,
        random_state=0,
    )
    assert result.history["eval_ppl"].iloc[-1] < result.history["eval_ppl"].iloc[0]
    assert perplexity(model, text, seq_len=64) > 1.0
