"""A stand-in for an OpenAI-compatible model server, good and bad ones. By hand: python -m tests.model_server --help"""

import argparse
import json
import re
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "stand-in-1"
DRAFT: dict[str, Any] = {
    "title": "Handrail height",
    "summary": "A handrail is at least 865 mm above the nosings.",
    "blocks": [
        {
            "type": "markdown",
            "text": "The height of a handrail is not less than **865 mm** above the nosings of the stair.",
        },
        {"type": "list", "ordered": False, "items": ["Measured above the nosings", "Continuous between landings"]},
        {"type": "table", "caption": None, "columns": ["Part", "Height"], "rows": [["Handrail", "865 mm"]]},
    ],
}
PROSE = "A handrail should be at least 865 mm high, measured above the nosings.\n\nCheck it with your certifier."
REFUSAL = "I'm sorry, but I can't help with that."
ERRORS = {
    400: "Bad request.",
    401: "Incorrect API key provided.",
    429: "Rate limit reached for requests.",
    500: "The server had an error while processing your request.",
    503: "The engine is currently overloaded, please try again later.",
}
OVERSIZE_BYTES = 3 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came. `connection` is the client's port: the same again means that the connection was kept."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    connection: int
    at: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request gets. `seconds` is the pause of stall (whole) and of drip (between two bytes)."""

    mode: str = "good"
    text: str | None = None
    answer: dict[str, Any] | None = None
    finish_reason: str = "stop"
    status: int = 500
    message: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 30.0
    where: str = "headers"
    size: int = OVERSIZE_BYTES
    delay: float = 0.0
    usage: bool = True
    reset: bool = False


class ModelServer(ThreadingHTTPServer):
    """`reply(mode, ...)` sets what comes from now on; with `times=n` only the next n requests get it.

    Modes: good (a JSON draft, or `answer=`), text (`text=` as it is), echo (the marks in the messages), prose, half
    (JSON cut off, finish_reason length), status (`status=`, `message=`, `headers=`), no_response_format (400 until the
    request goes without one), stall (`seconds=`, `where="headers"|"body"`), drip (`seconds=` between bytes), drop
    (`where=`; `reset=True` by RST), oversize (`size=` bytes), malformed (an envelope cut off), html, refusal, filtered,
    empty (no choices), null; for requests with `stream`: slow (`seconds=` before each chunk of ten characters),
    break_off (after `size=` chunks, `where="cut"|"error"|"garbage"|"stall"`).
    Modes: good (a JSON draft, or `answer=`), text (`text=` as it is), prose, half (JSON cut off, finish_reason length),
    status (`status=`, `message=`, `headers=`), no_response_format (400 until the request goes without one), stall
    (`seconds=`, `where="headers"|"body"`), drip (`seconds=` between bytes), drop (`where=`; `reset=True` by RST),
    oversize (`size=` bytes), malformed (an envelope cut off), html, refusal, filtered, empty (no choices), null;
    for requests with `stream`: slow (`seconds=` before each chunk of ten characters), pause (`seconds=` after `size=`
    chunks, or until `released`), break_off (after `size=` chunks, `where="cut"|"error"|"garbage"|"stall"`).
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.requests: list[Received] = []
        self.disconnects = 0
        self.answering = 0
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._plan = Plan()
        self._queue: deque[Plan] = deque()
        self._open: set[socket.socket] = set()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL, as LLM_BASE_URL takes it."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def bodies(self) -> list[Any]:
        return [request.body for request in self.requests]

    def reply(self, mode: str = "good", *, times: int | None = None, **options: Any) -> None:
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; there are {', '.join(MODES)}")
        plan = Plan(mode, **options)
        with self._lock:
            if times is not None:
                self._queue.extend([plan] * times)
                return
            self._plan = plan
            self._queue.clear()

    def reset(self) -> None:
        """Good answers again, nothing on record, and whoever is stalled goes on at once."""
        self.released.set()
        with self._lock:
            self._plan = Plan()
            self._queue.clear()
            self.requests = []
            self.disconnects = 0
        self.released = threading.Event()

    def start(self) -> "ModelServer":
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="model-server", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self.released.set()
        if self._thread:
            self.shutdown()
            self._thread.join()
        self.server_close()
        with self._lock:
            left = list(self._open)
        for connection in left:
            # Wakes the thread that waits for the next request of a kept connection.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def plan_next(self, received: Received) -> Plan:
        with self._lock:
            self.requests.append(received)
            return self._queue.popleft() if self._queue else self._plan

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def disconnected(self) -> None:
        with self._lock:
            self.disconnects += 1

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Counts as an answer that is being given."""
        with self._lock:
            self.answering += 1
        try:
            yield
        finally:
            with self._lock:
                self.answering -= 1

    def shutdown_request(self, request: Any) -> None:
        """Closes without the base class's shutdown(): after a FIN a reset would come too late."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what half of the modes are for; the base class would print a traceback."""
        self.disconnected()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ModelServer

    def setup(self) -> None:
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        self.server.closed(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, *args: Any) -> None:
        """The requests are on record; standard error belongs to the tests."""

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(raw)
        except ValueError:
            body = raw
        self._answer(body)

    def _answer(self, body: Any) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        received = Received(self.command, self.path, headers, body, self.client_address[1], time.monotonic())
        if self.command == "GET" and self.path.endswith("/models"):
            self.send(200, json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode())
            return
        plan = self.server.plan_next(received)
        try:
            with self.server.busy():
                self.wait(plan.delay)
                MODES[plan.mode](self, plan, body if isinstance(body, dict) else {})
        except OSError:
            self.server.disconnected()
            self.close_connection = True

    def wait(self, seconds: float) -> None:
        if seconds > 0:
            self.server.released.wait(seconds)

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.wfile.write(self.head(status, len(body), headers) + body)

    def head(self, status: int, length: int, headers: dict[str, str]) -> bytes:
        """One write with the body: two small ones would wait for each other's acknowledgement."""
        sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        lines = [f"HTTP/1.1 {status} {self.responses.get(status, ('',))[0]}", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in sent.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def drop(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:
            # Lingering for zero seconds makes close() send RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _envelope(plan: Plan, text: str | None, *, finish_reason: str = "", refusal: str | None = None) -> bytes:
    reply: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": refusal},
                "finish_reason": finish_reason or plan.finish_reason,
            }
        ],
    }
    if plan.usage:
        reply["usage"] = {"prompt_tokens": 120, "completion_tokens": 60, "total_tokens": 180}
    return json.dumps(reply).encode()


