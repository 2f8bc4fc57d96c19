"""The modules of the folder ``benchmarks``, which is no package."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def rows():
    return load("_rows")


@pytest.fixture(scope="session")
def harness():
    load("_rows")
    return load("_harness")


@pytest.fixture(scope="session")
def run():
    load("_rows")
    return load("run")
