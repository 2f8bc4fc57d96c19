"""A new paper: which files it consists of, and writing them."""

from __future__ import annotations

import contextlib
import datetime as dt
import shlex
from dataclasses import dataclass
from pathlib import Path

import mlpapers
from mlpapers._scaffold import rendering
from mlpapers._scaffold.checkout import add_lazy_name, add_to_layers, find_checkout, paper_packages
from mlpapers._scaffold.names import EXAMPLE, Citation, check_key, check_line, check_package, check_top_level
from mlpapers.core._files import naming, write_text

# Template -> file; both are formatted with the names of the paper.
_SHARED = {
    "shared/papers.py": "src/{path}/papers.py",
    "shared/claims.py": "src/{path}/claims.py",
    "shared/leave_one_out.py": "src/{path}/leave_one_out.py",
    "shared/example.py": "examples/plot_{package}.py",
}
_CHECKOUT = {
    "checkout/init.py": "src/{path}/__init__.py",
    "shared/test_leave_one_out.py": "tests/{package}/test_leave_one_out.py",
    "shared/page.rst": "docs/papers/{key}.rst",
}
_STANDALONE = {
    "standalone/pyproject.toml": "pyproject.toml",
    "standalone/README.md": "README.md",
    "standalone/gitignore": ".gitignore",
    "standalone/init.py": "src/{path}/__init__.py",
    "shared/test_leave_one_out.py": "tests/test_leave_one_out.py",
    "standalone/test_claims.py": "tests/test_claims.py",
    "shared/page.rst": "docs/{key}.rst",
}


@dataclass(frozen=True)
class NewPaper:
    """The files of a paper that is not written yet.

    Attributes
    ----------
    root : Path
        The checkout, or the folder of the new distribution.
    standalone : bool
        Whether it is a distribution of its own.
    files : dict of Path to str
        New files and their text.
    edits : dict of Path to str
        Files of the checkout that list every package, with the new package added.
    by_hand : tuple of str
        What the author has to add to the checkout, because it could not be done safely.
    next_steps : tuple of str
        What to do now, a line each.
    """

    root: Path
    standalone: bool
    files: dict[Path, str]
    edits: dict[Path, str]
    by_hand: tuple[str, ...]
    next_steps: tuple[str, ...]

    def write(self) -> None:
        """Write the files, then the edits.

        Raises
        ------
        FileExistsError
            Where a new file is there already; nothing is written then, and the error names all of them.
        OSError
            Where something cannot be written; everything is then as it was.
        """
        existing = [str(path) for path in self.files if path.exists()]
        if existing:
            raise FileExistsError(f"nothing was written, these files exist: {', '.join(existing)}")
        before = {path: path.read_text(encoding="utf-8") for path in self.edits}
        folders = {folder for path in self.files for folder in path.parents if not folder.exists()}
        written: list[Path] = []
        try:
            for path, text in self.files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                with naming(path), path.open("x", encoding="utf-8") as file:
                    written.append(path)
                    file.write(text)
            for path, text in self.edits.items():
                write_text(path, text)
        except BaseException:
            _take_back(written, folders, before)
            raise


def _take_back(written: list[Path], folders: set[Path], before: dict[Path, str]) -> None:
    """Remove what was made and restore what was changed; where the system refuses, it stays."""
    for path in written:
        with contextlib.suppress(OSError):
            path.unlink()
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()
    for path, text in before.items():
        with contextlib.suppress(OSError):
            if path.read_text(encoding="utf-8") != text:
                write_text(path, text)


