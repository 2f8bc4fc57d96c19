"""A small language model: the same network with plain, selective, scalable or normalised attention."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from mlpapers.attention._checks import check_floating, check_ids
from mlpapers.attention.cache import KVCache
from mlpapers.attention.layer import SelectiveSelfAttention
from mlpapers.attention.temperature import POSITION_KINDS, TOKEN_KINDS
from mlpapers.core.validation import check_bool, check_choice, check_int, check_real, check_rng

__all__ = ["SelectiveTransformerLM"]

ATTENTIONS = ("ssa", "vanilla", "ssmax", "qknorm")
_INIT_STD = 0.02


class SelectiveTransformerLM(nn.Module):
    """A decoder-only transformer: pre-norm blocks, rotary positions, GELU network.

    Parameters
    ----------
    vocab_size : int
    dim : int, default=256
    num_layers : int, default=4
    num_heads : int, default=4
    num_kv_heads : int, optional
    mlp_ratio : int, default=4
    attention : {"ssa", "vanilla", "ssmax", "qknorm"}, default="ssa"
        Temperatures of query and value; none; the query's logits times alpha log n; RMS norm of query and
        key. The same `random_state` gives the same initial weights to all four.
    token, position : str
        For "ssa", as in :class:`TemperatureModule`. "feature" needs :meth:`set_token_feature`.
    temperatures : sequence of {"q", "k", "v"}, default=("q", "v")
        For "ssa".
    tie_weights : bool, default=True
        One matrix for the embedding and the output.
    max_len : int, optional
        Longest sequence; longer ones are an error.
    random_state : int, RandomState, Generator or None, default=None

    Examples
    --------
    >>> import torch
    >>> model = SelectiveTransformerLM(50, dim=32, num_layers=2, random_state=0)
    >>> ids = torch.arange(8).reshape(1, 8)
    >>> logits, loss = model(ids, labels=ids)
    >>> logits.shape
    torch.Size([1, 8, 50])
    """

    token_feature: torch.Tensor | None

    def __init__(
        self,
        vocab_size: int,
        *,
        dim: int = 256,
        num_layers: int = 4,
        num_heads: int = 4,
        num_kv_heads: int | None = None,
        mlp_ratio: int = 4,
        attention: str = "ssa",
        token: str = "shared",
        position: str = "linear",
        temperatures: Any = ("q", "v"),
        tie_weights: bool = True,
        max_len: int | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__()
        self.vocab_size = check_int("vocab_size", vocab_size, minimum=1)
        self.max_len = None if max_len is None else check_int("max_len", max_len, minimum=1)
        self.attention = check_choice("attention", attention, ATTENTIONS)
        check_int("dim", dim, minimum=1)
        check_int("num_layers", num_layers, minimum=1)
        check_int("mlp_ratio", mlp_ratio, minimum=1)
        check_choice("token", token, TOKEN_KINDS)
        check_choice("position", position, POSITION_KINDS)
        options: dict[str, dict[str, Any]] = {
            "ssa": {"token": token, "position": position, "temperatures": temperatures},
            "vanilla": {"temperatures": ()},
            "ssmax": {"token": "none", "position": "ssmax", "temperatures": ("q",)},
            "qknorm": {"temperatures": (), "qk_norm": True},
        }
        self.embedding = nn.Embedding(vocab_size, dim)
        self.blocks = nn.ModuleList(
            _Block(
                dim,
                mlp_ratio,
                SelectiveSelfAttention(dim, num_heads, num_kv_heads=num_kv_heads, **options[attention]),
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocab_size, bias=False)
        if check_bool("tie_weights", tie_weights):
            self.head.weight = self.embedding.weight
        self.register_buffer("token_feature", None)
        self._initialise(num_layers, random_state)

    def _initialise(self, num_layers: int, random_state: Any) -> None:
        """Draw all matrices in a fixed order that temperatures have no part in."""
        generator = torch.Generator().manual_seed(int(check_rng(random_state).integers(2**63)))
        late = []
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if "_temp." in name and name.endswith("hidden_weight"):
                    late.append(parameter)
                elif "_temp." in name or "norm" in name:
                    continue
                elif name.endswith("bias"):
                    parameter.zero_()
                else:
                    # Matrices that write into the residual stream start smaller the more of them there are.
                    into_stream = name.endswith(("o_proj.weight", "mlp.2.weight"))
                    std = _INIT_STD / math.sqrt(2 * num_layers) if into_stream else _INIT_STD
                    parameter.normal_(0.0, std, generator=generator)
            for parameter in late:
                bound = 1.0 / math.sqrt(parameter.shape[1])
                parameter.uniform_(-bound, bound, generator=generator)

    def set_token_feature(self, table: torch.Tensor) -> None:
        """Set the feature of each token for ``token="feature"``.

        Parameters
        ----------
        table : tensor of shape (vocab_size,)
            See :func:`token_log_frequency`.
        """
        check_floating("table", table, ndim=1)
        if table.shape[0] != self.vocab_size:
            raise ValueError(f"table must have shape ({self.vocab_size},); got {tuple(table.shape)}")
        self.token_feature = table.to(self.embedding.weight.device)

    def forward(
        self,
        ids: torch.Tensor,
        labels: torch.Tensor | None = None,
        *,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        caches: list[KVCache] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the logits of the next token, and the mean loss where labels are given.

        Parameters
        ----------
        ids : integer tensor of shape (B, T)
        labels : integer tensor of shape (B, T), optional
            Usually `ids` themselves: they are shifted inside, and -100 is ignored.
        attention_mask : tensor of shape (B, S), optional
        position_ids : integer tensor of shape (T,) or (B, T), optional
        caches : list of KVCache, one per layer, optional

        Returns
        -------
        logits : tensor of shape (B, T, vocab_size)
        loss : scalar tensor in nats per token, or None
        """
        check_ids("ids", ids)
        length = ids.shape[1] + (caches[0].length if caches else 0)
        if self.max_len is not None and length > self.max_len:
            raise ValueError(f"ids would make a sequence of {length}; max_len is {self.max_len}")
        feature = None if self.token_feature is None else self.token_feature[ids]
        x = self.embedding(ids)
        for layer, block in enumerate(self.blocks):
            x = block(
                x,
                attention_mask=attention_mask,
                position_ids=position_ids,
                cache=caches[layer] if caches else None,
                feature=feature,
            )
        logits = self.head(self.norm(x))
        if labels is None:
            return logits, None
        check_ids("labels", labels)
        if labels.shape != ids.shape:
            raise ValueError(
                f"labels must have the shape of ids, {tuple(ids.shape)}; got {tuple(labels.shape)}"
            )
        loss = functional.cross_entropy(
            logits[:, :-1].reshape(-1, self.vocab_size).float(), labels[:, 1:].reshape(-1), ignore_index=-100
        )
        return logits, loss

    @torch.no_grad()
    def generate(
        self,
        ids: torch.Tensor,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        random_state: Any = None,
        *,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Continue sequences token by token, with cached keys and values.

        Parameters
        ----------
        ids : integer tensor of shape (B, T)
        max_new_tokens : int
        temperature : float, default=1.0
            Of sampling; 0 takes the most probable token.
        top_k : int, optional
            Sample among the k most probable tokens.
        random_state : int, RandomState, Generator or None, default=None
        attention_mask : tensor of shape (B, T), optional
            0 marks padding, which must stand on the left.

        Returns
        -------
        ids : tensor of shape (B, T + max_new_tokens)
        """
        check_ids("ids", ids)
        if ids.shape[1] == 0:
            raise ValueError("ids must hold at least one token to continue")
        check_int("max_new_tokens", max_new_tokens, minimum=0)
        check_real("temperature", temperature, low=0.0)
        if top_k is not None:
            check_int("top_k", top_k, minimum=1)
        if self.max_len is not None and ids.shape[1] + max_new_tokens > self.max_len:
            raise ValueError(
                f"max_new_tokens would make a sequence of {ids.shape[1] + max_new_tokens}; max_len is "
                f"{self.max_len}"
            )
        generator = torch.Generator().manual_seed(int(check_rng(random_state).integers(2**63)))
        caches = [KVCache(max(1, ids.shape[1] + max_new_tokens)) for _ in self.blocks]
        training = self.training
        self.eval()
        try:
            new = ids
            for _ in range(max_new_tokens):
                logits, _ = self(new, attention_mask=attention_mask, caches=caches)
                new = _choose(logits[:, -1].float(), temperature, top_k, generator)
                ids = torch.cat([ids, new], 1)
                if attention_mask is not None:
                    attention_mask = functional.pad(attention_mask, (0, 1), value=1)
        finally:
            self.train(training)
        return ids


class _Block(nn.Module):
    """Attention and a GELU network, each behind a norm and added to the stream."""

    def __init__(self, dim: int, mlp_ratio: int, attention: SelectiveSelfAttention) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = attention
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim))

    def forward(self, x: torch.Tensor, **options: Any) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x), **options)
        y: torch.Tensor = x + self.mlp(self.mlp_norm(x))
        return y


def _choose(
    logits: torch.Tensor, temperature: float, top_k: int | None, generator: torch.Generator
) -> torch.Tensor:
    if temperature == 0.0:
        return logits.argmax(-1, keepdim=True)
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k, -1).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    probabilities = torch.softmax(logits / temperature, -1).cpu()
    return torch.multinomial(probabilities, 1, generator=generator).to(logits.device)
