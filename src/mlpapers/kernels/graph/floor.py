"""The roofline: a time below which no kernel can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlpapers.core.validation import check_real

if TYPE_CHECKING:
    from mlpapers.kernels.dsl.base import Hardware


def floor_seconds(bytes_min: float, flops: float, hardware: Hardware) -> float:
    r"""Return the roofline floor of a computation on a device.

    .. math:: t_{floor} = \max\left(\frac{bytes}{bandwidth}, \frac{flops}{peak}\right)

    Parameters
    ----------
    bytes_min : float
        Bytes that any program must move.
    flops : float
        Floating-point operations.
    hardware : Hardware
        Measured bandwidth (bytes/s) and peak (flop/s).

    Returns
    -------
    seconds : float

    Raises
    ------
    ValueError
        If `bytes_min` or `flops` is negative or not finite.
    """
    bytes_min = check_real("bytes_min", bytes_min, low=0)
    flops = check_real("flops", flops, low=0)
    return max(bytes_min / hardware.bandwidth, flops / hardware.peak_flops)
