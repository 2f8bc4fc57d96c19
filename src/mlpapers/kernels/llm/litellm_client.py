"""The providers that litellm knows, as a client."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlpapers.kernels.llm.client import Completion, LLMError, Message
from mlpapers.kernels.llm.openai_client import check_client, given_options, read_answer
from mlpapers.kernels.llm.retry import Retry


class LiteLLMClient:
    """A language model of any provider that the package litellm knows.

    The package takes long to import; it is imported at the first request.

    Parameters
    ----------
    model : str
        With the provider, e.g. ``"anthropic/claude-sonnet-4"``.
    timeout : float
        Seconds for one try.
    max_retries : int
    **options
        Passed on to ``litellm.completion``; give keys by environment variables instead.

    Examples
    --------
    >>> LiteLLMClient("ollama/qwen2.5-coder").model
    'ollama/qwen2.5-coder'
    """

    def __init__(self, model: str, timeout: float = 60.0, max_retries: int = 4, **options: Any) -> None:
        check_client(model, timeout, max_retries)
        self.model, self.timeout, self.max_retries, self.options = model, timeout, max_retries, options
        self._retry = Retry(max_retries)

    def __repr__(self) -> str:
        return f"LiteLLMClient({self.model!r})"

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
            If the package is missing, or no answer came.
        """
        try:
            litellm = importlib.import_module("litellm")
        except ImportError as error:
            raise LLMError(
                "LiteLLMClient needs the package litellm; install the extra: pip install 'mlpapers[litellm]'"
            ) from error
        given = given_options(n, temperature, max_tokens, seed)

        def send() -> Completion:
            answer = litellm.completion(
                model=self.model,
                messages=[dict(message) for message in messages],
                timeout=self.timeout,
                num_retries=0,
                **{**self.options, **given},
            )
            said = (getattr(answer, "_hidden_params", None) or {}).get("response_cost")
            cost = float(said) if isinstance(said, int | float) else math.nan
            return replace(read_answer(answer, self.model, None), cost=cost)

        completion, notes = self._retry.call(send)
        return replace(completion, notes=notes)