def _text(plan: Plan) -> str:
    return plan.text if plan.text is not None else json.dumps(plan.answer or DRAFT)


def _good(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    if body.get("stream"):
        _stream(handler, plan)
    else:
        handler.send(200, _envelope(plan, _text(plan)))


def _echo(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    """The marks in the messages: what of the conversation the model was shown."""
    marks = re.findall(r"mark-[0-9a-f]+", " ".join(str(message.get("content")) for message in body.get("messages", ())))
    items = list(dict.fromkeys(marks)) or ["none"]
    draft = {"title": "Marks", "summary": "", "blocks": [{"type": "list", "ordered": False, "items": items}]}
    handler.send(200, _envelope(plan, json.dumps(draft)))


def _prose(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    handler.send(200, _envelope(plan, plan.text or PROSE))


def _half(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    text = _text(plan)
    handler.send(200, _envelope(plan, text[: len(text) // 2], finish_reason="length"))


def _status(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    message = plan.message or ERRORS.get(plan.status, "Error.")
    error = {"error": {"message": message, "type": "error", "param": None, "code": None}}
    handler.send(plan.status, json.dumps(error).encode(), **plan.headers)


def _no_response_format(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    if "response_format" not in body:
        _good(handler, plan, body)
        return
    error = {"message": "Unknown field: response_format", "type": "invalid_request_error", "param": "response_format"}
    handler.send(400, json.dumps({"error": error}).encode())


def _stall(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    whole = _envelope(plan, _text(plan))
    if plan.where == "headers":
        handler.wait(plan.seconds)
        handler.send(200, whole)
        return
    half = len(whole) // 2
    handler.wfile.write(handler.head(200, len(whole), {}) + whole[:half])
    handler.wait(plan.seconds)
    handler.wfile.write(whole[half:])


def _drip(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    whole = _envelope(plan, _text(plan))
    handler.wfile.write(handler.head(200, len(whole), {}))
    for byte in whole:
        handler.wfile.write(bytes([byte]))
        handler.wait(plan.seconds)


def _drop(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    if plan.where == "body":
        whole = _envelope(plan, _text(plan))
        handler.wfile.write(handler.head(200, len(whole), {}) + whole[: len(whole) // 2])
    handler.drop(reset=plan.reset)


def _oversize(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    handler.send(200, _envelope(plan, "x" * plan.size))


def _malformed(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    handler.send(200, plan.text.encode() if plan.text is not None else b'{"id": "chatcmpl-1", "choices": [{"mess')


def _html(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    """What a proxy in between says, with a status that promises more."""
    handler.send(200, b"<html><body><h1>502 Bad Gateway</h1></body></html>", Content_Type="text/html")


def _refusal(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    if body.get("stream"):
        _stream(handler, plan)
    else:
        handler.send(200, _envelope(plan, None, refusal=plan.text or REFUSAL))


def _filtered(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    handler.send(200, _envelope(plan, plan.text or "", finish_reason="content_filter"))


def _empty(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    handler.send(200, json.dumps({"id": "chatcmpl-1", "model": MODEL, "choices": []}).encode())


def _null(handler: _Handler, plan: Plan, body: dict[str, Any]) -> None:
    handler.send(200, _envelope(plan, None))


def _stream(handler: _Handler, plan: Plan) -> None:
    """Server-sent chunks of ten characters, in chunked transfer coding."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for number, event in enumerate(_events(plan)):
        if plan.mode == "slow":
            handler.wait(plan.seconds)
        if plan.mode == "pause" and number == plan.size:
            handler.wait(plan.seconds)
        if plan.mode == "break_off" and number == plan.size:
            _broken_off(handler, plan)
            return
        _chunk(handler, event)
    handler.wfile.write(b"0\r\n\r\n")


def _chunk(handler: _Handler, event: str) -> None:
    encoded = f"data: {event}\n\n".encode()
    handler.wfile.write(f"{len(encoded):x}\r\n".encode() + encoded + b"\r\n")


def _broken_off(handler: _Handler, plan: Plan) -> None:
    if plan.where == "error":
        _chunk(handler, json.dumps({"error": {"message": ERRORS[500], "type": "server_error"}}))
    elif plan.where == "garbage":
        _chunk(handler, '{"choices": [{"del')
    elif plan.where == "stall":
        handler.wait(plan.seconds)
    handler.drop(reset=plan.reset)


def _events(plan: Plan) -> Iterator[str]:
    text = _text(plan)
    if plan.mode == "refusal":
        deltas = [{"role": "assistant"}, {"refusal": plan.text or REFUSAL}, {}]
        yield from map(json.dumps, (_piece(delta, "stop") for delta in deltas))
        yield "[DONE]"
        return
    deltas = [{"role": "assistant"}, *({"content": text[at : at + 10]} for at in range(0, len(text), 10)), {}]
    for delta in deltas:
        yield json.dumps(_piece(delta, plan.finish_reason))
    if plan.usage:
        usage = {"prompt_tokens": 120, "completion_tokens": 60, "total_tokens": 180}
        yield json.dumps({"object": "chat.completion.chunk", "model": MODEL, "choices": [], "usage": usage})
    yield "[DONE]"


def _piece(delta: dict[str, Any], finish_reason: str) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": None if delta else finish_reason}
    return {"object": "chat.completion.chunk", "model": MODEL, "choices": [choice]}


Mode = Callable[[_Handler, Plan, dict[str, Any]], None]
MODES: dict[str, Mode] = {
    "good": _good,
    "text": _good,
    "slow": _good,
    "echo": _echo,
    "pause": _good,
    "break_off": _good,
    "prose": _prose,
    "half": _half,
    "status": _status,
    "no_response_format": _no_response_format,
    "stall": _stall,
    "drip": _drip,
    "drop": _drop,
    "oversize": _oversize,
    "malformed": _malformed,
    "html": _html,
    "refusal": _refusal,
    "filtered": _filtered,
    "empty": _empty,
    "null": _null,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.model_server", description=ModelServer.__doc__)
    parser.add_argument("--port", type=int, default=9999)
    parser.add_argument("--mode", choices=MODES, default="good")
    parser.add_argument("--text", help="the reply's text (good, text, prose, half, refusal)")
    parser.add_argument("--status", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--where", choices=("headers", "body"), default="headers")
    parser.add_argument("--delay", type=float, default=0, help="seconds before any reply")
    options = vars(parser.parse_args())
    server = ModelServer(options.pop("port"))
    server.reply(options.pop("mode"), **options)
    print(f"LLM_PROVIDER=openai LLM_MODEL={MODEL} LLM_BASE_URL={server.url}", flush=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
