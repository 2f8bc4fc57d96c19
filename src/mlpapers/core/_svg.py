"""An SVG file as part of an HTML page: safe, in the page's colours and fonts, its ids its own."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from mlpapers.core._figure import INK

_ELEMENTS = frozenset(
    {
        "svg", "g", "defs", "path", "use", "text", "tspan", "rect", "circle", "ellipse", "line",
        "polyline", "polygon", "clipPath", "image", "linearGradient", "radialGradient", "stop",
        "pattern", "mask", "marker",
    }
)  # fmt: skip
_SAFE_REFERENCE = re.compile(r"#|data:image/(png|jpeg);base64,")
_BLACK = {INK, "#000000", "black"}
_TEXTS = frozenset({"text", "tspan"})


def embed_svg(text: str, prefix: str, label: str) -> str:
    """Return SVG markup to stand inside an HTML page.

    Elements and attributes that could run code or load something are left out; every id and reference gets
    `prefix`, so that pictures on one page do not mix; black strokes and default colours become the page's
    text colour, text takes the page's font.

    Parameters
    ----------
    text : str
        An SVG file.
    prefix : str
        Unique on the page.
    label : str
        What a screen reader says.

    Raises
    ------
    ValueError
        If `text` is not an SVG file.
    """
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise ValueError(f"figure must be the text of an SVG file: {error}") from error
    if _local(root.tag) != "svg":
        raise ValueError(f"figure must be the text of an SVG file; its root is {_local(root.tag)!r}")
    _clean(root, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    # matplotlib sets line joins by a style sheet, which inside a page would reach every other picture.
    root.attrib |= {
        "role": "img",
        "aria-label": label,
        "fill": "currentColor",
        "stroke-linejoin": "round",
        "stroke-linecap": "butt",
    }
    return ET.tostring(root, encoding="unicode")


def _clean(element: ET.Element, prefix: str) -> None:
    element.tag = _local(element.tag)
    attributes = {_local(name): value for name, value in element.attrib.items()}
    element.attrib.clear()
    for name, value in attributes.items():
        if name.lower().startswith("on") or (name == "href" and not _SAFE_REFERENCE.match(value)):
            continue
        if name == "id":
            value = prefix + value
        elif name == "href" and value.startswith("#"):
            value = f"#{prefix}{value[1:]}"
        elif name == "style":
            value = _restyle(value, element.tag)
        if "url(" in value:
            if re.search(r"url\((?!#)", value):
                continue
            value = value.replace("url(#", f"url(#{prefix}")
        element.set(name, value)
    for child in list(element):
        if _local(child.tag) in _ELEMENTS:
            _clean(child, prefix)
        else:
            _drop(element, child)


def _restyle(style: str, tag: str) -> str:
    pairs = [tuple(part.strip() for part in item.split(":", 1)) for item in style.split(";") if ":" in item]
    rules = dict(pair for pair in pairs if len(pair) == 2)
    if tag in _TEXTS:
        # Black is SVG's default, so matplotlib leaves it out. Text that was made black stands on a light
        # patch of the drawing, as a rule; text in the default colour stands on the page.
        rules.setdefault("fill", "#000000")
        if rules["fill"] == INK:
            rules["fill"] = "currentColor"
        if rules.get("font-family", "").startswith("'DejaVu Sans'"):
            del rules["font-family"]
    elif rules.get("fill") in _BLACK:
        rules["fill"] = "currentColor"
    if rules.get("stroke") in _BLACK:
        rules["stroke"] = "currentColor"
    return "; ".join(f"{name}: {value}" for name, value in rules.items())


def _drop(parent: ET.Element, child: ET.Element) -> None:
    """Remove `child`, but not the text behind it."""
    position = list(parent).index(child)
    if child.tail and position:
        before = parent[position - 1]
        before.tail = (before.tail or "") + child.tail
    elif child.tail:
        parent.text = (parent.text or "") + child.tail
    parent.remove(child)


def _local(name: str) -> str:
    return name.rpartition("}")[2]
