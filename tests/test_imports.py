"""What importing costs: no package loads a heavy library before it is used."""

import importlib
import json
import pkgutil
import subprocess
import sys

import pytest

import mlpapers
from mlpapers.testing.api import public_packages

HEAVY = {"cvxpy", "matplotlib", "torch", "transformers"}
# Packages whose subject needs torch; all others are tested to leave every heavy library alone.
TORCH_PACKAGES = {"mlpapers.attention", "mlpapers.icl", "mlpapers.kernels"}

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(mlpapers.__path__, "mlpapers.")
    if not info.name.endswith("__main__")
)
PACKAGES = [name for name in public_packages() if name.count(".") == 1]


def loaded_by(code):
    """Return the top-level modules that `code` loads in a fresh interpreter."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_every_package_loads_nothing():
    loaded = loaded_by("\n".join(f"import {name}" for name in public_packages()))
    assert not loaded & {*HEAVY, "joblib", "numba", "numpy", "pandas", "scipy", "sklearn", "typer"}


def test_papers_are_listed_without_anything_heavy():
    loaded = loaded_by("import mlpapers\nassert mlpapers.papers()")
    assert not loaded & {*HEAVY, "joblib", "numba", "pandas", "scipy", "sklearn", "typer"}


@pytest.mark.parametrize("package", [name for name in PACKAGES if name not in TORCH_PACKAGES])
def test_touching_every_public_name_loads_nothing_heavy(package):
    code = f"import importlib\npackage = importlib.import_module({package!r})\n"
    code += "for name in package.__all__: getattr(package, name)"
    assert not loaded_by(code) & HEAVY


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports(module):
    importlib.import_module(module)
