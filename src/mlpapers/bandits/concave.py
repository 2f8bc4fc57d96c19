"""Concave test functions (and a non-concave one) whose comparisons are noisy and biased."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.bandits.env import BanditEnv
from mlpapers.bandits.oracle import ComparisonResult, Point, check_point
from mlpapers.core.validation import check_choice, check_int, check_real

__all__ = ["ConcaveFunctionEnv"]

_FUNCTIONS = ("quadratic", "logcosh", "quartic", "bimodal")
_BIASES = ("none", "constant", "random", "adversarial")
# Points at which a given maximiser is doubted.
_N_PROBES = 1024
_DEFAULT_OPTIMUM, _BIMODAL_OPTIMUM = 0.37, 0.3


@dataclass(frozen=True, eq=False)
class _Function:
    """A function on the cube with its maximiser and the constants that are known of it."""

    dim: int
    evaluate: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    x_star: Point
    f_star: float
    noise: float
    bias: float
    gamma: tuple[float, float]
    hints: dict[str, float]


class ConcaveFunctionEnv(BanditEnv):
    r"""A known function on :math:`[0,1]^d` behind a biased, noisy comparison oracle.

    .. math:: y = f(x) - f(x') + \mathrm{bias\ term} + N(0, \mathrm{noise}^2 (1/n_x + 1/n_{x'}))

    The bias term is 0 ("none"), bias/sqrt(n) ("constant"), that with a fair sign ("random"), or with the sign
    that shrinks or inverts the difference ("adversarial"). :math:`\gamma = (2\,bias^2, 16\,noise^2)`
    satisfies the oracle's bound for every :math:`\delta` and even n.

    Parameters
    ----------
    fn : {"quadratic", "logcosh", "quartic", "bimodal"} or callable
        A callable takes points (m, dim) and returns values (m,); it needs `x_star`. With
        z = x - x_star: quadratic :math:`-\frac12 \sum_i H_i z_i^2`, H from `curvature` to
        `curvature`/`condition`; logcosh :math:`-\sum \frac12 \ln\cosh 3 z_i + \frac12 z_i^2`; quartic
        :math:`-\sum 2 z_i^2 + 4 z_i^4`; bimodal (dim 1, not concave)
        :math:`0.3 \cos(4\pi (x - 0.3)) - 0.4 (x - 0.3)^2 - 0.3`.
    dim : int
    noise : float >= 0
        Standard deviation of one period's noise.
    bias : float >= 0
    bias_mode : {"none", "constant", "random", "adversarial"}
        To be given with a bias.
    x_star : float or array of shape (dim,), optional
        The maximiser in the cube, 0.37 in every coordinate by default.
    curvature, condition : float
        Of the quadratic; `condition` >= 1.
    """

    def __init__(
        self,
        fn: str | Callable[[NDArray[np.float64]], NDArray[np.float64]] = "quadratic",
        dim: int = 1,
        *,
        noise: float = 0.1,
        bias: float = 0.0,
        bias_mode: str = "none",
        x_star: ArrayLike | None = None,
        curvature: float = 4.0,
        condition: float = 1.0,
    ) -> None:
        self.fn = fn
        self.dim = dim
        self.noise = noise
        self.bias = bias
        self.bias_mode = bias_mode
        self.x_star = x_star
        self.curvature = curvature
        self.condition = condition

    @property
    def sigma(self) -> float | None:
        """Strong concavity on the cube, None where unknown."""
        return self.model.hints.get("sigma")

    @property
    def smoothness(self) -> float | None:
        """Largest second derivative in modulus, None where unknown."""
        return self.model.hints.get("smoothness")

    def value(self, x: ArrayLike) -> Any:
        """Return f at x: a float for shape (dim,), an array (m,) for (m, dim); for evaluation only."""
        points = np.asarray(x, dtype=np.float64)
        if points.ndim == 2:
            return self.model.evaluate(np.stack([check_point("x", row, self.model.dim) for row in points]))
        return float(self.model.evaluate(check_point("x", x, self.model.dim)[None])[0])

    @classmethod
    def __mlpapers_example__(cls) -> dict[str, Any]:
        return {"method": "reset", "arguments": {"horizon": 100}}

    def _build(self) -> _Function:
        dim = check_int("dim", self.dim, minimum=1)
        noise = check_real("noise", self.noise, low=0.0)
        bias = check_real("bias", self.bias, low=0.0)
        check_choice("bias_mode", self.bias_mode, _BIASES)
        if bias > 0.0 and self.bias_mode == "none":
            kinds = ", ".join(map(repr, _BIASES[1:]))
            raise ValueError(f"bias_mode must say how a bias of {bias:g} enters, one of {kinds}; got 'none'")
        curvature = check_real("curvature", self.curvature, low=0.0, closed="neither")
        condition = check_real("condition", self.condition, low=1.0)
        if not callable(self.fn):
            check_choice("fn", self.fn, _FUNCTIONS)
        x_star = self._optimum(dim)
        hints: dict[str, float] = {}
        if callable(self.fn):
            evaluate = _checked(self.fn)
        else:
            evaluate, hints = _built_in(self.fn, x_star, curvature, condition)
        f_star = float(evaluate(x_star[None])[0])
        if callable(self.fn):
            _check_maximum(evaluate, x_star, f_star)
        gamma = (2.0 * bias**2, 16.0 * noise**2)
        return _Function(dim, evaluate, x_star, f_star, noise, bias, gamma, hints)

    def _optimum(self, dim: int) -> Point:
        if self.fn == "bimodal":
            if dim != 1:
                raise ValueError(f"dim must be 1 for fn='bimodal'; got {dim}")
            if self.x_star is not None:
                raise ValueError(f"x_star of fn='bimodal' is fixed at 0.3; got {self.x_star!r}")
            return np.array([_BIMODAL_OPTIMUM])
        if self.x_star is None:
            if callable(self.fn):
                raise ValueError("x_star must be given with a callable fn; got None")
            return np.full(dim, _DEFAULT_OPTIMUM)
        try:
            spread = np.broadcast_to(np.asarray(self.x_star, dtype=np.float64), (dim,))
        except (TypeError, ValueError) as error:
            raise ValueError(f"x_star must be a number or {dim} numbers; got {self.x_star!r}") from error
        return check_point("x_star", spread, dim)

    def _query(self, x: Point, x_prime: Point, n: int) -> ComparisonResult:
        model: _Function = self._state
        n_x, n_xp = n - n // 2, n // 2
        f, f_prime = model.evaluate(np.stack([x, x_prime])).tolist()
        self._advance(n_x, n_x * (model.f_star - f))
        self._advance(n_xp, n_xp * (model.f_star - f_prime))
        noise = model.noise * math.sqrt(1.0 / n_x + 1.0 / n_xp) * self._rng.standard_normal()
        error = self._sign(f - f_prime) * model.bias / math.sqrt(n) + noise
        return ComparisonResult(f - f_prime + error, n, n_x, n_xp, *model.gamma)

    def _sign(self, difference: float) -> float:
        """Return the sign of the bias term."""
        if self.bias_mode == "constant":
            return 1.0
        if self.bias_mode == "random":
            return 1.0 if self._rng.random() < 0.5 else -1.0
        if self.bias_mode == "adversarial":
            return -float(np.sign(difference))
        return 0.0

    def _play(self, x: Point, n: int) -> float:
        f = float(self._state.evaluate(x[None])[0])
        self._advance(n, n * (self._state.f_star - f))
        return f + self._state.noise / math.sqrt(n) * float(self._rng.standard_normal())


def _checked(
    fn: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    def evaluate(points: NDArray[np.float64]) -> NDArray[np.float64]:
        values = np.asarray(fn(points), dtype=np.float64)
        if values.shape != points.shape[:1] or not np.isfinite(values).all():
            raise ValueError(f"fn must map (m, dim) to m finite values; {points.shape} gave {values!r}")
        return values

    return evaluate


def _check_maximum(
    evaluate: Callable[[NDArray[np.float64]], NDArray[np.float64]], x_star: Point, f_star: float
) -> None:
    """Refuse a maximiser that some point of a sample exceeds: regret would be negative there."""
    points = np.random.default_rng(0).random((_N_PROBES, x_star.size))
    values = evaluate(points)
    best = int(values.argmax())
    if values[best] > f_star + 1e-9 * max(1.0, abs(f_star)):
        raise ValueError(
            f"x_star must be where fn is largest; fn({x_star.tolist()}) = {f_star:.6g}, but "
            f"fn({points[best].round(4).tolist()}) = {values[best]:.6g}"
        )


def _built_in(
    name: str, x_star: Point, curvature: float, condition: float
) -> tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], dict[str, float]]:
    """Return the function and its constants: the extremes of the second derivative on the cube."""
    far = float(np.maximum(x_star, 1.0 - x_star).max())
    if name == "quadratic":
        H = np.linspace(curvature, curvature / condition, x_star.size)
        hints = {"sigma": float(H.min()), "smoothness": float(H.max())}
        return lambda points: -0.5 * (points - x_star) ** 2 @ H, hints
    if name == "logcosh":
        hints = {"sigma": 1.0 + 4.5 / math.cosh(3.0 * far) ** 2, "smoothness": 5.5}
        return lambda points: -_logcosh(points - x_star).sum(axis=1), hints
    if name == "quartic":
        hints = {"sigma": 4.0, "smoothness": 4.0 + 48.0 * far**2}
        return (
            lambda points: -(2.0 * (points - x_star) ** 2 + 4.0 * (points - x_star) ** 4).sum(axis=1),
            hints,
        )
    # Not concave, so that there is no sigma; the bound on the second derivative is 0.3 (4 pi)^2 + 0.8.
    return _bimodal, {"smoothness": 0.3 * (4.0 * math.pi) ** 2 + 0.8}


def _logcosh(z: NDArray[np.float64]) -> NDArray[np.float64]:
    # ln cosh a = ln(e^a + e^-a) - ln 2 without overflow.
    return 0.5 * (np.logaddexp(3.0 * z, -3.0 * z) - math.log(2.0)) + 0.5 * z**2


def _bimodal(points: NDArray[np.float64]) -> NDArray[np.float64]:
    z = points[:, 0] - _BIMODAL_OPTIMUM
    return 0.3 * np.cos(4.0 * math.pi * z) - 0.4 * z**2 - 0.3
