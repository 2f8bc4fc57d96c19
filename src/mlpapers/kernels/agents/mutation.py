"""A language model's part in evolutionary search: it compares good with bad and proposes what comes next.

Of a kernel that rules wrote it is asked for settings of the knobs, the sketch staying as it is; a kernel that
it wrote itself it is asked to rewrite. What cannot be used is a :class:`BadAnswer`; the search then goes on
by its own rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlpapers.kernels.agents.answers import read_blocks, without_thinking
from mlpapers.kernels.agents.language import Ask, LanguageCoder, Reply
from mlpapers.kernels.agents.messages import BadAnswer, TaskSpec
from mlpapers.kernels.agents.prompts import Material, code_messages, sketch_text

if TYPE_CHECKING:
    from mlpapers.kernels.designs import Design
    from mlpapers.kernels.llm.client import Message

Params = dict[str, Any]
_MAX_STRATEGY = 800
_MAX_SHOWN = 12


@dataclass(frozen=True)
class Measured:
    """A setting or a kernel as the model is told of it.

    Attributes
    ----------
    what : str
        The setting as JSON, or the source.
    cost : float
        Time relative to the kernel that the search began with; inf for what did not run or was wrong.
    remark : str
        Why it failed, or "".
    """

    what: str
    cost: float
    remark: str = ""

    def __str__(self) -> str:
        shown = f"{self.cost:.3f} of the first time" if self.cost < float("inf") else "does not run"
        return f"{shown}: {self.what}" + (f" ({self.remark})" if self.remark else "")


@dataclass(frozen=True)
class Proposal:
    """What a model proposes for the next round.

    Attributes
    ----------
    settings : tuple of dict
    strategy : str
        What, in its words, makes the good ones good; it is told so again in the next round.
    """

    settings: tuple[Params, ...]
    strategy: str = ""


@dataclass(frozen=True)
class LanguageMutator:
    """Asks for the next settings of the knobs.

    Attributes
    ----------
    ask : callable
    spec : TaskSpec
    material : Material
    design : Design
    space : mapping of str to sequence
        Admissible values of each knob.
    """

    ask: Ask
    spec: TaskSpec
    material: Material
    design: Design
    space: Mapping[str, Sequence[Any]]

    def run(
        self, parent: Params, tiers: Mapping[str, Sequence[Measured]], n: int, strategy: str = ""
    ) -> Reply:
        """Return settings to be measured next.

        Parameters
        ----------
        parent : dict
            The fastest setting so far; a knob that an answer leaves out has its value.
        tiers : mapping of str to sequence of Measured
            What was measured: "good", "medium" and "poor".
        n : int
            Settings that are wanted.
        strategy : str
            What the last round's answer held for the reason.

        Returns
        -------
        reply : Reply
            Of a Proposal, or of a BadAnswer.
        """
        completion = self.ask(self._messages(parent, tiers, n, strategy))
        return Reply(self._read(completion.text, parent, n), completion.text, completion.notes)

    def _messages(
        self, parent: Params, tiers: Mapping[str, Sequence[Measured]], n: int, strategy: str
    ) -> list[Message]:
        system = (
            "You tune a kernel. Its sketch stays as it is; its knobs may change. Compare the good settings "
            "with the poor ones and say in at most three lines what makes the difference, in a block\n"
            f"```strategy\n...\n```\nThen propose {n} new settings that were not measured yet, as a list of "
            "objects in a block\n```json\n[...]\n```\nEach gives some knobs one of their admissible values; "
            "a knob left out keeps the value of the fastest setting."
        )
        knobs = "\n".join(f"- {name}: {', '.join(map(repr, values))}" for name, values in self.space.items())
        parts = [f"# Sketch\n```sketch\n{sketch_text(self.design)}\n```", f"# Knobs\n{knobs}"]
        if self.material.hardware:
            parts.append(f"# Device\n{self.material.hardware}")
        parts.append(f"# The fastest setting\n{json.dumps(parent, sort_keys=True)}")
        parts += _shown(tiers)
        if strategy:
            parts.append(f"# What you said last time\n{strategy}")
        return [{"role": "system", "content": system}, {"role": "user", "content": "\n\n".join(parts)}]

    def _read(self, text: str, parent: Params, n: int) -> Proposal | BadAnswer:
        said = without_thinking(text)
        block = read_blocks(said, "json")
        try:
            found = json.loads(block if block is not None else said)
        except ValueError as error:
            return BadAnswer("no_settings", f"the answer has no list of settings: {error}", text)
        items = found if isinstance(found, list) else [found]
        settings: list[Params] = []
        for item in items:
            setting = self._admissible(item)
            if setting is not None and {**parent, **setting} not in settings:
                settings.append({**parent, **setting})
        if not settings:
            return BadAnswer("no_settings", "no setting gives known knobs admissible values", text)
        return Proposal(tuple(settings[:n]), read_strategy(said))

    def _admissible(self, item: Any) -> Params | None:
        """Return a setting with the space's own values; None where one is not admissible."""
        if not isinstance(item, dict) or not item:
            return None
        found: Params = {}
        for name, value in item.items():
            own = [known for known in self.space.get(name, ()) if known == value and not _mixed(known, value)]
            if not own:
                return None
            found[name] = own[0]
        return found


@dataclass(frozen=True)
class LanguageRewriter:
    """Asks for a faster version of a kernel that the model wrote.

    Attributes
    ----------
    coder : LanguageCoder
    design : Design or None
    """

    coder: LanguageCoder
    design: Design | None

    def run(self, parent: str, tiers: Mapping[str, Sequence[Measured]], strategy: str = "") -> Reply:
        """Return a kernel.

        Parameters
        ----------
        parent : str
            The model's part of the kernel that is to become faster.
        tiers : mapping of str to sequence of Measured
            One good, one medium, one poor kernel, as far as there are any.
        strategy : str
            What the last answer held for the reason.

        Returns
        -------
        reply : Reply
            Of a Candidate, or of a BadAnswer.
        """
        parts = [
            "This kernel is right. Write a faster one that computes the same.",
            *_shown(tiers, code=True),
        ]
        if strategy:
            parts.append(f"# What you said last time\n{strategy}")
        parts.append(
            "Say in at most three lines what makes the fast ones fast, in a block\n```strategy\n...\n```\n"
            "and answer with the whole new kernel in one Python block."
        )
        messages = code_messages(self.coder.spec, self.coder.material, self.design, parent, None)
        return self.coder.answered([*messages, {"role": "user", "content": "\n\n".join(parts)}])


def read_strategy(text: str) -> str:
    """Return what an answer holds for the reason of the differences, "" where it does not say.

    Parameters
    ----------
    text : str

    Returns
    -------
    strategy : str
    """
    return (read_blocks(text, "strategy") or "").strip()[:_MAX_STRATEGY]


def _mixed(known: Any, value: Any) -> bool:
    """Return whether one of two equal values is a truth value and the other a number."""
    return isinstance(known, bool) != isinstance(value, bool)


def _shown(tiers: Mapping[str, Sequence[Measured]], *, code: bool = False) -> list[str]:
    parts = []
    for name, some in tiers.items():
        if not some:
            continue
        if code:
            shown = "\n".join(
                f"{replace(one, what='')!s}\n```python\n{one.what.rstrip()}\n```" for one in some
            )
        else:
            shown = "\n".join(f"- {one}" for one in some[:_MAX_SHOWN])
        parts.append(f"# {name.capitalize()}\n{shown}")
    return parts
