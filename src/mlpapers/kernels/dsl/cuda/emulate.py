"""CUDA kernels on the processor: the text compiled by g++, a thread per CUDA thread, blocks one by one.

It shows what a kernel computes where there is no GPU, at sizes of a few thousand elements. It says nothing
about speed, nor about what only a device does (memory order between blocks, registers, alignment).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlpapers.kernels.dsl.base import BuildError
from mlpapers.kernels.kernel import Kernel

_SHIM = r"""
#include <cmath>
#include <cstring>
#include <pthread.h>
#include <thread>
#include <vector>
using namespace std;
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(n)
#define __restrict__ __restrict
#define __shared__ static
struct Index { int x; };
static thread_local Index threadIdx, blockIdx;
static pthread_barrier_t m_barrier;
static bool m_alone;
static void __syncthreads() { if (!m_alone) pthread_barrier_wait(&m_barrier); }
static float __int_as_float(int i) { float f; memcpy(&f, &i, 4); return f; }
static float __uint_as_float(unsigned i) { float f; memcpy(&f, &i, 4); return f; }
static unsigned __float_as_uint(float f) { unsigned i; memcpy(&i, &f, 4); return i; }
template <class F> static void m_launch(long programs, int threads, bool together, F body) {
  m_alone = !together;
  if (!together) {
    for (long b = 0; b < programs; ++b)
      for (int t = 0; t < threads; ++t) { blockIdx.x = (int)b; threadIdx.x = t; body(); }
    return;
  }
  pthread_barrier_init(&m_barrier, nullptr, threads);
  vector<thread> all;
  for (int t = 0; t < threads; ++t)
    all.emplace_back([=] {
      threadIdx.x = t;
      for (long b = 0; b < programs; ++b) { blockIdx.x = (int)b; body(); __syncthreads(); }
    });
  for (auto& one : all) one.join();
  pthread_barrier_destroy(&m_barrier);
}
"""


class Emulator:
    """Stands in for the launcher of a rendered CUDA module.

    Parameters
    ----------
    folder : Path
        For compiled texts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._libraries: dict[str, ctypes.CDLL] = {}

    def run(
        self, source: str, flags: Any, name: str, programs: int, threads: int, *arguments: Any
    ) -> None:  # the launcher's own signature
        """Do what a launch does, on tensors in the processor's memory."""
        del flags
        if programs <= 0:
            return
        if source not in self._libraries:
            self._libraries[source] = self._build(source)
        values = [
            ctypes.c_void_p(x.data_ptr()) if hasattr(x, "data_ptr") else ctypes.c_longlong(x)
            for x in arguments
        ]
        launch = getattr(self._libraries[source], f"emulate_{name}")
        launch(ctypes.c_long(programs), ctypes.c_int(threads), *values)

    def _build(self, source: str) -> ctypes.CDLL:
        text = _SHIM + source
        for name, parameters in re.findall(r'extern "C" __global__ void \S+ (\w+)\((.*)\) \{', source):
            body = source.split(f" {name}(", 1)[1].partition('extern "C"')[0]
            together = str("m_join<" in body or "m_scan<" in body).lower()
            names = ", ".join(part.split()[-1].lstrip("*") for part in parameters.split(","))
            text += (
                f'\nextern "C" void emulate_{name}(long programs, int threads, {parameters}) {{\n'
                f"  m_launch(programs, threads, {together}, [=] {{ {name}({names}); }});\n}}\n"
            )
        stem = hashlib.sha256(text.encode()).hexdigest()[:16]
        path = self.folder / f"{stem}.so"
        if not path.exists():
            (self.folder / f"{stem}.cpp").write_text(text, encoding="utf-8")
            command = [
                os.environ.get("CXX", "g++"),
                "-O1",
                "-std=c++17",
                "-fPIC",
                "-shared",
                "-w",
                "-pthread",
            ]
            command += [str(self.folder / f"{stem}.cpp"), "-o", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BuildError(done.stderr)
        return ctypes.CDLL(str(path))


def emulated(code: str, folder: Path) -> type:
    """Return the class ``ModelNew`` of a CUDA kernel whose launches run on the processor.

    Parameters
    ----------
    code : str
        Source as the language renders it; it is executed in this process.
    folder : Path
        For compiled texts.

    Returns
    -------
    cls : type
    """
    model = Kernel(code, "cuda", "cuda", None).load()
    vars(sys.modules[model.__module__])["_run"] = Emulator(folder).run
    return model
