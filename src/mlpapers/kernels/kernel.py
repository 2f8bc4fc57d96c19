"""A kernel: source text for a task, loadable and exportable."""

from __future__ import annotations

import hashlib
import linecache
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpapers.core._files import write_text
from mlpapers.core.validation import check_choice
from mlpapers.kernels.task import Task, TaskError

if TYPE_CHECKING:
    import os

EXPORT_STYLES = ("ctypes", "load_inline")


@dataclass(frozen=True)
class Kernel:
    """Source text that defines ``class ModelNew`` for a task.

    Parameters
    ----------
    code : str
        Python text; it needs torch and the kernel language's compiler, never this library.
    dsl, backend : str
    task : Task or None
    params : dict
        Knobs it was rendered with.
    sketch : str, optional
        Text of the sketch it was rendered from.
    origin : str
        "rules", "llm" or "user".

    Raises
    ------
    TaskError
        If the code does not define ``ModelNew``, or is no Python.
    """

    code: str
    dsl: str
    backend: str
    task: Task | None
    params: dict[str, Any] = field(default_factory=dict)
    sketch: str | None = None
    origin: str = "user"

    def __post_init__(self) -> None:
        import ast

        try:
            tree = ast.parse(self.code)
        except SyntaxError as error:
            raise TaskError(f"code is no Python: {error.msg} (line {error.lineno})") from error
        names = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        if "ModelNew" not in names:
            raise TaskError("code does not define ModelNew")

    def load(self) -> type:
        """Execute the code in this process and return the class ``ModelNew``.

        The code is run as it is, without a sandbox: load only what you trust (or have verified).

        Where the task was made from a module in memory, an object of the class has that module's weights and
        buffers as they are when it is constructed; where it was made from a class in memory, those of a new
        object of that class. The source alone has no weights.

        Kernels compute forward only. Where gradients are on and an argument or a parameter requires them, the
        results do too, and ``backward`` through them raises RuntimeError.

        Returns
        -------
        cls : type
        """
        from mlpapers.kernels._loaded import carry_weights, refuse_gradients

        name = f"mlpapers_kernel_{hashlib.sha256(self.code.encode()).hexdigest()[:16]}"
        module = types.ModuleType(name)
        # Classes look their module up by name (for pickling and annotations).
        sys.modules[name] = module
        # Triton, and tracebacks, read the source of functions again.
        file = f"<kernel {name}>"
        linecache.cache[file] = (len(self.code), None, self.code.splitlines(keepends=True), file)
        exec(compile(self.code, file, "exec"), module.__dict__)
        loaded: type = module.__dict__["ModelNew"]
        live = self.task.live if self.task is not None else None
        if live is not None and live.module is not None:
            carry_weights(loaded, live)
        refuse_gradients(loaded)
        return loaded

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the code to a file.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        path : Path
        """
        return write_text(Path(path), self.code)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], dsl: str, task: Task | None) -> Kernel:
        """Read a kernel from a file.

        Parameters
        ----------
        path : path-like
        dsl : str
        task : Task or None

        Returns
        -------
        kernel : Kernel
        """
        from mlpapers.kernels.dsl import resolve

        dsl, backend = resolve(dsl)
        return cls(Path(path).read_text(encoding="utf-8"), dsl, backend, task)

    def export(self, style: str = "ctypes") -> str:
        """Return a standalone file: it needs torch and a compiler, never this library.

        Parameters
        ----------
        style : {"ctypes", "load_inline"}
            How the binary part is built and called: by the loader that the code carries, or by
            ``torch.utils.cpp_extension.load_inline``.

        Returns
        -------
        text : str

        Raises
        ------
        ValueError
            For an unknown style, or "load_inline" of a kernel whose language has no C++ text.
        """
        check_choice("style", style, EXPORT_STYLES)
        if style == "ctypes":
            return self.code
        if self.dsl != "cpp":
            raise ValueError(f"style 'load_inline' is for cpp kernels; this one is {self.dsl}")
        from mlpapers.kernels.dsl.cpp.inline import inline_source

        return inline_source(self.code)


def check_kernel(kernel: Any) -> None:
    """Raise TypeError unless `kernel` is a Kernel."""
    if not isinstance(kernel, Kernel):
        raise TypeError(
            f"kernel must be a Kernel, such as the attribute of that name of a KernelResult; got "
            f"{type(kernel).__name__}"
        )
