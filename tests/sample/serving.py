"""A server that speaks OpenAI's protocol, and does wrong what a test tells it to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any

MODEL = "owl-1"


@dataclass(frozen=True)
class Reply:
    """What is sent back; with `missing_bytes` the connection is closed before so many of it."""

    body: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    missing_bytes: int = 0


def completion(text: str | None, **changes: Any) -> Reply:
    """A reply in which the model says `text`."""
    message = {"role": "assistant", "content": text} | changes.pop("message", {})
    choice = {"index": 0, "message": message, "finish_reason": "stop"} | changes.pop("choice", {})
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    body = {"id": "1", "object": "chat.completion", "model": MODEL, "usage": usage}
    return Reply(json.dumps(body | {"choices": [choice]} | changes))


def error(status: int, message: str = "no", **headers: str) -> Reply:
    """A reply that refuses."""
    return Reply(json.dumps({"error": {"message": message, "code": None}}), status, headers)


class Serving:
    """The server: `reply` makes a reply to a request's body, and to how often it came before."""

    def __init__(self) -> None:
        self.reply: Callable[[dict[str, Any], int], Reply | None] = lambda body, time: said(body)
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.headers: set[str] = set()
        self.connections: set[tuple[str, int]] = set()
        self.at_once = self.most_at_once = 0
        self.closed = Event()
        self.clients = ExitStack()
        self._times: Counter[str] = Counter()
        self._lock = Lock()
        serving = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                serving.connections.add(self.client_address)
                serving.keys.add(self.headers["authorization"])
                serving.headers |= {f"{name}: {value}" for name, value in self.headers.items()}
                reply = serving.answer(body)
                if reply is None:  # never
                    serving.closed.wait()
                    self.close_connection = True
                    return
                sent = reply.body.encode()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent[: len(sent) - reply.missing_bytes])
                self.close_connection = reply.missing_bytes > 0

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def table(self, **changes: Any) -> dict[str, Any]:
        """The table `backend` for this server; nothing is waited for between attempts."""
        return {"kind": "http", "base_url": self.url, "model": MODEL, "retry_seconds": 0} | changes

    def answer(self, body: dict[str, Any]) -> Reply | None:
        asked = body["messages"][-1]["content"]
        with self._lock:
            time = self._times[asked]
            self._times[asked] += 1
            self.bodies.append(body)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self.reply(body, time)
        finally:
            with self._lock:
                self.at_once -= 1

    def forget(self) -> None:
        """What was asked so far."""
        self._times.clear()
        self.bodies.clear()

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def said(body: dict[str, Any]) -> Reply:
    """What the model says where nothing goes wrong."""
    return completion(f"said: {body['messages'][-1]['content']}")
