"""Triton text of the elementwise operations, from primitives of both the compiler and the interpreter."""

from __future__ import annotations

import re

TYPES = {"f32": "tl.float32", "f64": "tl.float64", "i64": "tl.int64", "b1": "tl.int1"}

# Helper functions by name, each after those that it calls. Polynomials as in the C++ language: series near
# zero, where 1 - x cancels, and the closed form elsewhere.
HELPERS = {
    "_expm1": """
    p = 4.16666679e-2 + x * (8.33333377e-3 + x * 1.38888892e-3)
    small = x * (1.0 + x * (0.5 + x * (1.66666672e-1 + x * p)))
    return tl.where(tl.abs(x) < 0.35, small, tl.exp(x) - 1.0)
""",
    "_log1p": """
    s = x / (2.0 + x)
    z = s * s
    w = z * (0.66666662693 + z * (0.40000972152 + z * (0.28498786688 + z * 0.24279078841)))
    h = 0.5 * x * x
    return tl.where((x > -0.29) & (x < 0.41), x - (h - s * (h + w)), tl.log(1.0 + x))
""",
    "_tanh": """
    a = tl.abs(x)
    z = x * x
    p = 1.33314422036e-1 + z * (-5.37397155531e-2 + z * (2.06390887954e-2 + z * -5.70498872745e-3))
    small = x + x * z * (-3.33332819422e-1 + z * p)
    t = 1.0 - 2.0 / (tl.exp(2.0 * a) + 1.0)
    return tl.where(a < 0.625, small, tl.where(x < 0.0, -t, t))
""",
    "_sigmoid": """
    return 1.0 / (1.0 + tl.exp(-x))
""",
    "_softplus": """
    return tl.where(x > 20.0, x, _log1p(tl.exp(tl.where(x > 20.0, 20.0, x))))
""",
    "_mish": """
    e = tl.exp(tl.where(x > 20.0, 20.0, x))
    n = e * (e + 2.0)
    return tl.where(x > 20.0, x, x * (n / (n + 2.0)))
""",
    "_trunc": """
    return tl.where(x < 0.0, tl.ceil(x), tl.floor(x))
""",
    "_round": """
    a = tl.abs(x)
    r = tl.floor(a + 0.5)
    half = (r - a) == 0.5
    odd = (r - 2.0 * tl.floor(0.5 * r)) == 1.0
    r = tl.where(half & odd, r - 1.0, r)
    return tl.where(x < 0.0, -r, r)
""",
    "_atan": """
    a = tl.abs(x)
    far, middle = a > 2.414213562373095, a > 0.4142135623730950
    y = tl.where(far, -1.0 / tl.where(far, a, 1.0), tl.where(middle, (a - 1.0) / (a + 1.0), a))
    base = tl.where(far, 1.5707963267948966, tl.where(middle, 0.7853981633974483, 0.0))
    z = y * y
    p = z * (-3.33329491539e-1 + z * (1.99777106478e-1 + z * (-1.38776856032e-1 + z * 8.05374449538e-2)))
    r = base + y + y * p
    return tl.where(x < 0.0, -r, r)
""",
    "_asin": """
    return _atan(x / tl.sqrt((1.0 - x) * (1.0 + x)))
""",
    "_acos": """
    return 2.0 * _atan(tl.sqrt((1.0 - x) / (1.0 + x)))
""",
    "_sinh": """
    u = _expm1(tl.abs(x))
    r = 0.5 * (u + u / (u + 1.0))
    return tl.where(x < 0.0, -r, r)
""",
    "_cosh": """
    e = tl.exp(tl.abs(x))
    return 0.5 * (e + 1.0 / e)
""",
    "_asinh": """
    a = tl.abs(x)
    r = tl.where(a > 1e10, tl.log(a) + 0.6931471805599453, _log1p(a + a * a / (1.0 + tl.sqrt(a * a + 1.0))))
    return tl.where(x < 0.0, -r, r)
""",
    "_acosh": """
    t = x - 1.0
    return tl.where(x > 1e10, tl.log(x) + 0.6931471805599453, _log1p(t + tl.sqrt(2.0 * t + t * t)))
""",
    "_atanh": """
    return 0.5 * _log1p(2.0 * x / (1.0 - x))
""",
    "_remainder": """
    r = x % y
    return tl.where((r != 0) & ((r < 0) != (y < 0)), r + y, r)
""",
    "_floor_div": """
    r = x % y
    r = tl.where((r != 0) & ((r < 0) != (y < 0)), r + y, r)
    return _round((x - r) / y)
""",
    "_integer_floor_div": """
    q = x // y
    return tl.where((x % y != 0) & ((x < 0) != (y < 0)), q - 1, q)
""",
    "_pow": """
    a = tl.exp2(y * tl.log2(tl.abs(x)))
    whole = tl.floor(y) == y
    odd = whole & (tl.floor(0.5 * y) * 2.0 != y)
    a = tl.where(x < 0.0, tl.where(whole, tl.where(odd, -a, a), float("nan")), a)
    return tl.where((y == 0.0) | (x == 1.0), 1.0, a)
""",
    "_atan2": """
    r = _atan(y / x)
    r = tl.where(x < 0.0, r + tl.where(y < 0.0, -3.141592653589793, 3.141592653589793), r)
    on_axis = tl.where(y > 0.0, 1.5707963267948966, tl.where(y < 0.0, -1.5707963267948966, 0.0))
    return tl.where(x == 0.0, on_axis, r)
""",
    "_larger": """
    return tl.where((x > y) | (x != x), x, y)
""",
    "_smaller": """
    return tl.where((x < y) | (x != x), x, y)
""",
    "_product": """
    return x * y
""",
    # TF32 keeps 10 bits of a significand; the tensor cores drop the others, and rounding halves the error.
    "_rounded": """
    near = ((x.to(tl.int32, bitcast=True) + 0x1000) & -8192).to(tl.float32, bitcast=True)
    return tl.where(x == x, near, x)
""",
}  # fmt: skip
_BINARY = ("_remainder", "_floor_div", "_integer_floor_div", "_pow", "_larger", "_smaller", "_product")

