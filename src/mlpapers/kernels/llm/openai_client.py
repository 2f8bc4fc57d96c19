"""Any server that speaks OpenAI's protocol, through the openai package."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlpapers.core.validation import check_int, check_real
from mlpapers.kernels.llm.client import Completion, LLMError, Message
from mlpapers.kernels.llm.retry import Retry

_HINT = "install the extra: pip install 'mlpapers[llm]'"
# Servers on one's own machine want no key, the package wants a text.
_NO_KEY = "none"


class OpenAIClient:
    """A language model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, DeepSeek, OpenAI ...

    The package ``openai`` is imported at the first request. Requests are sent again after 408, 409, 429, 5xx,
    time-outs and cut connections, as late as the server asks; never after 400, 401 or 403.

    Parameters
    ----------
    model : str
        The model's name at the server.
    base_url : str, optional
        E.g. ``"http://localhost:8000/v1"``; OpenAI's own by default.
    api_key_env : str
        The environment variable with the key; it is read when it is needed and kept nowhere.
    timeout : float
        Seconds for one try.
    max_retries : int
    prices : tuple of (float, float), optional
        Cost of a million tokens read and of a million written; without it a completion's cost is nan.

    Examples
    --------
    >>> OpenAIClient("qwen2.5-coder", base_url="http://localhost:8000/v1").model
    'qwen2.5-coder'
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        max_retries: int = 4,
        *,
        prices: tuple[float, float] | None = None,
    ) -> None:
        check_client(model, timeout, max_retries)
        self.model, self.base_url, self.api_key_env = model, base_url, api_key_env
        self.timeout, self.max_retries, self.prices = timeout, max_retries, prices
        self._retry = Retry(max_retries)
        self._lock = threading.Lock()
        self._made: Any = None

    def __repr__(self) -> str:
        where = "" if self.base_url is None else f", base_url={self.base_url!r}"
        return f"OpenAIClient({self.model!r}{where})"

    def __getstate__(self) -> dict[str, Any]:
        # Connections and locks belong to this process.
        return {**self.__dict__, "_lock": None, "_made": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def complete(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
    ) -> Completion:
        """Return answers to a conversation; see :meth:`ChatClient.complete`.

        Parameters
        ----------
        messages : sequence of mapping
        n : int
        temperature : float, optional
        max_tokens : int, optional
        seed : int, optional

        Returns
        -------
        completion : Completion

        Raises
        ------
        LLMError
            If the package or the key is missing, or no answer came.
        """
        client = self._client()
        given = given_options(n, temperature, max_tokens, seed)

        def send() -> Completion:
            answer = client.chat.completions.create(
                model=self.model, messages=[dict(message) for message in messages], **given
            )
            return read_answer(answer, self.model, self.prices)

        completion, notes = self._retry.call(send)
        return replace(completion, notes=notes)

    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                try:
                    import openai
                except ImportError as error:
                    raise LLMError(f"OpenAIClient needs the package openai: {_HINT}") from error
                key = os.environ.get(self.api_key_env)
                if not key and self.base_url is None:
                    raise LLMError(
                        f"the environment variable {self.api_key_env} must hold the key (or give base_url)"
                    )
                # Tries are counted here, so that the trace can tell them.
                self._made = openai.OpenAI(
                    api_key=key or _NO_KEY, base_url=self.base_url, timeout=self.timeout, max_retries=0
                )
            return self._made


def check_client(model: str, timeout: float, max_retries: int) -> None:
    """Raise ValueError for what no client takes."""
    if not model:
        raise ValueError(f"model must be the name of a model; got {model!r}")
    check_real("timeout", timeout, low=0.0, closed="neither")
    check_int("max_retries", max_retries, minimum=0)


def given_options(
    n: int, temperature: float | None, max_tokens: int | None, seed: int | None
) -> dict[str, Any]:
    """Return the options of a request that say something; not every server knows every one."""
    options = {"n": n if n != 1 else None, "temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    return {name: value for name, value in options.items() if value is not None}


def read_answer(answer: Any, model: str, prices: tuple[float, float] | None) -> Completion:
    """Return the completion in an answer of the chat protocol.

    Parameters
    ----------
    answer : object
        With ``choices``, each with ``message.content`` and ``finish_reason``, and maybe ``usage``.
    model : str
        For an answer that does not say which model wrote it.
    prices : tuple of (float, float) or None

    Returns
    -------
    completion : Completion

    Raises
    ------
    ValueError
        If it is none.
    """
    choices = getattr(answer, "choices", None)
    if not isinstance(choices, list | tuple) or not choices:
        raise ValueError(f"no choices in the answer ({type(answer).__name__})")
    texts, reasons = [], []
    for choice in choices:
        content = getattr(getattr(choice, "message", None), "content", None)
        if content is not None and not isinstance(content, str):
            raise ValueError(f"a choice holds {type(content).__name__}, no text")
        texts.append(content or "")
        reasons.append(str(getattr(choice, "finish_reason", None) or ""))
    usage = {}
    for name in ("prompt_tokens", "completion_tokens"):
        value = getattr(getattr(answer, "usage", None), name, None)
        if isinstance(value, int):
            usage[name] = value
    cost = math.nan
    if prices is not None and len(usage) == 2:
        cost = 1e-6 * (prices[0] * usage["prompt_tokens"] + prices[1] * usage["completion_tokens"])
    said = getattr(answer, "model", None)
    return Completion(
        tuple(texts), usage, cost, said if isinstance(said, str) and said else model, tuple(reasons)
    )
