"""What the command shows on a terminal: tables of papers, the progress of a run."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlpapers.core.paper import Paper
    from mlpapers.core.report import ClaimOutcome

__all__ = ["print_tables", "progress", "quiet_stdout"]


def print_tables(chosen: tuple[Paper, ...]) -> None:
    """Print a table of the claims of each paper."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False, emoji=False)
    for paper in chosen:
        console.print(f"{paper.key}: {paper.title} ({paper.year})", style="bold")
        table = Table("claim", "source", "statement", box=None, padding=(0, 2, 0, 0))
        for claim in paper.claims:
            table.add_row(claim.id, claim.source, claim.statement)
        console.print(table)
        console.print()


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send to stderr what claims print, in this process and in the workers that it starts."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[ClaimOutcome, int, int, bool], None]]:
    """Show a line for each outcome and, on a terminal, a bar below them, all on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn

    from mlpapers.core.report import FAILURES

    # joblib replaces a worker that has grown, and nothing is lost; what it says about that is for its users.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("claims", total=None)

        def show_outcome(outcome: ClaimOutcome, done: int, total: int, found: bool) -> None:
            style = "bold red" if outcome.state in FAILURES else "yellow" if outcome.known_miss else None
            when = " in an earlier run" if found else ""
            line = f"{outcome.state:<10}  {outcome.id}  {outcome.seconds:.1f} s{when}"
            # A log on a full disk is no reason to stop a run of hours.
            with contextlib.suppress(OSError):
                console.print(line, style=style, soft_wrap=True)
                bar.update(task, completed=done, total=total)

        yield show_outcome
