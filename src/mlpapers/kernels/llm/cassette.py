"""Conversations on file: recorded once, replayed without a network."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlpapers.core._files import write_text
from mlpapers.core.validation import check_choice
from mlpapers.kernels.llm.client import ChatClient, Completion, LLMError, Message, as_client, request_key

MODES = ("replay", "record", "auto")
MATCHES = ("request", "order")


class CassetteMiss(LLMError):
    """A cassette has no answer to a request, and may not ask for one."""

    def __init__(self, message: str) -> None:
        super().__init__(message)

    def __reduce__(self) -> Any:
        return CassetteMiss, (str(self),)


class Cassette:
    """A client that keeps what another one answers in a file, and answers from the file.

    The file has one line of JSON per answer: the SHA-256 of model, messages and parameters, and the
    completion. Neither messages nor keys nor headers are written. A line is added by replacing the whole
    file, so it is never half written.

    Parameters
    ----------
    path : path-like
    mode : {"replay", "record", "auto"}
        Answer from the file only; ask each time and keep the answer; ask for what the file does not have.
    client : ChatClient or callable, optional
        Who is asked; needed for "record", and for "auto" where the file has no answer.
    match : {"request", "order"}
        Whether an answer belongs to its request, or to its place in the conversation: then it fits although
        the wording of prompts, or a compiler's message in them, has changed since.

    Raises
    ------
    ValueError
        For an unknown mode, "record" without a client, or a file that is damaged; the message has the line.
    FileNotFoundError
        If there is no file to replay.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: str = "replay",
        *,
        client: Any = None,
        match: str = "request",
    ) -> None:
        self.path = Path(path)
        self.mode = check_choice("mode", mode, MODES)
        self.match = check_choice("match", match, MATCHES)
        self.client: ChatClient | None = None if client is None else as_client(client)
        if mode == "record" and client is None:
            raise ValueError("mode='record' needs client, whose answers are kept; got None")
        if mode == "replay" and not self.path.is_file():
            raise FileNotFoundError(f"path names no cassette to replay: {self.path}")
        self._lock = threading.Lock()
        self._given = 0
        self._lines = self._read()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def model(self) -> str:
        """The model that is asked, or that was recorded."""
        if self.client is not None:
            return str(getattr(self.client, "model", type(self.client).__name__))
        return self._lines[0][1].model if self._lines else "cassette"

    def complete(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
    ) -> Completion:
        """Return the recorded answer, or ask for it; see :meth:`ChatClient.complete`.

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
        CassetteMiss
            If the file has no answer and nobody may be asked.
        """
        params = {"n": n, "temperature": temperature, "max_tokens": max_tokens, "seed": seed}
        key = request_key(self.model, messages, **params)
        with self._lock:
            known = self._known(key) if self.mode != "record" else None
            if known is not None:
                return known
            if self.mode == "replay" or self.client is None:
                raise CassetteMiss(
                    f"{self.path.name} has no answer to request {key[:12]} ({len(self)} recorded)"
                )
        completion = self.client.complete(
            messages, n=n, temperature=temperature, max_tokens=max_tokens, seed=seed
        )
        self._add(key, completion)
        return completion

    def _known(self, key: str) -> Completion | None:
        if self.match == "order":
            if self._given >= len(self._lines):
                return None
            self._given += 1
            return self._lines[self._given - 1][1]
        return next((completion for other, completion in self._lines if other == key), None)

    def _add(self, key: str, completion: Completion) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, _exclusive(self.path):
            lines = self._read()
            if self.match == "request":
                # A request that is recorded again has one answer: the latest.
                lines = [line for line in lines if line[0] != key]
            lines.append((key, completion))
            text = "".join(f'{{"key": {json.dumps(k)}, "completion": {c.to_json()}}}\n' for k, c in lines)
            write_text(self.path, text)
            self._lines = lines
            self._given = len(lines)

    def _read(self) -> list[tuple[str, Completion]]:
        if not self.path.is_file():
            return []
        found = []
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                item = json.loads(line)
                found.append((str(item["key"]), Completion.from_json(json.dumps(item["completion"]))))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"path {self.path} is no cassette: line {number}: {error}") from error
        return found


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Let one process at a time change a file."""
    import fcntl

    with path.with_name(f".{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
