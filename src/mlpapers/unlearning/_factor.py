"""Cholesky factors of Hessians, and their rank-k downdates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

Array = NDArray[np.float64]

# From this size on a downdate (k p^2) beats a new factorisation (p^3/3) for a few rows, compilation aside.
DOWNDATE_SIZE = 512
_PIVOT_LIMIT = 1e-12


@dataclass(frozen=True, eq=False)
class Factor:
    """The Cholesky factor of a symmetric positive definite matrix.

    Attributes
    ----------
    lower : ndarray of shape (p, p), Fortran order
        L with H = L L^T; what stands above the diagonal is not used.
    """

    lower: Array

    @classmethod
    def of(cls, H: Array) -> Factor:
        """Factorise H; LinAlgError where it is not positive definite to rounding."""
        lower, info = dpotrf(H.T, lower=1, clean=0)
        if info != 0:
            raise np.linalg.LinAlgError(
                f"the Hessian is not positive definite (pivot {info} of {H.shape[0]})"
            )
        return cls(lower)

    def solve(self, B: Array) -> Array:
        """Return H^{-1} B for B of shape (p,) or (p, r)."""
        solution, info = dpotrs(self.lower, B, lower=1)
        if info != 0:
            raise np.linalg.LinAlgError(f"dpotrs failed with info = {info}")
        return solution

    def trace(self, B: Array) -> float:
        r"""Return :math:`\mathrm{tr}\, H^{-1} B` for symmetric B of shape (p, p)."""
        # A triangle of the inverse takes half the arithmetic of p solutions.
        inverse, info = dpotri(self.lower, lower=1)
        if info != 0:
            raise np.linalg.LinAlgError(f"dpotri failed with info = {info}")
        products = np.tril(inverse) * B
        return float(2.0 * products.sum() - np.trace(products))

    def without(self, V: Array, H: Array) -> Factor:
        """Return the factor of H = (what was factorised) - V V^T, by downdates where they pay."""
        p, rank = V.shape
        if p >= DOWNDATE_SIZE and 6 * rank <= p:
            # Compiled code is loaded only where a model is large enough to need it.
            from mlpapers.unlearning._downdate import downdate

            lower = self.lower.copy(order="F")
            if downdate(lower.T, np.array(V.T, order="C"), _PIVOT_LIMIT):
                return Factor(lower)
        return Factor.of(H)
