"""Pooling windows in CUDA: one thread per output."""

from __future__ import annotations

from typing import Any

from mlpapers.kernels.dsl.cuda.maths import STORAGE
from mlpapers.kernels.dsl.launches import Sizes

_LOADS = {"bf16": "m_from_bf16({0})", "f16": "m_from_f16({0})"}
_STORES = {"bf16": "m_to_bf16({0})", "f16": "m_to_f16({0})"}


def window_function(name: str, dtype: str, spec: dict[str, Any], sizes: Sizes, threads: int) -> str:
    """Return the function of a pooling call over a flat grid of outputs.

    Parameters
    ----------
    name : str
    dtype : str
    spec : dict
        reduce ("max" or "mean"), kernel, stride, padding, dilation, include, divisor, planes, sizes, outs.
    sizes : Sizes
        Collects the sizes that the function takes as arguments.
    threads : int

    Returns
    -------
    text : str
    """
    rank = len(spec["kernel"])
    letters = "dhw"[3 - rank :]
    planes = sizes.text(spec["planes"])
    ins, outs = ([sizes.text(size) for size in spec[key]] for key in ("sizes", "outs"))
    kind = "double" if dtype == "f64" else "float"
    maximum = spec["reduce"] == "max"
    lines = [
        f"const ll j = blockIdx.x * (ll){threads} + threadIdx.x;",
        f"const ll area = {' * '.join(outs)};",
        f"if (j >= area * {planes}) return;",
        "ll rest = j;",
    ]
    for a, out in reversed(list(zip(letters, outs))):
        lines.append(f"const ll {a} = rest % {out}; rest /= {out};")
    lines.append(f"{kind} acc = {'-M_INF' if maximum else '0'}, count = 0;")
    dims = list(zip(letters, spec["kernel"], spec["stride"], spec["padding"], spec["dilation"], ins))
    place = "rest"
    for a, kernel, stride, padding, dilation, size in dims:
        lines += [
            "#pragma unroll",
            f"for (int k{a} = 0; k{a} < {kernel}; ++k{a}) {{",
            f"const ll s{a} = {a} * {stride} - {padding} + k{a} * {dilation};",
            f"if (s{a} < 0 || s{a} >= {size}) continue;",
        ]
        place = f"({place}) * {size} + s{a}"
    element = _LOADS.get(dtype, f"({kind}){{0}}").format(f"x[{place}]")
    lines.append(f"const {kind} v = {element};")
    lines.append("acc = m_larger(v, acc);" if maximum else "acc += v; count += 1;")
    lines.append("}" * rank)
    if not maximum:
        lines.append(f"acc /= {_divisor(spec, dims, kind)};")
    lines.append(f"y[j] = {_STORES.get(dtype, f'({STORAGE[dtype]}){{0}}').format('acc')};")
    arguments = "".join(f", ll e{k}" for k in range(len(sizes.arguments)))
    head = (
        f'extern "C" __global__ void __launch_bounds__({threads}) {name}'
        f"(const {STORAGE[dtype]}* __restrict__ x, {STORAGE[dtype]}* __restrict__ y{arguments}) {{"
    )
    return "\n".join([head, *(f"  {line}" for line in lines), "}"])


def _divisor(spec: dict[str, Any], dims: list[Any], kind: str) -> str:
    """Return what a sum is divided by: a number, the padded window, or the elements inside."""
    if spec["divisor"]:
        return f"({kind}){spec['divisor']}"
    if not spec["include"]:
        return "count"
    spans = [
        f"({kind})(m_min({a} * {stride} - {padding} + {kernel}, {size} + {padding})"
        f" - ({a} * {stride} - {padding}))"
        for a, kernel, stride, padding, _, size in dims
    ]
    return f"({' * '.join(spans)})"
