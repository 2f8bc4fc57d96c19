"""What sets one object in memory apart from another: a digest of its contents, the same in every process."""

from __future__ import annotations

import functools
import hashlib
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any

_PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes, range, slice)
# Of a class these follow from the rest, or differ between processes.
_OF_CLASSES = frozenset({"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__"})


def digest(*values: Any) -> str:
    """Return the SHA-256 of what values consist of.

    Functions count by their code, defaults, and what they close over or name among the globals; modules of
    torch by class, mode, tensors and every other attribute; classes and functions of installed packages by
    name; other objects by what pickle would keep of them, and those that it refuses by their class.

    Parameters
    ----------
    *values : object

    Returns
    -------
    digest : str

    Examples
    --------
    >>> def scaled(k):
    ...     return lambda x: k * x
    >>> digest(scaled(2)) == digest(scaled(2)), digest(scaled(2)) == digest(scaled(3))
    (True, False)
    """
    reader = _Reader()
    reader.feed(values)
    return reader.hash.hexdigest()


class _Reader:
    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        # Kept alive, so that no number is given twice.
        self.seen: dict[int, tuple[int, Any]] = {}

    def word(self, text: str) -> None:
        self.hash.update(f"{len(text)}:{text};".encode(errors="surrogatepass"))

    def feed(self, value: Any) -> None:
        """Add a value to the digest; one that was met before is named by its number."""
        if isinstance(value, _PLAIN) and type(value).__module__ == "builtins":
            self.word(f"{type(value).__name__} {value!r}")
            return
        if id(value) in self.seen:
            self.word(f"again {self.seen[id(value)][0]}")
            return
        self.seen[id(value)] = (len(self.seen), value)
        self.word(_name(value if isinstance(value, type) else type(value)))
        self.contents(value)

    def each(self, values: Iterable[Any]) -> None:
        for value in values:
            self.feed(value)
        self.word("end")

    def contents(self, value: Any) -> None:
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            self.tensor(value)
        elif torch is not None and isinstance(value, torch.nn.Module):
            self.module(value, set(vars(torch.nn.Module())))
        elif isinstance(value, type):
            if not _installed(value):
                self.each(value.__bases__)
                self.mapping({k: v for k, v in vars(value).items() if k not in _OF_CLASSES})
        elif isinstance(value, types.CodeType):
            self.each((value.co_code, value.co_consts, value.co_names, value.co_varnames, value.co_freevars))
        elif isinstance(value, types.FunctionType):
            self.function(value)
        elif isinstance(value, types.MethodType):
            self.each((value.__func__, value.__self__))
        elif isinstance(value, staticmethod | classmethod):
            self.feed(value.__func__)
        elif isinstance(value, property):
            self.each((value.fget, value.fset))
        elif isinstance(value, types.ModuleType):
            self.word(value.__name__)
        elif isinstance(value, types.BuiltinFunctionType):
            self.word(_name(value))
        elif isinstance(value, functools.partial):
            self.each((value.func, value.args, value.keywords))
        elif isinstance(value, types.CellType):
            # A name that is bound later is empty now.
            self.each([value.cell_contents] if value != types.CellType() else [])
        elif type(value) in (list, tuple):
            self.each(value)
        elif isinstance(value, set | frozenset):
            self.each(sorted(value, key=repr))
        elif type(value) in (dict, types.MappingProxyType):
            self.mapping(value)
        else:
            self.reduced(value)

    def mapping(self, value: Mapping[Any, Any]) -> None:
        self.each(part for pair in value.items() for part in pair)

    def tensor(self, value: Any) -> None:
        import torch

        self.word(f"{value.dtype} {tuple(value.shape)} {value.layout} {value.requires_grad}")
        if value.layout == torch.strided and not value.is_quantized and value.device.type != "meta":
            plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
            self.hash.update(plain.view(torch.uint8).numpy())

    def module(self, value: Any, usual: set[str]) -> None:
        held = vars(value)
        self.feed(type(value))
        self.word(f"training {value.training}")
        for group in ("_parameters", "_buffers", "_modules"):
            self.mapping(dict(held[group]))
        self.each((*held["_forward_pre_hooks"].values(), *held["_forward_hooks"].values()))
        self.mapping({name: held[name] for name in held if name not in usual})

    def function(self, value: types.FunctionType) -> None:
        if _installed(value):
            self.word(_name(value))
            return
        known = {
            name: value.__globals__[name] for name in _names(value.__code__) if name in value.__globals__
        }
        self.each((value.__code__, value.__defaults__, value.__kwdefaults__, value.__closure__))
        self.mapping(known)

    def reduced(self, value: Any) -> None:
        try:
            parts = value.__reduce_ex__(2)
        except Exception:  # noqa: BLE001 - what cannot be taken apart counts by its class
            return
        if isinstance(parts, str):
            self.word(parts)
            return
        made, arguments, state, items, pairs = (*parts, None, None, None)[:5]
        self.each((made, arguments, state, list(items or ()), list(pairs or ())))


def _names(code: types.CodeType) -> list[str]:
    """Return the names that a function and those within it look up, sorted."""
    inner = (_names(part) for part in code.co_consts if isinstance(part, types.CodeType))
    return sorted({*code.co_names, *(name for names in inner for name in names)})


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _installed(value: Any) -> bool:
    """Return whether a class or function is Python's or an installed package's: its name says what it is."""
    root = (getattr(value, "__module__", None) or "").partition(".")[0]
    if root in sys.stdlib_module_names and root != "__main__":
        return True
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file
