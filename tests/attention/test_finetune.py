"""Perplexity against the definition; training moves what it should, and nothing else."""

import math

import pytest
import torch

from mlpapers.attention import (
    SelectiveTransformerLM,
    convert_to_ssa,
    finetune,
    perplexity,
    ssa_parameters,
)
from mlpapers.testing import check_result


def text(n, seed=0, vocabulary=30):
    return torch.randint(3, vocabulary, (n,), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model():
    return SelectiveTransformerLM(30, dim=32, num_layers=2, random_state=0)


@pytest.mark.parametrize(
    ("n", "seq_len", "stride"), [(40, 8, None), (43, 8, None), (40, 8, 3), (5, 8, None), (9, 8, 8)]
)
def test_perplexity(model, n, seq_len, stride):
    ids = text(n)
    predicted, terms = 0, []
    for start in range(0, n, stride or seq_len):
        logp = torch.log_softmax(model(ids[None, start : start + seq_len])[0][0], -1)
        for t in range(start + 1, min(start + seq_len, n)):
            if t > predicted:
                terms.append(-float(logp[t - start - 1, ids[t]].detach()))
                predicted = t
        if start + seq_len >= n:
            break
    expected = math.exp(sum(terms) / len(terms))
    assert perplexity(model, ids, seq_len=seq_len, stride=stride, batch_size=3) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("trainable", ["ssa", "all", "ssa+all"])
def test_what_is_trained(model, trainable):
    before = {name: value.clone() for name, value in model.named_parameters()}
    ssa = {id(p) for p in ssa_parameters(model)}
    frozen = next(iter(model.blocks[0].mlp.parameters()))
    frozen.requires_grad_(False)
    model.eval()
    ids = text(300)
    result = finetune(
        model,
        ids,
        trainable=trainable,
        n_steps=4,
        seq_len=16,
        eval_ids=ids[:80],
        eval_every=2,
        random_state=0,
    )
    check_result(result)
    assert result.history["step"].tolist() == [0, 2, 4]
    moved = [p for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    wanted = {"ssa": {True}, "all": {False}, "ssa+all": {True, False}}[trainable]
    assert {id(p) in ssa for p in moved} == wanted
    assert result.n_trainable == sum(p.numel() for p in model.parameters() if (id(p) in ssa) in wanted)
    assert not model.training
    assert not frozen.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_it_learns_and_is_reproducible(new_model):
    ids = text(400, vocabulary=101) % 20 + 3
    found = []
    for _ in range(2):
        model = new_model("llama")
        convert_to_ssa(model, max_fraction=None)
        result = finetune(
            model, ids, n_steps=15, seq_len=32, ssa_lr=3e-2, eval_ids=ids, eval_every=15, random_state=3
        )
        found.append(result.history["eval_loss"].tolist())
    assert found[0] == found[1]
    assert found[0][-1] < found[0][0]


def test_errors(model):
    with pytest.raises(ValueError, match="token_ids must have at least seq_len=512 tokens; got 9"):
        finetune(model, text(9))
    with pytest.raises(ValueError, match="trainable must be one of"):
        finetune(model, text(600), trainable="everything")
    plain = SelectiveTransformerLM(30, dim=32, attention="vanilla")
    with pytest.raises(ValueError, match="model has no temperatures"):
        finetune(plain, text(600))
    with pytest.raises(TypeError, match=r"model must be an nn.Module"):
        finetune("model", text(600))
    with pytest.raises(ValueError, match="token_ids must have at least 2 tokens"):
        perplexity(model, text(1))
    with pytest.raises(ValueError, match="token_ids must have an integer dtype"):
        perplexity(model, torch.zeros(5))
    with pytest.raises(ValueError, match=r"stride must be an integer in \[1, 512\]"):
        perplexity(model, text(9), stride=600)
    with pytest.raises(TypeError, match=r"model must be an nn.Module"):
        perplexity("model", text(9))
    for wrong, match in (
        (text(1), "eval_ids must have at least 2"),
        (torch.zeros(5), "eval_ids must have an"),
    ):
        with pytest.raises(ValueError, match=match):
            finetune(model, text(600), eval_ids=wrong)
    with pytest.raises(ValueError, match=r"dtype must be a floating torch.dtype"):
        finetune(model, text(600), dtype=torch.int32)
