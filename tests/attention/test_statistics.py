"""Statistics in chunks against the explicit maps of the models themselves."""

import numpy as np
import pytest
import torch

from mlpapers.attention import (
    SelectiveSelfAttention,
    SelectiveTransformerLM,
    attention_entropy,
    attention_statistics,
    convert_to_ssa,
    plot_dilution,
    plot_temperatures,
    spikiness,
)
from mlpapers.testing import check_result

FAMILIES = ("llama", "mistral", "qwen3", "gpt2", "gpt_neox", "phi3")


def assert_matches(stats, layer, weights, real):
    """`weights` (B, H, T, T) in double precision; means over real rows."""
    weights = weights.double()
    visible = weights > 0
    first = real.int().argmax(1)
    sink = torch.stack([row[:, :, i] for row, i in zip(weights, first)])
    measures = {
        "entropy": attention_entropy(weights),
        "spikiness": spikiness(weights, visible),
        "top1_mass": weights.amax(-1),
        "sink_mass": sink,
    }
    share = real[:, None].double()
    for name, values in measures.items():
        mean = torch.where(share > 0, values, 0.0).sum(0) / share.sum(0)
        # float32 logits of both sides.
        np.testing.assert_allclose(getattr(stats, name)[layer], mean, rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family, new_model, ids, disturb):
    model = new_model(family)
    convert_to_ssa(model, max_fraction=None)
    disturb(model)
    stats = attention_statistics(model, ids, chunk_size=5)
    check_result(stats)
    implementation = model.config._attn_implementation
    assert implementation == "sdpa"
    model.set_attn_implementation("eager")
    maps = model(ids, output_attentions=True).attentions
    for layer, weights in enumerate(maps):
        assert_matches(stats, layer, weights.detach(), torch.ones_like(ids).bool())
    assert not (stats.tau_q == 1).all()


def test_padding(new_model, ids):
    model = new_model("llama")
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    stats = attention_statistics(model, {"input_ids": ids, "attention_mask": mask}, chunk_size=3)
    model.set_attn_implementation("eager")
    maps = model(ids, attention_mask=mask, output_attentions=True).attentions
    for layer, weights in enumerate(maps):
        assert_matches(stats, layer, weights.detach(), mask.bool())
    assert (stats.tau_q == 1).all()


def test_layers_and_norms():
    torch.manual_seed(0)
    layer = SelectiveSelfAttention(16, 4, num_kv_heads=2)
    torch.nn.init.normal_(layer.q_temp.weight)
    x = torch.randn(2, 9, 16)
    stats = attention_statistics(layer, x, chunk_size=4)
    _, weights = layer(x, need_weights=True)
    assert_matches(stats, 0, weights.detach(), torch.ones(2, 9).bool())
    for head in range(4):
        query = layer.q_proj.weight[4 * head : 4 * head + 4]
        key = layer.k_proj.weight[4 * (head // 2) : 4 * (head // 2) + 4]
        expected = float(torch.linalg.matrix_norm(query.T @ key, 2).detach())
        assert stats.norms[0, head] == pytest.approx(expected, rel=1e-4)
    expected = layer.temperatures(x)["q"].mean(0).detach()
    np.testing.assert_allclose(stats.tau_q[0], expected, rtol=1e-5)


def test_chunks_do_not_matter():
    model = SelectiveTransformerLM(30, dim=32, num_layers=2, random_state=0)
    ids = torch.arange(20).reshape(1, 20)
    a, b = (attention_statistics(model, ids, chunk_size=size) for size in (3, 100))
    np.testing.assert_allclose(a.entropy, b.entropy, rtol=1e-5, atol=1e-6)
    assert a.visible[0].tolist() == list(range(1, 21))


def test_plots_and_errors():
    model = SelectiveTransformerLM(30, dim=32, num_layers=2, random_state=0)
    stats = attention_statistics(model, torch.arange(6).reshape(1, 6))
    assert plot_dilution(stats).has_data()
    assert plot_temperatures(list("abc$\nf"), stats.tau_q[0]).has_data()
    with pytest.raises(ValueError, match="tau must have one column per token, 2"):
        plot_temperatures(["a", "b"], [1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="stats must be AttentionStats"):
        plot_dilution(model)
    with pytest.raises(ValueError, match="inputs must have the key 'input_ids'"):
        attention_statistics(model, {"ids": torch.zeros(1, 2)})
    with pytest.raises(ValueError, match="one of the families"):
        attention_statistics(torch.nn.Linear(2, 2), torch.zeros(1, 2))
