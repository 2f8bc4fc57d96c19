"""A server on the loopback that speaks OpenAI's chat protocol badly, as a script says."""

import contextlib
import json
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """One answer of the server.

    `how` is "answer", "cut" (the connection ends inside the body), "reset" (it ends before the answer),
    "hang" (nothing for `seconds`) or "garbage" (`text` as the body, whatever it is).
    """

    text: str = ""
    status: int = 200
    how: str = "answer"
    finish: str = "stop"
    headers: dict = field(default_factory=dict)
    seconds: float = 0.0


class FlakyServer:
    """Gives its replies in order, and the last one for ever after."""

    def __init__(self, replies):
        self.replies = list(replies)
        self.requests = []
        self.authorization = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                """Clients that hung up are no news."""

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def next_reply(self, request, authorization):
        with self._lock:
            self.requests.append(request)
            self.authorization.append(authorization)
            return self.replies[min(len(self.requests), len(self.replies)) - 1]

    def answer(self, handler):
        length = int(handler.headers.get("Content-Length", 0))
        request = json.loads(handler.rfile.read(length))
        reply = self.next_reply(request, handler.headers.get("Authorization"))
        if reply.how == "hang":
            self._stop.wait(reply.seconds)
        if reply.how in ("hang", "reset"):
            # Linger 0: the client sees a reset, not an orderly end.
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.close_connection = True
            handler.connection.close()
            return
        if reply.how == "garbage":
            body = reply.text.encode()
        elif reply.status != 200:
            body = json.dumps({"error": {"message": reply.text or "no"}}).encode()
        else:
            body = json.dumps(
                {
                    "id": "chatcmpl-1",
                    "object": "chat.completion",
                    "created": int(time.time()),
                    "model": request["model"],
                    "choices": [
                        {
                            "index": index,
                            "message": {"role": "assistant", "content": reply.text},
                            "finish_reason": reply.finish,
                        }
                        for index in range(request.get("n", 1))
                    ],
                    "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
                }
            ).encode()
        handler.send_response(reply.status)
        handler.send_header("Content-Type", "application/json")
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        sent = body[: len(body) // 2] if reply.how == "cut" else body
        with contextlib.suppress(OSError):
            handler.wfile.write(sent)
            handler.wfile.flush()
        if reply.how == "cut":
            handler.close_connection = True
            handler.connection.close()
