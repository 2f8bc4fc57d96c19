"""``mlpapers new``: what it writes runs, passes its tests and the linter, and disturbs nothing."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mlpapers
from mlpapers import cli
from mlpapers._scaffold.checkout import add_lazy_name, add_to_layers, find_checkout
from mlpapers._scaffold.names import EXAMPLE, Citation
from mlpapers._scaffold.rendering import citation_arguments, sort_imports
from mlpapers.core.paper import Paper

LIBRARY = Path(mlpapers.__file__).parent
ROOT = Path(__file__).parents[1]

# It breaks lines, and holds what Python, TOML, reStructuredText and Markdown each take as their own.
TITLE = (
    'On "the" `$n$`-th \\alpha_1: how *one* paper\'s title that is very long indeed '
    "breaks <all> the lines that it stands in, [1]"
)

PROJECT = """
[project]
name = "mlpapers"

[tool.pytest.ini_options]
addopts = ["--import-mode=importlib"]
filterwarnings = ["error"]

[tool.importlinter]
root_package = "mlpapers"

[[tool.importlinter.contracts]]
name = "The house"
type = "layers"
containers = ["mlpapers"]
layers = ["cli", "_console", "_scaffold | testing", "valuation | (later)", "datasets", "core"]
"""


def new(*arguments):
    return CliRunner().invoke(cli.app, ["new", *map(str, arguments)], prog_name="mlpapers")


def process(folder, path, *command):
    """Run Python in `folder` with `path` in front; fail with the output unless the status is 0."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read_tree(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def checkout(tmp_path):
    """A checkout with the parts of the library that a paper stands on, and one other paper package."""
    root = tmp_path / "checkout"
    package = root / "src" / "mlpapers"
    for part in ("core", "testing"):
        shutil.copytree(LIBRARY / part, package / part, ignore=shutil.ignore_patterns("__pycache__"))
    for module in ("__init__.py", "_console.py", "cli.py"):
        shutil.copy(LIBRARY / module, package / module)
    (package / "valuation").mkdir()
    (package / "valuation" / "__init__.py").touch()
    (package / "valuation" / "papers.py").touch()
    (root / "pyproject.toml").write_text(PROJECT)
    return root


