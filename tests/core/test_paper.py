"""Measurements, evidence, claims, papers, and how they are found."""

import importlib.metadata
import math
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.core import paper as paper_module
from mlpapers.core.paper import Claim, Evidence, Measurement, Paper, find_claims, find_paper, papers

NUMBERS = st.floats(allow_nan=False)
COMPARE = {
    "<=": lambda value, target: value <= target,
    ">=": lambda value, target: value >= target,
    "<": lambda value, target: value < target,
    ">": lambda value, target: value > target,
}


def run(scale, seed):
    return Evidence([Measurement("x", 1, "<=", 1)])


def make_paper(key="some-paper", package="some_package", **fields):
    given_fields = {"title": "A Title", "authors": ["A. One", "B. Two"], "year": 2024, "venue": "V", **fields}
    return Paper(key=key, package=package, summary="In our words.", **given_fields)


class TestMeasurement:
    @given(relation=st.sampled_from(sorted(COMPARE)), value=NUMBERS, target=NUMBERS)
    def test_holds_is_the_inequality(self, relation, value, target):
        assert Measurement("x", value, relation, target).holds is COMPARE[relation](value, target)

    @given(value=NUMBERS, ends=st.tuples(NUMBERS, NUMBERS).map(sorted))
    def test_in_is_the_closed_interval(self, value, ends):
        assert Measurement("x", value, "in", tuple(ends)).holds is (ends[0] <= value <= ends[1])

    @pytest.mark.parametrize("relation", [*COMPARE, "in"])
    def test_nan_never_holds(self, relation):
        target = (-math.inf, math.inf) if relation == "in" else 0.0
        assert not Measurement("x", math.nan, relation, target).holds

    def test_numbers_of_any_kind_become_floats(self):
        measurement = Measurement("x", np.float32(0.5), "in", [np.int64(0), True])
        assert type(measurement.value) is float
        assert measurement.target == (0.0, 1.0)
        assert measurement.holds

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ((1, "==", 1), ValueError, "relation must be one of"),
            ((1, "<=", math.nan), ValueError, "target of 'x' must not be NaN"),
            ((1, "in", (2, 1)), ValueError, r"\(low, high\), low <= high; got \(2, 1\)"),
            ((1, "in", (0, math.nan)), ValueError, "low <= high"),
            ((1, "in", 3), ValueError, r"target of 'x' must be \(low, high\); got 3"),
            ((1, "in", (1, 2, 3)), ValueError, r"target of 'x' must be \(low, high\)"),
            ((1, "<=", (0, 1)), TypeError, "target of 'x' must be a real number"),
            (("many", "<=", 1), TypeError, "value of 'x' must be a real number; got 'many'"),
            ((None, "<=", 1), TypeError, "value of 'x' must be a real number"),
        ],
    )
    def test_wrong_arguments_are_named(self, arguments, error, message):
        with pytest.raises(error, match=message):
            Measurement("x", *arguments)

    def test_text_shows_value_target_and_verdict(self):
        assert str(Measurement("error", 2, "<=", 1, unit="m")) == "error = 2 m (target <= 1): FAILS"
        assert str(Measurement("rate", 0.5, "in", (0, 1))) == "rate = 0.5 (target in [0, 1]): holds"


class TestEvidence:
    def test_holds_if_every_measurement_holds(self):
        good, bad = Measurement("a", 0, "<=", 1), Measurement("b", 2, "<=", 1)
        assert Evidence([good, good]).holds
        assert not Evidence([good, bad]).holds

    def test_measurements_are_needed_and_checked(self):
        with pytest.raises(ValueError, match="measurements must not be empty"):
            Evidence([])
        with pytest.raises(TypeError, match="measurements must all be Measurement"):
            Evidence([0.5])


class TestClaim:
    def test_parts_of_the_id(self):
        claim = Claim("some-paper/p1-1.b", "S.", "T", run)
        assert (claim.key, claim.name, claim.module) == ("some-paper", "p1-1.b", __name__)

    @pytest.mark.parametrize(
        "name", ["", "paper", "/a", "paper/", "../up/a", "Paper/a", "paper/a/b", "paper/../a"]
    )
    def test_id_must_be_a_key_and_a_name(self, name):
        with pytest.raises(ValueError, match="id must be '<paper key>/<claim>'"):
            Claim(name, "S.", "T", run)

    def test_run_checks_scale_and_what_comes_back(self):
        with pytest.raises(ValueError, match="scale must be one of 'quick', 'full'; got 'slow'"):
            Claim("p/a", "S.", "T", run).run("slow")
        with pytest.raises(TypeError, match="claim p/a must return Evidence; got float"):
            Claim("p/a", "S.", "T", lambda *_: 0.5).run()

    def test_missing_joins_the_reasons(self):
        claim = Claim("p/a", "S.", "T", run, requires=("package:json", "package:no_a", "package:no_b"))
        assert claim.missing().count("needs the package") == 2
        assert Claim("p/a", "S.", "T", run, requires=("package:json",)).missing() is None


