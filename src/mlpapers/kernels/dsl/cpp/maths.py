"""C++ text of the elementwise operations: header-free, and written so that the compiler vectorises it."""

from __future__ import annotations

import re

TYPES = {"f32": "float", "f64": "double", "i64": "long", "b1": "int"}
STORAGE = {
    "f64": "double", "f32": "float", "f16": "_Float16", "bf16": "unsigned short", "i64": "long", "i32": "int",
    "i16": "short", "i8": "signed char", "u8": "unsigned char", "b1": "unsigned char",
}  # fmt: skip

# exp: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial in r, the exponent put back in two halves so that
# neither
# overflows; clamped where the result is 0 or inf. nan passes through the clamps because both comparisons are
# false for it. (1 + x) - 1 would be simplified away, so log1p has the series of log at small x. log:
# mantissa in [sqrt(1/2), sqrt(2)), series of atanh. erf: x times a quotient of polynomials in x^2, fitted to
# the least relative error (3e-8) up to 3.92, from where erf rounds to 1.
PRELUDE = r"""
#ifndef __clang__
// Threaded jumps turn a clamp into masked copies of what follows it: a sixth more work in m_exp.
#pragma GCC optimize ("no-thread-jumps")
#endif
extern "C" void* aligned_alloc(unsigned long, unsigned long);
extern "C" void free(void*);
#define M_INF __builtin_inff()
#define M_NAN __builtin_nanf("")
static inline long m_min(long a, long b) { return a < b ? a : b; }
// Missing pages of a large result are made half a megabyte at a time, just before a thread writes there: one
// call for many, and they are still in the cache.
struct m_front { unsigned long to, end; };
static inline m_front m_begin(const void* p, long bytes) {
  return {bytes < (4l << 20) ? ~0ul : (unsigned long)p, (unsigned long)p + bytes};
}
#ifdef __linux__
extern "C" int m_resident(void*, unsigned long, unsigned char*) noexcept __asm__("mincore");
extern "C" int m_prepare(void*, unsigned long, int) noexcept __asm__("madvise");
static __attribute__((noinline)) void m_reach(m_front& f, unsigned long p) {
  const unsigned long page = 4096, step = 512 << 10;
  unsigned long from = ((p > f.to ? p : f.to) + page - 1) & -page;
  unsigned long to = from + step < f.end ? from + step : f.end;
  unsigned char there = 1;
  if (from + page <= to && !m_resident((void*)from, page, &there) && !(there & 1))
    m_prepare((void*)from, (to - from) & -page, 23);
  f.to = to;
}
static inline void m_ahead(m_front& f, const void* p, long bytes) {
  if (__builtin_expect((unsigned long)p + bytes > f.to, 0)) m_reach(f, (unsigned long)p);
}
#else
static inline void m_ahead(m_front&, const void*, long) {}
#endif
static inline __attribute__((always_inline)) float m_bits(int i) {
  float f; __builtin_memcpy(&f, &i, 4); return f;
}
static inline int m_int(float f) { int i; __builtin_memcpy(&i, &f, 4); return i; }
static inline __attribute__((always_inline)) float m_exp(float x) {
  float y = x > 89.0f ? 89.0f : x;
  y = y < -104.0f ? -104.0f : y;
  float n = __builtin_rintf(y * 1.44269504f);
  float r = __builtin_fmaf(n, -0.693359375f, y);
  r = __builtin_fmaf(n, 2.12194440e-4f, r);
  float p = 1.98756915e-4f;
  p = __builtin_fmaf(p, r, 1.39819995e-3f);
  p = __builtin_fmaf(p, r, 8.33345189e-3f);
  p = __builtin_fmaf(p, r, 4.16657962e-2f);
  p = __builtin_fmaf(p, r, 1.66666657e-1f);
  p = __builtin_fmaf(p, r, 0.5f);
  p = __builtin_fmaf(p * r, r, r) + 1.0f;
  int k = (int)n;
  int h = k >> 1;
  float e = p * m_bits((h + 127) << 23) * m_bits((k - h + 127) << 23);
  return x != x ? x : e;
}
static inline __attribute__((always_inline)) float m_log(float x) {
  int tiny = x < 1.17549435e-38f;
  float y = tiny ? x * 8388608.0f : x;
  int i = m_int(y);
  int e = (i - 0x3f3504f3) >> 23;
  float m = m_bits(i - (e << 23));
  float f = m - 1.0f;
  float s = f / (2.0f + f);
  float z = s * s;
  float w = __builtin_fmaf(z, 0.24279078841f, 0.28498786688f);
  w = z * __builtin_fmaf(z, __builtin_fmaf(z, w, 0.40000972152f), 0.66666662693f);
  float h = 0.5f * f * f;
  float k = (float)e - (tiny ? 23.0f : 0.0f);
  float r = k * 6.9313812256e-1f - ((h - (s * (h + w) + k * 9.0580006145e-6f)) - f);
  r = x == M_INF ? x : r;
  r = x == 0.0f ? -M_INF : r;
  return x < 0.0f || x != x ? M_NAN : r;
}
static inline __attribute__((always_inline)) float m_expm1(float x) {
  float u = m_exp(x);
  float small = 4.16666679e-2f + x * (8.33333377e-3f + x * 1.38888892e-3f);
  small = x * (1.0f + x * (0.5f + x * (1.66666672e-1f + x * small)));
  return __builtin_fabsf(x) < 0.35f ? small : u - 1.0f;
}
static inline __attribute__((always_inline)) float m_log1p(float x) {
  float s = x / (2.0f + x);
  float z = s * s;
  float w = __builtin_fmaf(z, 0.24279078841f, 0.28498786688f);
  w = z * __builtin_fmaf(z, __builtin_fmaf(z, w, 0.40000972152f), 0.66666662693f);
  float h = 0.5f * x * x;
  float small = x - (h - s * (h + w));
  return x > -0.29f && x < 0.41f ? small : m_log(1.0f + x);
}
static inline __attribute__((always_inline)) float m_tanh(float x) {
  float a = __builtin_fabsf(x);
  float z = x * x;
  float p = -5.70498872745e-3f;
  p = __builtin_fmaf(p, z, 2.06390887954e-2f);
  p = __builtin_fmaf(p, z, -5.37397155531e-2f);
  p = __builtin_fmaf(p, z, 1.33314422036e-1f);
  p = __builtin_fmaf(p, z, -3.33332819422e-1f);
  float small = __builtin_fmaf(p * z, x, x);
  float t = 1.0f - 2.0f / (m_exp(2.0f * a) + 1.0f);
  t = __builtin_copysignf(t, x);
  t = x != x ? x : t;
  return a < 0.625f ? small : t;
}
static inline __attribute__((always_inline)) float m_sigmoid(float x) { return 1.0f / (1.0f + m_exp(-x)); }
static inline __attribute__((always_inline)) float m_erf(float x) {
  float y = x > 3.92f ? 3.92f : x;
  y = y < -3.92f ? -3.92f : y;
  float z = y * y;
  float p = 2.303690392e-4f;
  p = __builtin_fmaf(p, z, 3.580748865e-3f);
  p = __builtin_fmaf(p, z, 5.149736889e-2f);
  p = __builtin_fmaf(p, z, 1.897105613e-1f);
  p = __builtin_fmaf(p, z, 1.128379136f);
  float q = -1.122120262e-7f;
  q = __builtin_fmaf(q, z, 2.315903308e-5f);
  q = __builtin_fmaf(q, z, 1.053714713e-3f);
  q = __builtin_fmaf(q, z, 1.442585542e-2f);
  q = __builtin_fmaf(q, z, 1.127961280e-1f);
  q = __builtin_fmaf(q, z, 5.014590380e-1f);
  q = __builtin_fmaf(q, z, 1.0f);
  float r = y * p / q;
  r = r > 1.0f ? 1.0f : r;
  return r < -1.0f ? -1.0f : r;
}
static inline __attribute__((always_inline)) float m_softplus(float x) {
  return x > 20.0f ? x : m_log1p(m_exp(x));
}
static inline __attribute__((always_inline)) float m_mish(float x) {
  float e = m_exp(x > 20.0f ? 20.0f : x);
  float n = e * (e + 2.0f);
  return x > 20.0f ? x : x * (n / (n + 2.0f));
}
static inline double d_sigmoid(double x) { return 1.0 / (1.0 + __builtin_exp(-x)); }
static inline double d_softplus(double x) { return x > 20.0 ? x : __builtin_log1p(__builtin_exp(x)); }
static inline double d_mish(double x) { return x * __builtin_tanh(d_softplus(x)); }
static inline __attribute__((always_inline)) float m_from_bf16(unsigned short h) {
  return m_bits((int)((unsigned)h << 16));
}
static inline unsigned short m_to_bf16(float f) {
  unsigned u = (unsigned)m_int(f);
  unsigned r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return (unsigned short)(f != f ? 0x7fc0u : r);
}
static inline long m_floor_div(long a, long b) {
  long q = a / b;
  return (a % b != 0) & ((a < 0) != (b < 0)) ? q - 1 : q;
}
static inline long m_mod(long a, long b) {
  long r = a % b;
  return r != 0 && ((r < 0) != (b < 0)) ? r + b : r;
}
static inline double m_fmod(double a, double b) {
  double r = __builtin_fmod(a, b);
  return r != 0 && ((r < 0) != (b < 0)) ? r + b : r;
}
static inline double m_fdiv(double a, double b) {
  double m = __builtin_fmod(a, b);
  double d = (a - m) / b;
  if (m != 0 && ((b < 0) != (m < 0))) d -= 1.0;
  double f = __builtin_floor(d);
  if (d != 0) return d - f > 0.5 ? f + 1.0 : f;
  return b == 0 ? a / b : __builtin_copysign(0.0, a / b);
}
"""

