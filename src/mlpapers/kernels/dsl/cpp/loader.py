"""The text that a rendered kernel carries to compile and load its C++ part."""

from mlpapers.kernels.dsl.host import ARGUMENTS

LOADER = (
    '''\
# -- loader: compiles _CPP once per machine and loads it
import ctypes
import hashlib
import numbers
import os
import platform
import subprocess
import tempfile

import torch

_DTYPES = {
    "f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "i64":
    torch.int64,
    "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8, "b1": torch.bool,
}
_CXX = os.environ.get("CXX", "g++")
_HUGE_FROM = 4 << 20
_LINUX = platform.system() == "Linux"

# First touches of fresh memory, timed. A huge page replaces 512 small ones and usually costs less than
# half of them; where the system must first free a stretch or fetch it (fragmented memory, a virtual machine
# whose host took idle pages back) it costs ten times as much, or more. So huge pages have an account, in
# units of 512 small ones: each is credited with 1 and charged with its time. They are asked for while the
# account can bear slow ones; without them it gains a tenth per unit, so that they are tried again at times.
_PAGES_FLAGS = ("-O2", "-fopenmp")
_PAGES = r"""
struct m_moment { long s, ns; };
extern "C" int m_clock(int, m_moment*) noexcept __asm__("clock_gettime");
extern "C" int m_advise(void*, unsigned long, int) noexcept __asm__("madvise");
static const long m_page = 4096, m_large = 2l << 20;
static const int m_want_large = 14;
static const double m_most = 64.0, m_least = 8.0;
static double m_account = m_most;
static double m_now() {
  m_moment t;
  m_clock(1, &t);
  return 1e6 * (double)t.s + 1e-3 * (double)t.ns;
}
static double m_touch(char* p, long pages) {
  double start = m_now();
  for (long k = 0; k < pages; ++k) *(volatile char*)(p + k * m_page) = 0;
  return m_now() - start;
}
extern "C" void settle(char* p, long bytes, int threads) {
  char* end = p + bytes;
  char* first = (char*)(((long)p + m_page - 1) & -m_page);
  char* large = (char*)(((long)p + m_large - 1) & -m_large);
  long blocks = (end - large) / m_large;
  char* small = large - first < 32 * m_page ? large + blocks * m_large : first;
  if (blocks < 1) return;
  double price = 1e9;
  if (end - small < 32 * m_page) price = 1.0;
  else for (long k = 0; k < 32; k += 8) {
    double one = m_touch(small + k * m_page, 8) / 8;
    price = one < price ? one : price;
  }
  // Memory that the allocator had kept is there already.
  if (price < 0.1) return;
  const double unit = m_large / m_page * price, account = m_account;
  double gained = account < m_least ? 0.05 * (double)blocks : 0.0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : gained)
  for (long t = 0; t < threads; ++t) {
    char* block = large + blocks * t / threads * m_large;
    char* stop = large + blocks * (t + 1) / threads * m_large;
    double mine = 0.0;
    for (; account >= m_least && mine > -account / threads && stop - block >= m_large; block += m_large) {
      if (m_advise(block, m_large, m_want_large)) break;
      mine += 1.0 - m_touch(block, 1) / unit;
    }
    gained += mine;
  }
  gained += account;
  m_account = gained > m_most ? m_most : gained;
}
"""


def _tag():
    """What a binary depends on beside its source: compiler and processor."""
    known = os.environ.get("MLPAPERS_KERNEL_TAG")
    if known:
        return known
    version = subprocess.run([_CXX, "--version"], capture_output=True, text=True, check=True).stdout
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = platform.processor()
    return hashlib.sha256((version + flags).encode()).hexdigest()


def _binary(source, flags, folder=None):
    """Return the path of the compiled source; it is compiled where it is not in the cache."""
    folder = folder or os.environ.get("MLPAPERS_KERNEL_CACHE") or os.path.join(
        os.path.expanduser("~"), ".cache", "mlpapers", "kernels"
    )
    key = hashlib.sha256("\\0".join([source, *flags, _tag()]).encode()).hexdigest()
    path = os.path.join(folder, key + ".so")
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            text, out = os.path.join(scratch, "kernel.cpp"), os.path.join(scratch, "kernel.so")
            with open(text, "w") as file:
                file.write(source)
            command = [_CXX, *flags, "-shared", "-fPIC", text, "-o", out]
            libc, version = platform.libc_ver()
            recent = libc == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)
            if recent and platform.machine() == "x86_64":
                command[1:1] = ["-DUSE_MVEC"]
                command += ["-lmvec"]
            run = subprocess.run([*command, "-lm"], capture_output=True, text=True, timeout=300)
            if run.returncode:
                raise RuntimeError("the kernel does not compile:\\n" + run.stderr)
            os.replace(out, path)
    return path


_libraries = {}


def _call(source, flags, name, *arguments):
    """Call a function of the compiled source: tensors as pointers, sizes as 64-bit integers."""
    function = _libraries.get((source, name))
    if function is None:
        library = _libraries.get(source)
        if library is None:
            library = _libraries[source] = ctypes.CDLL(_binary(source, flags))
        function = _libraries[source, name] = getattr(library, name)
        function.restype = None
        function.argtypes = [
            ctypes.c_void_p if isinstance(value, torch.Tensor) else ctypes.c_long for value in arguments
        ] + [ctypes.c_int]
    function(
        *[value if type(value) is int else value.data_ptr() for value in arguments],
        torch.get_num_threads(),
    )


def _look_up(outside, *tables):
    """Raise IndexError where a kernel came upon an index outside of its table, and has noted which."""
    number = outside.item()
    if number:
        name, size = tables[number - 1]
        raise IndexError(f"an index into {name} must be at least 0 and less than {size}")


'''
    + ARGUMENTS
    + '''\
def _dense(value, dtype, shape=None, name="a parameter"):
    """Return an argument as a contiguous tensor of the sizes that the kernel reads."""
    if not isinstance(value, torch.Tensor):
        return torch.tensor(_number(value, _DTYPES[dtype], shape, name), dtype=_DTYPES[dtype])
    if value.dtype != _DTYPES[dtype]:
        raise TypeError(f"{name} must have dtype {_DTYPES[dtype]}; got {value.dtype}")
    if shape is not None and value.shape != shape:
        raise ValueError(f"the kernel was made for {name} of shape {shape}; got {tuple(value.shape)}")
    return value if value.is_contiguous() else value.contiguous()


def _fresh(shape, dtype, huge=True):
    """Return a new tensor; the memory of a large one is settled, on huge pages while these come fast."""
    # Sizes one by one are parsed faster than a tuple of them, where there are any.
    tensor = torch.empty(*shape or ((),), dtype=_DTYPES[dtype])
    size = tensor.nbytes if huge and _LINUX else 0
    if size >= _HUGE_FROM:
        _call(_PAGES, _PAGES_FLAGS, "settle", tensor, size)
    return tensor


def _state(module, key):
    """Return a parameter, buffer or tensor attribute by its dotted name."""
    for name in key.split("."):
        module = getattr(module, name)
    return module


# -- end of the loader
'''
)
