"""A distribution of somebody else's with one paper, and the command as a process that sees it."""

import os
import subprocess
import sys
from pathlib import Path

import mlpapers

# A paper of somebody else's: found through its entry point, with claims that end in every way there is. Each
# run of a claim leaves a line in the file that DEMO_LOG names.
PAPERS = """
from mlpapers.core.paper import Paper

PAPER = Paper(
    key="demo", title="A [demo] paper", authors=["Ada Byron", "B. C"], year=1999, venue="Journal of Demos",
    package="demo_paper", summary="It shows.", doi="10.1/demo",
)
"""
CLAIMS = """
import os, pathlib, time
from demo_paper.papers import PAPER
from mlpapers.core.paper import Evidence, Measurement

def log(name):
    with open(os.environ["DEMO_LOG"], "a") as file:
        file.write(name + "\\n")

@PAPER.claim("holds", "One is at most [two].", source="Theorem 1")
def holds(scale, seed):
    log(f"holds {scale} {seed}")
    return Evidence([Measurement("one", 1.0, "<=", 2.0)])

@PAPER.claim("fails", "Three is at most two.", source="Theorem 2")
def fails(scale, seed):
    return Evidence([Measurement("three", 3.0, "<=", 2.0)])

@PAPER.claim("raises", "It divides by zero.", source="Lemma 3")
def raises(scale, seed):
    raise ZeroDivisionError("on purpose")

@PAPER.claim("misses", "Four is at most two.", source="Table 4", known_miss="four is more than two")
def misses(scale, seed):
    return Evidence([Measurement("four", 4.0, "<=", 2.0)])

@PAPER.claim("prints", "It talks.", source="Figure 5")
def prints(scale, seed):
    print("chatter in Python", flush=True)
    os.system("echo chatter of a child")
    return Evidence([Measurement("one", 1.0, "<=", 2.0)])

@PAPER.claim("needs", "It needs.", source="Figure 6", requires=("package:not_a_package_at_all",))
def needs(scale, seed):
    raise AssertionError("must not run")

@PAPER.claim("slow", "It takes its time.", source="Figure 7")
def slow(scale, seed):
    log("slow")
    if not os.environ.get("DEMO_FAST"):
        time.sleep(120)
    return Evidence([Measurement("one", 1.0, "<=", 2.0)])
"""

LIBRARY = Path(mlpapers.__file__).parents[1]


def make_site(folder):
    """Make a folder with the installed distribution of the demo paper."""
    package, info = folder / "demo_paper", folder / "demo_paper-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").touch()
    (package / "papers.py").write_text(PAPERS)
    (package / "claims.py").write_text(CLAIMS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: demo-paper\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mlpapers.papers]\ndemo = demo_paper.papers\n")
    return folder


def make_environment(site, log):
    """Return the environment of a process that sees the demo paper, without wishes of this terminal's."""
    wishes = (
        "NO_COLOR",
        "FORCE_COLOR",
        "CLICOLOR_FORCE",
        "PY_COLORS",
        "GITHUB_ACTIONS",
        "TTY_COMPATIBLE",
        "COLUMNS",
    )
    kept = {name: value for name, value in os.environ.items() if name not in wishes}
    path = os.pathsep.join([str(LIBRARY), str(site)])
    return {**kept, "PYTHONPATH": path, "DEMO_LOG": str(log), "TERM": "xterm-256color"}


COMMAND = [sys.executable, "-c", "from mlpapers.cli import main; main()"]


def run(environment, *arguments, **options):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=120, check=False, **options,
    )  # fmt: skip
