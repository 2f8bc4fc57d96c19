"""Reading a candidate's text: names resolved through imports, functions, embedded C, comments removed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

_C_MARKS = re.compile(r'extern\s+"C"|#\s*include\b|__global__|\bvoid\s+\w+\s*\([^)]*\*|\bPYBIND11_MODULE\b')
_C_NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)


def import_table(tree: ast.AST) -> dict[str, str]:
    """Return local name -> dotted path for everything that is imported anywhere in the text.

    Examples
    --------
    >>> import_table(ast.parse("import torch.nn.functional as F; from torch import relu as r"))
    {'F': 'torch.nn.functional', 'r': 'torch.relu'}
    """
    table: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                table[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                table[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return table


def with_aliases(tree: ast.AST, table: dict[str, str]) -> dict[str, str]:
    """Return `table` and the names that plain assignments give to what it knows (``f = torch.relu``)."""
    known = dict(table)
    for _ in range(3):  # an alias of an alias of an alias
        for node in ast.walk(tree):
            if not isinstance(node, ast.Assign) or len(node.targets) != 1:
                continue
            target, path = node.targets[0], dotted(node.value, known)
            if isinstance(target, ast.Name) and path and target.id not in table:
                known[target.id] = path
    return known


def dotted(node: ast.AST, table: dict[str, str]) -> str:
    """Return the dotted path of a name or attribute chain that begins with an imported name, else ""."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in table:
        return ".".join([table[node.id], *reversed(parts)])
    return ""


def outermost_paths(tree: ast.AST, table: dict[str, str]) -> Iterator[tuple[ast.expr, str]]:
    """Yield every name or attribute chain that resolves, the longest form of each only."""
    inner: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            inner.add(id(node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and id(node) not in inner:
            path = dotted(node, table)
            if path:
                yield node, path
        elif isinstance(node, ast.Attribute | ast.Name) and id(node) in inner:
            continue


def docstrings(tree: ast.AST) -> set[int]:
    """Return the ids of the constants that are docstrings or stand alone as statements."""
    return {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def embedded_c(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of the string constants that hold C, C++ or CUDA, comments and literals blanked.

    The first line of each text is the line of the constant, and line breaks are kept.
    """
    skipped = docstrings(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in skipped:
            continue
        if isinstance(node.value, str) and _C_MARKS.search(node.value):
            yield node.lineno, strip_c(node.value)


def strip_c(text: str) -> str:
    """Return C text without comments and string literals; the number of lines stays.

    Examples
    --------
    >>> strip_c("int x; // std::thread")
    'int x; '
    """

    def blank(match: re.Match[str]) -> str:
        found = match.group()
        if found.startswith('"'):
            # The names in include lines and extern "C" carry meaning; what else is quoted does not.
            return found if found == '"C"' or found.endswith((".h", '.h"', '.cuh"', '.hpp"')) else '""'
        return "\n" * found.count("\n")

    return _C_NOISE.sub(blank, text)


def functions(tree: ast.AST) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    """Yield every function that may run within a call of the kernel, with whether it is a method.

    Constructors are left out: what they do happens once, before any call.
    """
    methods = {id(item) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for item in node.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "__init__":
            yield node, id(node) in methods


def layers(tree: ast.AST, table: dict[str, str]) -> dict[str, str]:
    """Return attribute -> class name for ``self.attribute = nn.Class(...)`` in any method."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        path = dotted(node.value.func, table)
        if not path.startswith("torch.nn.") or not path.rpartition(".")[2][:1].isupper():
            continue
        for target in node.targets:
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                found[target.attr] = path.rpartition(".")[2]
    return found
