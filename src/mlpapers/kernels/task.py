"""A task: the PyTorch module for which a faster kernel is wanted, in KernelBench's format."""

from __future__ import annotations

import ast
import copy
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpapers.core.result import transient
from mlpapers.kernels._identity import digest

if TYPE_CHECKING:
    import os

    import torch


def check_task(task: Any) -> None:
    """Raise TypeError unless `task` is a Task."""
    if not isinstance(task, Task):
        raise TypeError(f"task must be a Task; got {type(task).__name__}")


class TaskError(ValueError):
    """The task's source or module cannot be used; the message names what is missing or unsupported."""


@dataclass(frozen=True)
class LiveModule:
    """What a task made by ``Task.from_module`` runs instead of its source text; files do not keep it."""

    module: Any = transient()
    get_inputs: Callable[[], list[Any]] = transient()
    get_init_inputs: Callable[[], list[Any]] | None = transient()


@dataclass(frozen=True)
class Task:
    """A module M, the arguments of its constructor and a distribution of inputs.

    The source defines ``class Model(nn.Module)``, ``get_inputs()`` (the list of inputs of ``forward``) and,
    where the constructor takes arguments, ``get_init_inputs()``. Sizes are usually constants of the module,
    which `overrides` replace before the source runs.

    Parameters
    ----------
    name : str
    source : str
        Python text.
    level, problem_id : int, optional
        The place in KernelBench.
    overrides : tuple of (str, object)
        Values for module-level constants.
    live : LiveModule, optional
        A module in memory instead of a source (see ``from_module``); not part of comparisons.

    Raises
    ------
    TaskError
        If the source is empty, is no Python, or lacks ``Model`` or ``get_inputs``.
    KeyError
        If an override names no constant of the module; the message lists those that exist.

    Examples
    --------
    >>> task = Task.from_source('''
    ... import torch
    ... n = 8
    ... class Model(torch.nn.Module):
    ...     def forward(self, x):
    ...         return x.relu()
    ... def get_inputs():
    ...     return [torch.rand(n, 4)]
    ... ''')
    >>> module, inputs = task.with_overrides(n=2).build()
    >>> tuple(inputs[0].shape)
    (2, 4)
    """

    name: str
    source: str
    level: int | None = None
    problem_id: int | None = None
    overrides: tuple[tuple[str, Any], ...] = ()
    live: LiveModule | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if any(not isinstance(text, str) for text in (self.name, self.source)):
            raise TypeError(
                f"name and source must be strings; got {self.name!r} and {type(self.source).__name__}"
            )
        overrides = self.overrides.items() if isinstance(self.overrides, Mapping) else self.overrides
        object.__setattr__(self, "overrides", tuple((str(key), value) for key, value in overrides))
        if self.live is not None:
            if self.overrides:
                raise KeyError(f"a task made from a module has no constants; got {dict(self.overrides)}")
            return
        if not self.source.strip():
            raise TaskError(f"task {self.name!r}: the source is empty; it must define Model and get_inputs")
        known = self.constants()
        for key, _ in self.overrides:
            if key not in known:
                raise KeyError(
                    f"{key!r} is no constant of task {self.name!r}; it has {', '.join(known) or 'none'}"
                )
        defined = set(_defined_names(self._tree(self.source)))
        for symbol in ("Model", "get_inputs"):
            if symbol not in defined:
                raise TaskError(f"task {self.name!r} does not define {symbol}")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, overrides: Mapping[str, Any] | None = None) -> Task:
        """Read a task from a file; its name is the file's without the suffix.

        Parameters
        ----------
        path : path-like
        overrides : mapping of str to object, optional

        Returns
        -------
        task : Task

        Raises
        ------
        TaskError
            If the file is no text, or defines no task.
        """
        path = Path(path)
        try:
            source = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise TaskError(f"{path} is no text in UTF-8: {error.reason} at byte {error.start}") from None
        return cls.from_source(source, path.stem, overrides=overrides)

    @classmethod
    def from_source(
        cls, source: str, name: str = "task", *, overrides: Mapping[str, Any] | None = None
    ) -> Task:
        """Make a task from Python text.

        Parameters
        ----------
        source : str
        name : str
        overrides : mapping of str to object, optional
            New values of module-level constants.

        Returns
        -------
        task : Task
        """
        return cls(name, source, overrides=tuple((overrides or {}).items()))

    @classmethod
    def from_module(
        cls,
        module: Any,
        get_inputs: Callable[[], list[Any]],
        get_init_inputs: Callable[[], list[Any]] | None = None,
        *,
        name: str | None = None,
    ) -> Task:
        """Make a task from a module in memory.

        Parameters
        ----------
        module : nn.Module class or instance
            An instance is copied each time the task is built; its weights and buffers are the task's.
        get_inputs : callable
            Returns the list of inputs of ``forward``.
        get_init_inputs : callable, optional
            Returns the constructor's arguments; only for a class.
        name : str, optional
            By default the class's name.

        Returns
        -------
        task : Task

        Raises
        ------
        TypeError
            If `module` is neither a class nor an instance of nn.Module, or a function is not callable.
        ValueError
            If an instance comes with `get_init_inputs`.
        """
        import torch

        is_class = isinstance(module, type) and issubclass(module, torch.nn.Module)
        if not is_class and not isinstance(module, torch.nn.Module):
            raise TypeError(f"module must be an nn.Module class or instance; got {module!r}")
        given: list[Any] = [get_inputs, get_init_inputs or get_inputs]
        if not all(callable(function) for function in given):
            raise TypeError("get_inputs and get_init_inputs must be callable")
        if not is_class and get_init_inputs is not None:
            raise ValueError("get_init_inputs must be None for an instance: it is constructed already")
        kind = module if is_class else type(module)
        return cls(
            name or kind.__name__,
            _describe(module, get_inputs, get_init_inputs),
            live=LiveModule(module, get_inputs, get_init_inputs),
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what the task computes: its source after overrides, or what a module in memory holds."""
        return hashlib.sha256(self.resolved_source.encode()).hexdigest()

    @property
    def resolved_source(self) -> str:
        """The source with the overrides in place of the constants."""
        source = self.source
        for name, value in self.overrides:
            source = _override(source, name, value)
        return source

    @property
    def degenerate(self) -> bool:
        """Whether the output hardly depends on the input, so that a speed-up would mean nothing."""
        from mlpapers.kernels.verify.reference import is_degenerate

        return bool(is_degenerate(self))

    @property
    def nondeterministic(self) -> bool:
        """Whether the module draws random numbers in ``forward`` (dropout in train mode)."""
        from mlpapers.kernels.graph.capture import capture

        return bool(capture(self).random)

    def with_overrides(self, **overrides: Any) -> Task:
        """Return the task with further constants replaced.

        Parameters
        ----------
        **overrides : object
            Constant name and its new value; a later value replaces an earlier one.

        Returns
        -------
        task : Task
        """
        return replace(self, overrides=tuple({**dict(self.overrides), **overrides}.items()))

    def constants(self) -> dict[str, Any]:
        """Return the module-level constants by name; the value is None where it is no literal."""
        if self.live is not None:
            return {}
        found: dict[str, Any] = {}
        for statement in self._tree(self.source).body:
            for target, value in _assignments(statement):
                try:
                    found[target] = ast.literal_eval(value) if value is not None else None
                except ValueError:
                    found[target] = None
        return found

    @property
    def instance(self) -> torch.nn.Module | None:
        """The module itself, not a copy, where the task was made from an instance; else None."""
        module = self._in_memory().module if self.live is not None else None
        return None if isinstance(module, type) else module

    def init_inputs(self) -> list[Any]:
        """Return the constructor's arguments."""
        if self.live is not None:
            given = self._in_memory().get_init_inputs
            return self._call(given, "get_init_inputs") if given is not None else []
        namespace = self._namespace()
        return self._call(namespace["get_init_inputs"]) if "get_init_inputs" in namespace else []

    def draw_inputs(self, random_state: int = 0, device: str = "cpu") -> list[Any]:
        """Draw one list of inputs without constructing the module.

        Parameters
        ----------
        random_state : int
        device : str

        Returns
        -------
        inputs : list of tensor, float or int
        """
        import torch

        live = self.live is not None
        function = self._in_memory().get_inputs if live else self._namespace()["get_inputs"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_state)
            return self._checked(self._call(function), device)

    def build(self, seed: int = 0, device: str = "cpu") -> tuple[torch.nn.Module, list[Any]]:
        """Construct the module and draw its inputs, as KernelBench does.

        The generator is seeded before the constructor runs and the inputs follow; the caller's generator is
        left as it was. The module is in train mode.

        Parameters
        ----------
        seed : int
        device : str

        Returns
        -------
        module : nn.Module
        inputs : list of tensor, float or int

        Raises
        ------
        TaskError
            If the source or the constructor raises, or an input is of a kind that is not supported.
        """
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.live is not None:
                module, get_inputs = self._construct_live(), self._in_memory().get_inputs
            else:
                namespace = self._namespace()
                arguments = self._call(namespace["get_init_inputs"]) if "get_init_inputs" in namespace else []
                module = self._call(lambda: [namespace["Model"](*arguments)], "Model(...)")[0]
                get_inputs = namespace["get_inputs"]
            if not isinstance(module, torch.nn.Module):
                raise TaskError(
                    f"task {self.name!r}: Model must be an nn.Module; got {type(module).__name__}"
                )
            inputs = self._checked(self._call(get_inputs), device)
        return (module if device == "cpu" else module.to(device)), inputs

    def _in_memory(self) -> LiveModule:
        if self.live is None or self.live.module is None:
            raise TaskError(
                f"task {self.name!r} was made from a module in memory, which a file does not keep; make it "
                "again with Task.from_module"
            )
        return self.live

    def _construct_live(self) -> Any:
        kind, instance = self._in_memory().module, self.instance
        if instance is not None:
            return self._call(lambda: [copy.deepcopy(instance)], "copying the module")[0]
        arguments = self.init_inputs()
        return self._call(lambda: [kind(*arguments)], "the constructor")[0]

    def _tree(self, source: str) -> ast.Module:
        try:
            return ast.parse(source)
        except SyntaxError as error:
            raise TaskError(f"task {self.name!r} is no Python: {error.msg} (line {error.lineno})") from error

    def _namespace(self) -> dict[str, Any]:
        namespace: dict[str, Any] = {"__name__": f"task_{self.fingerprint[:12]}"}
        code = compile(self._tree(self.resolved_source), f"<task {self.name}>", "exec")
        try:
            exec(code, namespace)
        except Exception as error:
            raise TaskError(
                f"task {self.name!r}: its source raised {type(error).__name__}: {error}"
            ) from error
        return namespace

    def _call(self, function: Callable[[], Any], what: str = "") -> list[Any]:
        what = what or getattr(function, "__name__", "get_inputs")
        try:
            value = function()
        except Exception as error:
            raise TaskError(f"task {self.name!r}: {what} raised {type(error).__name__}: {error}") from error
        if not isinstance(value, list | tuple):
            raise TaskError(f"task {self.name!r}: {what} must return a list; got {type(value).__name__}")
        return list(value)

    def _checked(self, inputs: list[Any], device: str) -> list[Any]:
        import torch

        checked: list[Any] = []
        for position, value in enumerate(inputs):
            if isinstance(value, torch.Tensor):
                if value.is_complex() or value.layout != torch.strided or value.is_quantized:
                    raise TaskError(
                        f"task {self.name!r}: input {position} is unsupported: expected dense and real; "
                        f"got dtype {value.dtype}, layout {value.layout}"
                    )
                checked.append(value if device == "cpu" else value.to(device))
            elif isinstance(value, int | float):
                checked.append(value)
            else:
                raise TaskError(
                    f"task {self.name!r}: input {position} must be a tensor or a number; "
                    f"got {type(value).__name__}"
                )
        return checked


def _defined_names(tree: ast.Module) -> Iterator[str]:
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef):
            yield statement.name
        elif isinstance(statement, ast.ImportFrom | ast.Import):
            yield from (alias.asname or alias.name for alias in statement.names)
        else:
            yield from (name for name, _ in _assignments(statement))


