"""Conversion of Hugging Face models: exact at first, the formula afterwards, and back."""

import copy
import math
import pickle
import threading

import pytest
import torch

from mlpapers.attention import (
    convert_to_ssa,
    count_parameters,
    merge_constant_temperatures,
    register_attention,
    revert_ssa,
    ssa_parameters,
    token_log_frequency,
)
from mlpapers.attention._families import attention_sites
from mlpapers.attention._hooks import _CALLS
from mlpapers.testing import check_result

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox", "phi3")
ABSOLUTE_POSITIONS = ("gpt2",)
ANY_FRACTION = {"max_fraction": None}
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:FutureWarning")


@torch.no_grad()
def logits(model, ids, **options):
    return model(ids, **options).logits


@pytest.mark.parametrize("family", FAMILIES)
class TestFamilies:
    def test_bit_identical_at_first_and_after_reverting(self, family, new_model, ids, disturb):
        model = new_model(family)
        before, names = logits(model, ids), set(model.state_dict())
        result = convert_to_ssa(model, temperatures=("q", "k", "v"), **ANY_FRACTION)
        check_result(result)
        assert result.identity_at_init
        assert result.family == family
        assert torch.equal(logits(model, ids), before)
        assert all(".ssa." in name for name in set(model.state_dict()) - names)
        assert names <= set(model.state_dict())
        assert not torch.allclose(logits(disturb(model), ids), before, atol=1e-3)
        revert_ssa(model)
        assert torch.equal(logits(model, ids), before)
        assert set(model.state_dict()) == names

    def test_map_follows_the_formula(self, family, new_model, ids, disturb):
        """A temperature of the query alone is what scaling the logits of the eager map gives."""
        model = new_model(family)
        model.set_attn_implementation("eager")
        plain = model(ids, output_attentions=True).attentions[0].detach()
        convert_to_ssa(model, temperatures=("q",), token="none", layers=[0], **ANY_FRACTION)
        disturb(model)
        scaled = model(ids, output_attentions=True).attentions[0].detach()
        alpha = attention_sites(model)[0].module.ssa.q.alpha.detach()
        n = torch.arange(1, 13).float()
        if family == "mistral":
            n = n.clamp_max(6)
        tau = 1 + alpha[:, None] * torch.log(n)
        # Logits up to a constant per row are the logarithms of the plain map.
        logs = tau[None, :, :, None] * torch.log(plain)
        expected = torch.softmax(logs.masked_fill(plain == 0, -math.inf), -1)
        torch.testing.assert_close(scaled, expected, rtol=1e-4, atol=1e-6)

    def test_token_part_is_that_of_the_raw_projection(self, family, new_model, ids, disturb):
        model = disturb_and_convert(new_model(family), disturb, temperatures=("v",), position="none")
        site = attention_sites(model)[0]
        seen = {}
        name = next(iter(site.projections)) if "qkv" in site.projections.values() else "v_proj"
        projection = getattr(site.module, name)
        handle = projection.register_forward_hook(lambda _m, a, o: seen.update(x=a[0].detach(), y=o.detach()))
        logits(model, ids)
        handle.remove()
        raw = torch.nn.functional.linear(
            seen["x"],
            projection.weight.T if family == "gpt2" else projection.weight,
            projection.bias,
        ).detach()
        fused = "qkv" in site.projections.values()
        raw_v = site.split(raw)["v"] if fused else raw.view(*raw.shape[:2], -1, site.head_dim)
        out_v = site.split(seen["y"])["v"] if fused else seen["y"].view(*raw.shape[:2], -1, site.head_dim)
        u = (torch.nn.functional.gelu(raw_v) * site.module.ssa.v.weight.detach()).sum(-1, keepdim=True)
        torch.testing.assert_close(out_v, raw_v * (1 + torch.tanh(u)), rtol=1e-4, atol=1e-5)

    def test_caches_give_the_same(self, family, new_model, ids, disturb):
        model = disturb_and_convert(new_model(family), disturb)
        whole, parts, cache = logits(model, ids), [], None
        for start, stop in [(0, 5), (5, 6), (6, 9), (9, 12)]:
            with torch.no_grad():
                out = model(ids[:, start:stop], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            parts.append(out.logits)
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-4)

    def test_left_padding_gives_the_same(self, family, new_model, ids, disturb):
        model = disturb_and_convert(new_model(family), disturb)
        whole = logits(model, ids)
        padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), ids], 1)
        mask = (torch.arange(15) >= 3).long().expand(2, 15)
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        found = logits(model, padded, attention_mask=mask, position_ids=positions)[:, 3:]
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)
        if family not in ABSOLUTE_POSITIONS:
            found = logits(model, padded, attention_mask=mask)[:, 3:]
            torch.testing.assert_close(found, whole, rtol=1e-4, atol=2e-4)

    def test_generation(self, family, new_model, ids, disturb):
        model = new_model(family)
        options = {"max_new_tokens": 6, "do_sample": False}
        before = model.generate(ids, **options)
        convert_to_ssa(model, **ANY_FRACTION)
        assert torch.equal(model.generate(ids, **options), before)
        disturb(model)
        # Greedy decoding with a cache is greedy decoding without.
        found = model.generate(ids, **options)
        step = logits(model, found[:, :-1])[:, -1].argmax(-1)
        stopped = (found[:, 12:-1] == 2).any(1)
        assert bool(((step == found[:, -1]) | stopped).all())

    def test_copies_and_pickles(self, family, new_model, ids, disturb):
        model = disturb_and_convert(new_model(family), disturb)
        whole = logits(model, ids)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(logits(other, ids), whole)
            # The copy has parameters and hooks of its own.
            with torch.no_grad():
                ssa_parameters(other)[0].add_(1.0)
            assert not torch.equal(logits(other, ids), whole)
            revert_ssa(other)
            assert torch.equal(logits(model, ids), whole)

    def test_recomputed_layers_give_the_same_gradients(self, family, new_model, ids, disturb):
        model = disturb_and_convert(new_model(family), disturb)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), ids], 1)
        mask = (torch.arange(15) >= 3).long().expand(2, 15)
        found = []
        for checkpointing in (False, True):
            model.train()
            if checkpointing:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            model.zero_grad()
            model(padded, attention_mask=mask, labels=padded, use_cache=False).loss.backward()
            found.append([p.grad.clone() for p in model.parameters()])
        for a, b in zip(*found):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def disturb_and_convert(model, disturb, **options):
    convert_to_ssa(model, **ANY_FRACTION, **options)
    return disturb(model)


