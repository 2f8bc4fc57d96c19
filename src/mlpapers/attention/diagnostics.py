"""Measures of how an attention map spends its mass."""

from __future__ import annotations

import torch

from mlpapers.attention._checks import check_floating, check_shape, check_tensor
from mlpapers.core.validation import check_bool, check_int

__all__ = ["attention_entropy", "spikiness", "top_k_mass"]


def spikiness(p: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    r"""How evenly probability rows are spread; a smaller value is a spikier row.

    .. math:: \frac{\|p\|_1}{\|p\|_2^2\, L} \in [1/L, 1]

    for L visible keys: 1 for a uniform row, 1/L for one with all its mass on one key.

    Parameters
    ----------
    p : tensor of shape (..., S)
        Rows of probabilities.
    mask : bool tensor broadcastable to `p`, optional
        True = visible. Default: all keys.

    Returns
    -------
    spikiness : tensor of shape (...); NaN for a row without mass

    References
    ----------
    [1] Zhang et al., "Selective Attention", NeurIPS 2024, section 2.

    Examples
    --------
    >>> import torch
    >>> from mlpapers.attention import spikiness
    >>> spikiness(torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])).tolist()
    [1.0, 0.25]
    """
    p, visible = _rows(p, mask)
    return p.abs().sum(-1) / ((p**2).sum(-1) * visible)


def attention_entropy(
    p: torch.Tensor, mask: torch.Tensor | None = None, normalized: bool = False
) -> torch.Tensor:
    r"""Entropy of probability rows, :math:`-\sum_s p_s \log p_s` in nats, with 0 log 0 = 0.

    Parameters
    ----------
    p : tensor of shape (..., S)
    mask : bool tensor broadcastable to `p`, optional
        True = visible.
    normalized : bool, default=False
        Divide by log L, the entropy of a uniform row over the visible keys; a row with one key gives 0.

    Returns
    -------
    entropy : tensor of shape (...)

    Examples
    --------
    >>> import torch
    >>> from mlpapers.attention import attention_entropy
    >>> rows = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.7, 0.1, 0.1, 0.1]])
    >>> attention_entropy(rows, normalized=True).round(decimals=2)
    tensor([1.0000, 0.6800])
    """
    p, visible = _rows(p, mask)
    check_bool("normalized", normalized)
    entropy = -torch.xlogy(p, p).sum(-1)
    if not normalized:
        return entropy
    return torch.where(visible > 1, entropy / torch.log(visible.clamp_min(2.0)), 0.0)


def top_k_mass(p: torch.Tensor, k: int) -> torch.Tensor:
    """Sum of the k largest probabilities of each row.

    Parameters
    ----------
    p : tensor of shape (..., S)
    k : int
        More than S counts all.

    Returns
    -------
    mass : tensor of shape (...)

    Examples
    --------
    >>> import torch
    >>> from mlpapers.attention import top_k_mass
    >>> top_k_mass(torch.tensor([0.1, 0.6, 0.3]), k=2).round(decimals=2)
    tensor(0.9000)
    """
    check_floating("p", p)
    check_int("k", k, minimum=1)
    return p.topk(min(k, p.shape[-1]), -1).values.sum(-1)


def _rows(p: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows with hidden keys set to 0, and the number of visible keys of each."""
    check_floating("p", p)
    if p.ndim == 0:
        raise ValueError("p must have at least one dimension; got a scalar")
    if mask is None:
        return p, torch.full(p.shape[:-1], float(p.shape[-1]), dtype=p.dtype, device=p.device)
    check_tensor("mask", mask)
    check_shape("mask", mask, tuple(p.shape))
    mask = mask.to(torch.bool).expand(p.shape)
    return p.masked_fill(~mask, 0.0), mask.sum(-1).to(p.dtype)
