"""The command ``mlpapers``: parses, calls the library, prints.

Results go to stdout, progress and messages to stderr. The exit status is 0 where all is well, 1 where a claim
fails or raises, 2 on wrong usage, 3 where a file or the output cannot be read or written, 130 where the user
interrupts.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from mlpapers.core.paper import Paper

# Commands of a package: name -> the module whose `app`, a Typer, holds them. The module is imported when one
# of its commands, or the help, is asked for, and should import nothing heavy itself.
COMMAND_GROUPS: dict[str, str] = {"kernels": "mlpapers.kernels.commands"}

_UNWRITABLE = 3
_INTERRUPTED = 130


class _Commands(TyperGroup):
    """The commands of this module and, on demand, those of COMMAND_GROUPS."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *COMMAND_GROUPS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMAND_GROUPS:
            return super().get_command(ctx, cmd_name)
        group = typer.main.get_command(importlib.import_module(COMMAND_GROUPS[cmd_name]).app)
        group.name = cmd_name
        return group

    def invoke(self, ctx: Any) -> Any:
        """Run a command; what the machine or the user stops ends with a line that says so, and a status."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(_INTERRUPTED) from None
        except OSError as error:
            # A reader that wants no more (`| head`), and errors of a network, which have no number: typer's.
            if error.errno is None or error.errno == errno.EPIPE:
                raise
            raise typer.Exit(_report(error)) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    # Plain help and errors: the same text on a terminal, in a pipe and in a log.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PaperKey = Annotated[str, typer.Argument(metavar="PAPER", help="The key of a paper.", show_default=False)]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else to stdout.")]


def main() -> None:
    """Run the command; the entry point of the distribution."""
    app(prog_name="mlpapers")


def _report(error: OSError) -> int:
    """Say what could not be read or written, and return the exit status."""
    if error.filename is None:
        _abandon_stdout()
    typer.echo(f"Error: {error.filename or 'the output'}: {error.strerror}", err=True)
    return _UNWRITABLE


def _abandon_stdout() -> None:
    """Drop what a full disk did not take, which Python would else try to write again when it ends."""
    if sys.stdout is sys.__stdout__:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)


def _print_version(wanted: bool) -> None:
    if wanted:
        import mlpapers

        typer.echo(f"mlpapers {mlpapers.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Machine-learning theory papers as software: list them, read them, rerun their claims."""


