"""What a designer hands to a coder, and a coder to a verifier."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from mlpapers.kernels.sketch import Sketch


@dataclass(frozen=True)
class Design:
    """A sketch and what must be said about it.

    Parameters
    ----------
    sketch : Sketch
    hints : tuple of str
        Advice for whoever writes the code.
    docs_used : tuple of str
        Documents that were retrieved for it.
    disclosures : tuple of str
        What the kernel does beyond computing the function: library calls, fixed shapes, changed precision.
    floor_bytes, floor_flops : float
        Least memory traffic (bytes) and operations of the task at its captured shape.
    name : str
        "default", or what sets this alternative apart.
    """

    sketch: Sketch
    hints: tuple[str, ...] = ()
    docs_used: tuple[str, ...] = ()
    disclosures: tuple[str, ...] = ()
    floor_bytes: float = math.nan
    floor_flops: float = math.nan
    name: str = "default"


@dataclass(frozen=True)
class Candidate:
    """A kernel that is not verified yet.

    Parameters
    ----------
    code : str
        Python source that defines ``class ModelNew``.
    dsl, backend : str
    params : dict
        Knobs it was rendered with.
    origin : str
        "rules", "llm" or "user".
    design : Design, optional
    disclosures : tuple of str
    """

    code: str
    dsl: str
    backend: str
    params: dict[str, Any] = field(default_factory=dict)
    origin: str = "rules"
    design: Design | None = None
    disclosures: tuple[str, ...] = ()
