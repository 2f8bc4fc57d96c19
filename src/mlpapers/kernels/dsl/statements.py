"""The statements inside a kernel, each handed to the renderer that writes its kind."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from mlpapers.kernels.sketch import Alloc, Compute, For, Load, Store


class StatementWriter(abc.ABC):
    """Writes statements one after the other; a language says how each kind looks."""

    def _body(self, body: Sequence[Any], depth: int) -> None:
        for s in body:
            if isinstance(s, For):
                self._loop(s, depth)
            elif isinstance(s, Alloc):
                self._alloc(s, depth)
            elif isinstance(s, Load):
                self._load(s, depth)
            elif isinstance(s, Store):
                self._store(s, depth)
            elif s.op.startswith("scan_"):
                self._scan(s, depth)
            elif s.op.startswith(("reduce_", "merge_")):
                self._take(s, depth)
            else:
                self._pointwise(s, depth)

    @abc.abstractmethod
    def _loop(self, loop: For, depth: int) -> None: ...

    @abc.abstractmethod
    def _alloc(self, s: Alloc, depth: int) -> None: ...

    @abc.abstractmethod
    def _load(self, s: Load, depth: int) -> None: ...

    @abc.abstractmethod
    def _store(self, s: Store, depth: int) -> None: ...

    @abc.abstractmethod
    def _scan(self, s: Compute, depth: int) -> None: ...

    @abc.abstractmethod
    def _take(self, s: Compute, depth: int) -> None: ...

    @abc.abstractmethod
    def _pointwise(self, s: Compute, depth: int) -> None: ...


def is_literal(name: str) -> bool:
    """Return whether an operand is a number: digits, ``inf`` or ``nan``, with a sign or not."""
    plain = name.lstrip("-")
    digits = plain.replace(".", "").replace("e", "").replace("-", "").replace("+", "")
    return plain in ("inf", "nan") or digits.isdigit()


def power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least n."""
    return 1 << max(n - 1, 0).bit_length()
