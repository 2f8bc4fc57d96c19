"""The keys and scaled values of tokens that were read before."""

from __future__ import annotations

import torch

from mlpapers.attention._checks import check_floating, check_ids
from mlpapers.core.validation import check_int

__all__ = ["KVCache"]


class KVCache:
    """Keys and values of one attention layer, appended token by token.

    Values are kept already scaled by their temperature, which depends on their own token only. The cache is
    for inference: what is stored carries no gradient.

    Parameters
    ----------
    max_len : int, optional
        Room for so many tokens is made at the first update, and more is an error. Without it the room doubles
        when it is used up, so that an append costs O(1) on average.

    Attributes
    ----------
    length : int
        Tokens stored.
    keys, values : tensor of shape (B, H_kv, length, d) or None
        Views of what is stored; None while the cache is empty.

    Examples
    --------
    >>> import torch
    >>> cache = KVCache()
    >>> keys, values = cache.update(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))
    >>> cache.length
    3
    """

    def __init__(self, max_len: int | None = None) -> None:
        self.max_len = None if max_len is None else check_int("max_len", max_len, minimum=1)
        self.length = 0
        self._keys: torch.Tensor | None = None
        self._values: torch.Tensor | None = None

    @property
    def keys(self) -> torch.Tensor | None:
        """The keys stored, (B, H_kv, length, d), or None."""
        return None if self._keys is None or self.length == 0 else self._keys[:, :, : self.length]

    @property
    def values(self) -> torch.Tensor | None:
        """The scaled values stored, (B, H_kv, length, d), or None."""
        return None if self._values is None or self.length == 0 else self._values[:, :, : self.length]

    def update(self, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values, and return all that are stored.

        Parameters
        ----------
        k, v : tensor of shape (B, H_kv, T, d)

        Returns
        -------
        keys, values : tensor of shape (B, H_kv, length, d)

        Raises
        ------
        ValueError
            If shapes do not fit what is stored, or there is no room.
        """
        check_floating("k", k, ndim=4)
        check_floating("v", v, ndim=4)
        if k.shape[:3] != v.shape[:3]:
            raise ValueError(f"k and v must have the same batch, heads, length; got {k.shape} and {v.shape}")
        needed = self.length + k.shape[2]
        if self.max_len is not None and needed > self.max_len:
            raise ValueError(f"k would make {needed} tokens; the cache has room for max_len={self.max_len}")
        self._keys = self._room(self._keys, k, needed, "k")
        self._values = self._room(self._values, v, needed, "v")
        self._keys[:, :, self.length : needed] = k.detach()
        self._values[:, :, self.length : needed] = v.detach()
        self.length = needed
        return self._keys[:, :, :needed], self._values[:, :, :needed]

    def reorder(self, idx: torch.Tensor) -> None:
        """Make row i of the batch what row idx[i] was, as beam search needs.

        Parameters
        ----------
        idx : integer tensor of shape (B',)
        """
        check_ids("idx", idx, ndim=1)
        if self._keys is not None and self._values is not None:
            idx = idx.to(self._keys.device)
            self._keys = self._keys.index_select(0, idx)
            self._values = self._values.index_select(0, idx)

    def crop(self, n: int) -> None:
        """Keep the first n tokens only.

        Parameters
        ----------
        n : int, 0 <= n <= length
        """
        self.length = check_int("n", n, minimum=0, maximum=self.length)

    def reset(self) -> None:
        """Forget everything; the room is given back."""
        self.length, self._keys, self._values = 0, None, None

    def _room(self, stored: torch.Tensor | None, new: torch.Tensor, needed: int, name: str) -> torch.Tensor:
        batch, heads, _, width = new.shape
        if stored is not None and (self.length or self.max_len) and stored.shape[2] >= needed:
            known = (stored.shape[0], stored.shape[1], stored.shape[3])
            if known == (batch, heads, width) and stored.dtype == new.dtype:
                return stored
        if stored is None or self.length == 0:
            return new.new_empty((batch, heads, self.max_len or needed, width))
        if (stored.shape[0], stored.shape[1], stored.shape[3]) != (batch, heads, width):
            raise ValueError(
                f"{name} must continue what is stored, (B, H, *, d) = {tuple(stored.shape)}; got "
                f"{tuple(new.shape)}"
            )
        if stored.dtype != new.dtype:
            raise ValueError(f"{name} must have the stored dtype {stored.dtype}; got {new.dtype}")
        grown = new.new_empty((batch, heads, max(needed, 2 * stored.shape[2]), width))
        grown[:, :, : self.length] = stored[:, :, : self.length]
        return grown
