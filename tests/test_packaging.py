"""The project's files agree: requirements, pins, versions, lazy names; and an import costs little."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import mlpapers

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = [
    "mlpapers",
    *(f"mlpapers.{info.name}" for info in pkgutil.iter_modules(mlpapers.__path__) if info.ispkg),
]
LAZY = [name for name in PACKAGES if hasattr(importlib.import_module(name), "__all__")]

# What costs a second or more to import, and what only some users have.
HEAVY = {"cvxpy", "matplotlib", "torch", "transformers"}
# Packages in which a public name may load them; every other one is tested to do without.
MAY_BE_HEAVY = {"mlpapers.attention", "mlpapers.icl", "mlpapers.kernels", "mlpapers.testing"}


def requirements(*lists: list[str]) -> list[Requirement]:
    """Return the requirements of the lists, less those that name the project's own extras."""
    parsed = [Requirement(line) for requirement_list in lists for line in requirement_list]
    return [requirement for requirement in parsed if requirement.name != PROJECT["name"]]


def pins(name: str) -> dict[str, Version]:
    """Return canonical name -> version from a file of ``name==version`` lines."""
    lines = [
        line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
    ]
    parts = [line.split("==") for line in lines if line]
    return {canonicalize_name(package): Version(version) for package, version in parts}


DIRECT = requirements(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_every_requirement_is_pinned_to_a_version_it_allows(requirement):
    pinned = pins("constraints.txt")[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned)
    assert pinned.local is None, "a local version exists on some indexes only"


def test_data_wheels_are_pinned_and_in_no_extra():
    wheels = pins("requirements-data.txt")
    assert wheels
    assert not wheels.keys() & {canonicalize_name(requirement.name) for requirement in DIRECT}


def test_what_test_needs_contains_what_reproduce_needs():
    own = next(
        Requirement(line) for line in PROJECT["optional-dependencies"]["test"] if line.startswith("mlpapers")
    )
    assert {"data", "llm", "cluster"} <= own.extras


def test_the_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == mlpapers.__version__
    assert Version(mlpapers.__version__).local is None


def test_the_licence_is_the_one_declared():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in text.splitlines()[0]


def test_the_package_is_marked_as_typed():
    assert (Path(mlpapers.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("package", LAZY)
def test_every_public_name_is_there(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == list(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is getattr(module, name)


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_see_the_names_that_run_time_sees(package):
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    guards = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    imported = {alias.asname for guard in guards for node in guard.body for alias in node.names}
    assert imported == set(module.__all__)


def test_the_command_and_the_pytest_plugin_are_registered():
    assert PROJECT["scripts"] == {"mlpapers": "mlpapers.__main__:main"}
    for target in [*PROJECT["scripts"].values(), *PROJECT["entry-points"]["pytest11"].values()]:
        module, _, attribute = target.partition(":")
        assert hasattr(importlib.import_module(module), attribute or "__name__")


def modules_loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after `statement`."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(run.stdout.split())


def test_importing_the_library_loads_nothing_else():
    assert not modules_loaded_by("import mlpapers") & {*HEAVY, "numpy", "sklearn", "pandas", "joblib"}


@pytest.mark.parametrize("package", sorted({*LAZY} - MAY_BE_HEAVY))
def test_public_names_load_nothing_heavy(package):
    statement = f"import {package}\nfor name in {package}.__all__: getattr({package}, name)"
    assert not modules_loaded_by(statement) & HEAVY


def test_listing_the_papers_loads_nothing_heavy():
    assert not modules_loaded_by("import mlpapers\nmlpapers.papers()") & {*HEAVY, "sklearn", "numba"}
