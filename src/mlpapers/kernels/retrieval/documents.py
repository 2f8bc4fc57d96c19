"""The folder of documents that stands beside each kernel language.

``basic_docs.md`` (required) says how kernels look in the language, ``api/*.md`` what its operations are,
``suggestion_docs.md`` what makes them fast, ``examples/<framework>_*.py`` are whole kernels, and
``hardware/<arch>.toml`` describes devices. An example's docstring, or a comment ``<!-- ... -->`` on top of a
Markdown file, may say what a document is about: ``ops``, ``category``, ``shapes``, ``backends``, ``arch``.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlpapers.kernels.dsl import get_dsl

KINDS = ("basic", "api", "advice", "example")
_COMMENT = re.compile(r"\A\s*<!--(.*?)-->", re.DOTALL)
_META = re.compile(r"^\s*(ops|category|shapes|backends|arch)\s*:\s*(.+?)\s*$", re.MULTILINE)
_SHAPE = re.compile(r"\(([\d,\s]*)\)")


@dataclass(frozen=True)
class Document:
    """A document that was found for a task.

    Attributes
    ----------
    kind : {"basic", "api", "advice", "example"}
    path : str
        Relative to the folder of languages, e.g. ``"cpp/examples/torch_relu.py"``.
    text : str
    score : float
        How well it fits; comparable within one answer only.
    """

    kind: str
    path: str
    text: str
    score: float = 0.0


@dataclass(frozen=True)
class Card:
    """A document and what it says about itself; empty fields fit everything.

    Attributes
    ----------
    document : Document
    dsl : str
    ops : tuple of str
        Names of aten operations.
    category : str
    shapes : tuple of tuple of int
    backends, archs : tuple of str
    """

    document: Document
    dsl: str
    ops: tuple[str, ...] = ()
    category: str = ""
    shapes: tuple[tuple[int, ...], ...] = ()
    backends: tuple[str, ...] = ()
    archs: tuple[str, ...] = ()


def load_cards(dsl: str, docs: str | os.PathLike[str] | None = None) -> tuple[Card, ...]:
    """Return the documents of a language, and further ones from a folder of one's own.

    Parameters
    ----------
    dsl : str
    docs : path-like, optional
        A folder of the same form, or one that holds such a folder for each language by its name.

    Returns
    -------
    cards : tuple of Card
        Ordered by kind and path.

    Raises
    ------
    ValueError
        For an unknown language, or one without ``basic_docs.md``.
    FileNotFoundError
        If `docs` is no folder.
    """
    folder = Path(get_dsl(dsl).docs)
    if not (folder / "basic_docs.md").is_file():
        raise ValueError(f"dsl {dsl!r} has no documents: {folder / 'basic_docs.md'} is missing")
    cards = list(_folder(folder, dsl))
    if docs is not None:
        mine = Path(docs)
        if not mine.is_dir():
            raise FileNotFoundError(f"docs names no folder: {mine}")
        cards += _folder(mine / dsl if (mine / dsl).is_dir() else mine, dsl)
    return tuple(sorted(cards, key=lambda card: (KINDS.index(card.document.kind), card.document.path)))


def _folder(folder: Path, dsl: str) -> Iterator[Card]:
    chosen = [
        ("basic", [folder / "basic_docs.md"]),
        ("advice", [folder / "suggestion_docs.md"]),
        ("api", sorted((folder / "api").glob("*.md"))),
        ("example", sorted((folder / "examples").glob("*.py"))),
    ]
    for kind, paths in chosen:
        for path in paths:
            if path.is_file():
                text = path.read_text(encoding="utf-8")
                yield _card(kind, f"{dsl}/{path.relative_to(folder).as_posix()}", text, dsl)


def _card(kind: str, path: str, text: str, dsl: str) -> Card:
    about = _about(kind, text)

    def words(name: str) -> tuple[str, ...]:
        return tuple(word for word in re.split(r"[,\s]+", about.get(name, "")) if word and word != "any")

    shapes = tuple(
        tuple(int(size) for size in re.findall(r"\d+", found))
        for found in _SHAPE.findall(about.get("shapes", ""))
    )
    category = about.get("category", "").strip()
    return Card(
        Document(kind, path, text), dsl, words("ops"), category, shapes, words("backends"), words("arch")
    )


def _about(kind: str, text: str) -> dict[str, str]:
    """Return what a document says about itself."""
    if kind == "example":
        try:
            head = ast.get_docstring(ast.parse(text)) or ""
        except SyntaxError:
            head = ""
    else:
        comment = _COMMENT.match(text)
        head = comment[1].replace(";", "\n") if comment else ""
    return dict(_META.findall(head))


def hardware_text(dsl: str, arch: str) -> str:
    """Return what the language's folder says about a device, or "".

    Parameters
    ----------
    dsl : str
    arch : str
        E.g. ``"sm_90"``.

    Returns
    -------
    text : str
        TOML.
    """
    path = Path(get_dsl(dsl).docs) / "hardware" / f"{arch}.toml"
    return path.read_text(encoding="utf-8") if path.is_file() else ""
