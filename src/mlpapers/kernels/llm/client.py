"""What a language model is to the agents: something that completes messages."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

Message = Mapping[str, str]


class LLMError(RuntimeError):
    """A language model gave no answer.

    Parameters
    ----------
    message : str
        What went wrong; never holds keys or headers.
    status : int, optional
        Of the HTTP answer.
    notes : tuple of str
        What went wrong at each try.
    """

    def __init__(self, message: str, status: int | None = None, notes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status, self.notes = status, notes

    def __reduce__(self) -> Any:
        return LLMError, (str(self), self.status, self.notes)


@dataclass(frozen=True)
class Completion:
    """What a language model answered.

    Attributes
    ----------
    texts : tuple of str
        One per choice.
    usage : dict of str to int
        ``prompt_tokens`` and ``completion_tokens`` as far as they are known.
    cost : float
        In the currency of the client's prices; nan where it is not known.
    model : str
    finish_reasons : tuple of str
        One per choice: ``"stop"``, ``"length"`` (cut off), or "" where it is not known.
    notes : tuple of str
        Tries that failed before this answer came.
    """

    texts: tuple[str, ...]
    usage: dict[str, int] = field(default_factory=dict)
    cost: float = math.nan
    model: str = ""
    finish_reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The first choice; empty where there is none."""
        return self.texts[0] if self.texts else ""

    @property
    def truncated(self) -> bool:
        """Whether the first choice was cut off."""
        return bool(self.finish_reasons) and self.finish_reasons[0] == "length"

    @property
    def tokens(self) -> int:
        """Tokens that were read and written."""
        return self.usage.get("prompt_tokens", 0) + self.usage.get("completion_tokens", 0)

    def to_json(self) -> str:
        """Return the completion as one line of JSON."""
        return json.dumps(
            {
                "texts": self.texts,
                "usage": self.usage,
                "cost": None if math.isnan(self.cost) else self.cost,
                "model": self.model,
                "finish_reasons": self.finish_reasons,
                "notes": self.notes,
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> Completion:
        """Return the completion that :meth:`to_json` wrote.

        Parameters
        ----------
        text : str

        Returns
        -------
        completion : Completion
        """
        found = json.loads(text)
        return cls(
            texts=tuple(found["texts"]),
            usage=dict(found.get("usage", {})),
            cost=math.nan if found.get("cost") is None else float(found["cost"]),
            model=found.get("model", ""),
            finish_reasons=tuple(found.get("finish_reasons", ())),
            notes=tuple(found.get("notes", ())),
        )


@runtime_checkable
class ChatClient(Protocol):
    """Whatever completes messages: every client of this library, or a class of yours.

    Examples
    --------
    >>> from mlpapers.kernels import ChatClient, Completion
    >>> class Parrot:
    ...     def complete(self, messages, *, n=1, temperature=None, max_tokens=None, seed=None):
    ...         return Completion(texts=(messages[-1]["content"],) * n)
    >>> isinstance(Parrot(), ChatClient)
    True
    >>> Parrot().complete([{"role": "user", "content": "hello"}]).texts
    ('hello',)
    """

    def complete(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
    ) -> Completion:
        """Return answers to a conversation.

        Parameters
        ----------
        messages : sequence of mapping
            Each with ``role`` (system, user, assistant) and ``content``.
        n : int
            How many answers.
        temperature : float, optional
        max_tokens : int, optional
            Longest answer.
        seed : int, optional
            Passed on where the model knows one.

        Returns
        -------
        completion : Completion

        Raises
        ------
        LLMError
            If no answer came.
        """
        ...


class FunctionClient:
    """A function from messages to text as a client.

    Parameters
    ----------
    function : callable
        Takes the list of messages and returns a text or a Completion.
    """

    def __init__(self, function: Callable[[list[Message]], str | Completion]) -> None:
        self.function = function
        self.model = getattr(function, "__name__", type(function).__name__)

    def complete(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        temperature: float | None = None,  # noqa: ARG002 - the function decides
        max_tokens: int | None = None,  # noqa: ARG002
        seed: int | None = None,  # noqa: ARG002
    ) -> Completion:
        """Call the function once per answer; see :meth:`ChatClient.complete`."""
        answers = [self.function(list(messages)) for _ in range(n)]
        if n == 1 and isinstance(answers[0], Completion):
            return answers[0]
        texts = tuple(answer.text if isinstance(answer, Completion) else answer for answer in answers)
        for text in texts:
            if not isinstance(text, str):
                raise LLMError(f"the model's function must return a text; got {type(text).__name__}")
        return Completion(texts, model=self.model, finish_reasons=("",) * len(texts))


class ScriptedClient:
    """Answers that were written beforehand, in order; for tests and demonstrations.

    Parameters
    ----------
    answers : sequence of str, Completion or Exception
        An exception is raised in its turn.
    model : str

    Attributes
    ----------
    requests : list of list of Message
        What was asked.

    Examples
    --------
    >>> ScriptedClient(["one", "two"]).complete([{"role": "user", "content": "count"}]).text
    'one'
    """

    def __init__(self, answers: Sequence[str | Completion | Exception], model: str = "scripted") -> None:
        self.answers = list(answers)
        self.model = model
        self.requests: list[list[Message]] = []
        self._given = 0

    def complete(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        temperature: float | None = None,  # noqa: ARG002 - the script decides
        max_tokens: int | None = None,  # noqa: ARG002
        seed: int | None = None,  # noqa: ARG002
    ) -> Completion:
        """Return the next `n` answers; LLMError after the last. See :meth:`ChatClient.complete`."""
        self.requests.append([dict(message) for message in messages])
        chosen = self.answers[self._given : self._given + n]
        self._given += n
        if len(chosen) < n:
            raise LLMError(f"the script has {len(self.answers)} answers, and all were given")
        for answer in chosen:
            if isinstance(answer, Exception):
                raise answer
        if n == 1 and isinstance(chosen[0], Completion):
            return chosen[0]
        texts = tuple(answer.text if isinstance(answer, Completion) else str(answer) for answer in chosen)
        return Completion(texts, {}, 0.0, self.model, ("stop",) * len(texts))


def as_client(llm: Any) -> ChatClient:
    """Return `llm` as a client: a client itself, or a function from messages to text.

    Parameters
    ----------
    llm : ChatClient or callable

    Returns
    -------
    client : ChatClient

    Raises
    ------
    TypeError
        If it is neither.
    """
    if isinstance(llm, ChatClient) and not isinstance(llm, type):
        return llm
    if callable(llm) and not isinstance(llm, type):
        return FunctionClient(llm)
    raise TypeError(
        f"llm must have a method complete(messages, ...), or be a function of messages; got {llm!r}"
    )


def request_key(model: str, messages: Sequence[Message], **params: Any) -> str:
    """Return the SHA-256 of a request: model, messages, and the parameters that are not None.

    Parameters
    ----------
    model : str
    messages : sequence of mapping
    **params : object

    Returns
    -------
    key : str
    """
    known = [model, [[m["role"], m["content"]] for m in messages]]
    given = {name: value for name, value in params.items() if value is not None}
    return hashlib.sha256(json.dumps([known, given], sort_keys=True).encode()).hexdigest()
