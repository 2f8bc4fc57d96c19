"""Which keys a query sees, built for a few queries at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Visibility:
    """The keys that each of T queries may see among S.

    Attributes
    ----------
    queries, keys : int
        T and S. Causal queries are the last T of S tokens.
    causal : bool
    window : int or None
        Most keys that a causal query sees.
    mask : tensor broadcastable to (B, H, T, S), or None
        bool: True = attend; float: added to the logits.
    """

    queries: int
    keys: int
    causal: bool
    window: int | None
    mask: torch.Tensor | None

    @property
    def is_plain_causal(self) -> bool:
        """Whether torch's own causal flag says it all."""
        return self.causal and self.mask is None and self.queries == self.keys and not self._window_cuts

    @property
    def is_full(self) -> bool:
        """Whether every query sees every key."""
        alone = not self.causal or (self.queries == 1 and self.keys >= 1)
        return alone and self.mask is None and not self._window_cuts

    @property
    def _window_cuts(self) -> bool:
        return self.window is not None and self.window < self.keys

    def key_range(self, start: int, stop: int) -> slice:
        """Return the keys that queries start..stop-1 can see at all; at least one key."""
        if not self.causal:
            return slice(0, self.keys)
        offset = self.keys - self.queries
        last = min(max(offset + stop, 1), self.keys)
        first = 0 if self.window is None else min(max(0, offset + start + 1 - self.window), last - 1)
        return slice(first, last)

    def block(self, start: int, stop: int, device: torch.device) -> tuple[torch.Tensor | None, slice]:
        """Return the mask of queries start..stop-1 over their `key_range`, and that range."""
        keys = self.key_range(start, stop)
        allowed = None
        if self.causal:
            # (t, s): how far key s lies behind query t.
            query = torch.arange(start, stop, device=device)[:, None] + (self.keys - self.queries)
            behind = query - torch.arange(keys.start, keys.stop, device=device)
            allowed = behind >= 0
            if self.window is not None:
                allowed = allowed & (behind < self.window)
        if self.mask is None:
            return allowed, keys
        given = self.mask
        if given.ndim >= 2 and given.shape[-2] > 1:
            given = given[..., start:stop, :]
        if given.ndim >= 1 and given.shape[-1] > 1:
            given = given[..., keys]
        if given.dtype == torch.bool:
            return (given if allowed is None else given & allowed), keys
        if allowed is not None:
            given = given.masked_fill(~allowed, float("-inf"))
        return given, keys


def hidden_rows(mask: torch.Tensor) -> torch.Tensor:
    """Return (..., T, 1): True where a query sees no key; its softmax would be 0/0."""
    visible = mask if mask.dtype == torch.bool else mask > float("-inf")
    return ~visible.any(-1, keepdim=True)


def opened(mask: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Return the mask with rows that see nothing opened: their outputs are replaced, and nothing is NaN."""
    return mask | hidden if mask.dtype == torch.bool else mask.masked_fill(hidden, 0.0)