_INFIX = {
    "add": "({0} + {1})", "sub": "({0} - {1})", "mul": "({0} * {1})", "identity": "({0})", "neg": "(-{0})",
    "square": "({0} * {0})", "eq": "({0} == {1})", "ne": "({0} != {1})", "lt": "({0} < {1})",
    "le": "({0} <= {1})", "gt": "({0} > {1})", "ge": "({0} >= {1})",
    "sign": "(({0} > 0).to({t}) - ({0} < 0).to({t}))",
    "maximum": "tl.where(({0} > {1}) | ({0} != {0}), {0}, {1})",
    "minimum": "tl.where(({0} < {1}) | ({0} != {0}), {0}, {1})",
    "relu": "tl.where(({0} > 0) | ({0} != {0}), {0}, 0)",
    "isnan": "({0} != {0})",
    "isinf": '(tl.abs({0}) == float("inf"))',
    "abs": "tl.abs({0})",
}  # fmt: skip
_FLOAT = {
    "div": "({0} / {1})", "reciprocal": "(1.0 / {0})", "sqrt": "tl.sqrt_rn({0})",
    "rsqrt": "(1.0 / tl.sqrt_rn({0}))",
    "exp": "tl.exp({0})", "exp2": "tl.exp2({0})", "log": "tl.log({0})", "log2": "tl.log2({0})",
    "log10": "(tl.log2({0}) * 0.30102999566398120)", "sin": "tl.sin({0})", "cos": "tl.cos({0})",
    "tan": "(tl.sin({0}) / tl.cos({0}))", "floor": "tl.floor({0})", "ceil": "tl.ceil({0})",
    "erf": "tl.erf({0})", "erfc": "(1.0 - tl.erf({0}))", "fmod": "({0} % {1})",
    "silu": "({0} * _sigmoid({0}))", "gelu": "({0} * 0.5 * (1.0 + tl.erf({0} * 0.70710678118654752)))",
    "gelu_tanh": "({0} * 0.5 * (1.0 + _tanh(0.79788456080286536 * ({0} + 0.044715 * {0} * {0} * {0}))))",
    "trunc_div": "_trunc({0} / {1})",
}  # fmt: skip
_INTEGER = {
    "floor_div": "_integer_floor_div({0}, {1})", "trunc_div": "({0} // {1})",
    "remainder": "_remainder({0}, {1})",
    "fmod": "({0} % {1})", "bitwise_and": "({0} & {1})", "bitwise_or": "({0} | {1})",
    "bitwise_xor": "({0} ^ {1})", "bitwise_not": "(~{0})", "shift_left": "({0} << {1})",
    "shift_right": "({0} >> {1})", "floor": "({0})",
    "ceil": "({0})", "round": "({0})", "trunc": "({0})",
}  # fmt: skip
_LOGICAL = {"logical_and": "&", "logical_or": "|", "logical_xor": "^"}
# Whole powers up to here are products.
_LARGEST_POWER = 8