class TestCalls:
    def test_nothing_is_left_behind_by_a_call_that_raises(self, new_model, ids, disturb):
        model = disturb_and_convert(new_model("llama"), disturb)
        expected = logits(model, ids)
        broken = model.model.layers[0].self_attn.o_proj.register_forward_hook(fail)
        with pytest.raises(RuntimeError, match="on purpose"):
            logits(model, ids, attention_mask=torch.ones_like(ids))
        assert _CALLS.layer is None
        assert _CALLS.model is None
        broken.remove()
        assert torch.equal(logits(model, ids), expected)

    def test_threads_do_not_meet(self, new_model, ids, disturb):
        model = disturb_and_convert(new_model("llama"), disturb)
        lengths = [3, 5, 8, 12]
        expected = [logits(model, ids[:, :n]) for n in lengths]
        found, barrier = {}, threading.Barrier(len(lengths))

        def work(n):
            barrier.wait()
            found[n] = [logits(model, ids[:, :n]) for _ in range(5)]

        threads = [threading.Thread(target=work, args=(n,)) for n in lengths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for n, whole in zip(lengths, expected):
            assert all(torch.allclose(each, whole, atol=1e-5) for each in found[n])

    def test_packed_documents_count_anew(self, new_model, ids, disturb):
        model = disturb_and_convert(new_model("llama"), disturb)
        positions = torch.arange(12).remainder(6)[None]
        tau = {}
        site = model.model.layers[0].self_attn
        module = site.ssa.q
        original = module.position_part
        module.position_part = lambda n, dtype: tau.setdefault("n", n) is None or original(n, dtype)
        logits(model, ids, position_ids=positions)
        assert tau["n"].tolist() == [[*range(1, 7)] * 2]

    def test_negative_positions(self, new_model, ids):
        model = new_model("llama")
        convert_to_ssa(model, **ANY_FRACTION)
        with pytest.raises(ValueError, match="position_ids must be at least 0; got -1"):
            logits(model, ids, position_ids=torch.arange(-1, 11)[None])

    @pytest.mark.parametrize("implementation", ["sdpa", "eager"])
    def test_every_implementation(self, new_model, ids, disturb, implementation):
        model = disturb_and_convert(new_model("llama"), disturb)
        expected = logits(model, ids)
        model.set_attn_implementation(implementation)
        torch.testing.assert_close(logits(model, ids), expected, rtol=1e-4, atol=1e-5)

    def test_compiled(self, new_model, ids, disturb):
        model = disturb_and_convert(new_model("llama"), disturb)
        expected = logits(model, ids)
        compiled = torch.compile(model, backend="eager")
        torch.testing.assert_close(logits(compiled, ids), expected, rtol=1e-4, atol=1e-5)


def fail(*_):
    raise RuntimeError("on purpose")


class TestOptions:
    @pytest.mark.parametrize("token", ["shared_all", "mlp", "feature", "none"])
    def test_token_kinds(self, new_model, ids, disturb, token):
        model = new_model("qwen3")
        before = logits(model, ids)
        options = {"token_feature": token_log_frequency(ids.flatten(), 101)} if token == "feature" else {}
        convert_to_ssa(model, token=token, **ANY_FRACTION, **options)
        assert torch.equal(logits(model, ids), before)
        assert not torch.allclose(logits(disturb(model), ids), before, atol=1e-4)

    def test_kinds_that_are_no_identity_say_so(self, new_model):
        assert not convert_to_ssa(new_model("llama"), position="sigmoid", **ANY_FRACTION).identity_at_init

    def test_chosen_layers_and_frozen_base(self, new_model):
        model = new_model("llama")
        result = convert_to_ssa(model, layers=[1], freeze_base=True, **ANY_FRACTION)
        assert all(name.startswith("model.layers.1.") for name in result.parameter_names)
        trained = [p for p in model.parameters() if p.requires_grad]
        assert {id(p) for p in trained} == {id(p) for p in ssa_parameters(model)}
        revert_ssa(model)
        assert all(p.requires_grad for p in model.parameters())

    def test_counts(self, new_model):
        model = new_model("llama")
        n_base = sum(p.numel() for p in model.parameters())
        result = convert_to_ssa(model, **ANY_FRACTION)
        # Two layers; (weights + alpha) of 4 query and 2 value heads of width 16.
        assert result.n_new_parameters == 2 * (4 + 2) * 17
        assert result.n_base_parameters == n_base
        assert count_parameters(model) == {
            "base": n_base,
            "ssa": result.n_new_parameters,
            "fraction": result.fraction,
        }

    def test_errors(self, new_model):
        model = new_model("gpt2")
        with pytest.raises(ValueError, match="allows 17 new parameters; this conversion needs"):
            convert_to_ssa(model, max_fraction=1e-4)
        assert not hasattr(model.transformer.h[0].attn, "ssa")
        with pytest.raises(ValueError, match="must be converted by convert_to_ssa first"):
            revert_ssa(model)
        convert_to_ssa(model, **ANY_FRACTION)
        with pytest.raises(ValueError, match="must not be converted already"):
            convert_to_ssa(model)
        with pytest.raises(ValueError, match="one of the families llama, mistral, qwen2"):
            convert_to_ssa(torch.nn.Linear(2, 2))
        with pytest.raises(ValueError, match="temperatures must name at least one"):
            convert_to_ssa(new_model("llama"), temperatures=())
        with pytest.raises(ValueError, match="token_feature must be given"):
            convert_to_ssa(new_model("llama"), token="feature")
        with pytest.raises(ValueError, match=r"layers must lie in \[0, 2\)"):
            convert_to_ssa(new_model("llama"), layers=[2])
        with pytest.raises(ValueError, match="layers must name at least one"):
            convert_to_ssa(new_model("llama"), layers=[])


class TestMerging:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_constants_move_into_the_weights(self, family, new_model, ids):
        model = new_model(family)
        convert_to_ssa(model, bias=True, **ANY_FRACTION)
        with torch.no_grad():
            for site in attention_sites(model):
                site.module.ssa.q.bias.copy_(torch.tensor([0.5, -0.3, 0.0, 0.9]))
                site.module.ssa.v.bias[0] = 0.7
                # This head is not constant, and stays.
                site.module.ssa.q.alpha[3] = 0.1
        before = logits(model, ids)
        n_merged = merge_constant_temperatures(model)
        query_heads = 0 if family == "qwen3" else 2
        assert n_merged == 2 * (query_heads + 1)
        torch.testing.assert_close(logits(model, ids), before, rtol=1e-4, atol=1e-4)
        assert merge_constant_temperatures(model) == 0

    def test_yarn(self, new_model, ids):
        model = new_model("llama")
        convert_to_ssa(
            model, temperatures=("q",), token="none", position="yarn", alpha_init=4.0, **ANY_FRACTION
        )
        before = logits(model, ids)
        assert merge_constant_temperatures(model) == 8
        torch.testing.assert_close(logits(model, ids), before, rtol=1e-4, atol=1e-4)


def test_registered_implementation(new_model, ids):
    model = new_model("llama")
    plain = logits(model, ids)
    model.set_attn_implementation(register_attention())
    assert torch.equal(logits(model, ids), plain)
    for layer in model.model.layers:
        layer.self_attn.ssa_alpha = torch.full((4,), 0.4)
    found = logits(model, ids)
    other = new_model("llama")
    convert_to_ssa(other, temperatures=("q",), token="none", alpha_init=0.4, **ANY_FRACTION)
    torch.testing.assert_close(found, logits(other, ids), rtol=1e-4, atol=1e-5)
    assert pickle.loads(pickle.dumps(model)) is not None
    with pytest.raises(ValueError, match="name must be an identifier"):
        register_attention("a name")


def test_feature_table_is_standardised():
    table = token_log_frequency(torch.tensor([1, 1, 1, 2]), 4)
    logs = torch.tensor([0.0, math.log(4), math.log(2), 0.0])
    torch.testing.assert_close(table, (logs - logs.mean()) / logs.std(correction=0))
    assert token_log_frequency(torch.tensor([0, 1]), 2).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match=r"token_ids must lie in \[0, 3\)"):
        token_log_frequency(torch.tensor([3]), 3)