def _assignments(statement: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield the names that a statement binds, each with its value where a tuple target has one per name."""
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield statement.target.id, statement.value
    if not isinstance(statement, ast.Assign):
        return
    for target in statement.targets:
        if isinstance(target, ast.Name):
            yield target.id, statement.value
        elif isinstance(target, ast.Tuple | ast.List):
            values = statement.value.elts if isinstance(statement.value, ast.Tuple | ast.List) else []
            matched = len(values) == len(target.elts)
            for position, element in enumerate(target.elts):
                if isinstance(element, ast.Name):
                    yield element.id, values[position] if matched else None


def _override(source: str, name: str, value: Any) -> str:
    """Set a module-level constant anew after each statement that assigns it; later ones see the new value."""
    # Lines as the parser counts them, and columns in bytes.
    lines = [line.encode() for line in source.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    for statement in reversed(ast.parse(source).body):
        if any(target == name for target, _ in _assignments(statement)):
            row, column = (statement.end_lineno or statement.lineno) - 1, statement.end_col_offset
            lines[row] = lines[row][:column] + f"; {name} = {value!r}".encode() + lines[row][column:]
    return b"\n".join(lines).decode()


def _describe(module: Any, *functions: Callable[[], Any] | None) -> str:
    """Text that identifies a module in memory: its class's source if there is one, structure and contents."""
    kind = module if isinstance(module, type) else type(module)
    try:
        text = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):
        text = f"# {kind.__module__}.{kind.__qualname__}: defined where no source is kept\n"
    structure = "" if isinstance(module, type) else f"# {' '.join(repr(module).split())}\n"
    return f"{text}\n{structure}# contents and inputs sha256 {digest(module, *functions)}\n"
