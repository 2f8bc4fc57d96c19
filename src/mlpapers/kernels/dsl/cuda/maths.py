"""CUDA C++ text of the elementwise operations, from functions that need no header."""

from __future__ import annotations

TYPES = {"f32": "float", "f64": "double", "i64": "long long", "b1": "bool"}
STORAGE = {
    "f64": "double", "f32": "float", "f16": "unsigned short", "bf16": "unsigned short", "i64": "long long",
    "i32": "int", "i16": "short", "i8": "signed char", "u8": "unsigned char", "b1": "unsigned char",
}  # fmt: skip

PRELUDE = r"""
typedef long long ll;
#define M_INF __int_as_float(0x7f800000)
#define M_NAN __int_as_float(0x7fffffff)
__device__ __forceinline__ ll m_min(ll a, ll b) { return a < b ? a : b; }
__device__ __forceinline__ float m_from_bf16(unsigned short h) { return __uint_as_float((unsigned)h << 16); }
__device__ __forceinline__ unsigned short m_to_bf16(float f) {
  unsigned u = __float_as_uint(f);
  unsigned r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return (unsigned short)(f != f ? 0x7fc0u : r);
}
__device__ __forceinline__ float m_from_f16(unsigned short h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}
__device__ __forceinline__ unsigned short m_to_f16(float f) {
  unsigned short h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}
template <class V> __device__ __forceinline__ V m_sigmoid(V x) { return (V)1 / ((V)1 + exp(-x)); }
template <class V> __device__ __forceinline__ V m_softplus(V x) {
  return x > (V)20 ? x : log1p(exp(x > (V)20 ? (V)20 : x));
}
template <class V> __device__ __forceinline__ V m_mish(V x) {
  V e = exp(x > (V)20 ? (V)20 : x);
  V n = e * (e + (V)2);
  return x > (V)20 ? x : x * (n / (n + (V)2));
}
template <class V> __device__ __forceinline__ V m_remainder(V a, V b) {
  V r = fmod(a, b);
  return r != 0 && ((r < 0) != (b < 0)) ? r + b : r;
}
template <class V> __device__ __forceinline__ V m_float_floor_div(V a, V b) {
  return b == 0 ? a / b : rint((a - m_remainder(a, b)) / b);
}
__device__ __forceinline__ ll m_floor_div(ll a, ll b) {
  ll q = a / b;
  return (a % b != 0) && ((a < 0) != (b < 0)) ? q - 1 : q;
}
__device__ __forceinline__ ll m_mod(ll a, ll b) {
  ll r = a % b;
  return r != 0 && ((r < 0) != (b < 0)) ? r + b : r;
}
template <class V> __device__ __forceinline__ V m_larger(V a, V b) { return (a > b || a != a) ? a : b; }
template <class V> __device__ __forceinline__ V m_smaller(V a, V b) { return (a < b || a != a) ? a : b; }
struct f_sum { template <class V> __device__ V operator()(V a, V b) const { return a + b; } };
struct f_prod { template <class V> __device__ V operator()(V a, V b) const { return a * b; } };
struct f_any { template <class V> __device__ V operator()(V a, V b) const { return a || b; } };
struct f_all { template <class V> __device__ V operator()(V a, V b) const { return a && b; } };
struct f_amax { template <class V> __device__ V operator()(V a, V b) const { return m_larger(b, a); } };
struct f_amin { template <class V> __device__ V operator()(V a, V b) const { return m_smaller(b, a); } };
template <class V> struct Pick { V v; ll i; };
// The extreme, nan before all, the smaller place among equals; a place below 0 means: nothing seen.
struct f_argmax {
  template <class V> __device__ Pick<V> operator()(Pick<V> a, Pick<V> b) const {
    if (a.i < 0 || b.i < 0) return a.i < 0 ? b : a;
    const bool x = a.v != a.v, y = b.v != b.v;
    if (x || y) return x && y ? (a.i < b.i ? a : b) : (x ? a : b);
    return a.v > b.v || (a.v == b.v && a.i < b.i) ? a : b;
  }
};
struct f_argmin {
  template <class V> __device__ Pick<V> operator()(Pick<V> a, Pick<V> b) const {
    if (a.i < 0 || b.i < 0) return a.i < 0 ? b : a;
    const bool x = a.v != a.v, y = b.v != b.v;
    if (x || y) return x && y ? (a.i < b.i ? a : b) : (x ? a : b);
    return a.v < b.v || (a.v == b.v && a.i < b.i) ? a : b;
  }
};
struct Moments { double m, q, n; };
struct f_moments {
  __device__ Moments operator()(Moments a, Moments b) const {
    if (a.n == 0 || b.n == 0) return a.n == 0 ? b : a;
    const double n = a.n + b.n, d = b.m - a.m;
    Moments r = {a.m + d * (b.n / n), a.q + b.q + d * d * (a.n * b.n / n), n};
    return r;
  }
};
// The join over the threads of one column: thread t works on column t % TC, row t / TC.
template <int TC, int TR, class V, class F> __device__ __forceinline__ V m_join(V v, void* shared, F f) {
  V* buffer = (V*)shared;
  const int t = threadIdx.x;
  buffer[t] = v;
  __syncthreads();
  for (int s = TR / 2; s > 0; s >>= 1) {
    if (t / TC < s) buffer[t] = f(buffer[t], buffer[t + s * TC]);
    __syncthreads();
  }
  V r = buffer[t % TC];
  __syncthreads();
  return r;
}
// The inclusive scan over the threads of one column; `last` becomes its end.
template <int TC, int TR, class V, class F>
__device__ __forceinline__ V m_scan(V v, V& last, void* shared, F f) {
  V* buffer = (V*)shared;
  const int t = threadIdx.x;
  buffer[t] = v;
  __syncthreads();
  for (int s = 1; s < TR; s <<= 1) {
    V other = v;
    const bool there = t / TC >= s;
    if (there) other = buffer[t - s * TC];
    __syncthreads();
    if (there) v = buffer[t] = f(other, v);
    __syncthreads();
  }
  last = buffer[(TR - 1) * TC + t % TC];
  __syncthreads();
  return v;
}
"""

