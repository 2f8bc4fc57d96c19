"""Lazy public names (PEP 562): a package imports a submodule when one of its names is first used."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any


def attach(
    package: str, table: Mapping[str, str | None]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make the three module-level names that a lazy package needs.

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    table : mapping of str to str or None
        Public name -> the module that defines it: a submodule of `package`, or an absolute name that begins
        with ``mlpapers.``; None where the name is itself a submodule.

    Returns
    -------
    getattr_, dir_, all_ : callable, callable, list of str
        To be bound to ``__getattr__``, ``__dir__`` and ``__all__``.

    Examples
    --------
    >>> getattr_, dir_, all_ = attach("mlpapers.core", {"Result": "result"})
    >>> getattr_("Result").__name__
    'Result'
    """

    def getattr_(name: str) -> Any:
        if name not in table:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        submodule = table[name]
        if submodule is None:
            return importlib.import_module(f"{package}.{name}")
        module = submodule if submodule.startswith("mlpapers.") else f"{package}.{submodule}"
        value = getattr(importlib.import_module(module), name)
        setattr(sys.modules[package], name, value)
        return value

    def dir_() -> list[str]:
        return sorted({*vars(sys.modules[package]), *table})

    class Package(types.ModuleType):
        """The package, where a public name means the object even if a submodule is called the same."""

        def __setattr__(self, name: str, value: Any) -> None:
            # The import system binds a submodule in its package whenever it is first imported.
            if isinstance(value, types.ModuleType) and table.get(name) == name:
                value = getattr(value, name)
            super().__setattr__(name, value)

    if package in sys.modules:
        sys.modules[package].__class__ = Package
    return getattr_, dir_, sorted(table)
