"""The plugin as other projects meet it: every run is a real pytest in a directory of its own."""

import json
import os
import subprocess
import sys

import pytest

from mlpapers.core.paper import find_claims

PAPERS = """
from mlpapers.core import Paper

common = dict(authors=["A. Keeper"], year=2024, venue="-", package="zoo", summary="-")
ZOO = Paper(key="zoo", title="Zoo", **common)
OTHER = Paper(key="other", title="Other", **common)
"""

CLAIMS = """
import pandas as pd
from mlpapers.core import Evidence, Measurement
from mlpapers.datasets import DataUnavailableError
from zoo.papers import OTHER, ZOO


def evidence(value, **more):
    return Evidence([Measurement("distance", value, "<=", 1.0, unit="m")], **more)


@ZOO.claim("holds", "Lions are near.", source="Theorem 1")
def holds(scale, seed):
    return evidence(0.5 if scale == "quick" else 0.25, figure=lambda ax: ax.plot([0, 1]))


@ZOO.claim("fails", "Tigers are near.", source="Theorem 2")
def fails(scale, seed):
    table = pd.DataFrame({"animal": [f"tiger {i}" for i in range(50)]})
    return evidence(3.0, table=table, notes="it rained")


@ZOO.claim("raises", "Bears are near.", source="Theorem 3")
def raises(scale, seed):
    raise RuntimeError("the bear escaped")


@ZOO.claim("bad-figure", "Owls can be drawn.", source="Figure 1")
def bad_figure(scale, seed):
    return evidence(0.5, figure=lambda ax: ax.no_such_method())


@ZOO.claim("missing", "Unicorns are near.", source="Theorem 4", requires=["package:unicorn_detector"])
def missing(scale, seed):
    raise AssertionError("never runs")


@ZOO.claim("no-data", "Dodos are near.", source="Theorem 4")
def no_data(scale, seed):
    raise DataUnavailableError("the dodo is in no folder")


@ZOO.claim("miss", "Whales are near.", source="Theorem 5", known_miss="they are at sea: 3 m")
def miss(scale, seed):
    return evidence(3.0)


@ZOO.claim("miss-that-holds", "Dolphins are far.", source="Theorem 6", known_miss="they are near")
def miss_that_holds(scale, seed):
    return evidence(0.5)


@ZOO.claim("miss-that-raises", "Sharks are far.", source="Theorem 7", known_miss="they are near")
def miss_that_raises(scale, seed):
    raise RuntimeError("the shark escaped")


@ZOO.claim("slow", "Turtles are fast.", source="Table 1", timed=True)
def slow(scale, seed):
    return evidence(9.0)


@ZOO.claim("slow-miss", "Snails are fast.", source="Table 1", timed=True, known_miss="3 mm/s")
def slow_miss(scale, seed):
    return evidence(9.0)


@ZOO.claim("unmeasured", "Sloths are fast.", source="Table 1", timed=True)
def unmeasured(scale, seed):
    return evidence(float("nan"))


@OTHER.claim("holds", "Ants are near.", source="Lemma 1")
def other_holds(scale, seed):
    return evidence(0.5)
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """A function that runs pytest with a distribution installed that brings two papers of its own."""
    site = pytester.mkdir("site")
    (site / "zoo").mkdir()
    (site / "zoo" / "__init__.py").write_text("")
    (site / "zoo" / "papers.py").write_text(PAPERS)
    (site / "zoo" / "claims.py").write_text(CLAIMS)
    info = site / "zoo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mlpapers.papers]\nzoo = zoo.papers\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("COLUMNS", "200")
    project = pytester.mkdir("project")
    os.chdir(project)
    return pytester.runpytest_subprocess


def test_claims_are_items_in_an_empty_directory(run):
    result = run("--mlpapers-claims", "--mlpapers-paper", "zoo", "-rA")
    result.stdout.no_fnmatch_line("*def run_claim*")
    result.assert_outcomes(passed=3, failed=6, skipped=2, xfailed=1)
    result.stdout.fnmatch_lines_random(
        [
            "PASSED zoo/holds",
            "PASSED zoo/slow",
            "PASSED zoo/slow-miss",
            "FAILED zoo/fails*",
            "FAILED zoo/raises*RuntimeError: the bear escaped",
            "FAILED zoo/bad-figure*no_such_method*",
            "FAILED zoo/miss-that-holds*they are near",
            "FAILED zoo/miss-that-raises*RuntimeError: the shark escaped",
            "FAILED zoo/unmeasured*",
            "XFAIL zoo/miss - they are at sea: 3 m",
            "SKIPPED*needs the package unicorn_detector*",
            "SKIPPED*the dodo is in no folder*",
            "collected 12 items",
        ]
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_failing_claim_prints_its_measurements(run):
    result = run("--mlpapers-claims", "--mlpapers-paper", "zoo", "-k", "zoo/fails")
    result.assert_outcomes(failed=1, deselected=11)
    result.stdout.fnmatch_lines(
        [
            "zoo/fails does not hold (Theorem 2): Tigers are near.",
            "  distance = 3 m (target <= 1): FAILS",
            "  notes: it rained",
            "  table (12 of 50 rows):",
            "*tiger 11",
        ]
    )
    result.stdout.no_fnmatch_line("*tiger 12*")
    result.stdout.no_fnmatch_line("*check_claim*")


def test_both_papers_and_the_projects_own_tests_run(run, pytester):
    (pytester.path / "project" / "test_own.py").write_text("def test_own(): pass\n")
    papers = ["--mlpapers-paper=zoo", "--mlpapers-paper=other"]
    result = run("--mlpapers-claims=quick", *papers, "-k", "holds or own", "-v")
    result.stdout.fnmatch_lines(["test_own.py::test_own PASSED*", "other/holds PASSED*", "zoo/holds PASSED*"])
    result.assert_outcomes(passed=3, failed=1, deselected=10)


def test_without_the_option_no_claim_is_collected(run, pytester):
    (pytester.path / "project" / "test_own.py").write_text("def test_own(): pass\n")
    result = run()
    result.assert_outcomes(passed=1)


def test_the_scale_reaches_the_claim(run, pytester):
    source = (pytester.path / "site" / "zoo" / "claims.py").read_text()
    changed = source.replace('0.5 if scale == "quick" else 0.25', '0.5 if scale == "quick" else 7.0')
    (pytester.path / "site" / "zoo" / "claims.py").write_text(changed)
    result = run("--mlpapers-claims=full", "--mlpapers-paper=zoo", "-k", "zoo/holds")
    result.stdout.fnmatch_lines(["  distance = 7 m (target <= 1): FAILS"])


def test_a_claims_module_that_does_not_import_is_an_error(run, pytester):
    (pytester.path / "site" / "zoo" / "claims.py").write_text("import no_such_module\n")
    result = run("--mlpapers-claims", "--mlpapers-paper=zoo")
    result.stdout.fnmatch_lines(["*ERROR collecting zoo*", "*No module named 'no_such_module'*"])
    assert result.ret == pytest.ExitCode.INTERRUPTED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--mlpapers-claims", "--mlpapers-paper=unicorns"],
            "*no paper has the key 'unicorns'; known*zoo*",
        ),
        (["--mlpapers-paper=zoo"], "*give --mlpapers-claims too*"),
        (["--mlpapers-claims", "tests/"], "*the scale must be quick or full; got 'tests/'*"),
    ],
)
def test_wrong_usage(run, arguments, message):
    result = run(*arguments)
    result.stderr.fnmatch_lines([message])
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_every_claim_of_the_library_is_collected(pytester):
    result = pytester.runpytest_subprocess("--mlpapers-claims", "--collect-only", "-q")
    assert {claim.id for claim in find_claims()} <= set(result.outlines)


def test_the_plugin_imports_nothing_heavy():
    code = "import sys, json, pytest; before = set(sys.modules); import mlpapers.testing.plugin; "
    code += "print(json.dumps(sorted(set(sys.modules) - before)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    light = [
        "mlpapers",
        "mlpapers.core",
        "mlpapers.core._lazy",
        "mlpapers.core._numba_cache",
        "mlpapers.testing",
        "mlpapers.testing.plugin",
    ]
    assert json.loads(output) == light


def test_a_run_without_the_option_loads_nothing_heavy(run, pytester):
    source = "import sys\n\n\ndef test_own():\n"
    source += "    heavy = {'numpy', 'pandas', 'sklearn', 'mlpapers.core.paper', 'mlpapers.testing.claims'}\n"
    source += "    assert not heavy & set(sys.modules)\n"
    (pytester.path / "project" / "test_own.py").write_text(source)
    result = run()
    result.assert_outcomes(passed=1)
