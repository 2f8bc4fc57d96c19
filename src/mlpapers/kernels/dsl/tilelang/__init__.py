"""TileLang: functions in Python's syntax, lowered by TVM to CUDA, or to C for the serial subset."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any, ClassVar

from mlpapers.kernels.dsl.base import DSL, BuildError, chunk_choices
from mlpapers.kernels.dsl.launches import device_chunk, with_chunks
from mlpapers.kernels.dsl.tilelang.loader import LOADER
from mlpapers.kernels.sketch import Sketch


class TileLangDSL(DSL):
    """TileLang, in the subset that it compiles for every target: a thread per grid point, serial loops.

    Examples
    --------
    >>> TileLangDSL().backends
    ('cuda', 'cpu', 'ascend')
    """

    name: ClassVar[str] = "tilelang"
    backends: ClassVar[tuple[str, ...]] = ("cuda", "cpu", "ascend")
    docs: ClassVar[Path] = Path(__file__).parent
    loader: ClassVar[str] = LOADER
    modules: ClassVar[tuple[str, ...]] = ("tilelang",)

    def render(self, sketch: Sketch, params: dict[str, Any], backend: str) -> str:
        """Return Python source with TileLang functions and ``class ModelNew``.

        Parameters
        ----------
        sketch : Sketch
        params : dict
            Chunk sizes by the names of the constexprs.
        backend : str

        Returns
        -------
        source : str
        """
        from mlpapers.kernels.dsl.tilelang.host import TileLangHost

        chosen = {**self.defaults(sketch, backend), **params}
        values = {name: value for name, value in chosen.items() if isinstance(value, int)}
        return TileLangHost(with_chunks(sketch, values), chosen, backend).render()

    def space(self, sketch: Sketch, backend: str) -> dict[str, tuple[Any, ...]]:
        """Return the admissible chunk sizes; threads take single elements, so tiles have none.

        Parameters
        ----------
        sketch : Sketch
        backend : str

        Returns
        -------
        space : dict of str to tuple
        """
        return {name: chunk_choices(value) for name, value in self.defaults(sketch, backend).items()}

    def defaults(self, sketch: Sketch, backend: str) -> dict[str, Any]:
        """Return chunks for about a thousand threads on a device, the sketch's own on the processor.

        Parameters
        ----------
        sketch : Sketch
        backend : str

        Returns
        -------
        params : dict
        """
        self._check_backend(backend)
        return {
            name: value if backend == "cpu" else device_chunk(value)
            for name, value in sketch.constexprs
            if name.startswith("CHUNK")
        }

    def check(self, code: str) -> list[tuple[str, int, str]]:
        """Return what the subset forbids: a function without ``T.Kernel``, while, try and lambda inside.

        Parameters
        ----------
        code : str

        Returns
        -------
        issues : list of (rule, line, message)
        """
        tree = ast.parse(code)
        issues = []
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef) or not _is_kernel(function):
                continue
            text = ast.unparse(function)
            if "T.Kernel(" not in text:
                issues.append(("tilelang_kernel", function.lineno, "a prim_func needs `with T.Kernel(...)`"))
            for node in ast.walk(function):
                if isinstance(node, ast.While | ast.Try | ast.Lambda):
                    kind = type(node).__name__.lower()
                    issues.append(("tilelang_syntax", node.lineno, f"no {kind} inside a prim_func"))
        return issues

    def build(self, code: str, workdir: Path, backend: str) -> Path | None:  # noqa: ARG002
        """Check that a source is Python of the subset; TileLang compiles it for the sizes of the first call.

        Parameters
        ----------
        code : str
        workdir : Path
        backend : str

        Raises
        ------
        BuildError
            With the place of the mistake.
        """
        self._check_backend(backend)
        try:
            issues = self.check(code)
        except SyntaxError as error:
            raise BuildError(f"the source is no Python: {error}") from error
        if issues:
            raise BuildError("\n".join(f"line {line}: {message}" for _, line, message in issues))
        return None

    def available(self, backend: str) -> tuple[bool, str]:
        """Return whether TileLang is installed, and the device there.

        Parameters
        ----------
        backend : str

        Returns
        -------
        available : bool
        reason : str
        """
        if backend not in self.backends:
            return False, f"tilelang serves {', '.join(self.backends)}, not {backend}"
        from mlpapers.kernels.dsl.base import get_backend

        there, reason = get_backend(backend).available()
        if importlib.util.find_spec("tilelang") is None:
            return False, "tilelang is not installed (pip install 'mlpapers[kernels]', on Linux)"
        return there, reason


def _is_kernel(function: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator).endswith("prim_func") for decorator in function.decorator_list)
