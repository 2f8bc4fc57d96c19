"""Trying again: which failures pass by themselves, and how long to wait for them."""

from __future__ import annotations

import email.utils
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mlpapers.core.validation import check_int, check_real
from mlpapers.kernels.llm.client import LLMError

T = TypeVar("T")

_RETRIED = frozenset({408, 409, 429})
_SHOWN = 200
_SECRET = re.compile(r"\b(?:sk|key|pk)-[\w-]+|(?i:bearer)\s+\S+")


@dataclass(frozen=True)
class Failure:
    """One try that failed.

    Attributes
    ----------
    reason : str
    passing : bool
        It may go better the next time.
    status : int or None
    wait : float or None
        Seconds that the server asks to wait.
    """

    reason: str
    passing: bool
    status: int | None = None
    wait: float | None = None


def classify(error: Exception, *, now: Callable[[], float] = time.time) -> Failure:
    """Say what an exception of an HTTP client means.

    A status of 408, 409, 429 or 5xx, a time-out, a connection that was cut and an answer that is no JSON
    pass; other statuses (400, 401, 403, ...) do not, nor does an error of another kind.

    Parameters
    ----------
    error : Exception
        Of the openai or litellm package, or with the same attributes ``status_code`` and ``response``.
    now : callable
        Seconds since the epoch.

    Returns
    -------
    failure : Failure
    """
    name = type(error).__name__
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or isinstance(status, bool):
        status = None
    text = f"{name}: {str(error)[:_SHOWN]}" if str(error) else name
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, TimeoutError) or any("Timeout" in kind for kind in names):
        return Failure(f"timeout ({text})", True, status)
    if "APIResponseValidationError" in names or isinstance(error, ValueError):
        return Failure(f"the answer is no completion ({text})", True, status)
    if status is not None and status >= 400:
        passing = status in _RETRIED or status >= 500
        # What the server says helps with a request that it refuses; about a key it may repeat the key.
        said = f" ({_SECRET.sub('...', text)})" if not passing and status not in (401, 403) else ""
        return Failure(
            f"HTTP {status}{said}", passing, status, _asked_to_wait(error, now) if passing else None
        )
    if isinstance(error, ConnectionError) or any("Connection" in kind for kind in names):
        return Failure(f"connection ({text})", True)
    return Failure(text, False, status)


def _asked_to_wait(error: Exception, now: Callable[[], float]) -> float | None:
    """Return the seconds of the header Retry-After: a number, or a date."""
    headers: Any = getattr(getattr(error, "response", None), "headers", None)
    if not isinstance(headers, Mapping):
        return None
    folded = {str(key).lower(): str(value) for key, value in headers.items()}
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = folded.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            parsed = email.utils.parsedate_tz(value)
            if parsed is None:
                continue
            seconds = email.utils.mktime_tz(parsed) - now()
        # A nan asks for nothing.
        return max(0.0, seconds) if seconds == seconds else None
    return None


@dataclass(frozen=True)
class Retry:
    """How often, and after which time, a request is sent again.

    Before try k + 1 the wait is what the server asks for, else a random part, at least half, of
    min(longest, first 2^(k-1)) seconds.

    Parameters
    ----------
    max_retries : int
    first, longest : float
        Seconds. A server that asks for more than `longest` is not asked again.
    sleep : callable
    """

    max_retries: int = 4
    first: float = 0.5
    longest: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        check_int("max_retries", self.max_retries, minimum=0)
        check_real("first", self.first, low=0.0)
        check_real("longest", self.longest, low=0.0)

    def call(self, send: Callable[[], T]) -> tuple[T, tuple[str, ...]]:
        """Send until an answer comes.

        Parameters
        ----------
        send : callable

        Returns
        -------
        answer : object
        notes : tuple of str
            What failed before.

        Raises
        ------
        LLMError
            If the failure is of the kind that stays, or the tries are spent.
        """
        notes: list[str] = []
        while True:
            try:
                return send(), tuple(notes)
            except LLMError:
                raise
            except Exception as error:  # noqa: BLE001 - clients raise what they like
                failure = classify(error)
            notes.append(failure.reason)
            wait = self._wait(failure, len(notes))
            if not failure.passing or len(notes) > self.max_retries or wait > self.longest:
                said = f"; asked to wait {wait:.0f} s" if wait > self.longest else ""
                tries = "1 try" if len(notes) == 1 else f"{len(notes)} tries"
                raise LLMError(
                    f"no answer after {tries}: {'; '.join(notes)}{said}", failure.status, tuple(notes)
                )
            self.sleep(wait)

    def _wait(self, failure: Failure, tries: int) -> float:
        if failure.wait is not None:
            return failure.wait
        # Jitter keeps many clients from coming back together; results do not depend on it.
        return min(self.longest, self.first * 2.0 ** (tries - 1)) * random.uniform(0.5, 1.0)
