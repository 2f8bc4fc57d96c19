"""Designer, coder and conductor's adviser by a language model: the same messages as by rules.

Each asks, reads the answer strictly, and returns a design, a candidate, or a :class:`BadAnswer`. What a
client raises goes through to the author of the run, which hands over to the rules.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlpapers.kernels.agents.answers import (
    joined,
    read_blocks,
    read_code,
    read_proposal,
    without_assignment,
    without_thinking,
)
from mlpapers.kernels.agents.messages import BadAnswer, Feedback, TaskSpec
from mlpapers.kernels.agents.prompts import (
    Material,
    analysis_messages,
    code_messages,
    continuation,
    design_messages,
)
from mlpapers.kernels.designs import Candidate, Design
from mlpapers.kernels.dsl.base import get_dsl
from mlpapers.kernels.llm.budget import BudgetExceeded
from mlpapers.kernels.llm.client import Completion, LLMError, Message
from mlpapers.kernels.sketch import Sketch

if TYPE_CHECKING:
    from mlpapers.kernels.agents.sketches import SketchVerdict

Ask = Callable[[list[Message]], Completion]
_MAX_HINTS = 20
_MAX_HINT = 200
_MAX_SUGGESTION = 1500


@dataclass(frozen=True)
class Reply:
    """What a model answered and what was made of it.

    Attributes
    ----------
    result : Design, Candidate, Advice or BadAnswer
    text : str
        The answer as it came.
    notes : tuple of str
        Tries that failed before it came.
    """

    result: Any
    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Advice:
    """What a model proposes after a failure.

    Attributes
    ----------
    next : str
        An agent, or "".
    text : str
    """

    next: str
    text: str


@dataclass(frozen=True)
class LanguageDesigner:
    """Asks for hints and, maybe, another sketch; a sketch is tested before it is accepted.

    Attributes
    ----------
    ask : callable
    spec : TaskSpec
    material : Material
    draft : Design or None
        What the rules would do: the sketch that the model may change.
    judge : callable
        Sketch -> SketchVerdict.
    """

    ask: Ask
    spec: TaskSpec
    material: Material
    draft: Design | None
    judge: Callable[[Sketch], SketchVerdict]

    def run(self, feedback: Feedback | None = None) -> Reply:
        """Return a design.

        Parameters
        ----------
        feedback : Feedback, optional
            What went wrong with the last one.

        Returns
        -------
        reply : Reply
            Of a Design, or of a BadAnswer.
        """
        completion = self.ask(design_messages(self.spec, self.material, self.draft, feedback))
        return Reply(self._read(completion), completion.text, completion.notes)

    def _read(self, completion: Completion) -> Design | BadAnswer:
        text = completion.text
        if not without_thinking(text).strip():
            return BadAnswer("empty", "the answer is empty")
        hints, sketch = read_blocks(text, "hints"), read_blocks(text, "sketch")
        if hints is None and sketch is None:
            reason = "truncated" if completion.truncated else "no_code"
            return BadAnswer(reason, "the answer has neither a block ```hints nor a block ```sketch")
        draft = self.draft or Design(Sketch(self.spec.task.name))
        lines = [line.strip().lstrip("-*• ").strip()[:_MAX_HINT] for line in (hints or "").splitlines()]
        design = replace(
            draft, hints=tuple(line for line in lines if line)[:_MAX_HINTS], docs_used=self.material.names,
            name="llm",
        )  # fmt: skip
        return design if sketch is None else self._tested(design, sketch)

    def _tested(self, design: Design, text: str) -> Design | BadAnswer:
        try:
            # The model sees the sketch without the Python around it.
            sketch = replace(Sketch.parse(text.strip("\n") + "\n"), host=design.sketch.host).validate()
        except Exception as error:  # noqa: BLE001 - the text is anybody's; what it breaks is its fault
            return BadAnswer("sketch", f"{type(error).__name__}: {error}", text)
        found = self.judge(sketch)
        if found.outcome == "wrong":
            return BadAnswer("sketch", f"the sketch was interpreted and is wrong: {found.detail}", text)
        said = () if found.outcome == "right" else (f"sketch not interpreted: {found.detail}",)
        return replace(design, sketch=sketch, disclosures=(*design.disclosures, *said))


@dataclass(frozen=True)
class LanguageCoder:
    """Asks for a kernel; an answer that was cut off is continued once.

    Attributes
    ----------
    ask : callable
    spec : TaskSpec
    material : Material
    model : str
        The model's name, which is disclosed.
    """

    ask: Ask
    spec: TaskSpec
    material: Material
    model: str

    def run(self, design: Design | None, feedback: Feedback | None = None, previous: str = "") -> Reply:
        """Return a candidate.

        Parameters
        ----------
        design : Design or None
        feedback : Feedback, optional
            What went wrong with the last one.
        previous : str
            The last one, as the model wrote it; "" where it was dropped.

        Returns
        -------
        reply : Reply
            Of a Candidate, or of a BadAnswer.
        """
        return self.answered(code_messages(self.spec, self.material, design, previous, feedback))

    def answered(self, messages: list[Message]) -> Reply:
        """Return the kernel that a conversation is answered with.

        Parameters
        ----------
        messages : list of mapping

        Returns
        -------
        reply : Reply
            Of a Candidate, or of a BadAnswer.
        """
        completion = self.ask(messages)
        text, notes = completion.text, completion.notes
        if completion.truncated and text:
            try:
                more = self.ask(continuation(messages, text))
            except (LLMError, BudgetExceeded) as error:
                # What was answered is kept; the next question meets the same error.
                return Reply(BadAnswer("truncated", f"the answer was cut off; {error}", text), text, notes)
            text, notes = joined(text, more.text), (*notes, "cut off, continued", *more.notes)
            if more.truncated:
                return Reply(
                    BadAnswer("truncated", "the answer was cut off twice; write less", text), text, notes
                )
        language = get_dsl(self.spec.dsl)
        code = read_code(text, self.spec.dsl, source_variable=getattr(language, "source_variable", ""))
        if isinstance(code, BadAnswer):
            return Reply(code, text, notes)
        said = (f"written by a language model: {self.model}",)
        candidate = Candidate(
            compose(code, self.spec.dsl), self.spec.dsl, self.spec.backend, {}, "llm", None, said
        )
        return Reply(candidate, text, notes)


@dataclass(frozen=True)
class Adviser:
    """Asks what to do about a failure.

    Attributes
    ----------
    ask : callable
    spec : TaskSpec
    """

    ask: Ask
    spec: TaskSpec

    def run(self, code: str, feedback: Feedback) -> Reply:
        """Return advice.

        Parameters
        ----------
        code : str
        feedback : Feedback

        Returns
        -------
        reply : Reply
            Of an Advice.
        """
        completion = self.ask(analysis_messages(self.spec, code, feedback))
        said = without_thinking(completion.text).strip()[:_MAX_SUGGESTION]
        return Reply(Advice(read_proposal(completion.text), said), completion.text, completion.notes)


def preamble(dsl: str) -> str:
    """Return what stands in front of a kernel that a model wrote: the language's loader and settings.

    Parameters
    ----------
    dsl : str

    Returns
    -------
    text : str
    """
    language = get_dsl(dsl)
    parts = [getattr(language, "loader", ""), getattr(language, "prologue", "")]
    return "".join(f"{part.rstrip()}\n" for part in parts if part.strip())


def compose(code: str, dsl: str) -> str:
    """Return a whole kernel: the model's part behind ours.

    Parameters
    ----------
    code : str
        Python.
    dsl : str

    Returns
    -------
    code : str
    """
    language = get_dsl(dsl)
    loader = getattr(language, "loader", "")
    if loader and loader in code:
        code = code.replace(loader, "", 1)
    # Flags and the like are ours, and imports from the future stand at a file's head only.
    for name in _assigned_names(getattr(language, "prologue", "")):
        code = without_assignment(code, name)
    lines = code.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("from __future__ import")]
    return f"{preamble(dsl)}{''.join(kept)}".rstrip() + "\n"


def own_part(code: str, dsl: str) -> str:
    """Return the part of a whole kernel that the model wrote.

    Parameters
    ----------
    code : str
    dsl : str

    Returns
    -------
    code : str
    """
    return code.removeprefix(preamble(dsl))


def _assigned_names(text: str) -> list[str]:
    return [
        target.id
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
