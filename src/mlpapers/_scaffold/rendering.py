"""Templates to files that a linter and a formatter leave as they are, whatever the names in them."""

from __future__ import annotations

import importlib.resources
import json
import re
import string
import sys
import textwrap
import unicodedata

from mlpapers._scaffold.names import Citation

_LINE_LENGTH = 110


def render(template: str, values: dict[str, str]) -> str:
    """Return ``templates/<template>.tmpl`` with its ``$names`` replaced; KeyError for an unknown name."""
    source = importlib.resources.files("mlpapers._scaffold") / "templates" / f"{template}.tmpl"
    text = string.Template(source.read_text(encoding="utf-8")).substitute(values)
    return sort_imports(text, first_party=values["module"].partition(".")[0]) if ".py" in template else text


def sort_imports(text: str, first_party: str) -> str:
    """Return `text` with the imports at its top in sections: standard library, others, `first_party`."""
    lines = text.split("\n")
    chosen = [index for index, line in enumerate(lines) if re.match(r"(import|from) ", line)]
    if not chosen:
        return text
    first, last = chosen[0], chosen[-1]
    if any(lines[index].strip() for index in range(first, last) if index not in chosen):
        raise ValueError("the imports of a template must stand together")

    def place(line: str) -> tuple[int, bool, str]:
        module = line.split()[1]
        root = module.partition(".")[0]
        if root == "__future__":
            return 0, False, module
        section = 1 if root in sys.stdlib_module_names else 3 if root == first_party else 2
        return section, line.startswith("from"), module

    block: list[str] = []
    for index, line in enumerate(ordered := sorted((lines[index] for index in chosen), key=place)):
        if index and place(line)[0] != place(ordered[index - 1])[0]:
            block.append("")
        block.append(line)
    return "\n".join([*lines[:first], *block, *lines[last + 1 :]])


def citation_arguments(key: str, citation: Citation) -> str:
    """Return the arguments of ``Paper(...)`` that cite, one a line."""
    names = [quote(name) for name in citation.authors]
    authors = f"    authors=[{', '.join(names)}],"
    if width(authors) > _LINE_LENGTH:
        authors = "\n".join(["    authors=[", *(f"        {name}," for name in names), "    ],"])
    lines = [
        f"    key={quote(key)},",
        _argument("title", citation.title),
        authors,
        f"    year={citation.year},",
        _argument("venue", citation.venue),
    ]
    for name, value in (("arxiv", citation.arxiv), ("doi", citation.doi)):
        if value is not None:
            lines.append(_argument(name, value))
    return "\n".join(lines)


def quote(text: str) -> str:
    """Return a Python string literal, with the quotes that need fewer escapes."""
    mark = "'" if text.count('"') > text.count("'") else '"'
    return mark + text.replace("\\", "\\\\").replace(mark, "\\" + mark) + mark


def quote_toml(text: str) -> str:
    """Return a TOML string of one line of printable text."""
    return json.dumps(text, ensure_ascii=False)


def escape_rst(text: str) -> str:
    """Return `text` so that reStructuredText prints it as it is."""
    return re.sub(r"([\\*`_|])", r"\\\1", text)


def escape_markdown(text: str) -> str:
    """Return `text` so that Markdown prints it as it is."""
    return re.sub(r"([\\*`_<>\[\]#$])", r"\\\1", text)


def width(text: str) -> int:
    """Return the columns that `text` takes; East Asian letters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _argument(name: str, text: str) -> str:
    line = f"    {name}={quote(text)},"
    if width(line) <= _LINE_LENGTH:
        return line
    pieces = textwrap.wrap(text, 90 if text.isascii() else 45, drop_whitespace=False, break_on_hyphens=False)
    return "\n".join([f"    {name}=(", *(f"        {quote(piece)}" for piece in pieces), "    ),"])
