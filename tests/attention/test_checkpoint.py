"""Checkpoints of temperatures: small, complete, refused where they don't fit."""

import pytest
import torch
from safetensors.torch import save_file

from mlpapers.attention import (
    convert_to_ssa,
    load_ssa,
    load_ssa_state_dict,
    save_ssa,
    ssa_state_dict,
    token_log_frequency,
)


def logits(model, ids):
    with torch.no_grad():
        return model(ids).logits


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
@pytest.mark.parametrize("token", ["shared", "feature"])
def test_round_trip_into_a_fresh_model(family, token, new_model, ids, disturb, tmp_path):
    model = new_model(family)
    table = token_log_frequency(ids.flatten(), 101) if token == "feature" else None
    convert_to_ssa(model, token=token, layers=[1], token_feature=table, max_fraction=None)
    disturb(model)
    path = save_ssa(model, tmp_path / "ssa.safetensors")
    assert path.stat().st_size < 20_000
    fresh = new_model(family)
    load_ssa(fresh, path)
    assert torch.equal(logits(fresh, ids), logits(model, ids))
    # A second time, into a model that is converted.
    disturb(fresh, spread=1.0)
    load_ssa(fresh, path)
    assert torch.equal(logits(fresh, ids), logits(model, ids))


@pytest.mark.parametrize(
    ("option", "kind"), [("position", "gompertz"), ("token", "shared_all")], ids=["position", "token"]
)
def test_parameters_of_another_kind_are_refused(option, kind, new_model, ids, disturb, tmp_path):
    model = new_model("llama")
    convert_to_ssa(model, **{option: kind}, max_fraction=None)
    path = save_ssa(disturb(model), tmp_path / "ssa.safetensors")
    other = new_model("llama")
    convert_to_ssa(other, max_fraction=None)
    before = logits(other, ids)
    # Names and shapes are the same.
    with pytest.raises(ValueError, match=f"path holds temperatures with {option}='{kind}'"):
        load_ssa(other, path)
    assert torch.equal(logits(other, ids), before)


def test_swapped_arguments_are_named(new_model, tmp_path):
    model, path = convert_to_ssa(new_model("llama"), max_fraction=None).model, tmp_path / "ssa.safetensors"
    with pytest.raises(
        TypeError, match="path must be a path, the argument after the model; got LlamaForCausalLM"
    ):
        save_ssa(path, model)
    with pytest.raises(
        TypeError, match="path must be a path, the argument after the model; got LlamaForCausalLM"
    ):
        load_ssa(path, model)


def test_a_checkpoint_brings_its_token_feature(new_model, ids, disturb, tmp_path):
    model = new_model("llama")
    table = token_log_frequency(ids.flatten(), 101)
    convert_to_ssa(model, token="feature", token_feature=table, max_fraction=None)
    path = save_ssa(disturb(model), tmp_path / "ssa.safetensors")
    other = new_model("llama")
    convert_to_ssa(other, token="feature", token_feature=torch.zeros(101), max_fraction=None)
    load_ssa(other, path)
    assert torch.equal(logits(other, ids), logits(model, ids))


def test_a_model_that_does_not_fit_is_left_as_it_was(new_model, tmp_path):
    model = new_model("llama")
    convert_to_ssa(model, max_fraction=None)
    path = save_ssa(model, tmp_path / "ssa.safetensors")
    settings = {**model.config.to_dict(), "num_hidden_layers": 3}
    deeper = type(model)(type(model.config)(**settings))
    names = set(deeper.state_dict())
    with pytest.raises(ValueError, match="sd must have the temperatures of the model"):
        load_ssa(deeper, path)
    assert set(deeper.state_dict()) == names
    convert_to_ssa(deeper, max_fraction=None)


def test_state_dict(new_model, disturb):
    model = new_model("llama")
    convert_to_ssa(model, max_fraction=None)
    state = {name: value.clone() for name, value in ssa_state_dict(disturb(model)).items()}
    assert set(state) == {
        f"model.layers.{layer}.self_attn.ssa.{role}.{what}"
        for layer in range(2)
        for role in "qv"
        for what in ("weight", "alpha")
    }
    disturb(model, spread=0.0)
    short = dict(list(state.items())[1:])
    with pytest.raises(ValueError, match=r"missing: 'model.layers.0.self_attn.ssa.q"):
        load_ssa_state_dict(model, short)
    with pytest.raises(ValueError, match="not in the model: 'other'"):
        load_ssa_state_dict(model, {**state, "other": torch.zeros(1)})
    with pytest.raises(ValueError, match="must have shape"):
        load_ssa_state_dict(model, {**state, next(iter(state)): torch.zeros(3)})
    assert all(bool((value == 0).all()) for value in ssa_state_dict(model).values())
    load_ssa_state_dict(model, short, strict=False)
    load_ssa_state_dict(model, state)
    assert all(torch.equal(value, state[name]) for name, value in ssa_state_dict(model).items())


def test_refusals(new_model, tmp_path):
    model = new_model("llama")
    with pytest.raises(ValueError, match="must be converted by convert_to_ssa first"):
        save_ssa(model, tmp_path / "x")
    convert_to_ssa(model, max_fraction=None)
    path = save_ssa(model, tmp_path / "x")
    with pytest.raises(ValueError, match="holds temperatures of the family 'llama'; the model is 'gpt2'"):
        load_ssa(new_model("gpt2"), path)
    with pytest.raises(FileNotFoundError, match="path names no file"):
        load_ssa(model, tmp_path / "missing")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(ValueError, match="path must be a safetensors file"):
        load_ssa(model, tmp_path / "text")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(ValueError, match="path must be a checkpoint of save_ssa"):
        load_ssa(model, tmp_path / "foreign")
