"""Reading a language model's answer: strictly, and without ever raising.

A kernel is looked for in fenced blocks. What cannot be used is a :class:`BadAnswer` that says why, so that
the model can be told.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from mlpapers.kernels.agents.messages import BadAnswer

_THINKING = re.compile(r"<(think|thinking|thought|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_THINKING_END = re.compile(r"^.*</(think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
_THINKING_START = re.compile(r"<(think|thinking|thought|reasoning)>.*$", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^\n`]*$", re.MULTILINE)
_PYTHON = frozenset({"py", "python", "python3"})
_C_TAGS = {
    "cpp": frozenset({"cpp", "c++", "c", "cc", "cxx"}),
    "cuda": frozenset({"cuda", "cu", "cpp", "c++"}),
}
_PROPOSAL = re.compile(
    r"^\W*next\W*[:=]\W*(designer|coder|verifier|tuner|done)\b", re.IGNORECASE | re.MULTILINE
)
_SHOWN = 2000


@dataclass(frozen=True)
class Block:
    """A fenced block of an answer.

    Attributes
    ----------
    language : str
        Its tag in lower case, or "".
    text : str
    closed : bool
        Whether its end is there.
    """

    language: str
    text: str
    closed: bool = True


def without_thinking(text: str) -> str:
    """Return an answer without what the model said to itself.

    Parameters
    ----------
    text : str

    Returns
    -------
    text : str

    Examples
    --------
    >>> without_thinking("<think>hm</think>x = 1")
    'x = 1'
    """
    text = _THINKING.sub("", text)
    # Some servers swallow the opening tag; a missing end means that the answer was cut off while thinking.
    text = _THINKING_END.sub("", text)
    return _THINKING_START.sub("", text)


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of an answer, in order; one whose end is missing reaches to the end.

    Parameters
    ----------
    text : str

    Returns
    -------
    blocks : list of Block
    """
    found: list[Block] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1][0] == opened[1][0] and len(fence[1]) >= len(opened[1]) and not fence[2]:
            found.append(Block(opened[2].lower(), _inside(text, opened, fence.start())))
            opened = None
    if opened is not None:
        found.append(Block(opened[2].lower(), _inside(text, opened, len(text)), closed=False))
    return found


def _inside(text: str, opened: re.Match[str], end: int) -> str:
    return text[opened.end() + 1 : end]


def read_code(text: str, dsl: str, *, source_variable: str = "") -> str | BadAnswer:
    """Return the kernel in an answer: Python text that defines ``class ModelNew``.

    Taken is the last block in Python or in the language that defines it, else the largest that does, else the
    whole answer where it is Python. A block in the kernel's own language (C++, CUDA) becomes the text that
    the Python block launches, where that one does not hold it already.

    Parameters
    ----------
    text : str
    dsl : str
    source_variable : str
        The variable that holds the kernel's own text, e.g. ``"_CPP"``; "" where there is none.

    Returns
    -------
    code : str or BadAnswer
    """
    text = without_thinking(text)
    if not text.strip():
        return BadAnswer("empty", "the answer is empty", text)
    found = blocks(text)
    if found and not found[-1].closed and not any(_defines_model(block.text) for block in found[:-1]):
        return BadAnswer("truncated", "the last code block has no end", text[-_SHOWN:])
    tagged = [
        block for block in found if block.language in _PYTHON | {dsl, ""} | _C_TAGS.get(dsl, frozenset())
    ]
    matching = [block for block in tagged if _defines_model(block.text)]
    others = sorted(
        (block for block in found if _defines_model(block.text)), key=lambda block: len(block.text)
    )
    if matching:
        code = matching[-1].text
    elif others:
        code = others[-1].text
    elif _defines_model(text) and _problem(text) is None:
        code = text
    else:
        said = "no block of code" if not found else "no block of code defines class ModelNew"
        return BadAnswer("no_code", said, text[:_SHOWN])
    problem = _problem(code)
    if problem is not None:
        return BadAnswer("no_python", problem, code)
    kernels = [block.text for block in found if block.language in _C_TAGS.get(dsl, frozenset())]
    kernels = [kernel for kernel in kernels if not _defines_model(kernel)]
    if source_variable and kernels and source_variable not in _assigned(code):
        return _with_source(code, source_variable, "\n".join(kernels))
    return code


def read_blocks(text: str, language: str) -> str | None:
    """Return the last closed block with a tag, or None.

    Parameters
    ----------
    text : str
    language : str

    Returns
    -------
    block : str or None
    """
    found = [block for block in blocks(without_thinking(text)) if block.closed and block.language == language]
    return found[-1].text if found else None


def read_proposal(text: str) -> str:
    r"""Return the agent that an answer proposes in a line ``next: ...``, or "".

    Parameters
    ----------
    text : str

    Returns
    -------
    phase : str

    Examples
    --------
    >>> read_proposal("The tile is too large.\nNEXT: designer")
    'designer'
    """
    found = _PROPOSAL.findall(without_thinking(text))
    return found[-1].lower() if found else ""


def joined(first: str, second: str) -> str:
    """Return an answer that was cut off and its continuation as one text.

    Where the continuation opens its block anew, or repeats the last line, that is left out.

    Parameters
    ----------
    first, second : str

    Returns
    -------
    text : str
    """
    second = without_thinking(second)
    lead = second.lstrip("\n")
    open_block = bool(found := blocks(first)) and not found[-1].closed
    if open_block and (fence := _FENCE.match(lead)) is not None and fence[2]:
        lead = lead[fence.end() + 1 :]
    last = first.rpartition("\n")[2]
    if last.strip() and lead.startswith(last):
        lead = lead[len(last) :]
    return first + lead


def _defines_model(text: str) -> bool:
    return re.search(r"^class\s+ModelNew\b", text, re.MULTILINE) is not None


def _problem(code: str) -> str | None:
    """Return why a text is no Python, or None."""
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        return f"no Python: {getattr(error, 'msg', None) or error}" + (f" (line {line})" if line else "")
    return None


def _assigned(code: str) -> set[str]:
    names = set()
    for node in ast.parse(code).body:
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def _with_source(code: str, variable: str, kernel: str) -> str:
    # A literal by repr cannot be ended by the text it holds.
    literal = (
        f'r"""\n{kernel}"""' if '"""' not in kernel and not kernel.endswith(("\\", '"')) else repr(kernel)
    )
    return f"{variable} = {literal}\n\n\n{code}"


def without_assignment(code: str, name: str) -> str:
    """Return a source without the top-level statements that assign `name`.

    Parameters
    ----------
    code : str
        Python.
    name : str

    Returns
    -------
    code : str
    """
    lines = code.splitlines(keepends=True)
    for node in reversed(ast.parse(code).body):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            assert node.end_lineno is not None
            del lines[node.lineno - 1 : node.end_lineno]
    return "".join(lines)
