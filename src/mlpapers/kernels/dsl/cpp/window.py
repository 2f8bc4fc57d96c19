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
    get, put = ("m_from_bf16({})", "m_to_bf16({})") if dtype == "bf16" else ("{}", f"({kind})({{}})")
    sizes = [spec["planes"], *spec["sizes"], *spec["outs"]]
    letters = "dhw"[3 - rank :]
    maximum = spec["reduce"] == "max"
    reach = (int(spec["kernel"][-1]) - 1) * int(spec["dilation"][-1])
    lines = [
        f'extern "C" void {name}(const {kind}* __restrict x, {kind}* __restrict y, long planes, '
        + ", ".join(f"long i{a}" for a in letters) + ", " + ", ".join(f"long o{a}" for a in letters)
        + ", int threads) {",
        "  const long rows = planes" + "".join(f" * o{a}" for a in letters[:-1]) + ";",
        f"  #pragma omp parallel num_threads(threads) if((double)rows * ow > {4096})",
        "  {",
        f"  {lanes}* acc = ({lanes}*)aligned_alloc(64, (ow * sizeof({lanes}) + 63) / 64 * 64);",
        f"  {lanes}* cnt = ({lanes}*)aligned_alloc(64, (ow * sizeof({lanes}) + 63) / 64 * 64);",
        f"  const long span = (ow - 1) * {spec['stride'][-1]} + {reach} + 1;",
        f"  {lanes}* wide = ({lanes}*)aligned_alloc(64, (span * sizeof({lanes}) + 63) / 64 * 64);",
        f"  for (long j = 0; j < span; ++j) wide[j] = {'-M_INF' if maximum else '0'};",
        "  #pragma omp for schedule(static)",
        "  for (long row = 0; row < rows; ++row) {",
        "    long rest = row;",
    ]  # fmt: skip
    lines += [f"    const long {a} = rest % o{a}; rest /= o{a};" for a in reversed(letters[:-1])]
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
    counted = not maximum and not spec["divisor"] and not spec["include"]
    lines += [
        "  " * depth + line
        for line in _row(dims[-1], place, kind, lanes, get, maximum, counted, spec["ceil"])
    ]
    while depth > 2:
        depth -= 1
        lines.append("  " * depth + "}")
    lines.append(f"    {kind}* out = y + row * ow;")
    loop = "    for (long j = 0; j < ow; ++j) "
    if maximum:
        lines.append(f"{loop}out[j] = {put.format('acc[j]')};")
    elif spec["divisor"]:
        lines.append(f"{loop}out[j] = {put.format('acc[j] / ' + str(spec['divisor']))};")
    elif spec["include"]:
        outer = "".join(f" * span_{b}" for b in letters[:-1])
        lines += [
            f"{loop}{{ const long begin = j * {stride} - {padding};",
            f"      const long span = m_min(begin + {kernel}, iw + {padding}) - begin;",
            f"      out[j] = {put.format(f'acc[j] / ({lanes})(span{outer})')}; }}",
        ]
    else:
        lines.append(f"{loop}out[j] = {put.format('acc[j] / cnt[j]')};")
    lines += ["  }", "  free(acc); free(cnt); free(wide);", "  }", "}"]
    return "\n".join(lines), sizes


def _row(
    dim: tuple[Any, ...],
    place: str,
    kind: str,
    lanes: str,
    get: str,
    maximum: bool,
    counted: bool,
    ceil: bool,
) -> list[str]:
    """Return the lines that take one line of the input into a row of outputs, all taps of an output at once.

    A line that windows overhang is first copied between borders of what changes nothing, so that every tap
    is inside.
    """
    _, kernel, stride, padding, dilation = dim
    lines = [f"const {kind}* line = x + ({place}) * iw;"]
    source, element, shift = "line", get, 0
    if int(padding) or ceil:
        source, element, shift = "wide", "{}", int(padding)
        lines += [
            f"const long inside = m_min(iw, span - {padding});",
            "#pragma omp simd",
            f"for (long j = 0; j < inside; ++j) wide[{padding} + j] = {get.format('line[j]')};",
        ]
    taps = []
    for k in range(int(kernel)):
        value = element.format(f"{source}[j * {stride} + {k * int(dilation) - int(padding) + shift}]")
        join = f"v{k} > a || v{k} != v{k} ? v{k} : a" if maximum else f"a + v{k}"
        taps.append(f"  const {lanes} v{k} = {value}; a = {join};")
    inside = [
        f"  const long begin = j * {stride} - {padding};",
        f"  cnt[j] += m_min(begin + {kernel}, iw) - (begin < 0 ? 0 : begin);",
    ]
    return [
        *lines,
        "#pragma omp simd",
        "for (long j = 0; j < ow; ++j) {",
        f"  {lanes} a = acc[j];",
        *taps,
        "  acc[j] = a;",
        *(inside if counted else []),
        "}",
    ]
