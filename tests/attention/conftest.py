"""Small Hugging Face models of every supported family."""

import functools

import pytest
import torch

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox", "phi3")
VOCABULARY = 101


@functools.cache
def _state(family):
    model = _new(family)
    return {name: value.clone() for name, value in model.state_dict().items()}


def _new(family):
    import transformers as hf

    sizes = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "initializer_range": 0.2,
    }
    grouped = {**sizes, "num_key_value_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if family == "llama":
            return hf.LlamaForCausalLM(hf.LlamaConfig(**grouped))
        if family == "mistral":
            return hf.MistralForCausalLM(hf.MistralConfig(**grouped, sliding_window=6))
        if family == "qwen2":
            return hf.Qwen2ForCausalLM(hf.Qwen2Config(**grouped))
        if family == "qwen3":
            return hf.Qwen3ForCausalLM(hf.Qwen3Config(**grouped, head_dim=16))
        if family == "phi3":
            return hf.Phi3ForCausalLM(hf.Phi3Config(**grouped))
        if family == "gpt_neox":
            return hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**sizes))
        return hf.GPT2LMHeadModel(
            hf.GPT2Config(
                n_embd=64,
                n_layer=2,
                n_head=4,
                vocab_size=VOCABULARY,
                bos_token_id=1,
                eos_token_id=2,
                pad_token_id=0,
                initializer_range=0.2,
            )
        )


@pytest.fixture
def new_model():
    """Make a model of a family, the same weights at every call, in evaluation mode."""

    def make(family):
        model = _new(family)
        model.load_state_dict(_state(family))
        return model.eval()

    return make


@pytest.fixture
def ids():
    """Tokens (2, 12)."""
    return torch.randint(3, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def disturb():
    """Move all temperatures of a model far from 1."""
    from mlpapers.attention import ssa_parameters

    def move(model, spread=0.3):
        with torch.no_grad():
            for seed, parameter in enumerate(ssa_parameters(model)):
                noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
                parameter.copy_(spread * noise)
        return model

    return move
