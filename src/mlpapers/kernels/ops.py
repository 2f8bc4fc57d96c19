"""The elementwise operations and reductions that graphs, sketches and all kernel languages share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special


@dataclass(frozen=True)
class PointwiseOp:
    """One elementwise operation.

    Parameters
    ----------
    arity : int
    function : callable
        NumPy arrays in, NumPy array out; PyTorch's semantics (nan wins max and min, and so on).
    cost : int
        Floating-point operations per element, roughly; 10 or more where a transcendental function is
        evaluated.
    """

    arity: int
    function: Callable[..., Any]
    cost: int = 1


def _gelu(x: Any) -> Any:
    return 0.5 * x * (1 + special.erf(x / np.sqrt(2.0)))


def _gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _softplus(x: Any) -> Any:
    return np.where(x > 20, x, np.log1p(np.exp(np.minimum(x, 20))))


def _remainder(x: Any, y: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.mod(x, y)


def _sign(x: Any) -> Any:
    return (
        np.where(np.isnan(x), 0, np.sign(x))
        if np.issubdtype(np.asarray(x).dtype, np.floating)
        else np.sign(x)
    )


def _truth(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *operands: function(*(np.asarray(operand) != 0 for operand in operands))


def _bitwise(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


POINTWISE: dict[str, PointwiseOp] = {
    "identity": PointwiseOp(1, lambda x: x, 0),
    "add": PointwiseOp(2, np.add),
    "sub": PointwiseOp(2, np.subtract),
    "mul": PointwiseOp(2, np.multiply),
    "div": PointwiseOp(2, np.true_divide, 4),
    "floor_div": PointwiseOp(2, np.floor_divide, 6),
    "trunc_div": PointwiseOp(2, lambda x, y: np.trunc(np.true_divide(x, y)), 6),
    "remainder": PointwiseOp(2, _remainder, 6),
    "fmod": PointwiseOp(2, np.fmod, 6),
    "pow": PointwiseOp(2, np.power, 20),
    "maximum": PointwiseOp(2, np.maximum),
    "minimum": PointwiseOp(2, np.minimum),
    "atan2": PointwiseOp(2, np.arctan2, 20),
    "neg": PointwiseOp(1, np.negative),
    "abs": PointwiseOp(1, np.abs),
    "sign": PointwiseOp(1, _sign),
    "square": PointwiseOp(1, np.square),
    "sqrt": PointwiseOp(1, np.sqrt, 6),
    "rsqrt": PointwiseOp(1, lambda x: 1 / np.sqrt(x), 8),
    "reciprocal": PointwiseOp(1, lambda x: 1 / x, 4),
    "relu": PointwiseOp(1, lambda x: np.maximum(x, 0)),
    "floor": PointwiseOp(1, np.floor),
    "ceil": PointwiseOp(1, np.ceil),
    "round": PointwiseOp(1, np.round),
    "trunc": PointwiseOp(1, np.trunc),
    "exp": PointwiseOp(1, np.exp, 12),
    "exp2": PointwiseOp(1, np.exp2, 12),
    "expm1": PointwiseOp(1, np.expm1, 20),
    "log": PointwiseOp(1, np.log, 12),
    "log2": PointwiseOp(1, np.log2, 12),
    "log10": PointwiseOp(1, np.log10, 12),
    "log1p": PointwiseOp(1, np.log1p, 20),
    "sin": PointwiseOp(1, np.sin, 20),
    "cos": PointwiseOp(1, np.cos, 20),
    "tan": PointwiseOp(1, np.tan, 30),
    "asin": PointwiseOp(1, np.arcsin, 30),
    "acos": PointwiseOp(1, np.arccos, 30),
    "atan": PointwiseOp(1, np.arctan, 30),
    "sinh": PointwiseOp(1, np.sinh, 30),
    "cosh": PointwiseOp(1, np.cosh, 30),
    "asinh": PointwiseOp(1, np.arcsinh, 30),
    "acosh": PointwiseOp(1, np.arccosh, 30),
    "atanh": PointwiseOp(1, np.arctanh, 30),
    "tanh": PointwiseOp(1, np.tanh, 16),
    "erf": PointwiseOp(1, special.erf, 20),
    "erfc": PointwiseOp(1, special.erfc, 30),
    "sigmoid": PointwiseOp(1, special.expit, 16),
    "silu": PointwiseOp(1, lambda x: x * special.expit(x), 17),
    "gelu": PointwiseOp(1, _gelu, 24),
    "gelu_tanh": PointwiseOp(1, _gelu_tanh, 24),
    "softplus": PointwiseOp(1, _softplus, 30),
    "mish": PointwiseOp(1, lambda x: x * np.tanh(_softplus(x)), 20),
    "eq": PointwiseOp(2, np.equal),
    "ne": PointwiseOp(2, np.not_equal),
    "lt": PointwiseOp(2, np.less),
    "le": PointwiseOp(2, np.less_equal),
    "gt": PointwiseOp(2, np.greater),
    "ge": PointwiseOp(2, np.greater_equal),
    "logical_and": PointwiseOp(2, _truth(np.logical_and)),
    "logical_or": PointwiseOp(2, _truth(np.logical_or)),
    "logical_xor": PointwiseOp(2, _truth(np.logical_xor)),
    "logical_not": PointwiseOp(1, _truth(np.logical_not)),
    "bitwise_and": PointwiseOp(2, np.bitwise_and),
    "bitwise_or": PointwiseOp(2, np.bitwise_or),
    "bitwise_xor": PointwiseOp(2, np.bitwise_xor),
    "bitwise_not": PointwiseOp(1, np.bitwise_not),
    "shift_left": PointwiseOp(2, np.left_shift),
    "shift_right": PointwiseOp(2, np.right_shift),
    "isnan": PointwiseOp(1, np.isnan),
    "isinf": PointwiseOp(1, np.isinf),
    "where": PointwiseOp(3, np.where),
}

# Reduction -> the value of the empty reduction. A moments reduction has two results: the mean and the sum of
# squared deviations from it, merged over blocks by Chan's formula.
REDUCTIONS: dict[str, float] = {
    "sum": 0.0,
    "prod": 1.0,
    "amax": float("-inf"),
    "amin": float("inf"),
    "any": 0.0,
    "all": 1.0,
    "argmax": 0.0,
    "argmin": 0.0,
    "mean": 0.0,
    "m2": 0.0,
}
SCANS: dict[str, float] = {"cumsum": 0.0, "cumprod": 1.0, "cummax": float("-inf"), "cummin": float("inf")}

# Storage type -> the type in which values are computed. Half types are stored only.
COMPUTE = {
    "f64": "f64",
    "f32": "f32",
    "f16": "f32",
    "bf16": "f32",
    "i64": "i64",
    "i32": "i64",
    "i16": "i64",
    "i8": "i64",
    "u8": "i64",
    "b1": "b1",
}
DTYPE_BYTES = {
    "f64": 8,
    "f32": 4,
    "f16": 2,
    "bf16": 2,
    "i64": 8,
    "i32": 4,
    "i16": 2,
    "i8": 1,
    "u8": 1,
    "b1": 1,
}
NUMPY_DTYPES: dict[str, Any] = {
    "f64": np.float64,
    "f32": np.float32,
    "f16": np.float32,
    "bf16": np.float32,
    "i64": np.int64,
    "i32": np.int32,
    "i16": np.int16,
    "i8": np.int8,
    "u8": np.uint8,
    "b1": np.bool_,
}
