"""C++ text of pooling windows: taps outermost, so that the vector runs along a row of outputs."""

from __future__ import annotations

from typing import Any

from mlpapers.kernels.dsl.cpp.maths import STORAGE
from mlpapers.kernels.sketch import Call, Sketch


def window_function(name: str, sketch: Sketch, call: Call, spec: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the function of a pooling call, and the sizes that it takes as arguments.

    Parameters
    ----------
    name : str
    sketch : Sketch
    call : Call
    spec : dict
        reduce ("max" or "mean"), kernel, stride, padding, dilation, include, divisor, planes, sizes, outs.

    Returns
    -------
    text : str
    sizes : list of str
    """
    rank = len(spec["kernel"])
    dtype = sketch.tensor(call.dst[0]).dtype
    kind = STORAGE[dtype]
    lanes = "float" if dtype in ("f32", "f16", "bf16") else kind
    if dtype == "bf16":
        raise ValueError("pooling of bf16 has no template")
    sizes = [spec["planes"], *spec["sizes"], *spec["outs"]]
    letters = "dhw"[3 - rank :]
    lines = [
        f'extern "C" void {name}(const {kind}* __restrict x, {kind}* __restrict y, long planes, '
        + ", ".join(f"long i{a}" for a in letters) + ", " + ", ".join(f"long o{a}" for a in letters)
        + ", int threads) {",
        "  const long rows = planes" + "".join(f" * o{a}" for a in letters[:-1]) + ";",
        f"  #pragma omp parallel num_threads(threads) if((double)rows * ow > {4096})",
        "  {",
        f"  {lanes}* acc = ({lanes}*)aligned_alloc(64, (ow * sizeof({lanes}) + 63) / 64 * 64);",
        f"  {lanes}* cnt = ({lanes}*)aligned_alloc(64, (ow * sizeof({lanes}) + 63) / 64 * 64);",
        "  #pragma omp for schedule(static)",
        "  for (long row = 0; row < rows; ++row) {",
        "    long rest = row;",
    ]  # fmt: skip
    lines += [f"    const long {a} = rest % o{a}; rest /= o{a};" for a in reversed(letters[:-1])]
    maximum = spec["reduce"] == "max"
    lines.append(
        f"    for (long j = 0; j < ow; ++j) {{ acc[j] = {'-M_INF' if maximum else '0'}; cnt[j] = 0; }}"
    )
    extra = [f"    long span_{a};" for a in letters[:-1]] if not maximum else []
    lines += extra
    depth = 2
    dims = list(zip(letters, spec["kernel"], spec["stride"], spec["padding"], spec["dilation"]))
    place = "rest"
    for a, kernel, stride, padding, _ in dims[:-1]:
        if not maximum:
            lines.append(
                "  " * depth + f"span_{a} = m_min({a} * {stride} - {padding} + {kernel}, i{a} + {padding}) "
                f"- ({a} * {stride} - {padding});"
            )
    for a, kernel, stride, padding, dilation in dims[:-1]:
        lines.append("  " * depth + f"for (long k{a} = 0; k{a} < {kernel}; ++k{a}) {{")
        depth += 1
        lines.append("  " * depth + f"const long s{a} = {a} * {stride} - {padding} + k{a} * {dilation};")
        lines.append("  " * depth + f"if (s{a} < 0 || s{a} >= i{a}) continue;")
        place = f"({place}) * i{a} + s{a}"
    a, kernel, stride, padding, dilation = dims[-1]
    lines += [
        "  " * depth + f"const {kind}* line = x + ({place}) * iw;",
        "  " * depth + f"for (long kw = 0; kw < {kernel}; ++kw) {{",
        "  " * depth + f"  const long shift = kw * {dilation} - {padding};",
        "  " * depth + f"  const long lo = shift < 0 ? (-shift + {stride} - 1) / {stride} : 0;",
        "  " * depth
        + f"  const long hi = m_min(ow, iw - 1 - shift < 0 ? 0 : (iw - 1 - shift) / {stride} + 1);",
        "  " * depth + "  #pragma omp simd",
        "  " * depth + "  for (long j = lo; j < hi; ++j) {",
        "  " * depth + f"    const {lanes} v = line[j * {stride} + shift];",
    ]
    if maximum:
        lines.append("  " * depth + "    acc[j] = v > acc[j] || v != v ? v : acc[j];")
    else:
        lines.append("  " * depth + "    acc[j] += v; cnt[j] += 1;")
    lines += ["  " * depth + "  }", "  " * depth + "}"]
    while depth > 2:
        depth -= 1
        lines.append("  " * depth + "}")
    lines.append(f"    {kind}* out = y + row * ow;")
    if maximum:
        lines.append(f"    for (long j = 0; j < ow; ++j) out[j] = ({kind})acc[j];")
    elif spec["divisor"]:
        lines.append(f"    for (long j = 0; j < ow; ++j) out[j] = ({kind})(acc[j] / {spec['divisor']});")
    elif spec["include"]:
        outer = "".join(f" * span_{b}" for b in letters[:-1])
        lines += [
            f"    for (long j = 0; j < ow; ++j) {{ const long begin = j * {stride} - {padding};",
            f"      const long span = m_min(begin + {kernel}, iw + {padding}) - begin;",
            f"      out[j] = ({kind})(acc[j] / ({lanes})(span{outer})); }}",
        ]
    else:
        lines.append(f"    for (long j = 0; j < ow; ++j) out[j] = ({kind})(acc[j] / cnt[j]);")
    lines += ["  }", "  free(acc); free(cnt);", "  }", "}"]
    return "\n".join(lines), sizes
