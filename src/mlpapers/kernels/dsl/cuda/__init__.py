"""CUDA C++: header-free kernels, compiled by NVRTC or nvcc and launched through the driver by ctypes."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, ClassVar

from mlpapers.kernels.dsl.base import DSL, BuildError, chunk_choices, embedded_source
from mlpapers.kernels.dsl.cuda.loader import LOADER
from mlpapers.kernels.dsl.launches import device_chunk, with_chunks
from mlpapers.kernels.sketch import Sketch

_TILES = (256, 512, 1024, 2048, 4096)
_THREADS = (64, 128, 256, 512, 1024)
# Compiled for where no GPU is: the build check must be the same on every machine.
DEFAULT_ARCH = "sm_90"


class CudaDSL(DSL):
    """CUDA C++ for NVIDIA GPUs; sources can be built, not run, where there is a compiler and no GPU.

    Examples
    --------
    >>> CudaDSL().backends
    ('cuda',)
    """

    name: ClassVar[str] = "cuda"
    backends: ClassVar[tuple[str, ...]] = ("cuda",)
    docs: ClassVar[Path] = Path(__file__).parent
    loader: ClassVar[str] = LOADER
    source_variable: ClassVar[str] = "_CUDA"

    @property
    def prologue(self) -> str:
        """What stands between the loader and a kernel that somebody else writes: the compiler's flags."""
        from mlpapers.kernels.dsl.cuda.host import FLAGS

        return f"_FLAGS = {FLAGS!r}\n"

    def render(self, sketch: Sketch, params: dict[str, Any], backend: str) -> str:
        """Return Python source with the CUDA text, the loader and ``class ModelNew``.

        Parameters
        ----------
        sketch : Sketch
        params : dict
            Tile sizes by the names of the constexprs, and ``THREADS``, the most threads of a block.
        backend : str

        Returns
        -------
        source : str
        """
        from mlpapers.kernels.dsl.cuda.host import CudaHost

        chosen = {**self.defaults(sketch, backend), **params}
        values = {name: value for name, value in chosen.items() if isinstance(value, int)}
        return CudaHost(with_chunks(sketch, values), chosen).render()

    def space(self, sketch: Sketch, backend: str) -> dict[str, tuple[Any, ...]]:
        """Return the admissible tile sizes and numbers of threads.

        Parameters
        ----------
        sketch : Sketch
        backend : str

        Returns
        -------
        space : dict of str to tuple
        """
        self._check_backend(backend)
        found: dict[str, tuple[Any, ...]] = {}
        for name, value in self.defaults(sketch, backend).items():
            if name.startswith("TILE"):
                found[name] = tuple(sorted({*_TILES, value}))
            elif name.startswith("CHUNK"):
                found[name] = chunk_choices(value)
        return {**found, "THREADS": _THREADS}

    def defaults(self, sketch: Sketch, backend: str) -> dict[str, Any]:
        """Return tiles of 1024 elements, about a thousand chunks, and 256 threads.

        Parameters
        ----------
        sketch : Sketch
        backend : str

        Returns
        -------
        params : dict
        """
        self._check_backend(backend)
        found: dict[str, Any] = {}
        for name, value in sketch.constexprs:
            if name.startswith("TILE"):
                found[name] = 1024
            elif name.startswith("CHUNK"):
                found[name] = device_chunk(value)
        return {**found, "THREADS": 256}

    def build(self, code: str, workdir: Path, backend: str) -> Path | None:
        """Compile the CUDA text of a source into `workdir`, unless it is there already.

        Parameters
        ----------
        code : str
        workdir : Path
        backend : str

        Returns
        -------
        path : Path or None
            None for a source without device code of its own.

        Raises
        ------
        BuildError
            If the source has no CUDA text, there is no compiler, or it does not compile.
        """
        self._check_backend(backend)
        text, flags = embedded_source(code, self.source_variable, "CUDA")
        if not text:
            return None
        try:
            return Path(_loader()["_binary"](text, flags, architecture(), str(workdir)))
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            raise BuildError(str(error)) from error

    def environment(self, backend: str) -> dict[str, str]:
        """Return the architecture that sources are compiled for.

        Parameters
        ----------
        backend : str

        Returns
        -------
        environment : dict of str to str
        """
        self._check_backend(backend)
        return {"MLPAPERS_KERNEL_CUDA_ARCH": architecture()}

    def available(self, backend: str) -> tuple[bool, str]:
        """Return whether sources can be built and run here.

        Parameters
        ----------
        backend : str

        Returns
        -------
        available : bool
        reason : str
        """
        if backend not in self.backends:
            return False, f"cuda serves {', '.join(self.backends)}, not {backend}"
        from mlpapers.kernels.dsl.base import get_backend

        there, reason = get_backend("cuda").available()
        compiler = self.compiler()
        if not there:
            return False, f"{reason}; " + (f"sources are built by {compiler}" if compiler else "no compiler")
        return (True, "") if compiler else (False, "neither nvcc nor libnvrtc was found")

    @staticmethod
    def compiler() -> str:
        """Return the name of the compiler that builds sources here, "" where there is none."""
        if shutil.which(os.environ.get("NVCC", "nvcc")):
            return "nvcc"
        return "NVRTC" if _loader()["_nvrtc"]() is not None else ""


def architecture() -> str:
    """Return the architecture of the GPU, or sm_90 where there is none."""
    known = os.environ.get("MLPAPERS_KERNEL_CUDA_ARCH")
    if known:
        return known
    import torch

    if torch.version.cuda is None or not torch.cuda.is_available():
        return DEFAULT_ARCH
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


@functools.cache
def _loader() -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "mlpapers_kernel_loader", "ctypes": ctypes}
    exec(compile(LOADER, "<kernel loader>", "exec"), namespace)
    return namespace
