"""The C++ kernel language: C++ without any headers, with OpenMP, loaded by ctypes."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, ClassVar

from mlpapers.kernels.dsl.base import DSL, BuildError, chunk_choices, embedded_source
from mlpapers.kernels.dsl.cpp.loader import LOADER
from mlpapers.kernels.sketch import Sketch

_TILES = (1024, 4096, 16384)
_COLUMNS = (16, 32, 64, 128, 256, 512, 1024)


class CppDSL(DSL):
    """C++17 for one source file per kernel, compiled by the system's compiler in a fraction of a second.

    Examples
    --------
    >>> CppDSL().backends
    ('cpu',)
    """

    name: ClassVar[str] = "cpp"
    backends: ClassVar[tuple[str, ...]] = ("cpu",)
    docs: ClassVar[Path] = Path(__file__).parent
    loader: ClassVar[str] = LOADER
    modules: ClassVar[tuple[str, ...]] = ()
    source_variable: ClassVar[str] = "_CPP"

    @property
    def prologue(self) -> str:
        """What stands between the loader and a kernel that somebody else writes: the compiler's flags."""
        from mlpapers.kernels.dsl.cpp.host import FLAGS

        return f"_FLAGS = {FLAGS!r}\n"

    def render(self, sketch: Sketch, params: dict[str, Any], backend: str) -> str:
        """Return Python source with the C++ text, the loader and ``class ModelNew``.

        Parameters
        ----------
        sketch : Sketch
        params : dict
            Values of constexprs by name; the sketch's own where left out.
        backend : str

        Returns
        -------
        source : str
        """
        from mlpapers.kernels.dsl.cpp.host import CppHost

        self._check_backend(backend)
        return CppHost(sketch, {**self.defaults(sketch, backend), **params}).render()

    def space(self, sketch: Sketch, backend: str) -> dict[str, tuple[Any, ...]]:
        """Return the admissible values of tile and chunk sizes, and whether large buffers get huge pages.

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
        for name, value in sketch.constexprs:
            if name.startswith("TILE"):
                found[name] = tuple(sorted({*_TILES, value}))
            elif name.startswith("COLS"):
                found[name] = tuple(sorted({*_COLUMNS, value}))
            elif name.startswith("CHUNK"):
                found[name] = chunk_choices(value)
            elif name == "HUGE":
                found[name] = (0, 1)
        return found

    def defaults(self, sketch: Sketch, backend: str) -> dict[str, Any]:
        """Return the sketch's own constexprs.

        Parameters
        ----------
        sketch : Sketch
        backend : str

        Returns
        -------
        params : dict
        """
        space = self.space(sketch, backend)
        return {name: value for name, value in sketch.constexprs if name in space}

    def build(self, code: str, workdir: Path, backend: str) -> Path:
        """Compile the C++ text of a source into `workdir`, unless it is there already.

        Parameters
        ----------
        code : str
        workdir : Path
        backend : str

        Returns
        -------
        path : Path

        Raises
        ------
        BuildError
            If the source has no C++ text or does not compile.
        """
        self._check_backend(backend)
        text, flags = embedded_source(code, self.source_variable, "C++")
        namespace = _loader()
        try:
            # What a process without a compiler loads beside it.
            namespace["_binary"](namespace["_PAGES"], namespace["_PAGES_FLAGS"], str(workdir))
            return Path(namespace["_binary"](text, flags, str(workdir)))
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            raise BuildError(str(error)) from error

    def environment(self, backend: str) -> dict[str, str]:
        """Return the tag of compiler and processor, which a process without a compiler cannot find out.

        Parameters
        ----------
        backend : str

        Returns
        -------
        environment : dict of str to str
        """
        self._check_backend(backend)
        return {"MLPAPERS_KERNEL_TAG": _compiler_tag(os.environ.get("CXX", "g++"))}

    def available(self, backend: str) -> tuple[bool, str]:
        """Return whether a C++ compiler is there.

        Parameters
        ----------
        backend : str

        Returns
        -------
        available : bool
        reason : str
        """
        if backend not in self.backends:
            return False, f"cpp serves {', '.join(self.backends)}, not {backend}"
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            return False, f"{compiler} is not installed (install a C++ compiler with OpenMP, or set CXX)"
        return True, ""


@functools.cache
def _loader() -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "mlpapers_kernel_loader"}
    exec(compile(LOADER, "<kernel loader>", "exec"), namespace)
    return namespace


@functools.cache
def _compiler_tag(compiler: str) -> str:  # noqa: ARG001 - the cache's key
    return str(_loader()["_tag"]())
