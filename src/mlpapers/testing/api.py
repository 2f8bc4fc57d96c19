"""The public API as data: every public object of every package, found through ``__all__``."""

from __future__ import annotations

import importlib
import pkgutil
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PublicObject:
    """A public name and what it stands for.

    Attributes
    ----------
    package : str
        The package that exports it, e.g. ``"mlpapers.valuation"``.
    name : str
        The name in that package's ``__all__``.
    value : object
    """

    package: str
    name: str
    value: Any

    @property
    def qualified_name(self) -> str:
        """``package.name``."""
        return f"{self.package}.{self.name}"


def public_packages(root: str = "mlpapers") -> tuple[str, ...]:
    """Return the public packages: `root`, those right below it, and deeper ones with an ``__all__``.

    A leading underscore makes a package, and what is inside, private; claims are experiments, no API.
    """
    found = [
        info.name
        for info in pkgutil.walk_packages(importlib.import_module(root).__path__, f"{root}.")
        if info.ispkg and not any(_is_private(part) for part in info.name.split("."))
    ]
    depth = root.count(".") + 1
    public = [
        name
        for name in found
        if name.count(".") == depth or hasattr(importlib.import_module(name), "__all__")
    ]
    return (root, *sorted(public))


def walk_api(root: str = "mlpapers") -> Iterator[PublicObject]:
    """Yield every public object once, under the package that defines it where that one exports it.

    Submodules in an ``__all__`` are not objects of their own. A name that does not resolve raises what its
    import raises.

    Parameters
    ----------
    root : str
        The package to start from.

    Yields
    ------
    PublicObject

    Examples
    --------
    >>> from mlpapers.testing import walk_api
    >>> [item.name for item in walk_api("mlpapers.datasets")][1:4]
    ['fetch_looptabfm_benchmark', 'load_adult', 'load_cifar10']
    """
    found: list[PublicObject] = []
    for package in public_packages(root):
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if not isinstance(value, types.ModuleType):
                found.append(PublicObject(package, name, value))
    # A re-export (a loader in a paper's package, say) yields to the package that the object comes from.
    found.sort(key=lambda item: (not _defined_in(item), -len(item.package)))
    seen: set[int] = set()
    for item in found:
        if id(item.value) not in seen:
            seen.add(id(item.value))
            yield item


def _is_private(part: str) -> bool:
    return part.startswith("_") or part == "claims"


def _defined_in(item: PublicObject) -> bool:
    origin = getattr(item.value, "__module__", None)
    return isinstance(origin, str) and (origin == item.package or origin.startswith(f"{item.package}."))
