"""A transformers attention implementation with position temperatures."""

from __future__ import annotations

from typing import Any

import torch

from mlpapers.attention._fold import scale_rows
from mlpapers.attention.temperature import POSITION_KINDS, position_temperature
from mlpapers.core.validation import check_choice

__all__ = ["register_attention"]


def register_attention(name: str = "mlpapers_ssa", position: str = "linear") -> str:
    r"""Register an attention implementation for transformers: sdpa with queries times :math:`\tau^{pos}(n)`.

    Afterwards ``AutoModel.from_pretrained(..., attn_implementation=name)`` takes it. Each attention module's
    attribute ``ssa_alpha``, a number or a tensor of shape (H_q,), is its alpha; without it attention is
    plain. n counts the keys before a query, cached ones included; padding is counted too, so that batches
    padded on the left need :func:`convert_to_ssa` instead.

    Parameters
    ----------
    name : str, default="mlpapers_ssa"
    position : str, default="linear"
        Kind, as in :func:`position_temperature`.

    Returns
    -------
    name : str

    Examples
    --------
    >>> from transformers import AutoModelForCausalLM, LlamaConfig
    >>> from mlpapers.attention import register_attention
    >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    >>> config = LlamaConfig(vocab_size=16, bos_token_id=1, eos_token_id=2, **sizes)
    >>> model = AutoModelForCausalLM.from_config(config, attn_implementation=register_attention())
    >>> model.model.layers[0].self_attn.ssa_alpha = 0.1
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    if not str(name).isidentifier():
        raise ValueError(f"name must be an identifier; got {name!r}")
    check_choice("position", position, POSITION_KINDS)
    AttentionInterface.register(name, _PositionAttention(position))
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    return name


class _PositionAttention:
    """The implementation, as a class so that models that refer to it can be pickled."""

    def __init__(self, position: str) -> None:
        self.position = position

    def __call__(
        self,
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> Any:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        alpha = getattr(module, "ssa_alpha", None)
        if alpha is not None:
            length, total = query.shape[2], key.shape[2]
            n = torch.arange(total - length + 1, total + 1, device=query.device)
            query = scale_rows(query, position_temperature(n, alpha, self.position))
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
