"""TileLang text of the elementwise operations: expressions of its intermediate language on numbers."""

from __future__ import annotations

TYPES = {"f32": "float32", "f64": "float64", "i64": "int64", "b1": "bool"}
STORAGE = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "i64": "int64", "i32": "int32",
    "i16": "int16", "i8": "int8", "u8": "uint8", "b1": "uint8",
}  # fmt: skip

# nan is asked for by name: x != x would be simplified to False.
_INFIX = {
    "identity": "({0})", "add": "({0} + {1})", "sub": "({0} - {1})", "mul": "({0} * {1})", "neg": "(-{0})",
    "square": "({0} * {0})", "eq": "({0} == {1})", "ne": "({0} != {1})", "lt": "({0} < {1})",
    "le": "({0} <= {1})", "gt": "({0} > {1})", "ge": "({0} >= {1})", "abs": "T.abs({0})",
    "sign": "(T.cast({0} > {z}, {t}) - T.cast({0} < {z}, {t}))",
}  # fmt: skip
_FLOAT = {
    "div": "({0} / {1})", "reciprocal": "({o} / {0})", "rsqrt": "({o} / T.sqrt({0}))",
    "maximum": "T.if_then_else(T.Or({0} > {1}, T.isnan({0})), {0}, {1})",
    "minimum": "T.if_then_else(T.Or({0} < {1}, T.isnan({0})), {0}, {1})",
    "relu": "T.if_then_else(T.Or({0} > {z}, T.isnan({0})), {0}, {z})",
    "isnan": "T.isnan({0})", "isinf": "T.isinf({0})", "round": "T.nearbyint({0})", "pow": "T.pow({0}, {1})",
    "sigmoid": "({o} / ({o} + T.exp(-{0})))", "silu": "({0} / ({o} + T.exp(-{0})))",
    "softplus": "T.if_then_else({0} > {c20}, {0}, T.log({o} + T.exp({0})))",
    "mish": "({0} * T.tanh(T.if_then_else({0} > {c20}, {0}, T.log({o} + T.exp({0})))))",
    "gelu": "({0} * {h} * ({o} + T.erf({0} * {r2})))",
    "gelu_tanh": "({0} * {h} * ({o} + T.tanh({g} * ({0} + {k} * {0} * {0} * {0}))))",
    "expm1": "T.if_then_else(T.abs({0}) < {s}, {0} * ({o} + {h} * {0} * ({o} + {0} / {c3})), "
    "T.exp({0}) - {o})",
    "log1p": "T.if_then_else(T.abs({0}) < {s}, {0} - {h} * {0} * {0} * ({o} - {0} / {q}), T.log({o} + {0}))",
    "erfc": "({o} - T.erf({0}))", "fmod": "T.fmod({0}, {1})", "trunc_div": "T.trunc({0} / {1})",
    "remainder": "({0} - T.floor({0} / {1}) * {1})", "floor_div": "T.floor({0} / {1})",
    "atan2": "T.atan2({0}, {1})", "exp2": "T.exp2({0})",
}  # fmt: skip
_CALLS = (
    "exp", "log", "log2", "log10", "sqrt", "floor", "ceil", "trunc", "sin", "cos", "tan", "asin", "acos",
    "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "tanh", "erf",
)  # fmt: skip
_INTEGER = {
    "floor_div": "T.floordiv({0}, {1})", "trunc_div": "T.truncdiv({0}, {1})",
    "remainder": "T.floormod({0}, {1})", "fmod": "T.truncmod({0}, {1})", "maximum": "T.max({0}, {1})",
    "minimum": "T.min({0}, {1})", "relu": "T.max({0}, {z})", "bitwise_and": "({0} & {1})",
    "bitwise_or": "({0} | {1})", "bitwise_xor": "({0} ^ {1})", "bitwise_not": "(~{0})",
    "shift_left": "({0} << {1})", "shift_right": "({0} >> {1})", "floor": "({0})", "ceil": "({0})",
    "round": "({0})", "trunc": "({0})", "isnan": "T.bool(False)", "isinf": "T.bool(False)",
}  # fmt: skip
_LOGICAL = {"logical_and": "T.And({0}, {1})", "logical_or": "T.Or({0}, {1})", "logical_xor": "({0} != {1})"}
_LARGEST_POWER = 8


def constant(text: str, dtype: str) -> str:
    """Return a literal of the sketch as TileLang."""
    if dtype == "b1":
        return f"T.bool({bool(float(text))})"
    if dtype == "i64":
        return f"T.int64({text})"
    name = f"T.{TYPES[dtype]}"
    return f'{name}(float("{text}"))' if text.lstrip("-") in ("inf", "nan") else f"{name}({float(text)!r})"


def expression(op: str, args: list[str], dtype: str) -> str:
    """Return the TileLang expression of an elementwise operation.

    Parameters
    ----------
    op : str
    args : list of str
    dtype : str
        Compute type of the operands.

    Returns
    -------
    text : str
    """
    values = {
        "z": "0.0", "o": "1.0", "h": "0.5", "c20": "20.0", "c3": "3.0", "q": "1.5", "s": "1e-3",
        "r2": "0.7071067811865476", "g": "0.7978845608028654", "k": "0.044715",
    }  # fmt: skip
    floating = dtype in ("f32", "f64")
    named = {name: constant(value if floating else "0", dtype) for name, value in values.items()}
    named["t"] = repr(TYPES[dtype])
    if op == "where":
        return f"T.if_then_else({args[0]}, {args[1]}, {args[2]})"
    if op == "logical_not" or (op == "bitwise_not" and dtype == "b1"):
        return f"T.Not({args[0]})" if dtype == "b1" else f"({args[0]} == {named['z']})"
    if op in _LOGICAL:
        truth = args if dtype == "b1" else [f"({a} != {named['z']})" for a in args]
        return _LOGICAL[op].format(*truth)
    if not floating and op in _INTEGER:
        return _INTEGER[op].format(*args, **named)
    if op in _INFIX:
        return _INFIX[op].format(*args, **named)
    if op == "pow" and (power := _whole(args[1])) is not None:
        product = " * ".join([args[0]] * abs(power))
        return f"({named['o']} / ({product}))" if power < 0 else f"({product})"
    if op in _FLOAT:
        return _FLOAT[op].format(*args, **named)
    if op in _CALLS:
        return f"T.{op}({', '.join(args)})"
    raise KeyError(op)


def _whole(text: str) -> int | None:
    """Return the exponent that a literal such as ``T.float32(3.0)`` holds, where it is whole and small."""
    inside = text.partition("(")[2].rstrip(")")
    try:
        value = float(inside)
    except ValueError:
        return None
    return int(value) if value == int(value) and 0 < abs(value) <= _LARGEST_POWER else None
