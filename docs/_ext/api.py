"""Write the API reference: one page a package, with an autosummary table of the names in its ``__all__``."""

import importlib
import inspect
import pkgutil
import re
from abc import ABC
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

import mlpapers

INDEX = """\
API reference
=============

Every public name is imported from its package: ``from mlpapers.valuation import KNNShapley``.

.. toctree::
   :maxdepth: 1

{entries}
"""


def public_packages() -> list[ModuleType]:
    """Return the packages that have public names, the library's own first."""
    names = [info.name for info in pkgutil.iter_modules(mlpapers.__path__, "mlpapers.") if info.ispkg]
    packages = [
        importlib.import_module(name) for name in names if not name.rpartition(".")[2].startswith("_")
    ]
    return [mlpapers, *(package for package in packages if getattr(package, "__all__", ()))]


def is_api(value: Any) -> bool:
    """Tell whether a public name is a class or a function, which have pages of their own."""
    return inspect.isclass(value) or inspect.isroutine(value)


def own_api(package: ModuleType) -> dict[str, Any]:
    """Return the public classes and functions that `package`, or a module of it, defines."""
    members = {name: getattr(package, name) for name in package.__all__}
    prefix = f"{package.__name__}."
    return {name: v for name, v in members.items() if is_api(v) and f"{v.__module__}.".startswith(prefix)}


def package_page(package: ModuleType) -> str:
    """Return the page of one package: its docstring, then its classes, functions and constants."""
    name = package.__name__
    lines = [name, "=" * len(name), "", f".. automodule:: {name}", "   :no-members:", ""]
    lines += [f".. currentmodule:: {name}", ""]
    members = {member: getattr(package, member) for member in package.__all__}
    own = own_api(package)
    for title, is_kind in {"Classes": inspect.isclass, "Functions": inspect.isroutine}.items():
        if chosen := [member for member, value in own.items() if is_kind(value)]:
            lines += [title, "-" * len(title), "", ".. autosummary::", "   :toctree: .", ""]
            lines += [f"   {member}" for member in chosen] + [""]
    if constants := [m for m, value in members.items() if not is_api(value) and not inspect.ismodule(value)]:
        lines += ["Constants", "---------", ""]
        lines += [line for member in constants for line in (f".. autodata:: {member}", "   :no-value:", "")]
    if others := [member for member, value in members.items() if is_api(value) and member not in own]:
        lines += ["Defined elsewhere", "-----------------", ""]
        for member in others:
            origin = ".".join(members[member].__module__.split(".")[:2])
            lines += [f"- ``{member}`` is that of ``{origin}``."]
    return "\n".join([*lines, ""])


def skip_member(_app: Sphinx, kind: str, name: str, value: Any, _skip: bool, _options: Any) -> bool | None:
    """Leave out what a class inherits from other libraries, and the setters that scikit-learn generates."""
    if re.fullmatch(r"set_\w+_request", name):
        return True
    if kind != "class" or not (inspect.isroutine(value) or inspect.isdatadescriptor(value)):
        return None
    function = inspect.unwrap(getattr(value, "fget", None) or getattr(value, "__func__", value))
    return None if (getattr(function, "__module__", None) or "").startswith("mlpapers") else True


def hide_private_bases(_app: Sphinx, _name: str, _class: type, _options: Any, bases: list[type]) -> None:
    """Show the nearest public ancestors for base classes that no page describes."""
    ancestors = [getattr(base, "__mro__", (base,)) for base in bases]
    nearest = dict.fromkeys(next(kind for kind in line if is_documented(kind)) for line in ancestors)
    bases[:] = [base for base in nearest if base is not object] or [object]


def is_documented(base: type) -> bool:
    """Tell whether a base class is exported by its package, or is another library's and more than ABC."""
    if not base.__module__.startswith("mlpapers."):
        return base is not ABC
    package = importlib.import_module(".".join(base.__module__.split(".")[:2]))
    return getattr(package, base.__name__, None) is base and base.__name__ in package.__all__


def write_pages(app: Sphinx, _config: Config) -> None:
    """Write the pages below ``docs/api/generated``, touching only what changed since the last build."""
    folder = Path(app.srcdir, "api", "generated")
    folder.mkdir(parents=True, exist_ok=True)
    packages = public_packages()
    pages = {package.__name__: package_page(package) for package in packages}
    pages["index"] = INDEX.format(entries="\n".join(f"   {package.__name__}" for package in packages))
    names = {f"{package.__name__}.{member}" for package in packages for member in own_api(package)}
    for path in folder.glob("*.rst"):
        if path.stem not in names | pages.keys():
            path.unlink()  # autosummary's page of a name that is gone
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages before Sphinx looks for source files."""
    app.connect("autodoc-process-bases", hide_private_bases)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("config-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
