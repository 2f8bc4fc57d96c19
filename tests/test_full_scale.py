"""The page of the claims at full scale: what is taken from a run, and what the page makes of it."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import mlpapers
from mlpapers.core import Claim, Measurement

ROOT = Path(__file__).resolve().parents[1]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tool(tmp_path, monkeypatch):
    module = load(ROOT / "tools" / "full_scale.py")
    monkeypatch.setattr(module, "PAGE_DATA", tmp_path / "page.json")
    return module


@pytest.fixture
def page(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    yield load(ROOT / "docs" / "_ext" / "full_scale.py")
    sys.modules.pop("tabular", None)


def run_nothing(scale, seed):
    raise AssertionError(f"the page runs no experiment; this one is asked for {scale}, {seed}")


def write_run(folder, seed, value, scale="full"):
    measurement = {"name": "gap", "value": value, "relation": "<=", "target": 1.0, "unit": "", "paper": None}
    path = folder / "claims" / "a-paper" / f"c1.{scale}.{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    evidence = {"seconds": 12.345, "measurements": [measurement]}
    path.write_text(json.dumps({"key": {"claim": "a-paper/c1", "seed": seed}, "evidence": evidence}))


def test_the_first_seed_of_the_full_scale_is_taken(tool, tmp_path):
    write_run(tmp_path, 1, 0.1)
    write_run(tmp_path, 0, 0.5)
    write_run(tmp_path, 0, 0.2, scale="quick")
    (run,) = tool.read_runs(tmp_path).values()
    assert (run["seed"], run["seconds"]) == (0, 12.3)
    assert run["measurements"] == [{"name": "gap", "value": 0.5, "relation": "<=", "target": 1.0}]


def test_a_later_run_replaces_an_earlier_one_and_keeps_the_others(tool, tmp_path, capsys):
    earlier = {"a-paper/c1": {"date": "2001-01-01"}, "a-paper/c2": {"date": "2001-01-01"}}
    tool.PAGE_DATA.write_text(json.dumps({"machine": {}, "claims": earlier}))
    write_run(tmp_path, 0, 0.5)
    assert tool.main([str(tmp_path)]) == 0
    claims = json.loads(tool.PAGE_DATA.read_text())["claims"]
    assert claims["a-paper/c1"]["date"] > "2001-01-01"
    assert claims["a-paper/c2"] == earlier["a-paper/c2"]
    assert "2 claims" in capsys.readouterr().out
    assert tool.main([]) == 2


def test_the_states_of_the_page_follow_from_the_numbers(page):
    claim = Claim("a-paper/c1", "A statement.", "Theorem 1", run_nothing)
    item = {"name": "gap", "value": 0.5, "relation": "in", "target": [0.0, 1.0]}
    run = {"date": "2026-01-01", "seed": 0, "seconds": 1.0, "measurements": [item]}
    assert page.outcome_of(claim, run).state == "holds"
    assert page.outcome_of(claim, run).measurements == (Measurement("gap", 0.5, "in", (0.0, 1.0)),)
    item["value"] = {"float": "nan"}
    assert page.outcome_of(claim, run).state == "fails"
    assert page.outcome_of(claim, None).state == "not run"


def test_the_page_shows_every_paper_and_names_known_claims():
    text = (ROOT / "docs" / "full_scale.rst").read_text(encoding="utf-8")
    assert all(f".. full-scale:: {paper.key}\n" in text for paper in mlpapers.papers())
    known = {claim.id for paper in mlpapers.papers() for claim in paper.claims}
    assert set(json.loads((ROOT / "docs" / "full_scale.json").read_text())["claims"]) <= known
