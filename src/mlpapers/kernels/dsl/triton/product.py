"""Matrix products in Triton: both operands along K, TF32 in three passes, which is as exact as float32.

Hopper's tensor cores want K-contiguous operands. A right operand that lies along N is copied first, and a K
that is no multiple of a block is padded in a copy; both cost a pass over the operand and save more. A linear
layer's weight lies along K already. Small products and those with a very long K stay with the library.
"""

from __future__ import annotations

import json
from typing import Any

from mlpapers.kernels.sketch import Call, Sketch

# Code of a precision in a sketch's constexpr PRECISION -> what a product does with its operands.
PRECISIONS = {1: "tf32x3", 2: "tf32", 3: "bf16"}
TARGETS = ("aten.linear.default", "aten.mm.default", "aten.addmm.default", "aten.matmul.default")

PRODUCT = '''\
@triton.jit
def _product_kernel(p_a, p_b, p_bias, p_out, M, N, K, BIAS: tl.constexpr, HOW: tl.constexpr,
                    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    pid = tl.program_id(0)
    # Neighbours share rows of one operand: groups of row blocks go through the columns together.
    columns = tl.cdiv(N, BN)
    first = (pid // (GROUP * columns)) * GROUP
    height = tl.minimum(tl.cdiv(M, BM) - first, GROUP)
    i = first + (pid % (GROUP * columns)) % height
    j = (pid % (GROUP * columns)) // height
    m = i * BM + tl.arange(0, BM)
    n = j * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    a = p_a + (m % M)[:, None].to(tl.int64) * K + k[None, :]
    b = p_b + (n % N)[None, :].to(tl.int64) * K + k[:, None]
    acc = tl.zeros((BM, BN), tl.float32)
    for _ in range(0, K, BK):
        x = tl.load(a)
        y = tl.load(b)
        if HOW == "bf16":
            acc = tl.dot(x.to(tl.bfloat16), y.to(tl.bfloat16), acc)
        else:
            acc = tl.dot(x, y, acc, input_precision=HOW)
        a += BK
        b += BK
    if BIAS:
        acc += tl.load(p_bias + n % N)[None, :]
    place = p_out + m[:, None].to(tl.int64) * N + n[None, :]
    tl.store(place, acc, mask=(m[:, None] < M) & (n[None, :] < N))


def _product(a, b, bias=None, how="tf32x3", block=(128, 128, 32), warps=8, stages=3):
    """Return a @ b.T + bias; a is (.., K), b is (N, K), both of any strides."""
    rows = a.reshape(-1, a.shape[-1])
    (m, k), n = rows.shape, b.shape[0]
    if min(m, n, k) < 128 or k > 8 * max(m, n):
        if bias is None:
            return torch.ops.aten.mm.default(rows, b.t()).reshape(*a.shape[:-1], n)
        return torch.ops.aten.addmm.default(bias, rows, b.t()).reshape(*a.shape[:-1], n)
    rows, b = rows.contiguous(), b.contiguous()
    if k % block[2]:
        more = [0, block[2] - k % block[2]]
        rows, b = (torch.ops.aten.constant_pad_nd.default(x, more) for x in (rows, b))
    out = torch.empty((*a.shape[:-1], n), dtype=a.dtype, device=a.device)
    programs = -(-m // block[0]) * -(-n // block[1])
    _product_kernel[(programs,)](
        rows, b, bias if bias is not None else b, out, m, n, rows.shape[1], bias is not None, how, *block, 8,
        num_warps=warps, num_stages=stages,
    )
    return out


'''


def product_line(sketch: Sketch, call: Call, tensors: list[str], how: str) -> str | None:
    """Return the statement of a product by our kernel, None where the library keeps it.

    Parameters
    ----------
    sketch : Sketch
    call : Call
    tensors : list of str
        Expressions of the call's arguments.
    how : str
        "tf32x3", "tf32" or "bf16".

    Returns
    -------
    line : str or None
    """
    spec = json.loads(call.spec)
    if call.target not in TARGETS or spec["kwargs"] or len(call.dst) != 1:
        return None
    if any(_dtype(sketch, name) != "f32" for name in call.args):
        return None
    arguments = [tensors[int(str(value)[1:])] for value in spec["args"] if str(value).startswith("%")]
    ranks = [
        _rank(sketch, call.args[int(str(value)[1:])]) for value in spec["args"] if str(value).startswith("%")
    ]
    if len(arguments) != len([value for value in spec["args"] if value is not None]):
        return None
    if call.target == "aten.linear.default":
        left, right, bias = arguments[0], arguments[1], (arguments[2] if len(arguments) > 2 else "None")
    elif call.target == "aten.addmm.default":
        if ranks[0] != 1:
            return None
        left, right, bias = arguments[1], f"{arguments[2]}.t()", arguments[0]
    else:
        if len(ranks) != 2 or ranks[0] < 2 or ranks[1] != 2:
            return None
        left, right, bias = arguments[0], f"{arguments[1]}.t()", "None"
    return f"{call.dst[0]} = _product({left}, {right}, {bias}, {how!r})"


def _base(sketch: Sketch, name: str) -> Any:
    view = sketch.view(name)
    return sketch.tensor(view.base if view is not None else name)


def _dtype(sketch: Sketch, name: str) -> str:
    return str(_base(sketch, name).dtype)


def _rank(sketch: Sketch, name: str) -> int:
    view = sketch.view(name)
    return len(view.dims) if view is not None else len(sketch.tensor(name).dims)
