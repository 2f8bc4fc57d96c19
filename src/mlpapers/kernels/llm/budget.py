"""What a language model may spend, and the meter that stops it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mlpapers.core.validation import check_int, check_real
from mlpapers.kernels.llm.client import ChatClient, Completion, LLMError, Message, request_key


class BudgetExceeded(RuntimeError):
    """The language model has spent what it may spend."""


@dataclass(frozen=True)
class Budget:
    """Limits of one run; None is no limit.

    Parameters
    ----------
    max_calls : int, optional
    max_tokens : int, optional
        Read and written together.
    max_cost : float, optional
        In the currency of the client's prices. A completion of unknown cost ends the model's part of the run.
    max_seconds : float, optional
        Time in calls.

    Raises
    ------
    TypeError, ValueError
        For a limit that is no number or negative.

    Examples
    --------
    >>> Budget(max_calls=10).allows(calls=9, tokens=0, cost=0.0, seconds=0.0)
    ''
    """

    max_calls: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.max_calls is not None:
            check_int("max_calls", self.max_calls, minimum=0)
        if self.max_tokens is not None:
            check_int("max_tokens", self.max_tokens, minimum=0)
        if self.max_cost is not None:
            check_real("max_cost", self.max_cost, low=0.0)
        if self.max_seconds is not None:
            check_real("max_seconds", self.max_seconds, low=0.0)

    def allows(self, *, calls: int, tokens: int, cost: float, seconds: float) -> str:
        """Return "" where one more call may follow what was spent, else the limit that is reached.

        Parameters
        ----------
        calls : int
        tokens : int
        cost : float
            nan where it is not known.
        seconds : float

        Returns
        -------
        reason : str
        """
        if self.max_calls is not None and calls >= self.max_calls:
            return f"max_calls={self.max_calls} is reached"
        if self.max_tokens is not None and tokens >= self.max_tokens:
            return f"max_tokens={self.max_tokens} is reached ({tokens})"
        if self.max_cost is not None:
            if math.isnan(cost):
                return (
                    f"max_cost={self.max_cost:g} is set, but the client does not know its cost (give prices)"
                )
            if calls and cost >= self.max_cost:
                return f"max_cost={self.max_cost:g} is reached ({cost:g})"
        if self.max_seconds is not None and seconds >= self.max_seconds:
            return f"max_seconds={self.max_seconds:g} are over ({seconds:.3g})"
        return ""


@dataclass(frozen=True)
class Spent:
    """What a run's calls have cost so far; what came from the store counts when it was paid."""

    calls: int = 0
    tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0

    def plus(self, completion: Completion | None, seconds: float) -> Spent:
        """Return the sum with one more call; None is a call that failed."""
        tokens = completion.tokens if completion is not None else 0
        cost = completion.cost if completion is not None else 0.0
        return Spent(self.calls + 1, self.tokens + tokens, self.cost + cost, self.seconds + seconds)


class CompletionStore(Protocol):
    """Where completions are kept: :class:`mlpapers.kernels.store.Store`."""

    def completion(self, key: str) -> Completion | None:
        """Return what is kept under a key."""
        ...

    def add_completion(self, run_id: str, key: str, completion: Completion | None, seconds: float) -> None:
        """Keep a completion that was paid for, or note a call that failed."""
        ...

    def spent(self, run_id: str) -> Spent:
        """Return what a run has spent."""
        ...


class Meter:
    """A client of one run: asks the store first, keeps to the budget, and never waits past the deadline.

    Parameters
    ----------
    client : ChatClient
    store : CompletionStore
    run_id : str
    budget : Budget
    time_left : callable
        Seconds until the run's own time is over.
    seed : int
        Part of every request, so that another run with the same seed pays nothing.
    clock : callable
    """

    def __init__(
        self,
        client: ChatClient,
        store: CompletionStore,
        run_id: str,
        budget: Budget,
        time_left: Callable[[], float],
        seed: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._store, self._run_id = client, store, run_id
        self._budget, self._time_left, self._seed, self._clock = budget, time_left, seed, clock

    @property
    def model(self) -> str:
        """The model's name."""
        return str(getattr(self._client, "model", type(self._client).__name__))

    def ask(self, messages: Sequence[Message], turn: int = 0) -> Completion:
        """Return one answer.

        Parameters
        ----------
        messages : sequence of mapping
        turn : int
            Sets the same question at another place of the run apart.

        Returns
        -------
        completion : Completion

        Raises
        ------
        BudgetExceeded
            If the budget or the run's time is over.
        LLMError
            If no answer came.
        """
        seed = (self._seed + turn) % 2**31
        key = request_key(self.model, messages, seed=seed, turn=turn)
        known = self._store.completion(key)
        if known is not None:
            return known
        spent = self._store.spent(self._run_id)
        reason = self._budget.allows(
            calls=spent.calls, tokens=spent.tokens, cost=spent.cost, seconds=spent.seconds
        )
        seconds = self._time_left()
        if self._budget.max_seconds is not None:
            seconds = min(seconds, self._budget.max_seconds - spent.seconds)
        if not reason and seconds <= 0:
            reason = "the run's time is over"
        if reason:
            raise BudgetExceeded(reason)
        most = None if self._budget.max_tokens is None else self._budget.max_tokens - spent.tokens
        start = self._clock()
        completion: Completion | None = None
        try:
            completion = self._bounded(messages, most, seed, seconds)
        finally:
            self._store.add_completion(self._run_id, key, completion, self._clock() - start)
        return completion

    def _bounded(
        self, messages: Sequence[Message], most: int | None, seed: int, seconds: float
    ) -> Completion:
        """Call the client in a thread, so that one that hangs does not hang the run."""
        found: list[Any] = []

        def work() -> None:
            try:
                answer = self._client.complete(messages, max_tokens=most, seed=seed)
                found.append(answer)
            except Exception as error:  # noqa: BLE001 - handed over to the thread that waits
                found.append(error)

        thread = threading.Thread(target=work, name="mlpapers-llm", daemon=True)
        thread.start()
        thread.join(min(seconds, threading.TIMEOUT_MAX))
        if not found:
            raise BudgetExceeded(f"no answer within the {seconds:.3g} s that were left")
        answer = found[0]
        if isinstance(answer, LLMError | BudgetExceeded):
            raise answer
        if isinstance(answer, Exception):
            raise LLMError(f"the client raised {type(answer).__name__}: {answer}") from answer
        if not isinstance(answer, Completion):
            raise LLMError(f"the client must return a Completion; got {type(answer).__name__}")
        return answer
