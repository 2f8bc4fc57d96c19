"""Pooling windows in TileLang: one thread per output."""

from __future__ import annotations

from typing import Any

from mlpapers.kernels.dsl.launches import Sizes
from mlpapers.kernels.dsl.tilelang.maths import STORAGE
from mlpapers.kernels.dsl.tilelang.render import THREADS


def window_function(name: str, dtype: str, spec: dict[str, Any], sizes: Sizes, backend: str) -> str:
    """Return the factory of a pooling call over a flat grid of outputs.

    Parameters
    ----------
    name : str
    dtype : str
    spec : dict
        reduce ("max" or "mean"), kernel, stride, padding, dilation, include, divisor, planes, sizes, outs.
    sizes : Sizes
        Collects the sizes that the factory takes.
    backend : str

    Returns
    -------
    text : str
    """
    rank = len(spec["kernel"])
    letters = "dhw"[3 - rank :]
    planes = sizes.text(spec["planes"])
    ins, outs = ([sizes.text(size) for size in spec[key]] for key in ("sizes", "outs"))
    kind = "float64" if dtype == "f64" else "float32"
    maximum = spec["reduce"] == "max"
    body = []
    rest = f"(bx * {THREADS} + tx)"
    for a, out in reversed(list(zip(letters, outs))):
        body.append(f"{a} = {rest} % {out}")
        rest = f"({rest} // {out})"
    start = f'T.{kind}(float("-inf"))' if maximum else f"T.{kind}(0.0)"
    for buffer, value in (("acc", start), ("count", f"T.{kind}(0.0)")):
        body += [f'{buffer} = T.alloc_local((1,), "{kind}")', f"{buffer}[0] = {value}"]
    dims = list(zip(letters, spec["kernel"], spec["stride"], spec["padding"], spec["dilation"], ins))
    place, pad = rest, ""
    for a, kernel, stride, padding, dilation, size in dims:
        body.append(f"{pad}for k{a} in T.serial({kernel}):")
        pad += "    "
        body.append(f"{pad}s{a} = {a} * {stride} - {padding} + k{a} * {dilation}")
        body.append(f"{pad}if T.And(s{a} >= 0, s{a} < {size}):")
        pad += "    "
        place = f"({place}) * {size} + s{a}"
    body.append(f'{pad}v = T.cast(p_x[{place}], "{kind}")')
    if maximum:
        body += [f"{pad}if T.Or(v > acc[0], T.isnan(v)):", f"{pad}    acc[0] = v"]
    else:
        body += [f"{pad}acc[0] = acc[0] + v", f"{pad}count[0] = count[0] + T.{kind}(1.0)"]
    value = "acc[0]" if maximum else f"acc[0] / {_divisor(spec, dims, kind)}"
    body.append(f'p_y[bx * {THREADS} + tx] = T.cast({value}, "{STORAGE[dtype]}")')
    serial = backend == "cpu"
    arguments = [*(f"e{k}" for k in range(len(sizes.arguments))), "n_p_x", "n_p_y"]
    tensors = ", ".join(f'{p}: T.Tensor((n_{p},), "{STORAGE[dtype]}")' for p in ("p_x", "p_y"))
    lines = [
        f"def {name}({', '.join(arguments)}):",
        f"    total = {' * '.join([f'({planes})', *outs])}",
        "",
        "    @T.prim_func",
        f"    def run({tensors}):",
        "        lengths = (n_p_x, n_p_y)",
        f"        with T.Kernel((total + {THREADS - 1}) // {THREADS}, threads={THREADS}) as bx:",
        f"            for tx in T.serial({THREADS}):"
        if serial
        else "            tx = T.get_thread_binding(0)",
    ]
    indent = " " * (16 if serial else 12)
    lines += [f"{indent}if bx * {THREADS} + tx < total:", *(f"{indent}    {line}" for line in body)]
    return "\n".join([*lines, "", "    return run"])


def _divisor(spec: dict[str, Any], dims: list[Any], kind: str) -> str:
    """Return what a sum is divided by: a number, the padded window, or the elements inside."""
    if spec["divisor"]:
        return f"T.{kind}({float(spec['divisor'])})"
    if not spec["include"]:
        return "count[0]"
    spans = [
        f"(T.min({a} * {stride} - {padding} + {kernel}, {size} + {padding}) - ({a} * {stride} - {padding}))"
        for a, kernel, stride, padding, _, size in dims
    ]
    return f'T.cast({" * ".join(spans)}, "{kind}")'
