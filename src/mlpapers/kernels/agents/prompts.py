"""What language models are told: rules of the game, documents, the task, and what went wrong.

The same task, documents and history always give the same text, so that recorded answers fit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpapers.kernels.agents.conductor import trimmed
from mlpapers.kernels.agents.messages import Feedback, TaskSpec

if TYPE_CHECKING:
    from mlpapers.kernels.designs import Design
    from mlpapers.kernels.llm.client import Message
    from mlpapers.kernels.retrieval.documents import Document

_MAX_BASIC = 8000
_MAX_DOCUMENT = 5000
_MAX_FEEDBACK = 6000
_MAX_SKETCH = 8000
_PATH = re.compile(r"(?:/[\w.+@-]+)+/([\w.+@-]+)")
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
_LINE = re.compile(r"\bline (\d+)\b")

_POLICY = {
    "none": "Nothing may be left to torch: only views and torch.empty inside forward.",
    "contractions": "Matrix products, convolutions and attention may be left to torch.ops.aten; everything "
    "else inside forward is yours: only views and torch.empty beside.",
    "any": "Operators of torch are allowed inside forward where a kernel of yours would not be faster.",
}
_SHAPES = {
    "batch": "The kernel must be right at other sizes of the leading dimension too.",
    "static": "The kernel may assume the sizes of this task.",
    "dynamic": "The kernel must be right at every size of every dimension that no parameter fixes.",
}


@dataclass(frozen=True)
class Material:
    """Documents of the language that a prompt is made of.

    Attributes
    ----------
    basic, advice : str
    found : tuple of Document
        What was retrieved for the task.
    hardware : str
    """

    basic: str = ""
    advice: str = ""
    found: tuple[Document, ...] = ()
    hardware: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The paths of the documents that were retrieved."""
        return tuple(document.path for document in self.found)


def gather(spec: TaskSpec, docs: str | os.PathLike[str] | None = None, k: int = 3) -> Material:
    """Return the documents for a task: the language's basic text and advice, and the k that fit best.

    Parameters
    ----------
    spec : TaskSpec
    docs : path-like, optional
        A folder with further documents.
    k : int

    Returns
    -------
    material : Material
        Empty for a language without documents.
    """
    from mlpapers.kernels.dsl.base import get_backend, get_dsl
    from mlpapers.kernels.retrieval.documents import hardware_text, load_cards
    from mlpapers.kernels.retrieval.ranking import retrieve

    if not (get_dsl(spec.dsl).docs / "basic_docs.md").is_file():
        return Material()
    cards = load_cards(spec.dsl, docs)

    def text(kind: str) -> str:
        return "\n\n".join(card.document.text for card in cards if card.document.kind == kind)

    always = {card.document.path for card in cards if card.document.kind in ("basic", "advice")}
    ranked = retrieve(spec.task, dsl=spec.dsl, backend=spec.backend, k=k + len(always), docs=docs)
    backend = get_backend(spec.backend)
    device = ""
    if backend.available()[0]:
        hardware = backend.hardware()
        measured = f"{hardware.cores} cores, vectors of {hardware.vector_bytes} bytes"
        device = (
            f"{hardware.name} ({hardware.arch}): {measured}\n{hardware_text(spec.dsl, hardware.arch)}".strip()
        )
    return Material(
        text("basic"), text("advice"), tuple(item for item in ranked if item.path not in always)[:k], device
    )


def design_messages(
    spec: TaskSpec, material: Material, draft: Design | None, feedback: Feedback | None
) -> list[Message]:
    """Return the conversation that asks for a design.

    Parameters
    ----------
    spec : TaskSpec
    material : Material
    draft : Design or None
        What the rules would do.
    feedback : Feedback or None

    Returns
    -------
    messages : list of mapping
    """
    system = (
        "You design fast kernels that replace a PyTorch module. You write no code: you decide what is "
        "loaded, computed and stored in which loops, what is fused, and which loops are parallel.\n"
        "Answer with advice for the author of the code in a block\n```hints\none hint a line\n```\n"
        "and, where the sketch below should change, with the whole new sketch in a block\n"
        "```sketch\n...\n```\n"
        "A sketch keeps the form of the one below: declarations (symbol, constexpr, tensor, view), loops "
        "with hints, load(view[index] -> tile), operations with the result last, store(tile -> view[index])."
    )
    parts = [_task_text(spec)]
    if material.hardware:
        parts.append(f"# Device\n{material.hardware}")
    if material.advice:
        parts.append(f"# Advice for {spec.dsl}\n{material.advice[:_MAX_DOCUMENT]}")
    if draft is not None and draft.sketch.body:
        parts.append(f"# A first sketch\n```sketch\n{sketch_text(draft)}\n```")
    if feedback is not None:
        parts.append(
            f"# What went wrong ({feedback.error_class})\n{feedback.text}\nChange the design accordingly."
        )
    return [{"role": "system", "content": system}, {"role": "user", "content": "\n\n".join(parts)}]


