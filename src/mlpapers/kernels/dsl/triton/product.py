"""Matrix products in Triton: in TF32, or in three products of TF32, which is as exact as float32.

Hopper's tensor cores want K-contiguous operands. An operand that lies otherwise is copied first, and a K that
is no multiple of a block is padded in the copy; this costs a pass over the operand and saves more. For three
products the copy also cuts each number in two, so that the product itself has nothing to do but multiply.
Small products and those with a very long K stay with the library.
"""

from __future__ import annotations

import json
from typing import Any

from mlpapers.kernels.sketch import Call, Sketch

# Code of a precision in a sketch's constexpr PRECISION -> what a product does with its operands.
PRECISIONS = {1: "tf32x3", 2: "tf32", 3: "bf16"}
TARGETS = (
    "aten.linear.default", "aten.mm.default", "aten.addmm.default", "aten.matmul.default", "aten.bmm.default",
)  # fmt: skip

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


def _times(a, b, bias=None, how="tf32x3", block=(128, 128, 32), warps=8, stages=3):
    """Return a @ b.T + bias; a is (.., K), b is (N, K), both of any strides."""
    rows = a.reshape(-1, a.shape[-1])
    (m, k), n = rows.shape, b.shape[0]
    if min(m, n, k) < 128 or k > 8 * max(m, n):
        if bias is None:
            return torch.mm(rows, b.t()).reshape(*a.shape[:-1], n)
        return torch.addmm(bias, rows, b.t()).reshape(*a.shape[:-1], n)
    rows, b = rows.contiguous(), b.contiguous()
    if k % block[2]:
        more = [0, block[2] - k % block[2]]
        rows, b = (torch.ops.aten.constant_pad_nd.default(x, more) for x in (rows, b))
    out = torch.empty((*a.shape[:-1], n), dtype=a.dtype, device=a.device)
    programs = -(-m // block[0]) * -(-n // block[1])
    _run(
        _product_kernel, programs, rows, b, bias if bias is not None else b, out, m, n, rows.shape[1],
        BIAS=bias is not None, HOW=how, BM=block[0], BN=block[1], BK=block[2], GROUP=8, num_warps=warps,
        num_stages=stages,
    )
    return out


'''

# A float32 number as the sum of two of TF32: what rounding to 11 bits leaves is itself rounded to 11 bits.
PAIRS = '''\
@triton.jit
def _split_kernel(p_x, p_high, p_low, R, K, KP, SB, SR, SK, BR: tl.constexpr, BK: tl.constexpr):
    pid = tl.program_id(0)
    across, down = tl.cdiv(KP, BK), tl.cdiv(R, BR)
    k = (pid % across) * BK + tl.arange(0, BK)[None, :]
    r = (pid // across % down) * BR + tl.arange(0, BR)[:, None]
    batch = (pid // across // down).to(tl.int64)
    place = p_x + batch * SB + r.to(tl.int64) * SR + k.to(tl.int64) * SK
    x = tl.load(place, mask=(r < R) & (k < K), other=0.0)
    high = _rounded(x)
    # Infinity less infinity is no rest.
    low = tl.where(tl.abs(high) < float("inf"), _rounded(x - high), 0.0)
    place = (batch * R + r) * KP + k
    tl.store(p_high + place, high, mask=(r < R) & (k < KP))
    tl.store(p_low + place, low, mask=(r < R) & (k < KP))


@triton.jit
def _pairs_kernel(p_ah, p_al, p_bh, p_bl, p_bias, p_out, M, N, K, BIAS: tl.constexpr, BM: tl.constexpr,
                  BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    pid = tl.program_id(0)
    columns, rows = tl.cdiv(N, BN), tl.cdiv(M, BM)
    batch = (pid // (columns * rows)).to(tl.int64)
    pid = pid % (columns * rows)
    # Neighbours share rows of one operand: groups of row blocks go through the columns together.
    first = (pid // (GROUP * columns)) * GROUP
    height = tl.minimum(rows - first, GROUP)
    m = (first + (pid % (GROUP * columns)) % height) * BM + tl.arange(0, BM)
    n = (pid % (GROUP * columns)) // height * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    a = (batch * M + m % M)[:, None] * K + k[None, :]
    b = (batch * N + n % N)[None, :] * K + k[:, None]
    acc = tl.zeros((BM, BN), tl.float32)
    for s in range(0, K, BK):
        ah = tl.load(p_ah + a + s)
        al = tl.load(p_al + a + s)
        bh = tl.load(p_bh + b + s)
        bl = tl.load(p_bl + b + s)
        part = tl.dot(ah, bl, input_precision="tf32")
        part = tl.dot(al, bh, part, input_precision="tf32")
        part = tl.dot(ah, bh, part, input_precision="tf32")
        # Tensor cores cut what they add up; long sums are added by the others, which round.
        acc += part
    if tl.max(tl.max((acc != acc).to(tl.int32), 1), 0) > 0:
        # Infinity times a rest of nothing is nan: what is not finite follows from the first parts alone.
        coarse = tl.zeros((BM, BN), tl.float32)
        for s in tl.range(0, K, BK, num_stages=1):
            coarse = tl.dot(tl.load(p_ah + a + s), tl.load(p_bh + b + s), coarse, input_precision="tf32")
        acc = tl.where(acc == acc, acc, coarse)
    if BIAS:
        acc += tl.load(p_bias + n % N)[None, :]
    place = p_out + (batch * M + m)[:, None] * N + n[None, :]
    tl.store(place, acc, mask=(m[:, None] < M) & (n[None, :] < N))


def _pair(x, size):
    """Return the two parts of x (batches, rows, K), with zeros up to a K of `size`."""
    batches, rows, k = x.shape
    high, low = (torch.empty((batches, rows, size), dtype=x.dtype, device=x.device) for _ in range(2))
    programs = batches * -(-rows // 64) * -(-size // 32)
    _run(_split_kernel, programs, x, high, low, rows, k, size, *x.stride(), BR=64, BK=32, num_warps=4)
    return high, low


def _matmul(a, b, bias=None, worth=(1270, 400), block=(128, 128, 32), warps=8, stages=3):
    """Return a @ b.mT + bias; a is (.., M, K), b is (N, K) or (batches, N, K), both of any strides."""
    k, n = b.shape[-1], b.shape[-2]
    rows = a if b.dim() == 3 else a.reshape(1, -1, k)
    m = rows.shape[1]
    # To cut the operands in two takes (1/m + 1/n) of the product's time, times some number; the library's
    # product of batches leaves more to gain.
    pays = m * n > worth[rows.shape[0] > 1] * (m + n)
    if k < 64 or k > 8 * max(m, n) or not pays:
        return torch.matmul(a, b.mT) if b.dim() == 3 else _times(a, b, bias)
    size = -(-k // block[2]) * block[2]
    parts = (*_pair(rows, size), *_pair(b if b.dim() == 3 else b[None], size))
    out = torch.empty((*a.shape[:-1], n), dtype=a.dtype, device=a.device)
    programs = rows.shape[0] * -(-m // block[0]) * -(-n // block[1])
    _run(
        _pairs_kernel, programs, *parts, bias if bias is not None else out, out, m, n, size,
        BIAS=bias is not None, BM=block[0], BN=block[1], BK=block[2], GROUP=8, num_warps=warps,
        num_stages=stages,
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
        batched = ranks == [3, 3] and how == "tf32x3"
        if not batched and (len(ranks) != 2 or ranks[0] < 2 or ranks[1] != 2):
            return None
        left, right, bias = arguments[0], f"{arguments[1]}.mT", "None"
    if how == "tf32x3":
        return f"{call.dst[0]} = _matmul({left}, {right}, {bias})"
    return f"{call.dst[0]} = _times({left}, {right}, {bias}, {how!r})"


def product_source(how: str) -> str:
    """Return the functions behind the statement of a product."""
    return PRODUCT + PAIRS if how == "tf32x3" else PRODUCT


def _base(sketch: Sketch, name: str) -> Any:
    view = sketch.view(name)
    return sketch.tensor(view.base if view is not None else name)


def _dtype(sketch: Sketch, name: str) -> str:
    return str(_base(sketch, name).dtype)


def _rank(sketch: Sketch, name: str) -> int:
    view = sketch.view(name)
    return len(view.dims) if view is not None else len(sketch.tensor(name).dims)
