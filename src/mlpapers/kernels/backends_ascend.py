"""Ascend NPUs as a device: sources are generated for them, and nothing of it has run on one."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NoReturn

from mlpapers.kernels.dsl.base import Backend, DSLUnavailable, Hardware

REASON = "code generation only: no kernel of this library has run on an Ascend device"


class AscendBackend(Backend):
    """Huawei's Ascend NPU, for code generation.

    Examples
    --------
    >>> AscendBackend().available()[0]
    False
    """

    name: ClassVar[str] = "ascend"

    def available(self) -> tuple[bool, str]:
        """Return False, and that sources are generated only."""
        return False, REASON

    def device(self, i: int = 0) -> str:
        """Return torch_npu's name of the i-th device.

        Parameters
        ----------
        i : int

        Returns
        -------
        device : str
        """
        return f"npu:{i}"

    def synchronize(self) -> NoReturn:
        """Raise DSLUnavailable: there is nothing to wait for."""
        raise DSLUnavailable(REASON)

    def timer(self) -> Callable[[], float]:
        """Raise DSLUnavailable: nothing is timed."""
        raise DSLUnavailable(REASON)

    def hardware(self) -> Hardware:
        """Raise DSLUnavailable: nothing was measured."""
        raise DSLUnavailable(REASON)
