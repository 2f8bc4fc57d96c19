"""The frame of a Triton function."""

from __future__ import annotations

from collections.abc import Iterable


def function_text(name: str, parameters: Iterable[str], lines: Iterable[str]) -> str:
    """Return a function's source from its parameters and the unindented lines of its body.

    Parameters
    ----------
    name : str
    parameters, lines : iterable of str

    Returns
    -------
    text : str

    Examples
    --------
    >>> print(function_text("nothing", ["p_x", "n"], ["pass"]))
    @triton.jit
    def nothing(p_x, n):
        pass
    """
    head = f"@triton.jit\ndef {name}({', '.join(parameters)}):"
    return "\n".join([head, *(f"    {line}" for line in lines)])
