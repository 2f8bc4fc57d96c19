"""A report with a claim in every state, and texts that would be trouble on a page that did not escape."""

import math

import pandas as pd

from mlpapers.core._figure import draw_svg
from mlpapers.core._table import ClaimTable
from mlpapers.core.paper import Measurement
from mlpapers.core.report import ClaimOutcome, PaperInfo, Report

NASTY = "<script>document.title='taken'</script> & \"double\" 'single' ]]> <img src=x onerror=alert(1)>"
LONG = "a-very-long-name." * 6 + "end"
WIDE = pd.DataFrame({f"column{j}": [float(i * j) for i in range(8)] for j in range(30)})


def draw(ax):
    ax.plot([1, 2, 3], [3, 1, 2], label=NASTY)
    ax.axhline(2, color="black", linestyle="--")
    ax.set_title("Title with $x^2$")
    ax.legend()


def outcome(name, value=0.5, *, paper="first-paper", package="mlpapers.first", **fields):
    defaults = {
        "statement": f"Statement of {name}.",
        "source": "Theorem 1",
        "seconds": 1.5,
        "measurements": (Measurement("distance", value, "<=", 1.0, unit="m", paper=0.25),),
    }
    return ClaimOutcome(
        id=f"{paper}/{name}", paper=paper, package=package, scale="quick", seed=3, **(defaults | fields)
    )


def make_report():
    first = [
        outcome("holds", table=ClaimTable.from_frame(WIDE), figure=draw_svg(draw, "first-paper/holds")),
        outcome("fails", 2.0, notes=NASTY, statement=NASTY, source=NASTY),
        outcome("miss", 2.0, known_miss=f"It is 2. {NASTY}"),
        outcome(
            "error",
            measurements=(),
            error="ValueError: no",
            traceback="Traceback (most recent call last):\n" + "  a very long line " * 40 + NASTY,
        ),
    ]
    place = {"paper": "second-paper", "package": "mlpapers.second"}
    second = [
        outcome("stale", known_miss="It was 2.", **place),
        outcome("missing", measurements=(), missing="needs cuda: no device", seconds=0.0, **place),
        outcome("odd", math.nan, figure=draw_svg(draw, "second-paper/odd"), timed=True, **place),
        outcome(LONG, measurements=(Measurement(NASTY, 1, "in", (0, math.inf)),), **place),
    ]
    url = "https://arxiv.org/abs/2401.00001"
    papers = (
        PaperInfo(
            "first-paper", f"First {NASTY}", ("A. One", "B. Two"), 2024, "Venue", "mlpapers.first", url
        ),
        PaperInfo("second-paper", "Second", package="mlpapers.second"),
    )
    environment = {"mlpapers": "9.9", "commit": "0123456789abcdef", "cpu": NASTY}
    return Report(outcomes=(*first, *second), scale="quick", seed=3, environment=environment, papers=papers)


STATES = {
    "first-paper/holds": "holds",
    "first-paper/fails": "fails",
    "first-paper/miss": "known miss",
    "first-paper/error": "error",
    "second-paper/stale": "unexpectedly holds",
    "second-paper/missing": "not run",
    "second-paper/odd": "fails",
    f"second-paper/{LONG}": "holds",
}
