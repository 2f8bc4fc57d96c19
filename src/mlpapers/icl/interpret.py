"""Read a trained stack of linear attention layers back as a polynomial and as an estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result
from mlpapers.core.validation import check_int, check_real
from mlpapers.icl.linear_attention import MultilayerLinearAttention
from mlpapers.icl.polynomial import attention_degree
from mlpapers.icl.polynomial_attention import PolynomialAttention
from mlpapers.icl.prompts import sample_gmm_prompts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["AttentionPolynomialResult", "interpret_attention"]

Array = NDArray[np.float64]

_MAX_DEGREE = 8
_SSPI_POWERS = (1, 2, 3, 4)


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionPolynomialResult(Result):
    r"""The polynomial A in f = x' A(X'X/n) X'y/n that explains a model best.

    Attributes
    ----------
    coef : ndarray of shape (degree + 1,)
        Coefficients of A, low order first.
    r2 : float
        Share of the variance of the model's answers that f explains.
    nearest : str
        The estimator whose polynomial is nearest: "SPI", "SSPI-k", or "EM-step".
    distances : dict of str to float
        Relative distance of A to each family, on the spectrum of X'X/n, weighted as it occurs.
    eigenvalues : ndarray of shape (101,)
        Points that span the spectrum.
    """

    coef: Array
    r2: float
    nearest: str
    distances: dict[str, float]
    eigenvalues: Array

    def to_frame(self) -> pd.DataFrame:
        """Return one row per point of the spectrum: eigenvalue, A.

        Returns
        -------
        pandas.DataFrame
        """
        values = np.polynomial.polynomial.polyval(self.eigenvalues, self.coef)
        return pd.DataFrame({"eigenvalue": self.eigenvalues, "A": values})

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw A over the spectrum.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            Passed to ``Axes.plot``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        frame = self.to_frame()
        ax.plot(frame["eigenvalue"], frame["A"], **{"label": f"nearest: {self.nearest}", **options})
        ax.set(xlabel="eigenvalue of X'X/n", ylabel="A")
        ax.legend()
        return ax


def interpret_attention(
    model: MultilayerLinearAttention | PolynomialAttention,
    *,
    n_context: int = 50,
    n_features: int | None = None,
    p: float = 0.2,
    sigma: float = 1.0,
    n_tasks: int = 2000,
    random_state: Any = 0,
) -> AttentionPolynomialResult:
    """Find the polynomial that a stack of linear attention layers applies, and the estimator next to it.

    The model answers simulated prompts, and its answers are regressed on x' (X'X/n)^i X'y/n for all powers
    up to the degree of the stack (8 at most). The polynomial is compared, on the eigenvalues that occur, with
    a constant (SPI), with alpha + (1 - alpha)(t - sigma^2)^k for the best alpha (SSPI-k), and with one linear
    step of expectation-maximisation on all rows, 1 + c t with c > 0 and the constant kept (EM-step).

    Parameters
    ----------
    model : MultilayerLinearAttention or PolynomialAttention
    n_context : int, default=50
    n_features : int, optional
        Taken from the model where it has it, else 10.
    p, sigma : float
        Share of labels and noise of the prompts.
    n_tasks : int, default=2000
    random_state : int, Generator, RandomState or None

    Returns
    -------
    result : AttentionPolynomialResult

    Raises
    ------
    TypeError
        For a model of another kind, or with softmax.
    ValueError
        For an argument out of range; the message names it.

    Examples
    --------
    >>> from mlpapers.icl import MultilayerLinearAttention, interpret_attention
    >>> model = MultilayerLinearAttention.from_polynomial(a=[0.0], b=[0.02], c=1.0, n_features=5)
    >>> result = interpret_attention(model, n_tasks=500, random_state=0)
    >>> round(result.r2, 3), result.nearest
    (1.0, 'SSPI-1')
    """
    if not isinstance(model, MultilayerLinearAttention | PolynomialAttention):
        raise TypeError(f"model must be a stack of linear attention layers; got {type(model).__name__}")
    if isinstance(model, MultilayerLinearAttention) and any(layer.softmax for layer in model.layers):
        raise TypeError("model must be linear: softmax attention is no polynomial of X'X")
    sigma = check_real("sigma", sigma, low=0.0, closed="neither")
    check_real("p", p, low=0.0, high=1.0, closed="right")  # without labels every answer is 0
    known = getattr(model, "n_features", None)
    d = check_int("n_features", n_features if n_features is not None else known or 10, minimum=1)
    if known is not None and d != known:
        raise ValueError(f"n_features must be that of the model, {known}; got {d}")
    prompts = sample_gmm_prompts(
        check_int("n_tasks", n_tasks, minimum=10), n_context, d, p=p, sigma=sigma, random_state=random_state
    )
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        parts = (torch.from_numpy(part).to(dtype) for part in (prompts.X, prompts.y, prompts.x_query))
        answers = model(*parts).double().numpy()
    gram = np.einsum("bni,bnj->bij", prompts.X, prompts.X) / n_context
    values, vectors = np.linalg.eigh(gram)
    start = np.einsum("bij,bi->bj", vectors, np.einsum("bni,bn->bi", prompts.X, prompts.y) / n_context)
    query = np.einsum("bij,bi->bj", vectors, prompts.x_query)
    degree = min(_MAX_DEGREE, attention_degree(model.n_layers))
    # Chebyshev polynomials on the spectrum keep the least squares well conditioned.
    low, high = float(values.min()), float(values.max())
    scaled = (2.0 * values - low - high) / (high - low)
    basis = np.polynomial.chebyshev.chebvander(scaled, degree)
    features = np.einsum("bj,bj,bjk->bk", query, start, basis)
    solution, *_ = np.linalg.lstsq(features, answers, rcond=None)
    residual = answers - features @ solution
    series = np.polynomial.Chebyshev(solution, domain=[low, high])
    distances = _distances(values.ravel(), np.square(start).ravel(), series(values).ravel(), sigma)
    return AttentionPolynomialResult(
        coef=np.asarray(series.convert(kind=np.polynomial.Polynomial, domain=[-1, 1], window=[-1, 1]).coef),
        r2=float(1.0 - residual.var() / answers.var()),
        nearest=min(distances, key=lambda name: (round(distances[name], 9), name != "SPI")),
        distances=distances,
        eigenvalues=np.linspace(low, high, 101),
    )


def _distances(t: Array, weight: Array, A: Array, sigma: float) -> dict[str, float]:
    """Return the relative weighted least-squares distance of A to the span of each family."""
    root = np.sqrt(weight)
    families = {"SPI": [np.ones_like(t)]}
    for k in _SSPI_POWERS:
        families[f"SSPI-{k}"] = [np.ones_like(t), (t - sigma**2) ** k]
    found = {}
    for name, columns in families.items():
        basis = np.column_stack(columns) * root[:, None]
        solution, *_ = np.linalg.lstsq(basis, A * root, rcond=None)
        found[name] = float(np.linalg.norm(A * root - basis @ solution) / np.linalg.norm(A * root))
        if name == "SSPI-1":
            slope = solution[1]
            constant = solution[0] - slope * sigma**2
            # 1 + c t with c > 0 pulls labels of all rows along X'X, as a linear EM step does.
            found["EM-step"] = found[name] if slope * constant > 0.0 else 1.0
    return found
