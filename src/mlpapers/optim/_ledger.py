"""The ledger of an estimate's squared errors, one entry a direction."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mlpapers.optim._directions import Block, CoordinateBlock, FrameBlock

__all__ = ["ErrorLedger"]

Array = NDArray[np.float64]


class ErrorLedger:
    r"""Expected squared errors :math:`E (v_k - \partial_k f(x))^2` of a gradient estimate.

    A refresh of some directions makes theirs 0. What those were off by says how far the whole ledger is out,
    but only against what it held for them: the ones refreshed are the stalest, and counting their error for
    all would have a memory bought again that is nearly new.

    Parameters
    ----------
    span : int
        Number of directions.

    Attributes
    ----------
    errors : ndarray of shape (span,)
    """

    def __init__(self, span: int) -> None:
        self.errors = np.zeros(span)

    @property
    def total(self) -> float:
        """The expected squared error of the estimate."""
        return float(self.errors.sum())

    def reset(self, total: float) -> None:
        """Begin anew with an estimate in all directions alike."""
        self.errors = np.full(len(self.errors), total / len(self.errors))

    def grow(self, by: float) -> None:
        """Take in the variance of an increment in all directions."""
        self.errors = self.errors + by / len(self.errors)

    def mix(self, R: float) -> float:
        """Take in an independent estimate of squared error R; return its weight, the Kalman gain."""
        V = self.total
        if not V + R > 0.0:
            return 0.0
        k = V / (V + R) if math.isfinite(V) else 1.0
        kept = (1.0 - k) ** 2 * self.errors if k < 1.0 else np.zeros_like(self.errors)
        self.errors = kept + k * k * R / len(self.errors)
        return k

    def refresh(self, block: Block, innovation2: float) -> None:
        """Set the errors of the directions asked to 0, and scale the rest by what they were off by.

        Parameters
        ----------
        block : Block
            The directions; random ones count as a share of every direction.
        innovation2 : float
            Sum of the squared changes of the components.
        """
        share = len(block) / len(self.errors)
        known = isinstance(block, CoordinateBlock | FrameBlock)
        held = float(self.errors[block.k].sum()) if known else share * self.total  # type: ignore[attr-defined]
        errors = self.errors * (0.8 + 0.2 * innovation2 / held) if held > 0.0 else self.errors.copy()
        if known:
            errors[block.k] = 0.0  # type: ignore[attr-defined]
        else:
            errors *= max(1.0 - share, 0.0)
        self.errors = errors