class TestInACheckout:
    def test_package_tests_page_and_script_are_made_and_registered(self, checkout):
        before = read_tree(checkout)
        result = new(
            "ridge-loo",
            "--directory",
            checkout / "src",
            "--title",
            TITLE,
            "--author",
            "A. One",
            "--year",
            2020,
        )
        assert result.exit_code == 0, result.output
        after = read_tree(checkout)
        package = checkout / "src" / "mlpapers" / "ridge_loo"
        made = {
            *(package / f"{name}.py" for name in ("__init__", "papers", "claims", "leave_one_out")),
            checkout / "tests" / "ridge_loo" / "test_leave_one_out.py",
            checkout / "docs" / "papers" / "ridge-loo.rst",
            checkout / "examples" / "plot_ridge_loo.py",
        }
        edited = {checkout / "src" / "mlpapers" / "__init__.py", checkout / "pyproject.toml"}
        assert set(after) - set(before) == made
        assert {path for path in before if after[path] != before[path]} == edited
        assert set(result.stdout.splitlines()) == {
            *(f"created {path}" for path in made), *(f"edited  {path}" for path in edited)
        }  # fmt: skip
        layers = tomllib.loads(after[checkout / "pyproject.toml"].decode())["tool"]["importlinter"][
            "contracts"
        ][0]["layers"]
        assert layers[3] == "valuation | (later) | ridge_loo"

    def test_everything_is_green(self, checkout):
        assert new("ridge-loo", "--directory", checkout, "--title", TITLE).exit_code == 0
        path = [checkout / "src"]
        tests = process(
            checkout,
            path,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests",
            "--doctest-modules",
            "src/mlpapers/ridge_loo",
        )
        assert " passed" in tests
        process(checkout, path, "-W", "ignore", "examples/plot_ridge_loo.py")
        report = process(
            checkout, path, "-c", "from mlpapers.cli import main; main()",
            "reproduce", "ridge-loo", "--json", "--jobs", "1", "--out", "out",
        )  # fmt: skip
        (record,) = json.loads(report)
        assert (record["id"], record["holds"]) == ("ridge-loo/one-fit", True)
        public = process(
            checkout, path, "-c",
            "import sys, mlpapers.ridge_loo.papers as p; print(p.PAPER.title, 'sklearn' in sys.modules);"
            "import mlpapers; print(*dir(mlpapers.ridge_loo)); print(mlpapers.ridge_loo.LeaveOneOutRidge())",
        )  # fmt: skip
        assert public.splitlines()[0] == f"{TITLE} False"
        assert "LeaveOneOutResult LeaveOneOutRidge" in public
        assert public.splitlines()[-1] == "LeaveOneOutRidge()"

    def test_existing_files_are_named_and_nothing_is_written(self, checkout):
        page = checkout / "docs" / "papers" / "ridge-loo.rst"
        script = checkout / "examples" / "plot_ridge_loo.py"
        for path in (page, script):
            path.parent.mkdir(parents=True)
            path.write_text("mine")
        before = read_tree(checkout)
        result = new("ridge-loo", "--directory", checkout)
        assert result.exit_code == 2
        assert str(page) in result.stderr
        assert str(script) in result.stderr
        assert read_tree(checkout) == before

    def test_a_failed_write_leaves_nothing(self, checkout):
        (checkout / "tests").write_text("a file where the folder of the tests should be")
        before = read_tree(checkout)
        result = new("ridge-loo", "--directory", checkout)
        assert isinstance(result.exception, OSError | SystemExit)
        assert result.exit_code != 0
        assert read_tree(checkout) == before

    def test_a_taken_package_is_refused(self, checkout):
        for taken in ("valuation", "cli"):
            result = new("ridge-loo", "--directory", checkout, "--package", taken)
            assert result.exit_code == 2
            assert f"'{taken}' is taken" in result.stderr

    def test_what_cannot_be_edited_safely_is_left_to_the_author(self, checkout):
        init, project = checkout / "src" / "mlpapers" / "__init__.py", checkout / "pyproject.toml"
        init.write_text(init.read_text().replace('"core": None,', '**{"core": None},'))
        project.write_text(project.read_text().replace("valuation | ", ""))
        before = read_tree(checkout)
        result = new("ridge-loo", "--directory", checkout)
        assert result.exit_code == 0
        assert not any(line.startswith("edited") for line in result.stdout.splitlines())
        assert f'Add by hand to {init}: "ridge_loo": None' in result.stderr
        assert f"Add by hand to {project}: ridge_loo in the layer" in result.stderr
        after = read_tree(checkout)
        assert all(after[path] == content for path, content in before.items())

    def test_a_damaged_checkout_is_not_taken_for_another_folder(self, checkout):
        (checkout / "pyproject.toml").write_text("[project")
        result = new("ridge-loo", "--directory", checkout)
        assert result.exit_code == 2
        assert "pyproject.toml is damaged" in result.stderr