# Operations by operand type; {0} .. {2} are the operands.
_FLOAT = {
    "identity": "{0}", "add": "({0} + {1})", "sub": "({0} - {1})", "mul": "({0} * {1})", "div": "({0} / {1})",
    "maximum": "(({0} > {1} || {0} != {0}) ? {0} : {1})",
    "minimum": "(({0} < {1} || {0} != {0}) ? {0} : {1})",
    "neg": "(-{0})", "square": "({0} * {0})", "relu": "({0} < 0 ? 0 : {0})",
    "reciprocal": "(1 / {0})", "sign": "(({0} > 0) - ({0} < 0))",
    "floor_div": "m_fdiv({0}, {1})", "remainder": "m_fmod({0}, {1})",
}  # fmt: skip
_LIBM = (
    "abs", "sqrt", "floor", "ceil", "trunc", "exp2", "log2", "log10", "sin", "cos", "tan", "asin", "acos",
    "atan",
    "sinh", "cosh", "asinh", "acosh", "atanh", "erfc", "fmod", "pow", "atan2",
)  # fmt: skip
_OWN = ("exp", "log", "expm1", "log1p", "tanh", "erf", "sigmoid", "softplus", "mish")
_NUMBER = re.compile(r"\(?-?[0-9.]+(e[+-]?[0-9]+)?f?\)?")
_LOGICAL = {"logical_and": "&", "logical_or": "|", "logical_xor": "^"}
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_INTEGER = {
    "identity": "{0}", "add": "({0} + {1})", "sub": "({0} - {1})", "mul": "({0} * {1})",
    "floor_div": "m_floor_div({0}, {1})", "trunc_div": "({0} / {1})", "remainder": "m_mod({0}, {1})",
    "fmod": "({0} % {1})", "maximum": "({0} > {1} ? {0} : {1})", "minimum": "({0} < {1} ? {0} : {1})",
    "neg": "(-{0})", "abs": "({0} < 0 ? -{0} : {0})", "square": "({0} * {0})", "relu": "({0} > 0 ? {0} : 0)",
    "sign": "(({0} > 0) - ({0} < 0))", "bitwise_and": "({0} & {1})", "bitwise_or": "({0} | {1})",
    "bitwise_xor": "({0} ^ {1})", "bitwise_not": "(~{0})", "shift_left": "({0} << {1})",
    "shift_right": "({0} >> {1})", "floor": "{0}", "ceil": "{0}", "round": "{0}", "trunc": "{0}",
}  # fmt: skip


