"""What a kernel language and a device are to the rest of the library, and the table of those that exist."""

from __future__ import annotations

import abc
import ast
import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import pandas as pd

    from mlpapers.kernels.sketch import Sketch


class DSLUnavailable(RuntimeError):
    """A kernel language cannot be used here; the message says what to install."""


class BuildError(RuntimeError):
    """A kernel's source does not compile; the message is the compiler's."""


@dataclass(frozen=True)
class Hardware:
    """What a device can do, measured once.

    Parameters
    ----------
    name, arch : str
    peak_flops : float
        float32 operations per second of a matrix product.
    bandwidth : float
        Bytes per second at the working set that is fastest: a kernel that beats it does not move its bytes.
    bandwidth_dram : float
        Bytes per second of a triad that is larger than every cache.
    cores : int
    flags : tuple of str
        Instruction sets.
    vector_bytes : int
    """

    name: str
    arch: str
    peak_flops: float
    bandwidth: float
    bandwidth_dram: float
    cores: int
    flags: tuple[str, ...] = ()
    vector_bytes: int = 16


class DSL(abc.ABC):
    """A kernel language: renders sketches as source and builds the source.

    Attributes
    ----------
    name : str
    backends : tuple of str
        Devices it can generate code for.
    docs : Path
        Folder of its documents (``basic_docs.md`` and more).
    loader : str
        The exact text that every rendered source contains once to load its binary.
    modules : tuple of str
        Modules that rendered sources import beside torch.

    Examples
    --------
    >>> from mlpapers.kernels import DSL
    >>> from mlpapers.kernels.claims.numpy_dsl import NumpyDSL
    >>> language = NumpyDSL()
    >>> isinstance(language, DSL), language.backends
    (True, ('cpu',))
    """

    name: ClassVar[str]
    backends: ClassVar[tuple[str, ...]]
    docs: ClassVar[Path]
    loader: ClassVar[str] = ""
    modules: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def render(self, sketch: Sketch, params: dict[str, Any], backend: str) -> str:
        """Return Python source that defines ``class ModelNew``.

        Parameters
        ----------
        sketch : Sketch
        params : dict
            Knobs; those left out have their defaults.
        backend : str

        Returns
        -------
        source : str
        """

    @abc.abstractmethod
    def space(self, sketch: Sketch, backend: str) -> dict[str, tuple[Any, ...]]:
        """Return the admissible values of each knob of a sketch."""

    def defaults(self, sketch: Sketch, backend: str) -> dict[str, Any]:
        """Return the knobs' values where nothing is known: by default the middle of each range."""
        return {name: values[len(values) // 2] for name, values in self.space(sketch, backend).items()}

    def check(self, code: str) -> list[tuple[str, int, str]]:
        """Return the language's own complaints about a source, as (rule, line, message)."""
        compile(code, f"<{self.name} kernel>", "exec")
        return []

    def build(self, code: str, workdir: Path, backend: str) -> Path | None:  # noqa: ARG002
        """Compile a source into `workdir` and return the binary; None for a language without one.

        Raises
        ------
        BuildError
            With the compiler's message.
        """
        return None

    def environment(self, backend: str) -> dict[str, str]:  # noqa: ARG002
        """Return the environment variables that a process which runs the source needs."""
        return {}

    @abc.abstractmethod
    def available(self, backend: str) -> tuple[bool, str]:
        """Return whether sources can be built and run here, and the reason where not."""

    def _check_backend(self, backend: str) -> None:
        if backend not in self.backends:
            raise ValueError(f"backend of {self.name} must be one of {self.backends}; got {backend!r}")


def embedded_source(code: str, variable: str, language: str) -> tuple[str, tuple[str, ...]]:
    """Return the text and the compiler's flags that a source assigns to `variable` and ``_FLAGS``.

    Parameters
    ----------
    code : str
    variable : str
    language : str
        What the text is written in, for the message.

    Returns
    -------
    text : str
    flags : tuple of str

    Raises
    ------
    BuildError
        If one is missing or no literal.
    """
    found: dict[str, Any] = {}
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        raise BuildError(f"the source is no Python: {error}") from error
    for statement in tree.body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if not isinstance(statement, ast.Assign) or not isinstance(target, ast.Name):
            continue
        if target.id in (variable, "_FLAGS"):
            try:
                found[target.id] = ast.literal_eval(statement.value)
            except ValueError as error:
                raise BuildError(f"{target.id} must be a literal") from error
    if set(found) != {variable, "_FLAGS"}:
        raise BuildError(
            f"the source must assign the {language} text to {variable} and the compiler's flags to _FLAGS"
        )
    return str(found[variable]), tuple(map(str, found["_FLAGS"]))


def chunk_choices(value: int) -> tuple[int, ...]:
    """Return the sizes of chunks to try beside `value`: a quarter and four times it."""
    return tuple(sorted({max(value // 4, 1), value, value * 4}))


class Backend(abc.ABC):
    """A kind of device.

    Examples
    --------
    >>> from mlpapers.kernels import Backend
    >>> from mlpapers.kernels.backends import CPUBackend
    >>> cpu = CPUBackend()
    >>> isinstance(cpu, Backend), cpu.available(), cpu.device()
    (True, (True, ''), 'cpu')
    """

    name: ClassVar[str]

    @abc.abstractmethod
    def available(self) -> tuple[bool, str]:
        """Return whether there is such a device, and the reason where not."""

    @abc.abstractmethod
    def device(self, i: int = 0) -> str:
        """Return PyTorch's name of the i-th device."""

    @abc.abstractmethod
    def synchronize(self) -> None:
        """Wait until the device is idle."""

    @abc.abstractmethod
    def timer(self) -> Callable[[], float]:
        """Return a clock in seconds."""

    @abc.abstractmethod
    def hardware(self) -> Hardware:
        """Return the measured description of the device."""


# Ours, in the order in which "auto" takes them; further ones come by entry points.
_OWN_DSLS = {
    "cpp": ("dsl.cpp", "CppDSL"),
    "triton": ("dsl.triton", "TritonDSL"),
    "cuda": ("dsl.cuda", "CudaDSL"),
    "tilelang": ("dsl.tilelang", "TileLangDSL"),
}
_OWN_BACKENDS = {
    "cpu": ("backends", "CPUBackend"),
    "cuda": ("backends_cuda", "CUDABackend"),
    "ascend": ("backends_ascend", "AscendBackend"),
}
_DSLS: dict[str, type[DSL]] = {}
_BACKENDS: dict[str, type[Backend]] = {}
_loaded: set[str] = set()


def register_dsl(name: str, cls: type[DSL]) -> None:
    """Make a kernel language known under a name.

    Parameters
    ----------
    name : str
    cls : type
        Subclass of ``DSL``; it is instantiated without arguments.

    Raises
    ------
    TypeError
        If `cls` is no subclass of ``DSL``.
    """
    given: Any = cls
    if not (isinstance(given, type) and issubclass(given, DSL)):
        raise TypeError(f"cls must be a subclass of DSL; got {cls!r}")
    _DSLS[str(name)] = cls


def register_backend(name: str, cls: type[Backend]) -> None:
    """Make a kind of device known under a name.

    Parameters
    ----------
    name : str
    cls : type
        Subclass of ``Backend``; it is instantiated without arguments.

    Raises
    ------
    TypeError
        If `cls` is no subclass of ``Backend``.

    Examples
    --------
    >>> from mlpapers.kernels import list_backends, register_backend
    >>> from mlpapers.kernels.backends import CPUBackend
    >>> register_backend("cpu", CPUBackend)  # a class of yours, under a name of its own
    >>> "cpu" in list_backends()["name"].tolist()
    True
    """
    given: Any = cls
    if not (isinstance(given, type) and issubclass(given, Backend)):
        raise TypeError(f"cls must be a subclass of Backend; got {cls!r}")
    _BACKENDS[str(name)] = cls


def _load_plugins(group: str, table: dict[str, Any]) -> dict[str, Any]:
    if group not in _loaded:
        _loaded.add(group)
        for point in importlib.metadata.entry_points(group=group):
            table.setdefault(point.name, point.load())
    return table


def _dsls() -> dict[str, type[DSL]]:
    for name, (module, cls) in _OWN_DSLS.items():
        if name not in _DSLS:
            _DSLS[name] = getattr(importlib.import_module(f"mlpapers.kernels.{module}"), cls)
    return _load_plugins("mlpapers.kernels.dsl", _DSLS)


def _backends() -> dict[str, type[Backend]]:
    for name, (module, cls) in _OWN_BACKENDS.items():
        if name not in _BACKENDS:
            _BACKENDS[name] = getattr(importlib.import_module(f"mlpapers.kernels.{module}"), cls)
    return _load_plugins("mlpapers.kernels.backends", _BACKENDS)


def get_dsl(name: str) -> DSL:
    """Return a kernel language; ValueError lists the known ones."""
    table = _dsls()
    if name not in table:
        raise ValueError(f"dsl must be one of {', '.join(map(repr, table))}; got {name!r}")
    return table[name]()


def get_backend(name: str) -> Backend:
    """Return a kind of device; ValueError lists the known ones."""
    table = _backends()
    if name not in table:
        raise ValueError(f"backend must be one of {', '.join(map(repr, table))}; got {name!r}")
    return table[name]()


def resolve(dsl: str = "auto", backend: str = "auto") -> tuple[str, str]:
    """Return the names behind "auto": the first device that is there, and its first usable language.

    Parameters
    ----------
    dsl, backend : str

    Returns
    -------
    dsl, backend : str

    Raises
    ------
    ValueError
        For an unknown name, or a language that does not serve the device.
    """
    known = _dsls()
    if backend == "auto":
        wanted = known[dsl].backends if dsl in known else tuple(_backends())
        usable = [name for name in wanted if name in _backends() and get_backend(name).available()[0]]
        backend = usable[0] if usable else "cpu"
    get_backend(backend)
    if dsl == "auto":
        serving = [name for name, cls in known.items() if backend in cls.backends]
        usable = [name for name in serving if get_dsl(name).available(backend)[0]]
        dsl = (usable or serving or ["cpp"])[0]
    if backend not in get_dsl(dsl).backends:
        raise ValueError(
            f"dsl {dsl!r} serves the backends {', '.join(get_dsl(dsl).backends)}; got {backend!r}"
        )
    return dsl, backend


def list_dsls() -> pd.DataFrame:
    """Return the kernel languages, one row per language and device.

    Returns
    -------
    table : DataFrame
        Columns name, backend, available, reason.
    """
    import pandas as pd

    rows = []
    for name in _dsls():
        dsl = get_dsl(name)
        rows += [(name, backend, *dsl.available(backend)) for backend in dsl.backends]
    return pd.DataFrame(rows, columns=["name", "backend", "available", "reason"])


def list_backends() -> pd.DataFrame:
    """Return the kinds of devices.

    Returns
    -------
    table : DataFrame
        Columns name, available, reason.
    """
    import pandas as pd

    rows = [(name, *get_backend(name).available()) for name in _backends()]
    return pd.DataFrame(rows, columns=["name", "available", "reason"])