class TestPaper:
    @pytest.mark.parametrize("key", ["Key", "a_b", "-a", "a--b", "", "a/b"])
    def test_key_is_lower_case_words(self, key):
        with pytest.raises(ValueError, match="key must be lower-case words"):
            make_paper(key)

    def test_authors_is_no_string(self):
        with pytest.raises(TypeError, match="authors must be a sequence of names"):
            make_paper(authors="A. One")

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"name": "P1 1"}, ValueError, "name must be lower-case"),
            ({"requires": "cuda"}, TypeError, "requires must be a sequence"),
            ({"requires": ["gpu"]}, ValueError, "requires must name cuda, cxx or 'package:NAME'; got 'gpu'"),
            ({"known_miss": " "}, ValueError, "known_miss must say why"),
        ],
    )
    def test_wrong_claims_are_refused(self, arguments, error, message):
        with pytest.raises(error, match=message):
            make_paper().claim(**{"name": "a", "statement": "S.", "source": "T", **arguments})

    def test_one_name_for_two_experiments_is_refused_but_a_reload_is_not(self):
        paper = make_paper()

        def other(scale, seed):
            return run(scale, seed)

        register = paper.claim("a", "S.", source="T")
        assert register(run) is run
        register(run)
        with pytest.raises(ValueError, match=r"some-paper/a is already registered by .*\.run"):
            register(other)

    def test_bibtex_names_what_is_known(self):
        assert make_paper(arxiv="2401.00001").bibtex() == (
            "@article{some-paper,\n  title = {{A Title}},\n  author = {A. One and B. Two},\n  year = {2024},"
            "\n  journal = {V},\n  eprint = {2401.00001},\n  archivePrefix = {arXiv},\n}"
        )
        assert "eprint" not in make_paper(doi="10.1/x").bibtex()


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Two papers in one package and one in another, which breaks when its claims are imported."""
    sources = {
        "roomy/papers.py": """
            from mlpapers.core.paper import Paper
            def paper(key, package):
                return Paper(key=key, title="T", authors=["A"], year=2024, venue="V", summary="S",
                             package=package)
            ONE, TWO = paper("paper-one", "roomy"), paper("paper-two", "roomy")
            BROKEN = paper("paper-broken", "roomy.broken")
            """,
        "roomy/claims.py": """
            from mlpapers.core.paper import Evidence, Measurement
            from roomy.papers import ONE, TWO
            def register(paper, name):
                paper.claim(name, "S.", source="T")(lambda *_: Evidence([Measurement("x", 0, "<=", 1)]))
            for name in ("p1-10", "p1-2", "p1-1"):
                register(ONE, name)
            register(TWO, "a")
            """,
        "roomy/__init__.py": "",
        "roomy/broken/__init__.py": "",
        "roomy/broken/claims.py": "raise ImportError('claims of the broken paper were imported')",
    }
    for name, text in sources.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    entry = importlib.metadata.EntryPoint("roomy", "roomy.papers", "mlpapers.papers")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [entry])
    monkeypatch.setattr(paper_module.pkgutil, "iter_modules", lambda *_: [])
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "roomy":
            del sys.modules[name]


@pytest.mark.usefixtures("registry")
class TestRegistry:
    def test_papers_come_by_package_and_key(self):
        assert [paper.key for paper in papers()] == ["paper-one", "paper-two", "paper-broken"]

    def test_find_paper_lists_the_known(self):
        assert find_paper("paper-two").key == "paper-two"
        with pytest.raises(ValueError, match="no paper has the key 'three'; known: paper-one, paper-two"):
            find_paper("three")

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            ("paper-one", ["paper-one/p1-1", "paper-one/p1-2", "paper-one/p1-10"]),
            ("roomy", ["paper-one/p1-1", "paper-one/p1-2", "paper-one/p1-10", "paper-two/a"]),
            (["paper-two/a", "paper-one/p1-2", "paper-two"], ["paper-one/p1-2", "paper-two/a"]),
            ([], []),
        ],
    )
    def test_names_select_in_registry_order_each_once(self, names, expected):
        # A paper that nobody asked for is not imported, so one that is broken does not stop the others.
        assert [claim.id for claim in find_claims(names)] == expected

    @pytest.mark.parametrize("name", ["paper-one/p9", "paper", "p1-1"])
    def test_unknown_names_are_refused(self, name):
        with pytest.raises(ValueError, match=f"claims names no paper, package or claim: '{name}'"):
            find_claims(["paper-two", name])

    def test_all_claims_means_all(self):
        with pytest.raises(ImportError, match="claims of the broken paper were imported"):
            find_claims()

    def test_two_papers_with_one_key_are_refused(self, monkeypatch):
        entries = [
            importlib.metadata.EntryPoint("a", f"{__name__}:FIRST", "mlpapers.papers"),
            importlib.metadata.EntryPoint("b", f"{__name__}:SECOND", "mlpapers.papers"),
        ]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: entries)
        with pytest.raises(ValueError, match="two papers share the key 'twin': first, second"):
            papers()


FIRST, SECOND = make_paper("twin", "first"), [make_paper("twin", "second")]


def test_every_paper_of_the_library_names_its_package():
    for paper in papers():
        if paper.package.startswith("mlpapers."):
            assert importlib.util.find_spec(paper.package) is not None, paper.key
            assert paper.bibtex().startswith(f"@article{{{paper.key},")