class TestStandalone:
    @pytest.fixture
    def project(self, tmp_path):
        result = new(
            "ridge-loo", "--directory", tmp_path, "--title", TITLE, "--author", 'Ada "A" B', "--author", "C"
        )
        assert result.exit_code == 0, result.output
        return tmp_path / "mlpapers-ridge-loo"

    def install(self, project, site):
        """Put into `site` what an editable installation of the project would."""
        metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
        info = site / f"{metadata['name'].replace('-', '_')}-{metadata['version']}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {metadata['name']}\nVersion: {metadata['version']}\n"
        )
        groups = "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
            for group, entries in metadata["entry-points"].items()
        )
        (info / "entry_points.txt").write_text(groups)
        return [project / "src", site, LIBRARY.parent]

    def test_everything_is_green(self, project, tmp_path):
        path = self.install(project, tmp_path / "site")
        # scikit-learn's own checks have passed on the same estimator in the checkout.
        options = ("-q", "-p", "no:cacheprovider", "-k", "not scikit_learn_contract")
        tests = process(project, path, "-m", "pytest", *options, "tests", "--doctest-modules", "src")
        assert " passed" in tests
        command = ("-c", "from mlpapers.cli import main; main()")
        (paper,) = json.loads(process(project, path, *command, "list", "ridge-loo", "--json"))
        assert (paper["title"], paper["authors"], paper["package"]) == (
            TITLE,
            ['Ada "A" B', "C"],
            "ridge_loo",
        )
        report = process(
            project,
            path,
            *command,
            "reproduce",
            "ridge-loo",
            "--json",
            "--jobs",
            "1",
            "--out",
            tmp_path / "out",
        )
        (record,) = json.loads(report)
        assert (record["id"], record["holds"]) == ("ridge-loo/one-fit", True)

    def test_the_wheel_holds_the_package_and_its_entry_point(self, project, tmp_path):
        pytest.importorskip("hatchling")
        wheel = process(
            project, [], "-c",
            f"import hatchling.build as b; print(b.build_wheel({str(tmp_path)!r}))",
        ).splitlines()[-1]  # fmt: skip
        with zipfile.ZipFile(tmp_path / wheel) as archive:
            names = set(archive.namelist())
            points = archive.read("mlpapers_ridge_loo-0.1.0.dist-info/entry_points.txt").decode()
        assert {f"ridge_loo/{name}.py" for name in ("__init__", "papers", "claims", "leave_one_out")} <= names
        assert points.split() == ["[mlpapers.papers]", "ridge-loo", "=", "ridge_loo.papers"]

    def test_in_a_checkout_too_where_asked(self, checkout):
        before = read_tree(checkout)
        result = new("ridge-loo", "--directory", checkout, "--standalone")
        assert result.exit_code == 0
        after = read_tree(checkout)
        assert {path: after[path] for path in before} == before
        assert all(checkout / "mlpapers-ridge-loo" in path.parents for path in set(after) - set(before))

    def test_a_module_that_exists_is_not_hidden(self, tmp_path):
        for name in ("json", "numpy"):
            result = new("ridge-loo", "--directory", tmp_path, "--package", name)
            assert result.exit_code == 2
            assert "would hide the importable module" in result.stderr
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(find_spec("ruff") is None, reason="ruff is not installed")
class TestRuff:
    KEY = "k" * 60

    # Names on both sides of "core" and "testing" in the alphabet, the shortest and the longest.
    @pytest.mark.parametrize("package", ["a", "press", "z" * 30])
    def test_a_package_of_the_library(self, checkout, package):
        shutil.copy(ROOT / "pyproject.toml", checkout / "pyproject.toml")
        assert new(self.KEY, "--directory", checkout, "--package", package, "--title", TITLE).exit_code == 0
        files = ("src/mlpapers/__init__.py", f"src/mlpapers/{package}", "tests", "examples")
        process(checkout, [], "-m", "ruff", "check", "--no-cache", *files)
        process(checkout, [], "-m", "ruff", "format", "--no-cache", "--check", *files)

    @pytest.mark.parametrize("package", ["a", "z" * 30])
    def test_a_distribution(self, tmp_path, package):
        result = new(
            self.KEY,
            "--directory",
            tmp_path,
            "--package",
            package,
            "--title",
            TITLE,
            "--author",
            "B" * 120,
        )
        assert result.exit_code == 0, result.output
        project = tmp_path / f"mlpapers-{self.KEY}"
        process(project, [], "-m", "ruff", "check", "--no-cache", ".")
        process(project, [], "-m", "ruff", "format", "--no-cache", "--check", ".")


