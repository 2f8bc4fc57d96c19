"""The README and the documentation: their code runs, their commands exist, their table is current."""

from __future__ import annotations

import importlib.util
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest
import typer
from matplotlib import pyplot as plt

from mlpapers.cli import COMMAND_GROUPS, app
from mlpapers.core import Evidence, Measurement, Paper
from mlpapers.kernels import DSLUnavailable

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.rst", "docs/guide/*.rst", "docs/papers/*.rst")
    for page in ROOT.glob(pattern)
)


def code_blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a Markdown or reStructuredText page in one language, dedented."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    blocks = re.findall(
        rf"^( *)\.\. code-block:: {language}\n\n((?:\1   .*\n|[ \t]*\n)+)", text + "\n", re.MULTILINE
    )
    return [textwrap.dedent(block).strip("\n") + "\n" for _, block in blocks]


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if code_blocks(page, language)]


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(page: Path) -> list[list[str]]:
    """Return the words of the commands that the page shows behind a prompt."""
    lines = [line for block in code_blocks(page, "console") for line in block.splitlines()]
    return [line.removeprefix("$ ").split() for line in lines if line.startswith("$ ")]


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "tools" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", pages_with("python"), ids=page_id)
def test_python_blocks_run_in_order(page):
    plt.switch_backend("Agg")
    namespace = {"__name__": "documentation"}
    for number, block in enumerate(code_blocks(page, "python"), start=1):
        try:
            exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)
        except DSLUnavailable as error:
            pytest.skip(f"no compiler: {error}")
    plt.close("all")


@pytest.mark.parametrize("page", pages_with("console"), ids=page_id)
def test_commands_exist(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    known = typer.main.get_command(app)
    for words in commands(page):
        if words[0] == "make":
            assert set(words[1:]) <= targets
        elif words[0] == "mlpapers":
            command, rest = known.get_command(None, words[1]), words[2:]
            if words[1] in COMMAND_GROUPS:
                command, rest = command.commands[words[2]], words[3:]
            options = {name for parameter in command.params for name in parameter.opts}
            assert {word for word in rest if word.startswith("-")} <= options


def test_readme_has_code_and_commands():
    assert code_blocks(README, "python")
    assert ["make", "reproduce"] in commands(README)
    assert ["make", "test"] in commands(README)


def test_every_paper_has_a_page_and_is_shown_with_its_claims():
    for paper in load_tool().released_papers():
        page = ROOT / "docs" / "papers" / f"{paper.key}.rst"
        assert f".. claims:: {paper.key}\n" in page.read_text(encoding="utf-8")


def test_table_of_papers_is_current():
    tool = load_tool()
    text = README.read_text(encoding="utf-8")
    assert tool.rewrite(text, tool.paper_table(tool.released_papers())) == text, "run `make readme`"


def test_table_counts_the_claims_that_hold(monkeypatch):
    paper = Paper(key="k", title="T", authors=["A"], year=2000, venue="V", package="somebody", summary="S")
    evidence = Evidence([Measurement("m", 0.0, "<=", 1.0)])
    paper.claim("a", "holds", source="Theorem 1")(lambda *_: evidence)
    paper.claim("b", "misses", source="Theorem 2", known_miss="measured 2")(lambda *_: evidence)
    monkeypatch.setitem(sys.modules, "somebody.claims", ModuleType("somebody.claims"))
    assert load_tool().paper_table((paper,)).splitlines()[-1] == "| T, A, 2000 | `somebody` | `k` | 1 of 2 |"


def test_every_page_is_reached_from_the_start_page():
    """Follow the tables of contents as Sphinx does; the gallery and the reference are not built yet."""
    reached, ahead = set(), {ROOT / "docs" / "index.rst"}
    while ahead:
        page = ahead.pop()
        reached.add(page)
        tables = re.findall(
            r"^\.\. toctree::\n((?:   .*\n|\n)+)", page.read_text(encoding="utf-8"), re.MULTILINE
        )
        entries = {line.strip() for table in tables for line in table.splitlines()}
        found = {
            path
            for entry in entries
            if entry[:1] not in ("", ":")
            for path in page.parent.glob(f"{entry}.rst")
        }
        ahead |= (found & set(PAGES)) - reached
    assert {page for page in PAGES if page.suffix == ".rst"} == reached


def test_start_page_names_every_package():
    text = (ROOT / "docs" / "index.rst").read_text(encoding="utf-8")
    assert {paper.package for paper in load_tool().released_papers()} == set(
        re.findall(r":mod:`([\w.]+)`", text)
    )


def test_rewrite_needs_its_markers():
    with pytest.raises(ValueError, match="markers"):
        load_tool().rewrite("# no markers\n", "table")