def plan_paper(
    key: str,
    *,
    package: str | None = None,
    title: str | None = None,
    authors: tuple[str, ...] = (),
    year: int | None = None,
    venue: str | None = None,
    arxiv: str | None = None,
    directory: Path,
    standalone: bool = False,
) -> NewPaper:
    """Return what ``mlpapers new`` is about to write.

    Parameters
    ----------
    key : str
        The key of the paper.
    package : str, optional
        Name of its package; the key with underscores by default.
    title, authors, year, venue, arxiv
        The citation. Without a title it is the one of the example; the year is this one by default.
    directory : Path
        Somewhere in a checkout of the library; elsewhere, and with `standalone`, the folder in which the
        folder of the distribution is made.
    standalone : bool
        Make a distribution of its own, in a checkout too.

    Raises
    ------
    ValueError
        For names that cannot be used.
    """
    check_key(key)
    package = check_package(package, key)
    citation = _citation(title, authors, year, venue, arxiv)
    directory = directory.absolute()
    checkout = None if standalone else find_checkout(directory)
    if checkout is None:
        module = path = check_top_level(package)
        root = directory / f"mlpapers-{key}"
        plan = {**_SHARED, **_STANDALONE}
    else:
        module, path = f"mlpapers.{package}", f"mlpapers/{package}"
        root = checkout
        plan = {**_SHARED, **_CHECKOUT}
        for taken in (root / "src" / "mlpapers" / package, root / "src" / "mlpapers" / f"{package}.py"):
            if taken.exists():
                raise ValueError(f"--package {package!r} is taken: {taken} exists")
    values = _values(key, module, citation)
    # The directives that read the registry belong to the library's own documentation.
    for directive in ("citation", "claims"):
        values[f"page_{directive}"] = f"\n.. {directive}:: {key}\n" if checkout else ""
    files = {
        root / place.format(key=key, package=package, path=path): rendering.render(template, values)
        for template, place in plan.items()
    }
    edits, by_hand = ({}, ()) if checkout is None else _checkout_edits(checkout, package)
    folder = f"src/{path}"
    steps = (
        f"pytest tests/{package}; make readme"
        if checkout
        else f"cd {shlex.quote(str(root))}; pip install -e '.[test,dev]'; pytest",
        f"mlpapers reproduce {key}",
        f"replace the citation and summary in {folder}/papers.py, the method in {folder}/leave_one_out.py",
        f"replace the claim in {folder}/claims.py, the tests, the page and the script",
    )
    return NewPaper(root, checkout is None, files, edits, by_hand, steps)


def _citation(
    title: str | None, authors: tuple[str, ...], year: int | None, venue: str | None, arxiv: str | None
) -> Citation:
    if title is None:
        if authors or year is not None or venue is not None or arxiv is not None:
            raise ValueError("--author, --year, --venue and --arxiv need --title: they cite one paper")
        return EXAMPLE
    venue = venue if venue is not None else f"arXiv preprint arXiv:{arxiv}" if arxiv else "preprint"
    return Citation(
        title=check_line("--title", title),
        authors=tuple(check_line("--author", name) for name in authors),
        year=dt.date.today().year if year is None else year,
        venue=check_line("--venue", venue),
        arxiv=arxiv if arxiv is None else check_line("--arxiv", arxiv),
    )


def _values(key: str, module: str, citation: Citation) -> dict[str, str]:
    heading = rendering.escape_rst(citation.title)
    return {
        "key": key,
        "module": module,
        "version": mlpapers.__version__,
        "citation": rendering.citation_arguments(key, citation),
        "heading": heading,
        "rule": "=" * rendering.width(heading),
        "title_toml": rendering.quote_toml(citation.title),
        "title_md": rendering.escape_markdown(citation.title),
    }


def _checkout_edits(root: Path, package: str) -> tuple[dict[Path, str], tuple[str, ...]]:
    edits: dict[Path, str] = {}
    by_hand: list[str] = []
    init, project = root / "src" / "mlpapers" / "__init__.py", root / "pyproject.toml"
    try:
        edits[init] = add_lazy_name(init.read_text(encoding="utf-8"), package)
    except ValueError:
        by_hand.append(f'{init}: "{package}": None in the table of lazy names, and its import above')
    text = project.read_text(encoding="utf-8")
    try:
        extended = add_to_layers(text, package, paper_packages(root))
    except ValueError:
        by_hand.append(f"{project}: {package} in the layer of paper packages of import-linter")
    else:
        if extended != text:
            edits[project] = extended
    return edits, tuple(by_hand)
