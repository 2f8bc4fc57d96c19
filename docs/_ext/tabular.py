"""Tables, paragraphs and the words for a machine, as docutils nodes and text."""

from docutils import nodes


def paragraph(text: str, *more: nodes.Node, css: str | None = None) -> nodes.paragraph:
    """Return a paragraph of a text and, after it, nodes."""
    return nodes.paragraph("", "", nodes.Text(text), *more, classes=[css] if css else [])


def table(header: list[str], rows: list[list[nodes.Node]], widths: list[int], css: str) -> nodes.table:
    """Return a table with a header; each cell is one node."""
    group = nodes.tgroup(cols=len(header))
    group += [nodes.colspec(colwidth=width) for width in widths]
    head, body = nodes.thead(), nodes.tbody()
    head += nodes.row("", *(nodes.entry("", paragraph(title)) for title in header))
    for cells in rows:
        body += nodes.row("", *(nodes.entry("", cell) for cell in cells))
    group += [head, body]
    return nodes.table("", group, classes=[css, "colwidths-given"])


def machine_words(facts: dict[str, str]) -> list[str]:
    """Take the hardware out of a run's environment; return it in words, and the versions that are left."""
    cores = facts.pop("cores", "?")
    words = [
        facts.pop("cpu", ""),
        "1 core" if cores == "1" else f"{cores} cores",
        facts.pop("memory", ""),
        facts.pop("gpu", ""),
    ]
    return [*filter(None, words), *(f"{name} {version}" for name, version in facts.items())]
