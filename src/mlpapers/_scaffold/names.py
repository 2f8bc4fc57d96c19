"""The names of a new paper: its key, its package, its citation."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from dataclasses import dataclass

from mlpapers.core.paper import papers

# Longer names would break lines of the templates.
_MAX_KEY, _MAX_PACKAGE = 60, 30


@dataclass(frozen=True)
class Citation:
    """Whom the new paper cites; each text on one line."""

    title: str
    authors: tuple[str, ...]
    year: int
    venue: str
    arxiv: str | None = None
    doi: str | None = None


# The paper that the templates are about.
EXAMPLE = Citation(
    title="Generalized cross-validation as a method for choosing a good ridge parameter",
    authors=("Gene H. Golub", "Michael Heath", "Grace Wahba"),
    year=1979,
    venue="Technometrics 21 (2)",
    doi="10.1080/00401706.1979.10489751",
)


def check_key(key: str) -> str:
    """Return `key` if it is the key of no known paper; ValueError says what is wrong with it."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", key) or len(key) > _MAX_KEY:
        raise ValueError(
            f"KEY must be lower-case words joined by hyphens, {_MAX_KEY} letters at most; got {key!r}"
        )
    if key in {paper.key for paper in papers()}:
        raise ValueError(f"KEY {key!r} is the key of a known paper")
    return key


def check_package(package: str | None, key: str) -> str:
    """Return the package's name, by default the key with underscores; ValueError unless it can be one."""
    name = key.replace("-", "_") if package is None else package
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > _MAX_PACKAGE:
        raise ValueError(
            "--package must be lower-case words joined by underscores, beginning with a letter, "
            f"{_MAX_PACKAGE} letters at most; got {name!r}"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise ValueError(f"--package must not be a Python keyword; got {name!r}")
    return name


def check_top_level(package: str) -> str:
    """Return `package` if nothing that can be imported here has this name; ValueError otherwise."""
    if package in sys.stdlib_module_names or importlib.util.find_spec(package) is not None:
        raise ValueError(f"--package {package!r} would hide the importable module {package!r}")
    return package


def check_line(name: str, text: str) -> str:
    """Return `text` with single spaces; ValueError where it is empty or does not print on one line."""
    line = " ".join(text.split())
    if not line or not line.isprintable():
        raise ValueError(f"{name} must be one line of printable text; got {text!r}")
    return line
