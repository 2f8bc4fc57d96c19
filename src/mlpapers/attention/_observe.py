"""Who is told about attention while it is computed; nobody, as a rule."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Protocol

import torch

from mlpapers.attention._masks import Visibility


class Observer(Protocol):
    """Is shown what each layer computes, in order."""

    def attention(
        self, query: torch.Tensor, key: torch.Tensor, visibility: Visibility, scale: float | None
    ) -> None:
        """Scaled and rotated queries and keys of one layer."""

    def temperature(self, role: str, tau: torch.Tensor) -> None:
        """Temperatures (B, H, T) of one role, before the layer's attention."""


class _Slot(threading.local):
    observer: Observer | None = None


_SLOT = _Slot()


def observer() -> Observer | None:
    """Return who watches in this thread."""
    return None if torch.compiler.is_compiling() else _SLOT.observer


@contextlib.contextmanager
def observing(watcher: Observer) -> Iterator[None]:
    """Show `watcher` what is computed in this thread while the context lasts."""
    before = _SLOT.observer
    _SLOT.observer = watcher
    try:
        yield
    finally:
        _SLOT.observer = before
