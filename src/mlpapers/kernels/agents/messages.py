"""Messages between agents: frozen dataclasses that go through JSON unchanged."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlpapers.kernels.task import Task


# Where the kinds of messages live; a kind is imported when it is met.
_MODULES = {
    "Action": "agents.conductor",
    "BadAnswer": "agents.messages",
    "Candidate": "designs",
    "CorrectnessReport": "verify.report",
    "Design": "designs",
    "Document": "retrieval.documents",
    "Event": "agents.conductor",
    "Feedback": "agents.messages",
    "Kernel": "kernel",
    "Sketch": "sketch",
    "StaticIssue": "verify.report",
    "Task": "task",
    "TaskSpec": "agents.messages",
    "TraceEvent": "agents.messages",
    "Verdict": "verify.report",
    "Workflow": "agents.conductor",
}


@dataclass(frozen=True)
class TaskSpec:
    """What the designer is asked for.

    Attributes
    ----------
    task : Task
    dsl, backend : str
    library_ops, precision, shape_policy : str
    algebra : bool
    """

    task: Task
    dsl: str = "cpp"
    backend: str = "cpu"
    library_ops: str = "contractions"
    precision: str = "reference"
    shape_policy: str = "batch"
    algebra: bool = False


@dataclass(frozen=True)
class Feedback:
    """What the coder is told about its last candidate.

    Attributes
    ----------
    error_class : str
    text : str
    """

    error_class: str
    text: str


@dataclass(frozen=True)
class BadAnswer:
    """An answer of a language model that cannot be used.

    Attributes
    ----------
    reason : str
        ``empty``, ``no_code``, ``no_python``, ``truncated``, or ``sketch``.
    detail : str
        What is wrong, as it is told to the model.
    text : str
        The part of the answer that it is about.
    """

    reason: str
    detail: str
    text: str = ""


@dataclass(frozen=True)
class TraceEvent:
    """One line of a run's trace.

    Attributes
    ----------
    step : int
    agent : str
        Who acted.
    event : str
        What happened.
    detail : str
    next : str
        Who acts next.
    origin : str
        ``rules`` or ``llm``: on whose behalf the agent acted.
    answer : str
        What a language model answered, as it came.
    reason : str
        Why `next` acts next.
    notes : tuple of str
        What went wrong before the answer came: tries of the client, mostly.
    """

    step: int
    agent: str
    event: str
    detail: str = ""
    next: str = ""
    origin: str = "rules"
    answer: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()


def to_json(message: Any) -> str:
    """Return a message as JSON text.

    Parameters
    ----------
    message : frozen dataclass

    Returns
    -------
    text : str

    Raises
    ------
    TypeError
        If a part of it has no JSON form, e.g. the module of a task that was made from one in memory.

    Examples
    --------
    >>> from_json(to_json(Feedback("compile", "line 3")))
    Feedback(error_class='compile', text='line 3')
    """
    return json.dumps(_encode(message), allow_nan=False, sort_keys=True)


def from_json(text: str) -> Any:
    """Return the message that :func:`to_json` wrote.

    Parameters
    ----------
    text : str

    Returns
    -------
    message : object

    Raises
    ------
    ValueError
        If the text is no message.
    """
    return _decode(json.loads(text))


def _encode(value: Any) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"kind": "float", "value": repr(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = type(value).__name__
        if name not in _MODULES:
            raise TypeError(f"{name} is no message")
        if name == "Sketch":
            return {"kind": "Sketch", "text": value.to_text()}  # type: ignore[attr-defined]
        if name == "Task" and value.live is not None:  # type: ignore[attr-defined]
            raise TypeError("a task made from a module in memory has no text form")
        fields = {field.name: _encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": name, "fields": fields}
    if type(value).__name__ == "Sketch":
        return {"kind": "Sketch", "text": value.to_text()}
    if isinstance(value, tuple | list):
        return {"kind": type(value).__name__, "items": [_encode(item) for item in value]}
    if isinstance(value, dict):
        return {"kind": "dict", "items": [[_encode(key), _encode(item)] for key, item in value.items()]}
    raise TypeError(f"{type(value).__name__} is no part of a message")


def _decode(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kind = value.get("kind")
    if kind == "float":
        return float(value["value"])
    if kind in ("tuple", "list"):
        items = [_decode(item) for item in value["items"]]
        return tuple(items) if kind == "tuple" else items
    if kind == "dict":
        return {_decode(key): _decode(item) for key, item in value["items"]}
    if kind == "Sketch":
        return _kind(kind).parse(value["text"])
    return _kind(kind)(**{name: _decode(item) for name, item in value["fields"].items()})


def _kind(name: Any) -> Any:
    if name not in _MODULES:
        raise ValueError(f"no message is called {name!r}; known: {', '.join(sorted(_MODULES))}")
    return getattr(importlib.import_module(f"mlpapers.kernels.{_MODULES[name]}"), name)