_FLOAT = {
    "identity": "{0}", "add": "({0} + {1})", "sub": "({0} - {1})", "mul": "({0} * {1})", "div": "({0} / {1})",
    "maximum": "m_larger({0}, {1})", "minimum": "m_smaller({0}, {1})", "neg": "(-{0})", "abs": "fabs({0})",
    "square": "({0} * {0})", "relu": "m_larger({0}, ({t})0)", "reciprocal": "(({t})1 / {0})",
    "sign": "({t})(({0} > 0) - ({0} < 0))", "floor_div": "m_float_floor_div({0}, {1})",
    "remainder": "m_remainder({0}, {1})", "rsqrt": "(({t})1 / sqrt({0}))", "trunc_div": "trunc({0} / {1})",
    "round": "rint({0})", "silu": "({0} * m_sigmoid({0}))",
    "gelu": "({0} * ({t})0.5 * (({t})1 + erf({0} * ({t})0.70710678118654752)))",
    "gelu_tanh": "({0} * ({t})0.5 * (({t})1 + tanh(({t})0.79788456080286536 * "
    "({0} + ({t})0.044715 * {0} * {0} * {0}))))",
    "sigmoid": "m_sigmoid({0})", "softplus": "m_softplus({0})", "mish": "m_mish({0})",
    "isnan": "({0} != {0})", "isinf": "(fabs({0}) == M_INF)",
}  # fmt: skip
_LIBRARY = (
    "sqrt", "floor", "ceil", "trunc", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin",
    "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "tanh", "erf",
    "erfc", "fmod", "pow", "atan2",
)  # fmt: skip
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_INTEGER = {
    "identity": "{0}", "add": "({0} + {1})", "sub": "({0} - {1})", "mul": "({0} * {1})",
    "floor_div": "m_floor_div({0}, {1})", "trunc_div": "({0} / {1})", "remainder": "m_mod({0}, {1})",
    "fmod": "({0} % {1})", "maximum": "({0} > {1} ? {0} : {1})", "minimum": "({0} < {1} ? {0} : {1})",
    "neg": "(-{0})", "abs": "({0} < 0 ? -{0} : {0})", "square": "({0} * {0})", "relu": "({0} > 0 ? {0} : 0)",
    "sign": "(ll)(({0} > 0) - ({0} < 0))", "bitwise_and": "({0} & {1})", "bitwise_or": "({0} | {1})",
    "bitwise_xor": "({0} ^ {1})", "bitwise_not": "(~{0})", "shift_left": "({0} << {1})",
    "shift_right": "({0} >> {1})", "floor": "{0}", "ceil": "{0}", "round": "{0}", "trunc": "{0}",
    "isnan": "false", "isinf": "false",
}  # fmt: skip
_LOGICAL = {"logical_and": "&&", "logical_or": "||"}


def constant(text: str, dtype: str) -> str:
    """Return a literal of the sketch as CUDA C++."""
    if dtype == "b1":
        return "true" if float(text) else "false"
    if dtype == "i64":
        return f"{text}ll" if text != str(-(2**63)) else "(-0x7fffffffffffffffll - 1)"
    suffix = "f" if dtype == "f32" else ""
    special = {"inf": "M_INF", "-inf": "(-M_INF)", "nan": "M_NAN"}
    if text in special:
        return special[text] if dtype == "f32" else f"(double){special[text]}"
    number = text if any(letter in text for letter in ".e") else f"{text}.0"
    return f"({number}{suffix})" if number.startswith("-") else f"{number}{suffix}"


def expression(op: str, args: list[str], dtype: str) -> str:
    """Return the CUDA C++ expression of an elementwise operation.

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
    if op in _COMPARE:
        return f"({args[0]} {_COMPARE[op]} {args[1]})"
    if op == "where":
        return f"({args[0]} ? {args[1]} : {args[2]})"
    if op == "logical_not" or (op == "bitwise_not" and dtype == "b1"):
        return f"(!{args[0]})"
    if op in _LOGICAL:
        return f"(({args[0]} != 0) {_LOGICAL[op]} ({args[1]} != 0))"
    if op == "logical_xor":
        return f"(({args[0]} != 0) != ({args[1]} != 0))"
    if dtype in ("i64", "b1"):
        return _INTEGER[op].format(*args)
    if op in _FLOAT:
        return _FLOAT[op].format(*args, t=TYPES[dtype])
    if op in _LIBRARY:
        return f"{op}({', '.join(args)})"
    raise KeyError(op)