def constant(text: str, dtype: str) -> str:
    """Return a literal of the sketch as C++."""
    if dtype in ("i64", "b1"):
        return text
    suffix = "f" if dtype == "f32" else ""
    special = {"inf": "M_INF", "-inf": "(-M_INF)", "nan": "M_NAN"}
    if text in special:
        return special[text]
    number = text if any(letter in text for letter in ".e") else f"{text}.0"
    return f"({number}{suffix})" if number.startswith("-") else f"{number}{suffix}"


def expression(op: str, args: list[str], dtype: str) -> str:
    """Return the C++ expression of an elementwise operation on operands of a compute type.

    Parameters
    ----------
    op : str
    args : list of str
    dtype : str
        Type of the operands ("f32", "f64", "i64" or "b1").

    Returns
    -------
    text : str
    """
    if op in _COMPARE:
        return f"({args[0]} {_COMPARE[op]} {args[1]})"
    if op == "where":
        return f"({args[0]} ? {args[1]} : {args[2]})"
    if op == "logical_not":
        return f"(!{args[0]})"
    if op.startswith("logical_"):
        return f"({args[0]} {_LOGICAL[op]} {args[1]})"
    if op in ("isnan", "isinf"):
        test = "{0} != {0}" if op == "isnan" else "({0} == M_INF || {0} == -M_INF)"
        return f"({test.format(*args)})"
    if op in ("maximum", "minimum") and dtype[0] == "f" and _NUMBER.fullmatch(args[1]):
        # One instruction: against a number, the comparison is false for nan, which therefore stays.
        return f"({args[0]} {'<' if op == 'maximum' else '>'} {args[1]} ? {args[1]} : {args[0]})"
    if dtype in ("i64", "b1"):
        return _INTEGER[op].format(*args)
    single = dtype == "f32"
    kind = "float" if single else "double"
    if op == "mul" and any(_is_zero(arg) for arg in args):
        # The compiler, free to reorder factors, makes 0 of a product with 0 though nan and infinity give nan.
        other = args[0] if _is_zero(args[1]) else args[1]
        return f"(__builtin_fabs{'f' if single else ''}({other}) < M_INF ? 0 : M_NAN)"
    if op in _FLOAT:
        return (
            f"({kind})" + _FLOAT[op].format(*args)
            if op in ("floor_div", "remainder", "sign")
            else _FLOAT[op].format(*args)
        )
    if op == "rsqrt":
        return f"(1 / __builtin_sqrt{'f' if single else ''}({args[0]}))"
    if op == "trunc_div":
        return f"__builtin_trunc{'f' if single else ''}({args[0]} / {args[1]})"
    if op == "round":
        return f"__builtin_rint{'f' if single else ''}({args[0]})"
    if op == "silu":
        return f"({args[0]} * {'m' if single else 'd'}_sigmoid({args[0]}))"
    if op == "gelu":
        scale = "0.70710678118654752" + ("f" if single else "")
        return (
            f"({args[0]} * {'0.5f' if single else '0.5'} * (1 + {_call('erf', single)}({args[0]} * {scale})))"
        )
    if op == "gelu_tanh":
        f = "f" if single else ""
        x = args[0]
        inner = f"0.79788456080286536{f} * ({x} + 0.044715{f} * {x} * {x} * {x})"
        return f"({x} * 0.5{f} * (1 + {_call('tanh', single)}({inner})))"
    if op in _OWN:
        return f"{_call(op, single)}({', '.join(args)})"
    if op in _LIBM:
        name = {"abs": "fabs"}.get(op, op)
        return f"__builtin_{name}{'f' if single else ''}({', '.join(args)})"
    raise KeyError(op)


def _is_zero(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) and float(text.strip("()").removesuffix("f")) == 0


def _call(op: str, single: bool) -> str:
    if single:
        return f"m_{op}"
    return f"d_{op}" if op in ("sigmoid", "softplus", "mish") else f"__builtin_{op}"
