"""A checkout of the library: where it is, and the two places in it that list every package."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path


def find_checkout(directory: Path) -> Path | None:
    """Return the root of the checkout of mlpapers that `directory` lies in, or None.

    Raises
    ------
    ValueError
        Where a pyproject.toml that would decide it cannot be read.
    """
    for root in (directory, *directory.parents):
        project = root / "pyproject.toml"
        if project.is_file() and (root / "src" / "mlpapers" / "__init__.py").is_file():
            try:
                content = tomllib.loads(project.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"--directory {directory}: {project} is damaged: {error}") from error
            if content.get("project", {}).get("name") == "mlpapers":
                return root
    return None


def paper_packages(root: Path) -> set[str]:
    """Return the names of the paper packages in the checkout."""
    return {path.parent.name for path in (root / "src" / "mlpapers").glob("*/papers.py")}


def add_lazy_name(source: str, package: str) -> str:
    """Return the text of ``mlpapers/__init__.py`` with `package` in the table of lazy names and its imports.

    Raises
    ------
    ValueError
        Where the text does not have the form that can be edited safely.
    """
    text = _insert_sorted(
        source,
        f"    from mlpapers import {package} as {package}\n",
        r"    from mlpapers import (\w+) as \1\n",
    )
    text = _insert_sorted(text, f'        "{package}": None,\n', r'        "\w+": (?:None|"[\w.]+"),\n')
    if _lazy_table(text) != {**_lazy_table(source), package: None}:
        raise ValueError("the table of lazy names is not written as one literal")
    return text


def add_to_layers(project: str, package: str, known: set[str]) -> str:
    """Return the text of pyproject.toml with `package` in import-linter's layer of paper packages.

    The layer is the one text that names all of `known` between bars.

    Raises
    ------
    ValueError
        Where there are contracts, but no such layer.
    """
    linter = tomllib.loads(project).get("tool", {}).get("importlinter")
    if linter is None or not known:
        return project
    for layer in (layer for contract in linter.get("contracts", []) for layer in contract.get("layers", [])):
        names = {name.strip("() ") for name in layer.split("|")}
        if package in names:
            return project
        if known <= names and project.count(f'"{layer}"') == 1:
            return project.replace(f'"{layer}"', f'"{layer} | {package}"')
    raise ValueError("no layer of import-linter names the paper packages")


def _insert_sorted(text: str, new: str, pattern: str) -> str:
    lines = text.splitlines(keepends=True)
    alike = [index for index, line in enumerate(lines) if re.fullmatch(pattern, line)]
    if not alike:
        raise ValueError("no line to stand beside")
    place = next((index for index in alike if lines[index] > new), alike[-1] + 1)
    return "".join([*lines[:place], new, *lines[place:]])


def _lazy_table(source: str) -> dict[str, str | None]:
    tables = [
        node.args[1]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "attach"
    ]
    if len(tables) != 1:
        raise ValueError("there is not one table of lazy names")
    table: dict[str, str | None] = ast.literal_eval(tables[0])
    return table