@app.command("list")
def list_papers(
    paper: Annotated[
        str | None,
        typer.Argument(metavar="PAPER", help="The key of a paper; all by default.", show_default=False),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the papers and their claims.

    In a pipe: a line per paper (key, title) and per claim (id, source, statement), separated by tabs.
    """
    from mlpapers._console import print_tables
    from mlpapers.core.paper import papers

    chosen = papers() if paper is None else (_find_paper(paper),)
    if as_json:
        typer.echo(json.dumps([_paper_record(item) for item in chosen], indent=2, ensure_ascii=False))
    elif sys.stdout.isatty():
        print_tables(chosen)
    else:
        for item in chosen:
            typer.echo(f"{item.key}\t{item.title}")
            for claim in item.claims:
                typer.echo(
                    "\t".join((claim.id, *(" ".join(s.split()) for s in (claim.source, claim.statement))))
                )


@app.command()
def show(paper: PaperKey) -> None:
    """Show a paper: citation, summary, claims, BibTeX."""
    import textwrap

    item = _find_paper(paper)
    links = [f"arXiv:{item.arxiv}"] if item.arxiv else []
    links += [f"https://doi.org/{item.doi}"] if item.doi else []
    typer.echo(item.title)
    typer.echo(", ".join([*item.authors, f"{item.venue} ({item.year})", *links]))
    typer.echo(f"package {item.package}, key {item.key}\n")
    typer.echo(textwrap.fill(item.summary, 100))
    typer.echo("\nClaims")
    for claim in item.claims:
        needs = f"; needs {', '.join(claim.requires)}" if claim.requires else ""
        typer.echo(f"  {claim.id} ({claim.source}{needs})")
        typer.echo(textwrap.fill(claim.statement, 100, initial_indent="    ", subsequent_indent="    "))
        if claim.known_miss is not None:
            text = f"known miss: {claim.known_miss}"
            typer.echo(textwrap.fill(text, 100, initial_indent="    ", subsequent_indent="    "))
    typer.echo(f"\n{item.bibtex()}")


def _check_jobs(jobs: int) -> int:
    if jobs == 0:
        raise typer.BadParameter("must be a number of workers, or negative to count from all cores; got 0")
    return jobs


@app.command()
def reproduce(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PAPER|CLAIM",
            help="Keys of papers, packages or ids of claims; all by default.",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        Literal["quick", "full"], typer.Option(help="Sizes: minutes, or the paper's own (hours).")
    ] = "quick",
    jobs: Annotated[
        int,
        typer.Option("--jobs", "-j", callback=_check_jobs, help="Workers; -1 takes all cores."),
    ] = -1,
    seed: Annotated[int, typer.Option(min=0, help="What all randomness is drawn from.")] = 0,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of the report and of the finished claims.")
    ] = Path("report"),
    dask: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Scheduler of a dask cluster to run on.", show_default=False),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Count declared known misses as failures.")
    ] = False,
    as_json: JsonFlag = False,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Run claims again that an earlier run finished.")
    ] = False,
) -> None:
    """Run the claims of papers again and write a report.

    Exit status: 0 where every claim that ran holds or is a declared known miss, 1 where one fails or raises,
    2 on wrong usage, 3 where the report cannot be written or another run works in its folder, 130 after
    Ctrl-C. The same command goes on where an interrupted run stopped.
    """
    from mlpapers._console import progress, quiet_stdout
    from mlpapers.core.paper import find_claims
    from mlpapers.core.reproduce import reproduce as run_claims

    try:
        claims = find_claims(names or None)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        with _cluster(dask), quiet_stdout(), progress() as on_outcome:
            report = run_claims(
                claims,
                scale=scale,
                n_jobs=jobs,
                seed=seed,
                out=out,
                resume=not no_resume,
                on_outcome=on_outcome,
            )
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        _say_how_to_go_on(out, no_resume)
        raise typer.Exit(_INTERRUPTED) from None
    except OSError as error:
        if error.errno is None:
            raise
        status = _report(error)
        if error.errno != errno.EAGAIN and any((out / "claims").glob("*/*.json")):
            _say_how_to_go_on(out, no_resume)
        raise typer.Exit(status) from None
    typer.echo(report.to_json() if as_json else report.summary())
    typer.echo(f"Report: {out / 'index.html'}", err=as_json)
    raise typer.Exit(0 if report.ok(strict) else 1)


@app.command()
def new(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Lower-case words joined by hyphens.")],
    package: Annotated[
        str | None,
        typer.Option(help="Name of its package; the key with underscores by default.", show_default=False),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the paper.", show_default=False)] = None,
    author: Annotated[
        list[str] | None, typer.Option(help="An author; once for each.", show_default=False)
    ] = None,
    year: Annotated[int | None, typer.Option(help="Year of the paper.", show_default=False)] = None,
    venue: Annotated[str | None, typer.Option(help="Where it appeared.", show_default=False)] = None,
    arxiv: Annotated[str | None, typer.Option(help="arXiv identifier.", show_default=False)] = None,
    directory: Annotated[
        Path,
        typer.Option(
            exists=True, file_okay=False, help="A checkout of mlpapers, or where to make the project."
        ),
    ] = Path(),
    standalone: Annotated[
        bool, typer.Option("--standalone", help="Make a distribution of its own, in a checkout too.")
    ] = False,
) -> None:
    """Start a new paper from a small one that runs.

    In a checkout of mlpapers it becomes a package of the library; elsewhere a distribution of its own that
    the library finds once it is installed. Nothing that exists is overwritten.
    """
    from mlpapers._scaffold.paper import plan_paper

    try:
        paper = plan_paper(
            key,
            package=package,
            title=title,
            authors=tuple(author or ()),
            year=year,
            venue=venue,
            arxiv=arxiv,
            directory=directory,
            standalone=standalone,
        )
        paper.write()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    except FileExistsError as error:
        if error.errno is not None:  # made by somebody else in this very moment
            raise
        raise typer.BadParameter(str(error)) from None
    for path in paper.files:
        typer.echo(f"created {path}")
    for path in paper.edits:
        typer.echo(f"edited  {path}")
    for note in paper.by_hand:
        typer.echo(f"Add by hand to {note}", err=True)
    for step in paper.next_steps:
        typer.echo(f"next: {step}", err=True)


def _say_how_to_go_on(out: Path, no_resume: bool) -> None:
    again = " without --no-resume" if no_resume else ""
    typer.echo(f"Finished claims are kept in {out}{os.sep}.", err=True)
    typer.echo(f"The same command{again} goes on from there.", err=True)


def _find_paper(key: str) -> Paper:
    from mlpapers.core.paper import find_paper

    try:
        return find_paper(key)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _paper_record(paper: Paper) -> dict[str, Any]:
    return {
        "key": paper.key,
        "title": paper.title,
        "authors": list(paper.authors),
        "year": paper.year,
        "venue": paper.venue,
        "arxiv": paper.arxiv,
        "doi": paper.doi,
        "package": paper.package,
        "summary": paper.summary,
        "claims": [
            {
                "id": claim.id,
                "statement": claim.statement,
                "source": claim.source,
                "requires": list(claim.requires),
                "timed": claim.timed,
                "known_miss": claim.known_miss,
            }
            for claim in paper.claims
        ],
    }


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    if address is None:
        yield
        return
    from mlpapers.core.parallel import cluster

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(cluster(address))
        except (ImportError, OSError, ValueError) as error:
            raise typer.BadParameter(str(error), param_hint="--dask") from None
        yield
