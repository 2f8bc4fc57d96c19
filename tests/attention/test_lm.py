"""The small language model: sizes, equal starts, generation."""

import pytest
import torch

from mlpapers.attention import KVCache, SelectiveTransformerLM, count_parameters, ssa_parameters


def ids(*shape, seed=0, n=30):
    return torch.randint(0, n, shape, generator=torch.Generator().manual_seed(seed))


def make(**options):
    model = SelectiveTransformerLM(30, **{"dim": 32, "num_layers": 2, "random_state": 0, **options})
    with torch.no_grad():
        for seed, parameter in enumerate(ssa_parameters(model)):
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    return model.eval()


def test_sizes_of_the_published_comparison():
    small = SelectiveTransformerLM(256, dim=96, num_layers=3, random_state=0)
    assert count_parameters(small) == {"base": 359_136, "ssa": 600, "fraction": 600 / 359_136}
    with torch.device("meta"):
        large = SelectiveTransformerLM(256, dim=384, num_layers=6, num_heads=6)
    assert count_parameters(large)["ssa"] == 4680


@pytest.mark.parametrize("attention", ["vanilla", "ssmax", "qknorm"])
def test_same_weights_for_every_kind(attention):
    models = [SelectiveTransformerLM(30, dim=32, attention=a, random_state=3) for a in ("ssa", attention)]
    other = dict(models[1].named_parameters())
    shared = [name for name, _ in models[0].named_parameters() if name in other and "_temp." not in name]
    assert len(shared) > 20
    assert all(torch.equal(models[0].get_parameter(name), other[name]) for name in shared)


def test_starts_as_the_plain_model():
    x = ids(2, 12)
    a, b = (SelectiveTransformerLM(30, dim=32, attention=k, random_state=1) for k in ("ssa", "vanilla"))
    assert torch.equal(a(x)[0], b(x)[0])


def test_loss_is_shifted_and_ignores():
    model, x = make(), ids(2, 9)
    labels = x.clone()
    labels[0, 3:] = -100
    logits, loss = model(x, labels)
    logp = torch.log_softmax(logits, -1)
    terms = [-logp[b, t - 1, x[b, t]] for b in range(2) for t in range(1, 9) if labels[b, t] != -100]
    torch.testing.assert_close(loss, torch.stack(terms).mean())


def test_generation_with_caches_equals_without():
    model, x = make(), ids(2, 5)
    found = model.generate(x, 6, temperature=0)
    for step in range(6):
        expected = model(found[:, : 5 + step])[0][:, -1].argmax(-1)
        assert torch.equal(found[:, 5 + step], expected)


def test_left_padded_generation_equals_unpadded():
    model, x = make(), ids(1, 5)
    padded = torch.cat([ids(1, 3, seed=4), x], 1)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])
    a = model.generate(x, 6, temperature=0)
    b = model.generate(padded, 6, temperature=0, attention_mask=mask)
    assert torch.equal(a[:, 5:], b[:, 8:])


def test_sampling_is_reproducible_and_respects_top_k():
    model, x = make(), ids(1, 5)
    draws = [model.generate(x, 8, top_k=2, random_state=7) for _ in range(2)]
    assert torch.equal(*draws)
    for step in range(8):
        best = model(draws[0][:, : 5 + step])[0][0, -1].topk(2).indices
        assert int(draws[0][0, 5 + step]) in best.tolist()


def test_training_mode_comes_back():
    model = make().train()
    model.generate(ids(1, 2), 2, random_state=0)
    assert model.training


def test_feature_table():
    model = make(token="feature")
    with pytest.raises(ValueError, match="feature must be given"):
        model(ids(1, 4))
    plain = make(token="feature")
    plain.set_token_feature(torch.zeros(30))
    model.set_token_feature(torch.linspace(-1, 1, 30))
    assert float((model(ids(1, 9))[0] - plain(ids(1, 9))[0]).detach().abs().max()) > 1e-4
    with pytest.raises(ValueError, match=r"table must have shape \(30,\)"):
        model.set_token_feature(torch.zeros(3))


def test_errors():
    model = make(max_len=8)
    with pytest.raises(ValueError, match="ids would make a sequence of 9; max_len is 8"):
        model(ids(1, 9))
    with pytest.raises(ValueError, match="max_new_tokens would make a sequence of 10"):
        model.generate(ids(1, 5), 5)
    with pytest.raises(ValueError, match="labels must have the shape of ids"):
        model(ids(1, 5), ids(1, 4))
    with pytest.raises(ValueError, match="ids must have an integer dtype"):
        model(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="attention must be one of"):
        make(attention="linear")
    for options in ({"token": "word"}, {"attention": "vanilla", "position": "cubic"}):
        with pytest.raises(ValueError, match=r"(token|position) must be one of"):
            make(**options)
    with pytest.raises(ValueError, match="ids must hold at least one token"):
        model.generate(ids(1, 0), 2)
    assert model(ids(2, 0))[0].shape == (2, 0, model.vocab_size)
    cache = [KVCache() for _ in range(2)]
    model(ids(1, 6), caches=cache)
    with pytest.raises(ValueError, match="sequence of 9"):
        model(ids(1, 3), caches=cache)
