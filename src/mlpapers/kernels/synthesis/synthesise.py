"""The rule path: from a task to designs, and from a design to a candidate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mlpapers.core.validation import check_choice
from mlpapers.kernels.designs import Candidate, Design
from mlpapers.kernels.dsl import get_dsl, resolve
from mlpapers.kernels.graph.capture import capture
from mlpapers.kernels.graph.channels import with_convolutions
from mlpapers.kernels.graph.ir import Graph, UnsupportedOp
from mlpapers.kernels.graph.lowering import RANDOM_OPS
from mlpapers.kernels.graph.nest import for_device
from mlpapers.kernels.sketch import Sketch
from mlpapers.kernels.synthesis.assemble import assemble
from mlpapers.kernels.synthesis.constructor import host_text
from mlpapers.kernels.synthesis.own import with_own_contractions
from mlpapers.kernels.task import Task

LIBRARY_POLICIES = ("none", "contractions", "any")
PRECISIONS = ("reference", "tf32x3", "tf32", "bf16")


def synthesise(
    task: Task,
    *,
    dsl: str = "cpp",
    backend: str = "cpu",
    library_ops: str = "contractions",
    precision: str = "reference",
    algebra: bool = False,
    shape_policy: str = "batch",
) -> tuple[Design, ...]:
    """Return designs for a task, the best guess first.

    Parameters
    ----------
    task : Task
    dsl, backend : str
    library_ops : {"none", "contractions", "any"}
        Which operations may be left to PyTorch's library.
    precision : {"reference", "tf32x3", "tf32", "bf16"}
        Precision of matrix products that are generated (contractions of the library keep the reference's).
    algebra : bool
        Allow rewrites that are exact for real numbers only; disclosed.
    shape_policy : {"batch", "static", "dynamic"}

    Returns
    -------
    designs : tuple of Design

    Raises
    ------
    UnsupportedOp
        If an operation has no template and the policy forbids the library; the message lists them.
    TaskError
        If the task cannot be captured.
    """
    check_choice("library_ops", library_ops, LIBRARY_POLICIES)
    check_choice("precision", precision, PRECISIONS)
    dsl, backend = resolve(dsl, backend)
    ours = library_ops == "none" and dsl == "cpp"
    graph = capture(task, shape_policy=shape_policy, algebra=algebra, fused_attention=not ours)
    check_library(graph, library_ops, own=dsl == "cpp")
    host, arguments = host_text(task, [name for name, _ in graph.inputs])
    designs: list[Design] = []
    usual, *others = ((name, with_convolutions(graph, name)) for name in layouts(dsl, backend))
    side_by_side = dsl == "triton" and backend == "cuda"
    alternatives: tuple[tuple[str, Graph, dict[str, bool]], ...] = (
        ("default", usual[1], {}),
        ("recompute", usual[1], {"keep": False}),
        ("unfused", usual[1], {"fuse": False}),
        *((str(layout), plan, {}) for layout, plan in others),
    )
    for name, plan, options in alternatives:
        with for_device(backend != "cpu"):
            sketch = assemble(plan, task.name, host, arguments, side_by_side=side_by_side, **options)
        if precision != "reference" and backend == "cuda" and sketch.library:
            code = PRECISIONS.index(precision)
            sketch = replace(sketch, constexprs=(*sketch.constexprs, ("PRECISION", code)))
        if ours:
            sketch = with_own_contractions(sketch)
            _refuse((t for t in sketch.library if t.split(".")[1] not in RANDOM_OPS), library_ops)
        if all(sketch.body != other.sketch.body for other in designs):
            designs.append(
                Design(
                    sketch,
                    disclosures=disclosures(graph, sketch, shape_policy),
                    floor_bytes=float(graph.bytes_min),
                    floor_flops=float(graph.flops),
                    name=name,
                )
            )
    return tuple(designs)


def layouts(dsl: str, backend: str) -> tuple[str | None, ...]:
    """Return layouts of a design's convolutions for ``with_convolutions``, the best guess first.

    Parameters
    ----------
    dsl, backend : str

    Returns
    -------
    layouts : tuple of str or None
        None where kernels do not run on an NVIDIA GPU: calls stay as they are.
    """
    if backend != "cuda":
        return (None,)
    # Kernels in Triton transpose in tiles; those in CUDA-C read what lies across one by one.
    return ("by_use", "channels_last", "library") if dsl == "triton" else ("library", "channels_last")


def check_library(graph: Graph, library_ops: str, *, own: bool = False) -> None:
    """Raise UnsupportedOp where the graph calls the library beyond the policy.

    With `own`, contractions pass: whether ours can make them is known once their operands have a layout.
    """
    # Numbers that torch's generator draws cannot come from anybody else.
    calls = [
        node
        for node in graph.nodes
        if node.op == "library" and node.attrs["target"].split(".")[1] not in RANDOM_OPS
    ]
    if library_ops == "any":
        return
    strict = library_ops == "none" and not own
    _refuse({str(n.attrs["target"]) for n in calls if strict or not n.attrs["contraction"]}, library_ops)


def _refuse(targets: Iterable[str], library_ops: str) -> None:
    forbidden = sorted(set(targets))
    if forbidden:
        raise UnsupportedOp(
            f"no template for {', '.join(forbidden)}, and library_ops={library_ops!r} forbids the library"
        )


def disclosures(graph: Graph, sketch: Sketch, shape_policy: str) -> tuple[str, ...]:
    """Return what must be said about a kernel."""
    found = [f"library: {target.rsplit('.', 1)[0]}" for target in sketch.library]
    precision = dict(sketch.constexprs).get("PRECISION", 0)
    if precision:
        found.append(f"precision of products: {PRECISIONS[precision]}")
    if shape_policy == "static" or not graph.symbols:
        found.append("shape-specialised")
    if graph.random:
        found.append("nondeterministic")
    return (*found, *graph.disclosures)


def design(task: Task, dsl: str = "cpp", backend: str = "cpu") -> Sketch:
    """Return the sketch of a task's kernel.

    Parameters
    ----------
    task : Task
    dsl, backend : str

    Returns
    -------
    sketch : Sketch
    """
    return synthesise(task, dsl=dsl, backend=backend)[0].sketch


def candidate(
    design: Design, dsl: str = "cpp", backend: str = "cpu", params: dict[str, Any] | None = None
) -> Candidate:
    """Render a design.

    Parameters
    ----------
    design : Design
    dsl, backend : str
    params : dict, optional
        Knobs; the language's defaults where left out.

    Returns
    -------
    candidate : Candidate
    """
    language = get_dsl(dsl)
    chosen = {**language.defaults(design.sketch, backend), **(params or {})}
    code = language.render(design.sketch, chosen, backend)
    told = (*design.disclosures, *(["huge pages"] if chosen.get("HUGE") else []))
    return Candidate(code, dsl, backend, chosen, "rules", design, told)


def bucket(sketch: Sketch) -> str:
    """Return the key under which a sketch's knobs are remembered: its templates and rounded sizes."""
    sizes = []
    for tensor in sketch.tensors:
        known = [int(dim) for dim in tensor.dims if dim.isdigit()]
        sizes.append(round(math.log2(math.prod(known) + 1)))
    text = f"{sketch.templates} {sorted(sizes)}"
    return f"{'+'.join(sketch.templates)}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"
