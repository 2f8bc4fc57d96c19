"""Rules for elementwise operations."""

from __future__ import annotations

from typing import Any

from mlpapers.kernels.graph.lowering import Lowering, rule

_SAME_TYPE = {
    name: name
    for name in (
        "neg", "abs", "sign", "sqrt", "rsqrt", "reciprocal", "relu", "floor", "ceil", "trunc", "exp", "exp2",
        "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
        "asinh", "acosh", "atanh", "tanh", "erf", "erfc", "sigmoid", "silu", "mish",
    )
}  # fmt: skip
_BINARY = {
    "mul": "mul", "maximum": "maximum", "minimum": "minimum", "atan2": "atan2", "fmod": "fmod",
    "remainder": "remainder", "bitwise_and": "bitwise_and", "bitwise_or": "bitwise_or",
    "bitwise_xor": "bitwise_xor", "__lshift__": "shift_left", "__rshift__": "shift_right",
    "bitwise_left_shift": "shift_left", "bitwise_right_shift": "shift_right", "fmax": "maximum",
    "fmin": "minimum",
}  # fmt: skip


def unary(lo: Lowering, call: Any) -> Any:
    """Y = f(x) in the result's type."""
    name = call.target.__name__.split(".")[0]
    dtype = lo.dtype(call)
    return lo.apply(_SAME_TYPE[name], [lo.operand(call.args[0], dtype)], dtype, lo.shape(call))


for _name in _SAME_TYPE:
    rule(_name)(unary)


def binary(lo: Lowering, call: Any) -> Any:
    """Z = f(x, y) in the result's type."""
    name = call.target.__name__.split(".")[0]
    dtype = lo.dtype(call)
    operands = [lo.operand(value, dtype) for value in call.args[:2]]
    op = _BINARY[name]
    if dtype == "b1":
        op = {
            "bitwise_and": "logical_and",
            "bitwise_or": "logical_or",
            "bitwise_xor": "logical_xor",
            "mul": "logical_and",
        }.get(op, op)
    return lo.apply(op, operands, dtype, lo.shape(call))


for _name in _BINARY:
    if _name not in ("fmax", "fmin"):
        rule(_name)(binary)


@rule("add", "sub", "rsub")
def add(lo: Lowering, call: Any) -> Any:
    """X + alpha y, x - alpha y or y - alpha x."""
    name = call.target.__name__.split(".")[0]
    dtype = lo.dtype(call)
    x, y = (lo.operand(value, dtype) for value in call.args[:2])
    alpha = call.args[2] if len(call.args) > 2 else call.kwargs.get("alpha", 1)
    if name == "rsub":
        x, y = y, x
    if alpha != 1:
        y = lo.apply("mul", [y, lo.operand(alpha, dtype)], dtype)
    if dtype == "b1":
        return lo.apply("logical_or", [x, y], dtype, lo.shape(call))
    return lo.apply("add" if name == "add" else "sub", [x, y], dtype, lo.shape(call))


@rule("div")
def divide(lo: Lowering, call: Any) -> Any:
    """X / y, rounded to an integer where the call says so."""
    dtype = lo.dtype(call)
    op = {"floor": "floor_div", "trunc": "trunc_div", None: "div"}[call.kwargs.get("rounding_mode")]
    return lo.apply(op, [lo.operand(value, dtype) for value in call.args[:2]], dtype, lo.shape(call))


@rule("floor_divide")
def floor_divide(lo: Lowering, call: Any) -> Any:
    """Floor of x / y."""
    dtype = lo.dtype(call)
    return lo.apply("floor_div", [lo.operand(value, dtype) for value in call.args[:2]], dtype, lo.shape(call))


@rule("round")
def round_(lo: Lowering, call: Any) -> Any:
    """Round to the nearest even integer; to decimals it stays a library call."""
    if len(call.args) > 1 or call.kwargs:
        return None
    dtype = lo.dtype(call)
    return lo.apply("round", [lo.operand(call.args[0], dtype)], dtype, lo.shape(call))


def compare(lo: Lowering, call: Any) -> Any:
    """Comparisons in the operands' promoted type."""
    import torch

    values = [value.meta["val"] if hasattr(value, "meta") else value for value in call.args[:2]]
    dtype = lo.storage(call, torch.result_type(*values))
    op = call.target.__name__.split(".")[0]
    return lo.apply(op, [lo.operand(value, dtype) for value in call.args[:2]], "b1", lo.shape(call))


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    rule(_name)(compare)