@pytest.mark.parametrize(
    "arguments",
    [
        ["Ridge"],
        ["ridge_loo"],
        ["-ridge"],
        ["ridge--loo"],
        ["x" * 61],
        ["x" * 31],
        ["../ridge"],
        ["2d-ridge"],
        ["asymmetric-shapley"],
        ["match"],
        ["ridge", "--package", "Ridge"],
        ["ridge", "--package", "a.b"],
        ["ridge", "--package", "class"],
        ["ridge", "--title", " \n"],
        ["ridge", "--title", "a\x07b"],
        ["ridge", "--author", "A. B"],
        ["ridge", "--year", "2020"],
        ["ridge", "--directory", "nowhere/at/all"],
    ],
)
def test_names_that_cannot_be_used(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    result = new(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert list(tmp_path.iterdir()) == []


class TestEdits:
    def test_the_name_stands_in_order_in_the_table_of_this_library(self):
        source = (LIBRARY / "__init__.py").read_text()
        for package in ("aaa", "medium", "zzz"):
            text = add_lazy_name(source, package)
            lines = text.splitlines()
            added = [f"    from mlpapers import {package} as {package}", f'        "{package}": None,']
            assert [line for line in lines if line not in added] == source.splitlines()
            for start, end in (("    from mlpapers import ", package), ('        "', '": None,')):
                block = [line for line in lines if line.startswith(start) and end in line]
                assert len(block) >= 1
            table = [line for line in lines if line.startswith('        "')]
            assert table == sorted(table)

    @pytest.mark.parametrize("table", ["TABLE", "dict(core=None)", '{"core": None, **MORE}'])
    def test_a_table_that_is_no_literal_is_refused(self, table):
        lines = [
            "    from mlpapers import core as core",
            '        "core": None,',
            f"attach(__name__, {table})",
        ]
        source = "if True:\n" + lines[0] + "\nTABLE = {\n" + lines[1] + "\n}\n" + lines[2] + "\n"
        with pytest.raises(ValueError, match="malformed node"):
            add_lazy_name(source, "newcomer")

    def test_a_text_without_a_table_is_refused(self):
        with pytest.raises(ValueError, match="no line to stand beside"):
            add_lazy_name("x = 1\n", "newcomer")

    def test_layers_of_this_library(self):
        project = (ROOT / "pyproject.toml").read_text()
        text = add_to_layers(project, "newcomer", {"valuation"})
        (changed,) = [(a, b) for a, b in zip(project.splitlines(), text.splitlines(), strict=True) if a != b]
        assert changed[0][:-2] + " | newcomer" + changed[0][-2:] == changed[1]
        assert "valuation" in changed[0]

    def test_a_layer_that_waits_for_the_package_stays(self):
        assert add_to_layers(PROJECT, "later", {"valuation"}) == PROJECT

    def test_no_contracts_nothing_to_do(self):
        project = '[project]\nname = "mlpapers"\n'
        assert add_to_layers(project, "newcomer", {"valuation"}) == project

    def test_another_project_is_no_checkout(self, checkout):
        assert find_checkout(checkout / "src" / "mlpapers" / "core") == checkout
        (checkout / "pyproject.toml").write_text('[project]\nname = "other"\n')
        assert find_checkout(checkout) is None


class TestRendering:
    @pytest.mark.parametrize(
        "citation",
        [
            EXAMPLE,
            Citation(TITLE, (), 2020, "preprint"),
            Citation("It's " * 40 + "end", ("A 'B' C", 'D "E" F', "G\\H"), 1, 'V "v"', arxiv="2401.00001"),
            Citation("题" * 90, tuple("ÅBCDEFG" * 5), 2020, "学报", doi="10.1/x"),
        ],
    )
    def test_the_citation_survives(self, citation):
        source = f'Paper(\n{citation_arguments("k", citation)}\n    package="p", summary="s")'
        paper = eval(source, {"Paper": Paper})
        cited = Citation(paper.title, paper.authors, paper.year, paper.venue, paper.arxiv, paper.doi)
        assert cited == citation

    def test_imports_in_sections(self):
        lines = ["from b.c import d", "import numpy as np", "import os", "from a import e", "import b"]
        ordered = [
            "import os",
            "",
            "import numpy as np",
            "from a import e",
            "",
            "import b",
            "from b.c import d",
        ]
        assert sort_imports("\n".join(["'Doc.'", *lines, "", "x = 1"]), first_party="b") == "\n".join(
            ["'Doc.'", *ordered, "", "x = 1"]
        )

    def test_imports_apart_are_refused(self):
        with pytest.raises(ValueError, match="must stand together"):
            sort_imports("import os\nx = 1\nimport re\n", first_party="b")