def expression(op: str, args: list[str], dtype: str) -> str:
    """Return the Triton expression of an elementwise operation.

    Parameters
    ----------
    op : str
    args : list of str
        Names or literals.
    dtype : str
        Compute type of the operands.

    Returns
    -------
    text : str
    """
    if op == "where":
        return f"tl.where({args[0]}, {args[1]}, {args[2]})"
    if op == "logical_not":
        return f"({args[0]} == 0)"
    if op in _LOGICAL:
        return f"(({args[0]} != 0) {_LOGICAL[op]} ({args[1]} != 0))"
    if op == "bitwise_not" and dtype == "b1":
        return f"({args[0]} == 0)"
    if dtype in ("i64", "b1"):
        if op in ("maximum", "minimum", "relu"):
            return _INFIX[op].replace(" | ({0} != {0})", "").format(*args)
        return (_INTEGER[op] if op in _INTEGER else _INFIX[op]).format(*args, t=TYPES["i64"])
    if op in _INFIX:
        return _INFIX[op].format(*args, t=TYPES[dtype])
    if op == "pow" and (power := _whole(args[1])) is not None:
        product = " * ".join([args[0]] * abs(power)) or "1.0"
        return f"(1.0 / ({product}))" if power < 0 else f"({product})"
    if op in _FLOAT:
        return _FLOAT[op].format(*args)
    if f"_{op}" in HELPERS:
        return f"_{op}({', '.join(args)})"
    raise KeyError(op)


def _whole(text: str) -> int | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value == int(value) and 0 < abs(value) <= _LARGEST_POWER else None


def helpers(text: str) -> str:
    """Return the definitions of the helper functions that a text calls, in order.

    Parameters
    ----------
    text : str

    Returns
    -------
    source : str
    """
    used: set[str] = set()
    bodies = [text]
    while bodies:
        body = bodies.pop()
        for name, inside in HELPERS.items():
            if name not in used and re.search(rf"(?<!\w){name}\b", body):
                used.add(name)
                bodies.append(inside)
    found = []
    for name, inside in HELPERS.items():
        if name in used:
            arguments = "y, x" if name == "_atan2" else ("x, y" if name in _BINARY else "x")
            found.append(f"@triton.jit\ndef {name}({arguments}):{inside.rstrip()}\n\n\n")
    return "".join(found)


def constant(text: str, dtype: str) -> str:
    """Return a literal of the sketch as Triton."""
    if dtype == "b1":
        return "True" if float(text) else "False"
    if dtype == "i64":
        return text
    if text.lstrip("-") in ("inf", "nan"):
        return f'float("{text}")'
    return text if any(letter in text for letter in ".e") else f"{text}.0"