@rule("logical_and", "logical_or", "logical_xor", "logical_not", "bitwise_not")
def logical(lo: Lowering, call: Any) -> Any:
    """Truth of the operands, combined."""
    name = call.target.__name__.split(".")[0]
    dtype = lo.dtype(call)
    if name == "bitwise_not" and dtype != "b1":
        return lo.apply("bitwise_not", [lo.operand(call.args[0], dtype)], dtype, lo.shape(call))
    operands = [_truth(lo, value) for value in call.args[:2]]
    return lo.apply(name.replace("bitwise", "logical"), operands, "b1", lo.shape(call))


def _truth(lo: Lowering, value: Any) -> int:
    position = lo.values[value]
    dtype = lo.b.node(position).dtype
    if dtype == "b1":
        return position
    return lo.apply("ne", [position, lo.b.scalar(0, dtype)], "b1")


@rule("isnan", "isinf")
def classify(lo: Lowering, call: Any) -> Any:
    """Elements that are nan or infinite."""
    name = call.target.__name__.split(".")[0]
    position = lo.values[call.args[0]]
    if lo.b.node(position).dtype[0] in "iub" and lo.b.node(position).dtype != "bf16":
        return lo.b.expand(lo.b.scalar(False, "b1"), lo.shape(call))
    return lo.apply(name, [position], "b1", lo.shape(call))


@rule("where")
def where(lo: Lowering, call: Any) -> Any:
    """Select x where the condition holds, else y."""
    if len(call.args) < 3:
        return None
    dtype = lo.dtype(call)
    condition, x, y = call.args
    return lo.apply(
        "where", [_truth(lo, condition), lo.operand(x, dtype), lo.operand(y, dtype)], dtype, lo.shape(call)
    )


@rule("masked_fill")
def masked_fill(lo: Lowering, call: Any) -> Any:
    """Select the value where the mask holds, else x."""
    dtype = lo.dtype(call)
    x, mask, value = call.args
    return lo.apply(
        "where", [_truth(lo, mask), lo.operand(value, dtype), lo.operand(x, dtype)], dtype, lo.shape(call)
    )


@rule("clamp", "clamp_min", "clamp_max", "hardtanh")
def clamp(lo: Lowering, call: Any) -> Any:
    """min(max(x, low), high); nan stays nan."""
    name = call.target.__name__.split(".")[0]
    dtype = lo.dtype(call)
    if name == "clamp_min":
        bounds = [call.args[1], None]
    elif name == "clamp_max":
        bounds = [None, call.args[1]]
    elif name == "hardtanh":
        bounds = lo.arguments(call, x=None, min_val=-1.0, max_val=1.0)[1:]
    else:
        bounds = lo.arguments(call, x=None, min=None, max=None)[1:]
    value = lo.operand(call.args[0], dtype)
    for op, bound in zip(("maximum", "minimum"), bounds):
        if bound is not None:
            value = lo.apply(op, [value, lo.operand(bound, dtype)], dtype, lo.shape(call))
    return value


@rule("gelu")
def gelu(lo: Lowering, call: Any) -> Any:
    """Apply the Gaussian error linear unit, by erf or by its tanh form."""
    dtype = lo.dtype(call)
    op = "gelu_tanh" if call.kwargs.get("approximate", "none") == "tanh" else "gelu"
    return lo.apply(op, [lo.operand(call.args[0], dtype)], dtype, lo.shape(call))


@rule("leaky_relu")
def leaky_relu(lo: Lowering, call: Any) -> Any:
    """X where it is positive, else slope x."""
    x, slope = lo.arguments(call, x=None, negative_slope=0.01)
    return _piecewise(lo, call, lambda v, d: lo.apply("mul", [v, lo.operand(slope, d)], d), x)


@rule("elu")
def elu(lo: Lowering, call: Any) -> Any:
    """Scale x where it is positive, else scale alpha (exp(input_scale x) - 1)."""
    x, alpha, scale, input_scale = lo.arguments(call, x=None, alpha=1.0, scale=1.0, input_scale=1.0)

    def negative(value: int, dtype: str) -> int:
        inner = lo.apply("expm1", [lo.apply("mul", [value, lo.operand(input_scale, dtype)], dtype)], dtype)
        return lo.apply("mul", [inner, lo.operand(alpha * scale, dtype)], dtype)

    return _piecewise(lo, call, negative, x, scale)