def code_messages(
    spec: TaskSpec, material: Material, design: Design | None, previous: str, feedback: Feedback | None
) -> list[Message]:
    """Return the conversation that asks for a kernel.

    Parameters
    ----------
    spec : TaskSpec
    material : Material
    design : Design or None
    previous : str
        The code that went wrong; "" where there is none, or it was dropped.
    feedback : Feedback or None

    Returns
    -------
    messages : list of mapping
    """
    system = (
        f"You write fast and correct kernels in {spec.dsl} for the device {spec.backend}. Answer with one "
        "fenced Python block: the kernel's source and class ModelNew(torch.nn.Module) with the constructor, "
        "the parameters and buffers, and the forward of Model. The code that builds and loads kernels is "
        "there already.\n"
        f"{_POLICY[spec.library_ops]} {_SHAPES[spec.shape_policy]} Inputs of any strides come; for a shape "
        "that it cannot handle, forward raises a ValueError.\n"
        "No torch.compile, no fallback by try/except, no files, threads, clocks or changed settings, no "
        "answer kept between calls: a kernel that cheats is found out and dropped."
    )
    parts = []
    if material.basic:
        parts.append(f"# {spec.dsl}\n{material.basic[:_MAX_BASIC]}")
    if material.advice:
        parts.append(f"# Advice\n{material.advice[:_MAX_DOCUMENT]}")
    parts += [f"# {item.kind}: {item.path}\n{item.text[:_MAX_DOCUMENT]}" for item in material.found]
    parts.append(_task_text(spec))
    if design is not None and design.sketch.body:
        parts.append(f"# Sketch\n```sketch\n{sketch_text(design)}\n```")
    if design is not None and design.hints:
        parts.append("# Hints\n" + "\n".join(f"- {hint}" for hint in design.hints))
    messages: list[Message] = [
        {"role": "system", "content": system},
        {"role": "user", "content": "\n\n".join(parts)},
    ]
    if previous:
        messages.append({"role": "assistant", "content": f"```python\n{previous.rstrip()}\n```"})
    if feedback is not None:
        last = "Answer with the whole corrected kernel in one Python block."
        if not previous:
            last = "Your last answer was dropped. Answer with a whole kernel in one Python block."
        messages.append({"role": "user", "content": f"{_told(feedback)}\n\n{last}"})
    return messages


def analysis_messages(spec: TaskSpec, code: str, feedback: Feedback) -> list[Message]:
    """Return the conversation that asks what to do about a failure.

    Parameters
    ----------
    spec : TaskSpec
    code : str
    feedback : Feedback

    Returns
    -------
    messages : list of mapping
    """
    system = (
        "You read why a kernel failed and say in at most five sentences what should change. End with a line "
        '"next: coder" where the code is at fault, or "next: designer" where the plan is.'
    )
    user = f"{_task_text(spec)}\n\n# Kernel\n```python\n{code[:_MAX_SKETCH]}\n```\n\n{_told(feedback)}"
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def continuation(messages: Sequence[Message], answer: str) -> list[Message]:
    """Return the conversation that asks for the rest of an answer that was cut off.

    Parameters
    ----------
    messages : sequence of mapping
    answer : str

    Returns
    -------
    messages : list of mapping
    """
    more = "Your answer was cut off. Go on exactly where it ends, and repeat nothing."
    return [*messages, {"role": "assistant", "content": answer}, {"role": "user", "content": more}]


def cleaned(text: str, first_line: int = 0) -> str:
    """Return an error as it is told to a model: no folders or addresses, and lines of the model's own text.

    Parameters
    ----------
    text : str
    first_line : int
        Lines that stand in front of the model's text in the file.

    Returns
    -------
    text : str

    Examples
    --------
    >>> cleaned("/home/me/x/kernel.cpp:3: no; line 12: yes", first_line=10)
    'kernel.cpp:3: no; line 2: yes'
    """
    text = _ADDRESS.sub("0x...", _PATH.sub(r"\1", text))
    if first_line:
        text = _LINE.sub(
            lambda found: f"line {int(found[1]) - first_line}" if int(found[1]) > first_line else found[0],
            text,
        )
    return trimmed(text)[:_MAX_FEEDBACK]


def sketch_text(design: Design) -> str:
    """Return a design's sketch without the Python around the kernel.

    Parameters
    ----------
    design : Design

    Returns
    -------
    text : str
    """
    from dataclasses import replace

    return replace(design.sketch, host="").to_text()[:_MAX_SKETCH]


def _told(feedback: Feedback) -> str:
    return f"# What went wrong ({feedback.error_class})\n{feedback.text}"


def _task_text(spec: TaskSpec) -> str:
    return f"# Task {spec.task.name}\n```python\n{spec.task.resolved_source.strip()}\n```"