def _piecewise(lo: Lowering, call: Any, negative: Any, x: Any, scale: float = 1.0) -> int:
    dtype, shape = lo.dtype(call), lo.shape(call)
    value = lo.operand(x, dtype)
    positive = lo.apply("mul", [value, lo.operand(scale, dtype)], dtype)
    condition = lo.apply("gt", [value, lo.operand(0, dtype)], "b1")
    return lo.apply("where", [condition, positive, negative(value, dtype)], dtype, shape)


@rule("softplus")
def softplus(lo: Lowering, call: Any) -> Any:
    """log(1 + exp(beta x)) / beta; x where beta x exceeds the threshold."""
    x, beta, threshold = lo.arguments(call, x=None, beta=1.0, threshold=20.0)
    if threshold != 20:
        return None
    dtype = lo.dtype(call)
    factor = lo.operand(beta, dtype)
    scaled = lo.apply("mul", [lo.operand(x, dtype), factor], dtype)
    return lo.apply("div", [lo.apply("softplus", [scaled], dtype), factor], dtype, lo.shape(call))


@rule("hardswish", "hardsigmoid")
def hardswish(lo: Lowering, call: Any) -> Any:
    """clamp(x + 3, 0, 6) / 6, for hardswish times x."""
    dtype = lo.dtype(call)
    x = lo.operand(call.args[0], dtype)
    shifted = lo.apply("add", [x, lo.operand(3, dtype)], dtype)
    gate = lo.apply("minimum", [lo.apply("relu", [shifted], dtype), lo.operand(6, dtype)], dtype)
    if call.target.__name__.startswith("hardswish"):
        gate = lo.apply("mul", [x, gate], dtype)
    return lo.apply("div", [gate, lo.operand(6, dtype)], dtype, lo.shape(call))


@rule("pow")
def power(lo: Lowering, call: Any) -> Any:
    """x^y; small constant exponents become products and roots."""
    dtype, shape = lo.dtype(call), lo.shape(call)
    base, exponent = call.args[:2]
    x, y = lo.operand(base, dtype), lo.operand(exponent, dtype)
    if dtype[0] in "iu":
        return lo.apply("square", [x], dtype, shape) if exponent == 2 else None
    special = {2: "square", 0.5: "sqrt", -1: "reciprocal", -0.5: "rsqrt", 1: "identity"}
    if not hasattr(exponent, "meta") and exponent in special:
        return lo.apply(special[exponent], [x], dtype, shape)
    if not hasattr(exponent, "meta") and exponent == 3:
        return lo.apply("mul", [lo.apply("square", [x], dtype), x], dtype, shape)
    return lo.apply("pow", [x, y], dtype, shape)


@rule("addcmul", "addcdiv")
def addcmul(lo: Lowering, call: Any) -> Any:
    """X + value (a b), or x + value (a / b)."""
    dtype = lo.dtype(call)
    x, a, b = (lo.operand(value, dtype) for value in call.args[:3])
    inner = lo.apply("mul" if "addcmul" in call.target.__name__ else "div", [a, b], dtype)
    scaled = lo.apply("mul", [inner, lo.operand(call.kwargs.get("value", 1), dtype)], dtype)
    return lo.apply("add", [x, scaled], dtype, lo.shape(call))


@rule("_to_copy", "to", "type_as", "clone", "alias", "contiguous", "detach", "lift_fresh_copy", "copy")
def convert(lo: Lowering, call: Any) -> Any:
    """Keep the values, perhaps in another type."""
    source = call.args[1] if call.target.__name__.startswith("copy") else call.args[0]
    return lo.b.expand(lo.b.cast(lo.values[source], lo.dtype(call)), lo.shape(call))


@rule("lerp")
def lerp(lo: Lowering, call: Any) -> Any:
    """X + weight (y - x), or y - (y - x)(1 - weight) for weights of at least a half."""
    dtype = lo.dtype(call)
    if hasattr(call.args[2], "meta"):
        return None
    x, y = (lo.operand(value, dtype) for value in call.args[:2])
    weight = call.args[2]
    gap = lo.apply("sub", [y, x], dtype)
    if abs(weight) < 0.5:
        return lo.apply(
            "add", [x, lo.apply("mul", [lo.operand(weight, dtype), gap], dtype)], dtype, lo.shape(call)
        )
    back = lo.apply("mul", [gap, lo.operand(1 - weight, dtype)], dtype)
    return lo.apply("sub", [y, back], dtype, lo.shape(call))
